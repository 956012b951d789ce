//! `cardea card create`

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use cardea_client::message::{
    CardDetails, CardsRequest, CreateCard, NewContent, Reply, Request, SecretBytes, TpmRequest,
    Visibility,
};
use cardea_terms::{CounterMode, invalid_card_name};

use super::super::drive;
use super::{NARROW, print_details, puk, user_id};
use crate::admin_key::escrow;
use crate::admin_key::master::Master;
use crate::admin_key::settle;
use crate::arguments::{AdminKeySource, Counters, CreateArguments};
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::object_mode::lines_of_limits;
use crate::policy::Policy;
use crate::terminal::output::{note, note_lines, printable};
use crate::terminal::prompt::confirm;
use crate::terminal::secret::{self, Source};

pub(super) fn run(
    arguments: &CreateArguments,
    socket: &Path,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let (details, _) = make(arguments, socket, daemon)?;
    print_details(&details, arguments.output, NARROW)
}

/// Makes the card. Gives its first PIN as well, unless it is left in initialisation state.
pub(super) fn make(
    arguments: &CreateArguments,
    socket: &Path,
    daemon: &mut Daemon,
) -> Result<(CardDetails, Option<SecretBytes>), Failure> {
    let owner = arguments.owner.as_deref().map(user_id).transpose()?;
    if let Some(reason) = invalid_card_name(&arguments.name) {
        return Err(Failure::usage(reason));
    }
    let owner_auth = secret::owner_auth(&arguments.tpm_owner.source())?;
    if arguments.counter_mode == Some(Counters::Object) {
        // Before anybody types a PIN for it.
        note_lines(lines_of_limits());
    }
    // Chosen here: a derived key depends on it.
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
    let made = match arguments.uninitialised {
        true => {
            note(
                "the card has to be personalised: until then anyone who can reach it can set its PIN and admin key",
            );
            Made {
                content: NewContent::Uninitialised {
                    puk: arguments.with_puk,
                },
                kept: None,
                counter_mode: arguments.counter_mode.map(CounterMode::from),
            }
        }
        false => personalised(arguments, &id, daemon)?,
    };
    let pin = match &made.content {
        NewContent::Personalised { pin, .. } => Some(pin.clone()),
        NewContent::Uninitialised { .. } => None,
    };
    let store = arguments.store.as_deref();
    let folder = store
        .map(|place| drive::prepare(socket, place))
        .transpose()?;
    let order = Box::new(CreateCard {
        owner,
        pin_policy: arguments.pin_policy.map(Policy::to_bytes),
        pin_tries: arguments.pin_tries,
        puk_tries: arguments.puk_tries,
        counter_mode: made.counter_mode,
        session_limit: arguments.session_limit.map(|limit| limit.0),
        idle_limit: arguments.idle_limit.map(|limit| limit.0),
        pin_pad: arguments.pin_pad,
        card_id: Some(id),
        visibility: arguments.reader.map(Visibility::from),
        owner_auth,
        drive: folder.is_some(),
        ..CreateCard::new(arguments.name.clone(), made.content)
    });
    let mut request = Request::Cards(match arguments.attest {
        true => CardsRequest::CreateAttested(order),
        false => CardsRequest::Create(order),
    });
    let opened = folder.as_ref().map(|(_, opened)| opened.as_fd());
    let mut reply = order_card(&request, opened, daemon);
    if let Err(failure) = &reply
        && made.counter_mode.is_none()
        && !arguments.attest
        && prefers_object_mode(failure)?
        && let Request::Cards(CardsRequest::Create(order)) = &mut request
    {
        order.counter_mode = Some(CounterMode::Object);
        reply = order_card(&request, opened, daemon);
    }
    if let (Err(_), Some((path, _))) = (&reply, &folder) {
        drive::forget(path);
    }
    if let (Err(failure), Some(path)) = (&reply, &made.kept) {
        settle(path, failure);
    }
    let details = match reply? {
        Reply::Card(details) => *details,
        _ => return Err(Daemon::unexpected()),
    };
    if let Some((path, opened)) = folder {
        drop(opened);
        // The card exists, whether or not this succeeds.
        if let Err(failure) = drive::attach(socket, &path, false) {
            note(&format!("warning: not attached: {failure}"));
        }
        return Ok((daemon.show(&details.summary.card_id)?, pin));
    }
    Ok((details, pin))
}

