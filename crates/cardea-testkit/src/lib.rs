//! Test fixtures, never linked into a product.
//!
//! What: software TPMs, pcscd and the daemon as processes ([`rig`]), one TPM for several clients with a record
//! and faults ([`multiplexer`]), a store that fails when told ([`fault_store`]), the card's traits in software
//! ([`software`]), transcripts of real clients, and the suite that runs over any token.
//! What not: a place for shortcuts that products could use.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "fixtures fail by panicking and tell why on standard error"
)]

pub mod bare;
pub mod browser;
pub mod bus;
pub mod fault_store;
pub mod installed;
pub mod machine;
pub mod multiplexer;
pub mod namespace;
pub mod page;
pub mod pcscd;
pub mod played;
pub mod power_cut;
pub mod process;
pub mod rdp;
pub mod redirection;
pub mod rig;
pub mod site;
pub mod soak;
pub mod software;
pub mod stick;
pub mod suite;
pub mod swtpm;
pub mod terminal;
pub mod tpm2_tools;
pub mod tpm_card;
pub mod transcript;
pub mod uses;
pub mod workplace;
pub mod workstation;
