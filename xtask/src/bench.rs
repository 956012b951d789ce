//! `cargo xtask bench`: cards against the bare TPM, in one run.

use anyhow::Result;

use crate::shell::{Workspace, run as run_command};

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A tenth of the repetitions: for trying out, not for quoting
    #[arg(long)]
    quick: bool,
}

/// Builds the products and the benchmark for release and prints the tables of `docs/performance.md`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let products = [
        "-p",
        "cardea-daemon",
        "-p",
        "cardea-cli",
        "-p",
        "cardea-ifd",
    ];
    run_command(
        workspace
            .cargo()
            .args(["build", "--release"])
            .args(products),
    )?;
    let bench = ["bench", "-p", "cardea-testkit", "--bench", "cards", "--"];
    let quick = arguments.quick.then_some("--quick");
    run_command(workspace.cargo().args(bench).args(quick))
}
