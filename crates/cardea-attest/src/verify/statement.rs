//! What a TPM signed (step 4).

use cardea_pki::{PublicKey, SignatureAlgorithm};

use super::Checks;
use crate::structure::{Attest, AttestKind, MAGIC, Subject, attest_head, ecdsa_signature};
use crate::{Code, Name, Refusal, Statement};

/// A key that signs statements.
pub(crate) struct Signer {
    key: PublicKey,
    /// Where it is; none if that cannot be known.
    qualified_name: Option<Name>,
}

impl Signer {
    pub(crate) const fn new(key: PublicKey, qualified_name: Name) -> Self {
        Self {
            key,
            qualified_name: Some(qualified_name),
        }
    }

    /// A key of which its certificate is known, and not its place.
    pub(crate) const fn anywhere(key: PublicKey) -> Self {
        Self {
            key,
            qualified_name: None,
        }
    }
}

/// Codes for the statements about one thing.
pub(crate) struct StatementCodes {
    pub(crate) signature: Code,
    pub(crate) magic: Code,
    pub(crate) kind: Code,
    pub(crate) nonce: Code,
    pub(crate) form: Code,
    pub(crate) hierarchy: Code,
}

macro_rules! codes_of {
    ($name:ident: $signature:ident $magic:ident $kind:ident $nonce:ident $form:ident $hierarchy:ident) => {
        pub(crate) const $name: StatementCodes = StatementCodes {
            signature: Code::$signature,
            magic: Code::$magic,
            kind: Code::$kind,
            nonce: Code::$nonce,
            form: Code::$form,
            hierarchy: Code::$hierarchy,
        };
    };
}

codes_of!(ATTESTATION: AkSignature AkMagic AkType AkNonce AkForm AkHierarchy);
codes_of!(WITNESS: WitnessSignature WitnessMagic WitnessType WitnessNonce WitnessForm WitnessHierarchy);
codes_of!(SEALED: SealedSignature SealedMagic SealedType SealedNonce SealedForm SealedHierarchy);
codes_of!(PIN: PinSignature PinMagic PinType PinNonce PinForm PinHierarchy);
codes_of!(ADM: AdmSignature AdmMagic AdmType AdmNonce AdmForm AdmHierarchy);
codes_of!(PUK: PukSignature PukMagic PukType PukNonce PukForm PukHierarchy);
codes_of!(KEY: KeySignature KeyMagic KeyType KeyNonce KeyForm KeyHierarchy);
codes_of!(CREATION: CreationSignature CreationMagic CreationType CreationNonce CreationForm CreationHierarchy);

/// What all statements of a bundle have in common.
pub(crate) struct Statements<'a> {
    /// Their extraData.
    pub(crate) q: &'a [u8],
    pub(crate) checks: &'a Checks<'a>,
}

impl Statements<'_> {
    /// Checks a statement; returns what it is about.
    ///
    /// The signature comes first, and the magic before anything that the key signed: a restricted key also signs
    /// digests of messages that do not begin with it.
    pub(crate) fn check<'s>(
        &self,
        statement: &'s Statement,
        signer: &Signer,
        kind: AttestKind,
        codes: &StatementCodes,
    ) -> Result<Subject<'s>, Refusal> {
        let checks = self.checks;
        let is_signed = ecdsa_signature(&statement.signature).is_some_and(|raw| {
            let algorithm = SignatureAlgorithm::EcdsaSha256;
            signer.key.verifies(algorithm, &statement.attest, &raw)
        });
        checks.require(is_signed, codes.signature)?;
        let (magic, found) = attest_head(&statement.attest);
        checks.require(magic == MAGIC, codes.magic)?;
        checks.require(found == kind as u16, codes.kind)?;
        let malformed = || Refusal::new(codes.form);
        let attest = Attest::parse(&statement.attest).ok_or_else(malformed)?;
        checks.require(attest.extra_data == self.q, codes.nonce)?;
        let (subject, has_more) = attest.subject(kind).ok_or_else(malformed)?;
        checks.require(!has_more, codes.form)?;
        let place = signer.qualified_name.as_ref();
        let is_in_place = place.is_none_or(|place| attest.qualified_signer == place);
        checks.require(is_in_place, codes.hierarchy)?;
        Ok(subject)
    }
}
