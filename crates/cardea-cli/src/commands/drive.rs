//! `cardea card attach`, `detach`, `adopt`: cards on removable drives.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cardea_client::drive::{self, AttachError, Attached, Attachment, Ended, FOLDER};
use cardea_client::message::{CardDetails, CardRequest, CardState, Reply, Request};
use cardea_client::{ClientError, Wake};

use crate::daemon::Daemon;
use crate::describe::state_word;
use crate::exit::{Exit, Failure};
use crate::terminal::output::{note, printable};

/// Inserts the cards on a drive, and starts a process that keeps them inserted.
pub(crate) fn attach(socket: &Path, place: &Path, foreground: bool) -> Result<(), Failure> {
    let folder = folder_at(place)?;
    if foreground {
        let ended = drive::hold(socket, &folder, &wake()?, &mut |attached| {
            tell(&attached);
        });
        note(word(ended.map_err(|error| refused(&error))?));
        return Ok(());
    }
    let (attachment, attached) =
        Attachment::new(socket, &folder).map_err(|error| refused(&error))?;
    keep(socket, &folder, attachment)?;
    tell(&attached);
    Ok(())
}

/// The process in which an attachment lives on. Its standard input is the connection.
pub(crate) fn hold(socket: &Path, folder: &Path) -> Result<(), Failure> {
    // Neither the terminal's end nor its folder may matter from here on.
    let _ = rustix::process::setsid();
    let connection = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| failed("the connection", &error))?;
    let wake = wake()?;
    let mut attachment =
        Attachment::inherited(connection, folder).map_err(|error| failed("the drive", &error))?;
    if attachment.keep(&wake) == Ended::Disconnected {
        drop(attachment);
        drive::hold(socket, folder, &wake, &mut |_| {}).map_err(|error| refused(&error))?;
    }
    Ok(())
}

/// Detaches the drive of a card.
pub(crate) fn detach(card: &str, daemon: &mut Daemon) -> Result<(), Failure> {
    let request = Request::card(card, CardRequest::DetachDrive);
    daemon.order(&request, "detaching the drive")?;
    note("the drive can be unmounted");
    Ok(())
}

/// Adopts a card whose file another system has written.
pub(crate) fn adopt(
    card: &str,
    owner: Option<u32>,
    daemon: &mut Daemon,
) -> Result<CardDetails, Failure> {
    let request = Request::card(card, CardRequest::Adopt { owner });
    match daemon.call(&request, "adopting the card")? {
        Reply::Card(details) => Ok(*details),
        _ => Err(Daemon::unexpected()),
    }
}

/// The folder for a new card on a mounted drive, made where it is missing.
pub(crate) fn prepare(socket: &Path, place: &Path) -> Result<(PathBuf, OwnedFd), Failure> {
    let place = place
        .canonicalize()
        .map_err(|error| failed(&format!("{}", place.display()), &error))?;
    drive::make_folder(socket, &place).map_err(|error| {
        let text = format!("no folder {FOLDER} in {}", place.display());
        failed(&text, &error)
    })
}

/// Refuses a place where no drive can be, before anybody types a secret for a card on it.
pub(crate) fn must_be_mounted(place: &Path) -> Result<(), Failure> {
    match place.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::usage(format!(
            "{} is not a folder; --store names the one where the drive is mounted",
            place.display()
        ))),
        Err(error) => Err(failed(&format!("{}", place.display()), &error)),
    }
}

/// A folder that was made for a card that could not be made; one with anything in it stays.
pub(crate) fn forget(folder: &Path) {
    let _ = std::fs::remove_dir(folder);
}

/// The folder with card files at a place, or that place itself when it has the name of one.
fn folder_at(place: &Path) -> Result<PathBuf, Failure> {
    let place = place
        .canonicalize()
        .map_err(|error| failed(&format!("{}", place.display()), &error))?;
    if place.file_name().is_some_and(|name| name == FOLDER) {
        return Ok(place);
    }
    let folder = place.join(FOLDER);
    match folder.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(folder),
        _ => Err(Failure::new(
            Exit::NotFound,
            format!("there is no folder {FOLDER} in {}", place.display()),
        )),
    }
}

fn keep(socket: &Path, folder: &Path, attachment: Attachment) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(|error| failed("this program", &error))?;
    Command::new(program)
        .arg("--socket")
        .arg(socket)
        .args(["card", "hold"])
        .arg(folder)
        // A folder in use keeps a drive from being unmounted.
        .current_dir("/")
        .stdin(Stdio::from(attachment.into_socket()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("a process that holds the drive", &error))?;
    Ok(())
}

fn wake() -> Result<Wake, Failure> {
    Wake::new().map_err(|error| failed("a descriptor", &error))
}

fn tell(attached: &Attached) {
    for problem in &attached.problems {
        note(&format!("warning: {problem}"));
    }
    for card in &attached.cards {
        let name = printable(&card.name);
        match card.state {
            CardState::Ready | CardState::Blocked => {
                note(&format!("card {name} ({}) attached", card.card_id));
            }
            state => note(&format!(
                "card {name} ({}) is {}: {}",
                card.card_id,
                state_word(state),
                card.reason
            )),
        }
    }
}

fn word(ended: Ended) -> &'static str {
    match ended {
        Ended::Called => "stopped",
        Ended::Detached => "the drive was detached",
        Ended::Disconnected => "the daemon has stopped",
        Ended::Gone => "the drive is gone",
    }
}

fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{what}: {error}"))
}

fn refused(error: &AttachError) -> Failure {
    match error {
        AttachError::Refused(failure) => Failure::new(failure.kind.into(), failure.message.clone()),
        AttachError::Client(error @ ClientError::Unreachable { .. }) => {
            Failure::caused(Exit::Away, error, "; is cardea-daemon running?")
        }
        AttachError::Client(error) => Failure::caused(Exit::Away, error, ""),
        error => Failure::caused(Exit::Failed, error, ""),
    }
}
