//! Policy digests, public areas and Names, computed without a TPM.
//!
//! Everything that a card's policies are made of follows from the Names of its indices and its birth key.
//! The TPM's own values are compared with these at creation, and a card file is checked against them
//! before it is believed. All hashes are SHA-256.

mod sealed;

use cardea_card::record::{CounterMode, IndexRole};
use cardea_card::token::{KeyAlgorithm, KeyClass, KeyOrigin};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
pub(crate) use sealed::has_gate;
pub use sealed::{
    Bound, Branches, Comparison, RESET_COUNT, X_DEFINED, X_SIZE, X_WRITTEN, attestation_template,
    first_content, is_made_from, is_of_card, sealed_index_policy, sealed_init_policy,
    tries_command, witness_policy, witness_template, x_public,
};
use sha2::{Digest, Sha256};

/// Digest of an empty policy.
pub const ZERO: [u8; 32] = [0; 32];

/// Attributes of a card's index before its first write:
/// PIN_FAIL | POLICYWRITE | POLICYREAD | NO_DA (TPM 2.0 Part 2 §13.4).
pub const NV_DEFINED: u32 = 0x0208_0088;

/// The same once WRITTEN.
pub const NV_WRITTEN: u32 = NV_DEFINED | 0x2000_0000;

/// OWNERREAD.
pub const NV_OWNER_READ: u32 = 0x0002_0000;

/// Attributes of a card's index once WRITTEN: the owner may read the counts that a policy must not.
#[must_use]
pub fn nv_written(mode: CounterMode) -> u32 {
    NV_WRITTEN
        | match mode {
            CounterMode::Nv | CounterMode::Object => 0,
            CounterMode::NvOwner => NV_OWNER_READ,
        }
}

/// The same before the first write.
#[must_use]
pub fn nv_defined(mode: CounterMode) -> u32 {
    nv_written(mode) & NV_DEFINED_BITS
}

/// All but WRITTEN.
const NV_DEFINED_BITS: u32 = !(NV_DEFINED ^ NV_WRITTEN);

/// What an index of a card can have, in any mode, written or not.
pub const NV_FORMS: [u32; 4] = [
    NV_DEFINED,
    NV_WRITTEN,
    NV_DEFINED | NV_OWNER_READ,
    NV_WRITTEN | NV_OWNER_READ,
];

/// Attributes of a generated key: fixedTPM, fixedParent, sensitiveDataOrigin, noDA, decrypt, sign.
pub const KEY_GENERATED: u32 = 0x0006_0432;

/// Attributes of a recoverable key: sensitiveDataOrigin, noDA, decrypt, sign. Neither fixedTPM nor fixedParent: its
/// policy says who can have a copy.
pub const KEY_RECOVERABLE: u32 = 0x0006_0420;

/// Attributes of an imported key: noDA, decrypt, sign.
pub const KEY_IMPORTED: u32 = 0x0006_0400;

/// Attributes of a counter object: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, adminWithPolicy, sign.
/// Without noDA its failures count towards the TPM's lockout.
pub const COUNTER_OBJECT: u32 = 0x0004_00F2;

/// policyRef of the first write of an index.
pub const REF_INIT: &[u8] = b"init";

/// policyRef of PolicySecret for keys of the session class.
pub const REF_SESSION: &[u8] = b"sess";

/// policyRef of PolicySecret for keys of the always class.
pub const REF_ONCE: &[u8] = b"once";

/// policyRef of PolicySecret when PIN or PUK replaces itself.
pub const REF_CHANGE: &[u8] = b"chg";

/// policyRef of PolicySecret when the administrator unblocks or unseals.
pub const REF_ADMIN: &[u8] = b"adm";

/// policyRef of PolicySecret when the administrator replaces the admin value.
pub const REF_ADMIN_KEY: &[u8] = b"admkey";

/// policyRef of PolicySecret when the PUK unblocks.
pub const REF_PUK: &[u8] = b"puk";

/// Command codes that policies bind to (TPM 2.0 Part 2 §6.5.2).
pub mod cc {
    use tpm2_protocol::data::TpmCc;

