//! PKCS#11 module for the daemon's cards (PKCS#11 3.1 and 2.40).
//!
//! It shows one slot for each card, with the card's keys, certificates and data as objects and the mechanisms of its
//! keys. Each private operation is one round trip over the private socket.
//! It holds no key, and no PIN longer than the call that passes it (except the PUK or admin key of a logged-in
//! security officer, which C_InitPIN needs). It starts no thread, installs no signal handler and prints nothing.
//!
//! Start reading at `abi`, which has all the unsafe code, then `module` and `pool`.
//! The chapters of the standard are files: `general`, `slots`, `sessions`, `objects`, `session_objects`, `creation`,
//! `certificates`, `operations`, `keys`.
//! They rest on files that do not know the module: first `state`, `object`, `template` and `rv`, then those of
//! attributes, key material, mechanisms and running operations.

mod abi;
mod attributes;
mod certificates;
mod creation;
mod decryption;
mod encryption;
#[cfg(test)]
mod fake_daemon;
mod general;
mod hashes;
mod kdf;
mod key_material;
mod keys;
mod mechanisms;
mod module;
mod object;
mod objects;
mod operations;
mod output;
mod padding;
mod pin_form;
mod pool;
mod random;
mod running;
mod rv;
mod session_objects;
mod sessions;
mod signing;
mod slots;
mod state;
mod template;
mod verification;
mod x509;
