//! The object that the other machine reports to, while it works on an order.
//!
//! A listener on the address by which the other machine was reached, for connections from that machine alone. It has
//! a resolver and reference counts for the one object, and lets in the account that was made for this one order.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardea_dcom::Guid;
use cardea_dcom::dcom::ids::{
    IID_OBJECT_EXPORTER, IID_REM_UNKNOWN, IID_REM_UNKNOWN2, object_exporter, rem_unknown,
    resolver_status,
};
use cardea_dcom::dcom::{
    ComVersion, DualStringArray, InterfacePointer, OrpcResult, RemQueryInterface, RemRefs,
    ResolveOxid, ResolveOxid2Reply, ResolveOxidReply, ServerAlive2Reply, Status as ResolverStatus,
    StringBinding,
};
use cardea_dcom::exporter::{Lifetime, ObjectTable};
use cardea_dcom::ndr::{Message, NdrError};
use cardea_dcom::pdu::{AuthLevel, SyntaxId, fault_status};
use cardea_dcom::tpmvsc::{ErrorReport, IID_CALLBACK, Report, callback};
use cardea_rpc::auth::{AuthError, Directory, Fresh, ServerNames};
use cardea_rpc::one_time::OneTimeAccount;
use cardea_rpc::random::{self, Draws};
use cardea_rpc::rpc::{Answer, Request, Services};
use cardea_rpc::server::{Host, Limits, Server};
use cardea_terms::tpmvsc::{Hresult, Status};
use rustix::net::{Shutdown, shutdown};

use crate::machine::RESOLVER_PORT;
use crate::watch::{Event, Watch};

/// A listener for the reports about one order; it ends when it is dropped.
pub(crate) struct Reports {
    object: Object,
    server: Arc<Server>,
    listener: OwnedFd,
    reference: InterfacePointer,
}

impl Reports {
    /// On an own address, for reports of a machine about the call with this causality.
    pub(crate) fn listen(own: IpAddr, other: IpAddr, cid: Guid, watch: Watch) -> io::Result<Self> {
        // Where the resolver of Windows is looked for; whoever may not listen there says the port in the reference.
        let listener =
            TcpListener::bind((own, RESOLVER_PORT)).or_else(|_| TcpListener::bind((own, 0)))?;
        let port = listener.local_addr()?.port();
        let mut draws = Draws::new(4)?;
        let mut objects = ObjectTable::new(draws.number());
        let oid = draws.number();
        let add = objects.add(oid, Lifetime::Singleton, false, &[IID_CALLBACK]);
        add.map_err(io::Error::other)?;
        let account = OneTimeAccount::new(random::bytes()?);
        let bindings = DualStringArray {
            addresses: vec![StringBinding::tcp(&own.to_string(), Some(port))],
            security: Vec::new(),
        };
        let mut sealed = bindings.clone();
        sealed.security.push(account.binding());
        let reference = objects
            .objref(oid, &IID_CALLBACK, &sealed, &mut || draws.guid())
            .map_err(|_| io::Error::other("no reference to the callback"))?;
        let object = Object(Arc::new(Shared {
            other: other.to_canonical(),
            cid,
            watch,
            account,
            bindings,
            rem_unknown: draws.guid(),
            objects: Mutex::new(objects),
            count: AtomicU32::new(0),
        }));
        let clone = OwnedFd::from(listener.try_clone()?);
        let server = Server::start(vec![listener], Box::new(object.clone()), LIMITS)?;
        Ok(Self {
            object,
            server,
            listener: clone,
            reference: InterfacePointer::from(&reference),
        })
    }

    /// What is passed to the other machine, sealed.
    pub(crate) fn reference(&self) -> &InterfacePointer {
        &self.reference
    }

    /// Whether the other machine has reported anything.
    pub(crate) fn were_heard(&self) -> bool {
        self.object.0.count.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.server.stop(Duration::ZERO);
        // Wakes the listener, which ends then.
        let _ = shutdown(&self.listener, Shutdown::Both);
    }
}

/// The one object, for each connection.
#[derive(Clone)]
struct Object(Arc<Shared>);

struct Shared {
    other: IpAddr,
    cid: Guid,
    watch: Watch,
    account: OneTimeAccount,
    bindings: DualStringArray,
    rem_unknown: Guid,
    objects: Mutex<ObjectTable>,
    count: AtomicU32,
}

