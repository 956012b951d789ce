//! The commands `cardea` and `tpmvscmgr`: cards, their PINs, keys and certificates, and the TPM from the command line.
//!
//! What: requests to the daemon, text or JSON, documented exit codes; key and certificate files.
//! What not: no card logic and no TPM; no secret ever in an argument.
//! Begin with [`cardea`] and [`tpmvscmgr`].

#![forbid(unsafe_code)]

mod admin_key;
mod arguments;
mod commands;
mod completion;
mod daemon;
mod describe;
mod doctor;
mod duration;
mod exit;
mod file;
mod hex;
mod machine;
mod object_mode;
mod on_card;
mod places;
mod policy;
mod redirect;
mod setup;
mod terminal;
mod token;
mod tpmvscmgr;
mod uri;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::arguments::{Cli, Noun};
use crate::commands::{
    admin, attest, audit, card, certificate, csr, helpdesk, key, pin, reader_conf, tpm,
};
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::terminal::output;

/// The program `cardea`.
#[must_use]
pub fn cardea() -> ExitCode {
    protect_secrets();
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                output::note(&format!("cardea: {text}"));
            }
            failure.exit.into()
        }
    }
}

/// The program `tpmvscmgr`, with the grammar of Microsoft's.
#[must_use]
pub fn tpmvscmgr() -> ExitCode {
    protect_secrets();
    tpmvscmgr::run(std::env::args_os().skip(1)).into()
}

fn run(cli: &Cli) -> Result<(), Failure> {
    if let Some(place) = cli.machine.place() {
        return match &cli.noun {
            Noun::Card(verb) => card::run_there(verb, &place),
            _ => Err(Failure::usage(card::ONLY_CARDS)),
        };
    }
    let mut daemon = Daemon::new(&cli.socket);
    match &cli.noun {
        Noun::Admin(verb) => admin::run(verb, &mut daemon),
        Noun::Attest(verb) => attest::run(verb, &mut daemon),
        Noun::Audit {
            output,
            follow,
            verify,
            head,
        } => {
            if *verify {
                audit::verify(output.json, head, &mut daemon)
            } else {
                audit::show(output.json, *follow, &mut daemon)
            }
        }
        Noun::Card(verb) => card::run(verb, &cli.socket, &mut daemon),
        Noun::Cert(verb) => certificate::run(verb, &mut daemon),
        Noun::Complete { words } => {
            let names = completion::names(cli.socket.clone(), words);
            Ok(output::print(
                &names
                    .into_iter()
                    .map(|name| name + "\n")
                    .collect::<String>(),
            )?)
        }
        Noun::Completions { shell } => Ok(output::print(&completion::script(*shell))?),
        Noun::Csr(verb) => csr::run(verb, &mut daemon),
        Noun::Doctor { output, root } => doctor::run(&cli.socket, root, output.json),
        Noun::Helpdesk(verb) => helpdesk::run(verb),
        Noun::Key(verb) => key::run(verb, &mut daemon),
        Noun::Manual { out } => manual(out),
        Noun::Pin(verb) => pin::run(verb, &mut daemon),
        Noun::Puk(verb) => pin::run_puk(verb, &mut daemon),
        Noun::ReaderConf { library, slots } => {
            reader_conf::run(&cli.socket, library, *slots, &mut daemon)
        }
        Noun::Redirect(arguments) => redirect::run(arguments, &cli.socket, &mut daemon),
        Noun::RedirectAccept => redirect::accept(&cli.socket),
        Noun::Setup { root } => setup::run(&cli.socket, root, &mut daemon, &mut run),
        Noun::Tpm(verb) => tpm::run(verb, &mut daemon),
    }
}

/// A PIN that was typed here must not be in a core dump; a system that refuses this does not stop the command.
fn protect_secrets() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Writes the manual pages of `cardea`, one for each command, and that of `tpmvscmgr`.
fn manual(folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let text = format!(
            "the manual cannot be written to {}: {error}",
            folder.display()
        );
        Failure::new(exit::Exit::Failed, text)
    };
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
    std::fs::write(
        folder.join("tpmvscmgr.1"),
        include_str!("tpmvscmgr/tpmvscmgr.1"),
    )
    .map_err(failed)
}
