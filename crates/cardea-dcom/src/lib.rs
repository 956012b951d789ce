//! DCE/RPC, NDR, DCOM and MS-TPMVSC on the wire, for both sides of a connection.
//!
//! What: the packets of connection-oriented DCE/RPC with their fragments, security trailers and presentation contexts
//! ([`pdu`]), arguments in NDR ([`ndr`]), references to objects, activation, the resolver and reference counts
//! ([`dcom`]), the methods of the card manager ([`tpmvsc`]), and what a server remembers of objects and pings
//! ([`exporter`]).
//! Every message can be made and read.
//! What not: no socket, no clock, no randomness, no cryptography: bytes to sign and to seal are given as spans.
//! Begin with [`pdu::Pdu::parse`], [`pdu::Reassembly`] and [`tpmvsc::CreateCard`].
//! What is spoken and what is refused is described in `docs/design/dcom.md`.
//!
//! What never happens here:
//! * a panic on what a peer sends, or memory reserved because a peer announced a size;
//! * a secret in `Debug` output or left in freed memory: what may carry a PIN or a key is erased when dropped;
//! * a decision about who may do what.

#![forbid(unsafe_code)]

mod bytes;
pub mod dcom;
pub mod exporter;
mod guid;
pub mod ndr;
pub mod pdu;
#[cfg(test)]
mod tests;
pub mod tpmvsc;

pub use guid::Guid;
