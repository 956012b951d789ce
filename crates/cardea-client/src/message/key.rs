//! Keys: what is asked of them, and what describes them.

use cardea_terms::{Hash, KeyAlgorithm, KeyClass, Origin, PublicKey};
use minicbor::{Decode, Encode};

use super::SecretBytes;

/// What a new key is to be.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NewKey {
    /// Name shown to people, 1 to 127 bytes without control characters; absent = a random one.
    #[n(0)]
    pub label: Option<String>,
    /// Whether the PIN is asked for once or before every use.
    #[n(1)]
    pub class: KeyClass,
    /// RSA: for signatures only.
    #[n(2)]
    pub sign_only: bool,
    /// Identifier for PKCS#11 clients, 1 to 255 bytes; absent = the index of its container.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub id: Option<Vec<u8>>,
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

/// What a session key is made of.
#[derive(Debug, Encode, Decode)]
pub enum SessionKeyMaterial {
    /// By the TPM.
    #[n(0)]
    Generated(#[n(0)] KeyAlgorithm),
    /// Elsewhere.
    #[n(1)]
    Imported(#[n(0)] PrivateKey),
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

/// A key of a card.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeySummary {
    /// Key reference, `0x81` to `0x9E`.
    #[n(0)]
    pub reference: u8,
    /// Algorithm and size.
    #[n(1)]
    pub algorithm: KeyAlgorithm,
    /// Generated or imported.
    #[n(2)]
    pub origin: Origin,
    /// PIN once or every time.
    #[n(3)]
    pub class: KeyClass,
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
    /// Whose private keys open a copy of it; absent for a key that nobody can bring back.
    #[n(11)]
    pub recovery: Option<Vec<RecoverySummary>>,
}

/// Who can bring a key back.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RecoverySummary {
    /// Subject of the certificate, at most 200 bytes; empty if the card has no certificate that can be read.
    #[n(0)]
    pub subject: String,
    /// SHA-256 of the certificate, or of the public area of a recovery key without one.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub fingerprint: [u8; 32],
}
