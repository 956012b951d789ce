//! `cardea key …`

use std::path::Path;

use cardea_client::message::{CardDetails, CardRequest, KeySummary, NewKey, Reply, Request};
use cardea_pki::Certificate;
use cardea_terms::KeyAlgorithm;
use serde_json::Value;

use super::{import, recovery};
use crate::arguments::{
    Algorithm, KeyVerb, NewKeyArguments, OutputArguments, PinArguments, PublicFormat, WideArguments,
};
use crate::daemon::Daemon;
use crate::describe::{key_json, print_new, recovery_name};
use crate::exit::{Exit, Failure};
use crate::on_card::{
    self, MAX_LABEL, Stored, label, must_have_room, pin_words, public_key, select, title,
};
use crate::terminal::output::{note, print, print_json, printable, table};
use crate::terminal::prompt::{self, confirm};
use crate::terminal::secret;
use crate::terminal::width::{COLUMNS, fit};
use crate::{file, uri};

pub(crate) fn run(verb: &KeyVerb, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        KeyVerb::Delete {
            card,
            key,
            yes,
            pin,
        } => {
            let card = daemon.usable_by_pin(&card.card)?;
            delete(&card, select(&card, &key.key)?, *yes, pin, daemon)
        }
        KeyVerb::ExportPublic {
            card,
            key,
            format,
            out,
        } => {
            let card = daemon.usable(&card.card)?;
            export(select(&card, &key.key)?, *format, out.as_deref())
        }
        KeyVerb::Generate {
            card,
            algorithm,
            options,
            recoverable_by,
            pin,
            output,
        } => {
            let recovery = recovery::read(recoverable_by)?;
            if let Some(algorithm) = algorithm {
                check(options, *algorithm)?;
            }
            check_label(options)?;
            let card = daemon.usable_by_pin(&card.card)?;
            recovery::announce(&card, &recovery, daemon)?;
            let wanted = Wanted {
                algorithm: *algorithm,
                options,
                recovery: &recovery,
            };
            generate(&card, &wanted, pin, *output, daemon)
        }
        KeyVerb::Import {
            card,
            file,
            options,
            passphrase,
            pin,
            output,
        } => {
            check_label(options)?;
            let card = daemon.usable_by_pin(&card.card)?;
            let source = import::Source {
                file,
                passphrase: &passphrase.source(),
                pin: &pin.source(),
            };
            import::run(&card, &source, options, *output, daemon)
        }
        KeyVerb::List { card, output, wide } => {
            let card = daemon.usable(&card.card)?;
            list(&card, *output, *wide, daemon)
        }
    }
}

pub(crate) fn check_label(options: &NewKeyArguments) -> Result<(), Failure> {
    match &options.label {
        Some(label)
            if label.is_empty()
                || label.len() > MAX_LABEL
                || label.chars().any(char::is_control) =>
        {
            Err(Failure::usage(format!(
                "a label must have 1 to {MAX_LABEL} bytes and no control characters"
            )))
        }
        _ => Ok(()),
    }
}

fn check(options: &NewKeyArguments, algorithm: Algorithm) -> Result<(), Failure> {
    if options.sign_only && matches!(algorithm, Algorithm::P256 | Algorithm::P384) {
        return Err(Failure::usage("--sign-only applies to RSA keys only"));
    }
    Ok(())
}

/// The algorithm that was given; else, where somebody types the PIN, the one that they choose; else the default.
/// One that the TPM lacks is refused before the PIN is typed.
fn chosen(
    given: Option<Algorithm>,
    pin: &PinArguments,
    daemon: &mut Daemon,
) -> Result<Algorithm, Failure> {
    if pin.source().is_given() {
        return Ok(given.unwrap_or(Algorithm::Rsa2048));
    }
    let answers: Vec<_> = daemon
        .supported_algorithms()?
        .into_iter()
        .map(|algorithm| (algorithm.word(), Algorithm::from(algorithm)))
        .collect();
    let Some(given) = given else {
        return prompt::choose(prompt::ALGORITHMS, "algorithm", &answers, "--algorithm");
    };
    if answers.iter().any(|(_, algorithm)| *algorithm == given) {
        return Ok(given);
    }
    let words: Vec<_> = answers.iter().map(|(word, _)| *word).collect();
    Err(Failure::new(
        Exit::Failed,
        format!(
            "this TPM does not support {}; --algorithm can be {}",
            KeyAlgorithm::from(given).word(),
            words.join(", ")
        ),
    ))
}

