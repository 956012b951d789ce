//! Everything that a card keeps between two starts: the content of a card file.
//!
//! Plain data with a CBOR coding (RFC 8949, maps with small integer keys), no behaviour.
//! Field numbers are never reused; a field added later is optional, and says which format it came with.
//! `docs/formats/card-file.md` describes the same bytes for other programs.
//! The TPM part ([`TpmRecord`]) is written by `cardea-tpm` and opaque to the card applications.
//!
//! No PIN, PUK, admin key or private key is in it in a form that works without the TPM that made it.

use std::fmt;
use std::str::FromStr;

pub use cardea_terms::{CounterMode, IndexRole, Visibility as ReaderVisibility};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Internal identity of a card: 16 random bytes, constant for its life.
///
/// It names the card file, the socket's selectors and later the D-Bus path.
/// The GIDS card id (`DF20` in `A012`) starts equal to it but belongs to the administrator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct CardId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl CardId {
    /// From its 16 bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for CardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", base16ct::HexDisplay(self.as_bytes()))
    }
}

impl fmt::Debug for CardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CardId({self})")
    }
}

/// Text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a card id is 32 hexadecimal digits")]
pub struct CardIdError;

impl FromStr for CardId {
    type Err = CardIdError;

    fn from_str(text: &str) -> Result<Self, CardIdError> {
        let mut bytes = [0; 16];
        match base16ct::mixed::decode(text, &mut bytes) {
            Ok(read) if read.len() == 16 => Ok(Self::new(bytes)),
            _ => Err(CardIdError),
        }
    }
}

/// The whole content of a card file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CardRecord {
    /// Internal identity.
    #[n(0)]
    pub id: CardId,
    /// Name shown to people, 1 to 127 bytes of UTF-8 without control characters.
    #[n(1)]
    pub name: String,
    /// User id of the card's owner.
    #[n(2)]
    pub owner: u32,
    /// Time of creation, seconds since 1970-01-01 UTC.
    #[n(3)]
    pub created: u64,
    /// What the administrator chose.
    #[n(4)]
    pub settings: Settings,
    /// Lengths of PIN and PUK.
    #[n(5)]
    pub lengths: SecretLengths,
    /// The card's objects in its TPM.
    #[n(6)]
    pub tpm: TpmRecord,
    /// The card's keys.
    #[n(7)]
    pub keys: Vec<KeyRecord>,
    /// Files of the card application.
    #[n(8)]
    pub gids: GidsRecord,
    /// Certificates written over the life of the card, renewals included.
    #[n(9)]
    pub certificates_written: u32,
    /// Present only in initialisation state.
    #[n(10)]
    pub provisional: Option<Provisional>,
    /// Objects of PKCS#11 clients that belong to no key, in order of creation.
    #[n(11)]
    pub objects: Option<Vec<ObjectRecord>>,
}

/// Choices of the administrator that bind the engine.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Settings {
    /// PIN policy, 32 bytes as in MS-TPMVSC; absent = 4 to 127 bytes, any characters.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub pin_policy: Option<[u8; 32]>,
    /// When the card is offered over PC/SC.
    #[n(1)]
    pub visibility: ReaderVisibility,
    /// Whether the reader offers a PIN pad.
    #[n(2)]
    pub pin_pad: bool,
    /// Longest life of a PIN verification, in seconds.
    #[n(3)]
    pub session_limit: u32,
    /// Longest time without use after which a PIN verification ends, in seconds; 0 = no limit.
    #[n(4)]
    pub idle_limit: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pin_policy: None,
            visibility: ReaderVisibility::Always,
            pin_pad: false,
            session_limit: 8 * 60 * 60,
            idle_limit: 0,
        }
    }
}

/// Lengths in bytes, needed because CHANGE REFERENCE DATA and RESET RETRY COUNTER carry no delimiter.
///
/// One entry normally; during a change both candidates, newest first, until a verification decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SecretLengths {
    /// Of the PIN.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub pin: Vec<u8>,
    /// Of the PUK; empty without one.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub puk: Vec<u8>,
}

/// The card's objects in its TPM. All Names are SHA-256 Names, `000b ‖ H(public area)`, 34 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TpmRecord {
    /// Where PIN tries are counted.
    #[n(0)]
    pub mode: CounterMode,
    /// The storage root key that the card's keys hang from.
    #[n(1)]
    pub srk: SrkRecord,
    /// Salt of the PIN and PUK authorisation values.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub salt: [u8; 16],
    /// TPMT_PUBLIC of the birth key.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub birth_public: Vec<u8>,
    /// NV indices: PIN always first, then ADM, PUK as present.
    #[n(4)]
    pub indices: Vec<IndexRecord>,
    /// Approved policies.
    #[n(5)]
    pub approvals: Vec<Approval>,
    /// Admin vault; absent on a card without administrator.
    #[n(6)]
    pub vault: Option<Vault>,
    /// The vault before an unfinished rotation.
    #[n(7)]
    pub previous_vault: Option<Vault>,
    /// K ⊕ m, sealed under the ADM index.
    #[n(8)]
    pub sealed_key: Option<ObjectBlob>,
    /// Attestation key, below the storage root key.
    #[n(9)]
    pub attestation_key: Option<ObjectBlob>,
    /// The sealed key that belongs to the vault before an unfinished change of the admin key.
    #[n(10)]
    pub previous_sealed_key: Option<ObjectBlob>,
    /// In object mode: what stands for the indices. In NV mode: counts of a card whose TPM sets its own back, each with
    /// an empty object.
    #[n(11)]
    pub counter_objects: Option<Vec<CounterObject>>,
    /// Policies in an index of their own instead of approved ones, which nobody can change after creation. Format 2.
    #[n(12)]
    pub sealed_policies: Option<SealedPolicies>,
    /// DER certificates of the attestation key, its own first. Format 2.
    #[n(13)]
    pub attestation_chain: Option<Vec<minicbor::bytes::ByteVec>>,
}

