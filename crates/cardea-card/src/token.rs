//! What the card applications need from the world below: keys, PINs, persistence, time, randomness.
//!
//! `cardea-tpm` implements [`KeyStore`], [`PinAuthority`] and [`AdminAuthority`] on a TPM; the testkit has
//! them in software.
//! The applications know neither; the suites run over both.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

pub use cardea_terms::{
    Hash as HashAlgorithm, KeyAlgorithm, KeyClass, Origin as KeyOrigin, PublicKey,
};

use crate::record::{CardRecord, KeyRecord, Provisional, TpmRecord};
use crate::secret::{AdminKeyBytes, Pin, PrivateKey};

/// What a key is, derived from its public area.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyInfo {
    /// Algorithm and size.
    pub algorithm: KeyAlgorithm,
    /// PIN once or every time.
    pub class: KeyClass,
    /// Generated or imported.
    pub origin: KeyOrigin,
    /// Whether others have copies, whom its policy names and its record shows.
    pub is_recoverable: bool,
    /// Public half.
    pub public: PublicKey,
}

/// Who is to get a copy of a new key: a public key on P-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryKey {
    /// Abscissa.
    pub x: [u8; 32],
    /// Ordinate.
    pub y: [u8; 32],
    /// Its certificate, DER, for people to read.
    pub certificate: Vec<u8>,
}

/// An operation with a private key.
#[derive(Clone, Copy)]
pub enum PrivateOperation<'a> {
    /// RSAES-OAEP with MGF1 of the same hash; gives the plain text.
    DecryptOaep {
        /// Hash of label and mask.
        hash: HashAlgorithm,
        /// Label as given to the encryption, without a final zero.
        label: &'a [u8],
        /// Exactly as long as the modulus.
        cryptogram: &'a [u8],
    },
    /// RSAES-PKCS1-v1_5; gives the plain text.
    DecryptPkcs1 {
        /// Exactly as long as the modulus.
        cryptogram: &'a [u8],
    },
    /// ECDH; gives the abscissa of the shared point at the curve's full length.
    Ecdh {
        /// Peer's abscissa.
        x: &'a [u8],
        /// Peer's ordinate.
        y: &'a [u8],
    },
    /// The bare RSA private operation; gives a block as long as the modulus.
    RsaRaw {
        /// Exactly as long as the modulus and less than it.
        block: &'a [u8],
    },
    /// ECDSA; gives r ‖ s, each at the curve's full length.
    SignEcdsa {
        /// Digest of any length from 1 byte; longer ones are truncated from the left as FIPS 186-5 says.
        digest: &'a [u8],
    },
    /// RSASSA-PKCS1-v1_5 over the DigestInfo of this hash.
    SignPkcs1 {
        /// Hash named in the DigestInfo.
        hash: HashAlgorithm,
        /// Exactly as long as the hash.
        digest: &'a [u8],
    },
    /// RSASSA-PSS with a salt as long as the hash.
    SignPss {
        /// Hash and mask hash.
        hash: HashAlgorithm,
        /// Exactly as long as the hash.
        digest: &'a [u8],
    },
}

impl fmt::Debug for PrivateOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DecryptOaep { .. } => "DecryptOaep",
            Self::DecryptPkcs1 { .. } => "DecryptPkcs1",
            Self::Ecdh { .. } => "Ecdh",
            Self::RsaRaw { .. } => "RsaRaw",
            Self::SignEcdsa { .. } => "SignEcdsa",
            Self::SignPkcs1 { .. } => "SignPkcs1",
            Self::SignPss { .. } => "SignPss",
        })
    }
}

/// A secret that the TPM counts the tries of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PinReference {
    /// The user's PIN, reference `80`.
    Pin,
    /// The PUK, reference `81`.
    Puk,
}

/// Counter of a PIN or PUK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PinStatus {
    /// Tries left; 0 = blocked.
    pub left: u32,
    /// Tries after a success.
    pub limit: u32,
}

