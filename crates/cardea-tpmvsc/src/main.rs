//! The program `cardea-tpmvsc`: command line, log, signals.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cardea_rpc::auth::{KerberosService, Keytab};
use cardea_rpc::server::{Limits, Server};
use cardea_tpmvsc::accounts::{self, Accounts};
use cardea_tpmvsc::config::Config;
use cardea_tpmvsc::manager::Manager;
use cardea_tpmvsc::prompt;
use cardea_tpmvsc::service::{Parts, Service};
use clap::{Parser, Subcommand};
use rustix::net::sockopt;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

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
    /// Serve callers until the end
    Serve {
        /// Configuration file [default: /etc/cardea/tpmvsc.toml if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Command::Hash { name } => hash(name),
        Command::Serve { config } => serve(config.as_deref()),
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

fn serve(config: Option<&Path>) -> anyhow::Result<()> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let config = Config::load(config, credentials.as_deref())?;
    let filter = EnvFilter::try_new(&config.log).context("log filter")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .without_time()
        .init();
    // PINs and keys pass through: nobody reads them out of this process, or out of what it leaves behind.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("core dumps")?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("signals")?;

    let accounts = Accounts::read(&config.accounts)?;
    if accounts.count() == 0 {
        bail!("{} has no account", config.accounts.display());
    }
    let callback = config.callback.as_deref();
    let callback = callback
        .map(|path| accounts::credentials(path, &config.callback_domain))
        .transpose()?;
    let keytab = config.keytab.as_deref().map(Keytab::read).transpose()?;
    for service in keytab.iter().flat_map(Keytab::services) {
        tracing::info!(%service, "in the keytab");
    }
    let host = nix::unistd::gethostname().context("the machine's name")?;
    let service = Service::new(Parts {
        manager: Manager::new(config.socket.clone(), config.owner),
        accounts,
        callback,
        kerberos: keytab.map(|keytab| Arc::new(KerberosService::new(keytab))),
        host: host.to_string_lossy().into_owned(),
        names: config.names.clone(),
    })?;
    let listeners = listeners(&config)?;
    for listener in &listeners {
        tracing::info!(address = %listener.local_addr()?, "listening");
    }
    let server = Server::start(listeners, Box::new(service), Limits::default())?;
    let signal = signals.forever().next();
    tracing::info!(?signal, "stopping");
    server.stop(STOP_TIME);
    Ok(())
}

fn listeners(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    if !config.listen.is_empty() {
        let bind = |address| {
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
        };
        return config.listen.iter().map(bind).collect();
    }
    let stdin = io::stdin();
    let listener = stdin.as_fd();
    if sockopt::socket_acceptconn(listener) != Ok(true) {
        bail!(
            "nothing to listen on: set `listen` in the configuration, or pass a listening socket as standard input \
             (cardea-tpmvsc.socket)"
        );
    }
    let owned = listener.try_clone_to_owned()?;
    Ok(vec![TcpListener::from(owned)])
}

/// What a card's creation that has begun may still take.
const STOP_TIME: Duration = Duration::from_secs(120);
