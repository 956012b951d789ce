//! The private socket: messages, frames, and a blocking client.
//!
//! What: the vocabulary between the daemon and its local clients (CLI, IFD handler, PKCS#11 module) and a
//! client without threads or runtime that survives `fork` and a restart of the daemon.
//! What not: no policy; who may send what is the daemon's table.
//! Begin with [`Client`] and [`message::Request`].
//!
//! `docs/formats/socket.md` describes the bytes.

#![forbid(unsafe_code)]

pub mod message;
