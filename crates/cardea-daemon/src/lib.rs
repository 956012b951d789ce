//! The daemon: hosts the cards between the TPM, the card files and the private socket.
//!
//! What: loading card files and checking them before use, creation and destruction, the reader's slots, who may send what.
//! What not: no APDU is parsed here and no TPM command built; the engine and `cardea-tpm` do that.
//! Never: a TPM command that spends a try for a card file that is not trusted; an acknowledgement of what
//! would not survive a power cut; a call to pcscd.
//! Begin with [`Daemon`] and `Counter`.

#![forbid(unsafe_code)]

mod counter;
mod daemon;
mod doors;
mod failure;
mod fault;
mod holder;
mod host;
mod lifecycle;
mod names;
mod process;
mod sync;
mod system;
mod time_limits;

pub use daemon::{Daemon, StartError};
pub use process::config::{Config, ConfigError, Overrides};
pub use process::{config, hardening, notify};
