//! The manager on another machine: activated, called, released.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cardea_dcom::Guid;
use cardea_dcom::dcom::ids::{
    IID_OBJECT_EXPORTER, IID_REM_UNKNOWN, IID_REMOTE_SCM_ACTIVATOR, hresult, object_exporter,
    rem_unknown, remote_scm_activator, resolver_status,
};
use cardea_dcom::dcom::{
    ActivationAnswer, ActivationReply, ActivationRequest, ComVersion, ComplexPingReply,
    DIFFERENT_MACHINE, DualStringArray, InterfacePointer, InterfaceRef, Location, OrpcThis,
    RemRefs, RemoteCreateInstance, ResolveOxid, ResolveOxid2Reply, Status, StdObjRef, TOWER_TCP,
};
use cardea_dcom::exporter::Pinger;
use cardea_dcom::ndr::{Message, Secret, WideString};
use cardea_dcom::pdu::{SyntaxId, fault_status};
use cardea_dcom::tpmvsc::{
    Attestation, CLSID_REMOTE_MANAGER, CreateCard, CreateCardReply, CreateMethod, DestroyCard,
    DestroyCardReply, IID_MANAGER, IID_MANAGER2, IID_MANAGER3, manager,
};
use cardea_rpc::random;
use cardea_rpc::rpc::outgoing::{Outgoing, OutgoingError};
use cardea_terms::tpmvsc::Hresult;
use zeroize::Zeroizing;

use crate::callback::Reports;
use crate::card::{NewCard, key_check_value};
use crate::error::RemoteError;
use crate::machine::Machine;
use crate::watch::{Event, Watch};

impl Machine {
    /// Finds out whether there is a manager that lets this account in.
    ///
    /// # Errors
    ///
    /// [`RemoteError`].
    pub fn probe(&self) -> Result<(), RemoteError> {
        Manager::activate(self).map(Manager::release)
    }

    /// Makes a card; its instance id, as the other machine wrote it.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]. After [`RemoteError::Lost`] the card may be there or not.
    pub fn create(&self, card: &NewCard, watch: &Watch) -> Result<String, RemoteError> {
        let mut manager = Manager::activate(self)?;
        let method = match (card.attestation, card.policy) {
            (Attestation::AikOnly | Attestation::AikAndCertificate, _) => {
                manager.require(&[IID_MANAGER3], "attestation of cards")?;
                CreateMethod::Attestation
            }
            (Attestation::None, Some(_)) => {
                manager.require(&[IID_MANAGER2, IID_MANAGER3], "PIN policies")?;
                CreateMethod::PinPolicy
            }
            (Attestation::None, None) => CreateMethod::Plain,
        };
        let name = WideString::from_text(&card.name);
        let name = name.ok_or(RemoteError::Refused(Hresult::INVALID_ARGUMENT))?;
        let stub = manager.order(method.opnum(), watch, |this, callback| {
            let order = CreateCard {
                this,
                method,
                name: name.clone(),
                admin_algorithm: TDEA,
                admin_key: Secret::new(&*card.admin_key),
                admin_kcv: Some(key_check_value(&card.admin_key).to_vec()),
                puk: card.puk.as_ref().map(|puk| Secret::new(puk)),
                pin: Secret::new(&card.pin),
                pin_policy: card.policy.map(|policy| policy.to_vec()),
                attestation: card.attestation as u32,
                generate: card.generate,
                callback,
            };
            order.encode()
        })?;
        manager.release();
        let unreadable = |error| RemoteError::Lost(Box::new(RemoteError::from(error)));
        let reply = CreateCardReply::decode(method, &stub).map_err(unreadable)?;
        succeeded(reply.result, watch)?;
        let id = reply.instance_id.and_then(|id| id.to_text());
        match id.filter(|id| !id.is_empty() && id.len() <= MAX_INSTANCE_ID) {
            Some(id) => Ok(id),
            None => Err(RemoteError::Lost(Box::new(RemoteError::Protocol(
                "it does not say how the card is called",
            )))),
        }
    }

