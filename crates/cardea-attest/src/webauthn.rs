//! WebAuthn's attestation statement "tpm" (section 8.3), as ACME's challenge `device-attest-01` takes it
//! (draft-ietf-acme-device-attest).
//!
//! The card's TPM certifies the key over [`qualifying_data`] of the challenge's key authorization; the answer is
//! [`challenge_payload`] of [`attestation_object`]. The certificate request that follows must be for the same key.

use base64ct::{Base64UrlUnpadded, Encoding};
use cardea_pki::{Curve, PublicKey};
use sha2::{Digest, Sha256};

use crate::Statement;
use crate::cbor::{encoded, write_list};
use crate::structure::ecdsa_signature;

/// How the signature is written: servers differ in what they read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureForm {
    /// An ECDSA signature in DER: what some libraries for WebAuthn want.
    Der,
    /// TPMT_SIGNATURE: what WebAuthn says, and step-ca reads.
    #[default]
    Tpm,
}

/// `-7`: ECDSA with SHA-256, with which attestation keys sign.
const ES256: i8 = -7;

/// The attestation object, CBOR: format `tpm`, without authenticator data, as ACME wants it.
///
/// `public` is the key's TPMT_PUBLIC and `statement` TPM2_Certify of it; the certificates are the attestation key's,
/// its own first. None for a signature that cannot be written in the form, because it is not one by an attestation key.
#[must_use]
pub fn attestation_object(
    public: &[u8],
    statement: &Statement,
    certificates: &[Vec<u8>],
    form: SignatureForm,
) -> Option<Vec<u8>> {
    let raw = ecdsa_signature(&statement.signature)?;
    let signature = match form {
        SignatureForm::Der => p256::ecdsa::Signature::from_slice(&raw)
            .ok()?
            .to_der()
            .as_bytes()
            .to_vec(),
        SignatureForm::Tpm => statement.signature.clone(),
    };
    Some(encoded(|e| {
        // CTAP2's canonical order: shorter names first.
        e.map(2)?.str("fmt")?.str("tpm")?;
        e.str("attStmt")?.map(6)?;
        e.str("alg")?.i8(ES256)?;
        e.str("sig")?.bytes(&signature)?;
        e.str("ver")?.str("2.0")?;
        write_list(e.str("x5c")?, certificates)?;
        e.str("pubArea")?.bytes(public)?;
        e.str("certInfo")?.bytes(&statement.attest)?;
        Ok(())
    }))
}

/// The payload that answers the challenge, JSON.
#[must_use]
pub fn challenge_payload(object: &[u8]) -> String {
    let object = Base64UrlUnpadded::encode_string(object);
    format!("{{\"attObj\":\"{object}\"}}")
}

/// What the statement has in its extraData: SHA-256 of the key authorization.
#[must_use]
pub fn qualifying_data(key_authorization: &str) -> [u8; 32] {
    Sha256::digest(key_authorization).into()
}

/// The key authorization of a challenge (RFC 8555, section 8.1): its token, and the account key's thumbprint.
#[must_use]
pub fn key_authorization(token: &str, thumbprint: &[u8; 32]) -> String {
    let thumbprint = Base64UrlUnpadded::encode_string(thumbprint);
    format!("{token}.{thumbprint}")
}

/// The thumbprint of an account key (RFC 7638): SHA-256 of its required members, in their order, without spaces.
#[must_use]
pub fn thumbprint(key: &PublicKey) -> [u8; 32] {
    let text = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
    let members = match key {
        PublicKey::Ec(key) => {
            let curve = match key.curve() {
                Curve::P256 => "P-256",
                Curve::P384 => "P-384",
            };
            let (x, y) = (text(key.x()), text(key.y()));
            format!("{{\"crv\":\"{curve}\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}")
        }
        PublicKey::Rsa(key) => {
            let (n, e) = (text(key.n()), text(key.e()));
            format!("{{\"e\":\"{e}\",\"kty\":\"RSA\",\"n\":\"{n}\"}}")
        }
    };
    Sha256::digest(members).into()
}