    /// TPM2_NV_Write.
    pub const NV_WRITE: u32 = TpmCc::NvWrite as u32;
    /// TPM2_NV_ChangeAuth.
    pub const NV_CHANGE_AUTH: u32 = TpmCc::NvChangeAuth as u32;
    /// TPM2_NV_Read.
    pub const NV_READ: u32 = TpmCc::NvRead as u32;
    /// TPM2_PolicySecret.
    pub const POLICY_SECRET: u32 = TpmCc::PolicySecret as u32;
    /// TPM2_Unseal.
    pub const UNSEAL: u32 = TpmCc::Unseal as u32;
    /// TPM2_PolicySigned.
    pub const POLICY_SIGNED: u32 = TpmCc::PolicySigned as u32;
    /// TPM2_PolicyAuthorize.
    pub const POLICY_AUTHORIZE: u32 = TpmCc::PolicyAuthorize as u32;
    /// TPM2_PolicyCommandCode.
    pub const POLICY_COMMAND_CODE: u32 = TpmCc::PolicyCommandCode as u32;
    /// TPM2_NV_Certify.
    pub const NV_CERTIFY: u32 = TpmCc::NvCertify as u32;
    /// TPM2_ObjectChangeAuth.
    pub const OBJECT_CHANGE_AUTH: u32 = TpmCc::ObjectChangeAuth as u32;
    /// TPM2_PolicyAuthValue.
    pub const POLICY_AUTH_VALUE: u32 = TpmCc::PolicyAuthValue as u32;
    /// TPM2_PolicyOR.
    pub const POLICY_OR: u32 = TpmCc::PolicyOr as u32;
    /// TPM2_PolicyDuplicationSelect.
    pub const POLICY_DUPLICATION_SELECT: u32 = TpmCc::PolicyDuplicationSelect as u32;
}

/// SHA-256 of the parts, one after the other.
#[must_use]
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// PolicySecret (TPM 2.0 Part 3 §23.4).
#[must_use]
pub fn secret(old: &[u8; 32], name: &[u8], policy_ref: &[u8]) -> [u8; 32] {
    update(old, cc::POLICY_SECRET, name, policy_ref)
}

/// PolicySigned (TPM 2.0 Part 3 §23.3).
#[must_use]
pub fn signed(old: &[u8; 32], name: &[u8], policy_ref: &[u8]) -> [u8; 32] {
    update(old, cc::POLICY_SIGNED, name, policy_ref)
}

/// PolicyCommandCode (TPM 2.0 Part 3 §23.11).
#[must_use]
pub fn command_code(old: &[u8; 32], code: u32) -> [u8; 32] {
    hash(&[
        old,
        &cc::POLICY_COMMAND_CODE.to_be_bytes(),
        &code.to_be_bytes(),
    ])
}

/// PolicyAuthorize (TPM 2.0 Part 3 §23.16): independent of what was approved.
#[must_use]
pub fn authorize(name: &[u8], policy_ref: &[u8]) -> [u8; 32] {
    update(&ZERO, cc::POLICY_AUTHORIZE, name, policy_ref)
}

/// PolicyAuthValue (TPM 2.0 Part 3 §23.17).
fn auth_value() -> [u8; 32] {
    hash(&[&ZERO, &cc::POLICY_AUTH_VALUE.to_be_bytes()])
}

/// PolicyOR (TPM 2.0 Part 3 §23.6).
fn or(branches: &[[u8; 32]]) -> [u8; 32] {
    hash(&[&ZERO, &cc::POLICY_OR.to_be_bytes(), &branches.concat()])
}

/// PolicyDuplicationSelect for any object and this new parent (TPM 2.0 Part 3 §23.15, includeObject NO).
fn duplication(target: &[u8; 34]) -> [u8; 32] {
    let code = cc::POLICY_DUPLICATION_SELECT.to_be_bytes();
    hash(&[&ZERO, &code, target, &[0]])
}

/// What a recoverable key may be used under: the policy of the card's keys, or duplication to one of these targets,
/// whose Names are in rising order.
#[must_use]
pub fn recovery_branches(key_policy: &[u8; 32], targets: &[[u8; 34]]) -> Vec<[u8; 32]> {
    let targets = targets.iter().map(duplication);
    let branches = std::iter::once(*key_policy).chain(targets);
    #[cfg(feature = "weakened")]
    let branches = {
        let is_open = weakened::has(Weakness::OpenDuplication);
        branches.chain(is_open.then(|| command_code(&ZERO, crate::code::DUPLICATE)))
    };
    branches.collect()
}