impl TpmRecord {
    /// Handles of all NV indices of the card: of its secrets, and of its sealed policies.
    pub fn handles(&self) -> impl Iterator<Item = u32> {
        let indices = self.indices.iter().map(|index| index.handle);
        indices.chain(self.sealed_policies.iter().map(|sealed| sealed.handle))
    }

    /// Whose secrets the card has, in NV indices or in objects.
    pub fn roles(&self) -> impl Iterator<Item = IndexRole> {
        let indices = self.indices.iter().map(|index| index.role);
        let has_objects = self.mode == CounterMode::Object;
        let objects = self.counter_objects.iter().flatten();
        let objects = objects.filter(move |_| has_objects);
        indices.chain(objects.map(|object| object.role))
    }
}

/// The policies of a card's indices as one digest in an index that could be written in one boot of the TPM only.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SealedPolicies {
    /// NV handle, `0x01C2xxxx`.
    #[n(0)]
    pub handle: u32,
    /// How often the TPM had been reset when the card was made.
    #[n(1)]
    pub made_at_reset: u32,
    /// A key that signs only after a later reset, and so testifies that the index can no longer be written.
    #[n(2)]
    pub witness: ObjectBlob,
}

/// An object whose authorisation value is a secret that the TPM's global lockout protects.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CounterObject {
    /// Whose secret it is.
    #[n(0)]
    pub role: IndexRole,
    /// The object, replaced with every new value.
    #[n(1)]
    pub object: ObjectBlob,
    /// Tries after a success.
    #[n(2)]
    pub limit: u32,
    /// Wrong tries since the last success, as far as this file knows.
    #[n(3)]
    pub count: u32,
}

/// The storage root key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SrkRecord {
    /// Persistent handle, `0x81xxxxxx`.
    #[n(0)]
    pub handle: u32,
    /// Its Name.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// TPMT_PUBLIC of the template that re-creates it.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub template: Vec<u8>,
}

/// One PIN_FAIL index.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct IndexRecord {
    /// Whose secret it counts.
    #[n(0)]
    pub role: IndexRole,
    /// NV handle, `0x01C2xxxx`.
    #[n(1)]
    pub handle: u32,
    /// Name once WRITTEN.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// pinLimit.
    #[n(3)]
    pub limit: u32,
}

/// A policy approved by the birth key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Approval {
    /// Its short name: `A0`, `A1`, `P1`–`P7`, `U1`–`U3`, `U6`.
    #[n(0)]
    pub id: String,
    /// The index whose policyRef it carries.
    #[n(1)]
    pub role: IndexRole,
    /// The approved policy digest.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// TPMT_TK_VERIFIED.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub ticket: Vec<u8>,
}

/// A TPM object below the SRK.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ObjectBlob {
    /// Contents of TPM2B_PRIVATE, without its size.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub private: Vec<u8>,
    /// TPMT_PUBLIC, without TPM2B size.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub public: Vec<u8>,
}

/// Answers that the TPM can check without anybody keeping the admin key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Vault {
    /// PBKDF2 rounds.
    #[n(0)]
    pub rounds: u32,
    /// Entries of both kinds.
    #[n(1)]
    pub entries: Vec<VaultEntry>,
    /// HMAC under the admin value.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub tag: [u8; 32],
}

impl Vault {
    /// The entry with this challenge.
    #[must_use]
    pub fn entry(&self, kind: VaultKind, challenge: &[u8]) -> Option<&VaultEntry> {
        self.entries
            .iter()
            .find(|entry| entry.kind == kind && entry.challenge == challenge)
    }

    /// Whether it has an entry with this challenge.
    #[must_use]
    pub fn has(&self, kind: VaultKind, challenge: &[u8]) -> bool {
        self.entry(kind, challenge).is_some()
    }

    /// Answers that are left, of each form.
    #[must_use]
    pub fn left(&self, kind: VaultKind) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.kind == kind)
            .count()
    }
}

/// Form of administrator authentication that an entry serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum VaultKind {
    /// 8-byte challenge, external authentication.
    #[n(0)]
    External,
    /// 16-byte challenge, mutual authentication.
    #[n(1)]
    Mutual,
}

