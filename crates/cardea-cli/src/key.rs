//! `cardea key …`, and how a key is named.

use std::path::Path;

use cardea_client::message::{CardDetails, KeySummary, NewKey, PublicKey, Reply, Request};
use cardea_pki::Curve;
use serde_json::{Value, json};

use crate::arguments::{
    Algorithm, KeyVerb, NewKeyArguments, OutputArguments, PinArguments, PublicFormat,
};
use crate::certificate::{self, Stored};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::import;
use crate::output::{label, note, pin_words, print, print_json, printable, table};
use crate::prompt::confirm;
use crate::{file, secret, uri};

/// Longest label in bytes.
const MAX_LABEL: usize = 127;

/// Reference of the first key; OpenSC counts from here.
const FIRST: u8 = 0x81;

pub(crate) fn run(verb: &KeyVerb, connection: &mut Connection) -> Result<(), Failure> {
    match verb {
        KeyVerb::Delete {
            card,
            key,
            yes,
            pin,
        } => {
            let card = connection.usable(&card.card)?;
            delete(&card, select(&card, &key.key)?, *yes, pin, connection)
        }
        KeyVerb::ExportPublic {
            card,
            key,
            format,
            out,
        } => {
            let card = connection.usable(&card.card)?;
            export(select(&card, &key.key)?, *format, out.as_deref())
        }
        KeyVerb::Generate {
            card,
            algorithm,
            options,
            pin,
            output,
        } => {
            let key = new_key(options, *algorithm)?;
            let card = connection.usable(&card.card)?;
            generate(&card, *algorithm, key, pin, *output, connection)
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
            let card = connection.usable(&card.card)?;
            let source = import::Source {
                file,
                passphrase: &passphrase.source(),
                pin: &pin.source(),
            };
            import::run(&card, &source, options, *output, connection)
        }
        KeyVerb::List { card, output } => {
            let card = connection.usable(&card.card)?;
            list(&card, *output, connection)
        }
    }
}

/// The key that is meant: by its reference, else by a label that one key alone has.
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
                "more than one key has the label {selector}: use the reference of `cardea key list`"
            ),
        )),
        (None, _) => Err(Failure::new(
            Exit::NotFound,
            format!("the card has no key {selector}; `cardea key list` shows them"),
        )),
    }
}

/// What a key is called in notes.
pub(crate) fn title(key: &KeySummary) -> String {
    match label(key) {
        Some(label) => format!("{:02X} \"{}\"", key.reference, printable(label)),
        None => format!("{:02X}", key.reference),
    }
}

/// The public half, checked.
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
                "the public half of key {:02X} is wrong: {error}",
                key.reference
            ),
        )
    })
}

pub(crate) fn check_label(options: &NewKeyArguments) -> Result<(), Failure> {
    match &options.label {
        Some(label)
            if label.is_empty()
                || label.len() > MAX_LABEL
                || label.chars().any(char::is_control) =>
        {
            Err(Failure::usage(format!(
                "a label has 1 to {MAX_LABEL} bytes and no control characters"
            )))
        }
        _ => Ok(()),
    }
}

/// A label from a file, as far as it fits.
pub(crate) fn shortened(text: &str) -> Option<String> {
    let mut label = String::new();
    for c in text.trim().chars().filter(|c| !c.is_control()) {
        if label.len() + c.len_utf8() > MAX_LABEL {
            break;
        }
        label.push(c);
    }
    (!label.is_empty()).then_some(label)
}

fn new_key(options: &NewKeyArguments, algorithm: Algorithm) -> Result<NewKey, Failure> {
    check_label(options)?;
    if options.sign_only && matches!(algorithm, Algorithm::P256 | Algorithm::P384) {
        return Err(Failure::usage("--sign-only is for RSA keys"));
    }
    Ok(NewKey {
        label: options.label.clone(),
        always: options.pin_every_time,
        sign_only: options.sign_only,
        id: None,
    })
}

fn generate(
    card: &CardDetails,
    algorithm: Algorithm,
    key: NewKey,
    pin: &PinArguments,
    output: OutputArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    let request = Request::GenerateKey {
        card: card.summary.card_id.clone(),
        pin: Some(secret::present("PIN", &pin.source())?),
        key,
        algorithm: algorithm.word().to_owned(),
    };
    let key = match connection.call(&request, "making the key")? {
        Reply::Key(key) => *key,
        _ => return Err(Connection::unexpected()),
    };
    note(&format!("key {} generated", title(&key)))?;
    print_new(card, &key, None, output)
}

