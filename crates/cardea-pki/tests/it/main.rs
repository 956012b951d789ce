//! What a program does with this crate: files that OpenSSL, OpenSSH and NSS made, and requests that OpenSSL reads.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod attestation;
mod certificates;
mod cmp;
mod damage;
mod envelope;
mod keys;
mod paths;
mod pkcs12;
mod recovery;
mod requests;
mod support;
