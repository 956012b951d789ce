//! The witness key and the NV indices (steps 5 to 8).

use super::attestation_key::is_signing;
use super::statement::{self, Signer, StatementCodes, Statements};
use super::{Checks, Tree};
use crate::bundle::{Form, Index, Role, Witness};
use crate::policy::{self, Name, Sealed, name_of, nv_public, qualified_name};
use crate::structure::{AttestKind, Public};
use crate::wire::Wire;
use crate::{Bundle, Code, Refusal, Tries};

/// Where the indices of cards are.
const HANDLES: std::ops::RangeInclusive<u32> = 0x01C2_0000..=0x01C2_FFFF;
/// Attributes of X: POLICYWRITE, AUTHREAD, NO_DA, WRITTEN.
const SEALED: u32 = 0x2204_0008;
/// Attributes of a counter: PIN_FAIL, POLICYWRITE, POLICYREAD, NO_DA, WRITTEN.
const COUNTER: u32 = 0x2208_0088;
/// Attributes of the witness key: those of an attestation key without userWithAuth.
const WITNESS: u32 = 0x0005_0432;
/// Bytes of X: a digest with its algorithm.
const SEALED_SIZE: u16 = 34;
/// Bytes of a counter: the count and the limit.
const COUNTER_SIZE: u16 = 8;

pub(super) struct Indices {
    pub(super) pin: Tries,
    pub(super) pin_name: Name,
    pub(super) adm: Option<Tries>,
    pub(super) puk: Option<Tries>,
}

/// A counter's codes.
struct CounterCodes {
    statement: StatementCodes,
    public: Code,
    name: Code,
    range: Code,
}

const PIN: CounterCodes = CounterCodes {
    statement: statement::PIN,
    public: Code::PinPublic,
    name: Code::PinName,
    range: Code::PinRange,
};
const ADM: CounterCodes = CounterCodes {
    statement: statement::ADM,
    public: Code::AdmPublic,
    name: Code::AdmName,
    range: Code::AdmRange,
};
const PUK: CounterCodes = CounterCodes {
    statement: statement::PUK,
    public: Code::PukPublic,
    name: Code::PukName,
    range: Code::PukRange,
};

pub(super) fn check(
    bundle: &Bundle,
    tree: &Tree,
    statements: &Statements<'_>,
    attestation_key: &Signer,
) -> Result<Indices, Refusal> {
    let of_role = |role| bundle.indices.iter().find(|index| index.role == role);
    // The form was read: the PIN's index is there, and X with it if the card is sealed.
    let incomplete = || Refusal::new(Code::BundleForm);
    let pin_index = of_role(Role::Pin).ok_or_else(incomplete)?;
    let Form::Sealed {
        made_at_reset,
        witness,
    } = &bundle.form
    else {
        let expected = policy::approved_by(&tree.birth_key);
        let pin = check_counter(pin_index, &expected, statements, attestation_key, &PIN)?;
        return Ok(Indices {
            pin,
            pin_name: name_of(&pin_index.public),
            adm: None,
            puk: None,
        });
    };

    let witness = match witness {
        Some(witness) => Some(check_witness(
            witness,
            *made_at_reset,
            &tree.qualified_root,
            statements,
            attestation_key,
        )?),
        None => None,
    };
    let signer = witness.as_ref().unwrap_or(attestation_key);
    let sealed = of_role(Role::Sealed).ok_or_else(incomplete)?;
    let initial = policy::init(&tree.birth_key, *made_at_reset);
    let content = check_sealed(sealed, &initial, statements, signer)?;

    let expected = policy::authorized_by(&name_of(&sealed.public));
    let counter = |index, codes| check_counter(index, &expected, statements, signer, codes);
    let pin = counter(pin_index, &PIN)?;
    let (adm_index, puk_index) = (of_role(Role::Adm), of_role(Role::Puk));
    let adm = adm_index.map(|index| counter(index, &ADM)).transpose()?;
    let puk = puk_index.map(|index| counter(index, &PUK)).transpose()?;

    let names = [Some(pin_index), adm_index, puk_index]
        .map(|index| index.map(|index| name_of(&index.public)));
    let [pin_name, adm_name, puk_name] = names;
    let pin_name = pin_name.ok_or_else(incomplete)?;
    let digest = Sealed {
        birth: &tree.birth_key,
        made_at_reset: *made_at_reset,
        pin: &pin_name,
        adm: adm_name.as_ref(),
        puk: puk_name.as_ref(),
        pin_limit: pin.limit,
    }
    .content();
    let is_whole = content == policy::name_from(digest);
    statements.checks.require(is_whole, Code::SealedContent)?;
    Ok(Indices {
        pin,
        pin_name,
        adm,
        puk,
    })
}

