//! What clients want made or done.

use minicbor::{Decode, Encode};

use super::SecretBytes;

/// An authorisation of the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Hierarchy {
    /// Resets the lockout, clears the TPM.
    #[n(0)]
    Lockout,
    /// Defines and deletes indices.
    #[n(1)]
    Owner,
}

impl Hierarchy {
    /// Its word in messages and files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Lockout => "lockout",
            Self::Owner => "owner",
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

/// When a card is in its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Visibility {
    /// As long as it can be used.
    #[n(0)]
    Always,
    /// While its owner has an active session.
    #[n(1)]
    OwnerSession,
}

impl Visibility {
    /// Its word in commands and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OwnerSession => "owner-session",
        }
    }
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

/// What a new key is to be.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NewKey {
    /// Name shown to people, 1 to 127 bytes without control characters; absent = a random one.
    #[n(0)]
    pub label: Option<String>,
    /// Ask for the PIN before every use.
    #[n(1)]
    pub always: bool,
    /// RSA: for signatures only.
    #[n(2)]
    pub sign_only: bool,
    /// Identifier for PKCS#11 clients, 1 to 255 bytes; absent = the index of its container.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub id: Option<Vec<u8>>,
}

/// An object that belongs to no key. Who sees the card may read it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NewObject {
    /// What it is.
    #[n(0)]
    pub kind: ObjectKind,
    /// Name shown to people, at most 255 bytes; may be empty.
    #[n(1)]
    pub label: String,
    /// `CKA_ID` of a certificate, DER of the `CKA_OBJECT_ID` of data; at most 255 bytes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub id: Vec<u8>,
    /// `CKA_APPLICATION` of data, at most 255 bytes.
    #[n(3)]
    pub application: String,
    /// DER of a certificate, or the data; at most 64 KiB.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// Kinds of objects that belong to no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ObjectKind {
    /// An X.509 certificate of a key that is elsewhere.
    #[n(0)]
    Certificate,
    /// Data of an application.
    #[n(1)]
    Data,
}

/// What can be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Thing {
    /// A key, by its reference.
    #[n(0)]
    Key(#[n(0)] u8),
    /// An object, by its number.
    #[n(1)]
    Object(#[n(0)] u32),
    /// The certificate of a key, by the key's reference; it has the key's identifier.
    #[n(2)]
    Certificate(#[n(0)] u8),
}

/// A private key, numbers big-endian.
#[derive(Debug, Encode, Decode)]
pub enum PrivateKey {
    /// RSA with exponent 65537.
    #[n(0)]
    Rsa {
        /// Modulus, 256 or 384 bytes.
        #[cbor(n(0), with = "minicbor::bytes")]
        modulus: Vec<u8>,
        /// One of the primes, half as long.
        #[n(1)]
        prime: SecretBytes,
    },
    /// P-256 (32 bytes each) or P-384 (48 bytes each).
    #[n(1)]
    Ec {
        /// Scalar.
        #[n(0)]
        scalar: SecretBytes,
        /// Public abscissa.
        #[cbor(n(1), with = "minicbor::bytes")]
        x: Vec<u8>,
        /// Public ordinate.
        #[cbor(n(2), with = "minicbor::bytes")]
        y: Vec<u8>,
    },
}

/// A hash algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Hash {
    /// SHA-1.
    #[n(0)]
    Sha1,
    /// SHA-256.
    #[n(1)]
    Sha256,
    /// SHA-384.
    #[n(2)]
    Sha384,
    /// SHA-512.
    #[n(3)]
    Sha512,
}

/// An operation with a private key.
#[derive(Debug, Encode, Decode)]
pub enum Operation {
    /// RSAES-OAEP, mask of the same hash: the plain text.
    #[n(0)]
    DecryptOaep {
        /// Hash of label and mask.
        #[n(0)]
        hash: Hash,
        /// Label.
        #[cbor(n(1), with = "minicbor::bytes")]
        label: Vec<u8>,
        /// As long as the modulus.
        #[cbor(n(2), with = "minicbor::bytes")]
        cryptogram: Vec<u8>,
    },
    /// RSAES-PKCS1-v1_5: the plain text.
    #[n(1)]
    DecryptPkcs1 {
        /// As long as the modulus.
        #[cbor(n(0), with = "minicbor::bytes")]
        cryptogram: Vec<u8>,
    },
    /// ECDH: the shared abscissa.
    #[n(2)]
    Ecdh {
        /// Peer's abscissa.
        #[cbor(n(0), with = "minicbor::bytes")]
        x: Vec<u8>,
        /// Peer's ordinate.
        #[cbor(n(1), with = "minicbor::bytes")]
        y: Vec<u8>,
    },
    /// The bare RSA operation.
    #[n(3)]
    RsaRaw {
        /// As long as the modulus.
        #[n(0)]
        block: SecretBytes,
    },
    /// ECDSA: r ‖ s.
    #[n(4)]
    SignEcdsa {
        /// Digest.
        #[cbor(n(0), with = "minicbor::bytes")]
        digest: Vec<u8>,
    },
    /// RSASSA-PKCS1-v1_5.
    #[n(5)]
    SignPkcs1 {
        /// Hash in the DigestInfo.
        #[n(0)]
        hash: Hash,
        /// Digest.
        #[cbor(n(1), with = "minicbor::bytes")]
        digest: Vec<u8>,
    },
    /// RSASSA-PSS, salt as long as the hash.
    #[n(6)]
    SignPss {
        /// Hash and mask hash.
        #[n(0)]
        hash: Hash,
        /// Digest.
        #[cbor(n(1), with = "minicbor::bytes")]
        digest: Vec<u8>,
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
