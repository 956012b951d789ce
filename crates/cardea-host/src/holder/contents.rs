//! What is on a card, for its holder over the socket: keys, certificates and other objects.

use cardea_card::record;
use cardea_card::token::{
    KeyAlgorithm, PinReference, PrivateOperation, RecoveryKey, TokenErrorKind,
};
use cardea_card::{Card, CardError, KeyNumber, KeyReference, KeyUsage, NewKey, NewObject, secret};
use cardea_client::message::{
    self, ByteVec, CardStatus, Contents, Failure, FailureKind, ObjectKind, ObjectSummary,
    Operation, Reply, SecretBytes, Thing,
};
use cardea_pki::Certificate;
use cardea_pki::recovery::Point;
use cardea_tpm::policy::MAX_TARGETS;
use zeroize::Zeroizing;

use crate::failure::{fail, of_store, on_card};
use crate::holder::CardVisit;
use crate::host::describe::{self, key_summary};
use crate::host::hosted::Body;
use crate::sync::lock;

/// Longest label of a key in bytes.
const MAX_LABEL: usize = 127;
/// Longest label of another object, longest identifier.
const MAX_TEXT: usize = 255;
/// Longest certificate of a recovery key: the card file's own bound.
const MAX_CERTIFICATE: usize = 8192;
/// Most of a card's file in one reply.
const FILE_PART: usize = 64 * 1024;
/// Longest content of an object.
const MAX_VALUE: usize = 64 * 1024;

