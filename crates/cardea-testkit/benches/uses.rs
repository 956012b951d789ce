//! Programs of others with a card, beside what they do without: `cargo xtask bench --only uses`.
//!
//! One module for each measurement, in `uses/`.
//! Everything is printed as medians and ratios; nothing here passes or fails.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark tells on standard output and fails by panicking"
)]

#[path = "uses/redirect.rs"]
mod redirect;
#[path = "uses/ssh.rs"]
mod ssh;
#[path = "pkcs11/statistics.rs"]
mod statistics;
#[path = "uses/tls.rs"]
mod tls;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    // A share of the repetitions: 1 for trying out and 10 for quoting.
    let part = if quick { 1 } else { 10 };
    // A part of a measurement in a process of its own.
    if arguments.first().is_some_and(|first| first == "--tls-user") {
        return tls::be_the_user(part);
    }
    ssh::run(quick);
    println!();
    tls::measure(part);
    println!();
    redirect::run(quick);
}
