//! Requests about all cards: lists, creation, the audit.

use cardea_terms::{CounterMode, Visibility};
use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::Reply;

use super::{Cursor, SecretBytes};

/// What a client may ask about the cards as a whole.
#[derive(Debug, Encode, Decode)]
pub enum CardsRequest {
    /// All cards that the caller may see: [`Reply::Cards`].
    #[n(0)]
    List {
        /// Where the page begins; absent = at the first card.
        #[n(0)]
        from: Option<Cursor>,
    },
    /// Creates a card: [`Reply::Card`].
    #[n(1)]
    Create(#[n(0)] Box<CreateCard>),
    /// What is chosen for cards whose creator chooses nothing: [`Reply::Defaults`].
    #[n(2)]
    Defaults,
    /// Whole audit records: [`Reply::Audit`].
    #[n(3)]
    ReadAudit {
        /// Where to begin, in bytes: 0 or the `next` of an earlier answer.
        #[n(0)]
        offset: u64,
        /// Bytes at most.
        #[n(1)]
        most: u32,
    },
    /// The cards that the caller may use and their states as last known, without asking the TPM:
    /// [`Reply::Overview`].
    #[n(4)]
    States {
        /// Where the page begins; absent = at the first card.
        #[n(0)]
        from: Option<Cursor>,
    },
    /// Like `States` with the first page, but waits until the generation differs from the given one, or the time is over.
    #[n(5)]
    WaitStates {
        /// Generation known to the caller; 0 is never current.
        #[n(0)]
        generation: u64,
        /// Longest wait in milliseconds; the daemon may answer earlier.
        #[n(1)]
        timeout_ms: u32,
    },
    /// Like `Create`, a card that can prove all that it promises: with an attestation key, and with its policies sealed.
    /// A request of its own, so that a daemon that knows nothing of it does not make an ordinary card.
    #[n(6)]
    CreateAttested(#[n(0)] Box<CreateCard>),
}

impl CardsRequest {
    /// Whether sending it twice does the same as sending it once.
    pub(crate) fn only_asks(&self) -> bool {
        match self {
            Self::Defaults
            | Self::List { .. }
            | Self::ReadAudit { .. }
            | Self::States { .. }
            | Self::WaitStates { .. } => true,
            Self::Create(_) | Self::CreateAttested(_) => false,
        }
    }
}

/// Parameters of a new card.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct CreateCard {
    /// Name shown to people, 1 to 127 bytes of UTF-8 without control characters.
    #[n(0)]
    pub name: String,
    /// What it is to hold.
    #[n(1)]
    pub content: NewContent,
    /// Owner's user id; absent = the caller's.
    #[n(2)]
    pub owner: Option<u32>,
    /// PIN policy, 32 bytes as in MS-TPMVSC; absent = 4 to 127 bytes, any characters.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub pin_policy: Option<[u8; 32]>,
    /// Tries of the PIN; absent = 5.
    #[n(4)]
    pub pin_tries: Option<u32>,
    /// Tries of the PUK; absent = 10.
    #[n(5)]
    pub puk_tries: Option<u32>,
    /// Longest life of a PIN verification in seconds; absent = 8 hours.
    #[n(6)]
    pub session_limit: Option<u32>,
    /// Seconds without use after which a PIN verification ends; absent or 0 = never.
    #[n(7)]
    pub idle_limit: Option<u32>,
    /// The TPM's owner authorisation, where one is set.
    #[n(8)]
    pub owner_auth: Option<SecretBytes>,
    /// Whether its PIN is typed at the agent, where programs know how to ask for that.
    #[n(9)]
    pub pin_pad: bool,
    /// When it is in its reader; absent = by the owner: sessions for people, always for system accounts.
    #[n(10)]
    pub visibility: Option<Visibility>,
    /// Card id, which no card has yet; absent = random.
    #[cbor(n(11), with = "minicbor::bytes")]
    pub card_id: Option<[u8; 16]>,
    /// Whether its file goes into the folder whose descriptor comes along.
    #[n(12)]
    pub drive: bool,
    /// Where wrong PINs are counted; absent = in NV, and never anywhere else instead.
    #[n(13)]
    pub counter_mode: Option<CounterMode>,
}

impl CreateCard {
    /// With everything that has a usual value left at it.
    #[must_use]
    pub fn new(name: impl Into<String>, content: NewContent) -> Self {
        Self {
            name: name.into(),
            content,
            owner: None,
            pin_policy: None,
            pin_tries: None,
            puk_tries: None,
            session_limit: None,
            idle_limit: None,
            owner_auth: None,
            pin_pad: false,
            visibility: None,
            card_id: None,
            drive: false,
            counter_mode: None,
        }
    }
}

impl NewContent {
    /// A card with its file system, and neither PUK nor administrator.
    #[must_use]
    pub fn with_pin(pin: SecretBytes) -> Self {
        Self::Personalised {
            pin,
            puk: None,
            admin_key: None,
            blank: false,
        }
    }
}

/// State in which a card is handed out.
#[derive(Debug, Encode, Decode)]
pub enum NewContent {
    /// Operational.
    #[n(0)]
    Personalised {
        /// The first PIN.
        #[n(0)]
        pin: SecretBytes,
        /// PUK, if the card is to have one.
        #[n(1)]
        puk: Option<SecretBytes>,
        /// 24-byte 3DES admin key; absent = random and discarded, a card without administrator.
        #[n(2)]
        admin_key: Option<SecretBytes>,
        /// Leave the file system out (blank card).
        #[n(3)]
        blank: bool,
    },
    /// In initialisation state, for personalisation by others.
    #[n(1)]
    Uninitialised {
        /// With room for a PUK.
        #[n(0)]
        puk: bool,
    },
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
