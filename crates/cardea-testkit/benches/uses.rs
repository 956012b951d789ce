//! Uses with the real programs, the card beside a key in a file: `cargo xtask bench`.
//!
//! Everything is printed as medians and ratios; nothing here passes or fails.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark tells on standard output and fails by panicking"
)]

#[path = "uses/ssh.rs"]
mod ssh;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    ssh::run(quick);
}
