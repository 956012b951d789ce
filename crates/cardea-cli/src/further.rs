//! Certificates of one key beside each other.
//!
//! A key's container has room for one, which is what all programs see. Further ones are objects of the card, as the
//! PKCS#11 module keeps them too; one that is in both places counts once.

use cardea_client::message::{
    CardDetails, CardRequest, Contents, KeySummary, NewObject, ObjectKind, Reply, Request,
    SecretBytes,
};

use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::on_card::{Place, Stored, check_length, newest, read_all, store, title};

/// Fewest digits of a fingerprint that select a certificate.
pub(crate) const FEWEST_DIGITS: usize = 8;

/// All certificates of a card: those with the keys, in their order, then those beside them.
pub(crate) fn read_everything(
    card: &CardDetails,
    daemon: &mut Daemon,
) -> Result<Vec<Stored>, Failure> {
    let mut found = read_all(card, daemon)?;
    for object in objects(card, daemon)? {
        if !found.iter().any(|other| other.der == object.der) {
            found.push(object);
        }
    }
    Ok(found)
}

/// The certificate with this fingerprint, of which the first digits are enough.
pub(crate) fn by_fingerprint(
    card: &CardDetails,
    digits: &str,
    daemon: &mut Daemon,
) -> Result<Stored, Failure> {
    let digits = digits.replace(':', "").to_ascii_lowercase();
    if digits.len() < FEWEST_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(Failure::usage(format!(
            "--sha256 takes at least {FEWEST_DIGITS} hexadecimal digits, as `cardea cert list` shows them"
        )));
    }
    let mut found = read_everything(card, daemon)?.into_iter().filter(|stored| {
        let fingerprint = stored.fingerprint();
        fingerprint.is_some_and(|fingerprint| fingerprint.to_ascii_lowercase().starts_with(&digits))
    });
    match (found.next(), found.next()) {
        (Some(stored), None) => Ok(stored),
        (Some(_), Some(_)) => Err(Failure::new(
            Exit::Ambiguous,
            format!("more than one certificate has a fingerprint that begins with {digits}"),
        )),
        (None, _) => Err(Failure::new(
            Exit::NotFound,
            format!("no certificate on the card has a fingerprint that begins with {digits}"),
        )),
    }
}

/// Stores a certificate with its key. One that was there is kept beside it; returns whether that is so.
pub(crate) fn put(
    card: &CardDetails,
    key: &KeySummary,
    pin: SecretBytes,
    der: &[u8],
    daemon: &mut Daemon,
) -> Result<bool, Failure> {
    check_length(der)?;
    let present = match key.certificate {
        true => Some(crate::on_card::read(card, key, daemon)?),
        false => None,
    };
    let displaced = present.filter(|present| present != der);
    if let Some(displaced) = &displaced
        && !objects(card, daemon)?
            .iter()
            .any(|object| object.der == *displaced)
    {
        // First, so that it is there at each moment.
        let label = key.certificate_label.as_ref().unwrap_or(&key.label);
        let object = NewObject {
            kind: ObjectKind::Certificate,
            label: label.clone(),
            id: key.id.clone(),
            application: String::new(),
            value: displaced.clone(),
        };
        let pin = Some(pin.clone());
        let request = CardRequest::StoreObject { pin, object };
        let request = Request::card(card.summary.card_id.clone(), request);
        match daemon.call(&request, "keeping the present certificate")? {
            Reply::Object { .. } => {}
            _ => return Err(Daemon::unexpected()),
        }
    }
    store(card, key.reference, pin, der, daemon)?;
    Ok(displaced.is_some())
}

/// Deletes a certificate from wherever it is. Returns the one that takes its place with the key, if there is one.
pub(crate) fn delete(
    card: &CardDetails,
    unwanted: &Stored,
    pin: &SecretBytes,
    daemon: &mut Daemon,
) -> Result<Option<Stored>, Failure> {
    let order = |request, daemon: &mut Daemon| {
        let request = Request::card(card.summary.card_id.clone(), request);
        daemon.order(&request, "deleting the certificate")
    };
    let (copies, others): (Vec<_>, Vec<_>) = objects(card, daemon)?
        .into_iter()
        .partition(|object| object.der == unwanted.der);
    for copy in copies {
        if let Place::Object(number) = copy.place {
            let pin = Some(pin.clone());
            order(CardRequest::DeleteObject { pin, number }, daemon)?;
        }
    }
    let (Place::Container, Some(reference)) = (unwanted.place, unwanted.reference) else {
        return Ok(None);
    };
    let is_of_key = |other: &Stored| other.reference == Some(reference);
    let others: Vec<Stored> = others.into_iter().filter(is_of_key).collect();
    let best = newest(others.iter().filter_map(Stored::certificate));
    let best = best.map(|best| best.der().to_vec());
    let next = others
        .into_iter()
        .find(|other| Some(&other.der) == best.as_ref());
    match &next {
        Some(next) => store(card, reference, pin.clone(), &next.der, daemon)?,
        None => {
            let pin = Some(pin.clone());
            order(CardRequest::DeleteCertificate { pin, reference }, daemon)?;
        }
    }
    Ok(next)
}

/// The key of a certificate, for messages.
pub(crate) fn whose(card: &CardDetails, stored: &Stored) -> String {
    let mut keys = card.keys.iter();
    match keys.find(|key| Some(key.reference) == stored.reference) {
        Some(key) => format!("key {}", title(key)),
        None => "no key on this card".to_owned(),
    }
}

/// The certificates that are objects.
fn objects(card: &CardDetails, daemon: &mut Daemon) -> Result<Vec<Stored>, Failure> {
    let ask = |request| Request::card(card.summary.card_id.clone(), request);
    let request = ask(CardRequest::Contents { known: 0 });
    let contents = match daemon.call(&request, "reading the contents")? {
        Reply::Contents {
            contents: Some(Contents { objects, .. }),
            ..
        } => objects,
        _ => return Err(Daemon::unexpected()),
    };
    let certificates = contents
        .iter()
        .filter(|object| object.kind == ObjectKind::Certificate);
    certificates
        .map(|object| {
            let number = object.number;
            let request = ask(CardRequest::ReadObject { number });
            match daemon.call(&request, "reading the certificate")? {
                Reply::Certificate(der) => Ok(Stored::object(number, der, &card.keys)),
                _ => Err(Daemon::unexpected()),
            }
        })
        .collect()
}
