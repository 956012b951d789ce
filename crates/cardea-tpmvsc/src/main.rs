//! The program `cardea-tpmvsc`: its command line.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use cardea_tpmvsc::{accounts, prompt};
use clap::{Parser, Subcommand};

/// Cards made and destroyed from another machine, by MS-TPMVSC over DCOM.
#[derive(Debug, Parser)]
#[command(name = "cardea-tpmvsc", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the line of an account for the file of accounts; its password is asked for at the terminal
    Hash {
        /// Name of the account, without a domain
        name: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Command::Hash { name } => hash(name),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell when stderr is gone too.
            let _ = writeln!(io::stderr(), "cardea-tpmvsc: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn hash(name: &str) -> anyhow::Result<()> {
    accounts::check_name(name).map_err(anyhow::Error::msg)?;
    let password = prompt::new_password().context("cannot ask for the password on a terminal")?;
    let line = accounts::line(name, &password).map_err(anyhow::Error::msg)?;
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(())
}