impl CardVisit<'_> {
    /// PIN counters as last known: nothing is asked of the TPM that was asked before.
    pub(crate) fn status(&self) -> Result<Reply, Failure> {
        let card = &self.card;
        // Before the body, so that it is dropped after it: its end takes the body.
        let login = self.logins.login(card);
        let mut body = card.body();
        let mut status = CardStatus {
            overview: describe::overview(card),
            pin: None,
            puk: None,
            administrator: false,
            pin_policy: None,
            pin_pad: false,
            logged_in: Some(false),
            counter_mode: card.mode,
            algorithms: None,
        };
        if let Body::Live(live) = &mut *body {
            let tries = |reference, live: &mut Card| {
                let known = live.known_pin_status(reference);
                describe::tries(live, reference, known)
            };
            live.expire();
            status.logged_in = Some(login.as_ref().is_some_and(|login| {
                let connection = lock(&login.connection);
                connection
                    .as_ref()
                    .is_some_and(|open| live.is_verified(open))
            }));
            status.pin = tries(PinReference::Pin, live);
            status.puk = live
                .has_puk()
                .then(|| tries(PinReference::Puk, live))
                .flatten();
            let record = live.record();
            status.administrator =
                record.tpm.vault.is_some() && !card.gone().has(record::IndexRole::Adm);
            status.pin_policy = record.settings.pin_policy;
            status.pin_pad = record.settings.pin_pad;
            status.algorithms = Some(live.algorithms()).filter(|known| !known.is_empty());
            status.overview.uninitialised = record.provisional.is_some();
        }
        Ok(Reply::Status(Box::new(status)))
    }

    /// Keys and objects, unless the caller knows them.
    pub(crate) fn contents(&self, known: u64) -> Result<Reply, Failure> {
        let card = &self.card;
        let body = card.body();
        let Body::Live(live) = &*body else {
            return Err(card.unusable());
        };
        let revision = live.revision();
        if revision == known {
            let contents = None;
            return Ok(Reply::Contents { revision, contents });
        }
        let keys = live.keys().map_err(|error| on_card(&error))?;
        let contents = Some(Contents {
            keys: keys.iter().map(|key| key_summary(live, key)).collect(),
            objects: live.objects().iter().map(object_summary).collect(),
        });
        Ok(Reply::Contents { revision, contents })
    }

    pub(crate) fn read_object(&self, number: u32) -> Result<Reply, Failure> {
        let value = self.with_card(|card, _| {
            let mut objects = card.objects().iter();
            let found = objects.find(|object| object.number == number);
            Ok(found.map(|object| object.value.clone()))
        })?;
        value.map(Reply::Certificate).ok_or_else(no_object)
    }

    /// A part of the card's file. It says nothing that the owner may not know, but for first values that nobody has
    /// replaced yet.
    pub(crate) fn read_file(&self, offset: u64) -> Result<Reply, Failure> {
        let card = &self.card;
        let body = card.body();
        let Body::Live(live) = &*body else {
            return Err(card.unusable());
        };
        if live.record().provisional.is_some() {
            return Err(fail(
                FailureKind::Invalid,
                "the card is in initialisation state and its file still opens it: personalise it first",
            ));
        }
        let revision = live.revision();
        let file = self.host.store.file_of(live.record());
        let file = file.map_err(|error| of_store(&error))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = file.get(start..).unwrap_or_default();
        Ok(Reply::File {
            part: rest.get(..FILE_PART).unwrap_or(rest).to_vec(),
            length: u64::try_from(file.len()).unwrap_or(u64::MAX),
            revision,
        })
    }

    pub(crate) fn store_object(
        &self,
        pin: Option<&SecretBytes>,
        object: &message::NewObject,
    ) -> Result<Reply, Failure> {
        require_texts(&[&object.label, &object.application], Some(&object.id))?;
        if object.value.is_empty() && object.kind == ObjectKind::Certificate
            || object.value.len() > MAX_VALUE
        {
            return Err(fail(
                FailureKind::Invalid,
                format!(
                    "an object must have at most {MAX_VALUE} bytes, and a certificate must not be empty"
                ),
            ));
        }
        let new = NewObject {
            kind: match object.kind {
                ObjectKind::Certificate => record::ObjectKind::Certificate,
                ObjectKind::Data => record::ObjectKind::Data,
            },
            label: object.label.clone(),
            id: object.id.clone(),
            application: object.application.clone(),
            value: object.value.clone(),
        };
        let number = self.with_pin(pin, |card, connection| card.add_object(connection, new))?;
        log_done!(self, "object stored");
        Ok(Reply::Object { number })
    }

    pub(crate) fn rename(
        &self,
        pin: Option<&SecretBytes>,
        thing: Thing,
        label: Option<&str>,
        id: Option<&[u8]>,
    ) -> Result<Reply, Failure> {
        match thing {
            Thing::Key(reference) => {
                label.map_or(Ok(()), require_key_label)?;
                require_key_id(id)?;
                self.known_key(reference)?;
                self.with_pin(pin, |card, connection| {
                    card.rename_key(connection, KeyNumber::new(reference), label, id)
                })?;
            }
            Thing::Certificate(reference) => {
                let label = label.unwrap_or_default();
                require_key_label(label)?;
                if id.is_some() {
                    return Err(fail(
                        FailureKind::Invalid,
                        "the identifier of a certificate is that of its key",
                    ));
                }
                self.known_key(reference)?;
                self.with_pin(pin, |card, connection| {
                    card.rename_certificate(connection, KeyNumber::new(reference), label)
                })?;
            }
            Thing::Object(number) => {
                require_texts(&[label.unwrap_or_default()], id)?;
                self.known_object(number)?;
                self.with_pin(pin, |card, connection| {
                    card.rename_object(connection, number, label, id)
                })?;
            }
        }
        log_done!(self, "key or object renamed");
        Ok(Reply::Done)
    }

    pub(crate) fn delete_object(
        &self,
        pin: Option<&SecretBytes>,
        number: u32,
    ) -> Result<Reply, Failure> {
        self.known_object(number)?;
        let there = self.with_pin(pin, |card, connection| {
            card.delete_object(connection, number)
        })?;
        if !there {
            return Err(no_object());
        }
        log_done!(self, "object deleted");
        Ok(Reply::Done)
    }

    fn known_object(&self, number: u32) -> Result<(), Failure> {
        let there = self
            .with_card(|card, _| Ok(card.objects().iter().any(|object| object.number == number)))?;
        if there { Ok(()) } else { Err(no_object()) }
    }

    pub(crate) fn generate_key(
        &self,
        pin: Option<&SecretBytes>,
        key: &message::NewKey,
        algorithm: KeyAlgorithm,
    ) -> Result<Reply, Failure> {
        let new = new_key(key)?;
        let summary = self.with_pin(pin, |card, connection| {
            let number = card.generate_key(connection, algorithm, &new)?;
            summary_of(card, number)
        })?;
        log_done!(self, "key generated");
        Ok(Reply::Key(Box::new(summary)))
    }

    pub(crate) fn generate_recoverable_key(
        &self,
        pin: Option<&SecretBytes>,
        key: &message::NewKey,
        algorithm: KeyAlgorithm,
        certificates: &[ByteVec],
    ) -> Result<Reply, Failure> {
        let new = new_key(key)?;
        let keys = recovery_keys(certificates)?;
        let summary = self.with_pin(pin, |card, connection| {
            let number = card.generate_recoverable_key(connection, algorithm, &new, &keys)?;
            summary_of(card, number)
        })?;
        log_done!(self, "recoverable key generated");
        Ok(Reply::Key(Box::new(summary)))
    }

    pub(crate) fn import_key(
        &self,
        pin: Option<&SecretBytes>,
        key: &message::NewKey,
        material: &message::PrivateKey,
    ) -> Result<Reply, Failure> {
        let new = new_key(key)?;
        let material = importable(material)?;
        let summary = self.with_pin(pin, |card, connection| {
            let number = card.import_key(connection, &material, &new)?;
            summary_of(card, number)
        })?;
        log_done!(self, "key imported");
        Ok(Reply::Key(Box::new(summary)))
    }

    pub(crate) fn delete_key(
        &self,
        pin: Option<&SecretBytes>,
        reference: u8,
    ) -> Result<Reply, Failure> {
        self.known_key(reference)?;
        self.with_pin(pin, |card, connection| {
            card.delete_key(connection, KeyNumber::new(reference))
        })?;
        log_done!(self, "key deleted");
        Ok(Reply::Done)
    }

    pub(crate) fn use_key(
        &self,
        pin: Option<&SecretBytes>,
        reference: u8,
        operation: &Operation,
    ) -> Result<Reply, Failure> {
        let operation = private_operation(operation);
        let result = match pin {
            Some(_) => {
                self.known_key(reference)?;
                self.with_pin(pin, |card, connection| {
                    card.use_key(connection, KeyNumber::new(reference), operation)
                })?
            }
            None => {
                let key = KeyNumber::new(reference);
                match self.use_by_login(key.into(), operation) {
                    Ok(result) => result,
                    // It may be only that there is no such key.
                    Err(failure) => return Err(self.known_key(reference).err().unwrap_or(failure)),
                }
            }
        };
        Ok(Reply::Result(SecretBytes::new(result.to_vec())))
    }

    /// Uses a key over the connection that `login` has kept.
    pub(super) fn use_by_login(
        &self,
        key: KeyReference,
        operation: PrivateOperation<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        // The card is free while the TPM works: the next operation is on its way by then.
        let pending =
            self.with_login(|card, connection| card.begin_use(connection, key, operation))?;
        pending.run().map_err(|error| {
            // Without a connection of its own there is nothing to tell.
            let _ = self.with_login(|card, _| {
                card.finish_use(key, &error);
                Ok(())
            });
            self.explained(&error)
        })
    }

    pub(crate) fn read_certificate(&self, reference: u8) -> Result<Reply, Failure> {
        self.known_key(reference)?;
        let der = self.with_card(|card, _| Ok(card.certificate(KeyNumber::new(reference))))?;
        der.map(Reply::Certificate)
            .ok_or_else(|| no_certificate(reference))
    }

    pub(crate) fn store_certificate(
        &self,
        pin: Option<&SecretBytes>,
        reference: u8,
        der: &[u8],
        label: Option<&str>,
    ) -> Result<Reply, Failure> {
        label.map_or(Ok(()), require_key_label)?;
        self.known_key(reference)?;
        self.with_pin(pin, |card, connection| {
            card.store_certificate(connection, KeyNumber::new(reference), der, label)
        })?;
        log_done!(self, "certificate stored");
        Ok(Reply::Done)
    }

    pub(crate) fn delete_certificate(
        &self,
        pin: Option<&SecretBytes>,
        reference: u8,
    ) -> Result<Reply, Failure> {
        self.known_key(reference)?;
        let there = self.with_pin(pin, |card, connection| {
            card.delete_certificate(connection, KeyNumber::new(reference))
        })?;
        if !there {
            return Err(no_certificate(reference));
        }
        log_done!(self, "certificate deleted");
        Ok(Reply::Done)
    }

    /// Asked before the PIN is: a wrong reference costs no try.
    fn known_key(&self, reference: u8) -> Result<(), Failure> {
        let number = KeyNumber::new(reference);
        let known = self.with_card(|card, _| Ok(card.record().key(number).is_some()))?;
        if known {
            return Ok(());
        }
        Err(fail(
            FailureKind::NotFound,
            format!("the card has no key {reference:02x}; `cardea key list` shows its keys"),
        ))
    }
}

