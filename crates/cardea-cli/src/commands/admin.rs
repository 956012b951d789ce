//! `cardea admin …`: challenges, and answers to them by whoever holds the admin key.

use cardea_client::dictation::to_dictation;
use cardea_client::message::{CardDetails, CardRequest, Request, SecretBytes};
use serde_json::json;

use crate::admin_key::answer::{answer, challenge, must_have_administrator};
use crate::admin_key::master::{Master, parse_card_id};
use crate::admin_key::{is_single_des, make_key, settle};
use crate::arguments::{AdminArguments, AdminVerb, NewAdminKeyArguments, OutputArguments};
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::hex::plain;
use crate::terminal::output::{note, print, print_json};
use crate::terminal::secret::{self, Source};

pub(crate) fn run(verb: &AdminVerb, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        AdminVerb::ChangeKey { card, answer, new } => {
            let card = daemon.usable(&card.card)?;
            change_key(&card, answer, new, daemon)
        }
        AdminVerb::Challenge { card, output } => {
            let card = daemon.usable(&card.card)?;
            print_challenge(&card, *output, daemon)
        }
        AdminVerb::Verify { card, answer } => {
            let card = daemon.usable(&card.card)?;
            let request = Request::card(
                card.summary.card_id.clone(),
                CardRequest::VerifyAdmin {
                    answer: self::answer(&card, answer, daemon)?,
                },
            );
            daemon.order(&request, "verifying the response")?;
            note(&format!(
                "the response for {} is correct",
                card.summary.name
            ));
            Ok(())
        }
    }
}

fn print_challenge(
    card: &CardDetails,
    output: OutputArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    must_have_administrator(card)?;
    let challenge = challenge(card, daemon)?;
    if output.json {
        print_json(&json!({
            "card_id": card.summary.card_id,
            "challenge": plain(&challenge.0),
        }))?;
    } else {
        print(&format!("{}\n", to_dictation(&challenge.0)))?;
    }
    Ok(())
}

fn change_key(
    card: &CardDetails,
    arguments: &AdminArguments,
    new: &NewAdminKeyArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let answer = answer(card, arguments, daemon)?;
    let kept = new.out.as_deref().filter(|_| new.new_key_random);
    let key = match (kept, &new.new_key_master_file) {
        (Some(path), _) => make_key(path)?,
        (None, Some(master)) => {
            let id = parse_card_id(&card.summary.card_id).map_err(Failure::usage)?;
            Master::read(master)?.key(&id)?
        }
        (None, None) => {
            let source = Source {
                file: new.new_key_file.as_deref(),
                fd: new.new_key_fd,
                options: "--new-key-file, --new-key-fd or --new-key-random",
            };
            secret::admin_key("new admin key", &source)?
        }
    };
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::ChangeAdminKey {
            answer,
            new: SecretBytes::new(key.to_vec()),
        },
    );
    if let Err(failure) = daemon.order(&request, "changing the admin key") {
        if let Some(path) = kept {
            settle(path, &failure);
        }
        return Err(failure);
    }
    note(&format!("admin key of {} changed", card.summary.name));
    if let Some(path) = kept {
        note(&format!(
            "{} contains the new key; keep it safe: there is no other copy",
            path.display()
        ));
    }
    if is_single_des(&key) {
        note("warning: two adjacent parts of the key are equal, which reduces it to single DES");
    }
    Ok(())
}
