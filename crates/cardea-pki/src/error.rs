//! What can be wrong with a file, or with what a caller asks for.

use cardea_terms::tame;

use crate::KeyKind;

/// What can be wrong.
///
/// No message holds a secret; some quote text of the file, which is shortened and freed of control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file asks for more work than any honest one.
    #[error(
        "the file asks for {what} of {asked}; more than {limit} is refused: rewrite the file with fewer"
    )]
    CostTooHigh {
        /// What there is too much of.
        what: &'static str,
        /// How much the file asks for.
        asked: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The RSA public exponent is not 65537.
    #[error("the RSA key has a public exponent other than 65537; TPMs need not support it")]
    Exponent,
    /// The parts of a key do not belong together.
    #[error("the key is inconsistent: {0}")]
    InconsistentKey(&'static str),
    /// Text of the caller that cannot be put into a request or certificate.
    #[error("{what} `{value}`: {reason}")]
    InvalidText {
        /// What the text was to be.
        what: &'static str,
        /// The text.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Neither PEM nor DER of what was looked for, or damaged.
    #[error("the {what} is damaged or invalid")]
    Malformed {
        /// What was looked for.
        what: &'static str,
    },
    /// No certificate in the file.
    #[error("no certificate in the file; it contains {found}")]
    NoCertificate {
        /// What there is instead.
        found: String,
    },
    /// No private key in the file.
    #[error("no private key in the file; it contains {found}")]
    NoKey {
        /// What there is instead.
        found: String,
    },
    /// The file is encrypted and no passphrase was given.
    #[error("the file is encrypted; its passphrase is needed")]
    PassphraseNeeded,
    /// More than one private key in a PKCS#12 file.
    #[error("{0} private keys in the file; only one can be imported at a time: split the file")]
    SeveralKeys(usize),
    /// The signature does not fit the key and what was to be signed.
    #[error("the signature does not match the key and the request")]
    Signature,
    /// The signature algorithm is not for keys of this kind.
    #[error("a key of kind {key} does not support this signature algorithm")]
    SignatureAlgorithm {
        /// The key.
        key: KeyKind,
    },
    /// More bytes than [`crate::MAX_INPUT`].
    #[error("the file has {0} bytes; more than 1048576 are not read")]
    TooLarge(usize),
    /// A form or an algorithm that is not read.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A key that no card holds.
    #[error("the key is {found}; a card holds RSA-2048, RSA-3072, P-256 and P-384")]
    UnsupportedKey {
        /// What it is.
        found: String,
    },
    /// Wrong passphrase, or a damaged file: decryption does not show which.
    #[error("wrong passphrase, or the file is damaged")]
    WrongPassphrase,
}

/// The largest file that is looked at: a PKCS#12 file with a long chain has a tenth of it.
pub const MAX_INPUT: usize = 1 << 20;

/// Text from outside for a message: short, and without what a terminal would obey.
pub(crate) fn quotable(text: &str) -> String {
    tame(&text.chars().take(80).collect::<String>())
}
