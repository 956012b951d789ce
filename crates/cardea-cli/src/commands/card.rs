//! `cardea card …`

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use cardea_client::message::{
    CardDetails, CardRequest, CardState, CardsRequest, CreateCard, NewContent, Reply, Request,
    SecretBytes, Visibility,
};
use cardea_terms::CounterMode;
use nix::errno::Errno;
use nix::unistd::User;
use serde_json::Value;

use super::drive;
use crate::admin_key::escrow;
use crate::admin_key::master::Master;
use crate::admin_key::settle;
use crate::arguments::{
    AdminKeySource, CardVerb, Counters, CreateArguments, OutputArguments, OwnerArguments, Switch,
};
use crate::daemon::Daemon;
use crate::describe::{details_json, details_text, list_text, summary_json};
use crate::exit::{Exit, Failure};
use crate::object_mode::lines_of_limits;
use crate::policy::Policy;
use crate::terminal::output::{Colour, note, note_lines, print, print_json, printable};
use crate::terminal::prompt::confirm;
use crate::terminal::secret::{self, Source};

pub(crate) fn run(verb: &CardVerb, socket: &Path, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        CardVerb::Adopt {
            card,
            owner,
            output,
        } => {
            let owner = owner.as_deref().map(user_id).transpose()?;
            let details = drive::adopt(&card.card, owner, daemon)?;
            print_details(&details, *output)
        }
        CardVerb::Attach { place, foreground } => drive::attach(socket, place, *foreground),
        CardVerb::Create(arguments) => create(arguments, socket, daemon),
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
            Ok(note("card changed")?)
        }
        CardVerb::Destroy {
            card,
            tpm_owner,
            yes,
        } => destroy(&card.card, tpm_owner, *yes, daemon),
        CardVerb::List { output } => list(*output, daemon),
        CardVerb::Show { card, output } => {
            let details = daemon.show(&card.card)?;
            print_details(&details, *output)
        }
    }
}

fn create(arguments: &CreateArguments, socket: &Path, daemon: &mut Daemon) -> Result<(), Failure> {
    let owner = arguments.owner.as_deref().map(user_id).transpose()?;
    let owner_auth = secret::owner_auth(&arguments.tpm_owner.source())?;
    if arguments.counter_mode == Some(Counters::Object) {
        // Before anybody types a PIN for it.
        note_lines(lines_of_limits())?;
    }
    // Chosen here: a derived key depends on it.
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
    let mut kept = None;
    let content = if arguments.uninitialised {
        NewContent::Uninitialised {
            puk: arguments.with_puk,
        }
    } else {
        let (content, file) = personalised(arguments, &id, daemon)?;
        kept = file;
        content
    };
    let consequence = consequence(&content);
    let store = arguments.store.as_deref();
    let folder = store
        .map(|place| drive::prepare(socket, place))
        .transpose()?;
    let mut request = Request::Cards(CardsRequest::Create(Box::new(CreateCard {
        owner,
        pin_policy: arguments.pin_policy.map(Policy::to_bytes),
        pin_tries: arguments.pin_tries,
        puk_tries: arguments.puk_tries,
        counter_mode: arguments.counter_mode.map(CounterMode::from),
        session_limit: arguments.session_limit.map(|limit| limit.0),
        idle_limit: arguments.idle_limit.map(|limit| limit.0),
        pin_pad: arguments.pin_pad,
        card_id: Some(id),
        visibility: arguments.reader.map(Visibility::from),
        owner_auth,
        drive: folder.is_some(),
        ..CreateCard::new(arguments.name.clone(), content)
    })));
    let opened = folder.as_ref().map(|(_, opened)| opened.as_fd());
    let mut reply = order_card(&request, opened, daemon);
    if let Err(failure) = &reply
        && prefers_object_mode(failure, arguments)?
        && let Request::Cards(CardsRequest::Create(order)) = &mut request
    {
        order.counter_mode = Some(CounterMode::Object);
        reply = order_card(&request, opened, daemon);
    }
    if let (Err(_), Some((path, _))) = (&reply, &folder) {
        drive::forget(path);
    }
    if let (Err(failure), Some(path)) = (&reply, &kept) {
        settle(path, failure)?;
    }
    let details = match reply? {
        Reply::Card(details) => *details,
        _ => return Err(Daemon::unexpected()),
    };
    if let Some((path, opened)) = folder {
        drop(opened);
        // The card exists, whether or not this succeeds.
        if let Err(failure) = drive::attach(socket, &path, false) {
            note(&format!("warning: not attached: {failure}"))?;
        }
        let details = daemon.show(&details.summary.card_id)?;
        print_details(&details, arguments.output)?;
    } else {
        print_details(&details, arguments.output)?;
    }
    if let Some(text) = consequence {
        note(text)?;
    }
    Ok(())
}

fn order_card(
    request: &Request,
    folder: Option<BorrowedFd<'_>>,
    daemon: &mut Daemon,
) -> Result<Reply, Failure> {
    match folder {
        None => daemon.call(request, "creating the card"),
        Some(folder) => daemon.call_with_folder(request, folder, "creating the card"),
    }
}

/// The TPM has no counters for PINs, or no room for them: asks, where somebody can be asked, whether the card shall be
/// made without them, after saying what such a card does not promise.
fn prefers_object_mode(failure: &Failure, arguments: &CreateArguments) -> Result<bool, Failure> {
    let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    if failure.exit != Exit::Full || arguments.counter_mode.is_some() || !can_ask {
        return Ok(false);
    }
    note(&failure.to_string())?;
    note_lines(lines_of_limits())?;
    let question = "create the card in object mode instead (--counter-mode object)?";
    Ok(confirm(question, "no card created").is_ok())
}

