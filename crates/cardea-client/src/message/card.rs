//! Requests about one card, and what describes a card.

use cardea_terms::{CounterMode, KeyAlgorithm, KeyClass, Visibility};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::Reply;

use super::{
    KeySummary, NewKey, NewObject, Operation, PowerAction, PrivateKey, SecretBytes,
    SessionKeyMaterial, Thing,
};

/// What a client may ask about one card.
#[derive(Debug, Encode, Decode)]
pub enum CardRequest {
    /// The card in full: [`Reply::Card`].
    #[n(0)]
    Show,
    /// A challenge for the administrator, 8 bytes: [`Reply::Challenge`]. It is valid until it is answered.
    #[n(1)]
    AdminChallenge,
    /// Takes the card over for this system, if another system on this computer's TPM has written its file:
    /// [`Reply::Card`].
    #[n(2)]
    Adopt {
        /// Owner's user id from now on; absent = unchanged.
        #[n(0)]
        owner: Option<u32>,
    },
    /// Has the caller's agent ask whether something may be done.
    #[n(3)]
    AskConsent {
        /// What, as in "wants to …".
        #[n(0)]
        action: String,
    },
    /// Sets a new admin key.
    #[n(4)]
    ChangeAdminKey {
        /// Challenge and answer.
        #[n(0)]
        answer: AdminAnswer,
        /// 24-byte 3DES key.
        #[n(1)]
        new: SecretBytes,
    },
    /// Replaces PIN or PUK by a new one.
    #[n(5)]
    ChangePin {
        /// Present value.
        #[n(0)]
        old: SecretBytes,
        /// New value.
        #[n(1)]
        new: SecretBytes,
        /// Which of the two.
        #[n(2)]
        reference: Reference,
    },
    /// Like `ChangePin`, with both values entered at the caller's agent.
    #[n(6)]
    ChangePinByAgent {
        /// Which of the two.
        #[n(0)]
        reference: Reference,
    },
    /// Changes what the administrator has chosen for the card.
    #[n(7)]
    Configure {
        /// Whether its PIN can be entered at the agent only; absent = unchanged.
        #[n(0)]
        pin_pad: Option<bool>,
        /// When it is in its reader; absent = unchanged.
        #[n(1)]
        visibility: Option<Visibility>,
    },
    /// Keys and objects of the card: [`Reply::Contents`].
    #[n(8)]
    Contents {
        /// Revision known to the caller; 0 is never current.
        #[n(0)]
        known: u64,
    },
    /// Removes the certificate of a key.
    #[n(9)]
    DeleteCertificate {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// Key reference.
        #[n(1)]
        reference: u8,
    },
    /// Deletes a key and its certificate.
    #[n(10)]
    DeleteKey {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// Key reference.
        #[n(1)]
        reference: u8,
    },
    /// Deletes an object.
    #[n(11)]
    DeleteObject {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// The object's number.
        #[n(1)]
        number: u32,
    },
    /// Destroys the card, or removes one that is lost.
    #[n(12)]
    Destroy {
        /// The TPM's owner authorisation, where one is set.
        #[n(0)]
        owner_auth: Option<SecretBytes>,
    },
    /// Detaches the card's drive.
    #[n(13)]
    DetachDrive,
    /// VERIFY with a PIN that is entered at the caller's agent, for the card that `Power` has bound:
    /// [`Reply::Response`], a status word.
    #[n(14)]
    EnterPin {
        /// Time for entering it.
        #[n(0)]
        seconds: u32,
    },
    /// Generates a key in the TPM: [`Reply::Key`].
    #[n(15)]
    GenerateKey {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// Its name and use.
        #[n(1)]
        key: NewKey,
        /// Algorithm and size.
        #[n(2)]
        algorithm: KeyAlgorithm,
    },
    /// Imports a key that was generated elsewhere: [`Reply::Key`].
    #[n(16)]
    ImportKey {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// Its name and use.
        #[n(1)]
        key: NewKey,
        /// Its numbers.
        #[n(2)]
        material: PrivateKey,
    },
    /// Verifies the PIN for this connection, until `Logout`, its end or a limit of the card.
    #[n(17)]
    Login {
        /// What was typed.
        #[n(0)]
        pin: SecretBytes,
    },
    /// Like `Login`, with the PIN entered at the caller's agent.
    #[n(18)]
    LoginByAgent,
    /// Ends what `Login` has verified on this connection.
    #[n(19)]
    Logout,
    /// Like the power of a slot, for a card of the caller, in a reader or not: binds this connection to it for APDUs.
    #[n(20)]
    Power {
        /// What to do.
        #[n(0)]
        action: PowerAction,
    },
    /// The certificate of a key: [`Reply::Certificate`].
    #[n(21)]
    ReadCertificate {
        /// Key reference.
        #[n(0)]
        reference: u8,
    },
    /// The content of an object: [`Reply::Certificate`], whatever its kind.
    #[n(22)]
    ReadObject {
        /// The object's number.
        #[n(0)]
        number: u32,
    },
    /// Changes the name or identifier of a key or an object.
    #[n(23)]
    Rename {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// What is renamed.
        #[n(1)]
        thing: Thing,
        /// The new name; absent = unchanged.
        #[n(2)]
        label: Option<String>,
        /// The new identifier; absent = unchanged.
        #[cbor(n(3), with = "minicbor::bytes")]
        id: Option<Vec<u8>>,
    },
    /// What the card says of its PINs, as last known: [`Reply::Status`].
    #[n(24)]
    Status,
    /// Stores the certificate of a key in place of an earlier one.
    #[n(25)]
    StoreCertificate {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// Key reference.
        #[n(1)]
        reference: u8,
        /// DER, at most 65,535 bytes, and 16 KiB when it is compressed.
        #[cbor(n(2), with = "minicbor::bytes")]
        der: Vec<u8>,
        /// Its name, 1 to 127 bytes without control characters; absent = the key's.
        #[n(3)]
        label: Option<String>,
    },
    /// Stores an object that belongs to no key: [`Reply::Object`].
    #[n(26)]
    StoreObject {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// The object.
        #[n(1)]
        object: NewObject,
    },
    /// A command APDU to the card that `Power` has bound: [`Reply::Response`].
    #[n(27)]
    Transmit {
        /// Command APDU.
        #[n(0)]
        apdu: SecretBytes,
    },
    /// Sets a new PIN and resets its tries.
    #[n(28)]
    UnblockPin {
        /// By whose authority.
        #[n(0)]
        by: Authority,
        /// New PIN.
        #[n(1)]
        new: SecretBytes,
    },
    /// Uses a key: [`Reply::Result`].
    #[n(29)]
    UseKey {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// Key reference.
        #[n(1)]
        reference: u8,
        /// What to do.
        #[n(2)]
        operation: Operation,
    },
    /// Checks an administrator's answer; nothing stays verified.
    #[n(30)]
    VerifyAdmin {
        /// Challenge and answer.
        #[n(0)]
        answer: AdminAnswer,
    },
    /// Checks an admin key; nothing stays verified.
    #[n(31)]
    VerifyAdminKey {
        /// 24-byte 3DES key.
        #[n(0)]
        key: SecretBytes,
    },
    /// Compares PIN or PUK; nothing stays verified.
    #[n(32)]
    VerifyPin {
        /// What was typed.
        #[n(0)]
        value: SecretBytes,
        /// Which of the two.
        #[n(1)]
        reference: Reference,
    },
    /// Deletes a session key that this program has made.
    #[n(33)]
    DeleteSessionKey {
        /// Its name.
        #[n(0)]
        key: u64,
    },
    /// Makes a session key: a private key that this program has until it ends or sends `Logout`, and that is never
    /// stored: [`Reply::SessionKey`]. Needs `Login` on this connection.
    #[n(34)]
    MakeSessionKey {
        /// Whether the PIN is asked for once or before every use.
        #[n(0)]
        class: KeyClass,
        /// What it is made of.
        #[n(1)]
        material: SessionKeyMaterial,
    },
    /// Makes a session key one of the card's keys, too: [`Reply::Key`]. Needs `Login` on this connection.
    #[n(36)]
    KeepSessionKey {
        /// Its name.
        #[n(0)]
        key: u64,
        /// What it is on the card; the class is the session key's.
        #[n(1)]
        new: NewKey,
    },
    /// Gives the card another name.
    #[n(37)]
    RenameCard {
        /// 1 to 127 bytes; see `cardea_terms::invalid_card_name`.
        #[n(0)]
        name: String,
    },
    /// Like `GenerateKey`, with a copy of the key for each of these recovery keys, which its holder can open:
    /// [`Reply::Key`]. A request of its own, so that a daemon that knows nothing of it does not make an ordinary key.
    #[n(38)]
    GenerateRecoverableKey {
        /// The card's PIN; absent = verified by `Login` on this connection.
        #[n(0)]
        pin: Option<SecretBytes>,
        /// Its name and use.
        #[n(1)]
        key: NewKey,
        /// Algorithm and size.
        #[n(2)]
        algorithm: KeyAlgorithm,
        /// Certificates of the recovery keys, DER: 1 to 7, of different keys on P-256, of at most 8192 bytes each.
        #[n(3)]
        certificates: Vec<ByteVec>,
    },
    /// A part of the card's file, for a copy of it: [`Reply::File`].
    #[n(39)]
    ReadFile {
        /// Where it begins.
        #[n(0)]
        offset: u64,
    },
    /// Makes an attestation key for a card that has none.
    #[n(40)]
    MakeAttestationKey,
    /// What an authority is asked for a certificate of the card's attestation key, as `cardea-ak-request-1`:
    /// [`Reply::Attestation`].
    #[n(41)]
    RequestAttestation,
    /// Opens what an authority has encrypted for this card and this TPM: [`Reply::Attestation`], as `cardea-ak-answer-1`.
    #[n(42)]
    AnswerAttestation {
        /// `cardea-ak-challenge-1`.
        #[cbor(n(0), with = "minicbor::bytes")]
        challenge: Vec<u8>,
    },
    /// Keeps the certificates of the card's attestation key.
    #[n(43)]
    StoreAttestation {
        /// DER, its own first; none removes those that there are.
        #[n(0)]
        certificates: Vec<ByteVec>,
    },
    /// The card's evidence, as docs/design/attestation.md has it: [`Reply::Evidence`].
    #[n(44)]
    Evidence {
        /// The verifier's, at most 64 bytes.
        #[cbor(n(0), with = "minicbor::bytes")]
        nonce: Vec<u8>,
        /// References of the keys that it is about; absent = all.
        #[cbor(n(1), with = "minicbor::bytes")]
        keys: Option<Vec<u8>>,
    },
    /// What the attestation key says of one key: [`Reply::Statement`].
    #[n(45)]
    CertifyKey {
        /// Key reference.
        #[n(0)]
        reference: u8,
        /// What is signed with it, at most 32 bytes.
        #[cbor(n(1), with = "minicbor::bytes")]
        qualifying: Vec<u8>,
    },
    /// Like `UseKey`, with a session key. Needs `Login` on this connection: [`Reply::Result`].
    #[n(35)]
    UseSessionKey {
        /// Its name.
        #[n(0)]
        key: u64,
        /// What to do.
        #[n(1)]
        operation: Operation,
    },
}

