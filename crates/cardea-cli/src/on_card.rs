//! Keys and certificates on a card: how they are named, read, stored and used.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use cardea_client::message::{
    CardDetails, CardRequest, Hash, KeySummary, Operation, PublicKey, Reply, Request, SecretBytes,
};
use cardea_pki::{Certificate, Curve, DigestAlgorithm, SignatureAlgorithm, Signed, ToBeSigned};
use cardea_terms::{KeyClass, MAX_KEYS, is_unsafe_to_show};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::hex::plain;
use crate::terminal::clock::local;
use crate::terminal::output::{Colour, note, printable};

/// Longest label in bytes.
pub(crate) const MAX_LABEL: usize = 127;

/// Longest certificate that a card holds with a key, in bytes. Compressed, it may have a quarter of that, which the
/// daemon finds out.
const MAX_CERTIFICATE: usize = 65_535;

/// The key selected by reference, else by a label that only one key has.
pub(crate) fn select<'a>(card: &'a CardDetails, selector: &str) -> Result<&'a KeySummary, Failure> {
    let reference = match selector.len() {
        2 => u8::from_str_radix(selector, 16).ok(),
        _ => None,
    };
    let by_reference = |key: &&KeySummary| Some(key.reference) == reference;
    if let Some(key) = card.keys.iter().find(by_reference) {
        return Ok(key);
    }
    let mut labelled = card.keys.iter().filter(|key| label(key) == Some(selector));
    match (labelled.next(), labelled.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(Failure::new(
            Exit::Ambiguous,
            format!(
                "more than one key has the label {selector}: use the reference shown by `cardea key list`"
            ),
        )),
        (None, _) => Err(Failure::new(
            Exit::NotFound,
            format!("the card has no key {selector}; `cardea key list` shows its keys"),
        )),
    }
}

/// Refuses another key for a full card, before anybody types a secret for it.
pub(crate) fn must_have_room(card: &CardDetails) -> Result<(), Failure> {
    match card.keys.len() < MAX_KEYS {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Full,
            format!(
                "the card has {MAX_KEYS} keys, which is as many as fit; `cardea key delete` makes room"
            ),
        )),
    }
}

/// A key's name for people.
pub(crate) fn label(key: &KeySummary) -> Option<&str> {
    (!key.label.is_empty()).then_some(&key.label)
}

/// How messages name a key.
pub(crate) fn title(key: &KeySummary) -> String {
    match label(key) {
        Some(label) => format!("{:02X} \"{}\"", key.reference, printable(label)),
        None => format!("{:02X}", key.reference),
    }
}

/// When a key needs the PIN.
pub(crate) fn pin_words(key: &KeySummary) -> &'static str {
    if key.class == KeyClass::Always {
        "every time"
    } else {
        "once per session"
    }
}

/// The public key, checked.
pub(crate) fn public_key(key: &KeySummary) -> Result<cardea_pki::PublicKey, Failure> {
    let public = match &key.public {
        PublicKey::Rsa { modulus, exponent } => {
            cardea_pki::PublicKey::from_rsa(modulus, &exponent.to_be_bytes())
        }
        PublicKey::Ec { x, y } => {
            let curve = if x.len() == Curve::P256.field_len() {
                Curve::P256
            } else {
                Curve::P384
            };
            cardea_pki::PublicKey::from_ec(curve, x, y)
        }
    };
    public.map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!(
                "the public key of key {:02X} is invalid: {error}",
                key.reference
            ),
        )
    })
}

/// A label from a file, as far as it fits.
pub(crate) fn shortened(text: &str) -> Option<String> {
    let mut label = String::new();
    for c in text.trim().chars().filter(|c| !is_unsafe_to_show(*c)) {
        if label.len() + c.len_utf8() > MAX_LABEL {
            break;
        }
        label.push(c);
    }
    (!label.is_empty()).then_some(label)
}

/// A certificate on a card.
pub(crate) struct Stored {
    /// Its key, if that is on the card.
    pub(crate) reference: Option<u8>,
    pub(crate) place: Place,
    pub(crate) der: Vec<u8>,
    pub(crate) content: Result<Certificate, cardea_pki::Error>,
}