/// Asks for the card's first secrets, in the order of Microsoft's tool: admin key, PIN, PUK.
/// Also returns the file in which a random key is kept.
fn personalised(
    arguments: &CreateArguments,
    id: &[u8; 16],
    daemon: &mut Daemon,
) -> Result<(NewContent, Option<PathBuf>), Failure> {
    let policy = arguments.pin_policy.unwrap_or_default();
    let puk = Source {
        file: arguments.puk_file.as_deref(),
        fd: arguments.puk_fd,
    };
    let source = arguments.admin_key.as_ref();
    // The daemon is asked before anybody types a secret, but after files are read: an invalid one needs no daemon.
    let types_key = matches!(
        source,
        Some(AdminKeySource::Escrowed(_) | AdminKeySource::Prompt)
    );
    let types_pin = !arguments.pin.source().is_given();
    let mut defaults = types_key.then(|| configured(daemon)).transpose()?;
    let key = source
        .map(|source| admin_key(source, arguments, id))
        .transpose()?;
    if types_pin && defaults.is_none() {
        defaults = Some(configured(daemon)?);
    }
    let pin = secret::new("PIN", &arguments.pin.source(), &policy)?;
    let puk = (arguments.puk || puk.is_given())
        .then(|| secret::new("PUK", &puk, &Policy::puk()))
        .transpose()?;
    // In any case, so that a daemon that is away, or refuses this caller, is reported before a file is made.
    let defaults = defaults.map_or_else(|| configured(daemon), Ok)?;
    let key = match key {
        Some(key) => key,
        None => admin_key(&defaults, arguments, id)?,
    };
    let (admin_key, kept) = match key {
        Key::Given(key) => (Some(key), None),
        Key::Kept(path, keeper) => {
            let key = escrow::make(&path, &keeper, id)?;
            (Some(SecretBytes::new(key.to_vec())), Some(path))
        }
        Key::Discarded => (None, None),
    };
    let content = NewContent::Personalised {
        pin,
        puk,
        admin_key,
        blank: arguments.blank,
    };
    Ok((content, kept))
}

/// An admin key, as far as it is made before everything else is known.
enum Key {
    Given(SecretBytes),
    /// Random, in that file; made last, so that a creation cancelled at a prompt leaves nothing behind.
    Kept(PathBuf, escrow::Keeper),
    /// Random and discarded: the daemon makes it.
    Discarded,
}

/// What the choice of secrets means for a blocked PIN.
fn consequence(content: &NewContent) -> Option<&'static str> {
    match content {
        NewContent::Uninitialised { .. } => Some(
            "the card has to be personalised: until then anyone who can reach it can set its PIN and admin key",
        ),
        NewContent::Personalised {
            admin_key: Some(_), ..
        } => None,
        NewContent::Personalised { puk: Some(_), .. } => {
            Some("the card has no administrator: only the PUK can unblock the PIN")
        }
        NewContent::Personalised { .. } => {
            Some("the card has no administrator and no PUK: a blocked PIN cannot be unblocked")
        }
    }
}

/// The machine's configured choice, where the command line has none.
fn configured(daemon: &mut Daemon) -> Result<AdminKeySource, Failure> {
    match daemon.call(
        &Request::Cards(CardsRequest::Defaults),
        "asking for the configuration",
    )? {
        Reply::Defaults { admin_key } => admin_key.parse().map_err(|error: String| {
            Failure::usage(format!("the daemon's setting `admin_key` {error}"))
        }),
        _ => Err(Daemon::unexpected()),
    }
}

fn admin_key(
    source: &AdminKeySource,
    arguments: &CreateArguments,
    id: &[u8; 16],
) -> Result<Key, Failure> {
    let read = |file| {
        let key = secret::admin_key("admin key", &Source { file, fd: None })?;
        Ok(Key::Given(SecretBytes::new(key.to_vec())))
    };
    match source {
        AdminKeySource::Default => Ok(Key::Given(SecretBytes::new(
            cardea_terms::tpmvsc::DEFAULT_ADMIN_KEY.to_vec(),
        ))),
        AdminKeySource::Derived(path) => {
            let key = Master::read(path)?.key(id)?;
            Ok(Key::Given(SecretBytes::new(key.to_vec())))
        }
        AdminKeySource::Escrowed(path) => {
            Ok(Key::Kept(escrow::place(path, id), keeper(arguments)?))
        }
        AdminKeySource::File(path) => read(Some(path.as_path())),
        AdminKeySource::Prompt => read(None),
        AdminKeySource::Random => Ok(Key::Discarded),
    }
}

/// Who can open the file in which a random key is kept.
fn keeper(arguments: &CreateArguments) -> Result<escrow::Keeper, Failure> {
    if let Some(certificate) = &arguments.escrow_certificate {
        return escrow::certificate(certificate)
            .map(|certificate| escrow::Keeper::Certificate(Box::new(certificate)));
    }
    let source = Source {
        file: arguments.escrow_passphrase_file.as_deref(),
        fd: None,
    };
    secret::new_passphrase(&source).map(escrow::Keeper::Passphrase)
}

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
    note(&format!("card {name} destroyed"))?;
    Ok(())
}

fn list(output: OutputArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let cards = daemon.cards()?;
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
