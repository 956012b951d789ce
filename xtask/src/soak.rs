//! `cargo xtask soak`: eight clients against one daemon for a long time.

use anyhow::Result;

use crate::shell::{Workspace, run as run_command};

/// Options of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many operations
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    operations: u64,
}

/// Builds daemon and soak for release and runs it; the figures go to `docs/reliability.md`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    run_command(
        workspace
            .cargo()
            .args(["build", "--release", "-p", "cardea-daemon"]),
    )?;
    let soak = ["bench", "-p", "cardea-testkit", "--bench", "soak", "--"];
    run_command(
        workspace
            .cargo()
            .args(soak)
            .arg(arguments.operations.to_string()),
    )
}
