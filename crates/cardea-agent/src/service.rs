//! The agent on the bus: registered with the daemon, and called by nobody else.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use cardea_terms::{CharacterClass, CharacterRule, PinPolicy};
use futures_core::Stream;
use serde::Serialize;
use zbus::message::Type;
use zbus::{
    Connection, DynamicType, Message, MessageStream, ObjectPath, OwnedObjectPath, OwnedVariant,
};

use crate::dialog::{Dialogs, Hints, Purpose, UnblockMode};
use crate::pinentry::Error;
use crate::secret::Secret;
use crate::unblocking::{Refusal, Reset, Unblocking};

const SERVICE: &str = "org.cardea.VirtualSmartCard1";
const ROOT: &str = "/org/cardea/VirtualSmartCard1";
const MANAGER: &str = "org.cardea.VirtualSmartCard1.Manager";
const PROVISIONING: &str = "org.cardea.VirtualSmartCard1.Provisioning";
const RESET: &str = "org.cardea.VirtualSmartCard1.PinResetRequest";
const AGENT: &str = "org.cardea.VirtualSmartCard1.Agent";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// Our own path.
const PATH: &str = "/org/cardea/Agent";

/// Questions that wait for the one that is open.
const MAX_WAITING: usize = 8;

/// A person's time where the daemon does not tell it.
const DEFAULT_LIMIT: u32 = 120;

/// The service answers within this time; a card may be at work.
const CALL_TIME: Duration = Duration::from_secs(60);

type Dictionary = HashMap<String, OwnedVariant>;

/// A connection to the bus, and whom we obey.
pub(crate) struct Service {
    connection: Connection,
    /// Unique name of the daemon, while it is there.
    daemon: Mutex<Option<String>>,
    dialogs: Arc<Dialogs>,
}

impl Service {
    /// Connects, serves until the bus goes away or [`Service::leave`] is called.
    pub(crate) fn connect(dialogs: &Arc<Dialogs>) -> anyhow::Result<(Arc<Self>, MessageStream)> {
        let connection = zruntime::block_on(Connection::system()).context("system bus")?;
        let stream = MessageStream::from(&connection);
        let service = Arc::new(Self {
            connection,
            daemon: Mutex::default(),
            dialogs: Arc::clone(dialogs),
        });
        let rule = format!(
            "type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',arg0='{SERVICE}'"
        );
        service
            .call(BUS, BUS_PATH, BUS, "AddMatch", &rule)
            .map_err(|error| anyhow::anyhow!("{}", text(error)))?;
        Ok((service, stream))
    }

    /// Serves until the connection ends.
    pub(crate) fn serve(self: &Arc<Self>, mut stream: MessageStream) {
        let (waiting, questions) = sync_channel(MAX_WAITING);
        let own = Arc::clone(self);
        let asking = thread::Builder::new()
            .name("dialogs".into())
            .spawn(move || own.ask_all(&questions));
        // It starts the daemon, where the bus knows how.
        self.register();
        loop {
            let next = poll_fn(|context| Pin::new(&mut stream).poll_next(context));
            match zruntime::block_on(next) {
                Some(Ok(message)) => self.receive(&waiting, message),
                Some(Err(_)) if !self.connection.is_closed() => {}
                _ => break,
            }
        }
        self.dialogs.open.cancel();
        drop(waiting);
        if let Ok(asking) = asking {
            // A panic there was reported when it happened.
            let _ = asking.join();
        }
    }

    /// Unregisters and leaves the bus.
    pub(crate) fn leave(&self) {
        self.dialogs.open.cancel();
        if self.daemon().is_some() {
            let path = ObjectPath::from_static_str_unchecked(PATH);
            let _ = self.call(SERVICE, ROOT, MANAGER, "UnregisterAgent", &path);
        }
        let _ = zruntime::block_on(self.connection.clone().close());
    }

    fn daemon(&self) -> Option<String> {
        self.daemon
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn register(&self) {
        let path = ObjectPath::from_static_str_unchecked(PATH);
        let registered = self.call(SERVICE, ROOT, MANAGER, "RegisterAgent", &path);
        let owner = registered.map_err(text).and_then(|answer| {
            let header = answer.header();
            let sender = header.sender().map(ToString::to_string);
            sender.ok_or_else(|| "nobody answered".to_owned())
        });
        match owner {
            Ok(owner) => {
                crate::say("registered");
                *self.daemon.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner);
            }
            Err(error) => crate::say(&format!("not registered: {error}; waiting for the service")),
        }
    }

