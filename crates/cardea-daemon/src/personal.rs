//! What a card's holder and its administrator do over the socket with PIN, PUK and admin key.
//!
//! Each request is one connection to the engine, which ends with it: what was verified for it serves
//! nothing else.

use std::sync::{Arc, Mutex};

use cardea_card::record::VaultKind;
use cardea_card::secret::Pin;
use cardea_card::token::{AdminError, AdminForm, PinReference, TokenErrorKind};
use cardea_card::{Card, CardError, Connection};
use cardea_client::message::{
    AdminAnswer, Authority, Failure, FailureKind, Reference, Reply, SecretBytes,
};
use des::TdesEde3;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::application::{Application, Login};
use crate::audit::{Actor, Door};
use crate::describe::FEW_VAULT_ENTRIES;
use crate::failure::{change_unknown, fail, of_card, token_kind, tries_left};
use crate::host::{Host, lock};
use crate::hosted::{Body, HostedCard};
use crate::permission::Caller;
use crate::prompt::Gone;
use crate::startup::{ask_again, calls_for_recheck, recheck};

/// A request's place: the host, who asks, and which card is meant.
pub(crate) struct Desk<'a> {
    pub(crate) host: &'a Host,
    pub(crate) caller: Caller,
    pub(crate) actor: &'a Actor,
    pub(crate) door: Door,
    pub(crate) selector: &'a str,
    pub(crate) application: &'a Application,
    /// Tells that the caller has gone, where that is known.
    pub(crate) gone: Option<&'a Arc<Gone>>,
}

