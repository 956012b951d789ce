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

#[cfg(feature = "processes")]
pub mod bare;
#[cfg(feature = "processes")]
pub mod browser;
#[cfg(feature = "processes")]
pub mod bus;
pub mod fault_store;
#[cfg(feature = "processes")]
pub mod installed;
#[cfg(feature = "processes")]
pub mod machine;
#[cfg(feature = "processes")]
pub mod multiplexer;
#[cfg(feature = "processes")]
pub mod namespace;
#[cfg(feature = "processes")]
pub mod page;
#[cfg(feature = "processes")]
pub mod pcscd;
#[cfg(feature = "processes")]
pub mod played;
#[cfg(feature = "processes")]
pub mod power_cut;
#[cfg(feature = "processes")]
pub mod process;
#[cfg(feature = "processes")]
pub mod rdp;
#[cfg(feature = "processes")]
pub mod redirection;
#[cfg(feature = "processes")]
pub mod remote;
#[cfg(feature = "processes")]
pub mod remote_soak;
#[cfg(feature = "processes")]
pub mod rig;
#[cfg(feature = "processes")]
pub mod site;
#[cfg(feature = "processes")]
pub mod soak;
pub mod software;
#[cfg(feature = "processes")]
pub mod stick;
pub mod suite;
#[cfg(feature = "processes")]
pub mod swtpm;
#[cfg(feature = "processes")]
pub mod terminal;
#[cfg(feature = "processes")]
pub mod tpm2_tools;
#[cfg(feature = "processes")]
pub mod tpm_card;
pub mod transcript;
#[cfg(feature = "processes")]
pub mod uses;
#[cfg(feature = "processes")]
pub mod workplace;
#[cfg(feature = "processes")]
pub mod workstation;
