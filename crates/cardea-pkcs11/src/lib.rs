//! PKCS#11 module of the daemon's cards (PKCS#11 2.40).
//!
//! What: one slot per card, its keys and certificates as objects, and the mechanisms of its keys; each private
//! operation is one round trip over the private socket.
//! What not: no key, no PIN beyond the call that brings it (but the PUK of a security officer
//! who is logged in, which C_InitPIN needs), no thread, no signal handler, no output.
//! Begin with `abi`, which is all of the unsafe code, then `module`.
//!
//! The chapters of the standard are files: `general`, `slots`, `sessions`, `objects`, `signing`, `decryption`,
//! `keys`, `digests`.

mod abi;
mod attributes;
mod decryption;
mod digests;
mod general;
mod keys;
mod module;
mod objects;
mod rv;
mod sessions;
mod signing;
mod slots;
mod x509;

pub use abi::C_GetFunctionList;
