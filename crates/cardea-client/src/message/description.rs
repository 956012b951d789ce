//! Cards, keys and the TPM as the daemon describes them.

use minicbor::{Decode, Encode};

use super::{ObjectKind, Visibility};

/// State of a card as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum CardState {
    /// Usable.
    #[n(0)]
    Ready,
    /// PIN blocked.
    #[n(1)]
    Blocked,
    /// Made by another TPM.
    #[n(2)]
    Foreign,
    /// TPM cleared or an index deleted: can only be removed.
    #[n(3)]
    Lost,
    /// The card file has no valid host HMAC or claims what is another card's.
    #[n(4)]
    NotTrusted,
    /// The card file is damaged or of a newer version.
    #[n(5)]
    Unreadable,
    /// The TPM cannot be reached at the moment.
    #[n(6)]
    TpmAway,
    /// Its file is on a drive that is not there.
    #[n(7)]
    DriveAway,
    /// The TPM's owner hierarchy is switched off until the TPM restarts; then the card is back.
    #[n(8)]
    SwitchedOff,
    /// The TPM does not count wrong PINs as it must; the card is not used.
    #[n(9)]
    UnsafeTpm,
}

/// Whether a TPM counts wrong PINs as cards need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum CounterCheck {
    /// Not tried: there was no card yet.
    #[n(0)]
    Unknown,
    /// It does.
    #[n(1)]
    Good,
    /// It could not be tried; cards are used.
    #[n(2)]
    Outstanding,
    /// It does not; cards are neither made nor used.
    #[n(3)]
    Unsafe,
}

impl CounterCheck {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Outstanding => "outstanding",
            Self::Unknown => "unknown",
            Self::Unsafe => "unsafe",
        }
    }
}

/// What a card can be without, and works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Part {
    /// Nobody can be its administrator.
    #[n(0)]
    Administrator,
    /// The PUK.
    #[n(1)]
    Puk,
}

impl Part {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Puk => "puk",
        }
    }
}

/// What becomes of an attached drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Hold {
    /// Nothing yet.
    #[n(0)]
    Wait,
    /// The daemon needs the open folder, with the next `HoldDrive`.
    #[n(1)]
    Folder,
    /// It was taken out; the connection holds nothing any more.
    #[n(2)]
    Detached,
}

/// A card in a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CardSummary {
    /// Card id, 32 hexadecimal digits.
    #[n(0)]
    pub card_id: String,
    /// `ROOT\SMARTCARDREADER\NNNN`.
    #[n(1)]
    pub instance_id: String,
    /// Name shown to people.
    #[n(2)]
    pub name: String,
    /// Owner's user id.
    #[n(3)]
    pub owner: u32,
    /// State.
    #[n(4)]
    pub state: CardState,
    /// Why it is not `Ready`; empty otherwise.
    #[n(5)]
    pub reason: String,
    /// Slot of the reader; absent = no reader.
    #[n(6)]
    pub slot: Option<u8>,
    /// Name of the PC/SC reader, as pcscd shows it with the default configuration.
    #[n(7)]
    pub reader: Option<String>,
    /// Where its drive is, for people; empty while it is away, absent for a card in the daemon's own folder.
    #[n(8)]
    pub drive: Option<String>,
    /// The machine that it is redirected from; absent = it is here.
    #[n(12)]
    pub from: Option<String>,
    /// Parts that it had and has no more: their indices in the TPM were deleted or replaced.
    #[n(13)]
    pub gone: Vec<Part>,
}

