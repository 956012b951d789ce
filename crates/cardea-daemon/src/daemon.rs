//! The daemon as a value: started, serving, stopped. In the program and in tests alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cardea_store::{Store, StoreError};
use cardea_tpm::{Address, Chip, Service};

use crate::doors::bus::Bus;
use crate::doors::socket::server::Server;
use crate::process::boot;
use crate::process::config::Config;
use crate::process::panics::keep_running;
use cardea_host::ActiveUsers;
use cardea_host::Audit;
use cardea_host::Connect;
use cardea_host::Counter;
use cardea_host::Host;
use cardea_host::Prompter;
use cardea_host::Roles;

/// The first look at the cards may take this long before clients are served all the same.
const FIRST_PASS_TIME: Duration = Duration::from_secs(10);

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The audit.
    #[error("the audit log in {} cannot be opened", path.display())]
    Audit {
        /// Which folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The state folder: not usable, or used by another daemon.
    #[error("the state folder {} cannot be used", path.display())]
    State {
        /// Which folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The socket.
    #[error("the socket {} cannot be created", path.display())]
    Socket {
        /// Which socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No thread.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A TPM 2.0 at this address.
fn connect(address: Address) -> Connect {
    Box::new(move || Ok(Arc::new(Service::start(&address)?) as Arc<dyn Chip>))
}

/// A running daemon. Stops when dropped.
#[derive(Debug)]
pub struct Daemon {
    host: Arc<Host>,
    server: Option<Server>,
    bus: Option<Arc<Bus>>,
    keeper: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Locks the state folder, loads the cards and serves the socket.
    ///
    /// A TPM that cannot be reached is not an error: the cards are listed and say so, and become available with it.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        let state = |source| StartError::State {
            path: config.state_dir.clone(),
            source,
        };
        let store = Store::open(&config.state_dir).map_err(state)?;
        let audit = Audit::open(&config.state_dir).map_err(|source| StartError::Audit {
            path: config.state_dir.clone(),
            source,
        })?;
        let roles = Roles {
            admin_group: config.admin_group.clone(),
            pcscd_uid: config.pcscd_uid,
            pcscd_user: config.pcscd_user.clone(),
        };
        let host = Arc::new(Host::new(
            roles,
            store,
            audit,
            connect(config.tpm.clone()),
            config.slots,
            config.redirect_to_reader,
            config.admin_key.clone(),
        ));
        cardea_host::load(&host).map_err(state)?;
        if config.service {
            boot::await_device(&config.tpm, FIRST_PASS_TIME);
        }
        let mut daemon = Self {
            host: Arc::clone(&host),
            server: None,
            bus: None,
            keeper: None,
        };
        if config.bus {
            // Cards of people wait until it is known who is here.
            host.presence().set(ActiveUsers::Awaited);
        }
        let keeper = {
            let host = Arc::clone(&host);
            thread::Builder::new()
                .name("keeper".into())
                .spawn(move || keep_running(|| cardea_host::keep(&host)))
                .map_err(StartError::Thread)?
        };
        daemon.keeper = Some(keeper);
        host.await_first_pass(FIRST_PASS_TIME);
        let counter = Arc::new(Counter::new(Arc::clone(&host)));
        if config.bus {
            let coming = config.service && boot::bus_is_coming(Path::new("/"));
            let bus = Bus::start(Arc::clone(&counter), coming).map_err(StartError::Thread)?;
            // The host has none yet.
            let _ = host.set_prompter(Arc::clone(&bus) as Arc<dyn Prompter>);
            daemon.bus = Some(bus);
        }
        let server =
            Server::start(counter, &config.socket).map_err(|source| StartError::Socket {
                path: config.socket.clone(),
                source,
            })?;
        daemon.server = Some(server);
        tracing::info!(socket = %config.socket.display(), tpm = %config.tpm, cards = daemon.host.count(), "serving");
        Ok(daemon)
    }

    /// Whether the socket's listener answers within the time, and the TPM's requests make progress. Neither needs a
    /// connection, of which there may be as many as there can be.
    #[must_use]
    pub fn is_alive(&self, limit: Duration) -> bool {
        let listens = |server: &Server| server.listens(limit);
        self.server.as_ref().is_some_and(listens) && self.host.is_tpm_served()
    }

    /// Ends listening and all connections, waits for what is at work, removes the socket.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop();
        }
        if let Some(bus) = self.bus.take() {
            bus.stop();
        }
        self.host.stop_keeper();
        if let Some(keeper) = self.keeper.take() {
            // A panic there was reported when it happened.
            let _ = keeper.join();
            tracing::info!("stopped");
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