pub(super) fn summary_of(card: &Card, number: KeyNumber) -> Result<message::KeySummary, CardError> {
    let known = card.keys()?;
    let found = known.iter().find(|(present, _)| *present == number);
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

pub(super) fn new_key(key: &message::NewKey) -> Result<NewKey, Failure> {
    key.label.as_deref().map_or(Ok(()), require_key_label)?;
    require_key_id(key.id.as_deref())?;
    Ok(NewKey {
        label: key.label.clone(),
        usage: if key.sign_only {
            KeyUsage::Signature
        } else {
            KeyUsage::Exchange
        },
        class: key.class,
        id: key.id.clone(),
    })
}

/// The recovery keys that these certificates are of.
fn recovery_keys(certificates: &[ByteVec]) -> Result<Vec<RecoveryKey>, Failure> {
    let invalid = |text: String| fail(FailureKind::Invalid, text);
    if !(1..=MAX_TARGETS).contains(&certificates.len()) {
        return Err(invalid(format!(
            "a recoverable key has 1 to {MAX_TARGETS} recovery keys"
        )));
    }
    let mut keys: Vec<RecoveryKey> = Vec::new();
    for der in certificates {
        if der.len() > MAX_CERTIFICATE {
            return Err(invalid(format!(
                "the certificate of a recovery key must have at most {MAX_CERTIFICATE} bytes"
            )));
        }
        let certificate = Certificate::parse(der).map_err(|error| {
            invalid(format!(
                "the certificate of a recovery key is invalid: {error}"
            ))
        })?;
        let point = certificate.public_key().ok().and_then(Point::of);
        let Some(Point { x, y }) = point else {
            return Err(invalid(format!(
                "a recovery key must be on P-256, and that of {} is {}",
                certificate.subject(),
                certificate.key_description()
            )));
        };
        if keys.iter().any(|key| key.x == x && key.y == y) {
            return Err(invalid(
                "two certificates are of the same recovery key".to_owned(),
            ));
        }
        keys.push(RecoveryKey {
            x,
            y,
            certificate: certificate.der().to_vec(),
        });
    }
    Ok(keys)
}

/// A key that a card can hold.
pub(super) fn importable(material: &message::PrivateKey) -> Result<secret::PrivateKey, Failure> {
    private_key(material).ok_or_else(|| {
        fail(
            FailureKind::Invalid,
            "only RSA-2048, RSA-3072, P-256 and P-384 keys can be imported",
        )
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

pub(super) fn private_operation(operation: &Operation) -> PrivateOperation<'_> {
    match operation {
        Operation::DecryptOaep {
            hash,
            label,
            cryptogram,
        } => PrivateOperation::DecryptOaep {
            hash: *hash,
            label,
            cryptogram,
        },
        Operation::DecryptPkcs1 { cryptogram } => PrivateOperation::DecryptPkcs1 { cryptogram },
        Operation::Ecdh { x, y } => PrivateOperation::Ecdh { x, y },
        Operation::RsaRaw { block } => PrivateOperation::RsaRaw {
            block: block.expose(),
        },
        Operation::SignEcdsa { digest } => PrivateOperation::SignEcdsa { digest },
        Operation::SignPkcs1 { hash, digest } => PrivateOperation::SignPkcs1 {
            hash: *hash,
            digest,
        },
        Operation::SignPss { hash, digest } => PrivateOperation::SignPss {
            hash: *hash,
            digest,
        },
    }
}

fn object_summary(object: &record::ObjectRecord) -> ObjectSummary {
    ObjectSummary {
        number: object.number,
        kind: match object.kind {
            record::ObjectKind::Certificate => ObjectKind::Certificate,
            record::ObjectKind::Data => ObjectKind::Data,
        },
        label: object.label.clone(),
        id: object.id.clone(),
        application: object.application.clone(),
    }
}

fn no_object() -> Failure {
    fail(FailureKind::NotFound, "the card has no such object")
}

fn require_key_label(label: &str) -> Result<(), Failure> {
    if label.is_empty() || label.len() > MAX_LABEL || label.chars().any(char::is_control) {
        return Err(fail(
            FailureKind::Invalid,
            format!("a label must have 1 to {MAX_LABEL} bytes and no control characters"),
        ));
    }
    Ok(())
}

fn require_key_id(id: Option<&[u8]>) -> Result<(), Failure> {
    match id {
        Some(id) if !(1..=MAX_TEXT).contains(&id.len()) => Err(fail(
            FailureKind::Invalid,
            format!("an identifier must have 1 to {MAX_TEXT} bytes"),
        )),
        _ => Ok(()),
    }
}

fn require_texts(texts: &[&str], id: Option<&[u8]>) -> Result<(), Failure> {
    if texts.iter().any(|text| text.len() > MAX_TEXT) || id.is_some_and(|id| id.len() > MAX_TEXT) {
        return Err(fail(
            FailureKind::Invalid,
            format!("labels and identifiers of objects must have at most {MAX_TEXT} bytes"),
        ));
    }
    Ok(())
}
