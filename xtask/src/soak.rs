//! `cargo xtask soak`: eight clients against one daemon for a long time, or eight administrators of other machines.

use anyhow::Result;

use crate::shell::{Workspace, run as run_command};

/// Options of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many operations
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    operations: u64,
    /// Instead, have administrators of other machines make and destroy so many cards, by DCOM
    #[arg(
        long,
        value_name = "CARDS",
        num_args = 0..=1,
        default_missing_value = "1000",
        conflicts_with = "operations"
    )]
    remote: Option<u64>,
}

/// Builds daemon, service and soak for release and runs it; the figures go to `docs/reliability.md`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    run_command(
        workspace
            .cargo()
            .args(["build", "--release", "-p", "cardea-daemon"])
            .args(["-p", "cardea-tpmvsc"]),
    )?;
    let soak = ["bench", "-p", "cardea-testkit", "--bench", "soak", "--"];
    let mut command = workspace.cargo();
    command.args(soak);
    match arguments.remote {
        Some(cards) => command.arg("remote").arg(cards.to_string()),
        None => command.arg(arguments.operations.to_string()),
    };
    run_command(&mut command)
}
