//! `cardea cert …`

mod enrol;
mod kept;

use std::path::Path;

use cardea_client::message::{CardDetails, KeySummary};
use cardea_pki::{Certificate, SelfSignedBuilder};
use serde_json::{Value, json};

use crate::arguments::{
    CertVerb, Encoding, OutputArguments, PinArguments, Wanted, WhichCertificate,
};
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::file;
use crate::on_card::{
    Place, Stored, Validity, check_length, label, newest, note_left_out, note_weak_mapping, now,
    public_key, read, select, sign, store, title,
};
use crate::terminal::clock::local;
use crate::terminal::output::{Colour, note, print, print_json, printable};
use crate::terminal::prompt::confirm;
use crate::terminal::secret;

const DAY: i64 = 86_400;

pub(crate) fn run(verb: &CertVerb, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        CertVerb::Delete {
            card,
            which,
            yes,
            pin,
        } => {
            let card = daemon.usable_by_pin(&card.card)?;
            let stored = find(&card, which, daemon)?;
            delete(&card, &stored, *yes, pin, daemon)
        }
        CertVerb::Enrol(arguments) => enrol::enrol(arguments, daemon),
        CertVerb::Export {
            card,
            which,
            format,
            out,
        } => {
            let card = daemon.usable(&card.card)?;
            let stored = find(&card, which, daemon)?;
            export(&stored, *format, out.as_deref())
        }
        CertVerb::Import {
            card,
            file,
            key,
            keep,
            pin,
        } => {
            let card = daemon.usable_by_pin(&card.card)?;
            let key = key.as_deref().map(|key| select(&card, key)).transpose()?;
            import(&card, file, key, *keep, pin, daemon)
        }
        CertVerb::List { card, output } => {
            let card = daemon.usable(&card.card)?;
            list(&card, *output, daemon)
        }
        CertVerb::Pending(arguments) => enrol::pending(arguments, daemon),
        CertVerb::Renew(arguments) => enrol::renew(arguments, daemon),
        CertVerb::Revoke(arguments) => enrol::revoke(arguments, daemon),
        CertVerb::Show {
            card,
            which,
            output,
        } => {
            let card = daemon.usable(&card.card)?;
            let stored = find(&card, which, daemon)?;
            show(&card, &stored, *output)
        }
        CertVerb::SelfSign {
            card,
            key,
            wanted,
            days,
            keep,
            yes,
            pin,
        } => {
            let card = daemon.usable_by_pin(&card.card)?;
            let key = select(&card, key)?;
            if key.certificate && !keep && !yes {
                let question = format!(
                    "replace the certificate of key {} with a self-signed one?",
                    title(key)
                );
                confirm(&question, "nothing replaced")?;
            }
            self_sign(&card, key, wanted, *days, *keep, pin, daemon)
        }
    }
}

/// The certificate that the arguments select.
fn find(
    card: &CardDetails,
    which: &WhichCertificate,
    daemon: &mut Daemon,
) -> Result<Stored, Failure> {
    if let Some(digits) = &which.sha256 {
        return kept::by_fingerprint(card, digits, daemon);
    }
    let key = select(card, which.key.as_deref().unwrap_or_default())?;
    if !key.certificate {
        return Err(Failure::new(
            Exit::NotFound,
            format!("key {} has no certificate", title(key)),
        ));
    }
    Ok(Stored::new(key.reference, &read(card, key, daemon)?))
}

fn list(card: &CardDetails, output: OutputArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let stored = kept::read_everything(card, daemon)?;
    let with_keys = stored.iter().map(|stored| {
        let mut keys = card.keys.iter();
        let key = keys.find(|key| Some(key.reference) == stored.reference);
        (stored, key)
    });
    if output.json {
        let rows = with_keys.map(|(stored, key)| entry(stored, key));
        print_json(&Value::Array(rows.collect()))?;
    } else if stored.is_empty() {
        note("no certificates");
    } else {
        let colour = Colour::of_stdout();
        let text: String = with_keys
            .map(|(stored, key)| stored.text(key, colour))
            .collect();
        print(&text)?;
    }
    Ok(())
}

