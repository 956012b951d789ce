//! `cardea helpdesk …`: what the administrator does on a machine of their own, without daemon, TPM and card.

use std::path::Path;

use cardea_client::dictation::to_dictation;
use serde_json::json;
use zeroize::Zeroizing;

use crate::admin_key::escrow;
use crate::admin_key::master::{MASTER, Master, parse_card_id};
use crate::admin_key::{respond, write_key};
use crate::arguments::{HelpdeskVerb, OutputArguments, RespondArguments};
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex::plain;
use crate::terminal::output::{note, print, print_json};
use crate::terminal::secret::{self, AdminKey, Source};

pub(crate) fn run(verb: &HelpdeskVerb) -> Result<(), Failure> {
    match verb {
        HelpdeskVerb::Check {
            master_file,
            output,
        } => check(master_file, *output),
        HelpdeskVerb::Master { out, tpm, from } => make(out, tpm.as_deref(), from.as_deref()),
        HelpdeskVerb::Respond(arguments) => answer(arguments),
    }
}

/// A master secret in its file: a new one or that of another file, in the clear or wrapped to a TPM.
fn make(out: &Path, tpm: Option<&str>, from: Option<&Path>) -> Result<(), Failure> {
    let mut bytes = Zeroizing::new([0; MASTER]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
    let master = match (from, tpm) {
        (Some(from), _) => Master::read(from)?,
        (None, None) => {
            write_key(out, &*bytes)?;
            Master::new(bytes)
        }
        (None, Some(_)) => Master::new(bytes),
    };
    if let Some(tpm) = tpm {
        file::write_secret(out, master.seal(tpm)?.as_bytes())?;
    }
    let of = match (from, tpm) {
        (Some(_), _) => "the same master secret, wrapped to this TPM",
        (None, Some(_)) => "a new master secret, wrapped to this TPM, without any other copy",
        (None, None) => "a new master secret",
    };
    note(&format!(
        "{} contains {of}, check value {}; keep it safe: the keys of all its cards are derived from it",
        out.display(),
        master.check_value()?
    ));
    Ok(())
}

fn check(master: &Path, output: OutputArguments) -> Result<(), Failure> {
    let value = Master::read(master)?.check_value()?;
    if output.json {
        print_json(&json!({ "check_value": value }))?;
    } else {
        print(&format!("{value}\n"))?;
    }
    Ok(())
}

/// The answer to a challenge that somebody has read out.
fn answer(arguments: &RespondArguments) -> Result<(), Failure> {
    let (key, check) = match &arguments.master_file {
        Some(path) => {
            let master = Master::read(path)?;
            let id = arguments
                .card_id
                .as_deref()
                .ok_or_else(|| Failure::usage("each card has its own key: pass --card-id"))?;
            let id = parse_card_id(id).map_err(Failure::usage)?;
            (master.key(&id)?, Some(master.check_value()?))
        }
        None if arguments.escrow_file.is_some() => (escrowed(arguments)?, None),
        None => {
            let source = Source {
                file: arguments.admin_key_file.as_deref(),
                fd: None,
                options: "--admin-key-file",
            };
            (secret::present_admin_key(&source)?, None)
        }
    };
    if let Some(expected) = &arguments.check
        && check.as_deref() != Some(&*expected.to_uppercase())
    {
        return Err(Failure::usage(format!(
            "the check value must be {expected}, but this is {}",
            check.unwrap_or_else(|| "an admin key".into())
        )));
    }
    let response = respond(&key, arguments.challenge);
    if arguments.output.json {
        print_json(&json!({
            "card_id": arguments.card_id,
            "challenge": plain(&arguments.challenge.0),
            "response": plain(&response.0),
            "check_value": check,
        }))?;
    } else {
        print(&format!("{}\n", to_dictation(&response.0)))?;
    }
    Ok(())
}

/// The key that was kept in a file when the card was created, if it is this card's.
fn escrowed(arguments: &RespondArguments) -> Result<AdminKey, Failure> {
    let path = arguments.escrow_file.as_deref().unwrap_or(Path::new(""));
    let source = Source {
        file: arguments.passphrase_file.as_deref(),
        fd: None,
        options: "--passphrase-file",
    };
    let (id, key) = escrow::open(path, || secret::passphrase(&source))?;
    if let Some(wanted) = &arguments.card_id
        && parse_card_id(wanted).map_err(Failure::usage)? != id
    {
        return Err(Failure::usage(format!(
            "{} contains the key of another card, {}",
            path.display(),
            plain(&id)
        )));
    }
    Ok(key)
}
