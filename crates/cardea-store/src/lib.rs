//! Card files: what a card keeps between two starts, on a disk that nobody trusts.
//!
//! What: the format with its host HMAC ([`format`]), atomic replacement that keeps the previous generation,
//! intent records, instance numbers, and the lock that keeps a second daemon out.
//! What not: no TPM command; whether a record's objects exist is the TPM crate's to say.
//! Begin with [`Store`].
//!
//! `docs/formats/card-file.md` describes the bytes.

#![forbid(unsafe_code)]

mod disk;
pub mod format;
mod intent;
mod registry;
mod store;
mod validate;

pub use format::CardFileError;
pub use intent::{Intent, IntentKind};
pub use store::{CardFile, Store, StoreError, StoredCard};
pub use validate::{RecordFault, conflicts, validate};