/// Why a token could not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenErrorKind {
    /// The input does not fit the operation: padding, length, range. Says no more (padding oracle).
    BadData,
    /// No resources at this moment; the same request may succeed later.
    Busy,
    /// The answer to a change of PIN or PUK was lost or refused after the old value was accepted: the old or the
    /// new one holds.
    ChangeUnknown,
    /// The TPM shows the count of wrong tries to its owner alone, whose authorisation is not known here.
    CountHidden,
    /// A counter in the TPM is not as the card was made: somebody has written it.
    Damaged,
    /// No room for another object.
    Full,
    /// The PUK's or the administrator's index alone was deleted or replaced; the rest of the card works.
    Gone,
    /// The token returned something impossible, or the program has a fault.
    Internal,
    /// The key is not meant for this operation.
    KeyUse,
    /// The TPM refuses all protected authorisations for a while.
    Lockout,
    /// The TPM was cleared, is another one, or an object of the card was deleted.
    Lost,
    /// No verified PIN, or the verification has ended.
    NotAuthenticated,
    /// PIN, PUK or administrator not configured on this card.
    NotConfigured,
    /// The TPM cannot be reached.
    Unavailable,
    /// The TPM does not count wrong PINs as it must.
    Unsafe,
    /// The token does not know this algorithm or size.
    Unsupported,
    /// The private part of the RSA key can be computed from the public one; it was not kept.
    WeakKey,
}

/// A failure of the token; the cause, with command and response code, is its source.
#[derive(Debug)]
pub struct TokenError {
    kind: TokenErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl TokenError {
    /// With its cause.
    pub fn new(kind: TokenErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: Some(source.into()),
        }
    }

    /// What callers act on.
    #[must_use]
    pub fn kind(&self) -> TokenErrorKind {
        self.kind
    }
}

impl From<TokenErrorKind> for TokenError {
    fn from(kind: TokenErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            TokenErrorKind::BadData => "the data does not fit the operation",
            TokenErrorKind::Busy => "the TPM has no resources free at the moment",
            TokenErrorKind::ChangeUnknown => {
                "the TPM's answer was lost: it is not known whether the old or the new PIN holds"
            }
            TokenErrorKind::CountHidden => {
                "the number of tries left is shown to the owner of the TPM alone"
            }
            TokenErrorKind::Damaged => "a counter of the card in the TPM was changed",
            TokenErrorKind::Full => "the TPM has no room left",
            TokenErrorKind::Gone => "a part of the card is gone from the TPM",
            TokenErrorKind::Internal => "unexpected response from the TPM",
            TokenErrorKind::KeyUse => "the key is not meant for this use",
            TokenErrorKind::Lockout => "the TPM is in lockout",
            TokenErrorKind::Lost => "the card's TPM objects are gone",
            TokenErrorKind::NotAuthenticated => "the PIN is not verified",
            TokenErrorKind::NotConfigured => "the card has no such reference",
            TokenErrorKind::Unavailable => "the TPM cannot be reached",
            TokenErrorKind::Unsafe => "this TPM does not count wrong PINs as it must",
            TokenErrorKind::Unsupported => "the TPM does not support this algorithm",
            TokenErrorKind::WeakKey => {
                "the private part of this RSA key can be computed from its public part"
            }
        })
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn Error + 'static))
    }
}

/// Form of administrator authentication (GIDS 2.0, GENERAL AUTHENTICATE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdminForm {
    /// The host proves that it knows the admin key: a challenge of 8 bytes.
    External,
    /// Host and card prove it to each other: challenges of 16 bytes.
    Mutual,
}

/// What the host says to a challenge.
#[derive(Clone, Copy)]
pub enum AdminAnswer<'a> {
    /// 3DES of the challenge.
    External(&'a [u8; 8]),
    /// E(K, card's challenge ‖ host's challenge ‖ Z1 ‖ 80).
    Mutual {
        /// The host's challenge.
        host: &'a [u8; 16],
        /// The cryptogram.
        cryptogram: &'a [u8; 40],
    },
}

/// Why an administrator was not accepted, or a new admin key was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Too many wrong answers lately: nothing was looked at.
    #[error("the administrator must wait {seconds} s after wrong answers")]
    Delayed {
        /// Seconds until the next answer is looked at.
        seconds: u32,
    },
    /// The card file could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else failed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Wrong; the TPM has counted it.
    #[error("wrong response of the administrator")]
    Wrong,
}

/// Whose proof lets the PIN be set without the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unblocker {
    /// The administrator, on a card without PUK.
    Admin,
    /// The PUK.
    Puk,
}

/// Why a PIN or PUK was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// No tries are left; nothing was compared.
    #[error("blocked")]
    Blocked,
    /// The card file could not be written where the count or the new value is in it; nothing was compared, or
    /// changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not a wrong PIN: something else failed and no try was spent, as far as can be known.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Wrong; the TPM has counted it.
    #[error("wrong{}", left.map(|left| format!(", {left} tries left")).unwrap_or_default())]
    Wrong {
        /// Tries left, read after the failure; none: the count is hidden.
        left: Option<u32>,
    },
}

/// An operation that was checked and not yet done.
pub type PendingResult = Box<dyn FnOnce() -> Result<Zeroizing<Vec<u8>>, TokenError> + Send>;