/// Where on the card a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// With the key of this reference, where all programs look.
    Container(u8),
    /// Kept beside it, as the object of this number: only PKCS#11 programs see it.
    Object(u32),
}

impl Stored {
    pub(crate) fn new(reference: u8, der: &[u8]) -> Self {
        Self {
            reference: Some(reference),
            place: Place::Container(reference),
            der: der.to_vec(),
            content: Certificate::parse(der),
        }
    }

    /// One that is kept beside those of the keys, of one of these keys or of none.
    pub(crate) fn object(number: u32, der: Vec<u8>, keys: &[KeySummary]) -> Self {
        let content = Certificate::parse(&der);
        let key = content.as_ref().ok().and_then(|certificate| {
            let certifies = |key: &&KeySummary| {
                public_key(key).is_ok_and(|public| certificate.matches(&public))
            };
            keys.iter().find(certifies)
        });
        Self {
            reference: key.map(|key| key.reference),
            place: Place::Object(number),
            der,
            content,
        }
    }

    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.content.as_ref().ok()
    }

    /// The fingerprint as it is shown.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        Some(plain(&self.certificate()?.fingerprint()))
    }

    /// How messages name it.
    pub(crate) fn subject(&self) -> String {
        match self.certificate() {
            Some(certificate) => printable(&certificate.subject().to_string()),
            None => "(cannot be read)".to_owned(),
        }
    }

    /// Its subject, and why it is not valid if it is not.
    pub(crate) fn short(&self) -> String {
        match &self.content {
            Ok(certificate) => {
                let subject = printable(&certificate.subject().to_string());
                match Validity::of(certificate) {
                    Validity::Valid => subject,
                    other => format!("{subject} ({})", other.words()),
                }
            }
            Err(_) => "cannot be read".to_owned(),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let certificate = match &self.content {
            Ok(certificate) => certificate,
            Err(error) => return json!({ "error": error.to_string() }),
        };
        let names: Vec<String> = certificate
            .alternative_names()
            .iter()
            .map(ToString::to_string)
            .collect();
        let usages: Vec<String> = certificate
            .extended_key_usages()
            .iter()
            .map(ToString::to_string)
            .collect();
        json!({
            "subject": certificate.subject().to_string(),
            "issuer": certificate.issuer().to_string(),
            "serial": plain(certificate.serial()),
            "not_before": certificate.not_before(),
            "not_after": certificate.not_after(),
            "validity": Validity::of(certificate).word(),
            "alternative_names": names,
            "extended_key_usages": usages,
            "sid": certificate.security_identifier(),
            "sha256": plain(&certificate.fingerprint()),
        })
    }

    pub(crate) fn text(&self, key: Option<&KeySummary>, colour: Colour) -> String {
        let heading = match (key, self.place) {
            (Some(key), Place::Container(_)) => format!("key {}", title(key)),
            (Some(key), Place::Object(_)) => format!("kept beside key {}", title(key)),
            (None, _) => "kept, of no key on this card".to_owned(),
        };
        let mut lines = Vec::new();
        match &self.content {
            Ok(certificate) => {
                let validity = Validity::of(certificate);
                let mark = match validity {
                    Validity::Valid => String::new(),
                    other => format!(", {}", colour.red(other.words())),
                };
                lines.extend([
                    ("subject", printable(&certificate.subject().to_string())),
                    ("issuer", printable(&certificate.issuer().to_string())),
                    (
                        "valid",
                        format!(
                            "{} to {}{mark}",
                            local(certificate.not_before()),
                            local(certificate.not_after())
                        ),
                    ),
                    ("serial", plain(certificate.serial())),
                ]);
                for name in certificate.alternative_names() {
                    lines.push(("name", printable(&name.to_string())));
                }
                for usage in certificate.extended_key_usages() {
                    lines.push(("for", usage.to_string()));
                }
                if let Some(sid) = certificate.security_identifier() {
                    lines.push(("SID", sid.to_owned()));
                }
                lines.push(("SHA-256", plain(&certificate.fingerprint())));
            }
            Err(error) => lines.push(("cannot be read", error.to_string())),
        }
        let lines: String = lines
            .iter()
            .map(|(label, value)| format!("  {:<11}{value}\n", format!("{label}:")))
            .collect();
        format!("{heading}\n{lines}")
    }
}

