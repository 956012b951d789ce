//! `cardea card …`

use std::io::{self, BufRead, IsTerminal, Write};

use cardea_client::message::{CardDetails, CreateCard, NewContent, Reply, Request, SecretBytes};
use nix::unistd::User;
use serde_json::Value;

use crate::arguments::{AdminKeySource, CardVerb, CreateArguments, OutputArguments};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{
    Colour, details_json, details_text, list_text, note, print, print_json, printable, summary_json,
};
use crate::secret::{self, Purpose, Source};

/// The admin key of Microsoft's tool for `/adminkey default` (TPM virtual smart cards).
const DEFAULT_ADMIN_KEY: [u8; 24] = [
    1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
];

pub(crate) fn run(verb: &CardVerb, connection: &mut Connection) -> Result<(), Failure> {
    match verb {
        CardVerb::Create(arguments) => create(arguments, connection),
        CardVerb::Destroy { card, yes } => destroy(&card.card, *yes, connection),
        CardVerb::List { output } => list(*output, connection),
        CardVerb::Show { card, output } => {
            let details = connection.show(&card.card)?;
            print_details(&details, *output)
        }
    }
}

fn create(arguments: &CreateArguments, connection: &mut Connection) -> Result<(), Failure> {
    let owner = arguments.owner.as_deref().map(user_id).transpose()?;
    let pin = Source {
        file: arguments.pin_file.as_deref(),
        fd: arguments.pin_fd,
    };
    // The order of the prompts is that of Microsoft's tool: admin key, PIN, PUK.
    let admin_key = admin_key(&arguments.admin_key)?;
    let pin = secret::pin("PIN", &pin, Purpose::Set)?;
    let puk = match &arguments.puk_file {
        Some(path) => {
            let source = Source {
                file: Some(path),
                fd: None,
            };
            Some(secret::pin("PUK", &source, Purpose::Set)?)
        }
        None => None,
    };
    let with_administrator = admin_key.is_some();
    let with_puk = puk.is_some();
    let content = NewContent::Personalised {
        pin,
        puk,
        admin_key,
        blank: arguments.blank,
    };
    let request = Request::CreateCard(CreateCard {
        owner,
        ..CreateCard::new(arguments.name.clone(), content)
    });
    let details = match connection.call(&request, "creating the card")? {
        Reply::Card(details) => *details,
        _ => return Err(Connection::unexpected()),
    };
    print_details(&details, arguments.output)?;
    if !with_administrator && !with_puk {
        note("the card has no administrator and no PUK: a blocked PIN cannot be unblocked")?;
    } else if !with_administrator {
        note("the card has no administrator: only the PUK unblocks the PIN")?;
    }
    Ok(())
}

/// `None`: a random key that is discarded, so nobody needs to make it.
fn admin_key(source: &AdminKeySource) -> Result<Option<SecretBytes>, Failure> {
    match source {
        AdminKeySource::Default => Ok(Some(SecretBytes::new(DEFAULT_ADMIN_KEY.to_vec()))),
        AdminKeySource::File(path) => secret::admin_key_from_file(path).map(Some),
        AdminKeySource::Prompt => secret::admin_key_from_terminal().map(Some),
        AdminKeySource::Random => Ok(None),
    }
}

fn user_id(user: &str) -> Result<u32, Failure> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match User::from_name(user) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(Failure::usage(format!("there is no user {user}"))),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("the user database cannot be read: {error}"),
        )),
    }
}

fn destroy(card: &str, yes: bool, connection: &mut Connection) -> Result<(), Failure> {
    let card = connection.show(card)?.summary;
    let name = printable(&card.name);
    if !yes {
        confirm(&format!(
            "destroy card {name} ({})? Its keys are gone for ever [y/N] ",
            card.card_id
        ))?;
    }
    let request = Request::DestroyCard {
        card: card.card_id,
        owner_auth: None,
    };
    match connection.call(&request, "destroying the card")? {
        Reply::Done => {}
        _ => return Err(Connection::unexpected()),
    }
    note(&format!("card {name} destroyed"))?;
    Ok(())
}

fn confirm(question: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "destroying asks first and there is no terminal; give --yes",
        ));
    }
    let mut err = io::stderr().lock();
    err.write_all(question.as_bytes())?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "nothing destroyed")),
    }
}

fn list(output: OutputArguments, connection: &mut Connection) -> Result<(), Failure> {
    let cards = match connection.call(&Request::ListCards, "reading the cards")? {
        Reply::Cards(cards) => cards,
        _ => return Err(Connection::unexpected()),
    };
    if output.json {
        print_json(&Value::Array(cards.iter().map(summary_json).collect()))?;
    } else if cards.is_empty() {
        note("no cards")?;
    } else {
        print(&list_text(&cards, Colour::of_stdout()))?;
    }
    Ok(())
}

fn print_details(details: &CardDetails, output: OutputArguments) -> Result<(), Failure> {
    if output.json {
        print_json(&details_json(details))?;
    } else {
        print(&details_text(details, Colour::of_stdout()))?;
    }
    for warning in &details.warnings {
        note(&format!("warning: {warning}"))?;
    }
    Ok(())
}
