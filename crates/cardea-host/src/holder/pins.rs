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
use cardea_terms::PinRuleError;
use des::TdesEde3;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::failure::{change_unknown, fail, token_kind, tries_left};
use crate::holder::{CardVisit, typed};
use crate::host::describe::FEW_VAULT_ENTRIES;
use crate::host::hosted::Body;
use crate::host::logins::Login;

impl CardVisit<'_> {
    /// Verifies the PIN for as long as this client is there. A wrong one ends an earlier login.
    pub(crate) fn login(&self, pin: &SecretBytes) -> Result<Reply, Failure> {
        let pin = typed("PIN", pin)?;
        // Refuses cards that cannot be used, and makes sure that this one can.
        self.with_card(|_, _| Ok(()))?;
        if self.logins.login(&self.card).is_none() {
            let connection = match &mut *self.card.body() {
                Body::Live(live) => live.connect(),
                _ => return Err(self.card.unusable()),
            };
            self.logins.add(Arc::new(Login {
                card: Arc::clone(&self.card),
                connection: Mutex::new(Some(connection)),
            }));
        }
        let verified = self
            .with_login(|card, connection| card.verify_pin(connection, PinReference::Pin, &pin));
        if let Err(failure) = verified {
            self.logins.remove(&self.card);
            return Err(failure);
        }
        Ok(Reply::Done)
    }

    /// Ends the login, if there is one, and the program's session keys on the card.
    pub(crate) fn logout(&self) -> Result<Reply, Failure> {
        self.logins.remove(&self.card);
        self.end_session_keys();
        Ok(Reply::Done)
    }

    pub(crate) fn verify_pin(
        &self,
        reference: Reference,
        value: &SecretBytes,
    ) -> Result<Reply, Failure> {
        let value = typed(word(reference), value)?;
        self.with_reference(reference, |card, connection| {
            card.verify_pin(connection, engine_reference(reference), &value)
        })?;
        Ok(Reply::Done)
    }

    pub(crate) fn change_pin(
        &self,
        reference: Reference,
        old: &SecretBytes,
        new: &SecretBytes,
    ) -> Result<Reply, Failure> {
        let (old, new) = (typed(word(reference), old)?, typed(word(reference), new)?);
        self.with_reference(reference, |card, connection| {
            card.check_new(engine_reference(reference), &new)?;
            card.change_pin(connection, engine_reference(reference), &old, &new)
        })?;
        log_done!(self, "PIN or PUK changed");
        Ok(Reply::Done)
    }

    /// Like `with_card`, and a failure is about the PIN or the PUK.
    fn with_reference<R>(
        &self,
        reference: Reference,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<R, CardError>,
    ) -> Result<R, Failure> {
        let result = self.with_card(|card, connection| Ok(work(card, connection)));
        let result = result.map_err(|failure| about(reference, failure))?;
        result.map_err(|error| match (reference, &error) {
            (Reference::Puk, CardError::PinForm { rule, left }) => Failure {
                kind: FailureKind::PinWrong,
                message: format!(
                    "{}; this one was not tried, {}",
                    of_puk(*rule),
                    tries_left(*left)
                ),
                tries_left: *left,
            },
            (Reference::Puk, error) if token_kind(error) == Some(TokenErrorKind::NotConfigured) => {
                fail(FailureKind::Invalid, "this card has no PUK")
            }
            _ => about(reference, self.explained(&error)),
        })
    }

    pub(crate) fn unblock(&self, by: &Authority, new: &SecretBytes) -> Result<Reply, Failure> {
        let new = typed("PIN", new)?;
        let done = match by {
            Authority::Puk(puk) => {
                let puk = typed("PUK", puk)?;
                self.with_reference(Reference::Puk, |card, connection| {
                    card.check_new(PinReference::Pin, &new)?;
                    card.unblock_by_puk(connection, &puk, &new)
                })
            }
            Authority::Admin(answer) => self.with_card(|card, connection| {
                unblock_as(card, connection, &new, |card, connection| {
                    authenticate_by_response(card, connection, answer)
                })
            }),
            Authority::AdminKey(key) => {
                let key = admin_key(key)?;
                self.with_card(|card, connection| {
                    unblock_as(card, connection, &new, |card, connection| {
                        authenticate_by_key(card, connection, &key)
                    })
                })
                .map_err(no_challenge)
            }
        };
        done?;
        log_done!(self, "PIN unblocked");
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
        self.with_card(|card, connection| authenticate_by_key(card, connection, &key))
            .map_err(no_challenge)?;
        Ok(Reply::Done)
    }

    pub(crate) fn verify_admin(&self, answer: &AdminAnswer) -> Result<Reply, Failure> {
        self.with_card(|card, connection| authenticate_by_response(card, connection, answer))?;
        Ok(Reply::Done)
    }

    pub(crate) fn change_admin_key(
        &self,
        answer: &AdminAnswer,
        new: &SecretBytes,
    ) -> Result<Reply, Failure> {
        let new = admin_key(new)?;
        self.with_card(|card, connection| {
            authenticate_by_response(card, connection, answer)?;
            card.change_admin_key(connection, &new)
        })?;
        log_done!(self, "admin key changed");
        Ok(Reply::Done)
    }
}