fn entry(stored: &Stored, key: Option<&KeySummary>) -> Value {
    let mut value = json!({
        "key": key.map(|key| format!("{:02X}", key.reference)),
        "label": key.and_then(label),
        "kept": matches!(stored.place, Place::Object(_)),
    });
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), stored.to_json()) {
        value.extend(more);
    }
    value
}

fn show(card: &CardDetails, stored: &Stored, output: OutputArguments) -> Result<(), Failure> {
    let mut keys = card.keys.iter();
    let key = keys.find(|key| Some(key.reference) == stored.reference);
    if output.json {
        return Ok(print_json(&entry(stored, key))?);
    }
    Ok(print(&stored.text(key, Colour::of_stdout()))?)
}

fn import(
    card: &CardDetails,
    path: &Path,
    wanted: Option<&KeySummary>,
    keep: bool,
    pin: &PinArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let content = file::read(path)?;
    let found = Certificate::parse_all(&content)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let (certificate, key) = belonging(card, &found, wanted)?;
    check_length(certificate.der())?;
    match Validity::of(certificate) {
        Validity::Valid => {}
        other => note(&format!("warning: the certificate is {}", other.words())),
    }
    note_weak_mapping(certificate);
    let pin = secret::present("PIN", &pin.source())?;
    let previous = kept::put(card, key, keep, pin, certificate.der(), daemon)?;
    note(&format!(
        "certificate of {} stored with key {}{previous}",
        certificate.subject(),
        title(key)
    ));
    let others = found.iter().filter(|other| *other != certificate);
    Ok(note_left_out(others, &public_key(key)?)?)
}

/// The certificate that belongs to the selected key, or to any key; of several for one key the newest.
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
        // An invalid public key belongs to no certificate.
        let Ok(public) = public_key(key) else {
            continue;
        };
        let of_key = found.iter().filter(|found| found.matches(&public));
        if let Some(certificate) = newest(of_key) {
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

fn export(stored: &Stored, format: Encoding, out: Option<&Path>) -> Result<(), Failure> {
    if format == Encoding::Der {
        file::not_to_terminal(out)?;
    }
    match (format, &stored.content) {
        (Encoding::Der, _) => file::write(out, &stored.der),
        (Encoding::Pem, Ok(certificate)) => file::write(out, certificate.to_pem().as_bytes()),
        (Encoding::Pem, Err(error)) => Err(Failure::new(
            Exit::Failed,
            format!("{error}; --format der exports it unchanged"),
        )),
    }
}

fn delete(
    card: &CardDetails,
    stored: &Stored,
    yes: bool,
    pin: &PinArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let mut keys = card.keys.iter();
    let key = keys.find(|key| stored.place == Place::Container(key.reference));
    let (name, stays) = match key {
        Some(key) => (
            format!("certificate of key {}", title(key)),
            "? The key stays",
        ),
        None => (format!("kept certificate of {}", stored.subject()), "?"),
    };
    if !yes {
        let card = printable(&card.summary.name);
        let question = format!("delete the {name} from card {card}{stays}");
        confirm(&question, "nothing deleted")?;
    }
    let pin = secret::present("PIN", &pin.source())?;
    let next = kept::delete(card, stored, &pin, daemon)?;
    note(&format!("{name} deleted"));
    if let (Some(next), Some(key)) = (next, key) {
        store(card, key.reference, pin, &next.der, daemon)?;
        note(&format!(
            "the kept certificate of {} is now the one with key {}",
            next.subject(),
            title(key)
        ));
    }
    Ok(())
}

fn self_sign(
    card: &CardDetails,
    key: &KeySummary,
    wanted: &Wanted,
    days: u32,
    keep: bool,
    pin: &PinArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
    let from = now();
    let until = from.saturating_add(i64::from(days) * DAY);
    let public = public_key(key)?;
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
    let signed = sign(card, key, &pin, &unsigned, daemon)?;
    let previous = kept::put(card, key, keep, pin, signed.der(), daemon)?;
    note(&format!(
        "certificate of {} stored with key {}, valid until {}{previous}",
        wanted.subject,
        title(key),
        local(until)
    ));
    Ok(())
}
