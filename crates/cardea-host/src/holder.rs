//! What a card's holder and its administrator do with it: PINs, keys, objects, settings.

/// Logs what a visit has done to its card. Not a function: the log counts lines that repeat by their place in the
/// program, so two events of one place would be counted, withheld and reported as one.
macro_rules! log_done {
    ($visit:expr, $what:literal) => {
        tracing::info!(card = %$visit.card.selector(), by = $visit.caller.uid(), $what)
    };
}

pub(crate) mod attestation;
pub(crate) mod challenge;
pub(crate) mod contents;
pub(crate) mod pin_pad;
pub(crate) mod pins;
pub(crate) mod prompt;
pub(crate) mod session_keys;
pub(crate) mod settings;

use std::sync::Arc;

use cardea_card::secret::Pin;
use cardea_card::token::PinReference;
use cardea_card::{Card, CardError, Connection};
use cardea_client::message::{Failure, FailureKind, SecretBytes};

use crate::failure::{fail, on_card, token_kind};
use crate::host::Host;
use crate::host::admission::{ask_again, calls_for_recheck, recheck};
use crate::host::audit::{Actor, Door};
use crate::host::hosted::{Body, HostedCard};
use crate::host::logins::LoginGroup;
use crate::host::permission::Caller;
use crate::host::prompt::CallerGone;
use crate::sync::lock;

/// One request that works on a card: the host, who asks by which door, and the card.
pub(crate) struct CardVisit<'a> {
    pub(crate) host: &'a Host,
    pub(crate) caller: Caller,
    pub(crate) actor: &'a Actor,
    pub(crate) door: Door,
    /// As it was found once; it is not looked up again.
    pub(crate) card: Arc<HostedCard>,
    pub(crate) logins: &'a LoginGroup,
    /// Tells that the caller has gone, where that is known.
    pub(crate) gone: Option<&'a Arc<CallerGone>>,
}

impl CardVisit<'_> {
    /// Works on the card over a connection of its own.
    pub(crate) fn with_card<R>(
        &self,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<R, CardError>,
    ) -> Result<R, Failure> {
        let card = &self.card;
        let mut body = card.body();
        ask_again(self.host, card, &mut body);
        let Body::Live(live) = &mut *body else {
            return Err(card.unusable());
        };
        if live.record().provisional.is_some() {
            // Its first values are nobody's: trying one would only spend tries.
            return Err(fail(
                FailureKind::Invalid,
                "the card is in initialisation state and has no PIN yet; personalise it first",
            ));
        }
        let mut connection = live.connect();
        let result = work(live, &mut connection);
        live.disconnect(connection);
        let events = live.take_events();
        drop(body);
        let audit = &self.host.audit;
        audit.card(card, self.actor, self.door, &events);
        result.map_err(|error| self.explained(&error))
    }

    /// The failure for an error. One that may mean that the whole card is out of use is examined first.
    pub(crate) fn explained(&self, error: &CardError) -> Failure {
        let card = &self.card;
        if let Some(kind) = token_kind(error)
            && calls_for_recheck(kind)
        {
            let mut body = card.body();
            recheck(self.host, card, &mut body, kind);
            if !matches!(*body, Body::Live(_)) {
                return card.unusable();
            }
        }
        on_card(error)
    }

    /// Works on the card with the PIN verified: by the one given, or on the connection that `login` has kept.
    pub(crate) fn with_pin<R>(
        &self,
        pin: Option<&SecretBytes>,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<R, CardError>,
    ) -> Result<R, Failure> {
        let Some(pin) = pin else {
            return self.with_login(work);
        };
        let pin = typed("PIN", pin)?;
        self.with_card(|card, connection| {
            card.verify_pin(connection, PinReference::Pin, &pin)?;
            work(card, connection)
        })
    }

    /// Works on the card over the connection that `login` has kept.
    pub(crate) fn with_login<R>(
        &self,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<R, CardError>,
    ) -> Result<R, Failure> {
        let card = &self.card;
        // Before the body, so that it is dropped after it: its end takes the body.
        let login = self.logins.login(card).ok_or_else(not_logged_in)?;
        let mut body = card.body();
        let Body::Live(live) = &mut *body else {
            return Err(card.unusable());
        };
        let mut connection = lock(&login.connection);
        let open = connection.as_mut().ok_or_else(not_logged_in)?;
        let result = work(live, open);
        let events = live.take_events();
        drop(connection);
        drop(body);
        let audit = &self.host.audit;
        audit.card(card, self.actor, self.door, &events);
        // Before the card is looked at as a whole: dropping the login takes its body.
        drop(login);
        result.map_err(|error| self.explained(&error))
    }
}

fn not_logged_in() -> Failure {
    fail(
        FailureKind::NotLoggedIn,
        "the PIN is not verified on this connection",
    )
}

pub(crate) fn typed(what: &str, bytes: &SecretBytes) -> Result<Pin, Failure> {
    Pin::new(bytes.expose()).map_err(|_| {
        fail(
            FailureKind::Invalid,
            format!("a {what} must have 1 to {} bytes", Pin::MAX),
        )
    })
}
