//! DCE/RPC, NDR, DCOM and MS-TPMVSC on the wire, for both sides of a connection.
//!
//! What: the packets of connection-oriented DCE/RPC with their fragments, security trailers and presentation contexts
//! ([`pdu`]).
//! Every message can be made and read.
//! What not: no socket, no clock, no randomness, no cryptography: bytes to sign and to seal are given as spans.
//! Begin with [`pdu::Pdu::parse`] and [`pdu::build`].
//! What is spoken and what is refused is described in `docs/design/dcom.md`.
//!
//! What never happens here:
//! * a panic on what a peer sends, or memory reserved because a peer announced a size;
//! * a secret in `Debug` output or left in freed memory: what may carry a PIN or a key is erased when dropped.

#![forbid(unsafe_code)]

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "structures above the packets use the rest")
)]
mod bytes;
mod guid;
pub mod pdu;
#[cfg(test)]
mod tests;

pub use guid::Guid;
