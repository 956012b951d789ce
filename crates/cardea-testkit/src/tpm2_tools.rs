//! Debian's tpm2-tools, the second opinion on a TPM's contents.

use std::path::Path;
use std::process::Command;

use crate::process::{Outcome, run};

/// Runs one of the programs on the TPM behind a socket: a [`crate::multiplexer::Multiplexer`]'s, or a
/// [`crate::swtpm::Swtpm`]'s own while that has no other client.
///
/// The TCTI `swtpm:path=` sets the locality on a control socket beside it, with `.ctrl`; both have one.
/// The TPM must have been started up: by a daemon or by `tpm2_startup -c`.
#[must_use]
pub fn tpm2_tools(socket: &Path, program: &str, arguments: &[&str]) -> Outcome {
    run(Command::new(program)
        .args(["-T", &format!("swtpm:path={}", socket.display())])
        .args(arguments))
}
