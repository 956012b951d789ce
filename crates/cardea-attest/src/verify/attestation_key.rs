//! The attestation key and its certificate (step 2).

use cardea_pki::{PathCertificate, PathError, PathRules, PublicKey};

use super::{AttestationTrust, Checks, Verifier};
use crate::identity::{AK_CERTIFICATE, is_revoked};
use crate::policy::{name_of, signing_public};
use crate::structure::{KeyNumbers, Public};
use crate::{Authority, Bundle, Code, Refusal, TpmIdentity};

/// Attributes of an attestation key: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
const ATTESTATION_KEY: u32 = 0x0005_0472;

/// The TPMT_PUBLIC that an attestation key with a point must have.
///
/// An authority compares the key that it certifies with this: a key that is not restricted signs whatever it is given.
#[must_use]
pub fn attestation_key_public(x: &[u8; 32], y: &[u8; 32]) -> Vec<u8> {
    signing_public(ATTESTATION_KEY, &[], x, y)
}

/// The attestation key of a TPMT_PUBLIC that is as one must be, byte for byte.
pub(crate) fn attestation_key(public: &[u8], checks: &Checks<'_>) -> Result<PublicKey, Refusal> {
    let refused = || Refusal::new(Code::AkTemplate);
    let parsed = Public::parse(public).ok_or_else(refused)?;
    let is_template = is_signing(public, &parsed, ATTESTATION_KEY, &[]);
    checks.require(is_template, Code::AkTemplate)?;
    parsed.public_key().ok_or_else(refused)
}

/// Whether a TPMT_PUBLIC is that of a signing key on P-256 with attributes and a policy, whatever its point.
pub(super) fn is_signing(
    public: &[u8],
    parsed: &Public<'_>,
    attributes: u32,
    policy: &[u8],
) -> bool {
    match parsed.key {
        KeyNumbers::Ecc { x, y, .. } => {
            x.len() == 32 && y.len() == 32 && public == signing_public(attributes, policy, x, y)
        }
        KeyNumbers::Rsa { .. } => false,
    }
}

/// Who vouches for the attestation key.
pub(crate) struct Voucher {
    pub(crate) described: Authority,
    /// SHA-256 of the certificates of the authorities, from the issuer up.
    pub(super) issuers: Vec<[u8; 32]>,
}

impl Verifier<'_> {
    pub(super) fn check_attestation_key(
        &self,
        bundle: &Bundle,
        checks: &Checks<'_>,
    ) -> Result<(PublicKey, Voucher), Refusal> {
        let public = &bundle.attestation_key;
        let key = attestation_key(public, checks)?;
        let voucher = self.find_voucher(bundle, &key, checks)?;
        Ok((key, voucher))
    }

    fn find_voucher(
        &self,
        bundle: &Bundle,
        key: &PublicKey,
        checks: &Checks<'_>,
    ) -> Result<Voucher, Refusal> {
        let pinned = || Voucher {
            described: Authority::Pinned,
            issuers: Vec::new(),
        };
        if bundle.certificates.is_empty() {
            let is_pinned = self.trust.pins.contains(&name_of(&bundle.attestation_key));
            checks.require(is_pinned, Code::AkUnknown)?;
            return Ok(pinned());
        }
        check_certificates(&self.trust, &bundle.certificates, key, self.now, checks)
    }
}

/// The key of the first certificate, which is said to be an attestation key's.
pub(crate) fn key_of(certificates: &[Vec<u8>]) -> Result<PublicKey, Refusal> {
    let own = certificates.first();
    let own = own.ok_or(Refusal::new(Code::AkUnknown))?;
    let of_path = |error| Refusal::of_path(Code::AkChain, error);
    let own = PathCertificate::parse(own).map_err(of_path)?;
    PublicKey::parse(own.spki()).map_err(|_| Refusal::new(Code::AkTemplate))
}

/// Checks the certificates of an attestation key, its own first.
pub(crate) fn check_certificates(
    trust: &AttestationTrust<'_>,
    certificates: &[Vec<u8>],
    key: &PublicKey,
    now: i64,
    checks: &Checks<'_>,
) -> Result<Voucher, Refusal> {
    let (own, others) = certificates
        .split_first()
        .ok_or(Refusal::new(Code::AkUnknown))?;
    let of_path = |error| Refusal::of_path(Code::AkChain, error);
    let own = PathCertificate::parse(own).map_err(of_path)?;
    checks.require(own.is_for(key), Code::AkCertKey)?;
    let others = others.iter().map(|der| PathCertificate::parse(der));
    let others: Result<Vec<_>, PathError> = others.collect();
    let mut intermediates = others.map_err(of_path)?;
    intermediates.extend_from_slice(trust.intermediates);
    let rules = PathRules {
        anchors: trust.authorities,
        intermediates: &intermediates,
        now,
        purpose: AK_CERTIFICATE,
        is_revoked: &|certificate| is_revoked(trust.revoked, certificate),
    };
    let path = checks.require_ok(rules.validate(&own).map_err(of_path), Vec::new)?;
    let usages = own.extended_key_usages().unwrap_or_default();
    checks.require(*usages == [AK_CERTIFICATE], Code::AkEku)?;
    let said = |policy: &str| own.policies().iter().any(|one| one == policy);
    let ek = trust.ek_policies.iter();
    let ek = ek.copied().find(|(policy, _)| said(policy));
    Ok(Voucher {
        described: Authority::Certificate {
            issuer: own.issuer().to_string(),
            tpm: TpmIdentity::of(&own),
            ek: ek.map(|(_, origin)| origin),
        },
        issuers: path
            .iter()
            .map(|issuer| crate::policy::hash(&[issuer.der()]))
            .collect(),
    })
}
