//! The keys of the card (step 9).

use cardea_terms::{KeyClass, Origin};

use super::Tree;
use super::statement::{self, Signer, Statements};
use crate::bundle::Key;
use crate::policy::{self, Name, name_of, recovery_target};
use crate::structure::{AttestKind, CreationData, KeyNumbers, Public, SHA256};
use crate::{Bundle, Code, CreationClaim, KeyClaim, Refusal};

/// fixedTPM, fixedParent, sensitiveDataOrigin, noDA, decrypt, sign.
const GENERATED: u32 = 0x0006_0432;
/// noDA, decrypt, sign.
const IMPORTED: u32 = 0x0006_0400;
/// sensitiveDataOrigin, noDA, decrypt, sign.
const RECOVERABLE: u32 = 0x0006_0420;

pub(super) fn check(
    bundle: &Bundle,
    tree: &Tree,
    pin: &Name,
    statements: &Statements<'_>,
    attestation_key: &Signer,
) -> Result<Vec<KeyClaim>, Refusal> {
    let context = Context {
        tree,
        pin,
        statements,
        attestation_key,
    };
    let keys = bundle.keys.iter().enumerate();
    keys.map(|(number, key)| {
        context.check(key).map_err(|refusal| Refusal {
            key: Some(number),
            ..refusal
        })
    })
    .collect()
}

struct Context<'a> {
    tree: &'a Tree,
    pin: &'a Name,
    statements: &'a Statements<'a>,
    attestation_key: &'a Signer,
}

impl Context<'_> {
    fn check(&self, key: &Key) -> Result<KeyClaim, Refusal> {
        let checks = self.statements.checks;
        let codes = &statement::KEY;
        let kind = AttestKind::Certify;
        let subject = self
            .statements
            .check(&key.statement, self.attestation_key, kind, codes)?;
        let parsed = Public::parse(&key.public).ok_or(Refusal::new(Code::KeyForm))?;
        let is_recoverable = parsed.attributes == RECOVERABLE;
        let is_known = is_recoverable || [GENERATED, IMPORTED].contains(&parsed.attributes);
        checks.require(is_known, Code::KeyAttributes)?;
        let has_kdf = matches!(parsed.key, KeyNumbers::Ecc { has_kdf: true, .. });
        let is_plain = parsed.symmetric.is_none() && !parsed.has_scheme && !has_kdf;
        checks.require(is_plain && parsed.name_alg == SHA256, Code::KeyScheme)?;
        let public_key = parsed.public_key();
        let public_key = public_key.ok_or(Refusal::new(Code::KeyScheme))?;

        // For a recoverable key TPM2_Certify proves nothing: sensitiveDataOrigin is the importer's word then.
        let has_proof = !is_recoverable || key.creation.is_some();
        checks.require(has_proof, Code::CreationMissing)?;
        let targets = key.creation.as_ref().map(|creation| &creation.targets[..]);
        let recovery = self.check_targets(targets.unwrap_or_default(), is_recoverable)?;
        let class = self.class(&recovery, parsed.policy);
        checks.require(class.is_some(), Code::KeyPolicy)?;
        let name = name_of(&key.public);
        checks.require(subject.name == name, Code::KeyName)?;
        let qualified = self.tree.qualified_name(&key.public);
        checks.require(subject.content == qualified, Code::KeyHierarchy)?;
        let creation = self.check_creation(key, &name)?;
        Ok(KeyClaim {
            name,
            public_key,
            origin: match parsed.attributes {
                IMPORTED => Origin::Imported,
                _ => Origin::Generated,
            },
            // Without a class only where the tests leave its check out.
            class: class.unwrap_or(KeyClass::Session),
            recovery,
            creation,
        })
    }

    /// The Names of the targets: each of exactly one form, in rising order, and only for recoverable keys.
    fn check_targets(
        &self,
        targets: &[Vec<u8>],
        is_recoverable: bool,
    ) -> Result<Vec<Name>, Refusal> {
        let checks = self.statements.checks;
        checks.require(is_recoverable != targets.is_empty(), Code::KeyTarget)?;
        let mut names = Vec::new();
        for target in targets {
            let is_template = match Public::parse(target).map(|public| public.key) {
                Some(KeyNumbers::Ecc { x, y, .. }) => x
                    .try_into()
                    .ok()
                    .zip(y.try_into().ok())
                    .is_some_and(|(x, y)| *target == recovery_target(x, y)),
                _ => false,
            };
            checks.require(is_template, Code::KeyTarget)?;
            let name = name_of(target);
            let is_next = names.last().is_none_or(|last| *last < name);
            checks.require(is_next, Code::KeyTarget)?;
            names.push(name);
        }
        Ok(names)
    }

    /// The class whose policy a key has, with a branch for each target.
    fn class(&self, targets: &[Name], found: &[u8]) -> Option<KeyClass> {
        [KeyClass::Session, KeyClass::Always]
            .into_iter()
            .find(|class| {
                let use_of_key = policy::key(self.pin, *class);
                let expected = if targets.is_empty() {
                    use_of_key
                } else {
                    let branches = targets.iter().map(policy::duplication);
                    let all: Vec<_> = std::iter::once(use_of_key).chain(branches).collect();
                    policy::or(&all)
                };
                found == expected
            })
    }

    /// How the key was made, if the bundle shows it.
    fn check_creation(&self, key: &Key, name: &Name) -> Result<Option<CreationClaim>, Refusal> {
        let checks = self.statements.checks;
        let Some(creation) = &key.creation else {
            return Ok(None);
        };
        let codes = &statement::CREATION;
        let subject = self.statements.check(
            &creation.statement,
            self.attestation_key,
            AttestKind::Creation,
            codes,
        )?;
        checks.require(subject.name == name, Code::CreationName)?;
        let is_about_data = subject.content == policy::hash(&[&creation.data]);
        checks.require(is_about_data, Code::CreationHash)?;
        let malformed = Refusal::new(Code::CreationForm);
        let data = CreationData::parse(&creation.data).ok_or(malformed)?;
        let is_below_root = data.parent_name == self.tree.storage_root_key
            && data.parent_qualified_name == self.tree.qualified_root;
        checks.require(is_below_root, Code::CreationParent)?;
        Ok(Some(CreationClaim {
            outside_info: data.outside_info.to_vec(),
            pcr_digest: data.pcr_digest.to_vec(),
        }))
    }
}
