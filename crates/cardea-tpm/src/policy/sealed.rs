//! Sealed policies: the approved policies of a card as one digest in an index X, which only the boot that makes the
//! card can write (docs/design/attestation.md section 3).
//!
//! X's Name does not depend on its content. So X comes first, the indices' policies name X, and X's content names the
//! indices.

use cardea_card::record::{CounterMode, IndexRole};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use super::{
    ALG_ECC, ALG_ECDSA, ALG_NULL, ALG_SHA256, ApprovalId, Area, CURVE_P256, NV_FORMS, Names,
    REF_INIT, ZERO, cc, command_code, hash, nv_public, or, signed,
};
use crate::code;

/// Attributes of X before its write: POLICYWRITE | AUTHREAD | NO_DA (TPM 2.0 Part 2 §13.4).
pub const X_DEFINED: u32 = 0x0204_0008;

/// The same once WRITTEN.
pub const X_WRITTEN: u32 = X_DEFINED | 0x2000_0000;

/// Size of X's content: the algorithm of the digest, and the digest.
pub const X_SIZE: u16 = 34;

/// Attributes of an attestation key: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
/// Whoever has the TPM may have it say what is true of the TPM.
const ATTESTATION_KEY: u32 = 0x0005_0472;

/// Attributes of a witness: the same without userWithAuth, so that its policy alone lets it sign.
const WITNESS: u32 = 0x0005_0432;

/// Comparisons of PolicyCounterTimer (TPM 2.0 Part 2 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// A = B.
    Equal,
    /// A > B, unsigned.
    Greater,
}

impl Comparison {
    /// TPM_EO.
    #[must_use]
    pub const fn operation(self) -> u16 {
        match self {
            Self::Equal => 0x0000,
            Self::Greater => 0x0003,
        }
    }
}

/// Offset of resetCount in TPMS_TIME_INFO.
pub const RESET_COUNT: u16 = 16;

/// PolicyCounterTimer of the number of resets (TPM 2.0 Part 3 §23.10).
fn resets(old: &[u8; 32], comparison: Comparison, count: u32) -> [u8; 32] {
    let arguments = hash(&[
        &count.to_be_bytes(),
        &RESET_COUNT.to_be_bytes(),
        &comparison.operation().to_be_bytes(),
    ]);
    hash(&[old, &code::POLICY_COUNTER_TIMER.to_be_bytes(), &arguments])
}

/// I: how X and the indices of a card are written for the first time. By the birth key, and in the boot that makes the
/// card.
#[must_use]
pub fn sealed_init_policy(birth_name: &[u8], made_at_reset: u32) -> [u8; 32] {
    let by_birth_key = signed(&ZERO, birth_name, REF_INIT);
    if !has_gate() {
        return command_code(&by_birth_key, cc::NV_WRITE);
    }
    let in_this_boot = resets(&by_birth_key, Comparison::Equal, made_at_reset);
    command_code(&in_this_boot, cc::NV_WRITE)
}

/// Whether the boot of the creation alone can write.
pub(crate) fn has_gate() -> bool {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::OpenGate) {
        return false;
    }
    true
}

/// The policy of a witness: it signs after a later reset.
#[must_use]
pub fn witness_policy(made_at_reset: u32) -> [u8; 32] {
    resets(&ZERO, Comparison::Greater, made_at_reset)
}

/// TPMS_NV_PUBLIC of X.
#[must_use]
pub fn x_public(handle: u32, attributes: u32, init: &[u8; 32]) -> Vec<u8> {
    let mut area = Area(handle.to_be_bytes().to_vec());
    area.u16s(&[ALG_SHA256]);
    area.0.extend_from_slice(&attributes.to_be_bytes());
    area.sized(init);
    area.u16s(&[X_SIZE]);
    area.0
}

/// Policy of an index of a card with sealed policies: whatever X holds (TPM 2.0 Part 3 §23.22).
#[must_use]
pub fn sealed_index_policy(x_name: &[u8; 34]) -> [u8; 32] {
    hash(&[&ZERO, &code::POLICY_AUTHORIZE_NV.to_be_bytes(), x_name])
}

/// cpHash of the NV_Write that gives the PIN all of its tries, and no other number of them.
#[must_use]
pub fn tries_command(pin_name: &[u8], limit: u32) -> [u8; 32] {
    let mut parameters = Area(Vec::new());
    parameters.sized(&first_content(limit));
    parameters.u16s(&[0]);
    let code = cc::NV_WRITE.to_be_bytes();
    hash(&[&code, pin_name, pin_name, &parameters.0])
}

/// What a counter holds without a wrong try: TPMS_NV_PIN_COUNTER_PARAMETERS.
#[must_use]
pub fn first_content(limit: u32) -> [u8; 8] {
    let mut content = [0; 8];
    let (_, last) = content.split_at_mut(4);
    last.copy_from_slice(&limit.to_be_bytes());
    content
}

