//! The recovery key, wherever its private half is: in a file, in a token of any maker, on another card of this computer.
//! All that it has to do is one key agreement for each key that comes back.

use std::path::Path;

use cardea_card::record::{CardRecord, KeyRecord, RecoveryTarget};
use cardea_client::message::{
    CardRequest, CardSummary, KeySummary, Operation, Reply, Request, SecretBytes,
};
use cardea_pki::recovery::{Point, agree};
use cardea_pki::{Certificate, Curve, Error, PrivateKey, PublicKey};
use cardea_terms::{KeyAlgorithm, token_label, token_model};
use cardea_tpm::policy::recovery_target;
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use zeroize::Zeroizing;

use crate::arguments::RestoreArguments;
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex::plain;
use crate::on_card;
use crate::terminal::output::printable;
use crate::terminal::secret::{self, Source};
use crate::token::{SCHEME, Token, Uri};

/// How messages name it.
const WHAT: &str = "recovery key";

/// Digits of a card id that are its token's serial number.
const SERIAL: usize = 16;

/// The private key of a certificate that keys are recoverable by.
pub(super) struct RecoveryKey {
    pub(super) point: Point,
    /// How messages name it.
    pub(super) name: String,
    half: Half,
}

/// Where the private half is.
enum Half {
    File(Box<PrivateKey>),
    Token {
        token: Token,
        key: ObjectHandle,
    },
    Card {
        card_id: String,
        reference: u8,
        pin: SecretBytes,
    },
}

impl RecoveryKey {
    /// Finds it, and asks for its PIN or passphrase. In a token or on a card it has to be one that keys of the old card
    /// are recoverable by.
    pub(super) fn find(
        arguments: &RestoreArguments,
        old: &CardRecord,
        daemon: &mut Daemon,
    ) -> Result<Self, Failure> {
        let uri = arguments.with.to_str();
        let Some(uri) = uri.filter(|text| text.starts_with(SCHEME)) else {
            return Self::of_file(arguments);
        };
        if arguments.passphrase.source().is_given() {
            return Err(Failure::usage(
                "a passphrase is of a file; the PIN of a token can come from `pin-source` in its URI",
            ));
        }
        let uri = Uri::parse(uri, WHAT, "private").map_err(Failure::usage)?;
        match uri.module {
            Some(_) => Self::in_token(&uri, old),
            None => Self::on_card(&uri, old, daemon),
        }
    }

    fn of_file(arguments: &RestoreArguments) -> Result<Self, Failure> {
        let path: &Path = &arguments.with;
        let content = file::read(path)?;
        let source = arguments.passphrase.source();
        let given = source
            .is_given()
            .then(|| secret::passphrase(&source))
            .transpose()?;
        let parsed = match PrivateKey::parse(&content, given.as_deref().map(Vec::as_slice)) {
            Err(Error::PassphraseNeeded) if given.is_none() => {
                let typed = secret::passphrase(&source)?;
                PrivateKey::parse(&content, Some(&typed))
            }
            other => other,
        };
        let key = parsed.map_err(|error| {
            let exit = match error {
                Error::WrongPassphrase => Exit::PinWrong,
                _ => Exit::Usage,
            };
            Failure::new(exit, format!("{}: {error}", path.display()))
        })?;
        match Point::of(key.public_key()) {
            Some(point) => Ok(Self {
                point,
                name: path.display().to_string(),
                half: Half::File(Box::new(key)),
            }),
            None => Err(Failure::usage(format!(
                "{}: a recovery key is on P-256, and this key is {}",
                path.display(),
                key.kind()
            ))),
        }
    }