impl Desk<'_> {
    /// Works on the card over a connection of its own.
    pub(crate) fn with_card<R>(
        &self,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<R, CardError>,
    ) -> Result<R, Failure> {
        let card = self.host.find(self.selector, self.caller)?;
        let mut body = card.body();
        ask_again(self.host, &card, &mut body);
        let Body::Live(live) = &mut *body else {
            return Err(crate::session::unusable(&card));
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
        audit.card(&card, self.actor, self.door, &events);
        result.map_err(|error| self.explained(&card, &error))
    }

    /// What is told of an error. One that may mean that the card as a whole is out of use is looked into first.
    pub(crate) fn explained(&self, card: &Arc<HostedCard>, error: &CardError) -> Failure {
        if let Some(kind) = token_kind(error)
            && calls_for_recheck(kind)
        {
            let mut body = card.body();
            recheck(self.host, card, &mut body, kind);
            if !matches!(*body, Body::Live(_)) {
                return crate::session::unusable(card);
            }
        }
        told(error)
    }

    /// The same with the PIN verified: by the one given, or on the connection that `login` has kept.
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

    pub(crate) fn with_login<R>(
        &self,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<R, CardError>,
    ) -> Result<R, Failure> {
        let card = self.host.find(self.selector, self.caller)?;
        // Before the body, so that it is dropped after it: its end takes the body.
        let login = self.application.login(&card).ok_or_else(not_logged_in)?;
        let mut body = card.body();
        let Body::Live(live) = &mut *body else {
            return Err(crate::session::unusable(&card));
        };
        let mut connection = lock(&login.connection);
        let open = connection.as_mut().ok_or_else(not_logged_in)?;
        let result = work(live, open);
        let events = live.take_events();
        drop(connection);
        drop(body);
        let audit = &self.host.audit;
        audit.card(&card, self.actor, self.door, &events);
        // Before the card is looked at as a whole: dropping the login takes its body.
        drop(login);
        result.map_err(|error| self.explained(&card, &error))
    }

    /// Verifies the PIN for as long as this client is there. A wrong one ends an earlier login.
    pub(crate) fn login(&self, pin: &SecretBytes) -> Result<Reply, Failure> {
        let pin = typed("PIN", pin)?;
        let card = self.host.find(self.selector, self.caller)?;
        // Refuses cards that cannot be used, and makes sure that this one can.
        self.with_card(|_, _| Ok(()))?;
        if self.application.login(&card).is_none() {
            let connection = match &mut *card.body() {
                Body::Live(live) => live.connect(),
                _ => return Err(crate::session::unusable(&card)),
            };
            self.application.add(Arc::new(Login {
                card,
                connection: Mutex::new(Some(connection)),
            }));
        }
        let verified = self
            .with_login(|card, connection| card.verify_pin(connection, PinReference::Pin, &pin));
        if let Err(failure) = verified {
            self.logout()?;
            return Err(failure);
        }
        Ok(Reply::Done)
    }

    /// Ends the login, if there is one.
    pub(crate) fn logout(&self) -> Result<Reply, Failure> {
        let card = self.host.find(self.selector, self.caller)?;
        self.application.remove(&card);
        Ok(Reply::Done)
    }

    pub(crate) fn log(&self, what: &str) {
        tracing::info!(card = self.selector, by = self.caller.uid, "{what}");
    }

    pub(crate) fn verify_pin(
        &self,
        reference: Reference,
        value: &SecretBytes,
    ) -> Result<Reply, Failure> {
        let value = typed(word(reference), value)?;
        self.with_card(|card, connection| {
            card.verify_pin(connection, engine_reference(reference), &value)
        })
        .map_err(|failure| about(reference, failure))?;
        Ok(Reply::Done)
    }

    pub(crate) fn change_pin(
        &self,
        reference: Reference,
        old: &SecretBytes,
        new: &SecretBytes,
    ) -> Result<Reply, Failure> {
        let (old, new) = (typed(word(reference), old)?, typed(word(reference), new)?);
        self.with_card(|card, connection| {
            card.check_new(engine_reference(reference), &new)?;
            card.change_pin(connection, engine_reference(reference), &old, &new)
        })
        .map_err(|failure| about(reference, failure))?;
        self.log("PIN or PUK changed");
        Ok(Reply::Done)
    }

    pub(crate) fn unblock(&self, by: &Authority, new: &SecretBytes) -> Result<Reply, Failure> {
        let new = typed("PIN", new)?;
        let done = match by {
            Authority::Puk(puk) => {
                let puk = typed("PUK", puk)?;
                self.with_card(|card, connection| {
                    card.check_new(PinReference::Pin, &new)?;
                    card.unblock_by_puk(connection, &puk, &new)
                })
                .map_err(|failure| about(Reference::Puk, failure))
            }
            Authority::Admin(answer) => self.with_card(|card, connection| {
                unblock_as(card, connection, &new, |card, connection| {
                    be_administrator(card, connection, answer)
                })
            }),
            Authority::AdminKey(key) => {
                let key = admin_key(key)?;
                self.with_card(|card, connection| {
                    unblock_as(card, connection, &new, |card, connection| {
                        be_holder(card, connection, &key)
                    })
                })
                .map_err(no_challenge)
            }
        };
        done?;
        self.log("PIN unblocked");
        Ok(Reply::Done)
    }

    pub(crate) fn admin_challenge(&self) -> Result<Reply, Failure> {
        self.challenge().map(Reply::Challenge)
    }

    /// 8 bytes for the administrator to answer.
    pub(crate) fn challenge(&self) -> Result<Vec<u8>, Failure> {
        self.with_card(|card, _| {
            if !card.has_administrator() {
                return Err(CardError::Conflict(
                    "this card has no administrator: nobody has its admin key".into(),
                ));
            }
            card.admin_challenge(AdminForm::External)
        })
        .map_err(no_challenge)
    }

    pub(crate) fn verify_admin_key(&self, key: &SecretBytes) -> Result<Reply, Failure> {
        let key = admin_key(key)?;
        self.with_card(|card, connection| be_holder(card, connection, &key))
            .map_err(no_challenge)?;
        Ok(Reply::Done)
    }

    pub(crate) fn verify_admin(&self, answer: &AdminAnswer) -> Result<Reply, Failure> {
        self.with_card(|card, connection| be_administrator(card, connection, answer))?;
        Ok(Reply::Done)
    }

    pub(crate) fn change_admin_key(
        &self,
        answer: &AdminAnswer,
        new: &SecretBytes,
    ) -> Result<Reply, Failure> {
        let new = admin_key(new)?;
        self.with_card(|card, connection| {
            be_administrator(card, connection, answer)?;
            card.change_admin_key(connection, &new)
        })?;
        self.log("admin key changed");
        Ok(Reply::Done)
    }
}

fn not_logged_in() -> Failure {
    fail(
        FailureKind::NotLoggedIn,
        "the PIN is not verified on this connection",
    )
}

pub(crate) fn admin_key(key: &SecretBytes) -> Result<Zeroizing<[u8; 24]>, Failure> {
    let bytes = key.expose().try_into().map_err(|_| {
        fail(
            FailureKind::Invalid,
            format!("an admin key has 24 bytes, not {}", key.expose().len()),
        )
    })?;
    Ok(Zeroizing::new(bytes))
}

fn no_challenge(failure: Failure) -> Failure {
    match failure.kind {
        FailureKind::Full => fail(
            FailureKind::Full,
            "the card has no challenge left; a mutual authentication or a new admin key makes new ones",
        ),
        _ => failure,
    }
}