/// Everything about a card.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CardDetails {
    /// As in the list.
    #[n(0)]
    pub summary: CardSummary,
    /// Seconds since 1970-01-01 UTC.
    #[n(1)]
    pub created: u64,
    /// PIN tries left and limit; absent when the TPM cannot say.
    #[n(2)]
    pub pin: Option<Tries>,
    /// PUK tries left and limit; absent without PUK.
    #[n(3)]
    pub puk: Option<Tries>,
    /// Whether the card has an administrator (an admin key somebody knows).
    #[n(4)]
    pub administrator: bool,
    /// Keys.
    #[n(5)]
    pub keys: Vec<KeySummary>,
    /// `nv` or `object`: where wrong PINs are counted.
    #[n(6)]
    pub counter_mode: String,
    /// Warnings for the administrator, in words.
    #[n(7)]
    pub warnings: Vec<String>,
    /// PIN policy, 32 bytes as in MS-TPMVSC; absent = 4 to 127 bytes, any characters.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub pin_policy: Option<[u8; 32]>,
    /// Longest life of a PIN verification in seconds.
    #[n(9)]
    pub session_limit: u32,
    /// Seconds without use after which a PIN verification ends; 0 = never.
    #[n(10)]
    pub idle_limit: u32,
    /// Whether the card waits for its personalisation.
    #[n(11)]
    pub uninitialised: bool,
    /// Whether its PIN is typed at the agent, where programs know how to ask for that.
    #[n(12)]
    pub pin_pad: bool,
    /// When it is in its reader.
    #[n(13)]
    pub visibility: Visibility,
}

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Tries {
    /// Tries left.
    #[n(0)]
    pub left: u32,
    /// Tries after a success.
    #[n(1)]
    pub limit: u32,
}

/// A key of a card.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeySummary {
    /// Key reference, `0x81` to `0x9E`.
    #[n(0)]
    pub reference: u8,
    /// `rsa-2048`, `rsa-3072`, `p-256`, `p-384`.
    #[n(1)]
    pub algorithm: String,
    /// `generated` or `imported`.
    #[n(2)]
    pub origin: String,
    /// `session` (PIN once) or `always` (PIN every time).
    #[n(3)]
    pub pin: String,
    /// Name shown to people; empty without one.
    #[n(4)]
    pub label: String,
    /// Public half.
    #[n(5)]
    pub public: PublicKey,
    /// Whether it has a certificate.
    #[n(6)]
    pub certificate: bool,
    /// Identifier for PKCS#11 clients, 1 to 255 bytes.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub id: Vec<u8>,
    /// Whether the Windows tables offer it for signatures only.
    #[n(8)]
    pub sign_only: bool,
    /// Name of its certificate where that is not the key's.
    #[n(9)]
    pub certificate_label: Option<String>,
    /// Whether it was imported by a version from whose command a recording of the TPM's bus reveals the key.
    #[n(10)]
    pub import_exposed: bool,
}

/// What a card holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Contents {
    /// Keys, in order of their references.
    #[n(0)]
    pub keys: Vec<KeySummary>,
    /// Objects that belong to no key.
    #[n(1)]
    pub objects: Vec<ObjectSummary>,
}

/// An object that belongs to no key, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ObjectSummary {
    /// Constant for its life, unique on the card.
    #[n(0)]
    pub number: u32,
    /// What it is.
    #[n(1)]
    pub kind: ObjectKind,
    /// Name shown to people; may be empty.
    #[n(2)]
    pub label: String,
    /// `CKA_ID` of a certificate, DER of the `CKA_OBJECT_ID` of data.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub id: Vec<u8>,
    /// `CKA_APPLICATION` of data.
    #[n(4)]
    pub application: String,
}

/// The newest audit record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AuditHead {
    /// Its number, from 1; 0 = there is none.
    #[n(0)]
    pub sequence: u64,
    /// SHA-256 of its line, without the line's end.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub hash: Vec<u8>,
}

/// A card as last known.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CardOverview {
    /// Card id, 32 hexadecimal digits; empty for a file that does not tell it.
    #[n(0)]
    pub card_id: String,
    /// Name shown to people.
    #[n(1)]
    pub name: String,
    /// State.
    #[n(2)]
    pub state: CardState,
    /// Why it is not `Ready`; empty otherwise.
    #[n(3)]
    pub reason: String,
    /// Whether the card waits for its personalisation, and has no PIN yet.
    #[n(4)]
    pub uninitialised: bool,
}

/// What a card says of its PINs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CardStatus {
    /// As in the overview.
    #[n(0)]
    pub overview: CardOverview,
    /// PIN tries left and limit; absent when the TPM cannot say.
    #[n(1)]
    pub pin: Option<Tries>,
    /// PUK tries left and limit; absent without PUK.
    #[n(2)]
    pub puk: Option<Tries>,
    /// Whether the card has an administrator (an admin key somebody knows).
    #[n(3)]
    pub administrator: bool,
    /// PIN policy, 32 bytes as in MS-TPMVSC; absent = 4 to 127 bytes, any characters.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub pin_policy: Option<[u8; 32]>,
    /// Whether its PIN is typed at the agent.
    #[n(5)]
    pub pin_pad: bool,
}

