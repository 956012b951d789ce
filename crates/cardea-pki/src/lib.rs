//! Keys, certificates and requests as they lie in files: what a card takes in and what it hands out.
//!
//! What: private keys ([`PrivateKey`]: PKCS#8 plain and encrypted, PKCS#1, SEC 1), PKCS#12 ([`Pkcs12`]),
//! certificates ([`Certificate`], also inside PKCS#7), requests and self-signed certificates in two steps, because the signature is made
//! in the TPM ([`RequestBuilder`], [`SelfSignedBuilder`], [`ToBeSigned`]), public keys ([`PublicKey`]: SPKI, OpenSSH).
//! Paths from a certificate of a TPM to an authority ([`PathRules`]), and certificates that an authority issues
//! ([`CertificateDraft`], [`AttestationCertificate`]).
//! What a request proves about its key ([`AttestationAttribute`]).
//! What an authority is sent and what it answers ([`est`], [`cmp`]).
//! What not: which authorities are trusted, and what was revoked; whoever uses it decides.
//! Begin with [`PrivateKey::parse`] or [`RequestBuilder`].
//!
//! What never happens here:
//! * I/O, a clock, randomness: files, times and serial numbers are handed in;
//! * an operation with a private key, except finding the public point that belongs to it, and opening copies of a
//!   card's keys ([`recovery`]);
//! * a copy of a secret in memory that is not erased when it is dropped, as far as this crate holds it;
//! * a panic on what a file contains, or work without bound that a file asks for.

#![forbid(unsafe_code)]

mod alternative_name;
mod asn1;
mod attestation;
mod attested;
mod ber;
mod builder;
mod certificate;
pub mod cmp;
pub mod envelope;
mod error;
pub mod escrow;
pub mod est;
mod issued;
mod kind;
mod name;
mod oid;
mod path;
mod pbe;
mod pem;
mod pkcs12;
mod pkcs7;
mod private_key;
mod public_key;
pub mod recovery;
mod request;
mod signature;
mod time;
mod usage;

pub use alternative_name::AlternativeName;
pub use attestation::{AttestationCertificate, AuthorityCertificate, POLICY_TPM};
pub use attested::{AttestationAttribute, TpmCertify, octet_string, octet_string_content};
pub use builder::{RequestBuilder, SelfSignedBuilder, Signed, ToBeSigned};
pub use certificate::Certificate;
pub use error::{Error, MAX_INPUT};
pub use issued::{CertificateDraft, Extension};
pub use kind::{Curve, KeyKind};
pub use name::Name;
pub use path::{PathCertificate, PathError, PathRules, RawPublicKey};
pub use pem::is_pem;
pub use pkcs12::Pkcs12;
pub use private_key::{EcPrivateKey, PrivateKey, RsaPrivateKey};
pub use public_key::{EcPublicKey, PublicKey, RsaPublicKey};
pub use request::CertificateRequest;
pub use signature::{DigestAlgorithm, SignatureAlgorithm};
pub use usage::{ExtendedKeyUsage, KeyUsage};