/// Policies under which the value of a counter object may be replaced: by itself, and by another authority if there is
/// one, whose Name and role are given.
#[must_use]
pub fn counter_branches(authority: Option<(IndexRole, &[u8])>) -> Vec<[u8; 32]> {
    let own = command_code(&auth_value(), cc::OBJECT_CHANGE_AUTH);
    let other = authority.map(|(role, name)| {
        let policy_ref = match role {
            IndexRole::Puk => REF_PUK,
            IndexRole::Adm | IndexRole::Pin => REF_ADMIN,
        };
        command_code(&secret(&ZERO, name, policy_ref), cc::OBJECT_CHANGE_AUTH)
    });
    std::iter::once(own).chain(other).collect()
}

/// The part of a counter object's TPMT_PUBLIC before the unique field: an HMAC key that nobody uses.
#[must_use]
pub fn counter_head(branches: &[[u8; 32]]) -> Vec<u8> {
    let policy = match branches {
        [only] => *only,
        several => or(several),
    };
    let mut area = Area::new(ALG_KEYEDHASH, COUNTER_OBJECT, &policy);
    area.u16s(&[ALG_HMAC, ALG_SHA256]);
    area.0
}

/// TPMT_PUBLIC that makes a counter object.
#[must_use]
pub fn counter_template(branches: &[[u8; 32]]) -> Vec<u8> {
    let mut area = Area(counter_head(branches));
    area.u16s(&[0]);
    area.0
}

fn update(old: &[u8; 32], code: u32, name: &[u8], policy_ref: &[u8]) -> [u8; 32] {
    let inner = hash(&[old, &code.to_be_bytes(), name]);
    hash(&[&inner, policy_ref])
}

/// What the birth key signs to approve a policy.
#[must_use]
pub fn a_hash(digest: &[u8; 32], policy_ref: &[u8]) -> [u8; 32] {
    hash(&[digest, policy_ref])
}

/// What the birth key signs for PolicySigned with this session's nonce and no expiration.
#[must_use]
pub fn signed_hash(nonce_tpm: &[u8], policy_ref: &[u8]) -> [u8; 32] {
    hash(&[nonce_tpm, &0u32.to_be_bytes(), policy_ref])
}

/// policyRef of the PolicyAuthorize in an index's own policy.
#[must_use]
pub fn role_ref(role: IndexRole) -> &'static [u8] {
    match role {
        IndexRole::Pin => b"pin",
        IndexRole::Adm => b"adm",
        IndexRole::Puk => b"puk",
    }
}

/// A policy that the birth key approves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "the design's own short names; see `ApprovalId::policy`"
)]
pub enum ApprovalId {
    A0,
    A1,
    P1,
    P2,
    P3,
    P4,
    P5,
    P6,
    P7,
    U1,
    U2,
    U3,
    U6,
}

/// Names that a card's policies depend on.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Of the birth key.
    pub birth: &'a [u8],
    /// Of the PIN index, written.
    pub pin: &'a [u8],
    /// Of the ADM index, written.
    pub adm: Option<&'a [u8]>,
    /// Of the PUK index, written.
    pub puk: Option<&'a [u8]>,
}

impl ApprovalId {
    /// All, in order.
    pub const ALL: [Self; 13] = [
        Self::A0,
        Self::A1,
        Self::P1,
        Self::P2,
        Self::P3,
        Self::P4,
        Self::P5,
        Self::P6,
        Self::P7,
        Self::U1,
        Self::U2,
        Self::U3,
        Self::U6,
    ];

    /// The index whose policy it satisfies.
    #[must_use]
    pub fn role(self) -> IndexRole {
        match self {
            Self::A0 | Self::A1 => IndexRole::Adm,
            Self::P1 | Self::P2 | Self::P3 | Self::P4 | Self::P5 | Self::P6 | Self::P7 => {
                IndexRole::Pin
            }
            Self::U1 | Self::U2 | Self::U3 | Self::U6 => IndexRole::Puk,
        }
    }

    /// Whether anybody may use it, without a secret. Firmware with the flaw of docs/design/tpm.md section 9 sets an
    /// index's count back for whoever does.
    #[must_use]
    pub fn is_open(self) -> bool {
        self.policy().0.is_none()
    }

