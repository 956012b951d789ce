//! `cardea-tpm` over a software TPM of its own for each test.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod attacks;
mod cards;
mod care;
mod conversation;
mod examination;
mod faults;
mod hmac;
mod keys;
mod policies;
mod proxy;
mod raw;
mod recovery;
mod resources;
mod sealed;
mod standing;
mod storage;
mod support;
mod vectors;
