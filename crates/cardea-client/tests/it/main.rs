//! The client and the daemon's end of the socket, against each other and against peers that misbehave.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod bytes;
mod calls;
mod frames;
mod support;
mod watching;
