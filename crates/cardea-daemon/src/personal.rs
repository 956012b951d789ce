//! What a card's holder and its administrator do over the socket: PIN, PUK, admin key, keys, certificates.
//!
//! Each request is one connection to the engine, which ends with it: what was verified for it serves
//! nothing else.

use std::cell::RefCell;
use std::sync::Arc;

use cardea_card::gids::{Freshness, KeyUsage};
use cardea_card::secret::Pin;
use cardea_card::token::{
    AdminError, AdminForm, HashAlgorithm, KeyAlgorithm, KeyClass, PinReference, PrivateOperation,
    TokenErrorKind,
};
use cardea_card::{Card, CardError, Connection, NewKey, secret};
use cardea_client::message::{
    self, AdminAnswer, Authority, Failure, FailureKind, Hash, Operation, Reference, Reply,
    SecretBytes,
};
use zeroize::Zeroizing;

use crate::describe::key_summary;
use crate::failure::{fail, of_card, token_kind, tries_left};
use crate::host::Host;
use crate::hosted::{Body, HostedCard};
use crate::permission::Caller;

/// Longest label in bytes.
const MAX_LABEL: usize = 127;

/// A request's place: the host, who asks, and which card is meant.
pub(crate) struct Desk<'a> {
    pub(crate) host: &'a Host,
    pub(crate) caller: Caller,
    pub(crate) selector: &'a str,
    pub(crate) logins: &'a RefCell<Vec<Login>>,
}

/// A card on which this client has verified the PIN, until it says so or goes away.
#[derive(Debug)]
pub(crate) struct Login {
    card: Arc<HostedCard>,
    connection: Option<Connection>,
}

impl Drop for Login {
    fn drop(&mut self) {
        if let (Body::Live(live), Some(connection)) =
            (&mut *self.card.body(), self.connection.take())
        {
            live.disconnect(connection);
        }
    }
}