    /// Short name in the card file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A0 => "A0",
            Self::A1 => "A1",
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
            Self::P4 => "P4",
            Self::P5 => "P5",
            Self::P6 => "P6",
            Self::P7 => "P7",
            Self::U1 => "U1",
            Self::U2 => "U2",
            Self::U3 => "U3",
            Self::U6 => "U6",
        }
    }

    /// From its short name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|id| id.as_str() == text)
    }

    /// Those that a card has: the administrator and the PUK exclude each other as unblockers of the PIN,
    /// and the administrator does not repair the PUK.
    ///
    /// Where only the owner may read counts, nothing is approved for everybody.
    #[must_use]
    pub fn present(mode: CounterMode, has_adm: bool, has_puk: bool) -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|id| mode != CounterMode::NvOwner || !id.is_open())
            .filter(|id| match id {
                Self::A0 | Self::A1 => has_adm,
                Self::P1 | Self::P2 => has_adm && !has_puk,
                Self::P3 | Self::P6 | Self::P7 => true,
                Self::P4 | Self::P5 | Self::U3 | Self::U6 => has_puk,
                Self::U1 | Self::U2 => false,
            })
            .collect()
    }

    /// The secret that it asks for and its policyRef, or none; and the command that it allows.
    #[must_use]
    pub fn policy(self) -> (Option<(IndexRole, &'static [u8])>, u32) {
        match self {
            Self::A0 => (Some((IndexRole::Adm, REF_ADMIN_KEY)), cc::NV_CHANGE_AUTH),
            Self::A1 | Self::P6 | Self::U6 => (None, cc::NV_READ),
            Self::P1 | Self::U1 => (Some((IndexRole::Adm, REF_ADMIN)), cc::NV_WRITE),
            Self::P2 | Self::U2 => (Some((IndexRole::Adm, REF_ADMIN)), cc::NV_CHANGE_AUTH),
            Self::P3 => (Some((IndexRole::Pin, REF_CHANGE)), cc::NV_CHANGE_AUTH),
            Self::P4 => (Some((IndexRole::Puk, REF_PUK)), cc::NV_WRITE),
            Self::P5 => (Some((IndexRole::Puk, REF_PUK)), cc::NV_CHANGE_AUTH),
            Self::P7 => (None, cc::NV_CERTIFY),
            Self::U3 => (Some((IndexRole::Puk, REF_CHANGE)), cc::NV_CHANGE_AUTH),
        }
    }

    /// The approved digest; `None` if the card does not have the index that it names.
    #[must_use]
    pub fn digest(self, names: &Names<'_>) -> Option<[u8; 32]> {
        #[cfg(feature = "weakened")]
        if weakened::has(Weakness::AuthValuePolicy) && self == Self::P3 {
            return Some(command_code(&auth_value(), cc::NV_CHANGE_AUTH));
        }
        #[cfg(feature = "weakened")]
        if weakened::has(Weakness::OpenUnblocking) && matches!(self, Self::P2 | Self::P5) {
            return Some(command_code(&ZERO, cc::NV_CHANGE_AUTH));
        }
        let (asked, code) = self.policy();
        let start = match asked {
            None => ZERO,
            Some((role, policy_ref)) => {
                let name = match role {
                    IndexRole::Pin => Some(names.pin),
                    IndexRole::Adm => names.adm,
                    IndexRole::Puk => names.puk,
                }?;
                secret(&ZERO, name, policy_ref)
            }
        };
        Some(command_code(&start, code))
    }
}

/// The policy of an index's first write: a fresh signature of the birth key.
#[must_use]
pub fn init_policy(birth_name: &[u8]) -> [u8; 32] {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::ApprovedFirstWrite) {
        return command_code(&ZERO, cc::NV_WRITE);
    }
    command_code(&signed(&ZERO, birth_name, REF_INIT), cc::NV_WRITE)
}

/// The policy K of a card's keys.
#[must_use]
pub fn key_policy(pin_name: &[u8], class: KeyClass) -> [u8; 32] {
    secret(&ZERO, pin_name, class_ref(class))
}

/// policyRef of a key class.
#[must_use]
pub fn class_ref(class: KeyClass) -> &'static [u8] {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::LaxPolicy) {
        return REF_SESSION;
    }
    match class {
        KeyClass::Always => REF_ONCE,
        KeyClass::Session => REF_SESSION,
    }
}