impl CardRequest {
    /// Whether sending it twice does the same as sending it once.
    pub(crate) fn only_asks(&self) -> bool {
        match self {
            Self::AdminChallenge
            | Self::AnswerAttestation { .. }
            | Self::CertifyKey { .. }
            | Self::Contents { .. }
            | Self::Evidence { .. }
            | Self::ReadCertificate { .. }
            | Self::ReadFile { .. }
            | Self::ReadObject { .. }
            | Self::RequestAttestation
            | Self::Show
            | Self::Status => true,
            Self::Adopt { .. }
            | Self::AskConsent { .. }
            | Self::ChangeAdminKey { .. }
            | Self::ChangePin { .. }
            | Self::ChangePinByAgent { .. }
            | Self::Configure { .. }
            | Self::DeleteCertificate { .. }
            | Self::DeleteKey { .. }
            | Self::DeleteObject { .. }
            | Self::DeleteSessionKey { .. }
            | Self::Destroy { .. }
            | Self::DetachDrive
            | Self::EnterPin { .. }
            | Self::GenerateKey { .. }
            | Self::GenerateRecoverableKey { .. }
            | Self::ImportKey { .. }
            | Self::KeepSessionKey { .. }
            | Self::Login { .. }
            | Self::LoginByAgent
            | Self::Logout
            | Self::MakeAttestationKey
            | Self::MakeSessionKey { .. }
            | Self::Power { .. }
            | Self::Rename { .. }
            | Self::RenameCard { .. }
            | Self::StoreAttestation { .. }
            | Self::StoreCertificate { .. }
            | Self::StoreObject { .. }
            | Self::Transmit { .. }
            | Self::UnblockPin { .. }
            | Self::UseKey { .. }
            | Self::UseSessionKey { .. }
            | Self::VerifyAdmin { .. }
            | Self::VerifyAdminKey { .. }
            | Self::VerifyPin { .. } => false,
        }
    }
}