pub(crate) fn admin_key(key: &SecretBytes) -> Result<Zeroizing<[u8; 24]>, Failure> {
    let bytes = key.expose().try_into().map_err(|_| {
        fail(
            FailureKind::Invalid,
            format!(
                "an admin key must have 24 bytes, not {}",
                key.expose().len()
            ),
        )
    })?;
    Ok(Zeroizing::new(bytes))
}

fn no_challenge(failure: Failure) -> Failure {
    match failure.kind {
        FailureKind::Full => fail(
            FailureKind::Full,
            "the card has no challenges left; a mutual authentication or a new admin key creates new ones",
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

/// Answers a challenge with the admin key. While the key is known, new challenges are made before the old ones run
/// out.
fn authenticate_by_key(
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
    authenticate_by_response(card, connection, &answer)?;
    let vault = card.record().tpm.vault.as_ref();
    if vault.is_some_and(|vault| vault.left(VaultKind::External) < FEW_VAULT_ENTRIES)
        && let Err(error) = card.change_admin_key(connection, key)
    {
        tracing::warn!(error = crate::failure::chain(&error), "no new challenges");
    }
    Ok(())
}

pub(crate) fn authenticate_by_response(
    card: &mut Card,
    connection: &mut Connection,
    answer: &AdminAnswer,
) -> Result<(), CardError> {
    let Ok(response) = answer.response.expose().try_into() else {
        return Err(CardError::Conflict(
            "an administrator's response must have 8 bytes".into(),
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

/// A rule in the words of the PUK.
fn of_puk(rule: PinRuleError) -> String {
    match rule {
        PinRuleError::Missing(_) | PinRuleError::Disallowed(_) => {
            "the PUK does not have the characters that the card asks for".to_owned()
        }
        PinRuleError::Length { min, max } => format!("the PUK must have {min} to {max} bytes"),
    }
}

/// Rewords a PIN failure for the PUK.
fn about(reference: Reference, failure: Failure) -> Failure {
    match (reference, failure.kind) {
        (Reference::Puk, FailureKind::PinWrong) => Failure {
            message: format!("wrong PUK; {}", tries_left(failure.tries_left)),
            ..failure
        },
        (Reference::Puk, FailureKind::Blocked) => Failure {
            message: "the PUK is permanently blocked; a blocked PIN can no longer be unblocked"
                .into(),
            ..failure
        },
        (Reference::Puk, FailureKind::ChangeUnknown) => {
            fail(FailureKind::ChangeUnknown, change_unknown("PUK"))
        }
        _ => failure,
    }
}
