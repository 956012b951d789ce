//! Requests and replies, coded as CBOR (RFC 8949), one per frame.
//!
//! A frame is a length (4 bytes, big-endian, at most [`MAX_FRAME`]) and that many bytes of CBOR.
//! The first frame in each direction is [`Hello`]; a daemon of another version answers its own and closes.
//! Then every [`Request`] is answered by any number of [`Reply::Progress`] and one other reply.

use std::fmt;

use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Version of this vocabulary; both ends must have the same.
pub const VERSION: u32 = 1;

/// First field of [`Hello`].
pub const MAGIC: &str = "cardea";

/// Longest frame in bytes, without its length field.
/// The longest message is an extended APDU of 65,544 bytes.
pub const MAX_FRAME: usize = 128 * 1024;

/// Greeting, sent once by each end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Always [`MAGIC`].
    #[n(0)]
    pub magic: String,
    /// [`VERSION`] of the sender.
    #[n(1)]
    pub version: u32,
}

/// Secret bytes in a message: erased on drop, never printed.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(transparent)]
pub struct SecretBytes(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

impl SecretBytes {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes. Callers do not keep copies.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

/// What a client may ask. `card` is a card id, an unambiguous beginning of it, an instance id or a name.
#[derive(Debug, Encode, Decode)]
pub enum Request {
    /// All cards that the caller may see.
    #[n(0)]
    ListCards,
    /// One card in full.
    #[n(1)]
    ShowCard {
        /// Which card.
        #[n(0)]
        card: String,
    },
    /// Makes a card.
    #[n(2)]
    CreateCard(#[n(0)] CreateCard),
    /// Destroys a card, or removes one that is lost.
    #[n(3)]
    DestroyCard {
        /// Which card.
        #[n(0)]
        card: String,
    },
    /// Replaces the PIN by a new one.
    #[n(4)]
    ChangePin {
        /// Which card.
        #[n(0)]
        card: String,
        /// Present PIN.
        #[n(1)]
        old: SecretBytes,
        /// New PIN.
        #[n(2)]
        new: SecretBytes,
    },
    /// State of the TPM.
    #[n(5)]
    TpmStatus,
    /// Daemon's settings that matter to the reader: number of slots.
    #[n(6)]
    ReaderInfo,
    /// Which slots hold a card, and the generation of that answer.
    #[n(7)]
    SlotStates,
    /// As `SlotStates`, but waits until the generation differs from the given one, or the time is over.
    #[n(8)]
    WaitSlotStates {
        /// Generation known to the caller; 0 is never current.
        #[n(0)]
        generation: u64,
        /// Longest wait in milliseconds; the daemon may answer earlier.
        #[n(1)]
        timeout_ms: u32,
    },
    /// Power of the card in a slot: binds this connection to it.
    #[n(9)]
    Power {
        /// Slot number from 0.
        #[n(0)]
        slot: u8,
        /// What to do.
        #[n(1)]
        action: PowerAction,
    },
    /// A command APDU to the card in a slot.
    #[n(10)]
    Transmit {
        /// Slot number from 0.
        #[n(0)]
        slot: u8,
        /// Command APDU.
        #[n(1)]
        apdu: SecretBytes,
    },
}

/// Power events of ISO/IEC 7816-3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum PowerAction {
    /// Power down.
    #[n(0)]
    Down,
    /// Cold or warm reset.
    #[n(1)]
    Reset,
    /// Power up.
    #[n(2)]
    Up,
}

/// Parameters of a new card.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct CreateCard {
    /// Name shown to people, 1 to 127 bytes of UTF-8 without control characters.
    #[n(0)]
    pub name: String,
    /// The first PIN.
    #[n(1)]
    pub pin: SecretBytes,
    /// PUK, if the card is to have one.
    #[n(2)]
    pub puk: Option<SecretBytes>,
    /// 24-byte 3DES admin key; absent = random and discarded, a card without administrator.
    #[n(3)]
    pub admin_key: Option<SecretBytes>,
    /// Leave the file system out (blank card).
    #[n(4)]
    pub blank: bool,
    /// Owner's user id; absent = the caller's.
    #[n(5)]
    pub owner: Option<u32>,
}

/// What the daemon answers.
#[derive(Debug, Encode, Decode)]
pub enum Reply {
    /// Done, nothing to say.
    #[n(0)]
    Done,
    /// Refused or failed.
    #[n(1)]
    Failed(#[n(0)] Failure),
    /// A long operation goes on: what is being done, in words.
    #[n(2)]
    Progress(#[n(0)] String),
    /// Answer to `ListCards`.
    #[n(3)]
    Cards(#[n(0)] Vec<CardSummary>),
    /// Answer to `ShowCard` and `CreateCard`.
    #[n(4)]
    Card(#[n(0)] Box<CardDetails>),
    /// Answer to `TpmStatus`.
    #[n(5)]
    Tpm(#[n(0)] TpmStatus),
    /// Answer to `ReaderInfo`.
    #[n(6)]
    Reader {
        /// Number of slots.
        #[n(0)]
        slots: u8,
    },
    /// Answer to `SlotStates` and `WaitSlotStates`.
    #[n(7)]
    Slots {
        /// Changes whenever any slot changes.
        #[n(0)]
        generation: u64,
        /// One entry per slot: a number that identifies the insertion, 0 = empty.
        #[n(1)]
        inserted: Vec<u64>,
    },
    /// Answer to `Power` (up and reset): the ATR.
    #[n(8)]
    Atr(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Answer to `Transmit`: response APDU.
    #[n(9)]
    Response(#[n(0)] SecretBytes),
}

/// A refusal or failure, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Failure {
    /// What programs act on.
    #[n(0)]
    pub kind: FailureKind,
    /// For people: lower case, no full stop, says what to do next.
    #[n(1)]
    pub message: String,
    /// Tries left, with `PinWrong`.
    #[n(2)]
    pub tries_left: Option<u32>,
}

/// Kinds of failure; the CLI's exit codes follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum FailureKind {
    /// More than one card fits the selector.
    #[n(0)]
    Ambiguous,
    /// PIN or PUK blocked.
    #[n(1)]
    Blocked,
    /// No resources at the moment.
    #[n(2)]
    Busy,
    /// The caller may not do this.
    #[n(3)]
    Denied,
    /// Another failure.
    #[n(4)]
    Failed,
    /// A value that the daemon does not accept.
    #[n(5)]
    Invalid,
    /// The card's TPM objects are gone or belong to another TPM.
    #[n(6)]
    Lost,
    /// No such card, or no card in the slot.
    #[n(7)]
    NotFound,
    /// No TPM, or it does not answer.
    #[n(8)]
    NoTpm,
    /// No room in the TPM.
    #[n(9)]
    Full,
    /// PIN or PUK wrong.
    #[n(10)]
    PinWrong,
    /// Not a message of this version.
    #[n(11)]
    Protocol,
    /// The TPM is locked out for a while.
    #[n(12)]
    Lockout,
}

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
}