impl Desk<'_> {
    /// Works on the card over a connection of its own.
    fn with_card<R>(
        &self,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<R, CardError>,
    ) -> Result<R, Failure> {
        let card = self.host.find(self.selector, self.caller)?;
        let mut body = card.body();
        let Body::Live(live) = &mut *body else {
            return Err(crate::session::unusable(&card.view()));
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
        result.map_err(|error| told(&error))
    }

    /// The same with the PIN verified: by the one given, or on the connection that `login` has kept.
    fn with_pin<R>(
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

    fn with_login<R>(
        &self,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<R, CardError>,
    ) -> Result<R, Failure> {
        let card = self.host.find(self.selector, self.caller)?;
        let mut logins = self.logins.borrow_mut();
        let login = logins
            .iter_mut()
            .find(|login| Arc::ptr_eq(&login.card, &card));
        let Some(connection) = login.and_then(|login| login.connection.as_mut()) else {
            return Err(fail(
                FailureKind::NotLoggedIn,
                "the PIN is not verified on this connection",
            ));
        };
        let mut body = card.body();
        let Body::Live(live) = &mut *body else {
            return Err(crate::session::unusable(&card.view()));
        };
        work(live, connection).map_err(|error| told(&error))
    }

    /// Verifies the PIN for as long as this client is there. A wrong one ends an earlier login.
    pub(crate) fn login(&self, pin: &SecretBytes) -> Result<Reply, Failure> {
        let pin = typed("PIN", pin)?;
        let card = self.host.find(self.selector, self.caller)?;
        // Refuses cards that cannot be used, and makes sure that this one can.
        self.with_card(|_, _| Ok(()))?;
        let mut logins = self.logins.borrow_mut();
        if !logins.iter().any(|login| Arc::ptr_eq(&login.card, &card)) {
            let connection = match &mut *card.body() {
                Body::Live(live) => live.connect(),
                _ => return Err(crate::session::unusable(&card.view())),
            };
            logins.push(Login {
                card,
                connection: Some(connection),
            });
        }
        drop(logins);
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
        let mut logins = self.logins.borrow_mut();
        logins.retain(|login| !Arc::ptr_eq(&login.card, &card));
        Ok(Reply::Done)
    }

    fn log(&self, what: &str) {
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
            card.change_pin(connection, engine_reference(reference), &old, &new)?;
            card.bump_freshness(Freshness::Pins)
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
                    card.unblock_by_puk(connection, &puk, &new)?;
                    card.bump_freshness(Freshness::Pins)
                })
                .map_err(|failure| about(Reference::Puk, failure))
            }
            Authority::Admin(answer) => self.with_card(|card, connection| {
                card.check_new(PinReference::Pin, &new)?;
                if card.has_puk() {
                    return Err(CardError::Conflict(
                        "this card has a PUK: the PUK unblocks its PIN, not the admin key".into(),
                    ));
                }
                be_administrator(card, connection, answer)?;
                card.unblock_by_admin(connection, &new)?;
                card.bump_freshness(Freshness::Pins)
            }),
        };
        done?;
        self.log("PIN unblocked");
        Ok(Reply::Done)
    }

    pub(crate) fn admin_challenge(&self) -> Result<Reply, Failure> {
        self.with_card(|card, _| {
            if !card.has_administrator() {
                return Err(CardError::Conflict(
                    "this card has no administrator: nobody has its admin key".into(),
                ));
            }
            card.admin_challenge(AdminForm::External)
        })
        .map(Reply::Challenge)
        .map_err(|failure| match failure.kind {
            FailureKind::Full => fail(
                FailureKind::Full,
                "the card has no challenge left; a mutual authentication or a new admin key makes new ones",
            ),
            _ => failure,
        })
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
        let new: [u8; 24] = new.expose().try_into().map_err(|_| {
            fail(
                FailureKind::Invalid,
                format!("an admin key has 24 bytes, not {}", new.expose().len()),
            )
        })?;
        let new = Zeroizing::new(new);
        self.with_card(|card, connection| {
            be_administrator(card, connection, answer)?;
            card.change_admin_key(connection, &new)
        })?;
        self.log("admin key changed");
        Ok(Reply::Done)
    }

    pub(crate) fn generate_key(
        &self,
        pin: Option<&SecretBytes>,
        key: &message::NewKey,
        algorithm: &str,
    ) -> Result<Reply, Failure> {
        let new = new_key(key)?;
        let algorithm = crate::describe::algorithm(algorithm).ok_or_else(|| {
            fail(
                FailureKind::Invalid,
                format!("{algorithm} is not one of rsa-2048, rsa-3072, p-256, p-384"),
            )
        })?;
        let summary = self.with_pin(pin, |card, connection| {
            let reference = card.generate_key(connection, algorithm, &new)?;
            summary_of(card, reference)
        })?;
        self.log("key generated");
        Ok(Reply::Key(Box::new(summary)))
    }

    pub(crate) fn import_key(
        &self,
        pin: Option<&SecretBytes>,
        key: &message::NewKey,
        material: &message::PrivateKey,
    ) -> Result<Reply, Failure> {
        let new = new_key(key)?;
        let material = private_key(material).ok_or_else(|| {
            fail(
                FailureKind::Invalid,
                "only RSA-2048, RSA-3072, P-256 and P-384 keys can be imported",
            )
        })?;
        let summary = self.with_pin(pin, |card, connection| {
            let reference = card.import_key(connection, &material, &new)?;
            summary_of(card, reference)
        })?;
        self.log("key imported");
        Ok(Reply::Key(Box::new(summary)))
    }

    pub(crate) fn delete_key(
        &self,
        pin: Option<&SecretBytes>,
        reference: u8,
    ) -> Result<Reply, Failure> {
        self.known_key(reference)?;
        self.with_pin(pin, |card, connection| {
            card.delete_key(connection, reference)
        })?;
        self.log("key deleted");
        Ok(Reply::Done)
    }

    pub(crate) fn use_key(
        &self,
        pin: Option<&SecretBytes>,
        reference: u8,
        operation: &Operation,
    ) -> Result<Reply, Failure> {
        self.known_key(reference)?;
        let result = self.with_pin(pin, |card, connection| {
            card.use_key(connection, reference, private_operation(operation))
        })?;
        Ok(Reply::Result(SecretBytes::new(result.to_vec())))
    }

    pub(crate) fn read_certificate(&self, reference: u8) -> Result<Reply, Failure> {
        self.known_key(reference)?;
        let der = self.with_card(|card, _| Ok(card.certificate(reference)))?;
        der.map(Reply::Certificate)
            .ok_or_else(|| no_certificate(reference))
    }

    pub(crate) fn store_certificate(
        &self,
        pin: Option<&SecretBytes>,
        reference: u8,
        der: &[u8],
    ) -> Result<Reply, Failure> {
        self.known_key(reference)?;
        self.with_pin(pin, |card, connection| {
            card.store_certificate(connection, reference, der)
        })?;
        self.log("certificate stored");
        Ok(Reply::Done)
    }

    pub(crate) fn delete_certificate(
        &self,
        pin: Option<&SecretBytes>,
        reference: u8,
    ) -> Result<Reply, Failure> {
        self.known_key(reference)?;
        let there = self.with_pin(pin, |card, connection| {
            card.delete_certificate(connection, reference)
        })?;
        if !there {
            return Err(no_certificate(reference));
        }
        self.log("certificate deleted");
        Ok(Reply::Done)
    }

    /// Asked before the PIN is: a wrong reference costs no try.
    fn known_key(&self, reference: u8) -> Result<(), Failure> {
        let known = self.with_card(|card, _| card.keys())?;
        if known.iter().any(|(present, _)| *present == reference) {
            return Ok(());
        }
        Err(fail(
            FailureKind::NotFound,
            format!("the card has no key {reference:02x}; `cardea key list` shows them"),
        ))
    }
}