/// The policy of K ⊕ m.
#[must_use]
pub fn sealed_policy(adm_name: &[u8]) -> [u8; 32] {
    command_code(&secret(&ZERO, adm_name, REF_ADMIN), cc::UNSEAL)
}

const ALG_RSA: u16 = 0x0001;
const ALG_HMAC: u16 = 0x0005;
const ALG_AES: u16 = 0x0006;
const ALG_KEYEDHASH: u16 = 0x0008;
const ALG_SHA256: u16 = 0x000B;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;

/// TPMT_PUBLIC of the birth key.
#[must_use]
pub fn birth_public(x: &[u8; 32], y: &[u8; 32]) -> Vec<u8> {
    let mut area = Area::new(ALG_ECC, 0x0004_0040, &[]);
    area.u16s(&[ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL]);
    area.sized(x);
    area.sized(y);
    area.0
}

/// TPMS_NV_PUBLIC of a card's index: 8 bytes of data.
#[must_use]
pub fn nv_public(handle: u32, attributes: u32, policy: &[u8; 32]) -> Vec<u8> {
    #[cfg(feature = "weakened")]
    let attributes = if weakened::has(Weakness::OrdinaryIndices) {
        // Not of type PIN_FAIL and not exempt from the lockout; AUTHREAD and AUTHWRITE.
        attributes & !0x0200_0080 | 0x0004_0004
    } else {
        attributes
    };
    let mut area = handle.to_be_bytes().to_vec();
    area.extend_from_slice(&ALG_SHA256.to_be_bytes());
    area.extend_from_slice(&attributes.to_be_bytes());
    let mut area = Area(area);
    area.sized(policy);
    area.u16s(&[8]);
    area.0
}

/// Policy of an index: PolicyAuthorize by the birth key for the index's role.
#[must_use]
pub fn index_policy(birth_name: &[u8], role: IndexRole) -> [u8; 32] {
    authorize(birth_name, role_ref(role))
}

/// TPMT_PUBLIC that makes a user key, or that a key's public area has before its unique field.
#[must_use]
pub fn key_template(algorithm: KeyAlgorithm, origin: KeyOrigin, policy: &[u8; 32]) -> Vec<u8> {
    without_unique(algorithm, key_head(algorithm, origin, policy))
}

/// TPMT_PUBLIC that makes a recoverable key with these branches.
#[must_use]
pub fn recoverable_template(algorithm: KeyAlgorithm, branches: &[[u8; 32]]) -> Vec<u8> {
    without_unique(algorithm, recoverable_head(algorithm, branches))
}

fn without_unique(algorithm: KeyAlgorithm, mut head: Vec<u8>) -> Vec<u8> {
    match algorithm {
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => head.extend_from_slice(&[0; 4]),
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => head.extend_from_slice(&[0; 2]),
    }
    head
}

/// The part of a user key's TPMT_PUBLIC before the unique field.
#[must_use]
pub fn key_head(algorithm: KeyAlgorithm, origin: KeyOrigin, policy: &[u8; 32]) -> Vec<u8> {
    let attributes = match origin {
        KeyOrigin::Generated => KEY_GENERATED,
        KeyOrigin::Imported => KEY_IMPORTED,
    };
    head(algorithm, attributes, policy)
}

/// The part of a recoverable key's TPMT_PUBLIC before the unique field.
#[must_use]
pub fn recoverable_head(algorithm: KeyAlgorithm, branches: &[[u8; 32]]) -> Vec<u8> {
    head(algorithm, KEY_RECOVERABLE, &or(branches))
}

fn head(algorithm: KeyAlgorithm, attributes: u32, policy: &[u8; 32]) -> Vec<u8> {
    let rsa = |bits: u16| {
        let mut area = Area::new(ALG_RSA, attributes, policy);
        area.u16s(&[ALG_NULL, ALG_NULL, bits, 0, 0]);
        area.0
    };
    let ecc = |curve: u16| {
        let mut area = Area::new(ALG_ECC, attributes, policy);
        area.u16s(&[ALG_NULL, ALG_NULL, curve, ALG_NULL]);
        area.0
    };
    match algorithm {
        KeyAlgorithm::P256 => ecc(CURVE_P256),
        KeyAlgorithm::P384 => ecc(CURVE_P384),
        KeyAlgorithm::Rsa2048 => rsa(2048),
        KeyAlgorithm::Rsa3072 => rsa(3072),
    }
}

