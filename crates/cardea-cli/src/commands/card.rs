//! `cardea card …`

mod backup;
mod create;
mod puk;
mod restore;
mod there;

use std::path::Path;

use cardea_client::message::{CardDetails, CardRequest, CardState, Reply, Request, Visibility};
use cardea_terms::invalid_card_name;
use nix::errno::Errno;
use nix::unistd::User;
use serde_json::Value;

use super::drive;
use crate::arguments::{CardVerb, OutputArguments, OwnerArguments, Switch, WideArguments};
use crate::daemon::Daemon;
use crate::describe::{Room, details_json, details_text, list_text, summary_json};
use crate::exit::{Exit, Failure};
use crate::machine::Place;
use crate::terminal::output::{Colour, note, print, print_json, printable};
use crate::terminal::prompt::confirm;
use crate::terminal::secret;

pub(crate) fn run(verb: &CardVerb, socket: &Path, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        CardVerb::Adopt {
            card,
            owner,
            output,
        } => {
            let owner = owner.as_deref().map(user_id).transpose()?;
            let details = drive::adopt(&card.card, owner, daemon)?;
            print_details(&details, *output, NARROW)
        }
        CardVerb::Attach { place, foreground } => drive::attach(socket, place, *foreground),
        CardVerb::Backup { card, out } => backup::run(&card.card, out, daemon),
        CardVerb::Create(arguments) => create::run(arguments, socket, daemon),
        CardVerb::Detach { card } => drive::detach(&card.card, daemon),
        CardVerb::Hold { folder } => drive::hold(socket, folder),
        CardVerb::Set {
            card,
            pin_pad,
            reader,
        } => {
            let request = Request::card(
                card.card.clone(),
                CardRequest::Configure {
                    pin_pad: pin_pad.map(|switch| switch == Switch::On),
                    visibility: reader.map(Visibility::from),
                },
            );
            daemon.order(&request, "changing the card")?;
            note("card changed");
            Ok(())
        }
        CardVerb::Rename { card, name } => rename(&card.card, name, daemon),
        CardVerb::Destroy {
            card,
            tpm_owner,
            yes,
        } => destroy(&card.card, tpm_owner, *yes, daemon),
        CardVerb::List { output, wide } => list(*output, *wide, daemon),
        CardVerb::Restore(arguments) => restore::run(arguments, socket, daemon),
        CardVerb::Show { card, output, wide } => {
            let details = daemon.show(&card.card)?;
            print_details(&details, *output, *wide)
        }
    }
}

/// Cards of another machine.
pub(crate) fn run_there(verb: &CardVerb, place: &Place<'_>) -> Result<(), Failure> {
    match verb {
        CardVerb::Create(arguments) => there::create(arguments, place),
        CardVerb::Destroy {
            card,
            tpm_owner,
            yes,
        } => there::destroy(&card.card, tpm_owner, *yes, place),
        _ => Err(Failure::usage(ONLY_CARDS)),
    }
}

/// What another machine is not asked for.
pub(crate) const ONLY_CARDS: &str = "--machine works with `card create` and `card destroy` only; for everything else, run cardea there, for example \
     over ssh";

fn user_id(user: &str) -> Result<u32, Failure> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match User::from_name(user) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        // Some name services report an unknown name as an error: getpwnam_r(3) lists which.
        Ok(None) | Err(Errno::EBADF | Errno::ENOENT | Errno::EPERM | Errno::ESRCH) => {
            Err(Failure::usage(format!("there is no user {user}")))
        }
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("the user database cannot be read: {error}"),
        )),
    }
}

fn rename(card: &str, name: &str, daemon: &mut Daemon) -> Result<(), Failure> {
    if let Some(reason) = invalid_card_name(name) {
        return Err(Failure::usage(reason));
    }
    let card = daemon.show(card)?.summary;
    let request = Request::card(
        card.card_id,
        CardRequest::RenameCard {
            name: name.to_owned(),
        },
    );
    daemon.order(&request, "renaming the card")?;
    note(&format!("card {} is now {name}", printable(&card.name)));
    Ok(())
}

fn destroy(
    card: &str,
    owner: &OwnerArguments,
    yes: bool,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let card = daemon.show(card)?.summary;
    let owner_auth = secret::owner_auth(&owner.source())?;
    let name = printable(&card.name);
    if !yes {
        let first = match card.state {
            CardState::Foreign | CardState::Lost => {
                "; the card may still come back: `cardea doctor` says what to try first"
            }
            _ => "",
        };
        let question = format!(
            "destroy card {name} ({})? This cannot be undone{first}",
            card.card_id
        );
        confirm(&question, "nothing destroyed")?;
    }
    let request = Request::card(card.card_id, CardRequest::Destroy { owner_auth });
    match daemon.call(&request, "destroying the card")? {
        Reply::Done => {}
        _ => return Err(Daemon::unexpected()),
    }
    note(&format!("card {name} destroyed"));
    Ok(())
}

fn list(output: OutputArguments, wide: WideArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let cards = daemon.cards()?;
    if output.json {
        print_json(&Value::Array(cards.iter().map(summary_json).collect()))?;
    } else if cards.is_empty() {
        note("no cards");
    } else {
        let room = Room::of_stdout(wide.wide);
        print(&list_text(&cards, Colour::of_stdout(), room))?;
    }
    Ok(())
}

/// A card that is not only shown.
const NARROW: WideArguments = WideArguments { wide: false };

fn print_details(
    details: &CardDetails,
    output: OutputArguments,
    wide: WideArguments,
) -> Result<(), Failure> {
    if output.json {
        print_json(&details_json(details))?;
    } else {
        let room = Room::of_stdout(wide.wide);
        print(&details_text(details, Colour::of_stdout(), room))?;
    }
    for warning in &details.warnings {
        note(&format!("warning: {warning}"));
    }
    Ok(())
}
