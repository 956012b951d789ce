//! One call on the bus: who makes it, what it brings, what it is answered.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cardea_client::message::SecretBytes;
use zbus::message::Flags;
use zbus::wire::DynamicDeserialize;
use zbus::{Message, Structure, Variant};

use super::clients::Client;
use super::error::BusError;
use super::link::Link;
use super::secret;
use cardea_host::Door;
use cardea_host::Grant;
use cardea_host::Visitor;

/// A call, and who made it.
pub(crate) struct Request<'a> {
    pub(crate) link: &'a Link,
    pub(crate) client: &'a Arc<Client>,
    pub(crate) message: &'a Message,
    /// What the system's policy has granted for this call.
    pub(crate) grant: Option<Grant>,
}

impl Request<'_> {
    /// Whoever calls, for the counter.
    pub(crate) fn visitor(&self) -> Visitor {
        let client = &self.client;
        Visitor::new(client.caller, client.actor.clone(), Door::Bus)
            .with_gone(Arc::clone(&client.gone))
            .with_grant(self.grant)
    }
}

/// What a method answers.
pub(crate) enum Answer {
    /// Work that goes on after the answer.
    Begin(Structure<'static>, Work),
    Nothing,
    Values(Structure<'static>),
}

/// Work after an answer.
type Work = Box<dyn FnOnce(&Link) + Send>;

/// The arguments of a call whose types were checked.
pub(crate) fn arguments<T>(message: &Message) -> Result<T, BusError>
where
    T: for<'a> DynamicDeserialize<'a>,
{
    let body = message.body();
    body.deserialize()
        .map_err(|error| BusError::standard("InvalidArgs", error.to_string()))
}

/// The first argument of a call whose types were checked and begin with a text, without decoding the others: they
/// may be long, or hold secrets.
pub(crate) fn first_text(message: &Message) -> Result<String, BusError> {
    let body = message.body();
    let first = body.data().deserialize_for_signature::<_, String>("s");
    first
        .map(|(text, _)| text)
        .map_err(|error| BusError::standard("InvalidArgs", error.to_string()))
}

/// The secret behind a descriptor.
pub(crate) fn secret_of(descriptor: zbus::OwnedFd) -> Result<SecretBytes, BusError> {
    secret::take(OwnedFd::from(descriptor))
}

/// An answer of one value.
pub(crate) fn one(value: impl Into<Variant<'static>>) -> Result<Answer, BusError> {
    let built = zbus::wire::StructureBuilder::new()
        .append_field(value.into())
        .build();
    built
        .map(Answer::Values)
        .map_err(|error| BusError::standard("Failed", error.to_string()))
}

/// Whether polkit may ask the person at the caller's screen.
pub(crate) fn is_interactive(message: &Message) -> bool {
    let header = message.header();
    let flags = header.primary().flags();
    flags.contains(Flags::ALLOW_INTERACTIVE_AUTH)
}
