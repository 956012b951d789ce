//! Certificates that are kept beside those with the keys.
//!
//! A key's container has room for one certificate, which is what all programs see. Others are objects of the card, as
//! the PKCS#11 module keeps them too; one that is in both places counts once.

use cardea_client::message::{
    CardDetails, CardRequest, Contents, KeySummary, NewObject, ObjectKind, Reply, Request,
    SecretBytes,
};

use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::on_card::{Place, Stored, check_length, newest, read, read_all, store};

/// Fewest digits of a fingerprint that select a certificate.
pub(crate) const FEWEST_DIGITS: usize = 8;

/// All certificates of a card, in the order of the keys: the one with the key, then those kept beside it; at last those
/// of no key.
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
    let position = |stored: &Stored| {
        let mut keys = card.keys.iter();
        let of_key = keys.position(|key| Some(key.reference) == stored.reference);
        of_key.unwrap_or(card.keys.len())
    };
    // Stable: the certificates with the keys were there first.
    found.sort_by_key(position);
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

/// Stores a certificate with its key, in the place of one that was there, which is kept beside it if that is wanted.
/// Returns what happened to that one, for messages.
pub(crate) fn put(
    card: &CardDetails,
    key: &KeySummary,
    keep: bool,
    pin: SecretBytes,
    der: &[u8],
    daemon: &mut Daemon,
) -> Result<&'static str, Failure> {
    check_length(der)?;
    let mut words = "";
    if key.certificate {
        let present = read(card, key, daemon)?;
        let is_same = present == der;
        let mut known = objects(card, daemon)?.into_iter();
        let is_kept = known.any(|object| object.der == present);
        words = match (is_same, is_kept || keep) {
            (false, true) => "; the previous one is kept beside it",
            (true, true) => "",
            (_, false) => ", replacing the previous one",
        };
        if keep && !is_kept && !is_same {
            // First, so that it is there at each moment.
            keep_object(card, key, pin.clone(), present, daemon)?;
        }
    }
    store(card, key.reference, pin, der, daemon)?;
    Ok(words)
}

fn keep_object(
    card: &CardDetails,
    key: &KeySummary,
    pin: SecretBytes,
    value: Vec<u8>,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let label = key.certificate_label.as_ref().unwrap_or(&key.label);
    let object = NewObject {
        kind: ObjectKind::Certificate,
        label: label.clone(),
        id: key.id.clone(),
        application: String::new(),
        value,
    };
    let pin = Some(pin);
    let request = CardRequest::StoreObject { pin, object };
    let request = Request::card(card.summary.card_id.clone(), request);
    match daemon.call(&request, "keeping the previous certificate")? {
        Reply::Object { .. } => Ok(()),
        _ => Err(Daemon::unexpected()),
    }
}

/// Deletes a certificate from wherever it is. Returns the kept one that is to take its place with the key, if there is
/// one.
pub(crate) fn delete(
    card: &CardDetails,
    unwanted: &Stored,
    pin: &SecretBytes,
    daemon: &mut Daemon,
) -> Result<Option<Stored>, Failure> {
    let delete = |request, daemon: &mut Daemon| {
        let request = Request::card(card.summary.card_id.clone(), request);
        daemon.order(&request, "deleting the certificate")
    };
    let (copies, others): (Vec<_>, Vec<_>) = objects(card, daemon)?
        .into_iter()
        .partition(|object| object.der == unwanted.der);
    for copy in copies {
        if let Place::Object(number) = copy.place {
            let pin = Some(pin.clone());
            delete(CardRequest::DeleteObject { pin, number }, daemon)?;
        }
    }
    let Place::Container(reference) = unwanted.place else {
        return Ok(None);
    };
    let pin = Some(pin.clone());
    delete(CardRequest::DeleteCertificate { pin, reference }, daemon)?;
    let is_of_key = |other: &&Stored| other.reference == Some(reference);
    let candidates = others.iter().filter(is_of_key);
    let best = newest(candidates.filter_map(Stored::certificate));
    let best = best.map(|best| best.der().to_vec());
    let mut others = others.into_iter();
    Ok(best.and_then(|best| others.find(|other| other.der == best)))
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
