//! `cardea cert …`

use std::path::Path;

use cardea_client::message::{CardDetails, CardRequest, KeySummary, Request};
use cardea_pki::{Certificate, SelfSignedBuilder};
use serde_json::{Value, json};

use crate::arguments::{CertVerb, Encoding, OutputArguments, PinArguments, Wanted};
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::file;
use crate::on_card::{
    Validity, check_length, label, newest, note_left_out, now, public_key, read, read_all, select,
    sign, store, title,
};
use crate::terminal::output::{Colour, note, print, print_json, utc};
use crate::terminal::prompt::confirm;
use crate::terminal::secret;

const DAY: i64 = 86_400;

pub(crate) fn run(verb: &CertVerb, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        CertVerb::Delete {
            card,
            key,
            yes,
            pin,
        } => {
            let card = daemon.usable(&card.card)?;
            let key = select(&card, &key.key)?;
            delete(&card, key, *yes, pin, daemon)
        }
        CertVerb::Export {
            card,
            key,
            format,
            out,
        } => {
            let card = daemon.usable(&card.card)?;
            let key = select(&card, &key.key)?;
            export(&card, key, *format, out.as_deref(), daemon)
        }
        CertVerb::Import {
            card,
            file,
            key,
            pin,
        } => {
            let card = daemon.usable(&card.card)?;
            let key = key.as_deref().map(|key| select(&card, key)).transpose()?;
            import(&card, file, key, pin, daemon)
        }
        CertVerb::List { card, output } => {
            let card = daemon.usable(&card.card)?;
            list(&card, *output, daemon)
        }
        CertVerb::SelfSign {
            card,
            key,
            wanted,
            days,
            yes,
            pin,
        } => {
            let card = daemon.usable(&card.card)?;
            let key = select(&card, key)?;
            if key.certificate && !yes {
                let question = format!(
                    "replace the certificate of key {} with a self-signed one?",
                    title(key)
                );
                confirm(&question, "nothing replaced")?;
            }
            self_sign(&card, key, wanted, *days, pin, daemon)
        }
    }
}

fn list(card: &CardDetails, output: OutputArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let stored = read_all(card, daemon)?;
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
    daemon: &mut Daemon,
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
    store(card, key.reference, pin, certificate.der(), daemon)?;
    note(&format!(
        "certificate of {} stored with key {}{}",
        certificate.subject(),
        title(key),
        if key.certificate {
            ", replacing the previous one"
        } else {
            ""
        }
    ))?;
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

fn export(
    card: &CardDetails,
    key: &KeySummary,
    format: Encoding,
    out: Option<&Path>,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    if format == Encoding::Der {
        file::not_to_terminal(out)?;
    }
    let der = read(card, key, daemon)?;
    match format {
        Encoding::Der => file::write(out, &der),
        Encoding::Pem => {
            let certificate = Certificate::parse(&der).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("{error}; --format der exports it unchanged"),
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
    daemon: &mut Daemon,
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
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::DeleteCertificate {
            pin: Some(secret::present("PIN", &pin.source())?),
            reference: key.reference,
        },
    );
    daemon.order(&request, "deleting the certificate")?;
    note(&format!("certificate of key {} deleted", title(key)))?;
    Ok(())
}

fn self_sign(
    card: &CardDetails,
    key: &KeySummary,
    wanted: &Wanted,
    days: u32,
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
    store(card, key.reference, pin, signed.der(), daemon)?;
    note(&format!(
        "certificate of {} stored with key {}, valid until {}",
        wanted.subject,
        title(key),
        utc(until)
    ))?;
    Ok(())
}