/// Private keys. Bound to one card.
pub trait KeyStore {
    /// Whether keys of this algorithm can be made.
    fn supports(&self, algorithm: KeyAlgorithm) -> bool;

    /// Makes a key; needs no PIN (the applications decide who may).
    /// The record's reference is the one given. May take seconds.
    ///
    /// # Errors
    ///
    /// `Unsupported`, `Lost`, `Busy`, `Unavailable`, `Internal`.
    fn generate(
        &mut self,
        reference: u8,
        algorithm: KeyAlgorithm,
        class: KeyClass,
    ) -> Result<KeyRecord, TokenError>;

    /// Like [`Self::generate`], with copies in the record that the holders of these keys, 1 to 7 different ones, can
    /// open. Nobody else can ever have one.
    ///
    /// # Errors
    ///
    /// As [`Self::generate`]; `BadData` for another number of keys, and for one twice.
    fn generate_recoverable(
        &mut self,
        reference: u8,
        algorithm: KeyAlgorithm,
        class: KeyClass,
        keys: &[RecoveryKey],
    ) -> Result<KeyRecord, TokenError>;

    /// What a key is, from its public area alone, which must be exactly one of this card's templates.
    /// Without I/O.
    ///
    /// # Errors
    ///
    /// `Internal` when the public area is not one that this card may have.
    fn describe(&self, key: &KeyRecord) -> Result<KeyInfo, TokenError>;

    /// Uses a key, under the PIN verification of [`PinAuthority::verify`].
    ///
    /// # Errors
    ///
    /// `NotAuthenticated` if there is no valid verification, `BadData`, `KeyUse`, `Lockout`,
    /// `Lost`, `Busy`, `Unavailable`, `Internal`.
    fn operate(
        &mut self,
        key: &KeyRecord,
        operation: PrivateOperation<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError>;

    /// Like [`Self::operate`], in two steps: what this returns needs neither the token nor its card to be run, so that
    /// the next operation can be on its way meanwhile.
    ///
    /// # Errors
    ///
    /// `BadData`, `KeyUse`, `Internal`; the errors that can be found without the TPM. The rest comes when it is run.
    fn begin(
        &mut self,
        key: &KeyRecord,
        operation: PrivateOperation<'_>,
    ) -> Result<PendingResult, TokenError>;

    /// Takes a key that was made elsewhere; it is permanently marked as imported. Needs no PIN.
    /// The record's reference is the one given.
    ///
    /// # Errors
    ///
    /// `BadData` when the parts do not fit each other, `Unsupported`, `Lost`, `Busy`, `Unavailable`,
    /// `Internal`.
    fn import(
        &mut self,
        reference: u8,
        key: &PrivateKey,
        class: KeyClass,
    ) -> Result<KeyRecord, TokenError>;

    /// The key is deleted or replaced: drops what is cached of it.
    fn forget(&mut self, key: &KeyRecord);
}

/// PIN and PUK. Bound to one card.
///
/// A TPM that counts keeps everything that changes; where it does not, counts and values are in the token's part of
/// the card's record.
pub trait PinAuthority {
    /// The counter, without spending a try and without authentication.
    ///
    /// # Errors
    ///
    /// `NotConfigured` for a PUK that the card has not; `CountHidden`, `Lost`, `Busy`, `Unavailable`, `Internal`.
    fn status(
        &mut self,
        record: &TpmRecord,
        reference: PinReference,
    ) -> Result<PinStatus, TokenError>;

    /// Compares. A right PIN lets session-class keys be used until [`logout`](Self::logout), the
    /// session limit or a reset of the TPM. A wrong one costs exactly one try and leaves an earlier
    /// verification alive unless it blocks the reference.
    ///
    /// # Errors
    ///
    /// [`PinError`].
    fn verify(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        pin: &Pin,
    ) -> Result<(), PinError>;

    /// Replaces `old` by `new`; a wrong `old` costs one try. Ends every verification.
    ///
    /// # Errors
    ///
    /// [`PinError`].
    fn change(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        old: &Pin,
        new: &Pin,
    ) -> Result<(), PinError>;

    /// Sets the PIN and gives it its tries back, on the word of somebody who proved it less than 60 s ago:
    /// the PUK by [`verify`](Self::verify), the administrator by [`AdminAuthority::answer`].
    /// Ends every verification. If it fails half-way, the PIN is blocked with the new value.
    ///
    /// # Errors
    ///
    /// [`PinError::Token`] with `NotAuthenticated` without such a proof, `NotConfigured` when this authority does not
    /// unblock this card; [`PinError`].
    fn unblock(
        &mut self,
        record: &mut dyn TokenRecord,
        by: Unblocker,
        new: &Pin,
    ) -> Result<(), PinError>;

