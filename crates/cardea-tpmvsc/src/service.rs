//! The service: the manager of MS-TPMVSC as a DCOM object, with all that a client needs to get at it.
//!
//! Activation, the resolver, reference counts and the manager are served on every address alike, so one port is enough.
//! There is one object, as long as the service runs; clients need not ping it.

mod activation;
mod callback;
mod endpoint;
mod methods;
mod pace;
mod resolver;
mod unknown;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cardea_dcom::Guid;
use cardea_dcom::dcom::ids::{
    IID_ACTIVATION, IID_OBJECT_EXPORTER, IID_REM_UNKNOWN, IID_REM_UNKNOWN2,
    IID_REMOTE_SCM_ACTIVATOR, object_exporter,
};
use cardea_dcom::dcom::{
    DualStringArray, ENDPOINT_MAPPER, OrpcThis, SecurityBinding, StringBinding,
};
use cardea_dcom::exporter::{Lifetime, ObjectTable, PingSets};
use cardea_dcom::ndr::NdrError;
use cardea_dcom::pdu::{AuthLevel, SyntaxId, auth_type, fault_status};
use cardea_dcom::tpmvsc::{interfaces_of_manager, last_opnum};

use self::pace::Pace;
use crate::accounts::Accounts;
use crate::manager::Manager;
use cardea_rpc::auth::{
    AuthError, Credentials, Directory, Fresh, KerberosAcceptor, KerberosFresh, KerberosService,
    ServerNames,
};
use cardea_rpc::random::{self, Draws};
use cardea_rpc::rpc::{Answer, Request, Services};
use cardea_rpc::server::Host;

/// What the service is made of.
pub struct Parts {
    /// Orders from the daemon.
    pub manager: Arc<Manager>,
    /// Who may call.
    pub accounts: Accounts,
    /// The account for reports to callers; without one, none are sent.
    pub callback: Option<Credentials>,
    /// The keys for Kerberos; without them, it is not spoken.
    pub kerberos: Option<Arc<KerberosService>>,
    /// The machine's own name.
    pub host: String,
    /// Names by which callers may know the machine, besides the addresses that they connect to.
    pub names: Vec<String>,
}

/// The service behind the listeners.
#[derive(Clone)]
pub struct Service(Arc<Shared>);

struct Shared {
    manager: Arc<Manager>,
    accounts: Accounts,
    callback: Option<Credentials>,
    kerberos: Option<Arc<KerberosService>>,
    server_names: ServerNames,
    names: Vec<String>,
    rem_unknown: Guid,
    tables: Mutex<Tables>,
    pace: Pace,
    started: Instant,
}

struct Tables {
    objects: ObjectTable,
    pings: PingSets,
    manager: u64,
}

impl Service {
    /// Not on any address yet.
    ///
    /// # Errors
    ///
    /// Without random numbers.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let mut draws = Draws::new(3)?;
        let mut objects = ObjectTable::new(draws.number());
        let manager = draws.number();
        let interfaces = interfaces_of_manager();
        objects
            .add(manager, Lifetime::Singleton, false, &interfaces)
            .map_err(io::Error::other)?;
        Ok(Self(Arc::new(Shared {
            manager: parts.manager,
            accounts: parts.accounts,
            callback: parts.callback,
            kerberos: parts.kerberos,
            server_names: ServerNames::new(&parts.host),
            names: parts.names,
            rem_unknown: draws.guid(),
            tables: Mutex::new(Tables {
                objects,
                pings: PingSets::new(),
                manager,
            }),
            pace: Pace::default(),
            started: Instant::now(),
        })))
    }
}

impl Host for Service {
    fn accept(&self, peer: SocketAddr, local: SocketAddr) -> Option<Box<dyn Services>> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if !self.0.pace.is_welcome(peer.ip(), Instant::now()) {
            tracing::warn!(%peer, "connection refused: too many failed authentications");
            return None;
        }
        Some(Box::new(Visit {
            shared: Arc::clone(&self.0),
            peer,
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
        }))
    }
}

