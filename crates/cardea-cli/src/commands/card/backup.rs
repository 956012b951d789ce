//! `cardea card backup`: a copy of a card's file, and what it cannot bring back.

use std::path::Path;

use cardea_client::message::{CardRequest, Reply, Request};

use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::file;
use crate::on_card::{read_all, title};
use crate::terminal::output::note;

/// How often a copy begins anew because the card has changed meanwhile.
const ATTEMPTS: u32 = 5;

pub(super) fn run(card: &str, out: &Path, daemon: &mut Daemon) -> Result<(), Failure> {
    let card = daemon.usable(card)?;
    let id = &card.summary.card_id;
    let mut copied = None;
    for _ in 0..ATTEMPTS {
        copied = copy(id, daemon)?;
        if copied.is_some() {
            break;
        }
    }
    let copied = copied.ok_or_else(|| {
        Failure::new(
            Exit::Busy,
            "the card is being changed all the time; try again",
        )
    })?;
    file::write_secret(out, &copied)?;
    let certificates = read_all(&card, daemon)?;
    for key in &card.keys {
        if key.recovery.is_some() {
            note(&format!(
                "key {} can be brought back from this file",
                title(key)
            ));
            continue;
        }
        let mut stored = certificates.iter();
        let of_key = stored.find(|stored| stored.reference == Some(key.reference));
        let certificate = of_key.map_or_else(String::new, |stored| {
            format!(", certificate of {}", stored.subject())
        });
        note(&format!(
            "key {}{certificate} is lost with this TPM: it is not recoverable",
            title(key)
        ));
    }
    Ok(())
}

/// The whole file; none if it has changed between two parts.
fn copy(card: &str, daemon: &mut Daemon) -> Result<Option<Vec<u8>>, Failure> {
    let mut file = Vec::new();
    let mut first = None;
    loop {
        let offset = u64::try_from(file.len()).unwrap_or(u64::MAX);
        let request = Request::card(card.to_owned(), CardRequest::ReadFile { offset });
        let Reply::File {
            part,
            length,
            revision,
        } = daemon.call(&request, "reading the card's file")?
        else {
            return Err(Daemon::unexpected());
        };
        if *first.get_or_insert((length, revision)) != (length, revision) {
            return Ok(None);
        }
        let is_last = part.is_empty();
        file.extend(part);
        if u64::try_from(file.len()).unwrap_or(u64::MAX) >= length {
            return Ok(Some(file));
        }
        if is_last {
            return Err(Daemon::unexpected());
        }
    }
}
