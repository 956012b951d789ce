//! `cardea-agent`: asks the person in a session for PINs and consent, for the daemon, through pinentry.
//!
//! It also keeps the cards on mounted drives inserted.
//! A PIN goes from pinentry's pipe into one of ours; the program that wants it never has it.

#![forbid(unsafe_code)]

mod dialog;
mod drives;
mod pinentry;
mod secret;
mod service;
mod unblocking;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::dialog::Dialogs;
use crate::drives::Drives;
use crate::pinentry::Options;
use crate::service::Service;

/// Between two attempts to reach the bus.
const RETRY: Duration = Duration::from_secs(2);

/// Asks the person in this session for PINs and consent, for the virtual smart cards.
#[derive(Debug, Parser)]
#[command(name = "cardea-agent", version, about)]
struct Arguments {
    /// The dialog: any pinentry of GnuPG
    #[arg(long, value_name = "PROGRAM", default_value = "pinentry")]
    pinentry: String,
    /// Terminal for a pinentry that needs one [default: GPG_TTY, or the one it is started on]
    #[arg(long, value_name = "PATH")]
    tty: Option<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    harden();
    let tty = arguments
        .tty
        .or_else(|| std::env::var("GPG_TTY").ok())
        .or_else(own_terminal);
    let dialogs = Arc::new(Dialogs {
        options: Options {
            program: arguments.pinentry,
            tty,
        },
        open: Arc::default(),
    });
    let current: Arc<Mutex<Option<Arc<Service>>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("signals")?;
    let (leaving, stopping, main) = (Arc::clone(&current), Arc::clone(&stop), thread::current());
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                stopping.store(true, Ordering::Relaxed);
                let service = leaving
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(service) = service {
                    service.leave();
                }
                main.unpark();
            }
        })
        .context("signals")?;
    let drives = match Drives::start(cardea_client::socket_path()) {
        Ok(drives) => Some(drives),
        Err(error) => {
            say(&format!("drives are not watched: {error}"));
            None
        }
    };
    while !stop.load(Ordering::Relaxed) {
        match Service::connect(&dialogs) {
            Ok((service, stream)) => {
                *current.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::clone(&service));
                if !stop.load(Ordering::Relaxed) {
                    service.serve(stream);
                }
                current
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
            }
            Err(error) => say(&format!("{error:#}; trying again")),
        }
        if !stop.load(Ordering::Relaxed) {
            thread::park_timeout(RETRY);
        }
    }
    drop(drives);
    Ok(())
}

/// The terminal that standard input is.
fn own_terminal() -> Option<String> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let name = rustix::termios::ttyname(io::stdin(), Vec::new()).ok()?;
    name.into_string().ok()
}

/// To the journal or the terminal. There is nobody left to tell when that is gone too.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "cardea-agent: {}", cardea_terms::tame(text));
}

/// No core dumps, no reading of our memory by processes of the same user, memory locked where that is allowed.
fn harden() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        say(&format!("core dumps not switched off by limit: {error}"));
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        say(&format!("core dumps not switched off: {error}"));
    }
    // A finite limit would keep later stacks from being mapped at all.
    if getrlimit(Resource::Memlock).current.is_none()
        && let Err(error) =
            mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
    {
        say(&format!("memory not locked: {error}"));
    }
}
