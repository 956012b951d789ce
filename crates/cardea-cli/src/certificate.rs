//! `cardea cert …`, and certificates as they are shown.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cardea_client::message::{CardDetails, KeySummary, Reply, Request, SecretBytes};
use cardea_pki::{Certificate, SelfSignedBuilder};
use serde_json::{Value, json};

use crate::arguments::{CertVerb, Encoding, OutputArguments, PinArguments, Wanted};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::hex::plain;
use crate::key::{self, select, title};
use crate::output::{Colour, label, note, print, print_json, printable, utc};
use crate::prompt::confirm;
use crate::{file, secret, signing};

/// Longest certificate that a card takes, in bytes.
const MAX_CERTIFICATE: usize = 64 * 1024;

const DAY: i64 = 86_400;

pub(crate) fn run(verb: &CertVerb, connection: &mut Connection) -> Result<(), Failure> {
    match verb {
        CertVerb::Delete {
            card,
            key,
            yes,
            pin,
        } => {
            let card = connection.usable(&card.card)?;
            let key = select(&card, &key.key)?;
            delete(&card, key, *yes, pin, connection)
        }
        CertVerb::Export {
            card,
            key,
            format,
            out,
        } => {
            let card = connection.usable(&card.card)?;
            let key = select(&card, &key.key)?;
            export(&card, key, *format, out.as_deref(), connection)
        }
        CertVerb::Import {
            card,
            file,
            key,
            pin,
        } => {
            let card = connection.usable(&card.card)?;
            let key = key.as_deref().map(|key| select(&card, key)).transpose()?;
            import(&card, file, key, pin, connection)
        }
        CertVerb::List { card, output } => {
            let card = connection.usable(&card.card)?;
            list(&card, *output, connection)
        }
        CertVerb::SelfSign {
            card,
            key,
            wanted,
            days,
            yes,
            pin,
        } => {
            let card = connection.usable(&card.card)?;
            let key = select(&card, key)?;
            if key.certificate && !yes {
                let question = format!(
                    "replace the certificate of key {} by a self-signed one?",
                    title(key)
                );
                confirm(&question, "nothing replaced")?;
            }
            self_sign(&card, key, wanted, *days, pin, connection)
        }
    }
}

/// A certificate on a card.
pub(crate) struct Stored {
    pub(crate) reference: u8,
    content: Result<Certificate, cardea_pki::Error>,
}

impl Stored {
    pub(crate) fn new(reference: u8, der: &[u8]) -> Self {
        Self {
            reference,
            content: Certificate::parse(der),
        }
    }

    /// Whose it is, and what is the matter with it.
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
        json!({
            "subject": certificate.subject().to_string(),
            "issuer": certificate.issuer().to_string(),
            "serial": plain(certificate.serial()),
            "not_before": certificate.not_before(),
            "not_after": certificate.not_after(),
            "validity": Validity::of(certificate).word(),
            "alternative_names": names,
            "sha256": plain(&certificate.fingerprint()),
        })
    }

    fn text(&self, key: &KeySummary, colour: Colour) -> String {
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
                            utc(certificate.not_before()),
                            utc(certificate.not_after())
                        ),
                    ),
                    ("serial", plain(certificate.serial())),
                ]);
                for name in certificate.alternative_names() {
                    lines.push(("name", printable(&name.to_string())));
                }
                lines.push(("SHA-256", plain(&certificate.fingerprint())));
            }
            Err(error) => lines.push(("cannot be read", error.to_string())),
        }
        let lines: String = lines
            .iter()
            .map(|(label, value)| format!("  {:<11}{value}\n", format!("{label}:")))
            .collect();
        format!("key {}\n{lines}", title(key))
    }
}

#[derive(Clone, Copy)]
enum Validity {
    Expired,
    NotYet,
    Valid,
}

impl Validity {
    fn of(certificate: &Certificate) -> Self {
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

    fn words(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYet => "not yet valid",
            Self::Valid => "valid",
        }
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|time| i64::try_from(time.as_secs()).ok())
        .unwrap_or_default()
}

/// All certificates of a card, in the order of the keys.
pub(crate) fn read_all(
    card: &CardDetails,
    connection: &mut Connection,
) -> Result<Vec<Stored>, Failure> {
    card.keys
        .iter()
        .filter(|key| key.certificate)
        .map(|key| {
            let der = read(card, key, connection)?;
            Ok(Stored::new(key.reference, &der))
        })
        .collect()
}

fn read(
    card: &CardDetails,
    key: &KeySummary,
    connection: &mut Connection,
) -> Result<Vec<u8>, Failure> {
    let request = Request::ReadCertificate {
        card: card.summary.card_id.clone(),
        reference: key.reference,
    };
    match connection.call(&request, "reading the certificate")? {
        Reply::Certificate(der) => Ok(der),
        _ => Err(Connection::unexpected()),
    }
}

/// Stores a certificate with its key.
pub(crate) fn store(
    card: &CardDetails,
    reference: u8,
    pin: SecretBytes,
    der: &[u8],
    connection: &mut Connection,
) -> Result<(), Failure> {
    check_length(der)?;
    let request = Request::StoreCertificate {
        card: card.summary.card_id.clone(),
        pin: Some(pin),
        reference,
        der: der.to_vec(),
        label: None,
    };
    connection.order(&request, "storing the certificate")
}

