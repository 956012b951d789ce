//! The daemon: the doors to the cards of this machine, and the process that they are in.
//!
//! What: the private socket, D-Bus, redirections: they translate, and [`cardea_host::Counter`] does the work.
//! What not: no decision about who may do what, and no access to a card but through the counter.
//! Never: a secret in a D-Bus message; a call to pcscd.
//! Begin with [`Daemon`].

#![forbid(unsafe_code)]

mod daemon;
mod doors;
mod process;

pub use daemon::{Daemon, StartError};
pub use process::config::{Config, ConfigError, Overrides};
pub use process::{config, hardening, log, notify};
