//! Whom `cardea key generate --recoverable-by` names, and what that means.

use std::path::PathBuf;

use cardea_client::message::{ByteVec, CardDetails, KeySummary};
use cardea_pki::Certificate;
use cardea_pki::recovery::Point;

use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::file;
use crate::hex::plain;
use crate::on_card::{Validity, public_key, title};
use crate::terminal::output::{note, printable};

/// A policy of the TPM has eight branches, and one is for use.
const MAX: usize = 7;

/// The certificates, of different keys that can bring a key back.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Certificate>, Failure> {
    if paths.len() > MAX {
        return Err(Failure::usage(format!(
            "a key can be recoverable by {MAX} others at most"
        )));
    }
    let mut found: Vec<Certificate> = Vec::new();
    for path in paths {
        let refuse = |text: String| Failure::usage(format!("{}: {text}", path.display()));
        let content = file::read(path)?;
        let certificate =
            Certificate::parse(&content).map_err(|error| refuse(error.to_string()))?;
        if certificate.public_key().ok().and_then(Point::of).is_none() {
            return Err(refuse(format!(
                "a recovery key must be on P-256, and this certificate's key is {}: have one issued for a P-256 key",
                certificate.key_description()
            )));
        }
        if found.iter().any(|other| other.spki() == certificate.spki()) {
            return Err(refuse(
                "another --recoverable-by names the same recovery key".to_owned(),
            ));
        }
        found.push(certificate);
    }
    Ok(found)
}

/// As requests carry them.
pub(crate) fn to_message(certificates: &[Certificate]) -> Vec<ByteVec> {
    let certificates = certificates.iter();
    certificates
        .map(|certificate| ByteVec::from(certificate.der().to_vec()))
        .collect()
}

/// Says who will be able to bring the key back and what that means, before anybody types a PIN for it. Refuses a
/// recovery key that would be lost together with the card, and warns of one that would be lost with this computer.
pub(crate) fn announce(
    card: &CardDetails,
    certificates: &[Certificate],
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    if certificates.is_empty() {
        return Ok(());
    }
    let beside = beside(card, daemon)?;
    for certificate in certificates {
        if let Some(own) = key_of(card, certificate) {
            return Err(Failure::usage(format!(
                "the recovery key is key {} of this card, and would be lost with it: name a key that is kept elsewhere",
                title(own)
            )));
        }
        let validity = match Validity::of(certificate) {
            Validity::Valid => String::new(),
            other => format!(", {}", other.words()),
        };
        note(&format!(
            "the key will be recoverable by {} (SHA-256 {}{validity})",
            printable(&certificate.subject().to_string()),
            plain(&certificate.fingerprint())
        ));
        for other in &beside {
            if let Some(key) = key_of(other, certificate) {
                note(&format!(
                    "warning: that recovery key is key {} of card {}, which is lost with this computer as well",
                    title(key),
                    printable(&other.summary.name)
                ));
            }
        }
    }
    for line in CONSEQUENCES {
        note(line);
    }
    Ok(())
}

/// The other cards of this computer's TPM that the caller may see.
fn beside(card: &CardDetails, daemon: &mut Daemon) -> Result<Vec<CardDetails>, Failure> {
    let mut cards = daemon.cards()?;
    cards.retain(|other| other.from.is_none() && other.card_id != card.summary.card_id);
    // One that goes meanwhile is none.
    let shown = cards.iter().map(|other| daemon.show(&other.card_id));
    Ok(shown.filter_map(Result::ok).collect())
}

/// The card's key that a certificate is of.
fn key_of<'a>(card: &'a CardDetails, certificate: &Certificate) -> Option<&'a KeySummary> {
    let is_it = |public| certificate.matches(&public);
    let mut keys = card.keys.iter();
    keys.find(|key| public_key(key).is_ok_and(is_it))
}

/// What a recoverable key does not promise.
const CONSEQUENCES: [&str; 4] = [
    "this holds for as long as the key exists: whoever has the private key of such a certificate and a copy of the card file has this key, without the PIN, and nobody can take that back",
    "after a restore there are two cards with the key, each with a PIN and tries of its own; only the certificate can be revoked",
    "use it for encryption: keys for signatures and logon are better lost and enrolled again",
    "the backup is a copy of the card file, made after the key: keep one on another computer",
];