    fn receive(self: &Arc<Self>, waiting: &SyncSender<Message>, message: Message) {
        let header = message.header();
        let member = header
            .member()
            .map(|member| member.as_str())
            .unwrap_or_default();
        let sender = header
            .sender()
            .map(|sender| sender.as_str())
            .unwrap_or_default();
        match message.message_type() {
            Type::Signal if sender == BUS && member == "NameOwnerChanged" => {
                let body = message.body();
                let Ok((name, _, new)) = body.deserialize::<(&str, &str, &str)>() else {
                    return;
                };
                if name != SERVICE {
                    return;
                }
                *self.daemon.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.dialogs.open.cancel();
                if !new.is_empty() {
                    // Not here: its answer is read by this thread's stream.
                    let own = Arc::clone(self);
                    let spawned = thread::Builder::new().spawn(move || own.register());
                    if let Err(error) = spawned {
                        crate::say(&format!("not registered: {error}"));
                    }
                }
            }
            Type::MethodCall => self.called(waiting, &message, member, sender),
            _ => {}
        }
    }

    fn called(&self, waiting: &SyncSender<Message>, message: &Message, member: &str, sender: &str) {
        let header = message.header();
        let interface = header
            .interface()
            .map(|name| name.as_str())
            .unwrap_or_default();
        match (interface, member) {
            ("org.freedesktop.DBus.Peer", "Ping") => self.reply(message, &()),
            (AGENT, _) if self.daemon().as_deref() != Some(sender) => {
                let text = "the agent serves the daemon only";
                self.refuse(message, "org.freedesktop.DBus.Error.AccessDenied", text);
            }
            (AGENT, "Cancel") => {
                self.dialogs.open.cancel();
                self.reply(message, &());
            }
            (AGENT, "RequestPin" | "RequestConsent") => match waiting.try_send(message.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.refuse_own(message, "Busy", "too many questions are waiting");
                }
            },
            _ => {
                let text = format!("there is no method {member}");
                self.refuse(message, "org.freedesktop.DBus.Error.UnknownMethod", &text);
            }
        }
    }

    fn ask_all(&self, questions: &Receiver<Message>) {
        for question in questions {
            self.dialogs.open.renew();
            let header = question.header();
            let member = header.member().map(|member| member.as_str());
            let outcome = match member {
                Some("RequestPin") => self.pin(&question),
                _ => self.consent(&question),
            };
            match outcome {
                Ok(()) => {}
                Err(Error::Cancelled) => self.refuse_own(&question, "Cancelled", "cancelled"),
                Err(error) => {
                    crate::say(&error.to_string());
                    self.refuse_own(&question, "Failed", &error.to_string());
                }
            }
        }
    }

    fn pin(&self, question: &Message) -> Result<(), Error> {
        let body = question.body();
        let given = body.deserialize::<(OwnedObjectPath, String, Dictionary)>();
        let parsed = given
            .ok()
            .and_then(|(card, purpose, hints)| Some((card, Purpose::parse(&purpose)?, hints)));
        let Some((card, purpose, given)) = parsed else {
            self.refuse_own(question, "InvalidArgument", "unknown question");
            return Ok(());
        };
        let unblocking = CardUnblocking {
            service: self,
            card: card.to_string(),
        };
        let secret = self.dialogs.secret(purpose, &hints(&given), &unblocking)?;
        self.reply(question, &secret.pipe()?);
        Ok(())
    }

    fn consent(&self, question: &Message) -> Result<(), Error> {
        let body = question.body();
        let Ok((_, action, given)) = body.deserialize::<(OwnedObjectPath, String, Dictionary)>()
        else {
            self.refuse_own(question, "InvalidArgument", "unknown question");
            return Ok(());
        };
        let answer = self.dialogs.consent(&action, &hints(&given))?;
        self.reply(question, &answer);
        Ok(())
    }

    fn call<B>(
        &self,
        service: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> zbus::Result<Message>
    where
        B: Serialize + DynamicType,
    {
        let call = self
            .connection
            .call_method(Some(service), path, Some(interface), member, body);
        let runtime = zruntime::SharedRuntime::current()?;
        zruntime::block_on(runtime.timeout(CALL_TIME, call))
            .unwrap_or_else(|_| Err(zbus::Error::Failure("no answer in time".into())))
    }

    fn reply<B>(&self, call: &Message, body: &B)
    where
        B: Serialize + DynamicType,
    {
        // Who does not wait any more has left.
        let _ = zruntime::block_on(self.connection.reply(&call.header(), body));
    }

    fn refuse(&self, call: &Message, name: &str, text: &str) {
        let _ = zruntime::block_on(self.connection.reply_error(&call.header(), name, &text));
    }

    fn refuse_own(&self, call: &Message, name: &str, text: &str) {
        self.refuse(call, &format!("{SERVICE}.Error.{name}"), text);
    }
}

/// The text of an error.
fn text(error: zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(_, Some(text), _) => text,
        error => error.to_string(),
    }
}

