//! `cardea setup`: a guided first run, from the machine to a card with a key and a certificate or request.
//!
//! Every step is another command of this program, or of the system, that is shown before it runs: what was done here
//! once can be done again by hand or by a script.
//! A step is made as a whole or not at all, so that the walk can be interrupted at every question and begun again; what
//! exists is kept.

mod steps;

use std::path::Path;

use cardea_client::message::{CardDetails, CardSummary};
use cardea_pki::Name;
use cardea_terms::invalid_card_name;
use nix::unistd::{Uid, User};

use self::steps::{Steps, quoted};
use crate::arguments::Cli;
use crate::daemon::Daemon;
use crate::doctor;
use crate::exit::Failure;
use crate::on_card::label;
use crate::terminal::output::{note, printable};
use crate::terminal::prompt::{self, NEEDS_TERMINAL};

/// Where the TPM's authorisations go, in the working directory.
const AUTHORISATIONS: &str = "cardea-tpm-authorisations";

/// Runs the walk. `run` executes one command line of this program.
pub(crate) fn run(
    socket: &Path,
    root: &Path,
    daemon: &mut Daemon,
    run: &mut dyn FnMut(&Cli) -> Result<(), Failure>,
) -> Result<(), Failure> {
    prompt::require_terminal().map_err(|error| {
        Failure::usage(format!("{NEEDS_TERMINAL} ({error}); `cardea doctor`, `cardea card create`, `cardea key generate` and `cardea csr create` do the same"))
    })?;
    let mut steps = Steps::new(socket, run);
    machine(socket, root, &mut steps)?;
    // A daemon that is still away ends the walk here.
    daemon.cards()?;
    let card = card(&mut steps, daemon)?;
    let card = key(&card, &mut steps, daemon)?;
    certificate(&card, &mut steps, daemon)?;
    let name = quoted(&selector(&card.summary, daemon)?);
    note(&format!("done: `cardea card show {name}` shows the card"));
    Ok(())
}

/// What is missing on this machine, and the commands that fix it.
fn machine(socket: &Path, root: &Path, steps: &mut Steps<'_>) -> Result<(), Failure> {
    note("1. This machine");
    let findings = doctor::mendable(socket, root)?;
    let is_root = Uid::effective().is_root();
    for finding in findings {
        let command = finding.command.replace("NEW-FILE", AUTHORISATIONS);
        note(&finding.text);
        if command.contains("FILE") || !is_root {
            note(&format!("  to be run by root: {command}"));
            continue;
        }
        steps.offer(&command, finding.is_fault)?;
    }
    Ok(())
}

/// The card to go on with, made if there is none of that name.
fn card(steps: &mut Steps<'_>, daemon: &mut Daemon) -> Result<CardDetails, Failure> {
    note("2. A card");
    let user = User::from_uid(Uid::effective()).ok().flatten();
    let own = |card: &CardSummary| card.owner == Uid::effective().as_raw() && card.from.is_none();
    let cards: Vec<CardSummary> = daemon.cards()?.into_iter().filter(own).collect();
    let usual = match (cards.first(), user) {
        (Some(card), _) => card.name.clone(),
        (None, Some(user)) => user.name,
        (None, None) => "card".to_owned(),
    };
    for card in &cards {
        note(&format!("  there is {}", printable(&card.name)));
    }
    let name = prompt::ask_line("name of the card", &usual, |name| {
        match cards.iter().any(|card| card.name == name) {
            true => None,
            false => invalid_card_name(name),
        }
    })?;
    let mut named = cards.iter().filter(|card| card.name == name);
    if let Some(card) = named.next() {
        return daemon.usable_by_pin(&card.card_id);
    }
    let text = "Who shall unblock the PIN after too many wrong ones?\n  \
                g  you, with a PUK that is generated and shown once\n  \
                t  you, with a PUK that you type\n  \
                a  an administrator, with a key that is kept in a file\n  \
                n  nobody: the card and its keys are lost then\n";
    let kept = format!("escrowed:{name}-admin-key").replace(['/', '%'], "-");
    let answers = [
        ("g", ["--generate-puk", ""]),
        ("t", ["--puk", ""]),
        ("a", ["--admin-key", &kept]),
        ("n", ["--no-puk", ""]),
    ];
    let chosen = prompt::choose(text, "answer", &answers, "--generate-puk")?;
    let named = format!("--name={name}");
    let mut words = vec!["card", "create", &named];
    words.extend(chosen.into_iter().filter(|word| !word.is_empty()));
    let before: Vec<String> = ids(daemon)?;
    steps.take(&words)?;
    // By its id: another card may have the name.
    let made = ids(daemon)?.into_iter().find(|id| !before.contains(id));
    daemon.usable_by_pin(&made.ok_or_else(Daemon::unexpected)?)
}