/// The witness key, before anything that it signed.
pub(crate) fn check_witness(
    witness: &Witness,
    made_at_reset: u32,
    qualified_root: &Name,
    statements: &Statements<'_>,
    attestation_key: &Signer,
) -> Result<Signer, Refusal> {
    let checks = statements.checks;
    let codes = &statement::WITNESS;
    let subject = statements.check(
        &witness.statement,
        attestation_key,
        AttestKind::Certify,
        codes,
    )?;
    let refused = || Refusal::new(Code::WitnessTemplate);
    let parsed = Public::parse(&witness.public).ok_or_else(refused)?;
    let policy = policy::witness(made_at_reset);
    let is_template = is_signing(&witness.public, &parsed, WITNESS, &policy);
    checks.require(is_template, Code::WitnessTemplate)?;
    let key = parsed.public_key().ok_or_else(refused)?;
    let qualified = qualified_name(Some(qualified_root), &name_of(&witness.public));
    let is_it = subject.name == name_of(&witness.public) && subject.content == qualified;
    checks.require(is_it, Code::WitnessName)?;
    Ok(Signer::new(key, qualified))
}

/// X; returns its content.
fn check_sealed<'b>(
    index: &'b Index,
    initial: &[u8; 32],
    statements: &Statements<'_>,
    signer: &Signer,
) -> Result<&'b [u8], Refusal> {
    let checks = statements.checks;
    let codes = &statement::SEALED;
    let subject = statements.check(&index.statement, signer, AttestKind::Nv, codes)?;
    checks.require(is_handle_of_card(&index.public), Code::SealedHandle)?;
    check_public(
        index,
        SEALED,
        initial,
        SEALED_SIZE,
        checks,
        Code::SealedPublic,
    )?;
    let is_it = subject.name == name_of(&index.public);
    checks.require(is_it, Code::SealedName)?;
    let is_all = subject.offset == 0 && subject.content.len() == usize::from(SEALED_SIZE);
    checks.require(is_all, Code::SealedRange)?;
    Ok(subject.content)
}

/// A counter; returns where it stands.
fn check_counter(
    index: &Index,
    policy: &[u8; 32],
    statements: &Statements<'_>,
    signer: &Signer,
    codes: &CounterCodes,
) -> Result<Tries, Refusal> {
    let checks = statements.checks;
    let subject = statements.check(&index.statement, signer, AttestKind::Nv, &codes.statement)?;
    checks.require(is_handle_of_card(&index.public), codes.public)?;
    check_public(index, COUNTER, policy, COUNTER_SIZE, checks, codes.public)?;
    let is_it = subject.name == name_of(&index.public);
    checks.require(is_it, codes.name)?;
    let is_all = subject.offset == 0 && subject.content.len() == usize::from(COUNTER_SIZE);
    checks.require(is_all, codes.range)?;
    let mut content = Wire::new(subject.content);
    let tries = content.u32().zip(content.u32());
    let (wrong, limit) = tries.ok_or_else(|| Refusal::new(codes.range))?;
    Ok(Tries { limit, wrong })
}

fn is_handle_of_card(public: &[u8]) -> bool {
    Wire::new(public)
        .u32()
        .is_some_and(|handle| HANDLES.contains(&handle))
}

/// Everything but the handle is known.
fn check_public(
    index: &Index,
    attributes: u32,
    policy: &[u8; 32],
    size: u16,
    checks: &Checks<'_>,
    code: Code,
) -> Result<(), Refusal> {
    let handle = index.public.get(..4).unwrap_or_default();
    let expected = nv_public(handle, attributes, policy, size);
    checks.require(index.public == expected, code)
}
