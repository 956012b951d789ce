//! End to end: the products' binaries with pcscd, OpenSC and a software TPM.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod administrator;
mod fixtures;
mod opensc;
mod promises;
mod soak;
