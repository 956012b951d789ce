//! The disk fails at each file operation of each operation that changes TPM and files, through every door: what is
//! answered is what is true afterwards, with the daemon that has seen the failure and with one that starts anew.
//!
//! `docs/disk-faults.md` has a row for each operation and door; `CARDEA_RECORD=1` writes them.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "helpers of tests, outside the functions that clippy knows to be tests"
)]

mod administrator;
mod adoption;
mod cards;
mod contents;
mod disk;
mod document;
mod doors;
mod keys;
mod personalisation;
mod pins;
mod walk;
mod world;
