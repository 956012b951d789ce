//! The D-Bus service: what Windows.Devices.SmartCards and the PIN screens of Windows do, for Linux.
//!
//! Each client sees its own cards only, so objects, introspection and signals are made for the one who asks, and
//! no library's object server is used. A call has a thread; the bus's own thread only reads.
//! `docs/dbus.md` describes the interface.

mod agents;
mod challenge;
mod clients;
mod error;
mod guid;
mod intake;
mod interfaces;
mod link;
mod logind;
mod manager;
mod names;
mod objects;
mod operation;
mod options;
mod pause;
mod pin_reset;
mod polkit;
mod provisioning;
mod request;
mod secret;
mod watch;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use cardea_host::erase_stack;
use futures_core::Stream;
use zbus::message::{Header, Type};
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, Variant};
use zruntime::SharedRuntime;

use self::agents::Agents;
use self::clients::{BUS, Client, Clients};
use self::error::{BusError, Name};
use self::intake::{Intake, MAX_UNREAD, Place};
use self::interfaces::{Handler, Method, Needs, Standard, interface, introspect};
use self::link::{CallError, Link, SYSTEM_TIME, Target};
use self::names::{INTROSPECTABLE, OBJECT_MANAGER, PEER, PROPERTIES, ROOT, SERVICE};
use self::objects::{Object, Private};
use self::operation::{Operation, Outcome};
use self::pause::{Missing, Pauses, Stop};
use self::polkit::{Subject, authorize};
use self::request::{Answer, Request, arguments, first_text, is_interactive, one};
use crate::process::panics::{INTERNAL_ERROR, caught, keep_running, survives};
use cardea_host::Counter;
use cardea_host::Door;
use cardea_host::Grant;
use cardea_host::Host;
use cardea_host::HostedCard;
use cardea_host::lock;

/// Private objects of one client; the oldest finished operation makes room.
const MAX_PRIVATE: usize = 32;