/// The administrator, however that is shown, sets a new PIN.
fn unblock_as(
    card: &mut Card,
    connection: &mut Connection,
    new: &Pin,
    prove: impl FnOnce(&mut Card, &mut Connection) -> Result<(), CardError>,
) -> Result<(), CardError> {
    card.check_new(PinReference::Pin, new)?;
    if card.has_puk() {
        return Err(CardError::Conflict(
            "this card has a PUK: the PUK unblocks its PIN, not the admin key".into(),
        ));
    }
    prove(card, connection)?;
    card.unblock_by_admin(connection, new)
}

/// Who has the admin key answers a challenge by it. While it is at hand, new challenges are made before the old
/// ones run out.
fn be_holder(
    card: &mut Card,
    connection: &mut Connection,
    key: &Zeroizing<[u8; 24]>,
) -> Result<(), CardError> {
    if !card.has_administrator() {
        return Err(CardError::Conflict(
            "this card has no administrator: nobody has its admin key".into(),
        ));
    }
    let challenge = card.admin_challenge(AdminForm::External)?;
    let mut block: [u8; 8] = challenge
        .as_slice()
        .try_into()
        .map_err(|_| TokenErrorKind::Internal)?;
    TdesEde3::new((&**key).into()).encrypt_block((&mut block).into());
    let answer = AdminAnswer {
        challenge,
        response: SecretBytes::new(block.to_vec()),
    };
    be_administrator(card, connection, &answer)?;
    let vault = card.record().tpm.vault.as_ref();
    if vault.is_some_and(|vault| vault.left(VaultKind::External) < FEW_VAULT_ENTRIES)
        && let Err(error) = card.change_admin_key(connection, key)
    {
        tracing::warn!(error = crate::failure::chain(&error), "no new challenges");
    }
    Ok(())
}

/// What [`of_card`] says of cards as a whole means something else for what is on one.
pub(crate) fn told(error: &CardError) -> Failure {
    let failure = of_card(error);
    match token_kind(error) {
        Some(TokenErrorKind::Full) => fail(
            FailureKind::Full,
            "the card has no room for this; delete a key or a certificate first",
        ),
        Some(TokenErrorKind::Unsupported) => fail(
            FailureKind::Failed,
            "the TPM has no keys of this algorithm; `cardea tpm status` shows those it has",
        ),
        _ => failure,
    }
}

pub(crate) fn be_administrator(
    card: &mut Card,
    connection: &mut Connection,
    answer: &AdminAnswer,
) -> Result<(), CardError> {
    let Ok(response) = answer.response.expose().try_into() else {
        return Err(CardError::Conflict(
            "an administrator's response has 8 bytes".into(),
        ));
    };
    card.admin_answer(
        connection,
        &answer.challenge,
        cardea_card::token::AdminAnswer::External(response),
    )
    .map(drop)
    .map_err(|error| match token_kind(&error) {
        // A challenge of another card, or one that was answered.
        Some(TokenErrorKind::NotAuthenticated) => AdminError::Wrong.into(),
        _ => error,
    })
}

fn typed(what: &str, bytes: &SecretBytes) -> Result<Pin, Failure> {
    Pin::new(bytes.expose()).map_err(|_| {
        fail(
            FailureKind::Invalid,
            format!("a {what} has 1 to {} bytes", Pin::MAX),
        )
    })
}

pub(crate) fn word(reference: Reference) -> &'static str {
    match reference {
        Reference::Pin => "PIN",
        Reference::Puk => "PUK",
    }
}

fn engine_reference(reference: Reference) -> PinReference {
    match reference {
        Reference::Pin => PinReference::Pin,
        Reference::Puk => PinReference::Puk,
    }
}

/// What is said of a wrong PIN is said of the PUK.
fn about(reference: Reference, failure: Failure) -> Failure {
    match (reference, failure.kind) {
        (Reference::Puk, FailureKind::PinWrong) => Failure {
            message: format!(
                "wrong PUK; {}",
                tries_left(failure.tries_left.unwrap_or_default())
            ),
            ..failure
        },
        (Reference::Puk, FailureKind::Blocked) => Failure {
            message: "the PUK is blocked for good; a blocked PIN can no longer be unblocked".into(),
            ..failure
        },
        (Reference::Puk, FailureKind::ChangeUnknown) => {
            fail(FailureKind::ChangeUnknown, change_unknown("PUK"))
        }
        (Reference::Puk, FailureKind::Invalid) if failure.message.contains("no such reference") => {
            fail(FailureKind::Invalid, "this card has no PUK")
        }
        _ => failure,
    }
}
