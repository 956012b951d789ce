//! What the daemon answers.

use cardea_terms::tpmvsc::Hresult;
use cardea_terms::{PublicKey, Step};
use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::{
    CardRequest, CardsRequest, DriveRequest, MAX_PROGRAMS, ReaderRequest, RedirectionRequest,
    Request, TpmRequest, packed,
};

use super::{
    AuditHead, CardDetails, CardOverview, CardStatus, CardSummary, Contents, EndorsementKey, Hold,
    IndexSummary, KeySummary, Page, SecretBytes, TpmStatus,
};

/// What the daemon answers.
#[derive(Debug, Encode, Decode)]
pub enum Reply {
    /// Done, nothing to say.
    #[n(0)]
    Done,
    /// Refused or failed.
    #[n(1)]
    Failed(#[n(0)] Failure),
    /// A long operation continues with this step.
    #[n(2)]
    Progress(#[n(0)] Step),
    /// Answer to [`CardsRequest::List`].
    #[n(3)]
    Cards(#[n(0)] Page<CardSummary>),
    /// Answer to [`CardRequest::Show`], [`CardRequest::Adopt`] and [`CardsRequest::Create`].
    #[n(4)]
    Card(#[n(0)] Box<CardDetails>),
    /// Answer to [`TpmRequest::Status`].
    #[n(5)]
    Tpm(#[n(0)] Box<TpmStatus>),
    /// Answer to [`ReaderRequest::Info`].
    #[n(6)]
    Reader {
        /// Number of slots.
        #[n(0)]
        slots: u8,
    },
    /// Answer to [`ReaderRequest::States`] and [`ReaderRequest::WaitStates`].
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
    /// Answer to `Transmit`: response APDU; to `Control`: the reader's.
    #[n(9)]
    Response(#[n(0)] SecretBytes),
    /// Answer to `AdminChallenge`: 8 bytes.
    #[n(10)]
    Challenge(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Answer to `GenerateKey` and `ImportKey`.
    #[n(11)]
    Key(#[n(0)] Box<KeySummary>),
    /// Answer to `UseKey`: signature, plain text or secret; to `Random` and `ShareLogins`: their bytes.
    #[n(12)]
    Result(#[n(0)] SecretBytes),
    /// Answer to `ReadCertificate`: DER; to `ReadObject`: its content.
    #[n(13)]
    Certificate(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Answer to [`TpmRequest::ListIndices`].
    #[n(14)]
    Indices(#[n(0)] Page<IndexSummary>),
    /// Answer to [`CardsRequest::States`] and [`CardsRequest::WaitStates`].
    /// Its generation changes whenever a card comes, goes or changes its state.
    #[n(15)]
    Overview(#[n(0)] Page<CardOverview>),
    /// Answer to [`CardRequest::Status`].
    #[n(16)]
    Status(#[n(0)] Box<CardStatus>),
    /// Answer to [`CardRequest::Contents`].
    #[n(17)]
    Contents {
        /// Differs whenever the contents may.
        #[n(0)]
        revision: u64,
        /// Absent when the caller knows this revision.
        #[n(1)]
        contents: Option<Contents>,
    },
    /// Answer to `StoreObject`.
    #[n(18)]
    Object {
        /// The new object's number.
        #[n(0)]
        number: u32,
    },
    /// Answer to `ReadAudit`.
    #[n(19)]
    Audit {
        /// Lines of JSON.
        #[cbor(n(0), with = "minicbor::bytes")]
        records: Vec<u8>,
        /// Where the next ones begin.
        #[n(1)]
        next: u64,
        /// The newest record that the daemon has written or found.
        #[n(2)]
        head: AuditHead,
        /// The same as kept beside the records; absent before the first.
        #[n(3)]
        stored: Option<AuditHead>,
    },
    /// Answer to [`DriveRequest::Attach`].
    #[n(20)]
    Drive {
        /// The cards that are there.
        #[n(0)]
        cards: Vec<CardSummary>,
        /// Why other files are not, in words.
        #[n(1)]
        problems: Vec<String>,
    },
    /// Answer to [`DriveRequest::Hold`].
    #[n(21)]
    Hold(#[n(0)] Hold),
    /// Answer to [`RedirectionRequest::Begin`].
    #[n(23)]
    Redirected {
        /// Whether the cards will be in the reader too.
        #[n(0)]
        reader: bool,
    },
    /// What a program wants of a redirected card. Each program has one request at a time.
    #[n(24)]
    Wanted {
        /// Number of the program, at most [`MAX_PROGRAMS`] at once.
        #[n(0)]
        program: u32,
        /// A [`Request`], as [`packed`] makes it.
        #[n(1)]
        request: SecretBytes,
    },
    /// A program has ended, and its verifications end with it.
    #[n(25)]
    Released {
        /// Its number.
        #[n(0)]
        program: u32,
    },
    /// Answer to [`CardsRequest::Defaults`].
    #[n(30)]
    Defaults {
        /// Value of `--admin-key`, as the machine's administrator has configured it.
        #[n(0)]
        admin_key: String,
    },
    /// Answer to `SetHierarchyAuth`: the authorisation is set.
    #[n(31)]
    AuthorisationSet {
        /// Why the policy of this hierarchy could not be emptied, in words; absent = it was.
        #[n(0)]
        policy: Option<String>,
        /// Why the policy of the endorsement hierarchy was not emptied.
        #[n(1)]
        endorsement: Option<String>,
    },
    /// Answer to `ReadFile`.
    #[n(33)]
    File {
        /// Its bytes from the offset on, as many as fit.
        #[cbor(n(0), with = "minicbor::bytes")]
        part: Vec<u8>,
        /// Length of the whole file.
        #[n(1)]
        length: u64,
        /// Parts with the same number are of one file.
        #[n(2)]
        revision: u64,
    },
    /// Answer to `MakeSessionKey`.
    #[n(32)]
    SessionKey {
        /// Its name, which no other program learns.
        #[n(0)]
        key: u64,
        /// Public half.
        #[n(1)]
        public: PublicKey,
    },
    /// Answer to [`TpmRequest::EndorsementKeys`]: at least one.
    #[n(34)]
    EndorsementKeys(#[n(0)] Vec<EndorsementKey>),
    /// Answer to `RequestAttestation` and `AnswerAttestation`: a message for the authority, CBOR.
    #[n(35)]
    Attestation(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Answer to `CertifyKey`.
    #[n(36)]
    Statement {
        /// TPMS_ATTEST.
        #[cbor(n(0), with = "minicbor::bytes")]
        attest: Vec<u8>,
        /// TPMT_SIGNATURE.
        #[cbor(n(1), with = "minicbor::bytes")]
        signature: Vec<u8>,
        /// TPMT_PUBLIC of the key.
        #[cbor(n(2), with = "minicbor::bytes")]
        public: Vec<u8>,
    },
    /// Answer to [`CardRequest::Evidence`].
    #[n(37)]
    Evidence {
        /// The bundle, CBOR.
        #[cbor(n(0), with = "minicbor::bytes")]
        bundle: Vec<u8>,
        /// 1, or 2 with the proof that the limits of PIN, PUK and administrator last.
        #[n(1)]
        level: u8,
    },
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
    /// A wrong response of the administrator.
    #[n(13)]
    AdminWrong,
    /// The PIN is not verified on this connection, or no longer.
    #[n(14)]
    NotLoggedIn,
    /// The person who was asked said no.
    #[n(15)]
    Cancelled,
    /// There is no agent that could ask a person, or it did not answer in time.
    #[n(16)]
    NoAgent,
    /// A new PIN or PUK that the card's policy does not allow.
    #[n(17)]
    Rule,
    /// The card was redirected from another machine, and the connection there has ended.
    #[n(20)]
    Removed,
    /// It is not known whether the old or the new PIN or PUK holds.
    #[n(21)]
    ChangeUnknown,
    /// The TPM's owner hierarchy is switched off until the TPM restarts.
    #[n(22)]
    SwitchedOff,
    /// The TPM does not count wrong PINs as it must: cards are neither made nor used.
    #[n(23)]
    UnsafeTpm,
    /// The data does not suit the operation: padding, length or range.
    #[n(24)]
    BadData,
    /// The TPM is in failure mode, or has given an answer that cannot be right.
    #[n(25)]
    Broken,
    /// The key must not be used for this operation.
    #[n(26)]
    KeyUse,
    /// A response of the administrator that comes too soon after wrong ones: it was not looked at, and its challenge
    /// stays good.
    #[n(27)]
    AdminDelayed,
    /// The TPM cannot do what was asked for, and it is not done in another way instead.
    #[n(28)]
    NotSupported,
}

impl FailureKind {
    /// The number that MS-TPMVSC has for it, or the nearest of Windows.
    #[must_use]
    pub fn hresult(self) -> Hresult {
        match self {
            Self::Denied => Hresult::ACCESS_DENIED,
            Self::Cancelled => Hresult::ABORT,
            Self::NoTpm => Hresult::TPM_NOT_FOUND,
            Self::Lockout => Hresult::TPM_LOCKOUT,
            Self::Full => Hresult::FULL,
            Self::Invalid => Hresult::INVALID_ARGUMENT,
            Self::Rule => Hresult::PIN_POLICY,
            Self::NotFound | Self::Ambiguous | Self::Removed => Hresult::NOT_FOUND,
            Self::AdminDelayed | Self::Busy => Hresult::BUSY,
            Self::Broken | Self::Lost => Hresult::TPM_FAILURE,
            Self::AdminWrong | Self::PinWrong => Hresult::WRONG_PIN,
            Self::Blocked => Hresult::PIN_BLOCKED,
            Self::NotSupported => Hresult::NOT_SUPPORTED,
            Self::SwitchedOff => Hresult::TPM_SWITCHED_OFF,
            Self::BadData
            | Self::ChangeUnknown
            | Self::Failed
            | Self::KeyUse
            | Self::NoAgent
            | Self::NotLoggedIn
            | Self::Protocol
            | Self::UnsafeTpm => Hresult::FAIL,
        }
    }
}