/// The service.
#[derive(Debug)]
pub(crate) struct Bus {
    pub(crate) counter: Arc<Counter>,
    /// Whether there will be a bus, however long it takes.
    coming: bool,
    link: Mutex<Option<Link>>,
    clients: Clients,
    agents: Agents,
    private: Mutex<BTreeMap<String, Private>>,
    numbers: AtomicU64,
    intake: Intake,
    stop: Stop,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Bus {
    /// Connects in the background, again and again: there may be no bus, or one that restarts.
    /// `coming`: there will be one, however long it takes.
    pub(crate) fn start(counter: Arc<Counter>, coming: bool) -> std::io::Result<Arc<Self>> {
        let bus = Arc::new(Self {
            counter,
            coming,
            link: Mutex::default(),
            clients: Clients::default(),
            agents: Agents::default(),
            private: Mutex::default(),
            numbers: AtomicU64::new(1),
            intake: Intake::default(),
            stop: Stop::default(),
            threads: Mutex::default(),
        });
        let (reading, watching) = (Arc::clone(&bus), Arc::clone(&bus));
        let threads = vec![
            thread::Builder::new()
                .name("bus".into())
                .spawn(move || keep_running(|| reading.run()))?,
            thread::Builder::new()
                .name("bus watch".into())
                .spawn(move || keep_running(|| watching.watch()))?,
        ];
        *lock(&bus.threads) = threads;
        Ok(bus)
    }

    /// Leaves the bus and waits for the threads.
    pub(crate) fn stop(&self) {
        self.stop.set();
        let link = lock(&self.link).take();
        if let Some(Link(connection)) = link
            && let Err(error) = zruntime::block_on(connection.close())
        {
            tracing::debug!(%error, "bus not left");
        }
        self.host().cards_changed();
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }

    pub(crate) fn host(&self) -> &Host {
        self.counter.host()
    }

    pub(crate) fn link(&self) -> Option<Link> {
        lock(&self.link).clone()
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_set()
    }

    fn run(self: &Arc<Self>) {
        let mut pauses = Pauses::default();
        while !self.is_stopped() {
            let missing = match self.connect() {
                Ok((link, stream)) => {
                    let begun = Instant::now();
                    tracing::info!(name = SERVICE, "on the bus");
                    self.host().cards_changed();
                    // Whatever ends it: this connection is over, and so is what belongs to its clients.
                    survives(|| self.read(&link, stream));
                    *lock(&self.link) = None;
                    self.all_left();
                    pauses.connected(begun.elapsed());
                    Missing::Lost
                }
                Err(missing) => missing,
            };
            if self.is_stopped() {
                return;
            }
            if pauses.is_news(&missing) {
                match &missing {
                    Missing::Lost => tracing::warn!("the bus connection was lost"),
                    Missing::Refused { text: error, .. } => {
                        tracing::warn!(error, name = SERVICE, "the bus does not let the service in")
                    }
                    // Machines without a bus are no failure.
                    Missing::Unreached => tracing::debug!("bus not reached"),
                }
            }
            self.stop.pause(pauses.after(&missing));
        }
    }

    fn connect(&self) -> Result<(Link, MessageStream), Missing> {
        let unreached = |error: String| {
            tracing::debug!(error, "bus");
            Missing::Unreached
        };
        let runtime = SharedRuntime::current().map_err(|error| unreached(error.to_string()))?;
        // Early in the boot systemd listens for a bus that does not answer yet.
        let connection = runtime.timeout(SYSTEM_TIME, Connection::system());
        let connection = zruntime::block_on(connection)
            .map_err(|_| unreached("no answer in time".to_owned()))?
            .map_err(|error| unreached(error.to_string()))?;
        // Before the name, so that no call is lost.
        let stream = MessageStream::from(&connection);
        let link = Link(connection);
        let refused = |error: CallError| Missing::Refused {
            error: error.name().to_owned(),
            text: error.to_string(),
        };
        for rule in [
            "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
            "type='signal',sender='org.freedesktop.login1'",
        ] {
            let target = Target {
                member: "AddMatch",
                ..BUS
            };
            link.ask(target, &rule).map_err(refused)?;
        }
        *lock(&self.link) = Some(link.clone());
        let named = runtime.timeout(SYSTEM_TIME, link.0.request_name(SERVICE));
        let named = match zruntime::block_on(named) {
            Ok(named) => named.map_err(|error| refused(error.into())),
            Err(_) => Err(refused(CallError::TimedOut)),
        };
        if let Err(refused) = named {
            *lock(&self.link) = None;
            return Err(refused);
        }
        Ok((link, stream))
    }

    /// Reads until the connection ends.
    fn read(self: &Arc<Self>, link: &Link, mut stream: MessageStream) {
        let mut connection = link.0.clone();
        let mut waiting = NonZeroUsize::new(MAX_UNREAD);
        loop {
            let next = poll_fn(|context| {
                let next = Pin::new(&mut stream).poll_next(context);
                // What came while we connected is read first: a shorter queue would lose some of it.
                if next.is_pending()
                    && let Some(waiting) = waiting.take()
                {
                    connection.set_max_queued(waiting);
                }
                next
            });
            match zruntime::block_on(next) {
                Some(Ok(message)) => {
                    // A message that makes us panic costs itself only.
                    survives(|| self.receive(link, message));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "bus");
                    if link.0.is_closed() {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    fn receive(self: &Arc<Self>, link: &Link, message: Message) {
        match message.message_type() {
            Type::MethodCall => {
                let place = match self.take_in(&message) {
                    Ok(place) => place,
                    Err(error) => {
                        link.refuse(&message, &error.name(), error.text());
                        return;
                    }
                };
                let (bus, own) = (Arc::clone(self), link.clone());
                let spawned = thread::Builder::new()
                    .name("bus call".into())
                    .spawn(move || {
                        let counter = Arc::clone(&bus.counter);
                        counter.then_idle_work(|| bus.serve(&own, &message, place));
                        drop(bus);
                        erase_stack();
                    });
                if let Err(error) = spawned {
                    tracing::warn!(%error, "no thread for a call");
                }
            }
            Type::Signal => self.told(&message),
            Type::Error | Type::MethodReturn => {}
        }
    }

    /// A signal of the bus or of logind.
    fn told(&self, message: &Message) {
        let header = message.header();
        let member = header.member().map(|member| member.as_str());
        let sender = header.sender().map(|sender| sender.as_str());
        if sender == Some(BUS.destination) && member == Some("NameOwnerChanged") {
            let body = message.body();
            if let Ok((name, _, new)) = body.deserialize::<(&str, &str, &str)>()
                && new.is_empty()
            {
                self.left(name);
            }
        } else if may_be_of_logind(&header) {
            self.host().presence().look_again();
            self.host().cards_changed();
        }
    }

    /// A client has left the bus: its objects are removed, and it is no longer asked about.
    fn left(&self, name: &str) {
        self.clients.left(name);
        self.agents.left(name);
        let mut gone = Vec::new();
        lock(&self.private).retain(|_, private| {
            let stays = private.client != name;
            if !stays {
                gone.push(private.object.clone());
            }
            stays
        });
        // Their end waits for cards, which this thread must not.
        if !gone.is_empty() {
            let spawned = thread::Builder::new().spawn(move || drop(gone));
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread");
            }
        }
    }

    fn all_left(&self) {
        self.clients.all_left();
        self.agents.all_left();
        let gone = std::mem::take(&mut *lock(&self.private));
        drop(gone);
    }

    /// One call from arrival to answer, and what goes on after it.
    fn serve(self: &Arc<Self>, link: &Link, message: &Message, mut place: Place) {
        let answer = caught(|| self.call(link, message, &mut place));
        match answer.unwrap_or_else(|| Err(internal_error())) {
            Ok(Answer::Nothing) => link.answer(message, None),
            Ok(Answer::Values(values)) => link.answer(message, Some(&values)),
            Ok(Answer::Begin(values, work)) => {
                link.answer(message, Some(&values));
                // Its operation has told of a panic.
                survives(|| work(link));
            }
            Err(error) => {
                link.refuse(message, &error.name(), error.text());
            }
        }
    }

    fn call(
        self: &Arc<Self>,
        link: &Link,
        message: &Message,
        place: &mut Place,
    ) -> Result<Answer, BusError> {
        let header = message.header();
        let (Some(path), Some(member)) = (header.path(), header.member()) else {
            return Err(BusError::standard("InvalidArgs", "incomplete call"));
        };
        let client = self.caller(link, message, place)?;
        let named = header.interface().map(|interface| interface.as_str());
        let found = self.object(&client, path.as_str());
        let own = found
            .as_ref()
            .map_or(&[][..], |(object, _)| object.interfaces());
        let (interface, method) = method_of(own, named, member.as_str(), message)?;
        let mut request = Request {
            link,
            client: &client,
            message,
            grant: None,
        };
        let absent = || unknown_object(path.as_str());
        let Some((object, seen)) = found else {
            if self.children(&client, path.as_str()).is_empty() {
                return Err(absent());
            }
            return match method.handler {
                Handler::Standard(method) => {
                    self.standard(&request, path.as_str(), None, interface, method)
                }
                _ => Err(unknown_method(method.name)),
            };
        };
        let granted = self.admit(&request, &object, seen, method);
        // Somebody else's card is as if it were not there, but for those whom polkit lets do this with it.
        request.grant = match seen {
            true => granted?,
            false => granted.map_err(|_| absent())?,
        };
        match (method.handler, &object) {
            (Handler::Card(work), Object::Card(card)) => work(self, &request, card),
            (Handler::Challenge(work), Object::Challenge(context)) => work(self, &request, context),
            (Handler::Manager(work), Object::Manager) => work(self, &request),
            (Handler::Operation(work), Object::Operation(operation)) => {
                work(operation);
                Ok(Answer::Nothing)
            }
            (Handler::PinReset(work), Object::PinReset(reset)) => work(self, &request, reset),
            (Handler::Standard(method), object) => {
                self.standard(&request, path.as_str(), Some(object), interface, method)
            }
            _ => Err(unknown_method(method.name)),
        }
    }

    /// Whether the caller may call the method of the object, and by which grant.
    fn admit(
        &self,
        request: &Request<'_>,
        object: &Object,
        seen: bool,
        method: &Method,
    ) -> Result<Option<Grant>, BusError> {
        let card = match object {
            Object::Card(card) => Some(&**card),
            _ => None,
        };
        let decide = |right, subject: &Subject<'_>| {
            let interactive = is_interactive(request.message);
            let decided = authorize(request.link, request.client, right, subject, interactive);
            decided.inspect_err(|_| self.denied(request.client, subject.card()))
        };
        match method.needs {
            Needs::Nothing(why) if seen => {
                tracing::trace!(method = method.name, why, "no right needed");
                Ok(None)
            }
            Needs::Nothing(_) => {
                self.denied(request.client, card);
                Err(unknown_method(method.name))
            }
            Needs::Right(right) => decide(right, &card.map_or(Subject::Machine, Subject::Card)),
            Needs::RightByInstance(right) => {
                let instance = first_text(request.message)?;
                match manager::by_instance(self, &instance) {
                    Some(card) => decide(right, &Subject::Card(&card)),
                    None => decide(right, &Subject::Nobodys(&instance)),
                }
            }
            Needs::RightByOwner(right) => {
                let (name, owner) = manager::name_and_owner(request)?;
                decide(right, &Subject::NewCard(&name, owner))
            }
        }
    }

    /// A method that every object has.
    fn standard(
        &self,
        request: &Request<'_>,
        path: &str,
        object: Option<&Object>,
        interface: &str,
        method: Standard,
    ) -> Result<Answer, BusError> {
        let client = request.client;
        match method {
            Standard::Ping => Ok(Answer::Nothing),
            Standard::GetMachineId => {
                let id = std::fs::read_to_string("/etc/machine-id");
                let id = id.map_err(|error| BusError::standard("Failed", error.to_string()))?;
                one(id.trim_end().to_owned())
            }
            Standard::Introspect => {
                let own = object.map_or(&[][..], Object::interfaces);
                let mut known = own.to_vec();
                known.extend([INTROSPECTABLE, PEER, PROPERTIES]);
                if path == ROOT {
                    known.push(OBJECT_MANAGER);
                }
                one(introspect(&known, &self.children(client, path)))
            }
            Standard::GetManagedObjects if path == ROOT => {
                let mut objects = std::collections::HashMap::new();
                for (path, object) in self.objects(client) {
                    let path = OwnedObjectPath::try_from(path)
                        .map_err(|error| BusError::standard("Failed", error.to_string()))?;
                    objects.insert(path, self.described(client, &object)?);
                }
                one(plain_objects(objects))
            }
            Standard::Get => {
                let (interface, property): (String, String) = arguments(request.message)?;
                let object = object.ok_or_else(|| unknown_object(path))?;
                let known = interfaces::interface(&interface)
                    .filter(|known| object.interfaces().contains(&known.name))
                    .ok_or_else(|| unknown_interface(&interface))?;
                if !known.has_property(&property) {
                    return Err(unknown_property(&property));
                }
                let mut properties = self.properties(client, object, known.name)?;
                let value = properties
                    .remove(&property)
                    .ok_or_else(|| unknown_property(&property))?;
                one(Variant::Variant(Box::new(value.into())))
            }
            Standard::GetAll => {
                let name: String = arguments(request.message)?;
                let object = object.ok_or_else(|| unknown_object(path))?;
                if interface == name || self::interface(&name).is_none() {
                    return Err(unknown_interface(&name));
                }
                one(plain(self.properties(client, object, &name)?))
            }
            Standard::Set => Err(BusError::standard(
                "PropertyReadOnly",
                "no property can be set",
            )),
            Standard::GetManagedObjects => Err(unknown_method("GetManagedObjects")),
        }
    }

    /// Names of what is directly below a path.
    fn children(&self, client: &Client, path: &str) -> Vec<String> {
        let prefix = match path {
            "/" => "/".to_owned(),
            path => format!("{path}/"),
        };
        let objects = self.objects(client);
        let paths = objects.iter().map(|(path, _)| path.as_str());
        let mut names: Vec<String> = paths
            .chain([ROOT])
            .filter_map(|known| known.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next())
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Private objects of a client, in order of their numbers.
    pub(crate) fn private_of(&self, client: &Client) -> Vec<(String, Object)> {
        let private = lock(&self.private);
        let own = private
            .iter()
            .filter(|(_, object)| object.client == client.name);
        own.map(|(path, object)| (path.clone(), object.object.clone()))
            .collect()
    }

    /// Keeps an object for a client, and tells its path.
    pub(crate) fn keep(
        &self,
        client: &Client,
        folder: &str,
        object: Object,
    ) -> Result<zbus::ObjectPath<'static>, BusError> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let path = format!("{ROOT}/{folder}/{number}");
        self.keep_at(client, path.clone(), object)?;
        Ok(link::path(Some(path)))
    }

    fn keep_at(&self, client: &Client, path: String, object: Object) -> Result<(), BusError> {
        let mut private = lock(&self.private);
        let own: Vec<_> = private
            .iter()
            .filter(|(_, known)| known.client == client.name)
            .map(|(path, known)| (path.clone(), known.object.clone()))
            .collect();
        if own.len() >= MAX_PRIVATE {
            let finished = own.iter().find(|(_, object)| {
                matches!(object, Object::Operation(operation) if operation.is_finished())
            });
            let Some((old, _)) = finished else {
                return Err(BusError::new(
                    Name::LimitReached,
                    "too many challenges and operations are open",
                ));
            };
            private.remove(old);
        }
        if client.gone.is_set() {
            return Err(BusError::new(
                Name::Cancelled,
                "the caller has disconnected",
            ));
        }
        let client = client.name.clone();
        private.insert(path, Private { client, object });
        Ok(())
    }

    /// The object of a call is done with.
    pub(crate) fn forget(&self, request: &Request<'_>) {
        let header = request.message.header();
        let gone = header
            .path()
            .and_then(|path| lock(&self.private).remove(path.as_str()));
        drop(gone);
    }

    /// Answers with an operation, then does it.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: &Request<'_>,
        kind: &'static str,
        work: impl FnOnce(&Bus, &Link, &Operation) -> Result<Outcome, BusError> + Send + 'static,
    ) -> Result<Answer, BusError> {
        let client = Arc::clone(request.client);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let path = format!("{ROOT}/operations/{number}");
        let operation = Arc::new(Operation::new(&client.name, path.clone(), kind));
        self.keep_at(
            &client,
            path.clone(),
            Object::Operation(Arc::clone(&operation)),
        )?;
        let bus = Arc::clone(self);
        let work = move |link: &Link| {
            let end = caught(|| work(&bus, link, &operation));
            let end = end.unwrap_or_else(|| Err(internal_error()));
            if let Err(error) = &end {
                tracing::info!(
                    kind,
                    error = error.text(),
                    by = client.caller.uid(),
                    "operation failed"
                );
            }
            operation.finish(link, end);
        };
        Ok(Answer::Begin(
            (link::path(Some(path)),).into(),
            Box::new(work),
        ))
    }

    fn denied(&self, client: &Client, card: Option<&HostedCard>) {
        self.counter.note_denied(card, &client.actor, Door::Bus);
    }
}

/// Whether a signal is one that the bus delivers for the match on logind's. Anybody can send a signal to this
/// connection, but it then has a destination.
fn may_be_of_logind(header: &Header<'_>) -> bool {
    let interface = header.interface().map(|interface| interface.as_str());
    let is_login1 = interface.is_some_and(|name| name.starts_with("org.freedesktop.login1"));
    let is_change = interface == Some(PROPERTIES);
    header.destination().is_none() && (is_login1 || is_change)
}

/// The interface and method that a call means, once its member and its types were checked.
fn method_of(
    own: &[&'static str],
    named: Option<&str>,
    member: &str,
    message: &Message,
) -> Result<(&'static str, &'static Method), BusError> {
    let standard = [INTROSPECTABLE, OBJECT_MANAGER, PEER, PROPERTIES];
    let mut offered = own.iter().chain(&standard).copied();
    let has = |name: &&str| interface(name).is_some_and(|known| known.method(member).is_some());
    let name = match named {
        Some(named) => {
            let known = offered.find(|name| *name == named);
            let known = known.ok_or_else(|| unknown_interface(named))?;
            Some(known).filter(has)
        }
        None => offered.find(has),
    };
    let name = name.ok_or_else(|| unknown_method(member))?;
    let method = interface(name).and_then(|known| known.method(member));
    let method = method.ok_or_else(|| unknown_method(member))?;
    let expected = method.signature();
    let body = message.body();
    let given = body.signature().to_string_no_parens();
    if given != expected {
        let text = format!("{member} takes ({expected}), not ({given})");
        return Err(BusError::standard("InvalidArgs", text));
    }
    Ok((name, method))
}

fn internal_error() -> BusError {
    BusError::new(Name::Failed, INTERNAL_ERROR)
}

pub(crate) fn unknown_method(method: &str) -> BusError {
    BusError::standard("UnknownMethod", format!("there is no method {method} here"))
}

fn unknown_object(path: &str) -> BusError {
    BusError::standard("UnknownObject", format!("there is no object {path}"))
}

fn unknown_interface(interface: &str) -> BusError {
    BusError::standard(
        "UnknownInterface",
        format!("there is no interface {interface} here"),
    )
}

fn unknown_property(property: &str) -> BusError {
    BusError::standard(
        "UnknownProperty",
        format!("there is no property {property} here"),
    )
}

type Plain = std::collections::HashMap<String, Variant<'static>>;

/// `a{sv}` as a value.
fn plain(dictionary: link::Dictionary) -> Plain {
    let entries = dictionary.into_iter();
    entries.map(|(key, value)| (key, value.into())).collect()
}

type Described = std::collections::HashMap<&'static str, link::Dictionary>;

/// `a{oa{sa{sv}}}` as a value.
fn plain_objects(
    objects: std::collections::HashMap<OwnedObjectPath, Described>,
) -> std::collections::HashMap<zbus::ObjectPath<'static>, std::collections::HashMap<String, Plain>>
{
    let objects = objects.into_iter();
    objects
        .map(|(path, interfaces)| {
            let interfaces = interfaces.into_iter();
            let interfaces = interfaces.map(|(name, known)| (name.to_owned(), plain(known)));
            (path.into(), interfaces.collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_that_was_sent_to_us_alone_is_not_logind_s() {
        let signal = |interface: &'static str, destination: Option<&'static str>| {
            let signal = Message::signal("/org/freedesktop/login1", interface, "PropertiesChanged");
            let signal = match destination {
                Some(name) => signal.destination(name),
                None => signal,
            };
            may_be_of_logind(&signal.build(&()).unwrap().header())
        };
        assert!(signal("org.freedesktop.login1.Manager", None));
        assert!(signal(PROPERTIES, None));
        assert!(!signal(PROPERTIES, Some(":1.7")));
        assert!(!signal("org.freedesktop.login1.Manager", Some(":1.7")));
        assert!(!signal("org.example.Other", None));
    }
}
