//! `cargo xtask bench`: cards against the bare TPM, in one run.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell::{Workspace, run as run_command};

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A tenth of the repetitions: for trying out, not for quoting
    #[arg(long)]
    quick: bool,
    /// One of the benchmarks only
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Compare this build with another one, whose programs and libraries are in that folder, and nothing else
    #[arg(long, value_name = "FOLDER", conflicts_with = "only")]
    against: Option<PathBuf>,
}

/// The benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Cards against the bare TPM
    Cards,
    /// What a person waits for on a chip, by models of chips
    Hardware,
    /// A user beside others who use the daemon as hard as it lets them
    Neighbours,
    /// The PKCS#11 module beside tpm2-pkcs11 and the bare TPM
    Pkcs11,
    /// Calls and cards by DCOM beside the daemon's own
    Remote,
    /// Uses with the real programs
    Uses,
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
        "-p",
        "cardea-pkcs11",
        "-p",
        "cardea-agent",
        "-p",
        "cardea-tpmvsc",
    ];
    run_command(
        workspace
            .cargo()
            .args(["build", "--release"])
            .args(products),
    )?;
    let quick = arguments.quick.then_some("--quick");
    if let Some(other) = &arguments.against {
        let other = other.canonicalize()?;
        let bench = ["bench", "-p", "cardea-testkit", "--bench", "pkcs11", "--"];
        let mut command = workspace.cargo();
        command.args(bench).args(quick).arg("--against").arg(other);
        return run_command(&mut command);
    }
    let benches = [
        ("cards", Only::Cards),
        ("pkcs11", Only::Pkcs11),
        ("remote", Only::Remote),
        ("uses", Only::Uses),
        ("hardware", Only::Hardware),
        ("neighbours", Only::Neighbours),
    ];
    for (name, which) in benches {
        if arguments.only.is_none_or(|only| only == which) {
            let bench = ["bench", "-p", "cardea-testkit", "--bench", name, "--"];
            run_command(workspace.cargo().args(bench).args(quick))?;
        }
    }
    Ok(())
}