/// What [`of_card`] says of cards as a whole means something else for what is on one.
fn told(error: &CardError) -> Failure {
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

fn be_administrator(
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

fn summary_of(card: &Card, reference: u8) -> Result<message::KeySummary, CardError> {
    let known = card.keys()?;
    let found = known.iter().find(|(present, _)| *present == reference);
    match found {
        Some(entry) => Ok(key_summary(card, entry)),
        None => Err(TokenErrorKind::Internal.into()),
    }
}

fn no_certificate(reference: u8) -> Failure {
    fail(
        FailureKind::NotFound,
        format!("key {reference:02x} has no certificate"),
    )
}

fn typed(what: &str, bytes: &SecretBytes) -> Result<Pin, Failure> {
    Pin::new(bytes.expose()).map_err(|_| {
        fail(
            FailureKind::Invalid,
            format!("a {what} has 1 to {} bytes", Pin::MAX),
        )
    })
}

fn word(reference: Reference) -> &'static str {
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
        (Reference::Puk, FailureKind::Invalid) if failure.message.contains("no such reference") => {
            fail(FailureKind::Invalid, "this card has no PUK")
        }
        _ => failure,
    }
}

fn new_key(key: &message::NewKey) -> Result<NewKey, Failure> {
    if let Some(label) = &key.label
        && (label.is_empty() || label.len() > MAX_LABEL || label.chars().any(char::is_control))
    {
        return Err(fail(
            FailureKind::Invalid,
            format!("a label has 1 to {MAX_LABEL} bytes and no control characters"),
        ));
    }
    Ok(NewKey {
        label: key.label.clone(),
        usage: if key.sign_only {
            KeyUsage::Signature
        } else {
            KeyUsage::Exchange
        },
        class: if key.always {
            KeyClass::Always
        } else {
            KeyClass::Session
        },
    })
}

/// None: not a key that a card can hold.
fn private_key(material: &message::PrivateKey) -> Option<secret::PrivateKey> {
    match material {
        message::PrivateKey::Rsa { modulus, prime } => {
            let algorithm = match modulus.len() {
                256 => KeyAlgorithm::Rsa2048,
                384 => KeyAlgorithm::Rsa3072,
                _ => return None,
            };
            (prime.expose().len() == modulus.len() / 2).then(|| secret::PrivateKey::Rsa {
                algorithm,
                modulus: modulus.clone(),
                prime: Zeroizing::new(prime.expose().to_vec()),
            })
        }
        message::PrivateKey::Ec { scalar, x, y } => {
            let size = scalar.expose().len();
            let algorithm = match size {
                32 => KeyAlgorithm::P256,
                48 => KeyAlgorithm::P384,
                _ => return None,
            };
            (x.len() == size && y.len() == size).then(|| secret::PrivateKey::Ec {
                algorithm,
                scalar: Zeroizing::new(scalar.expose().to_vec()),
                x: x.clone(),
                y: y.clone(),
            })
        }
    }
}

fn hash(hash: Hash) -> HashAlgorithm {
    match hash {
        Hash::Sha1 => HashAlgorithm::Sha1,
        Hash::Sha256 => HashAlgorithm::Sha256,
        Hash::Sha384 => HashAlgorithm::Sha384,
        Hash::Sha512 => HashAlgorithm::Sha512,
    }
}

fn private_operation(operation: &Operation) -> PrivateOperation<'_> {
    match operation {
        Operation::DecryptOaep {
            hash: name,
            label,
            cryptogram,
        } => PrivateOperation::DecryptOaep {
            hash: hash(*name),
            label,
            cryptogram,
        },
        Operation::DecryptPkcs1 { cryptogram } => PrivateOperation::DecryptPkcs1 { cryptogram },
        Operation::Ecdh { x, y } => PrivateOperation::Ecdh { x, y },
        Operation::RsaRaw { block } => PrivateOperation::RsaRaw {
            block: block.expose(),
        },
        Operation::SignEcdsa { digest } => PrivateOperation::SignEcdsa { digest },
        Operation::SignPkcs1 { hash: name, digest } => PrivateOperation::SignPkcs1 {
            hash: hash(*name),
            digest,
        },
        Operation::SignPss { hash: name, digest } => PrivateOperation::SignPss {
            hash: hash(*name),
            digest,
        },
    }
}