    /// Destroys a card by its instance id.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]. After [`RemoteError::Lost`] the card may still be there.
    pub fn destroy(&self, instance: &str, watch: &Watch) -> Result<(), RemoteError> {
        let instance = WideString::from_text(instance);
        let instance = instance.ok_or(RemoteError::Refused(Hresult::NOT_FOUND))?;
        let mut manager = Manager::activate(self)?;
        let stub = manager.order(manager::DESTROY, watch, |this, callback| {
            let order = DestroyCard {
                this,
                instance_id: instance.clone(),
                callback,
            };
            order.encode()
        })?;
        manager.release();
        let unreadable = |error| RemoteError::Lost(Box::new(RemoteError::from(error)));
        let reply = DestroyCardReply::decode_all(&stub).map_err(unreadable)?;
        succeeded(reply.result, watch)
    }
}

/// The object, and a connection to it.
struct Manager<'a> {
    machine: &'a Machine,
    resolver: SocketAddr,
    connection: Outgoing,
    iid: Guid,
    std: StdObjRef,
    rem_unknown: Guid,
    cid: Guid,
}

impl<'a> Manager<'a> {
    /// Asks for the object with the newest interface that there is.
    fn activate(machine: &'a Machine) -> Result<Self, RemoteError> {
        let until = Instant::now() + machine.patience;
        let cid = Guid::from_bytes(random::bytes().map_err(RemoteError::Random)?);
        let activator = SyntaxId::interface(IID_REMOTE_SCM_ACTIVATOR);
        let (mut activator, resolver) = machine.first(activator, until)?;
        let reply = ask_for_object(&mut activator, cid)?;
        let found = INTERFACES.iter().find_map(|iid| {
            let is_it = |one: &&cardea_dcom::dcom::ActivatedInterface| {
                one.iid == *iid && !hresult::is_failure(one.result)
            };
            let one = reply.interfaces.iter().find(is_it)?;
            Some((*iid, one.pointer.as_ref()?))
        });
        let (iid, pointer) =
            found.ok_or(RemoteError::NoManager(Hresult(hresult::E_NOINTERFACE)))?;
        let reference = pointer.objref()?;
        let standard = reference.standard().filter(|_| reference.iid == iid);
        let (std, _) = standard.ok_or(RemoteError::Protocol("another reference than asked for"))?;
        let (bindings, rem_unknown) = match std.oxid == reply.oxid {
            true => (reply.bindings, reply.rem_unknown),
            // At the machine that was asked, whatever resolver the reference names.
            false => resolve(&mut activator, std.oxid)?,
        };
        let port = port(&bindings, machine, resolver)
            .ok_or(RemoteError::Protocol("an object without an address"))?;
        let interface = SyntaxId::interface(iid);
        let connection = machine.connect(resolver.ip(), port, interface, until)?;
        Ok(Self {
            machine,
            resolver,
            connection,
            iid,
            std: *std,
            rem_unknown,
            cid,
        })
    }

    fn require(&self, interfaces: &[Guid], what: &'static str) -> Result<(), RemoteError> {
        match interfaces.contains(&self.iid) {
            true => Ok(()),
            false => Err(RemoteError::NotSupported(what)),
        }
    }

