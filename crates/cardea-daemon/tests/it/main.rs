//! The daemon over a real software TPM: as a process that is killed, and in this process.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests"
)]

mod audit;
mod crash;
mod disbelief;
mod life;
mod messages;
mod owner;
mod personal;
mod programs;
mod reader;
mod session_keys;
mod support;