/// What the daemon tells of a question.
fn hints(given: &Dictionary) -> Hints {
    let word = |key: &str| {
        let value = given.get(key)?;
        <&str>::try_from(value).ok().map(str::to_owned)
    };
    let number = |key: &str| u32::try_from(given.get(key)?).ok();
    Hints {
        name: word("name").unwrap_or_default(),
        program: word("program").unwrap_or_default(),
        pid: number("pid").unwrap_or_default(),
        started: given
            .get("started")
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or_default(),
        unit: word("unit").unwrap_or_default(),
        door: word("door").unwrap_or_default(),
        behalf: word("for").unwrap_or_default(),
        tries_left: number("tries-left"),
        policy: given.get("policy").and_then(policy).unwrap_or_default(),
        unblock: match word("unblock-mode").as_deref() {
            Some("puk") => UnblockMode::Puk,
            Some("challenge-response") => UnblockMode::ChallengeResponse,
            _ => UnblockMode::None,
        },
        error: word("error"),
        limit: Duration::from_secs(number("timeout").unwrap_or(DEFAULT_LIMIT).into()),
    }
}

fn policy(value: &OwnedVariant) -> Option<PinPolicy> {
    let value = value.try_clone().ok()?;
    let rules = Dictionary::try_from(value).ok()?;
    let length = |key: &str| u8::try_from(u32::try_from(rules.get(key)?).ok()?).ok();
    let rule = |class: CharacterClass| {
        CharacterRule::from_word(<&str>::try_from(rules.get(class.key())?).ok()?)
    };
    let mut of_classes = [CharacterRule::Allowed; 5];
    for (place, class) in of_classes.iter_mut().zip(CharacterClass::ALL) {
        *place = rule(class)?;
    }
    PinPolicy::new(length("min-length")?, length("max-length")?, of_classes).ok()
}

/// The service, for one card.
struct CardUnblocking<'a> {
    service: &'a Service,
    card: String,
}

impl Unblocking for CardUnblocking<'_> {
    fn unblock_by_puk(&self, puk: &Secret, new: &Secret) -> Result<(), Refusal> {
        let pipes = puk.pipe().and_then(|puk| Ok((puk, new.pipe()?)));
        let body = pipes.map_err(|error| Refusal::Failed(error.to_string()))?;
        let service = self.service;
        let done = service.call(SERVICE, &self.card, PROVISIONING, "UnblockWithPuk", &body);
        done.map(drop).map_err(|error| refusal(error, "WrongPuk"))
    }

    fn reset(&self) -> Result<Box<dyn Reset + '_>, String> {
        let service = self.service;
        let options = Dictionary::new();
        let begun = service.call(
            SERVICE,
            &self.card,
            PROVISIONING,
            "RequestPinReset",
            &options,
        );
        let begun = begun.map_err(text)?;
        let path: OwnedObjectPath = begun.body().deserialize().map_err(text)?;
        let body = (RESET, "Challenge");
        let told = service.call(SERVICE, path.as_str(), PROPERTIES, "Get", &body);
        let told: OwnedVariant = told.map_err(text)?.body().deserialize().map_err(text)?;
        Ok(Box::new(CardReset {
            service,
            path: path.to_string(),
            challenge: told.try_into().map_err(text)?,
            completed: Cell::new(false),
        }))
    }
}

/// A reset that was begun.
struct CardReset<'a> {
    service: &'a Service,
    path: String,
    challenge: Vec<u8>,
    completed: Cell<bool>,
}

impl Reset for CardReset<'_> {
    fn challenge(&self) -> &[u8] {
        &self.challenge
    }

    fn complete(&self, response: &Secret, new: &Secret) -> Result<(), Refusal> {
        let failed = |error: std::io::Error| Refusal::Failed(error.to_string());
        for (member, value) in [("SetResponse", response), ("SetNewPin", new)] {
            let pipe = value.pipe().map_err(failed)?;
            self.service
                .call(SERVICE, &self.path, RESET, member, &pipe)
                .map_err(|error| Refusal::Failed(text(error)))?;
        }
        self.completed.set(true);
        let done = self
            .service
            .call(SERVICE, &self.path, RESET, "Complete", &())
            .map_err(|error| refusal(error, "WrongResponse"))?;
        match done.body().deserialize::<bool>() {
            Ok(true) => Ok(()),
            _ => Err(Refusal::Failed("the PIN was not set".into())),
        }
    }
}

impl Drop for CardReset<'_> {
    fn drop(&mut self) {
        if !self.completed.get() {
            // Whoever gave up leaves nothing open.
            let _ = self.service.call(SERVICE, &self.path, RESET, "Cancel", &());
        }
    }
}

fn refusal(error: zbus::Error, wrong: &str) -> Refusal {
    let is_wrong = matches!(&error, zbus::Error::MethodError(name, ..)
        if name.as_str() == format!("{SERVICE}.Error.{wrong}"));
    match is_wrong {
        true => Refusal::Wrong(text(error)),
        false => Refusal::Failed(text(error)),
    }
}
