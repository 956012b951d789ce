//! The program as people run it, and its connections with clients that others wrote.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod cards;
mod endpoint;
mod hash;
mod hostile;
mod kerberos;
mod machine;
mod reports;
mod rpc;
