//! What clients ask.

use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::{MAX_NAME, Reply, SIGN_OF_LIFE, packed};

use super::{
    AdminAnswer, Authority, CardOverview, CreateCard, Hierarchy, NewKey, NewObject, Operation,
    PowerAction, PrivateKey, Reference, SecretBytes, Thing, Visibility,
};

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
        /// The TPM's owner authorisation, where one is set.
        #[n(1)]
        owner_auth: Option<SecretBytes>,
    },
    /// Replaces PIN or PUK by a new one.
    #[n(4)]
    ChangePin {
        /// Which card.
        #[n(0)]
        card: String,
        /// Present value.
        #[n(1)]
        old: SecretBytes,
        /// New value.
        #[n(2)]
        new: SecretBytes,
        /// Which of the two.
        #[n(3)]
        reference: Reference,
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
    /// Compares PIN or PUK, and keeps nothing of it.
    #[n(11)]
    VerifyPin {
        /// Which card.
        #[n(0)]
        card: String,
        /// What was typed.
        #[n(1)]
        value: SecretBytes,
        /// Which of the two.
        #[n(2)]
        reference: Reference,
    },
    /// Sets a new PIN, and gives it its tries back.
    #[n(12)]
    UnblockPin {
        /// Which card.
        #[n(0)]
        card: String,
        /// On whose word.
        #[n(1)]
        by: Authority,
        /// New PIN.
        #[n(2)]
        new: SecretBytes,
    },
    /// A challenge for the administrator, 8 bytes: [`Reply::Challenge`]. It stays good until it is answered.
    #[n(13)]
    AdminChallenge {
        /// Which card.
        #[n(0)]
        card: String,
    },
    /// Judges an administrator's answer, and keeps nothing of it.
    #[n(14)]
    VerifyAdmin {
        /// Which card.
        #[n(0)]
        card: String,
        /// Challenge and answer.
        #[n(1)]
        answer: AdminAnswer,
    },
    /// Sets a new admin key.
    #[n(15)]
    ChangeAdminKey {
        /// Which card.
        #[n(0)]
        card: String,
        /// Challenge and answer.
        #[n(1)]
        answer: AdminAnswer,
        /// 24-byte 3DES key.
        #[n(2)]
        new: SecretBytes,
    },
    /// Makes a key in the TPM: [`Reply::Key`].
    #[n(16)]
    GenerateKey {
        /// Which card.
        #[n(0)]
        card: String,
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(1)]
        pin: Option<SecretBytes>,
        /// What it is to be.
        #[n(2)]
        key: NewKey,
        /// `rsa-2048`, `rsa-3072`, `p-256`, `p-384`.
        #[n(3)]
        algorithm: String,
    },
    /// Imports a key that was made elsewhere: [`Reply::Key`].
    #[n(17)]
    ImportKey {
        /// Which card.
        #[n(0)]
        card: String,
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(1)]
        pin: Option<SecretBytes>,
        /// What it is to be.
        #[n(2)]
        key: NewKey,
        /// Its numbers.
        #[n(3)]
        material: PrivateKey,
    },
    /// Deletes a key and its certificate.
    #[n(18)]
    DeleteKey {
        /// Which card.
        #[n(0)]
        card: String,
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(1)]
        pin: Option<SecretBytes>,
        /// Key reference.
        #[n(2)]
        reference: u8,
    },
    /// Uses a key: [`Reply::Result`].
    #[n(19)]
    UseKey {
        /// Which card.
        #[n(0)]
        card: String,
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(1)]
        pin: Option<SecretBytes>,
        /// Key reference.
        #[n(2)]
        reference: u8,
        /// What to do.
        #[n(3)]
        operation: Operation,
    },
    /// The certificate of a key: [`Reply::Certificate`].
    #[n(20)]
    ReadCertificate {
        /// Which card.
        #[n(0)]
        card: String,
        /// Key reference.
        #[n(1)]
        reference: u8,
    },
    /// Stores the certificate of a key in place of an earlier one.
    #[n(21)]
    StoreCertificate {
        /// Which card.
        #[n(0)]
        card: String,
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(1)]
        pin: Option<SecretBytes>,
        /// Key reference.
        #[n(2)]
        reference: u8,
        /// DER, at most 64 KiB.
        #[cbor(n(3), with = "minicbor::bytes")]
        der: Vec<u8>,
        /// Name of its own, 1 to 127 bytes without control characters; absent = the key's.
        #[n(4)]
        label: Option<String>,
    },
    /// Removes the certificate of a key.
    #[n(22)]
    DeleteCertificate {
        /// Which card.
        #[n(0)]
        card: String,
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(1)]
        pin: Option<SecretBytes>,
        /// Key reference.
        #[n(2)]
        reference: u8,
    },
    /// Sets an authorisation of the TPM, and empties the policy of its hierarchy and that of the endorsement hierarchy:
    /// what was set before would open them all the same.
    #[n(23)]
    SetHierarchyAuth {
        /// Which one.
        #[n(0)]
        hierarchy: Hierarchy,
        /// Present value; empty = none is set.
        #[n(1)]
        old: SecretBytes,
        /// New value, at most 32 bytes.
        #[n(2)]
        new: SecretBytes,
    },
    /// Forgets all failures that count towards the TPM-wide lockout, and ends it.
    #[n(24)]
    ResetLockout {
        /// Lockout authorisation; empty = none is set.
        #[n(0)]
        auth: SecretBytes,
    },
    /// Sets when the TPM locks, and for how long.
    #[n(25)]
    SetLockoutParameters {
        /// Lockout authorisation; empty = none is set.
        #[n(0)]
        auth: SecretBytes,
        /// Failures at which it locks.
        #[n(1)]
        max_tries: u32,
        /// Seconds after which one failure is forgotten.
        #[n(2)]
        recovery: u32,
        /// Seconds for which a wrong lockout authorisation shuts that authorisation itself.
        #[n(3)]
        lockout_recovery: u32,
    },
    /// Every NV index in the cards' range: [`Reply::Indices`].
    #[n(26)]
    ListIndices,
    /// Removes an index that no known card or unfinished operation claims.
    #[n(27)]
    RemoveIndex {
        /// Its handle.
        #[n(0)]
        handle: u32,
        /// The TPM's owner authorisation, where one is set.
        #[n(1)]
        owner_auth: Option<SecretBytes>,
    },
    /// Verifies the PIN for this connection, until `Logout`, its end or a limit of the card.
    #[n(28)]
    Login {
        /// Which card.
        #[n(0)]
        card: String,
        /// What was typed.
        #[n(1)]
        pin: SecretBytes,
    },
    /// Ends what `Login` has verified on this connection.
    #[n(29)]
    Logout {
        /// Which card.
        #[n(0)]
        card: String,
    },
    /// The cards that the caller may use and their states as last known, without asking the TPM:
    /// [`Reply::Overview`].
    #[n(30)]
    CardStates,
    /// As `CardStates`, but waits until the generation differs from the given one, or the time is over.
    #[n(31)]
    WaitCardStates {
        /// Generation known to the caller; 0 is never current.
        #[n(0)]
        generation: u64,
        /// Longest wait in milliseconds; the daemon may answer earlier.
        #[n(1)]
        timeout_ms: u32,
    },
    /// What a card says of its PINs, as last known: [`Reply::Status`].
    #[n(32)]
    CardStatus {
        /// Which card.
        #[n(0)]
        card: String,
    },
    /// Keys and objects of a card: [`Reply::Contents`].
    #[n(33)]
    CardContents {
        /// Which card.
        #[n(0)]
        card: String,
        /// Revision known to the caller; 0 is never current.
        #[n(1)]
        known: u64,
    },
    /// The content of an object: [`Reply::Certificate`], whatever it is.
    #[n(34)]
    ReadObject {
        /// Which card.
        #[n(0)]
        card: String,
        /// The object's number.
        #[n(1)]
        number: u32,
    },
    /// Keeps an object that belongs to no key: [`Reply::Object`].
    #[n(35)]
    StoreObject {
        /// Which card.
        #[n(0)]
        card: String,
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(1)]
        pin: Option<SecretBytes>,
        /// What it is.
        #[n(2)]
        object: NewObject,
    },
    /// Gives a key or an object another name or identifier.
    #[n(36)]
    Rename {
        /// Which card.
        #[n(0)]
        card: String,
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(1)]
        pin: Option<SecretBytes>,
        /// What is renamed.
        #[n(2)]
        thing: Thing,
        /// The new name; absent = as it is.
        #[n(3)]
        label: Option<String>,
        /// The new identifier; absent = as it is.
        #[cbor(n(4), with = "minicbor::bytes")]
        id: Option<Vec<u8>>,
    },
    /// Deletes an object.
    #[n(37)]
    DeleteObject {
        /// Which card.
        #[n(0)]
        card: String,
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(1)]
        pin: Option<SecretBytes>,
        /// The object's number.
        #[n(2)]
        number: u32,
    },
    /// 32 bytes of the TPM's random number generator: [`Reply::Result`].
    #[n(38)]
    Random,
    /// A ticket by which other connections of the same program share the logins of this one: [`Reply::Result`].
    #[n(39)]
    ShareLogins,
    /// This connection has the logins of the one that got the ticket, instead of its own.
    #[n(40)]
    JoinLogins {
        /// As given to `ShareLogins` on another connection of the same user.
        #[n(0)]
        ticket: SecretBytes,
    },
    /// Judges an admin key, as `VerifyAdmin` does an answer.
    #[n(41)]
    VerifyAdminKey {
        /// Which card.
        #[n(0)]
        card: String,
        /// 24-byte 3DES key.
        #[n(1)]
        key: SecretBytes,
    },
    /// Whole audit records: [`Reply::Audit`].
    #[n(42)]
    ReadAudit {
        /// Where to begin, in bytes: 0 or the `next` of an earlier answer.
        #[n(0)]
        offset: u64,
        /// Bytes at most.
        #[n(1)]
        most: u32,
    },
    /// A control code of PC/SC part 10 to the reader with the card in a slot: [`Reply::Response`].
    #[n(43)]
    Control {
        /// Slot number from 0.
        #[n(0)]
        slot: u8,
        /// Control code.
        #[n(1)]
        code: u32,
        /// Its data.
        #[cbor(n(2), with = "minicbor::bytes")]
        data: Vec<u8>,
    },
    /// As `Login`, with the PIN typed at the agent of the caller.
    #[n(44)]
    LoginByAgent {
        /// Which card.
        #[n(0)]
        card: String,
    },
    /// As `ChangePin`, with both values typed at the agent of the caller.
    #[n(45)]
    ChangePinByAgent {
        /// Which card.
        #[n(0)]
        card: String,
        /// Which of the two.
        #[n(1)]
        reference: Reference,
    },
    /// Changes what the administrator has chosen for a card.
    #[n(46)]
    ConfigureCard {
        /// Which card.
        #[n(0)]
        card: String,
        /// Whether its PIN can be typed at the agent only; absent = as it is.
        #[n(1)]
        pin_pad: Option<bool>,
        /// When it is in its reader; absent = as it is.
        #[n(2)]
        visibility: Option<Visibility>,
    },
    /// Inserts the cards in a folder of a drive for as long as this connection lives: [`Reply::Drive`].
    /// With the open folder as a descriptor, which the daemon closes before it answers: one that stayed open
    /// would keep the drive from being unmounted.
    #[n(47)]
    AttachDrive {
        /// Where the folder is, for people.
        #[n(0)]
        place: String,
    },
    /// Waits until the daemon needs the folder of `AttachDrive` again, or the time is over: [`Reply::Hold`].
    /// With the open folder as a descriptor if the last answer has asked for it.
    #[n(48)]
    HoldDrive {
        /// Longest wait in milliseconds; the daemon may answer earlier.
        #[n(0)]
        timeout_ms: u32,
    },
    /// Takes the drive of a card out.
    #[n(49)]
    DetachDrive {
        /// Which card.
        #[n(0)]
        card: String,
    },
    /// Makes a card this system's own whose file another system on this computer's TPM has written:
    /// [`Reply::Card`].
    #[n(50)]
    AdoptCard {
        /// Which card.
        #[n(0)]
        card: String,
        /// Owner's user id from now on; absent = as it is.
        #[n(1)]
        owner: Option<u32>,
    },
    /// The cards of another machine are to be had here, for the caller: [`Reply::Redirected`]. From then on the
    /// daemon asks on this connection ([`Reply::Wanted`], [`Reply::Released`]), and the caller sends nothing but
    /// `Offer` and `Answered`.
    #[n(53)]
    Redirect {
        /// Where the cards are, for people.
        #[n(0)]
        from: String,
        /// Whether they may be in the reader, which all users of this machine reach.
        #[n(1)]
        reader: bool,
    },
    /// All cards that are redirected now. Sent again every [`SIGN_OF_LIFE`].
    #[n(54)]
    Offer {
        /// As last known where they are.
        #[n(0)]
        cards: Vec<CardOverview>,
    },
    /// Answers a [`Reply::Wanted`].
    #[n(55)]
    Answered {
        /// The same number.
        #[n(0)]
        program: u32,
        /// A [`Reply`], as [`packed`] makes it.
        #[n(1)]
        reply: SecretBytes,
    },
    /// Whom the further requests of this connection are for, in the words of its user: shown to whoever is asked,
    /// and in the audit.
    #[n(56)]
    OnBehalf {
        /// Printable, at most [`MAX_NAME`] bytes.
        #[n(0)]
        whom: String,
    },
    /// Has the agent of the caller ask whether something may be done.
    #[n(57)]
    AskConsent {
        /// Which card.
        #[n(0)]
        card: String,
        /// What, as in "wants to: …".
        #[n(1)]
        action: String,
    },
    /// As `Power`, for a card of the caller's own, in a reader or not: binds this connection to it for APDUs.
    #[n(58)]
    PowerCard {
        /// Which card.
        #[n(0)]
        card: String,
        /// What to do.
        #[n(1)]
        action: PowerAction,
    },
    /// A command APDU to the card that `PowerCard` has bound: [`Reply::Response`].
    #[n(59)]
    TransmitCard {
        /// Which card.
        #[n(0)]
        card: String,
        /// Command APDU.
        #[n(1)]
        apdu: SecretBytes,
    },
    /// VERIFY with a PIN that is typed at the agent of the caller, for the card that `PowerCard` has bound:
    /// [`Reply::Response`], a status word.
    #[n(60)]
    EnterPin {
        /// Which card.
        #[n(0)]
        card: String,
        /// Time for typing it.
        #[n(1)]
        seconds: u32,
    },
    /// Whether the TPM has room for one more card: indices are defined and undefined again. `Done`, or
    /// `Failed` with kind `Full`.
    #[n(61)]
    TryRoom,
    /// What is chosen for cards whose creator chooses nothing: [`Reply::Defaults`].
    #[n(62)]
    CreationDefaults,
}