    /// In a token, through its maker's module.
    fn in_token(uri: &Uri, old: &CardRecord) -> Result<Self, Failure> {
        let token = Token::open(uri, WHAT)?;
        let name = format!("token {}", printable(&token.label));
        let kind = vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::EC),
        ];
        let keys = token.find(uri, kind)?;
        if keys.is_empty() {
            return Err(Failure::new(
                Exit::NotFound,
                format!("{name} has no such private key on an elliptic curve"),
            ));
        }
        let mut known = Vec::new();
        for key in keys {
            known.extend(point_in(&token, key)?.map(|point| (point, key)));
        }
        if known.is_empty() {
            return Err(Failure::new(
                Exit::NotFound,
                format!(
                    "{name} has neither public key nor certificate, on P-256 and with the private key's id: store one there"
                ),
            ));
        }
        let (point, key) = one_of(known, &name, old)?;
        Ok(Self {
            point,
            name,
            half: Half::Token { token, key },
        })
    }

    /// On one of the cards here, which its URI names.
    fn on_card(uri: &Uri, old: &CardRecord, daemon: &mut Daemon) -> Result<Self, Failure> {
        let mut cards = daemon.cards()?;
        cards.retain(|card| is_named(uri, card));
        let card = match cards.as_slice() {
            [one] => daemon.usable_by_pin(&one.card_id)?,
            [] => {
                return Err(Failure::new(
                    Exit::NotFound,
                    "no card here has the recovery key's URI; for a token of another maker, add `?module-path=` with its PKCS#11 module",
                ));
            }
            _ => {
                return Err(Failure::usage(
                    "more than one card here has the recovery key's URI: add serial",
                ));
            }
        };
        let name = format!("card {}", printable(&card.summary.name));
        let known: Vec<_> = card.keys.iter().filter_map(|key| named(uri, key)).collect();
        if known.is_empty() {
            return Err(Failure::new(
                Exit::NotFound,
                format!("{name} has no such key on P-256"),
            ));
        }
        let (point, reference) = one_of(known, &name, old)?;
        let source = Source {
            file: uri.pin.as_deref(),
            fd: None,
            options: "`pin-source` in the URI",
        };
        Ok(Self {
            point,
            half: Half::Card {
                pin: secret::present(&format!("PIN of {name}"), &source)?,
                card_id: card.summary.card_id,
                reference,
            },
            name,
        })
    }

    /// The copy that is for this key.
    pub(super) fn target<'a>(&self, key: &'a KeyRecord) -> Option<&'a RecoveryTarget> {
        let own = recovery_target(&self.point.x, &self.point.y);
        let targets = key.recovery.as_deref().unwrap_or_default();
        targets.iter().find(|target| target.public == own)
    }

    /// The abscissa that it and a point agree on.
    pub(super) fn agree(
        &self,
        peer: &Point,
        daemon: &mut Daemon,
    ) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let agreed = match &self.half {
            Half::File(key) => return agree(key, peer).ok_or_else(no_agreement),
            Half::Token { token, key } => derive(token, *key, peer)?,
            Half::Card {
                card_id,
                reference,
                pin,
            } => {
                let request = CardRequest::UseKey {
                    pin: Some(pin.clone()),
                    reference: *reference,
                    operation: Operation::Ecdh {
                        x: peer.x.to_vec(),
                        y: peer.y.to_vec(),
                    },
                };
                let request = Request::card(card_id.clone(), request);
                let reply = daemon.call(&request, "opening the copy");
                match reply.map_err(|failure| failure.and(&format!("asked of {}", self.name)))? {
                    Reply::Result(agreed) => Zeroizing::new(agreed.expose().to_vec()),
                    _ => return Err(Daemon::unexpected()),
                }
            }
        };
        let agreed = agreed.as_slice().try_into().map_err(|_| no_agreement())?;
        Ok(Zeroizing::new(agreed))
    }
}

fn no_agreement() -> Failure {
    Failure::new(Exit::Failed, "the recovery key gives no abscissa on P-256")
}

/// Key agreement in a token, whose result it hands out.
fn derive(token: &Token, key: ObjectHandle, peer: &Point) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let point = [&[4][..], &peer.x, &peer.y].concat();
    let parameters = Ecdh1DeriveParams::new(EcKdf::null(), &point);
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::ValueLen(32.into()),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    let mechanism = Mechanism::Ecdh1Derive(parameters);
    let session = &token.session;
    let derived = session.derive_key(&mechanism, key, &template);
    let derived = derived.map_err(|error| match error {
        TokenError::NotSupported
        | TokenError::Pkcs11(
            RvError::KeyFunctionNotPermitted
            | RvError::KeyTypeInconsistent
            | RvError::MechanismInvalid
            | RvError::FunctionNotSupported,
            _,
        ) => Failure::new(
            Exit::Failed,
            format!(
                "the key in token {} does no key agreement (CKM_ECDH1_DERIVE), which opens a copy: {error}",
                printable(&token.label)
            ),
        ),
        error => token.failed(&error),
    })?;
    let read = session.get_attributes(derived, &[AttributeType::Value]);
    // It ends with the session anyway.
    drop(session.destroy_object(derived));
    match read.map_err(|error| token.failed(&error))?.pop() {
        Some(Attribute::Value(value)) => Ok(Zeroizing::new(value)),
        _ => Err(Failure::new(
            Exit::Failed,
            format!(
                "token {} does not hand out what its key has agreed on",
                printable(&token.label)
            ),
        )),
    }
}

