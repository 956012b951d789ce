//! The library as C programs and pcscd use it, with a daemon of the tests that is killed and started at will.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod build;
mod daemon;
mod host;
mod pcscd;
mod support;
