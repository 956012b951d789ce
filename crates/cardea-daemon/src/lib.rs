//! The daemon: hosts the cards between the TPM, the card files and the private socket.
//!
//! What: loading and disbelief at start, creation and destruction, the reader's slots, who may send what.
//! What not: no APDU is parsed here and no TPM command built; the engine and `cardea-tpm` do that.
//! Never: a TPM command that spends a try for a card file that is not trusted; an acknowledgement of what
//! would not survive a power cut; a call to pcscd.
//! Begin with [`Daemon`] and [`permission::audience`].

#![forbid(unsafe_code)]

mod ambient;
mod application;
mod audit;
mod bus;
mod care;
pub mod config;
mod contents;
mod counters;
mod create;
mod daemon;
mod describe;
mod destroy;
mod drive;
mod early;
mod failure;
mod fault;
pub mod hardening;
mod host;
mod hosted;
mod limits;
mod manage;
pub mod notify;
mod partial;
mod peer;
pub mod permission;
mod personal;
mod pin_pad;
mod presence;
mod prompt;
mod redirected;
mod selection;
mod server;
mod session;
pub mod slots;
mod startup;

pub use config::{Config, ConfigError, Overrides};
pub use daemon::{Daemon, StartError};
