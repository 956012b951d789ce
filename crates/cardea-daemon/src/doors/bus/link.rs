//! The connection to the bus, used by threads: every wait has its limit.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use zbus::message::Flags;
use zbus::names::ErrorName;
use zbus::{Connection, DynamicType, Message, ObjectPath, OwnedVariant, Structure, Variant};
use zruntime::SharedRuntime;

use cardea_host::CallerGone;

/// The bus itself, polkit and logind answer within this time.
pub(crate) const SYSTEM_TIME: Duration = Duration::from_secs(25);

/// `a{sv}`.
pub(crate) type Dictionary = HashMap<String, OwnedVariant>;

/// Why a call to somebody else came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The answer is no longer needed.
    #[error("the answer is no longer needed")]
    Gone,
    /// The other one says no: the error's name and text.
    #[error("{0}: {1}")]
    Refused(String, String),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The bus.
    #[error(transparent)]
    Bus(zbus::Error),
}

impl CallError {
    /// What it is, in a word that is the same each time.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Bus(zbus::Error::NameTaken) => "name taken",
            Self::Bus(_) => "connection",
            Self::Gone => "gone",
            Self::Refused(name, _) => name,
            Self::TimedOut => "timed out",
        }
    }
}

impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, text, _) => {
                Self::Refused(name.to_string(), text.unwrap_or_default())
            }
            zbus::Error::FDO(error) => {
                let name = zbus::DBusError::name(&*error).to_string();
                let text = zbus::DBusError::description(&*error).unwrap_or_default();
                Self::Refused(name, text.to_owned())
            }
            error => Self::Bus(error),
        }
    }
}

/// Whom to call, and what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
}

/// One connection to the bus.
#[derive(Clone, Debug)]
pub(crate) struct Link(pub(crate) Connection);

impl Link {
    /// Calls a service of the system.
    pub(crate) fn ask<B>(&self, target: Target<'_>, body: &B) -> Result<Message, CallError>
    where
        B: Serialize + DynamicType + Sync,
    {
        self.call(target, body, SYSTEM_TIME, None)
    }

    /// Calls somebody who may take long, until the time is over or the answer is no longer needed.
    pub(crate) fn call<B>(
        &self,
        target: Target<'_>,
        body: &B,
        limit: Duration,
        gone: Option<&CallerGone>,
    ) -> Result<Message, CallError>
    where
        B: Serialize + DynamicType + Sync,
    {
        let call = async {
            let answer = self.0.call_method(
                Some(target.destination),
                target.path,
                Some(target.interface),
                target.member,
                body,
            );
            let mut answer = pin!(answer);
            poll_fn(|context| match answer.as_mut().poll(context) {
                Poll::Ready(answer) => Poll::Ready(answer.map_err(CallError::from)),
                Poll::Pending => match gone.map(|gone| gone.poll(context)) {
                    Some(Poll::Ready(())) => Poll::Ready(Err(CallError::Gone)),
                    _ => Poll::Pending,
                },
            })
            .await
        };
        let runtime = SharedRuntime::current().map_err(|error| CallError::Bus(error.into()))?;
        zruntime::block_on(runtime.timeout(limit, call)).unwrap_or(Err(CallError::TimedOut))
    }

    /// Calls without an answer: whether it arrives is nobody's business.
    pub(crate) fn tell(&self, target: Target<'_>) {
        let message = Message::method_call(target.path, target.member)
            .destination(target.destination)
            .interface(target.interface)
            .with_flags(Flags::NO_REPLY_EXPECTED)
            .build(&());
        self.send(message);
    }

    /// Answers a call; nothing is sent where nothing is wanted.
    pub(crate) fn answer(&self, call: &Message, answer: Option<&Structure<'static>>) {
        let header = call.header();
        if header.primary().flags().contains(Flags::NO_REPLY_EXPECTED) {
            return;
        }
        let builder = Message::method_return(&header);
        self.send(match answer {
            Some(values) => builder.build(values),
            None => builder.build(&()),
        });
    }

    /// Answers a call with an error.
    pub(crate) fn refuse(&self, call: &Message, name: &str, text: &str) {
        let header = call.header();
        if header.primary().flags().contains(Flags::NO_REPLY_EXPECTED) {
            return;
        }
        match ErrorName::try_from(name) {
            Ok(name) => self.send(Message::error(&header, name).build(&(text,))),
            Err(error) => tracing::error!(%error, name, "not the name of an error"),
        }
    }

    /// A signal to one client: others may not even know that the object is there.
    pub(crate) fn signal<B>(
        &self,
        client: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) where
        B: Serialize + DynamicType,
    {
        let signal = Message::signal(path, interface, member);
        self.send(signal.destination(client).build(body));
    }

    fn send(&self, message: zbus::Result<Message>) {
        let sent = message.and_then(|message| zruntime::block_on(self.0.send(&message)));
        if let Err(error) = sent {
            tracing::debug!(%error, "message not sent");
        }
    }
}

/// A value for `a{sv}`.
pub(crate) fn value<'a>(value: impl Into<Variant<'a>>) -> OwnedVariant {
    let value: Variant<'a> = value.into();
    // What cannot be owned is a descriptor that cannot be duplicated, and none comes here.
    value
        .try_into_owned()
        .unwrap_or_else(|_| OwnedVariant::from(false))
}

/// One entry of `a{sv}`.
pub(crate) fn entry<'a>(key: &str, content: impl Into<Variant<'a>>) -> (String, OwnedVariant) {
    (key.to_owned(), value(content))
}

/// `/` stands for none.
pub(crate) fn path(text: Option<String>) -> ObjectPath<'static> {
    let text = text.unwrap_or_else(|| "/".to_owned());
    ObjectPath::try_from(text).unwrap_or_default()
}