/// What was settled with the person, or by the options, before the card is ordered.
struct Made {
    content: NewContent,
    /// The file in which a random admin key is kept.
    kept: Option<PathBuf>,
    counter_mode: Option<CounterMode>,
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
fn prefers_object_mode(failure: &Failure) -> Result<bool, Failure> {
    let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    if failure.exit != Exit::Full || !can_ask {
        return Ok(false);
    }
    note(&failure.to_string());
    note_lines(lines_of_limits());
    let question = "create the card in object mode instead (--counter-mode object)?";
    Ok(confirm(question, "no card created").is_ok())
}

/// Asks for the card's first secrets, in the order of Microsoft's tool: admin key, PIN, PUK.
fn personalised(
    arguments: &CreateArguments,
    id: &[u8; 16],
    daemon: &mut Daemon,
) -> Result<Made, Failure> {
    let policy = arguments.pin_policy.unwrap_or_default();
    let source = arguments.admin_key.as_ref();
    // The daemon is asked before anybody types a secret, but after files are read: an invalid one needs no daemon.
    let types_key = match source {
        Some(AdminKeySource::Escrowed(_)) => {
            arguments.escrow_passphrase_file.is_none() && arguments.escrow_certificate.is_none()
        }
        Some(AdminKeySource::Prompt) => true,
        _ => false,
    };
    let types_pin = !arguments.pin.source().is_given();
    let types = types_key || types_pin || arguments.puk || arguments.generate_puk;
    let mut counter_mode = arguments.counter_mode.map(CounterMode::from);
    let mut defaults = None;
    if types_key {
        defaults = Some(expected(arguments, source, id, &mut counter_mode, daemon)?);
    }
    let key = source
        .map(|source| admin_key(source, arguments, id))
        .transpose()?;
    if types && defaults.is_none() {
        defaults = Some(expected(arguments, source, id, &mut counter_mode, daemon)?);
    }
    let has_administrator = match (source, &defaults) {
        (Some(source), _) | (None, Some(source)) => *source != AdminKeySource::Random,
        (None, None) => false,
    };
    let offers = types_pin && !has_administrator;
    let mut choice = puk::Choice::of(arguments, offers);
    say_consequence(choice, has_administrator, defaults.is_some())?;
    let pin = secret::new("PIN", &arguments.pin.source(), &policy)?;
    if choice == puk::Choice::Ask {
        choice = puk::ask(arguments.pin_tries)?;
    }
    let puk = puk::obtain(choice, &puk_source(arguments))?;
    // In any case, so that a daemon that is away, or refuses this caller, is reported before a file is made.
    let was_asked = defaults.is_some();
    let defaults = defaults.map_or_else(|| configured(daemon), Ok)?;
    let key = match key {
        Some(key) => key,
        None => admin_key(&defaults, arguments, id)?,
    };
    if !was_asked {
        say_consequence(choice, !matches!(key, Key::Discarded), true)?;
    }
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
    Ok(Made {
        content,
        kept,
        counter_mode,
    })
}

/// What would refuse the card is found before anybody types a secret for it: a daemon that is away or refuses this
/// caller, a TPM without room, files and folders that cannot be used. Returns the machine's choice of admin keys.
fn expected(
    arguments: &CreateArguments,
    source: Option<&AdminKeySource>,
    id: &[u8; 16],
    counter_mode: &mut Option<CounterMode>,
    daemon: &mut Daemon,
) -> Result<AdminKeySource, Failure> {
    let defaults = configured(daemon)?;
    if let Some(AdminKeySource::Escrowed(path)) = source.or(Some(&defaults)) {
        escrow::must_be_new(&escrow::place(path, id))?;
    }
    if let Some(place) = &arguments.store {
        drive::must_be_mounted(place)?;
    }
    let is_taken = |name: &str| name == arguments.name;
    if let Some(card) = daemon.cards()?.iter().find(|card| is_taken(&card.name)) {
        note(&format!(
            "warning: there is already a card {}: commands then need the card id ({} is the first one's); choose \
             another --name, or `cardea card rename` one of them",
            printable(&card.name),
            card.card_id
        ));
    }
    if *counter_mode == Some(CounterMode::Object) {
        return Ok(defaults);
    }
    match daemon.order(
        &Request::Tpm(TpmRequest::TryRoom),
        "looking for room in the TPM",
    ) {
        Ok(()) => {}
        Err(failure)
            if counter_mode.is_none() && !arguments.attest && failure.exit == Exit::Full =>
        {
            if !prefers_object_mode(&failure)? {
                return Err(failure);
            }
            *counter_mode = Some(CounterMode::Object);
        }
        // It was asked without the owner authorisation that the card will be made with.
        Err(failure) if failure.exit == Exit::Denied && arguments.tpm_owner.source().is_given() => {
        }
        Err(failure) => return Err(failure),
    }
    Ok(defaults)
}

pub(super) fn puk_source(arguments: &CreateArguments) -> Source<'_> {
    Source {
        file: arguments.puk_file.as_deref(),
        fd: arguments.puk_fd,
        options: "--puk-file or --puk-fd",
    }
}

/// An admin key, as far as it is made before everything else is known.
enum Key {
    Given(SecretBytes),
    /// Random, in that file; made last, so that a creation cancelled at a prompt leaves nothing behind.
    Kept(PathBuf, escrow::Keeper),
    /// Random and discarded: the daemon makes it.
    Discarded,
}

/// What the choice of secrets means for a blocked PIN, said before the card is made.
pub(super) fn say_consequence(
    puk: puk::Choice,
    has_administrator: bool,
    is_known: bool,
) -> Result<(), Failure> {
    if has_administrator || !is_known {
        return Ok(());
    }
    match puk {
        puk::Choice::Ask => {}
        puk::Choice::None => {
            note("the card has no administrator and no PUK: a blocked PIN cannot be unblocked");
        }
        puk::Choice::Generated | puk::Choice::Given => {
            note("the card has no administrator: only the PUK can unblock the PIN");
        }
    }
    Ok(())
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
        let source = Source {
            file,
            fd: None,
            options: "--admin-key file:PATH",
        };
        let key = secret::admin_key("admin key", &source)?;
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
        options: "--escrow-passphrase-file or --escrow-certificate",
    };
    secret::new_passphrase(&source).map(escrow::Keeper::Passphrase)
}
