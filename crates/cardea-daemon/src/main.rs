//! The program `cardea-daemon`: command line, process hardening, signals, systemd.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use anyhow::Context;
use cardea_daemon::notify::Notifier;
use cardea_daemon::{Config, Daemon, Overrides, hardening, log};
use cardea_store::Remains;
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

/// Hosts virtual smart cards in a TPM 2.0.
#[derive(Debug, Parser)]
#[command(name = "cardea-daemon", version, about)]
struct Arguments {
    /// Configuration file [default: /etc/cardea/cardea.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the card files [default: /var/lib/cardea]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The private socket [default: /run/cardea/cardea.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The TPM: device:PATH, manager:unix=PATH, swtpm:unix=PATH, swtpm:tcp=HOST:PORT or simulator:DIR [default: device:/dev/tpmrm0]
    #[arg(long, value_name = "SPEC")]
    tpm: Option<String>,
    /// Show what the cards have in the TPM, and change nothing; exit code 3 if there is a card. Needs neither a
    /// TPM nor a running daemon
    #[arg(long)]
    remains: bool,
}

/// Exit code of `--remains` where there are cards.
const CARDS_REMAIN: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.remains {
        remains(arguments)
    } else {
        run(arguments).map(|()| ExitCode::SUCCESS)
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            // There is nobody left to tell when stderr is gone too.
            let _ = writeln!(io::stderr(), "cardea-daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says what stays in the TPM when the card files are removed.
fn remains(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(Overrides {
        config: arguments.config,
        state_dir: arguments.state_dir,
        socket: arguments.socket,
        tpm: arguments.tpm,
        // As for the service: a machine whose TPM has gone still has card files.
        service: true,
    })?;
    let remains = Remains::read(&config.state_dir);
    let mut out = io::stdout().lock();
    for line in remains.lines() {
        writeln!(out, "{}", cardea_terms::tame(&line))?;
    }
    Ok(if remains.nothing() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(CARDS_REMAIN)
    })
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let notifier = Notifier::from_environment().context("service manager")?;
    let config = Config::load(Overrides {
        config: arguments.config,
        state_dir: arguments.state_dir,
        socket: arguments.socket,
        tpm: arguments.tpm,
        service: notifier.is_heard(),
    })?;
    log::start(EnvFilter::try_new(&config.log).context("log filter")?);
    hardening::harden();
    // Handlers, not a blocked mask: a mask would be inherited by a software TPM that we start.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("signals")?;

    let daemon = Daemon::start(config)?;
    notifier.ready();

    let (stop, stopped) = channel();
    let waiter = thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let signal = signals.forever().next();
            // The receiver is there until it got this.
            let _ = stop.send(signal);
        })
        .context("signals")?;
    let interval = notifier.interval().map(|interval| interval / 2);
    let interval = interval.map_or(log::REPORT_INTERVAL, |interval| {
        interval.min(log::REPORT_INTERVAL)
    });
    loop {
        match stopped.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => {
                log::report();
                if notifier
                    .interval()
                    .is_some_and(|limit| daemon.is_alive(limit / 2))
                {
                    notifier.alive();
                }
            }
            signal => {
                tracing::info!(?signal, "stopping");
                break;
            }
        }
    }
    notifier.stopping();
    daemon.stop();
    // It has ended with its message; a panic there was reported when it happened.
    let _ = waiter.join();
    log::report_all();
    Ok(())
}