    /// Calls a method, while somebody watches.
    fn order(
        &mut self,
        opnum: u16,
        watch: &Watch,
        stub: impl FnOnce(OrpcThis, Option<InterfacePointer>) -> Zeroizing<Vec<u8>>,
    ) -> Result<Zeroizing<Vec<u8>>, RemoteError> {
        let stream = self.connection.stream().map_err(RemoteError::Unreachable)?;
        let own = stream.local_addr().map_err(RemoteError::Unreachable)?.ip();
        // Without a listener the order is carried out all the same.
        let reports = watch
            .hear
            .as_ref()
            .and_then(|_| Reports::listen(own, self.resolver.ip(), self.cid, watch.clone()).ok());
        let callback = reports.as_ref().map(|reports| reports.reference().clone());
        let stub = stub(OrpcThis::new(self.cid), callback);
        if watch.is_aborted() {
            return Err(RemoteError::Aborted);
        }
        self.connection.set_end(Instant::now() + ANSWER_TIME);
        let mut pings = self.pings();
        let connection = &mut self.connection;
        let object = Some(self.std.ipid);
        let answer = watch.over(
            &stream,
            || reports.as_ref().is_some_and(Reports::were_heard),
            move || pings.ping(),
            || connection.call(opnum, object, &stub),
        );
        if let (Ok(_), Some(hear)) = (&answer, &watch.hear)
            && !reports.as_ref().is_some_and(Reports::were_heard)
        {
            hear(Event::NoReports);
        }
        answer.map_err(|error| match error {
            _ if watch.is_aborted() => RemoteError::Aborted,
            // Nothing was done then.
            OutgoingError::Fault(fault_status::OPERATION_RANGE) => {
                RemoteError::NotSupported("this order")
            }
            error @ OutgoingError::Fault(_) => RemoteError::of(error),
            error => RemoteError::Lost(Box::new(RemoteError::of(error))),
        })
    }

    /// Gives the references back. What fails here fails after the order was carried out.
    fn release(mut self) {
        let refs = RemRefs {
            this: OrpcThis::new(self.cid),
            refs: vec![InterfaceRef {
                ipid: self.std.ipid,
                public: self.std.public_refs,
                private: 0,
            }],
        };
        self.connection.set_end(Instant::now() + RELEASE_TIME);
        let interface = SyntaxId::interface(IID_REM_UNKNOWN);
        if self.connection.change(interface).is_ok() {
            let object = Some(self.rem_unknown);
            let opnum = rem_unknown::REM_RELEASE;
            let _ = self.connection.call(opnum, object, &refs.encode());
        }
    }

    fn pings(&self) -> Pings<'a> {
        let lives_without = self.std.flags & StdObjRef::NO_PING != 0;
        Pings {
            machine: self.machine,
            resolver: self.resolver,
            oid: (!lives_without).then_some(self.std.oid),
            pinger: Pinger::new(),
            started: Instant::now(),
            next: Instant::now(),
        }
    }
}

/// Shows the other machine that the object is still needed.
struct Pings<'a> {
    machine: &'a Machine,
    resolver: SocketAddr,
    oid: Option<u64>,
    pinger: Pinger,
    started: Instant,
    next: Instant,
}

impl Pings<'_> {
    /// If it is due. A ping that fails is repeated later: whether the object is gone, the call itself will say.
    fn ping(&mut self) {
        let now = self.started.elapsed().as_secs();
        let Some(oid) = self.oid.filter(|_| self.pinger.is_due(now)) else {
            return;
        };
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + RETRY_TIME;
        let _ = self.send(oid, now);
    }

    fn send(&mut self, oid: u64, now: u64) -> Result<(), RemoteError> {
        let until = Instant::now() + RELEASE_TIME;
        let interface = SyntaxId::interface(IID_OBJECT_EXPORTER);
        let (address, port) = (self.resolver.ip(), self.resolver.port());
        let mut connection = self.machine.connect(address, port, interface, until)?;
        let mut call = |opnum, stub: &[u8]| {
            let answer = connection.call(opnum, None, stub);
            answer.map_err(RemoteError::of)
        };
        match self.pinger.simple_ping() {
            Some(ping) => {
                let stub = call(object_exporter::SIMPLE_PING, &ping.encode())?;
                self.pinger.kept(&Status::decode_all(&stub)?, now);
            }
            None => {
                let ping = self.pinger.complex_ping(vec![oid], Vec::new());
                let stub = call(object_exporter::COMPLEX_PING, &ping.encode())?;
                let reply = ComplexPingReply::decode_all(&stub)?;
                self.pinger.changed(&reply, now);
            }
        }
        Ok(())
    }
}

