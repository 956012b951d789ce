//! What each noun of the command line does, one file for each. None uses another's; `drive` is part of `card`,
//! `import` and `recovery` of `key`, `authority` of `attest`.

pub(crate) mod admin;
pub(crate) mod attest;
mod attestation;
pub(crate) mod audit;
mod authority;
pub(crate) mod card;
pub(crate) mod certificate;
pub(crate) mod csr;
mod drive;
pub(crate) mod helpdesk;
mod import;
pub(crate) mod key;
pub(crate) mod pin;
pub(crate) mod reader_conf;
mod recovery;
pub(crate) mod tpm;
