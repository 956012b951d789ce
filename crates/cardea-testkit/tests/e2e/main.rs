//! End to end: the products' binaries with pcscd, OpenSC and a software TPM.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod opensc;
mod promises;
