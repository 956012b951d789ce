//! Card files: what a card keeps between two starts, on a disk that nobody trusts.
//!
//! What: the format with its host HMAC ([`mod@format`]), the bounds of a record ([`validate`]), atomic replacement
//! that keeps the previous generation, intent records, instance numbers, the one-claimant rule
//! ([`conflicts`]), the lock that keeps a second daemon out, and folders on drives that come and go
//! ([`Drives`]).
//! What not: no TPM command; whether a record's objects exist is the TPM crate's to say.
//! Begin with [`Store`].
//!
//! What never happens here:
//! * a write is acknowledged before it would survive a power cut;
//! * a failed write leaves anything but the old content;
//! * a file is overwritten that a newer version wrote;
//! * a link is followed;
//! * a record is written that could not be read again.
//!
//! `docs/formats/card-file.md` describes the bytes.

#![forbid(unsafe_code)]

mod card_file;
mod disk;
mod drive;
mod error;
pub mod fault;
mod folder;
pub mod format;
mod intent;
mod known;
mod registry;
mod remains;
mod store;
mod validate;

pub use card_file::{CardFile, StoredCard};
pub use drive::{DriveFolder, Drives};
pub use error::StoreError;
pub use format::CardFileError;
pub use intent::{Intent, IntentKind};
pub use known::{KnownCard, KnownIndex, KnownPolicies};
pub use remains::Remains;
pub use store::Store;
pub use validate::{Claim, RecordFault, conflicts, validate};

#[cfg(test)]
mod tests;
