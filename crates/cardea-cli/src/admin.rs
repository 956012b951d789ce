//! `cardea admin …`: challenges, and answers to them by whoever holds the admin key.

use std::path::Path;

use cardea_client::message::{AdminAnswer, CardDetails, Part, Reply, Request, SecretBytes};
use cardea_client::spoken::spoken;
use des::TdesEde3;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use serde_json::json;
use zeroize::Zeroizing;

use crate::arguments::{AdminArguments, AdminVerb, NewAdminKeyArguments, OutputArguments};
use crate::connection::{Connection, require_part};
use crate::diversify::{Master, parse_card_id};
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex::{Block, plain};
use crate::output::{note, print, print_json};
use crate::secret::{self, AdminKey, Source};

pub(crate) fn run(verb: &AdminVerb, connection: &mut Connection) -> Result<(), Failure> {
    match verb {
        AdminVerb::ChangeKey { card, answer, new } => {
            let card = connection.usable(&card.card)?;
            change_key(&card, answer, new, connection)
        }
        AdminVerb::Challenge { card, output } => {
            let card = connection.usable(&card.card)?;
            print_challenge(&card, *output, connection)
        }
        AdminVerb::Verify { card, answer } => {
            let card = connection.usable(&card.card)?;
            let request = Request::VerifyAdmin {
                card: card.summary.card_id.clone(),
                answer: self::answer(&card, answer, connection)?,
            };
            connection.order(&request, "judging the answer")?;
            note(&format!(
                "the administrator's answer for {} is right",
                card.summary.name
            ))?;
            Ok(())
        }
    }
}

/// The administrator's answer: given, computed with the admin key, or asked for.
pub(crate) fn answer(
    card: &CardDetails,
    arguments: &AdminArguments,
    connection: &mut Connection,
) -> Result<AdminAnswer, Failure> {
    must_have_administrator(card)?;
    let (challenge, response) = match (arguments.challenge, arguments.response, arguments.key()) {
        (Some(challenge), Some(response), _) => (challenge, response),
        (_, _, Some(source)) => {
            let key = secret::admin_key("admin key", &source)?;
            let challenge = challenge(card, connection)?;
            (challenge, respond(&key, challenge))
        }
        _ => {
            let challenge = challenge(card, connection)?;
            note(&format!("card id:   {}", card.summary.card_id))?;
            note(&format!("challenge: {}", spoken(&challenge.0)))?;
            (challenge, secret::response()?)
        }
    };
    Ok(AdminAnswer {
        challenge: challenge.0.to_vec(),
        response: SecretBytes::new(response.0.to_vec()),
    })
}

fn challenge(card: &CardDetails, connection: &mut Connection) -> Result<Block, Failure> {
    let request = Request::AdminChallenge {
        card: card.summary.card_id.clone(),
    };
    match connection.call(&request, "fetching a challenge")? {
        Reply::Challenge(bytes) => match bytes.as_slice().try_into() {
            Ok(block) => Ok(Block(block)),
            Err(_) => Err(Connection::unexpected()),
        },
        _ => Err(Connection::unexpected()),
    }
}

/// 3DES of the challenge: ECB, one block (GIDS 2.0, external authentication).
pub(crate) fn respond(key: &AdminKey, challenge: Block) -> Block {
    let key: &[u8; 24] = key;
    let mut block = challenge.0;
    TdesEde3::new(key.into()).encrypt_block((&mut block).into());
    Block(block)
}

fn print_challenge(
    card: &CardDetails,
    output: OutputArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    must_have_administrator(card)?;
    let challenge = challenge(card, connection)?;
    if output.json {
        print_json(&json!({
            "card_id": card.summary.card_id,
            "challenge": plain(&challenge.0),
        }))?;
    } else {
        print(&format!("{}\n", spoken(&challenge.0)))?;
    }
    Ok(())
}