/// Most recovery keys of a key: PolicyOR has eight branches, and one is for use (TPM 2.0 Part 3 §23.6).
pub const MAX_TARGETS: usize = 7;

/// Attributes of the storage key that stands for a recovery key: userWithAuth, restricted, decrypt.
const RECOVERY_TARGET: u32 = 0x0003_0040;

/// TPMT_PUBLIC of the storage key that stands for a recovery key with this point on P-256: all of it follows from the
/// point, so that everybody can compute its Name.
#[must_use]
pub fn recovery_target(x: &[u8; 32], y: &[u8; 32]) -> Vec<u8> {
    let mut area = Area(recovery_target_head());
    area.sized(x);
    area.sized(y);
    area.0
}

/// Whether this is a [`recovery_target`] with some point.
#[must_use]
pub fn is_recovery_target(public: &[u8]) -> bool {
    let unique = public.strip_prefix(&recovery_target_head()[..]);
    unique.is_some_and(|unique| {
        let halves = unique.split_at_checked(34);
        halves.is_some_and(|(x, y)| {
            y.len() == 34 && [x, y].iter().all(|sized| sized.starts_with(&[0, 32]))
        })
    })
}

fn recovery_target_head() -> Vec<u8> {
    let mut area = Area::new(ALG_ECC, RECOVERY_TARGET, &[]);
    area.u16s(&[ALG_AES, 128, ALG_CFB, ALG_NULL, CURVE_P256, ALG_NULL]);
    area.0
}

/// TPMT_PUBLIC that seals K ⊕ m.
#[must_use]
pub fn sealed_template(policy: &[u8; 32]) -> Vec<u8> {
    let mut area = Area::new(ALG_KEYEDHASH, 0x0000_0412, policy);
    area.u16s(&[ALG_NULL, 0]);
    area.0
}

/// The forms of storage root key that cards accept (TCG TPM v2.0 Provisioning Guidance §7.5.1).
///
/// Without noDA another program's failures would lock every card out, and another symmetric algorithm
/// gains nothing: such keys are left to whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrkForm {
    /// P-256, AES-128-CFB.
    Ecc,
    /// RSA-2048, AES-128-CFB.
    Rsa,
}

impl SrkForm {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ecc, Self::Rsa];
}

/// TPMT_PUBLIC that makes a storage root key.
#[must_use]
pub fn srk_template(form: SrkForm) -> Vec<u8> {
    let mut area = Area(srk_head(form));
    match form {
        SrkForm::Ecc => area.u16s(&[0, 0]),
        SrkForm::Rsa => area.u16s(&[0]),
    }
    area.0
}

/// The part of a storage root key's TPMT_PUBLIC before the unique field.
#[must_use]
pub fn srk_head(form: SrkForm) -> Vec<u8> {
    const ATTRIBUTES: u32 = 0x0003_0472;
    let (kind, parameters): (_, &[u16]) = match form {
        SrkForm::Ecc => (ALG_ECC, &[CURVE_P256, ALG_NULL]),
        SrkForm::Rsa => (ALG_RSA, &[2048, 0, 0]),
    };
    let mut area = Area::new(kind, ATTRIBUTES, &[]);
    area.u16s(&[ALG_AES, 128, ALG_CFB, ALG_NULL]);
    area.u16s(parameters);
    area.0
}

/// Name of an object or index with nameAlg SHA-256.
#[must_use]
pub fn name_of(public: &[u8]) -> [u8; 34] {
    let mut name = [0; 34];
    let (algorithm, digest) = name.split_at_mut(2);
    algorithm.copy_from_slice(&ALG_SHA256.to_be_bytes());
    digest.copy_from_slice(&hash(&[public]));
    name
}

struct Area(Vec<u8>);

impl Area {
    fn new(kind: u16, attributes: u32, policy: &[u8]) -> Self {
        let mut area = Self(kind.to_be_bytes().to_vec());
        area.u16s(&[ALG_SHA256]);
        area.0.extend_from_slice(&attributes.to_be_bytes());
        area.sized(policy);
        area
    }