/// The one of several certificates of a key that is stored: valid ones before all others, then those that are not yet
/// valid; among these the one with the latest end.
pub(crate) fn newest<'a>(
    candidates: impl IntoIterator<Item = &'a Certificate>,
) -> Option<&'a Certificate> {
    // Of two that are alike the first in the file stays.
    candidates.into_iter().reduce(|best, other| {
        let rank = |certificate| (Validity::of(certificate), certificate.not_after());
        if rank(other) > rank(best) {
            other
        } else {
            best
        }
    })
}

/// Says so if a domain controller will not know whose certificate for sign-in this is: they have refused names alone
/// since September 2025 (KB5014754).
pub(crate) fn note_weak_mapping(certificate: &Certificate) {
    let mut usages = certificate.extended_key_usages().iter();
    if usages.any(|usage| usage.to_string() == "smartcardLogon")
        && !certificate.is_strongly_mapped()
    {
        note(
            "warning: the certificate is for smart card logon and has no security identifier (SID); domain controllers \
             of Windows refuse it unless the account names it in altSecurityIdentities",
        );
    }
}

/// Names the certificates of a file that were not stored.
pub(crate) fn note_left_out<'a>(
    others: impl IntoIterator<Item = &'a Certificate>,
    key: &cardea_pki::PublicKey,
) -> io::Result<()> {
    for other in others {
        let reason = match (other.matches(key), Validity::of(other)) {
            (false, _) => "for another key".to_owned(),
            (true, Validity::Expired) => format!("expired since {}", local(other.not_after())),
            (true, Validity::NotYet) => format!("not valid before {}", local(other.not_before())),
            (true, Validity::Valid) => format!("ends earlier, {}", local(other.not_after())),
        };
        note(&format!(
            "certificate of {} not stored: {reason}",
            printable(&other.subject().to_string()),
        ));
    }
    Ok(())
}

/// From the least useful to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Validity {
    Expired,
    NotYet,
    Valid,
}

impl Validity {
    pub(crate) fn of(certificate: &Certificate) -> Self {
        let now = now();
        if now > certificate.not_after() {
            Self::Expired
        } else if now < certificate.not_before() {
            Self::NotYet
        } else {
            Self::Valid
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYet => "not-yet",
            Self::Valid => "valid",
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYet => "not yet valid",
            Self::Valid => "valid",
        }
    }
}

pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|time| i64::try_from(time.as_secs()).ok())
        .unwrap_or_default()
}

/// All certificates of a card, in the order of the keys.
pub(crate) fn read_all(card: &CardDetails, daemon: &mut Daemon) -> Result<Vec<Stored>, Failure> {
    card.keys
        .iter()
        .filter(|key| key.certificate)
        .map(|key| {
            let der = read(card, key, daemon)?;
            Ok(Stored::new(key.reference, &der))
        })
        .collect()
}

pub(crate) fn read(
    card: &CardDetails,
    key: &KeySummary,
    daemon: &mut Daemon,
) -> Result<Vec<u8>, Failure> {
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::ReadCertificate {
            reference: key.reference,
        },
    );
    match daemon.call(&request, "reading the certificate")? {
        Reply::Certificate(der) => Ok(der),
        _ => Err(Daemon::unexpected()),
    }
}

/// Stores a certificate with its key.
pub(crate) fn store(
    card: &CardDetails,
    reference: u8,
    pin: SecretBytes,
    der: &[u8],
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    check_length(der)?;
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::StoreCertificate {
            pin: Some(pin),
            reference,
            der: der.to_vec(),
            label: None,
        },
    );
    daemon.order(&request, "storing the certificate")
}

/// Checked before an import changes anything.
pub(crate) fn check_length(der: &[u8]) -> Result<(), Failure> {
    if der.len() > MAX_CERTIFICATE {
        return Err(Failure::usage(format!(
            "the certificate has {} bytes; a card holds at most {MAX_CERTIFICATE} with a key: ask the certification \
             authority for one with fewer names or extensions",
            der.len()
        )));
    }
    Ok(())
}