fn ids(daemon: &mut Daemon) -> Result<Vec<String>, Failure> {
    Ok(daemon
        .cards()?
        .into_iter()
        .map(|card| card.card_id)
        .collect())
}

/// How commands name the card: by its name if only one has it.
fn selector(card: &CardSummary, daemon: &mut Daemon) -> Result<String, Failure> {
    let alike = |other: &CardSummary| other.name == card.name;
    Ok(
        match daemon.cards()?.iter().filter(|other| alike(other)).count() {
            1 if !card.name.starts_with('-') => card.name.clone(),
            _ => card.card_id.clone(),
        },
    )
}

/// The card with a key.
fn key(
    card: &CardDetails,
    steps: &mut Steps<'_>,
    daemon: &mut Daemon,
) -> Result<CardDetails, Failure> {
    note("3. A key");
    if let Some(key) = card.keys.first() {
        let title = crate::on_card::title(key);
        note(&format!("  there is key {title}"));
        return daemon.usable_by_pin(&card.summary.card_id);
    }
    let answers: Vec<_> = daemon
        .supported_algorithms()?
        .into_iter()
        .map(|algorithm| (algorithm.word(), algorithm.word()))
        .collect();
    let algorithm = prompt::choose(prompt::ALGORITHMS, "algorithm", &answers, "--algorithm")?;
    let label = prompt::ask_line("name of the key", "work", invalid_label)?;
    let card_name = selector(&card.summary, daemon)?;
    let words = [
        "key",
        "generate",
        &card_name,
        "--algorithm",
        algorithm,
        "--label",
        &label,
    ];
    steps.take(&words)?;
    daemon.usable_by_pin(&card.summary.card_id)
}

fn invalid_label(label: &str) -> Option<String> {
    let fits = (1..=crate::on_card::MAX_LABEL).contains(&label.len());
    let shown = !label.chars().any(char::is_control) && !label.starts_with('-');
    (!fits || !shown).then(|| {
        "a name has 1 to 127 bytes, no control characters and no dash at its beginning".to_owned()
    })
}

/// A certificate for the key, or a request for one.
fn certificate(
    card: &CardDetails,
    steps: &mut Steps<'_>,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    note("4. A certificate");
    let key = match card.keys.first() {
        Some(key) if key.certificate => {
            let title = crate::on_card::title(key);
            note(&format!("  there is one for key {title}"));
            return Ok(());
        }
        Some(key) => key,
        None => return Ok(()),
    };
    let text = "What shall the key have?\n  \
                r  a request, for your certification authority\n  \
                s  a self-signed certificate, for a trial\n  \
                n  nothing: ssh and others need none\n";
    let answers = [("r", Some(true)), ("s", Some(false)), ("n", None)];
    let Some(is_request) = prompt::choose(text, "answer", &answers, "`cardea csr create`")? else {
        return Ok(());
    };
    let usual = format!("CN={}", card.summary.name.replace(['/', ',', '='], " "));
    let subject = prompt::ask_line("subject", &usual, |subject| {
        let parsed: Result<Name, _> = subject.parse();
        parsed.err().map(|error| error.to_string())
    })?;
    let card_name = selector(&card.summary, daemon)?;
    let alike = card.keys.iter().filter(|other| other.label == key.label);
    let key = match label(key) {
        Some(label) if alike.count() == 1 && label.len() != 2 => label.to_owned(),
        _ => format!("{:02X}", key.reference),
    };
    let subject = format!("--subject={subject}");
    if !is_request {
        return steps.take(&["cert", "self-sign", &card_name, "--key", &key, &subject]);
    }
    let usual = format!("{}.csr", card.summary.name.replace('/', "-"));
    let file = prompt::ask_line("file of the request", &usual, |file| {
        let exists = Path::new(file).symlink_metadata().is_ok();
        exists.then(|| format!("{file} already exists; name a new file"))
    })?;
    let out = format!("--out={file}");
    steps.take(&["csr", "create", &card_name, "--key", &key, &subject, &out])?;
    note(&format!(
        "when it is there: cardea cert import {} CERTIFICATE",
        quoted(&card_name)
    ));
    Ok(())
}