/// Asked before anything else of an import is done.
pub(crate) fn check_length(der: &[u8]) -> Result<(), Failure> {
    if der.len() > MAX_CERTIFICATE {
        return Err(Failure::usage(format!(
            "the certificate has {} bytes; a card takes {MAX_CERTIFICATE}",
            der.len()
        )));
    }
    Ok(())
}

fn list(
    card: &CardDetails,
    output: OutputArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    let stored = read_all(card, connection)?;
    let with_keys = stored.iter().filter_map(|stored| {
        let key = card
            .keys
            .iter()
            .find(|key| key.reference == stored.reference)?;
        Some((stored, key))
    });
    if output.json {
        let rows = with_keys.map(|(stored, key)| {
            let mut value = json!({
                "key": format!("{:02X}", key.reference),
                "label": label(key),
            });
            if let (Some(value), Value::Object(more)) = (value.as_object_mut(), stored.to_json()) {
                value.extend(more);
            }
            value
        });
        print_json(&Value::Array(rows.collect()))?;
    } else if stored.is_empty() {
        note("no certificates")?;
    } else {
        let colour = Colour::of_stdout();
        let text: String = with_keys
            .map(|(stored, key)| stored.text(key, colour))
            .collect();
        print(&text)?;
    }
    Ok(())
}

fn import(
    card: &CardDetails,
    path: &Path,
    wanted: Option<&KeySummary>,
    pin: &PinArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    let content = file::read(path)?;
    let found = Certificate::parse_all(&content)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let (certificate, key) = belonging(card, &found, wanted)?;
    check_length(certificate.der())?;
    match Validity::of(certificate) {
        Validity::Valid => {}
        other => note(&format!("warning: the certificate is {}", other.words()))?,
    }
    let pin = secret::present("PIN", &pin.source())?;
    store(card, key.reference, pin, certificate.der(), connection)?;
    note(&format!(
        "certificate of {} stored with key {}{}",
        certificate.subject(),
        title(key),
        if key.certificate {
            ", in place of the one before"
        } else {
            ""
        }
    ))?;
    if found.len() > 1 {
        note("the other certificates of the file were not stored: a card keeps one for each key")?;
    }
    Ok(())
}

/// The certificate that belongs to the key that is meant, or to any.
fn belonging<'a>(
    card: &'a CardDetails,
    found: &'a [Certificate],
    wanted: Option<&'a KeySummary>,
) -> Result<(&'a Certificate, &'a KeySummary), Failure> {
    let keys: Vec<&KeySummary> = match wanted {
        Some(key) => vec![key],
        None => card.keys.iter().collect(),
    };
    for key in keys {
        // One that cannot be read belongs to no certificate.
        let Ok(public) = key::public_key(key) else {
            continue;
        };
        if let Some(certificate) = found.iter().find(|found| found.matches(&public)) {
            return Ok((certificate, key));
        }
    }
    let subjects: Vec<String> = found
        .iter()
        .map(|found| format!("{} ({})", found.subject(), found.key_description()))
        .collect();
    let whose = match wanted {
        Some(key) => format!("key {}", title(key)),
        None => "any key of this card".to_owned(),
    };
    Err(Failure::usage(format!(
        "the certificate does not belong to {whose}: {}",
        subjects.join("; ")
    )))
}

fn export(
    card: &CardDetails,
    key: &KeySummary,
    format: Encoding,
    out: Option<&Path>,
    connection: &mut Connection,
) -> Result<(), Failure> {
    if format == Encoding::Der {
        file::not_to_terminal(out)?;
    }
    let der = read(card, key, connection)?;
    match format {
        Encoding::Der => file::write(out, &der),
        Encoding::Pem => {
            let certificate = Certificate::parse(&der).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("{error}; --format der gives it as it is"),
                )
            })?;
            file::write(out, certificate.to_pem().as_bytes())
        }
    }
}

fn delete(
    card: &CardDetails,
    key: &KeySummary,
    yes: bool,
    pin: &PinArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    if !key.certificate {
        return Err(Failure::new(
            Exit::NotFound,
            format!("key {} has no certificate", title(key)),
        ));
    }
    if !yes {
        let question = format!(
            "delete the certificate of key {} from card {}? The key stays",
            title(key),
            card.summary.name
        );
        confirm(&question, "nothing deleted")?;
    }
    let request = Request::DeleteCertificate {
        card: card.summary.card_id.clone(),
        pin: Some(secret::present("PIN", &pin.source())?),
        reference: key.reference,
    };
    connection.order(&request, "deleting the certificate")?;
    note(&format!("certificate of key {} deleted", title(key)))?;
    Ok(())
}

fn self_sign(
    card: &CardDetails,
    key: &KeySummary,
    wanted: &Wanted,
    days: u32,
    pin: &PinArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
    let from = now();
    let until = from.saturating_add(i64::from(days) * DAY);
    let public = key::public_key(key)?;
    let mut builder = SelfSignedBuilder::new(wanted.subject.clone(), public, &serial, from, until);
    for name in &wanted.san {
        builder = builder.alternative_name(name.clone());
    }
    for usage in &wanted.eku {
        builder = builder.extended_key_usage(*usage);
    }
    for usage in &wanted.key_usage {
        builder = builder.key_usage(*usage);
    }
    let unsigned = builder
        .build()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let pin = secret::present("PIN", &pin.source())?;
    let signed = signing::sign(card, key, &pin, &unsigned, connection)?;
    store(card, key.reference, pin, signed.der(), connection)?;
    note(&format!(
        "certificate of {} stored with key {}, valid until {}",
        wanted.subject,
        title(key),
        utc(until)
    ))?;
    Ok(())
}