/// One challenge and what its right answer opens.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VaultEntry {
    /// Form.
    #[n(0)]
    pub kind: VaultKind,
    /// Challenge: 8 or 16 bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub challenge: Vec<u8>,
    /// Salt of the answer's key.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub salt: [u8; 16],
    /// X25519 public key of the answer.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub public: [u8; 32],
    /// The admin value, encrypted to `public`: epk ‖ 32 bytes.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub admin_value: Vec<u8>,
    /// m, encrypted to `public` (mutual only): epk ‖ 24 bytes; empty otherwise.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub mask: Vec<u8>,
}

/// A private key of the card.
///
/// Algorithm, class and origin are not stored: they are derived from the public area,
/// whose binding to the private part the TPM checks at every load.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyRecord {
    /// Key reference, `81` to `9E`; the key file is `B0kk`.
    #[n(0)]
    pub reference: u8,
    /// The TPM object.
    #[n(1)]
    pub object: ObjectBlob,
    /// Creation hash (TPM2B contents); empty for an imported key.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub creation_hash: Vec<u8>,
    /// TPMT_TK_CREATION; empty for an imported key.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub creation_ticket: Vec<u8>,
    /// Name shown to people where it is not the container's.
    #[n(4)]
    pub label: Option<String>,
    /// Identifier that a client chose for it.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub client_id: Option<Vec<u8>>,
    /// Name of its certificate, where a client gave it one of its own.
    #[n(6)]
    pub certificate_label: Option<String>,
    /// Whether an imported key came in under an inner wrap. Absent for generated keys, and for those that a version
    /// without it has imported: whoever recorded the TPM's bus at that moment can recover these.
    #[n(7)]
    pub inner_wrapped: Option<bool>,
    /// TPMS_CREATION_DATA of a recoverable key, which alone says below which parent it was made. Format 2.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub creation_data: Option<Vec<u8>>,
    /// Who can bring a recoverable key back, in rising order of the targets' Names; absent for every other key.
    /// It explains the key's policy, which alone decides. Format 2.
    #[n(9)]
    pub recovery: Option<Vec<RecoveryTarget>>,
}

/// Somebody whose private key opens a copy of a recoverable key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RecoveryTarget {
    /// TPMT_PUBLIC of the storage key that stands for it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub public: Vec<u8>,
    /// The key's copy for it: contents of TPM2B_PRIVATE.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub private: Vec<u8>,
    /// What tells it the seed of that copy: contents of TPM2B_ENCRYPTED_SECRET.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub seed: Vec<u8>,
    /// Its certificate, DER, for people to read.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub certificate: Option<Vec<u8>>,
}

/// An object that PKCS#11 clients keep on the card beside its keys. Everybody who sees the card may read it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ObjectRecord {
    /// Constant for its life, unique on the card.
    #[n(0)]
    pub number: u32,
    /// What it is.
    #[n(1)]
    pub kind: ObjectKind,
    /// Name shown to people, at most 255 bytes; may be empty.
    #[n(2)]
    pub label: String,
    /// `CKA_ID` of a certificate, DER of the `CKA_OBJECT_ID` of data; at most 255 bytes.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub id: Vec<u8>,
    /// `CKA_APPLICATION` of data, at most 255 bytes; empty for certificates.
    #[n(4)]
    pub application: String,
    /// DER of a certificate, or the data; at most 64 KiB.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// What an [`ObjectRecord`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ObjectKind {
    /// An X.509 certificate of a key that is not on the card.
    #[n(0)]
    Certificate,
    /// Data of an application.
    #[n(1)]
    Data,
}

/// Files of the GIDS application.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GidsRecord {
    /// Life cycle status byte of the DF: `03` initialisation, `05` operational.
    #[n(0)]
    pub life_cycle: u8,
    /// Elementary files in order of creation.
    #[n(1)]
    pub files: Vec<FileRecord>,
}

/// An elementary file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileRecord {
    /// File identifier.
    #[n(0)]
    pub id: u16,
    /// File descriptor: `39` data objects, `18` key.
    #[n(1)]
    pub descriptor: u8,
    /// Life cycle status byte (GIDS: tag `8A`).
    #[n(2)]
    pub life_cycle: u8,
    /// Access rules, value of tag `8C`; empty forbids everything.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub access: Vec<u8>,
    /// Control reference templates, value of tag `A5`; key files only.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub templates: Vec<u8>,
    /// Data objects in order of creation; data files only.
    #[n(5)]
    pub objects: Vec<DataObject>,
}

/// A data object.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DataObject {
    /// BER tag as an integer of its 1 to 3 bytes, for example `0xDF1F`.
    #[n(0)]
    pub tag: u32,
    /// Value, at most 16 KiB.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// Random first values of a card left in initialisation state; removed at activation.
///
/// Each goes as soon as the TPM is known to have another value: one that is still here may open its index.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(map)]
pub struct Provisional {
    /// Authorisation value of the PIN index.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub pin: Option<[u8; 32]>,
    /// Authorisation value of the ADM index.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub adm: Option<[u8; 32]>,
    /// Authorisation value of the PUK index, if there is one.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub puk: Option<[u8; 32]>,
}

impl fmt::Debug for Provisional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provisional")
    }
}