/// The point of a private key in a token: its own, or that of the public key or the certificate with the same id.
fn point_in(token: &Token, key: ObjectHandle) -> Result<Option<Point>, Failure> {
    let read = |object, kind| -> Result<Option<Vec<u8>>, Failure> {
        let found = token.session.get_attributes(object, &[kind]);
        let found = found.map_err(|error| token.failed(&error))?.pop();
        Ok(match found {
            Some(Attribute::EcPoint(value) | Attribute::Id(value) | Attribute::Value(value)) => {
                Some(value)
            }
            _ => None,
        })
    };
    let own = read(key, AttributeType::EcPoint)?;
    if let Some(point) = own.as_deref().and_then(point) {
        return Ok(Some(point));
    }
    let Some(id) = read(key, AttributeType::Id)?.filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    for (class, value) in [
        (ObjectClass::PUBLIC_KEY, AttributeType::EcPoint),
        (ObjectClass::CERTIFICATE, AttributeType::Value),
    ] {
        let wanted = [Attribute::Class(class), Attribute::Id(id.clone())];
        let found = token.session.find_objects(&wanted);
        for object in found.map_err(|error| token.failed(&error))? {
            let Some(value) = read(object, value)? else {
                continue;
            };
            let of_certificate = || {
                let certificate = Certificate::parse(&value).ok()?;
                Point::of(certificate.public_key().ok()?)
            };
            if let Some(point) = point(&value).or_else(of_certificate) {
                return Ok(Some(point));
            }
        }
    }
    Ok(None)
}

/// `CKA_EC_POINT` on P-256: an uncompressed point in an OCTET STRING, which some modules leave out.
fn point(value: &[u8]) -> Option<Point> {
    let value = value.strip_prefix(&[4, 65]).unwrap_or(value);
    let (x, y) = value.strip_prefix(&[4])?.split_at_checked(32)?;
    Point::of(&PublicKey::from_ec(Curve::P256, x, y).ok()?)
}

/// The one of several keys that copies are for.
fn one_of<T>(known: Vec<(Point, T)>, name: &str, old: &CardRecord) -> Result<(Point, T), Failure> {
    let is_target = |point: &Point| {
        let own = recovery_target(&point.x, &point.y);
        targets(old).any(|target| target.public == own)
    };
    let mut fitting = known.into_iter().filter(|(point, _)| is_target(point));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::new(
            Exit::NotFound,
            format!(
                "{name} has no key that keys of this card are recoverable by; they are recoverable {}",
                by_whom(old)
            ),
        )),
        _ => Err(Failure::usage(format!(
            "{name} has several keys that keys of this card are recoverable by: add object or id to the URI"
        ))),
    }
}

fn targets(old: &CardRecord) -> impl Iterator<Item = &RecoveryTarget> {
    old.keys
        .iter()
        .flat_map(|key| key.recovery.as_deref().unwrap_or_default())
}

fn by_whom(old: &CardRecord) -> String {
    let mut all: Vec<String> = targets(old)
        .map(|target| {
            let der = target.certificate.as_deref();
            match der.and_then(|der| Certificate::parse(der).ok()) {
                Some(certificate) => format!(
                    "{} (SHA-256 {})",
                    printable(&certificate.subject().to_string()),
                    plain(&certificate.fingerprint())
                ),
                None => "a key without a certificate".to_owned(),
            }
        })
        .collect();
    all.sort();
    all.dedup();
    match all.as_slice() {
        [] => "by nobody".to_owned(),
        all => format!("by {}", all.join(", ")),
    }
}

/// Whether the URI names the card's token.
fn is_named(uri: &Uri, card: &CardSummary) -> bool {
    let serial = card.card_id.get(..SERIAL).unwrap_or_default();
    let (label, model) = (token_label(&card.name), token_model(card.counter_mode));
    uri.is_token(&label, serial, "Cardea", model)
}

/// A key on P-256 that the URI names.
fn named(uri: &Uri, key: &KeySummary) -> Option<(Point, u8)> {
    let is_it = key.algorithm == KeyAlgorithm::P256
        && uri.id.as_ref().is_none_or(|id| *id == key.id)
        && uri.object.as_ref().is_none_or(|name| *name == key.label);
    let public = is_it.then(|| on_card::public_key(key).ok()).flatten()?;
    Some((Point::of(&public)?, key.reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_of_a_token_is_in_an_octet_string_or_bare() {
        // The base point of P-256 (SP 800-186 §3.2.1.3).
        let bare = [
            "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        ]
        .concat();
        let bare: Vec<u8> = (0..bare.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&bare[at..at + 2], 16).unwrap())
            .collect();
        let wrapped = [&[4, 65], &bare[..]].concat();
        let found = point(&bare).unwrap();
        assert_eq!(point(&wrapped), Some(found));
        assert_eq!(found.x, bare[1..33]);
        let mut off = bare.clone();
        off[64] ^= 1;
        for wrong in [&off[..], &bare[..64], &wrapped[..66], &[4, 65], &[]] {
            assert_eq!(point(wrong), None);
        }
    }
}
