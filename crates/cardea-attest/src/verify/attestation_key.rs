//! The attestation key and its certificate (step 2).

use cardea_pki::{PathCertificate, PathError, PathRules, PublicKey, RawPublicKey};

use super::{Checks, Verifier};
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

/// Who vouches for the attestation key.
pub(super) struct Voucher {
    pub(super) described: Authority,
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
        let refused = || Refusal::new(Code::AkTemplate);
        let parsed = Public::parse(public).ok_or_else(refused)?;
        let is_template = match parsed.key {
            KeyNumbers::Ecc { x, y, .. } => {
                x.len() == 32
                    && y.len() == 32
                    && *public == signing_public(ATTESTATION_KEY, &[], x, y)
            }
            KeyNumbers::Rsa { .. } => false,
        };
        checks.require(is_template, Code::AkTemplate)?;
        let key = parsed.public_key().ok_or_else(refused)?;
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
        let Some((own, others)) = bundle.certificates.split_first() else {
            let is_pinned = self.trust.pins.contains(&name_of(&bundle.attestation_key));
            checks.require(is_pinned, Code::AkUnknown)?;
            return Ok(pinned());
        };
        let of_path = |error| Refusal::of_path(Code::AkChain, error);
        let own = PathCertificate::parse(own).map_err(of_path)?;
        checks.require(is_for(&own, key), Code::AkCertKey)?;
        let others = others.iter().map(|der| PathCertificate::parse(der));
        let others: Result<Vec<_>, PathError> = others.collect();
        let mut intermediates = others.map_err(of_path)?;
        intermediates.extend_from_slice(self.trust.intermediates);
        let rules = PathRules {
            anchors: self.trust.authorities,
            intermediates: &intermediates,
            now: self.now,
            purpose: AK_CERTIFICATE,
            is_revoked: &|certificate| is_revoked(self.trust.revoked, certificate),
        };
        let path = checks.require_ok(rules.validate(&own).map_err(of_path), Vec::new)?;
        let usages = own.extended_key_usages().unwrap_or_default();
        checks.require(*usages == [AK_CERTIFICATE], Code::AkEku)?;
        let said = |policy: &str| own.policies().iter().any(|one| one == policy);
        let ek = self.trust.ek_policies.iter();
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
}

fn is_for(certificate: &PathCertificate, key: &PublicKey) -> bool {
    match (certificate.raw_public_key(), key) {
        (Ok(RawPublicKey::Ec { curve, point }), PublicKey::Ec(key)) => {
            curve == P256 && point == key.point()
        }
        _ => false,
    }
}

const P256: &str = "1.2.840.10045.3.1.7";