fn change_key(
    card: &CardDetails,
    arguments: &AdminArguments,
    new: &NewAdminKeyArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    let answer = answer(card, arguments, connection)?;
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
            };
            secret::admin_key("new admin key", &source)?
        }
    };
    let request = Request::ChangeAdminKey {
        card: card.summary.card_id.clone(),
        answer,
        new: SecretBytes::new(key.to_vec()),
    };
    if let Err(failure) = connection.order(&request, "changing the admin key") {
        if let Some(path) = kept {
            settle(path, &failure)?;
        }
        return Err(failure);
    }
    note(&format!("admin key of {} changed", card.summary.name))?;
    if let Some(path) = kept {
        note(&format!(
            "{} has the new key: keep it safe, nothing else can make it again",
            path.display()
        ))?;
    }
    if is_single_des(&key) {
        note("warning: two neighbouring parts of the key are the same, which makes it single DES")?;
    }
    Ok(())
}

/// A random key, in its file and on the disk before the card has it.
fn make_key(path: &Path) -> Result<AdminKey, Failure> {
    let mut key: AdminKey = Zeroizing::new([0; 24]);
    getrandom::fill(&mut *key)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
    write_key(path, &*key)?;
    Ok(key)
}

/// Hexadecimal digits in a new file, on the disk before it is told.
pub(crate) fn write_key(path: &Path, key: &[u8]) -> Result<(), Failure> {
    let mut digits = Zeroizing::new(Vec::with_capacity(2 * key.len() + 1));
    for byte in key {
        for nibble in [byte >> 4, byte & 0xF] {
            digits.extend(char::from_digit(nibble.into(), 16).map(|digit| digit as u8));
        }
    }
    digits.push(b'\n');
    file::write_secret(path, &digits)
}

/// The card was not changed as asked: is the file worth something?
pub(crate) fn settle(path: &Path, failure: &Failure) -> Result<(), Failure> {
    match failure.exit {
        // Refused before anything was changed.
        Exit::PinWrong | Exit::Usage | Exit::Denied | Exit::NotFound => {
            if let Err(error) = std::fs::remove_file(path) {
                note(&format!(
                    "{} is worth nothing and could not be removed: {error}",
                    path.display()
                ))?;
            }
        }
        _ => note(&format!(
            "keep {}: the card may have its key by now; `cardea admin verify` tells",
            path.display()
        ))?,
    }
    Ok(())
}

/// DES ignores the lowest bit of each byte (FIPS 46-3).
fn is_single_des(key: &AdminKey) -> bool {
    let same = |one: &[u8], other: &[u8]| {
        one.iter()
            .zip(other)
            .all(|(one, other)| one & 0xFE == other & 0xFE)
    };
    let (parts, _) = key.as_chunks::<8>();
    match parts {
        [first, second, third] => same(first, second) || same(second, third),
        _ => false,
    }
}

fn must_have_administrator(card: &CardDetails) -> Result<(), Failure> {
    require_part(card, Part::Administrator)?;
    if card.administrator {
        Ok(())
    } else {
        Err(Failure::usage(
            "this card has no administrator: nobody has its admin key",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl enc -des-ede3 -nopad` gives the same.
    #[test]
    fn response_is_one_block_of_triple_des() {
        let key: AdminKey =
            crate::hex::parse(b"0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123").unwrap();
        let challenge = "5468652071756663".parse().unwrap();
        assert_eq!(
            respond(&key, challenge),
            "A826FD8CE53B855F".parse().unwrap()
        );
    }

    #[test]
    fn keys_that_are_single_des_are_known() {
        let key = |parts: [u8; 3]| -> AdminKey {
            let mut key = Zeroizing::new([0; 24]);
            for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
                bytes.fill(part);
            }
            key
        };
        assert!(is_single_des(&key([2, 2, 4])));
        assert!(is_single_des(&key([4, 2, 3])), "parity bit");
        assert!(!is_single_des(&key([2, 4, 2])));
        assert!(!is_single_des(&key([2, 4, 6])));
    }
}
