//! The verifier: a pure function of a bundle, of what is trusted, of the nonce and of the time.
//!
//! The order of the checks is part of the format: of several faults the first one is reported, by every verifier.

pub(crate) mod attestation_key;
pub(crate) mod indices;
mod keys;
mod requirements;
pub(crate) mod statement;

use cardea_pki::PathCertificate;

pub use self::attestation_key::attestation_key_public;
use self::attestation_key::is_signing;
pub use self::requirements::{BadFirmware, Requirements};
use self::statement::Signer;
use crate::bundle::VERSION;
use crate::policy::{hash, name_of, qualified_name};
use crate::structure::{Public, SHA256, attributes};
use crate::{Bundle, Claims, Code, EkOrigin, Form, Level, Name, Refusal, Revoked};

/// Checks evidence.
#[derive(Clone, Debug)]
pub struct Verifier<'a> {
    /// Whom it believes.
    pub trust: AttestationTrust<'a>,
    /// Which nonce it asked for.
    pub nonce: Nonce<'a>,
    /// Seconds since 1970: certificates must be valid then.
    pub now: i64,
    /// What the evidence must show besides being true.
    pub requirements: Requirements,
}

/// Who may vouch for an attestation key.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttestationTrust<'a> {
    /// Authorities that are trusted to certify attestation keys.
    pub authorities: &'a [PathCertificate],
    /// Certificates that may lie between an authority and an attestation key, besides those of the bundle.
    pub intermediates: &'a [PathCertificate],
    /// Names of attestation keys that need no certificate.
    pub pins: &'a [Name],
    /// Certificates that have been revoked, from lists whose signatures the caller has checked.
    pub revoked: &'a [Revoked],
    /// The policies, as dotted object identifiers, with which the authorities say how they knew the TPM.
    pub ek_policies: &'a [(&'a str, EkOrigin)],
}

/// Which nonce a bundle must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonce<'a> {
    /// Any: the bundle may be old.
    Any,
    /// This one.
    Exactly(&'a [u8]),
}

/// What every statement of a bundle says in its extraData.
#[must_use]
pub fn qualifying_data(nonce: &[u8]) -> [u8; 32] {
    hash(&[VERSION.as_bytes(), &[0], nonce])
}

impl Verifier<'_> {
    /// Checks a bundle.
    ///
    /// # Errors
    /// The first fault.
    pub fn verify(&self, bundle: &[u8]) -> Result<Claims, Refusal> {
        self.verify_with(bundle, &Checks::default())
    }

    pub(crate) fn verify_with(&self, bytes: &[u8], checks: &Checks<'_>) -> Result<Claims, Refusal> {
        let bundle = Bundle::decode_loosely(bytes, |code| checks.require(false, code))?;
        let is_fresh = match self.nonce {
            Nonce::Any => false,
            Nonce::Exactly(nonce) => {
                checks.require(nonce == bundle.nonce, Code::Nonce)?;
                !nonce.is_empty() && nonce == bundle.nonce
            }
        };
        let (key, authority) = self.check_attestation_key(&bundle, checks)?;
        let tree = Tree::check(&bundle, checks)?;
        let q = qualifying_data(&bundle.nonce);
        let attestation_key = Signer::new(key, tree.qualified_name(&bundle.attestation_key));
        let statements = statement::Statements { q: &q, checks };
        let indices = indices::check(&bundle, &tree, &statements, &attestation_key)?;
        let keys = keys::check(
            &bundle,
            &tree,
            &indices.pin_name,
            &statements,
            &attestation_key,
        )?;
        let (level, is_made_in_this_boot) = match &bundle.form {
            Form::Approved => (Level::L1, false),
            Form::Sealed { witness, .. } => match witness {
                Some(_) => (Level::L2, false),
                None => (Level::L1, true),
            },
        };
        let claims = Claims {
            level,
            is_fresh,
            is_made_in_this_boot,
            authority: authority.described,
            keys,
            pin: indices.pin,
            puk: indices.puk,
            administrator: indices.adm,
            note: bundle.note,
        };
        self.requirements
            .check(&claims, &authority.issuers, checks)?;
        Ok(claims)
    }
}

/// Which checks are made: all. Tests leave one out, to show that it is what stops a lie.
#[derive(Default)]
pub(crate) struct Checks<'a> {
    #[cfg(test)]
    pub(crate) skipped: &'a [Code],
    #[cfg(not(test))]
    _skipped: std::marker::PhantomData<&'a ()>,
}

impl Checks<'_> {
    #[cfg(test)]
    fn is_skipped(&self, code: Code) -> bool {
        self.skipped.contains(&code)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the tests' form needs it")]
    const fn is_skipped(&self, _: Code) -> bool {
        false
    }

    /// Refuses if something does not hold.
    pub(crate) fn require(&self, holds: bool, code: Code) -> Result<(), Refusal> {
        if holds || self.is_skipped(code) {
            Ok(())
        } else {
            Err(Refusal::new(code))
        }
    }

    /// Like [`Checks::require`], with the reason and a value that is used where the check is left out.
    pub(crate) fn require_ok<T>(
        &self,
        result: Result<T, Refusal>,
        otherwise: impl FnOnce() -> T,
    ) -> Result<T, Refusal> {
        match result {
            Err(refusal) if self.is_skipped(refusal.code) => Ok(otherwise()),
            result => result,
        }
    }
}

/// The storage root key and the birth key.
struct Tree {
    storage_root_key: Name,
    qualified_root: Name,
    birth_key: Name,
}

impl Tree {
    /// Step 3.
    fn check(bundle: &Bundle, checks: &Checks<'_>) -> Result<Self, Refusal> {
        let qualified_root = check_root(&bundle.storage_root_key, checks)?;
        let birth_key = Public::parse(&bundle.birth_key);
        let is_birth_key =
            birth_key.is_some_and(|parsed| is_signing(&bundle.birth_key, &parsed, BIRTH, &[]));
        checks.require(is_birth_key, Code::BirthTemplate)?;
        Ok(Self {
            storage_root_key: name_of(&bundle.storage_root_key),
            qualified_root,
            birth_key: name_of(&bundle.birth_key),
        })
    }

    /// Of a child of the storage root key, from its public area.
    fn qualified_name(&self, public: &[u8]) -> Name {
        qualified_name(Some(&self.qualified_root), &name_of(public))
    }
}

/// The qualified name, in the owner's hierarchy, of a storage root key that keeps its keys in the TPM.
pub(crate) fn check_root(public: &[u8], checks: &Checks<'_>) -> Result<Name, Refusal> {
    let is_root = Public::parse(public).is_some_and(|public| {
        let set = attributes::FIXED_TPM
            | attributes::FIXED_PARENT
            | attributes::SENSITIVE_DATA_ORIGIN
            | attributes::RESTRICTED
            | attributes::DECRYPT;
        public.name_alg == SHA256 && public.has(set, attributes::SIGN)
    });
    checks.require(is_root, Code::SrkTemplate)?;
    Ok(qualified_name(None, &name_of(public)))
}

/// Attributes of a birth key: userWithAuth, sign. It is a program's, not a TPM's.
const BIRTH: u32 = 0x0004_0040;