/// What key is to be generated.
struct Wanted<'a> {
    algorithm: Option<Algorithm>,
    options: &'a NewKeyArguments,
    /// Of those who can bring it back.
    recovery: &'a [Certificate],
}

fn generate(
    card: &CardDetails,
    wanted: &Wanted<'_>,
    pin: &PinArguments,
    output: OutputArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    must_have_room(card)?;
    let options = wanted.options;
    let algorithm = chosen(wanted.algorithm, pin, daemon)?;
    check(options, algorithm)?;
    let key = NewKey {
        label: options.label.clone(),
        class: options.class(),
        sign_only: options.sign_only,
        id: None,
    };
    let pin = Some(secret::present("PIN", &pin.source())?);
    let algorithm = algorithm.into();
    let request = match wanted.recovery {
        [] => CardRequest::GenerateKey {
            pin,
            key,
            algorithm,
        },
        recovery => CardRequest::GenerateRecoverableKey {
            pin,
            key,
            algorithm,
            certificates: recovery::to_message(recovery),
        },
    };
    let request = Request::card(card.summary.card_id.clone(), request);
    let key = match daemon.call(&request, "generating the key")? {
        Reply::Key(key) => *key,
        _ => return Err(Daemon::unexpected()),
    };
    note(&format!("key {} generated", title(&key)));
    print_new(card, &key, None, output)
}

fn delete(
    card: &CardDetails,
    key: &KeySummary,
    yes: bool,
    pin: &PinArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    if !yes {
        let with = if key.certificate {
            " and its certificate"
        } else {
            ""
        };
        let question = format!(
            "delete key {} ({}){with} from card {}? This cannot be undone",
            title(key),
            key.algorithm.word(),
            card.summary.name
        );
        confirm(&question, "nothing deleted")?;
    }
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::DeleteKey {
            pin: Some(secret::present("PIN", &pin.source())?),
            reference: key.reference,
        },
    );
    daemon.order(&request, "deleting the key")?;
    note(&format!("key {} deleted", title(key)));
    Ok(())
}

fn export(key: &KeySummary, format: PublicFormat, out: Option<&Path>) -> Result<(), Failure> {
    let public = public_key(key)?;
    let text = match format {
        PublicFormat::Pem => public.to_spki_pem(),
        PublicFormat::Ssh => public.to_openssh(label(key).unwrap_or_default()) + "\n",
    };
    file::write(out, text.as_bytes())
}

fn list(
    card: &CardDetails,
    output: OutputArguments,
    wide: WideArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let stored = on_card::read_all(card, daemon)?;
    let of = |key: &KeySummary| {
        stored
            .iter()
            .find(|stored| stored.reference == Some(key.reference))
    };
    if output.json {
        let keys = card
            .keys
            .iter()
            .map(|key| key_json(card, key, of(key)))
            .collect::<Result<_, _>>()?;
        print_json(&Value::Array(keys))?;
    } else if card.keys.is_empty() {
        note("no keys");
    } else {
        let mut rows =
            vec![["KEY", "ALGORITHM", "ORIGIN", "PIN", "LABEL", "CERTIFICATE"].map(str::to_owned)];
        rows.extend(card.keys.iter().map(|key| {
            [
                format!("{:02X}", key.reference),
                key.algorithm.word().to_owned(),
                key.origin.word().to_owned(),
                pin_words(key).to_owned(),
                printable(&key.label),
                of(key).map_or_else(|| "none".to_owned(), Stored::short),
            ]
        }));
        if !wide.wide {
            fit(&mut rows, &[4, 5], COLUMNS);
        }
        let mut text = table(&rows, |_, _, padded| padded.to_owned());
        for key in &card.keys {
            let uri = match wide.wide {
                true => uri::private_key(&card.summary, key),
                false => uri::short_private_key(&card.summary, key),
            };
            if let Some(uri) = uri {
                text.push_str(&format!("{:02X}: {uri}\n", key.reference));
            }
        }
        print(&text)?;
    }
    let recoverable = |key: &&KeySummary| key.recovery.is_some();
    for key in card
        .keys
        .iter()
        .filter(recoverable)
        .filter(|_| !output.json)
    {
        for one in key.recovery.iter().flatten() {
            note(&format!(
                "key {} is recoverable by {}",
                title(key),
                recovery_name(one)
            ));
        }
    }
    for key in card.keys.iter().filter(|key| key.import_exposed) {
        note(&format!(
            "warning: key {} was imported by an older version: whoever recorded the TPM's bus at that moment can \
             recover this key; replace it",
            title(key)
        ));
    }
    Ok(())
}