/// One connection.
struct Visit {
    shared: Arc<Shared>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Visit {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        let tables = self.shared.tables.lock();
        tables.unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds since the start.
    fn now(&self) -> u64 {
        self.shared.started.elapsed().as_secs()
    }

    /// The addresses of this machine: first the one that the caller has come by. Those of a resolver have no port when
    /// it is the usual one.
    fn bindings(&self, always_with_port: bool) -> DualStringArray {
        let port = self.local.port();
        let port = (always_with_port || port != RESOLVER_PORT).then_some(port);
        let own = self.local.ip().to_string();
        let hosts = [&own].into_iter().chain(&self.shared.names);
        let mechanism = |service: u8| SecurityBinding {
            service: u16::from(service),
            principal: String::new(),
        };
        DualStringArray {
            addresses: hosts.map(|host| StringBinding::tcp(host, port)).collect(),
            security: [auth_type::SPNEGO, auth_type::NTLM].map(mechanism).to_vec(),
        }
    }

    fn methods_of_object(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let ipid = request.call.object.ok_or(fault_status::DISCONNECTED)?;
        let uuid = request.interface.uuid;
        if [IID_REM_UNKNOWN, IID_REM_UNKNOWN2].contains(&uuid) {
            return match ipid == self.shared.rem_unknown {
                true => self.rem_unknown(request),
                false => Err(fault_status::DISCONNECTED),
            };
        }
        {
            let tables = self.tables();
            let found = tables.objects.find(&ipid);
            // Of this object, whichever of its interfaces: what counts is the one that was bound.
            if found.is_none_or(|found| found.oid != tables.manager) {
                return Err(fault_status::DISCONNECTED);
            }
        }
        self.manager(request)
    }
}

impl Services for Visit {
    fn serves(&self, interface: &SyntaxId) -> bool {
        let mut served = SERVED.into_iter().chain(interfaces_of_manager());
        *interface == ENDPOINT_MAPPER || served.any(|uuid| SyntaxId::interface(uuid) == *interface)
    }

    fn needs(&self, interface: &SyntaxId, opnum: u16) -> AuthLevel {
        match interface.uuid {
            // Who has found the port knows all that it says.
            uuid if uuid == ENDPOINT_MAPPER.uuid => AuthLevel::None,
            IID_OBJECT_EXPORTER
                if [
                    object_exporter::SERVER_ALIVE,
                    object_exporter::SERVER_ALIVE2,
                ]
                .contains(&opnum) =>
            {
                AuthLevel::None
            }
            uuid if last_opnum(&uuid).is_some() => AuthLevel::Privacy,
            _ => AuthLevel::Integrity,
        }
    }

    fn call(&self, request: &Request<'_>) -> Result<Answer, u32> {
        match request.interface.uuid {
            IID_OBJECT_EXPORTER => self.resolver(request),
            uuid if uuid == ENDPOINT_MAPPER.uuid => self.endpoint(request),
            // Whoever has authenticated is in the list of accounts, and so an administrator.
            _ if request.caller.is_none() => Err(fault_status::ACCESS_DENIED),
            IID_ACTIVATION | IID_REMOTE_SCM_ACTIVATOR => self.activation(request),
            _ => self.methods_of_object(request),
        }
    }

    fn accounts(&self) -> &dyn Directory {
        &self.shared.accounts
    }

    fn fresh(&self) -> io::Result<Fresh> {
        Ok(Fresh {
            nonce: random::bytes()?,
            decoy: random::bytes()?,
            time: random::file_time(),
        })
    }

    fn kerberos(&self) -> io::Result<Option<KerberosAcceptor>> {
        let Some(service) = &self.shared.kerberos else {
            return Ok(None);
        };
        let fresh = KerberosFresh {
            key: random::bytes()?,
            confounders: random::bytes()?,
            sequence: u32::from_le_bytes(random::bytes()?),
            time: random::unix_time(),
        };
        Ok(Some(KerberosAcceptor::new(Arc::clone(service), fresh)))
    }

    fn names(&self) -> ServerNames {
        self.shared.server_names.clone()
    }

    fn refused(&self, error: AuthError) {
        let peer = self.peer;
        self.shared.pace.failed(peer.ip(), Instant::now());
        tracing::warn!(%peer, %error, "caller refused");
    }

    fn authenticated(&self, user: &str) {
        let peer = self.peer;
        self.shared.pace.succeeded(peer.ip());
        tracing::debug!(%peer, user, "caller authenticated");
    }
}

/// Checks what comes after the arguments of a call, and the version of its caller.
fn checked(request: &Request<'_>, used: usize, this: Option<&OrpcThis>) -> Result<(), u32> {
    request.check(used, this)
}

fn undecodable(error: NdrError) -> u32 {
    error.fault_status()
}

/// An answer that nothing has to be taken back for.
fn plain(stub: zeroize::Zeroizing<Vec<u8>>) -> Answer {
    Answer { stub, undo: None }
}

/// Whether two addresses are of the same machine, as far as addresses say so.
fn is_same(address: &str, peer: IpAddr) -> bool {
    let address = address.trim_matches(['[', ']']).parse::<IpAddr>();
    address.is_ok_and(|address| address.to_canonical() == peer)
}

/// Interfaces besides those of the manager.
const SERVED: [Guid; 5] = [
    IID_OBJECT_EXPORTER,
    IID_ACTIVATION,
    IID_REMOTE_SCM_ACTIVATOR,
    IID_REM_UNKNOWN,
    IID_REM_UNKNOWN2,
];

/// Where resolvers are.
const RESOLVER_PORT: u16 = 135;