/// The new key: its reference, or all of it as JSON.
pub(crate) fn print_new(
    card: &CardDetails,
    key: &KeySummary,
    certificate: Option<&Stored>,
    output: OutputArguments,
) -> Result<(), Failure> {
    if output.json {
        print_json(&key_json(card, key, certificate)?)?;
    } else {
        print(&format!("{:02X}\n", key.reference))?;
    }
    Ok(())
}

fn delete(
    card: &CardDetails,
    key: &KeySummary,
    yes: bool,
    pin: &PinArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    if !yes {
        let with = if key.certificate {
            " and its certificate"
        } else {
            ""
        };
        let question = format!(
            "delete key {} ({}){with} from card {}? It is gone for ever",
            title(key),
            key.algorithm,
            card.summary.name
        );
        confirm(&question, "nothing deleted")?;
    }
    let request = Request::DeleteKey {
        card: card.summary.card_id.clone(),
        pin: Some(secret::present("PIN", &pin.source())?),
        reference: key.reference,
    };
    connection.order(&request, "deleting the key")?;
    note(&format!("key {} deleted", title(key)))?;
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
    connection: &mut Connection,
) -> Result<(), Failure> {
    let stored = certificate::read_all(card, connection)?;
    let of = |key: &KeySummary| {
        stored
            .iter()
            .find(|stored| stored.reference == key.reference)
    };
    if output.json {
        let keys = card
            .keys
            .iter()
            .map(|key| key_json(card, key, of(key)))
            .collect::<Result<_, _>>()?;
        print_json(&Value::Array(keys))?;
    } else if card.keys.is_empty() {
        note("no keys")?;
    } else {
        let mut rows =
            vec![["KEY", "ALGORITHM", "ORIGIN", "PIN", "LABEL", "CERTIFICATE"].map(str::to_owned)];
        rows.extend(card.keys.iter().map(|key| {
            [
                format!("{:02X}", key.reference),
                key.algorithm.clone(),
                key.origin.clone(),
                pin_words(key).to_owned(),
                printable(&key.label),
                of(key).map_or_else(|| "none".to_owned(), Stored::short),
            ]
        }));
        let mut text = table(&rows, |_, _, padded| padded.to_owned());
        for key in &card.keys {
            if let Some(uri) = uri::private_key(&card.summary, key) {
                text.push_str(&format!("{:02X}: {uri}\n", key.reference));
            }
        }
        print(&text)?;
    }
    for key in card.keys.iter().filter(|key| key.import_exposed) {
        note(&format!(
            "warning: key {} was imported by an older version: whoever recorded the TPM's bus at that moment can \
             recover this key; replace it",
            title(key)
        ))?;
    }
    Ok(())
}

fn key_json(
    card: &CardDetails,
    key: &KeySummary,
    certificate: Option<&Stored>,
) -> Result<Value, Failure> {
    Ok(json!({
        "reference": format!("{:02X}", key.reference),
        "id": key.id.iter().map(|byte| format!("{byte:02X}")).collect::<String>(),
        "container": opensc_container(key),
        "label": label(key),
        "algorithm": key.algorithm,
        "origin": key.origin,
        "pin": key.pin,
        "import_exposed": key.import_exposed,
        "public_key": public_key(key)?.to_spki_pem(),
        "certificate": certificate.map(Stored::to_json),
        "uri": uri::private_key(&card.summary, key),
    }))
}

/// Number of the key's container, by which OpenSC knows it. Elliptic-curve keys have none.
fn opensc_container(key: &KeySummary) -> Option<u8> {
    match key.public {
        PublicKey::Rsa { .. } => key.reference.checked_sub(FIRST),
        PublicKey::Ec { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use cardea_client::message::{CardState, CardSummary, Visibility};

    use super::*;

    fn key(reference: u8, label: &str) -> KeySummary {
        KeySummary {
            reference,
            algorithm: "p-256".into(),
            origin: "generated".into(),
            pin: "session".into(),
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
                drive: None,
            },
            created: 0,
            pin: None,
            puk: None,
            administrator: false,
            keys,
            counter_mode: String::new(),
            warnings: Vec::new(),
            pin_policy: None,
            session_limit: 0,
            idle_limit: 0,
            uninitialised: false,
            pin_pad: false,
            visibility: Visibility::Always,
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
    fn public_half_that_is_none_is_refused() {
        assert!(public_key(&key(0x81, "")).is_err());
    }
}