/// Which secret of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Reference {
    /// The user's PIN.
    #[n(0)]
    Pin,
    /// The PUK.
    #[n(1)]
    Puk,
}

/// On whose word the PIN is set.
#[derive(Debug, Encode, Decode)]
pub enum Authority {
    /// The administrator's.
    #[n(0)]
    Admin(#[n(0)] AdminAnswer),
    /// Who knows the PUK.
    #[n(1)]
    Puk(#[n(0)] SecretBytes),
    /// The administrator's, who trusts the daemon with the 24-byte 3DES key itself.
    #[n(2)]
    AdminKey(#[n(0)] SecretBytes),
}

/// An answer to a challenge of `AdminChallenge`: 3DES of it under the admin key (ECB, one block).
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct AdminAnswer {
    /// The challenge, 8 bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub challenge: Vec<u8>,
    /// The answer, 8 bytes.
    #[n(1)]
    pub response: SecretBytes,
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
    /// Where wrong PINs are counted; absent without a readable card file, and for cards of other machines.
    #[n(14)]
    pub counter_mode: Option<CounterMode>,
    /// Whether the daemon counts its wrong PINs, because its TPM sets its own counts back.
    #[n(15)]
    pub counted_here: bool,
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

impl CardOverview {
    /// Whether the card can be a token: its keys can be used, once its PIN was verified.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self.state, CardState::Ready | CardState::Blocked) && !self.uninitialised
    }
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
    /// Whether the PIN is verified for the caller's program now; absent = unknown.
    #[n(6)]
    pub logged_in: Option<bool>,
    /// Where wrong PINs are counted; absent without a readable card file.
    #[n(7)]
    pub counter_mode: Option<CounterMode>,
    /// Algorithms of keys that the card's TPM makes and takes; absent = unknown.
    #[n(8)]
    pub algorithms: Option<Vec<KeyAlgorithm>>,
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
    /// Where wrong PINs are counted; absent without a readable card file.
    #[n(6)]
    pub counter_mode: Option<CounterMode>,
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
    /// How near the TPM is to its lockout, which the card keeps away from; absent unless the card is in object mode, and
    /// when the TPM cannot say.
    #[n(14)]
    pub lockout: Option<LockoutRoom>,
    /// By what it can prove something; absent without an attestation key.
    #[n(15)]
    pub attestation: Option<Attestation>,
}

/// By what a card can prove what it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attestation {
    /// TPMT_PUBLIC of the attestation key.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub public: Vec<u8>,
    /// Certificates of the attestation key, DER, its own first.
    #[n(1)]
    pub certificates: Vec<ByteVec>,
    /// Whether the card's policies are sealed: nobody can change them.
    #[n(2)]
    pub sealed: bool,
    /// With sealed policies: whether the TPM has been reset since the card was made, as its full proof takes; absent
    /// when the TPM cannot say.
    #[n(3)]
    pub complete: Option<bool>,
}

/// Wrong values that the TPM can still be shown before cards in object mode have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LockoutRoom {
    /// So many now, of all such cards and other programs together.
    #[n(0)]
    pub left: u32,
    /// So many while the TPM counts no failure.
    #[n(1)]
    pub limit: u32,
    /// Where none is left: at most so many seconds until one is; absent if that does not come by itself.
    #[n(2)]
    pub wait: Option<u32>,
}

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Tries {
    /// Tries left; none: the TPM does not show the number.
    #[n(0)]
    pub left: Option<u32>,
    /// Tries after a success.
    #[n(1)]
    pub limit: u32,
}