impl Object {
    fn objects(&self) -> MutexGuard<'_, ObjectTable> {
        let objects = self.0.objects.lock();
        objects.unwrap_or_else(PoisonError::into_inner)
    }

    fn resolver(&self, request: &Request<'_>) -> Result<Vec<u8>, u32> {
        let stub = match request.call.opnum {
            object_exporter::RESOLVE_OXID => self.resolve(request)?.encode(),
            object_exporter::RESOLVE_OXID2 => {
                let resolved = self.resolve(request)?;
                ResolveOxid2Reply {
                    bindings: resolved.bindings,
                    rem_unknown: resolved.rem_unknown,
                    auth_hint: resolved.auth_hint,
                    version: ComVersion::CURRENT,
                    status: resolved.status,
                }
                .encode()
            }
            object_exporter::SERVER_ALIVE => ResolverStatus {
                status: resolver_status::OK,
            }
            .encode(),
            object_exporter::SERVER_ALIVE2 => ServerAlive2Reply {
                version: ComVersion::CURRENT,
                bindings: Some(self.0.bindings.clone()),
                status: resolver_status::OK,
            }
            .encode(),
            // The reference says that the object needs no pings.
            _ => return Err(fault_status::OPERATION_RANGE),
        };
        Ok(stub.to_vec())
    }

    fn resolve(&self, request: &Request<'_>) -> Result<ResolveOxidReply, u32> {
        let (asked, used) = ResolveOxid::decode(request.stub).map_err(NdrError::fault_status)?;
        request.check(used, None)?;
        Ok(match asked.oxid == self.objects().oxid() {
            true => ResolveOxidReply {
                bindings: Some(self.0.bindings.clone()),
                rem_unknown: self.0.rem_unknown,
                auth_hint: AuthLevel::Privacy as u32,
                status: resolver_status::OK,
            },
            false => ResolveOxidReply {
                bindings: None,
                rem_unknown: Guid::NIL,
                auth_hint: 0,
                status: resolver_status::INVALID_OXID,
            },
        })
    }

    fn references(&self, request: &Request<'_>) -> Result<Vec<u8>, u32> {
        let refs = || -> Result<RemRefs, u32> {
            let (refs, used) = RemRefs::decode(request.stub).map_err(NdrError::fault_status)?;
            request.check(used, Some(&refs.this))?;
            Ok(refs)
        };
        let stub = match request.call.opnum {
            rem_unknown::REM_QUERY_INTERFACE => {
                let decoded = RemQueryInterface::decode(request.stub);
                let (query, used) = decoded.map_err(NdrError::fault_status)?;
                request.check(used, Some(&query.this))?;
                let drawn = Draws::new(query.iids.len());
                let mut draws = drawn.map_err(|_| fault_status::PROTOCOL_ERROR)?;
                self.objects().query(&query, &mut || draws.guid()).encode()
            }
            rem_unknown::REM_ADD_REF => self.objects().add_refs(&refs()?).encode(),
            rem_unknown::REM_RELEASE => self.objects().release(&refs()?).0.encode(),
            _ => return Err(fault_status::OPERATION_RANGE),
        };
        Ok(stub.to_vec())
    }

    fn report(&self, request: &Request<'_>) -> Result<Vec<u8>, u32> {
        let opnum = request.call.opnum;
        if ![callback::REPORT_PROGRESS, callback::REPORT_ERROR].contains(&opnum) {
            return Err(fault_status::OPERATION_RANGE);
        }
        let (report, used) = Report::decode(request.stub).map_err(NdrError::fault_status)?;
        request.check(used, Some(&report.this))?;
        // About another order, of which nothing is known here; and more than any order has steps.
        let shared = &*self.0;
        if report.this.cid != shared.cid
            || shared.count.fetch_add(1, Ordering::SeqCst) >= MAX_REPORTS
        {
            return Err(fault_status::DISCONNECTED);
        }
        // What is not known is not shown.
        let event = match opnum {
            callback::REPORT_PROGRESS => Status::from_wire(report.number).map(Event::Step),
            _ => ErrorReport::from_wire(report.number).map(Event::Failed),
        };
        if let (Some(hear), Some(event)) = (&shared.watch.hear, event) {
            hear(event);
        }
        let is_aborted = opnum == callback::REPORT_PROGRESS && shared.watch.is_aborted();
        let result = match is_aborted {
            true => Hresult::ABORT,
            false => Hresult::OK,
        };
        Ok(OrpcResult::new(result.0).encode().to_vec())
    }
}

impl Host for Object {
    fn accept(&self, peer: SocketAddr, _: SocketAddr) -> Option<Box<dyn Services>> {
        (peer.ip().to_canonical() == self.0.other).then(|| Box::new(self.clone()) as _)
    }
}

impl Services for Object {
    fn serves(&self, interface: &SyntaxId) -> bool {
        [
            IID_OBJECT_EXPORTER,
            IID_CALLBACK,
            IID_REM_UNKNOWN,
            IID_REM_UNKNOWN2,
        ]
        .map(SyntaxId::interface)
        .contains(interface)
    }

    fn needs(&self, interface: &SyntaxId, _: u16) -> AuthLevel {
        match interface.uuid {
            // It says where the object is, which whoever asks here knows already.
            IID_OBJECT_EXPORTER => AuthLevel::None,
            _ => AuthLevel::Integrity,
        }
    }

    fn call(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let uuid = request.interface.uuid;
        let object = request.call.object;
        let stub = match uuid {
            IID_OBJECT_EXPORTER => self.resolver(request)?,
            _ if request.caller.is_none() => return Err(fault_status::ACCESS_DENIED),
            IID_CALLBACK => {
                let found = object.and_then(|ipid| self.objects().find(&ipid));
                found.ok_or(fault_status::DISCONNECTED)?;
                self.report(request)?
            }
            _ if object == Some(self.0.rem_unknown) => self.references(request)?,
            _ => return Err(fault_status::DISCONNECTED),
        };
        Ok(Answer {
            stub: stub.into(),
            undo: None,
        })
    }

    fn accounts(&self) -> &dyn Directory {
        &self.0.account
    }

    fn fresh(&self) -> io::Result<Fresh> {
        Ok(Fresh {
            nonce: random::bytes()?,
            decoy: random::bytes()?,
            time: random::file_time(),
        })
    }

    fn names(&self) -> ServerNames {
        ServerNames::new("callback")
    }

    fn refused(&self, _: AuthError) {}

    fn authenticated(&self, _: &str) {}
}

/// Orders have some ten steps; slow ones repeat some.
const MAX_REPORTS: u32 = 256;

/// One machine calls, for the resolver, the object and its references.
const LIMITS: Limits = Limits {
    connections: 8,
    of_one_address: 8,
    strangers: 4,
    authentication: Duration::from_secs(20),
    idle: Duration::from_secs(600),
    packet: Duration::from_secs(10),
};

#[cfg(test)]
mod tests;
