//! The private socket: messages, frames, and a blocking client.
//!
//! What: the vocabulary between the daemon and its local clients (CLI, IFD handler, PKCS#11 module), a
//! client without threads or runtime that survives `fork` and a restart of the daemon, and the daemon's
//! end of a connection, so that the coding exists once.
//! What not: no policy; the daemon's table says who may send what.
//! Begin with [`Client`] and [`message::Request`]; the daemon with [`ServerEnd`], a reader with [`Watch`],
//! whoever keeps a drive attached with [`drive::Attachment`].
//!
//! `docs/formats/socket.md` describes the bytes.

#![forbid(unsafe_code)]

mod acl;
mod authorisation;
mod buffer;
mod client;
mod connect;
pub mod dictation;
pub mod drive;
pub mod environment;
mod error;
pub mod frame;
mod link;
pub mod message;
mod origin;
mod process;
mod protocol;
mod server;
pub mod slot_number;
mod transmit;
mod watch;

pub use authorisation::{
    AuthorisationError, MAX_AUTHORISATION, MAX_AUTHORISATION_FILE, parse_authorisation,
};
pub use client::{Client, ClientError};
pub use connect::connect;
pub use origin::Origin;
pub use process::{Process, ProcessMark, tell_forks_by};
pub use server::ServerEnd;
pub use watch::{Insertion, Wake, Watch, Woken};

use std::path::PathBuf;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/cardea/cardea.sock";

/// Environment variable that names another socket.
pub const SOCKET_VARIABLE: &str = "CARDEA_SOCKET";

/// The socket that [`SOCKET_VARIABLE`] selects, else [`DEFAULT_SOCKET`]; always that one in a setuid program.
#[must_use]
pub fn socket_path() -> PathBuf {
    environment::variable(SOCKET_VARIABLE)
        .map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from)
}
