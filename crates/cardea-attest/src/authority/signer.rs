//! The authority's key and certificate, and what it signs.

use cardea_pki::{
    AttestationCertificate, AuthorityCertificate, CertificateDraft, Curve, DigestAlgorithm,
    EcPrivateKey, Error, Name, PathCertificate, PrivateKey, SignatureAlgorithm,
};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use rsa::{BoxedUint, Pkcs1v15Sign};

use super::Decision;
use crate::exchange::Issued;

/// An authority that can sign.
pub struct Signer {
    key: PrivateKey,
    /// Its own first, and those between it and a root.
    chain: Vec<PathCertificate>,
}

/// When a certificate is valid, and its number.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// The serial number: random, big-endian, 1 to 19 bytes, not zero.
    pub serial: &'a [u8],
    /// Seconds since 1970. The validity begins an hour earlier, for those whose clock is slow.
    pub now: i64,
    /// How long it is valid from now, in seconds.
    pub seconds: i64,
}

/// How slow the clock of a verifier may be.
const SLOW_CLOCK: i64 = 3600;

/// `tcg-kp-AIKCertificate`, and any purpose.
const PURPOSES: [&str; 2] = [crate::identity::AK_CERTIFICATE, "2.5.29.37.0"];

/// Why an authority cannot issue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// What was to be issued cannot be written.
    #[error(transparent)]
    Certificate(#[from] Error),
    /// The certificate is not for the key.
    #[error("the authority's certificate belongs to another key than its private key")]
    CertificateKey,
    /// It may not issue.
    #[error(
        "the authority's certificate does not allow it to issue certificates of attestation keys"
    )]
    NotAnAuthority,
    /// The authority's time is over, or has not begun.
    #[error("the authority's certificate is not valid at this time: replace it")]
    NotValid,
    /// The key cannot sign.
    #[error("the authority's key could not sign")]
    Signature,
}

impl Signer {
    /// An authority with a key and its certificates, its own first.
    ///
    /// # Errors
    /// [`IssueError::CertificateKey`], [`IssueError::NotAnAuthority`].
    pub fn new(key: PrivateKey, chain: Vec<PathCertificate>) -> Result<Self, IssueError> {
        let own = chain.first().ok_or(IssueError::CertificateKey)?;
        if !own.is_for(key.public_key()) {
            return Err(IssueError::CertificateKey);
        }
        let usages = own.extended_key_usages();
        let has_purpose = usages.is_none_or(|usages| {
            let mut usages = usages.iter();
            usages.any(|usage| PURPOSES.contains(&usage.as_str()))
        });
        if !own.is_authority() || !has_purpose {
            return Err(IssueError::NotAnAuthority);
        }
        Ok(Self { key, chain })
    }

    /// A certificate, DER, for a key that becomes an authority of its own: it is its own issuer.
    ///
    /// # Errors
    /// [`IssueError::Certificate`] for a name or time that cannot be written, [`IssueError::Signature`].
    pub fn self_signed(
        key: &EcPrivateKey,
        name: &Name,
        term: &Term<'_>,
    ) -> Result<Vec<u8>, IssueError> {
        let curve = key.curve();
        let algorithm = SignatureAlgorithm::default_for(curve.key_kind());
        let point = [&[4], key.x(), key.y()].concat();
        let body = AuthorityCertificate {
            serial: term.serial,
            name,
            not_before: term.now - SLOW_CLOCK,
            not_after: term.now + term.seconds,
            key: &cardea_pki::PublicKey::from_ec_point(curve, &point)?,
        }
        .to_be_signed(algorithm)?;
        let digest = algorithm.digest_algorithm().digest(&body);
        let signature = sign_ec(key, &digest).ok_or(IssueError::Signature)?;
        Ok(CertificateDraft::finish(&body, algorithm, &signature))
    }

    /// Its certificates, its own first.
    #[must_use]
    pub fn chain(&self) -> &[PathCertificate] {
        &self.chain
    }

    /// Issues the certificate of an attestation key; the chain goes with it, without a root that issued itself.
    ///
    /// It is never valid longer than the authority's own.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(&self, decision: &Decision, term: &Term<'_>) -> Result<Issued, IssueError> {
        let issuer = self.chain.first().ok_or(IssueError::CertificateKey)?;
        if !(issuer.not_before()..=issuer.not_after()).contains(&term.now) {
            return Err(IssueError::NotValid);
        }
        let algorithm = SignatureAlgorithm::default_for(self.key.kind());
        let identity = &decision.tpm.identity;
        let body = AttestationCertificate {
            serial: term.serial,
            issuer,
            not_before: (term.now - SLOW_CLOCK).max(issuer.not_before()),
            not_after: (term.now + term.seconds).min(issuer.not_after()),
            key: &decision.key,
            tpm: &identity.attributes(),
            policies: &[decision.tpm.origin.policy()],
        }
        .to_be_signed(algorithm)?;
        let signature = self.sign(algorithm, &body)?;
        let own = CertificateDraft::finish(&body, algorithm, &signature);
        let others = self.chain.iter().filter(|one| !one.is_self_issued());
        let others = others.map(|one| one.der().to_vec());
        Ok(Issued {
            certificates: std::iter::once(own).chain(others).collect(),
        })
    }

    fn sign(&self, algorithm: SignatureAlgorithm, body: &[u8]) -> Result<Vec<u8>, IssueError> {
        let digest = algorithm.digest_algorithm();
        let signature = match &self.key {
            PrivateKey::Ec(key) => sign_ec(key, &digest.digest(body)),
            PrivateKey::Rsa(key) => sign_rsa(key, digest, body),
        };
        let signature = signature.ok_or(IssueError::Signature)?;
        // A computer that miscalculates must not hand out a signature, which may show the key.
        let is_valid = self.key.public_key().verifies(algorithm, body, &signature);
        is_valid.then_some(signature).ok_or(IssueError::Signature)
    }
}

/// Deterministic (RFC 6979): no random number can be a bad one.
fn sign_ec(key: &EcPrivateKey, digest: &[u8]) -> Option<Vec<u8>> {
    Some(match key.curve() {
        Curve::P256 => {
            let key = p256::ecdsa::SigningKey::from_slice(key.d()).ok()?;
            let signature: p256::ecdsa::Signature = key.sign_prehash(digest).ok()?;
            signature.to_der().as_bytes().to_vec()
        }
        Curve::P384 => {
            let key = p384::ecdsa::SigningKey::from_slice(key.d()).ok()?;
            let signature: p384::ecdsa::Signature = key.sign_prehash(digest).ok()?;
            signature.to_der().as_bytes().to_vec()
        }
    })
}

fn sign_rsa(
    key: &cardea_pki::RsaPrivateKey,
    digest: DigestAlgorithm,
    body: &[u8],
) -> Option<Vec<u8>> {
    let p = BoxedUint::from_be_slice_vartime(key.p());
    let q = BoxedUint::from_be_slice_vartime(key.q());
    let key = rsa::PrivateKey::from_p_q(p, q, BoxedUint::from(65537u32)).ok()?;
    key.sign(Pkcs1v15Sign::new_unprefixed(), &digest.digest_info(body))
        .ok()
}