fn ask_for_object(activator: &mut Outgoing, cid: Guid) -> Result<ActivationReply, RemoteError> {
    let asked = ActivationRequest {
        destination: DIFFERENT_MACHINE,
        class: CLSID_REMOTE_MANAGER,
        class_context: REMOTE_SERVER,
        flags: 0,
        iids: INTERFACES.to_vec(),
        version: ComVersion::CURRENT,
        impersonation: IMPERSONATE,
        protocols: vec![TOWER_TCP],
        location: Location::default(),
        is_persistent: false,
    };
    let call = RemoteCreateInstance {
        this: OrpcThis::new(cid),
        outer: None,
        properties: Some(asked.to_pointer()),
    };
    let opnum = remote_scm_activator::REMOTE_CREATE_INSTANCE;
    let stub = activator.call(opnum, None, &call.encode());
    let answer = ActivationAnswer::decode_all(&stub.map_err(RemoteError::of)?)?;
    match answer.properties {
        _ if Hresult(answer.result) == Hresult::ACCESS_DENIED => Err(RemoteError::Denied),
        Some(properties) if !hresult::is_failure(answer.result) => {
            let reply = ActivationReply::read(&properties)?;
            let version = reply.version.negotiate();
            version.map_err(|_| RemoteError::NotSupported("this version of COM"))?;
            Ok(reply)
        }
        _ => Err(RemoteError::NoManager(Hresult(answer.result))),
    }
}

/// Where an exporter is, and its object for reference counts.
fn resolve(resolver: &mut Outgoing, oxid: u64) -> Result<(DualStringArray, Guid), RemoteError> {
    let interface = SyntaxId::interface(IID_OBJECT_EXPORTER);
    resolver.change(interface).map_err(RemoteError::of)?;
    let question = ResolveOxid {
        oxid,
        protocols: vec![TOWER_TCP],
    };
    let stub = resolver.call(object_exporter::RESOLVE_OXID2, None, &question.encode());
    let reply = ResolveOxid2Reply::decode_all(&stub.map_err(RemoteError::of)?)?;
    match reply
        .bindings
        .filter(|_| reply.status == resolver_status::OK)
    {
        Some(bindings) => Ok((bindings, reply.rem_unknown)),
        None => Err(RemoteError::Protocol("an object of an unknown exporter")),
    }
}

/// The port of an exporter, first of all by the name or address that was asked for. The address itself stays the one
/// that has answered: no answer has a third machine connected to.
fn port(bindings: &DualStringArray, machine: &Machine, resolver: SocketAddr) -> Option<u16> {
    let usable: Vec<(&str, u16)> = bindings
        .addresses
        .iter()
        .filter_map(|binding| binding.host_and_port())
        .filter_map(|(host, port)| Some((host, port?)))
        .collect();
    let is_it = |host: &str| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<std::net::IpAddr>();
        machine.is_called(bare)
            || address.is_ok_and(|address| address.to_canonical() == resolver.ip().to_canonical())
    };
    let own = usable.iter().find(|(host, _)| is_it(host));
    own.or(usable.first()).map(|(_, port)| *port)
}

fn succeeded(result: u32, watch: &Watch) -> Result<(), RemoteError> {
    match Hresult(result) {
        _ if !hresult::is_failure(result) => Ok(()),
        Hresult::ABORT if watch.is_aborted() => Err(RemoteError::Aborted),
        result => Err(RemoteError::Refused(result)),
    }
}

/// The newest first.
const INTERFACES: [Guid; 3] = [IID_MANAGER3, IID_MANAGER2, IID_MANAGER];

/// Three-key TDEA, ISO 9797 padding method 2, CBC.
const TDEA: u8 = 0x82;

/// CLSCTX_REMOTE_SERVER.
const REMOTE_SERVER: u32 = 0x10;

/// RPC_C_IMP_LEVEL_IMPERSONATE: Windows' manager looks by it whether the caller is an administrator.
const IMPERSONATE: u32 = 3;

/// Longer than any device id of Windows, in UTF-8.
const MAX_INSTANCE_ID: usize = 800;

/// From a ping that failed to the next.
const RETRY_TIME: Duration = Duration::from_secs(30);

/// For what comes after an order, or beside it.
const RELEASE_TIME: Duration = Duration::from_secs(10);

/// Creation takes a minute and a half on slow TPMs, and waits for others.
const ANSWER_TIME: Duration = Duration::from_secs(660);

#[cfg(test)]
mod tests;