    fn u16s(&mut self, values: &[u16]) {
        for value in values {
            self.0.extend_from_slice(&value.to_be_bytes());
        }
    }

    /// TPM2B: the callers' fields are at most 64 bytes.
    fn sized(&mut self, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_has_the_approvals_of_its_secrets_and_no_others() {
        let present = |mode, has_adm, has_puk| {
            let ids = ApprovalId::present(mode, has_adm, has_puk);
            let names: Vec<_> = ids.into_iter().map(ApprovalId::as_str).collect();
            names.join(" ")
        };
        let open = |has_adm, has_puk| present(CounterMode::Nv, has_adm, has_puk);
        assert_eq!(open(false, false), "P3 P6 P7");
        assert_eq!(open(true, false), "A0 A1 P1 P2 P3 P6 P7");
        assert_eq!(open(false, true), "P3 P4 P5 P6 P7 U3 U6");
        assert_eq!(open(true, true), "A0 A1 P3 P4 P5 P6 P7 U3 U6");
        let closed = |has_adm, has_puk| present(CounterMode::NvOwner, has_adm, has_puk);
        assert_eq!(closed(false, false), "P3");
        assert_eq!(closed(true, false), "A0 P1 P2 P3");
        assert_eq!(closed(false, true), "P3 P4 P5 U3");
        assert_eq!(closed(true, true), "A0 P3 P4 P5 U3");
    }

    #[test]
    fn only_reading_and_certifying_are_approved_for_everybody() {
        let open = ApprovalId::ALL.into_iter().filter(|id| id.is_open());
        let names: Vec<_> = open.map(ApprovalId::as_str).collect();
        assert_eq!(names, ["A1", "P6", "P7", "U6"]);
    }

    #[test]
    fn index_that_the_owner_reads_differs_in_that_attribute_alone() {
        assert_eq!(nv_defined(CounterMode::Nv), NV_DEFINED);
        assert_eq!(nv_written(CounterMode::Nv), NV_WRITTEN);
        assert_eq!(nv_defined(CounterMode::NvOwner), 0x020A_0088);
        assert_eq!(nv_written(CounterMode::NvOwner), 0x220A_0088);
    }

    #[test]
    fn approvals_of_a_card_need_no_index_that_it_has_not() {
        let name = [0; 34];
        for (has_adm, has_puk) in [(false, false), (true, false), (false, true), (true, true)] {
            let names = Names {
                birth: &name,
                pin: &name,
                adm: has_adm.then_some(&name),
                puk: has_puk.then_some(&name),
            };
            for id in ApprovalId::present(CounterMode::Nv, has_adm, has_puk) {
                assert!(id.digest(&names).is_some(), "{id:?}");
            }
            assert_eq!(ApprovalId::P1.digest(&names).is_some(), has_adm);
            assert_eq!(ApprovalId::P4.digest(&names).is_some(), has_puk);
        }
    }

    #[test]
    fn unknown_approval_is_not_parsed() {
        for text in ["", "A2", "p1", "P8", "U4", "P1 ", "I"] {
            assert_eq!(ApprovalId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn templates_of_other_sizes_and_origins_differ_in_their_field_alone() {
        let policy = [7; 32];
        let template = |algorithm, origin| key_template(algorithm, origin, &policy);
        let with = |mut area: Vec<u8>, at: usize, field: &[u8]| {
            area[at..at + field.len()].copy_from_slice(field);
            area
        };
        let p256 = template(KeyAlgorithm::P256, KeyOrigin::Generated);
        let rsa2048 = template(KeyAlgorithm::Rsa2048, KeyOrigin::Generated);
        // type, nameAlg, attributes, size and policy; then symmetric and scheme.
        let (attributes, size) = (4, 2 + 2 + 4 + 2 + 32 + 2 + 2);
        assert_eq!(
            template(KeyAlgorithm::P384, KeyOrigin::Generated),
            with(p256.clone(), size, &[0, 4])
        );
        assert_eq!(
            template(KeyAlgorithm::Rsa3072, KeyOrigin::Generated),
            with(rsa2048, size, &[0x0C, 0])
        );
        assert_eq!(
            template(KeyAlgorithm::P256, KeyOrigin::Imported),
            with(p256, attributes, &[0, 6, 4, 0])
        );
    }
}