/// Has the card sign, and verifies the signature.
pub(crate) fn sign(
    card: &CardDetails,
    key: &KeySummary,
    pin: &SecretBytes,
    unsigned: &ToBeSigned,
    daemon: &mut Daemon,
) -> Result<Signed, Failure> {
    let operation = signature_of(unsigned.signature_algorithm(), unsigned.digest());
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::UseKey {
            pin: Some(pin.clone()),
            reference: key.reference,
            operation,
        },
    );
    let signature = match daemon.call(&request, "signing")? {
        Reply::Result(signature) => signature,
        _ => return Err(Daemon::unexpected()),
    };
    unsigned.finish(signature.expose()).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("the card's signature does not verify; nothing was written: {error}"),
        )
    })
}

/// What makes a signature over a digest.
pub(crate) fn signature_of(algorithm: SignatureAlgorithm, digest: Vec<u8>) -> Operation {
    match algorithm {
        SignatureAlgorithm::EcdsaSha256 | SignatureAlgorithm::EcdsaSha384 => {
            Operation::SignEcdsa { digest }
        }
        SignatureAlgorithm::RsaSha256
        | SignatureAlgorithm::RsaSha384
        | SignatureAlgorithm::RsaSha512 => Operation::SignPkcs1 {
            hash: match algorithm.digest_algorithm() {
                DigestAlgorithm::Sha256 => Hash::Sha256,
                DigestAlgorithm::Sha384 => Hash::Sha384,
                DigestAlgorithm::Sha512 => Hash::Sha512,
            },
            digest,
        },
    }
}

#[cfg(test)]
mod tests {
    use cardea_client::message::{CardState, CardSummary, Visibility};

    use super::*;

    fn key(reference: u8, label: &str) -> KeySummary {
        KeySummary {
            reference,
            algorithm: cardea_terms::KeyAlgorithm::P256,
            origin: cardea_terms::Origin::Generated,
            class: cardea_terms::KeyClass::Session,
            label: label.into(),
            public: PublicKey::Ec {
                x: vec![1; 32],
                y: vec![2; 32],
            },
            certificate: false,
            id: vec![reference - 0x81],
            sign_only: false,
            certificate_label: None,
            import_exposed: false,
            recovery: None,
        }
    }

    fn card(keys: Vec<KeySummary>) -> CardDetails {
        CardDetails {
            summary: CardSummary {
                card_id: String::new(),
                instance_id: String::new(),
                name: String::new(),
                owner: 0,
                state: CardState::Ready,
                reason: String::new(),
                slot: None,
                reader: None,
                from: None,
                gone: Vec::new(),
                counted_here: false,
                drive: None,
                counter_mode: None,
            },
            created: 0,
            pin: None,
            puk: None,
            administrator: false,
            keys,
            counter_mode: None,
            warnings: Vec::new(),
            pin_policy: None,
            session_limit: 0,
            idle_limit: 0,
            uninitialised: false,
            pin_pad: false,
            visibility: Visibility::Always,
            lockout: None,
            attestation: None,
        }
    }

    #[test]
    fn keys_are_named_by_reference_before_label() {
        let card = card(vec![
            key(0x81, "9E"),
            key(0x9E, "mail"),
            key(0x82, "same"),
            key(0x83, "same"),
            key(0x84, ""),
        ]);
        let found = |selector| {
            select(&card, selector)
                .map(|key| key.reference)
                .map_err(|failure| failure.exit)
        };
        assert_eq!(found("81"), Ok(0x81));
        assert_eq!(found("9e"), Ok(0x9E));
        assert_eq!(found("9E"), Ok(0x9E), "not the one with that label");
        assert_eq!(found("mail"), Ok(0x9E));
        assert_eq!(found("same"), Err(Exit::Ambiguous));
        for unknown in ["", "85", "Mail", "081"] {
            assert_eq!(found(unknown), Err(Exit::NotFound), "{unknown:?}");
        }
    }

    #[test]
    fn labels_from_files_are_cut_at_a_character() {
        assert_eq!(shortened(" Ada\n"), Some("Ada".into()));
        assert_eq!(shortened(" \t"), None);
        assert_eq!(shortened(&"ä".repeat(80)).unwrap().len(), 126);
    }

    #[test]
    fn invalid_public_key_is_refused() {
        assert!(public_key(&key(0x81, "")).is_err());
    }
}