    /// Replaces the random first value of a card in initialisation state; `None` = by random bytes that
    /// nobody knows. May be repeated after an interruption.
    ///
    /// # Errors
    ///
    /// [`PinError::Token`] with `NotConfigured` for a PUK that the card does not have, `NotAuthenticated` when no
    /// first value works; [`PinError`].
    fn initialise(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        provisional: &Provisional,
        new: Option<&Pin>,
    ) -> Result<(), PinError>;

    /// Ends the verification: what would allow another operation is erased.
    fn logout(&mut self);

    /// Drops the one operation with an always-class key that the last verification allowed.
    fn disarm(&mut self);
}

/// The token's own part of a card's record, and how to replace it.
pub trait TokenRecord {
    /// As last saved.
    fn current(&self) -> &TpmRecord;

    /// Replaces it. When it returns, the new one survives a power cut; when it fails, the old one is
    /// still there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn save(&mut self, record: TpmRecord) -> Result<(), StoreError>;
}

/// The administrator, who has a 24-byte 3DES key and proves it by answers. Bound to one card.
pub trait AdminAuthority {
    /// A challenge, 8 or 16 bytes, to which no right answer was given yet. Changes nothing: it stays good
    /// for later.
    ///
    /// # Errors
    ///
    /// `NotConfigured` on a card without administrator, `Full` when every challenge is used up.
    fn challenge(&mut self, record: &TpmRecord, form: AdminForm) -> Result<Vec<u8>, TokenError>;

    /// Judges an answer; the mutual form gives the card's cryptogram. The TPM counts a wrong one.
    /// A right one is never accepted again, and lets [`replace_key`](Self::replace_key) and
    /// [`PinAuthority::unblock`] be used for 60 s.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    fn answer(
        &mut self,
        record: &mut dyn TokenRecord,
        challenge: &[u8],
        answer: AdminAnswer<'_>,
    ) -> Result<Option<[u8; 40]>, AdminError>;

    /// Sets a new admin key.
    ///
    /// # Errors
    ///
    /// [`AdminError::Token`] with `NotAuthenticated` without an answer of the last 60 s.
    fn replace_key(
        &mut self,
        record: &mut dyn TokenRecord,
        key: &AdminKeyBytes,
    ) -> Result<(), AdminError>;

    /// Sets the admin key of a card in initialisation state, once or again.
    ///
    /// # Errors
    ///
    /// [`AdminError::Wrong`] when the first value was replaced already; [`AdminError`].
    fn initialise_key(
        &mut self,
        record: &mut dyn TokenRecord,
        first_value: &[u8; 32],
        key: &AdminKeyBytes,
    ) -> Result<(), AdminError>;

    /// Replaces the random first value of a card in initialisation state by one that nobody knows; only the
    /// holder of the admin key that was set, if one was, can answer for it. May be repeated after an
    /// interruption.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    fn replace_first_value(
        &mut self,
        record: &mut dyn TokenRecord,
        first_value: &[u8; 32],
    ) -> Result<(), AdminError>;

    /// Erases the proofs of administrator and PUK.
    fn end_administration(&mut self);

    /// Erases what is kept of an administrator whose proof is over, whether or not the role still is in use. Called from
    /// time to time.
    fn expire_administration(&mut self);
}

/// A card's token: keys, PINs and administrator of the same TPM.
pub trait Token: KeyStore + PinAuthority + AdminAuthority + Send {}

impl<T: KeyStore + PinAuthority + AdminAuthority + Send> Token for T {}

/// A card file could not be written; the previous content is still there.
#[derive(Debug, thiserror::Error)]
#[error("the card file could not be written")]
pub struct StoreError(#[source] pub Box<dyn Error + Send + Sync>);

/// Persistence of one card.
pub trait CardStore: Send {
    /// Replaces the card's record. When it returns, the new record survives a power cut;
    /// when it fails, the old one is still there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn save(&mut self, record: &CardRecord) -> Result<(), StoreError>;
}

/// Monotonic time that goes on during suspend.
pub trait Clock: Send {
    /// Time since an arbitrary fixed moment.
    fn now(&self) -> Duration;

    /// How much of it the machine has slept.
    fn slept(&self) -> Duration;
}

/// Randomness for challenges, identifiers and padding.
pub trait Rng: Send {
    /// Fills the buffer with random bytes.
    fn fill(&mut self, buffer: &mut [u8]);
}
