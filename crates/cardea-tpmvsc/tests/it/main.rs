//! The program as people run it, and its connections with clients that others wrote.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod hash;
mod rpc;
