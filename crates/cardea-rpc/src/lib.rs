//! Authenticated connections of DCE/RPC, both ends: NTLM and Kerberos, bare or in SPNEGO, and packets that they protect.
//!
//! What: who is at the other end ([`auth`]), what protects the packets, connections and calls ([`rpc`]).
//! What not: what a call means, and what an account may do.
//! Begin with [`rpc::Connection`] for the server's end and [`rpc::outgoing::Outgoing`] for the client's; the packets
//! themselves are `cardea-dcom`'s.

#![forbid(unsafe_code)]

pub mod auth;
pub mod one_time;
pub mod random;
pub mod rpc;
pub mod secret_file;
pub mod server;
pub mod stream;