/// Whether this is the public area of a card's index with this handle and policy, of whatever kind, written or not.
#[must_use]
pub fn is_of_card(handle: u32, policy: &[u8; 32], public: &[u8]) -> bool {
    let mut counters = NV_FORMS.iter();
    let is_counter = counters.any(|form| public == nv_public(handle, *form, policy));
    let mut sealed = [X_DEFINED, X_WRITTEN].iter();
    is_counter || sealed.any(|form| public == x_public(handle, *form, policy))
}

/// What a branch binds besides the secret that it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Any use of one command.
    Command(u32),
    /// One command for one index, whose Name's digest this is.
    CommandOn(u32, [u8; 32]),
    /// One command with all of its parameters.
    Whole([u8; 32]),
}

/// The branches of the policies in X. All digests are computed: nothing of them is in the card's file.
#[derive(Clone, Debug)]
pub struct Branches {
    all: Vec<[u8; 32]>,
    by_id: Vec<(ApprovalId, Bound)>,
}

/// The order of the branches: reading and certifying first, then the first write.
const ORDER: [ApprovalId; 9] = {
    use ApprovalId::{A0, P1, P2, P3, P4, P5, P6, P7, U3};
    [P6, P7, P3, P4, P5, U3, P1, P2, A0]
};

impl Branches {
    /// Of the card with these indices. [`None`] without the Name that a branch takes.
    #[must_use]
    pub fn new(names: &Names<'_>, made_at_reset: u32, pin_limit: u32) -> Self {
        let (has_adm, has_puk) = (names.adm.is_some(), names.puk.is_some());
        let present = ApprovalId::present(CounterMode::Nv, has_adm, has_puk);
        let mut all = Vec::new();
        let mut by_id = Vec::new();
        for id in ORDER.into_iter().filter(|id| present.contains(id)) {
            let Some((start, bound)) = branch(id, names, pin_limit) else {
                continue;
            };
            all.push(extend(&start, &bound));
            by_id.push((id, bound));
            if id == ApprovalId::P7 {
                all.push(sealed_init_policy(names.birth, made_at_reset));
            }
        }
        Self { all, by_id }
    }

    /// For PolicyOR.
    #[must_use]
    pub fn all(&self) -> &[[u8; 32]] {
        &self.all
    }

    /// What an approved use is bound to. Reading and certifying are for every index of the card.
    #[must_use]
    pub fn bound(&self, id: ApprovalId) -> Option<&Bound> {
        let id = match id {
            ApprovalId::A1 | ApprovalId::U6 => ApprovalId::P6,
            id => id,
        };
        let mut branches = self.by_id.iter();
        branches.find(|(found, _)| *found == id).map(|(_, it)| it)
    }

    /// What X holds.
    #[must_use]
    pub fn content(&self) -> [u8; 34] {
        let mut content = [0; X_SIZE as usize];
        let (algorithm, digest) = content.split_at_mut(2);
        algorithm.copy_from_slice(&ALG_SHA256.to_be_bytes());
        digest.copy_from_slice(&or(&self.all));
        content
    }
}

/// The digest after the secret, and what is bound then.
fn branch(id: ApprovalId, names: &Names<'_>, pin_limit: u32) -> Option<([u8; 32], Bound)> {
    let (asked, command) = id.policy();
    let start = match asked {
        None => ZERO,
        Some((role, policy_ref)) => super::secret(&ZERO, names.of(role)?, policy_ref),
    };
    let bound = match (asked, command) {
        (None, _) => Bound::Command(command),
        (Some(_), cc::NV_WRITE) => Bound::Whole(tries_command(names.pin, pin_limit)),
        (Some(_), _) => Bound::CommandOn(command, hash(&[names.of(id.role())?])),
    };
    Some((start, bound))
}

fn extend(old: &[u8; 32], bound: &Bound) -> [u8; 32] {
    let step =
        |old: &[u8; 32], code: u32, digest: &[u8; 32]| hash(&[old, &code.to_be_bytes(), digest]);
    match bound {
        Bound::Command(command) => command_code(old, *command),
        Bound::CommandOn(command, index) => {
            step(&command_code(old, *command), code::POLICY_NAME_HASH, index)
        }
        Bound::Whole(command) => step(old, code::POLICY_CP_HASH, command),
    }
}

/// TPMT_PUBLIC that makes an attestation key.
#[must_use]
pub fn attestation_template() -> Vec<u8> {
    without_point(signing_head(ATTESTATION_KEY, &[]))
}

/// TPMT_PUBLIC that makes a witness.
#[must_use]
pub fn witness_template(made_at_reset: u32) -> Vec<u8> {
    without_point(signing_head(WITNESS, &witness_policy(made_at_reset)))
}

/// Whether this is the public area that a template makes.
#[must_use]
pub fn is_made_from(template: &[u8], public: &[u8]) -> bool {
    let head = template
        .len()
        .checked_sub(4)
        .and_then(|end| template.get(..end));
    let point = head.and_then(|head| public.strip_prefix(head));
    point.is_some_and(|point| {
        let halves = point.split_at_checked(34);
        halves.is_some_and(|(x, y)| {
            y.len() == 34 && [x, y].iter().all(|sized| sized.starts_with(&[0, 32]))
        })
    })
}