/// A public key, numbers big-endian.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PublicKey {
    /// RSA.
    #[n(0)]
    Rsa {
        /// Modulus.
        #[cbor(n(0), with = "minicbor::bytes")]
        modulus: Vec<u8>,
        /// Public exponent.
        #[n(1)]
        exponent: u32,
    },
    /// P-256 or P-384.
    #[n(1)]
    Ec {
        /// Abscissa.
        #[cbor(n(0), with = "minicbor::bytes")]
        x: Vec<u8>,
        /// Ordinate.
        #[cbor(n(1), with = "minicbor::bytes")]
        y: Vec<u8>,
    },
}

/// State of the TPM.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TpmStatus {
    /// Where it is, as given to `--tpm`.
    #[n(0)]
    pub address: String,
    /// Maker, four characters.
    #[n(1)]
    pub manufacturer: String,
    /// Vendor's text.
    #[n(2)]
    pub vendor: String,
    /// Firmware version, two 32-bit halves.
    #[n(3)]
    pub firmware: u64,
    /// Specification revision times 100.
    #[n(4)]
    pub revision: u32,
    /// Slots for loaded objects at least available.
    #[n(5)]
    pub transient_slots: u32,
    /// Failures that count towards the TPM-wide lockout.
    #[n(6)]
    pub lockout_count: u32,
    /// Failures at which the TPM locks.
    #[n(7)]
    pub lockout_max: u32,
    /// Seconds after which one failure is forgotten.
    #[n(8)]
    pub lockout_recovery: u32,
    /// Whether the TPM is locked out.
    #[n(9)]
    pub in_lockout: bool,
    /// Whether an owner authorisation is set.
    #[n(10)]
    pub owner_auth_set: bool,
    /// Whether a lockout authorisation is set.
    #[n(11)]
    pub lockout_auth_set: bool,
    /// Algorithms of keys that cards can have.
    #[n(12)]
    pub algorithms: Vec<String>,
    /// Slots for loaded sessions at least available.
    #[n(13)]
    pub session_slots: u32,
    /// NV indices defined, whoever made them.
    #[n(14)]
    pub nv_indices: u32,
    /// NV indices among them in the range of cards.
    #[n(15)]
    pub card_indices: u32,
    /// Seconds for which a wrong lockout authorisation shuts that authorisation itself.
    #[n(16)]
    pub lockout_auth_recovery: u32,
    /// Whether an endorsement authorisation is set.
    #[n(17)]
    pub endorsement_auth_set: bool,
    /// NV indices of cards that the daemon knows.
    #[n(18)]
    pub known_indices: u32,
    /// How much faster (or slower, below 0) the TPM's clock runs than the host's, in thousandths, by which sessions
    /// end too soon (too late); absent while the daemon has not run long enough to tell.
    #[n(19)]
    pub clock_deviation: Option<i32>,
    /// Hierarchies that a policy opens without their authorisation: `owner`, `endorsement`, `lockout`, `platform`, or
    /// the handle of another; absent = the TPM does not tell.
    #[n(20)]
    pub hierarchy_policies: Option<Vec<String>>,
    /// Whether the owner hierarchy is switched on; switched off, it hides everything of cards until the TPM restarts.
    #[n(21)]
    pub owner_enabled: bool,
    /// Whether it counts wrong PINs as cards need it.
    #[n(22)]
    pub counters: CounterCheck,
    /// Why that is not known, or what is wrong; empty otherwise.
    #[n(23)]
    pub counters_reason: String,
}

/// An NV index in the cards' range.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct IndexSummary {
    /// Its handle.
    #[n(0)]
    pub handle: u32,
    /// Whether it was written; one that was not is left from an interrupted creation.
    #[n(1)]
    pub written: bool,
    /// Id of the card that claims it.
    #[n(2)]
    pub card: Option<String>,
    /// Name of that card.
    #[n(3)]
    pub name: Option<String>,
    /// `pin`, `adm` or `puk`, if a card claims it.
    #[n(4)]
    pub role: Option<String>,
    /// Whether an unfinished operation names it.
    #[n(5)]
    pub unfinished: bool,
    /// Whether it has the form of a card's index; else other software made it.
    #[n(6)]
    pub card_form: bool,
}