impl Request {
    /// The card that it is about.
    #[must_use]
    pub fn card(&self) -> Option<&str> {
        match self {
            Self::ShowCard { card }
            | Self::DestroyCard { card, .. }
            | Self::ChangePin { card, .. }
            | Self::VerifyPin { card, .. }
            | Self::UnblockPin { card, .. }
            | Self::AdminChallenge { card }
            | Self::VerifyAdmin { card, .. }
            | Self::ChangeAdminKey { card, .. }
            | Self::GenerateKey { card, .. }
            | Self::ImportKey { card, .. }
            | Self::DeleteKey { card, .. }
            | Self::UseKey { card, .. }
            | Self::ReadCertificate { card, .. }
            | Self::StoreCertificate { card, .. }
            | Self::DeleteCertificate { card, .. }
            | Self::Login { card, .. }
            | Self::Logout { card }
            | Self::CardStatus { card }
            | Self::CardContents { card, .. }
            | Self::ReadObject { card, .. }
            | Self::StoreObject { card, .. }
            | Self::Rename { card, .. }
            | Self::DeleteObject { card, .. }
            | Self::VerifyAdminKey { card, .. }
            | Self::LoginByAgent { card }
            | Self::ChangePinByAgent { card, .. }
            | Self::ConfigureCard { card, .. }
            | Self::AskConsent { card, .. }
            | Self::PowerCard { card, .. }
            | Self::TransmitCard { card, .. }
            | Self::EnterPin { card, .. }
            | Self::DetachDrive { card }
            | Self::AdoptCard { card, .. } => Some(card),
            Self::ListCards
            | Self::CreateCard(_)
            | Self::TpmStatus
            | Self::ReaderInfo
            | Self::SlotStates
            | Self::WaitSlotStates { .. }
            | Self::Power { .. }
            | Self::Transmit { .. }
            | Self::SetHierarchyAuth { .. }
            | Self::ResetLockout { .. }
            | Self::SetLockoutParameters { .. }
            | Self::ListIndices
            | Self::RemoveIndex { .. }
            | Self::CardStates
            | Self::WaitCardStates { .. }
            | Self::Random
            | Self::ShareLogins
            | Self::JoinLogins { .. }
            | Self::ReadAudit { .. }
            | Self::Control { .. }
            | Self::Redirect { .. }
            | Self::Offer { .. }
            | Self::Answered { .. }
            | Self::OnBehalf { .. }
            | Self::TryRoom
            | Self::CreationDefaults
            | Self::AttachDrive { .. }
            | Self::HoldDrive { .. } => None,
        }
    }
}