fn signing_head(attributes: u32, policy: &[u8]) -> Vec<u8> {
    let mut area = Area::new(ALG_ECC, attributes, policy);
    area.u16s(&[ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL]);
    area.0
}

fn without_point(mut head: Vec<u8>) -> Vec<u8> {
    head.extend_from_slice(&[0; 4]);
    head
}

/// Names by role.
impl Names<'_> {
    fn of(&self, role: IndexRole) -> Option<&[u8]> {
        match role {
            IndexRole::Pin => Some(self.pin),
            IndexRole::Adm => self.adm,
            IndexRole::Puk => self.puk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{key_policy, name_of};
    use super::*;
    use cardea_card::token::KeyClass;

    fn hex(text: &str) -> Vec<u8> {
        base16ct::lower::decode_vec(text).unwrap()
    }

    const BIRTH: &str = "000ba6c64dd28fbd5e876997c3e33b735832af032dff282453c44a06ac0ae44c7c35";

    // Of a card that a software TPM was given by another program, at its seventh reset.

    #[test]
    fn names_of_a_card_are_those_that_a_tpm_computes() {
        let init = sealed_init_policy(&hex(BIRTH), 7);
        assert_eq!(
            init[..],
            hex("dc8361a3af79f7bafb1f81aeb4225790af840c20c49bd25b9dac4908c0f9bf80")
        );
        let x = x_public(0x01C2_0003, X_WRITTEN, &init);
        assert_eq!(
            x,
            hex(
                "01c20003000b220400080020dc8361a3af79f7bafb1f81aeb4225790af840c20c49bd25b9dac4908c0f9bf800022"
            )
        );
        let policy = sealed_index_policy(&name_of(&x));
        let name = |handle| name_of(&nv_public(handle, super::super::NV_WRITTEN, &policy));
        assert_eq!(
            name(0x01C2_0000)[..],
            hex("000b7dcf6a45e4001d2be4294944e7a84cdbfb8fdfd34f632acedc4557766afa151c")
        );
        assert_eq!(
            key_policy(&name(0x01C2_0000), KeyClass::Session)[..],
            hex("911b26e9a25d7481987076adc0af1ffc0dfa351adfbea5b35f070eea56ebecbe")
        );
        assert_eq!(
            witness_policy(7)[..],
            hex("54151aa1b3812042e68aed2e574d30b05f36ad32398a6f7602c5f8b7c3dd8b88")
        );
    }

    #[test]
    fn content_of_x_is_what_a_tpm_computes_for_every_kind_of_card() {
        let birth = hex(BIRTH);
        let pin = hex("000b7dcf6a45e4001d2be4294944e7a84cdbfb8fdfd34f632acedc4557766afa151c");
        let adm = hex("000b13bbb854a0aebf794893f43dff1c8bf65c2d58f55ac68fe2eb02042bf072db50");
        let puk = hex("000bae096dcaa42b2b280a3f7144e4cef17c1a0eb141661f79cb1b611ae966304800");
        for (has_adm, has_puk, count, expected) in [
            (
                false,
                false,
                4,
                "9e731e3205710530f7240a538bc41cdd0befadee6addf52a83a859f3dbc29d76",
            ),
            (
                true,
                false,
                7,
                "d43cd66afdebddf8a638aaced8e96f0e7ffdd9b8f94402a00c671d725d0b0b51",
            ),
            (
                false,
                true,
                7,
                "8f3a51f3ef079ffb94c1087ff88912b9894d40031e4bb61aaf4e2a54f401d9fb",
            ),
            (
                true,
                true,
                8,
                "4e8055dea6b2c0c568b70f1dfc90389337f885e5568a52b568662632d2ef7e31",
            ),
        ] {
            let names = Names {
                birth: &birth,
                pin: &pin,
                adm: has_adm.then_some(&adm),
                puk: has_puk.then_some(&puk),
            };
            let branches = Branches::new(&names, 7, 5);
            assert_eq!(branches.all().len(), count);
            let expected = [&[0x00, 0x0B][..], &hex(expected)].concat();
            assert_eq!(branches.content()[..], expected, "{has_adm} {has_puk}");
            let another_limit = Branches::new(&names, 7, 6);
            let unblocks = has_adm || has_puk;
            assert_eq!(another_limit.content() != branches.content(), unblocks);
        }
    }

    #[test]
    fn templates_are_recognised_with_a_point_and_not_otherwise() {
        for template in [attestation_template(), witness_template(7)] {
            let head = &template[..template.len() - 4];
            let point = [&[0, 32][..], &[1; 32], &[0, 32], &[2; 32]].concat();
            let public = [head, &point].concat();
            assert!(is_made_from(&template, &public));
            assert!(!is_made_from(&template, &template));
            assert!(!is_made_from(&template, &[&public[..], &[0]].concat()));
            assert!(!is_made_from(&witness_template(8), &public));
        }
        assert_eq!(
            hex("0023000b00050472000000100018000b000300100000"),
            attestation_template()[..22]
        );
    }
}
