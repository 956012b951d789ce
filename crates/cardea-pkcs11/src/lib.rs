//! PKCS#11 module of the daemon's cards (PKCS#11 3.1 and 2.40).
//!
//! What: one slot per card, its keys, certificates and data as objects, and the mechanisms of its keys; each
//! private operation is one round trip over the private socket.
//! What not: no key, no PIN beyond the call that brings it (but the PUK or admin key of a security officer
//! who is logged in, which C_InitPIN needs), no thread, no signal handler, no output.
//! Begin with `abi`, which is all of the unsafe code, then `module` and `pool`.
//!
//! The chapters of the standard are files: `general`, `slots`, `sessions`, `objects`, `creation`, `encryption`,
//! `decryption`, `digests`, `signing`, `verification`, `keys`.

mod abi;
mod attributes;
mod creation;
mod decryption;
mod encryption;
mod general;
mod hashes;
mod keys;
mod mechanisms;
mod module;
mod object;
mod objects;
mod operations;
mod output;
mod padding;
mod pool;
mod random;
mod running;
mod rv;
mod sessions;
mod signing;
mod slots;
mod state;
mod template;
mod verification;
mod x509;
