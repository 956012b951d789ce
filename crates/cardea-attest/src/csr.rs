//! What a certificate request proves about its key: the attestation attribute of draft-ietf-lamps-csr-attestation.
//!
//! A card's side makes the attribute ([`attestation_attribute`]), a certification authority reads it
//! ([`attestation_of_request`]). Its first statement is the TCG's, and proves that the key is in a TPM; the second is a
//! card's evidence, and says how its PIN is counted too.

use cardea_pki::{AttestationAttribute, CertificateRequest, TpmCertify};

use crate::policy::{hash, name_of};
use crate::structure::{AttestKind, Public, SHA256, attributes};
use crate::verify::attestation_key::{Voucher, check_certificates, key_of};
use crate::verify::statement::{self, Signer, Statements};
use crate::verify::{AttestationTrust, Checks, Verifier};
use crate::{Authority, Claims, Code, Refusal, Statement};

/// The kind of the statement that holds a card's evidence in an OCTET STRING: a dotted object identifier.
pub const EVIDENCE: &str = "2.25.232547622097553499112779899955585718650.4";

/// What the statement about a request's key must have in its extraData: the certification authority's nonce as it
/// came, or, if it has none, SHA-256 of the SubjectPublicKeyInfo in DER.
#[must_use]
pub fn qualifying_data(nonce: Option<&[u8]>, spki: &[u8]) -> Vec<u8> {
    nonce.map_or_else(|| hash(&[spki]).to_vec(), <[u8]>::to_vec)
}

/// The attribute for [`cardea_pki::RequestBuilder::attestation`].
///
/// `public` is the key's TPMT_PUBLIC and `statement` TPM2_Certify of it over [`qualifying_data`]; the certificates are
/// the attestation key's, its own first; `evidence` is a bundle of the card.
///
/// # Errors
/// None that a caller can cause; [`cardea_pki::Error`] is that of the writer.
pub fn attestation_attribute(
    public: &[u8],
    statement: &Statement,
    certificates: &[Vec<u8>],
    evidence: Option<&[u8]>,
) -> Result<Vec<u8>, cardea_pki::Error> {
    let certified = TpmCertify {
        attest: statement.attest.clone(),
        signature: statement.signature.clone(),
        public: Some(public.to_vec()),
    };
    let mut statements = vec![(TpmCertify::KIND.to_owned(), certified.to_der())];
    if let Some(bundle) = evidence {
        statements.push((EVIDENCE.to_owned(), cardea_pki::octet_string(bundle)));
    }
    AttestationAttribute {
        statements,
        certificates: certificates.to_vec(),
    }
    .to_der()
}

/// What the first statement of a request proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestedRequest {
    /// Who vouches for the attestation key.
    pub authority: Authority,
    /// Whether the TPM made the key, and it cannot leave the TPM.
    ///
    /// Of another key the statement proves only that it was in the TPM: copies may be anywhere.
    pub is_fixed: bool,
    /// Whether the TPM wants its policy for each use. Which policy that is, evidence shows.
    pub needs_policy: bool,
    /// The card's evidence, unchecked: see [`evidence_of_request`].
    pub evidence: Option<Vec<u8>>,
}

/// Checks what a request proves about its key.
///
/// The nonce is the authority's, if it handed one out. The key's place in the TPM's hierarchies is not shown by this
/// statement.
///
/// # Errors
/// The first fault.
pub fn attestation_of_request(
    request: &CertificateRequest,
    trust: &AttestationTrust<'_>,
    nonce: Option<&[u8]>,
    now: i64,
) -> Result<AttestedRequest, Refusal> {
    let checks = Checks::default();
    let attribute = attribute_of(request)?;
    let certified = one_statement(&attribute, TpmCertify::KIND)?;
    let certified = certified.ok_or(Refusal::new(Code::RequestMissing))?;
    let certified = TpmCertify::parse(certified).map_err(|_| Refusal::new(Code::RequestForm))?;
    let signer = key_of(&attribute.certificates)?;
    let Voucher { described, .. } =
        check_certificates(trust, &attribute.certificates, &signer, now, &checks)?;

    let spki = request.public_key().to_spki_der();
    let q = qualifying_data(nonce, &spki);
    let statements = Statements {
        q: &q,
        checks: &checks,
    };
    let said = Statement {
        attest: certified.attest,
        signature: certified.signature,
    };
    let signer = Signer::anywhere(signer);
    let subject = statements.check(&said, &signer, AttestKind::Certify, &statement::KEY)?;
    let malformed = || Refusal::new(Code::KeyForm);
    let public = certified.public.ok_or_else(malformed)?;
    let parsed = Public::parse(&public).ok_or_else(malformed)?;
    checks.require(parsed.name_alg == SHA256, Code::KeyForm)?;
    checks.require(subject.name == name_of(&public), Code::KeyName)?;
    let is_key = parsed.public_key().as_ref() == Some(request.public_key());
    checks.require(is_key, Code::RequestKey)?;
    let fixed =
        attributes::FIXED_TPM | attributes::FIXED_PARENT | attributes::SENSITIVE_DATA_ORIGIN;
    Ok(AttestedRequest {
        authority: described,
        is_fixed: parsed.has(fixed, 0),
        needs_policy: parsed.has(0, attributes::USER_WITH_AUTH),
        evidence: evidence_in(&attribute)?,
    })
}

/// Checks the evidence in a request, and that it is about the request's key: its number among the claims' keys.
///
/// # Errors
/// The first fault; [`Code::RequestMissing`] without evidence.
pub fn evidence_of_request(
    request: &CertificateRequest,
    verifier: &Verifier<'_>,
) -> Result<(Claims, usize), Refusal> {
    let bundle = evidence_in(&attribute_of(request)?)?;
    let claims = verifier.verify(&bundle.ok_or(Refusal::new(Code::RequestMissing))?)?;
    let mut keys = claims.keys.iter();
    let number = keys.position(|key| key.public_key == *request.public_key());
    let number = number.ok_or(Refusal::new(Code::RequestKey))?;
    Ok((claims, number))
}

fn attribute_of(request: &CertificateRequest) -> Result<AttestationAttribute, Refusal> {
    let attribute = request.attestation();
    let attribute = attribute.map_err(|_| Refusal::new(Code::RequestForm))?;
    attribute.ok_or(Refusal::new(Code::RequestMissing))
}

/// The statement of a kind, if there is one; two would be two answers to one question.
fn one_statement<'a>(
    attribute: &'a AttestationAttribute,
    kind: &str,
) -> Result<Option<&'a [u8]>, Refusal> {
    let statements = attribute.statements.iter();
    let mut found = statements.filter(|(found, _)| found == kind);
    match (found.next(), found.next()) {
        (one, None) => Ok(one.map(|(_, statement)| &statement[..])),
        _ => Err(Refusal::new(Code::RequestForm)),
    }
}

fn evidence_in(attribute: &AttestationAttribute) -> Result<Option<Vec<u8>>, Refusal> {
    let statement = one_statement(attribute, EVIDENCE)?;
    let bundle = statement.map(cardea_pki::octet_string_content).transpose();
    bundle.map_err(|_| Refusal::new(Code::RequestForm))
}
