//! VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER (GIDS 2.0; ISO 7816-4 §11.5).

use super::life_cycle::is_operational;
use crate::engine::{Card, Command, Connection, Failure, Reply};
use crate::secret::Pin;
use crate::token::{PinError, PinReference};

/// VERIFY.
pub(super) fn verify(
    card: &mut Card,
    connection: &mut Connection,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    if command.p1 != 0 {
        return Err(Failure::Parameters);
    }
    if command.p2 == 0x82 {
        // Clears the security status of the application, whatever the data.
        card.deauthenticate(connection);
        return Ok(Reply::Done);
    }
    let reference = existing(card, command.p2)?;
    if command.data.is_empty() {
        return status(card, connection, reference);
    }
    let pin = Pin::new(command.data).map_err(|_| Failure::Length)?;
    card.verify_pin(connection, reference, &pin)?;
    Ok(Reply::Done)
}

/// VERIFY without data: the state, at no cost in tries. Windows polls with it.
fn status(
    card: &mut Card,
    connection: &Connection,
    reference: PinReference,
) -> Result<Reply, Failure> {
    if card.has_role(connection, reference) {
        return Ok(Reply::Done);
    }
    let left = match card.recent_pin_status(reference) {
        Ok(status) => Some(status.left),
        Err(error) if error.is_hidden_count() => None,
        Err(error) => return Err(error.into()),
    };
    Err(Failure::Pin(match left {
        Some(0) => PinError::Blocked,
        left => PinError::Wrong { left },
    }))
}

/// CHANGE REFERENCE DATA.
pub(super) fn change(
    card: &mut Card,
    connection: &mut Connection,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    match command.p1 {
        // Old and new value, without delimiter.
        0x00 => {
            let reference = existing(card, command.p2)?;
            if command.data.is_empty() {
                return Err(Failure::Length);
            }
            card.change_joined(connection, reference, command.data)?;
            Ok(Reply::Done)
        }
        // New value alone: sets the first PIN or PUK of a card that is being initialised.
        0x01 => {
            let reference = existing(card, command.p2)?;
            if is_operational(card) {
                return Err(Failure::Conditions);
            }
            let new = Pin::new(command.data).map_err(|_| Failure::Data)?;
            card.initialise_pin(reference, &new)?;
            Ok(Reply::Done)
        }
        _ => Err(Failure::Parameters),
    }
}

/// RESET RETRY COUNTER of the PIN, by the PUK (P1 = 00) or the administrator (P1 = 02).
pub(super) fn reset_retry_counter(
    card: &mut Card,
    connection: &mut Connection,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    match (command.p1, command.p2) {
        (0x00, 0x80) => {
            existing(card, 0x81)?;
            if command.data.is_empty() {
                return Err(Failure::Length);
            }
            card.unblock_joined(connection, command.data)?;
            Ok(Reply::Done)
        }
        // With a PUK the administrator cannot reset the PIN: Conditions, by the engine.
        (0x02, 0x80) => {
            let new = Pin::new(command.data).map_err(|_| Failure::Data)?;
            card.unblock_by_admin(connection, &new)?;
            Ok(Reply::Done)
        }
        _ => Err(Failure::Parameters),
    }
}

/// Reference data of this card: there is no global PIN, and a PUK only if it was made with one.
fn existing(card: &Card, p2: u8) -> Result<PinReference, Failure> {
    match p2 {
        0x80 => Ok(PinReference::Pin),
        0x81 if card.has_puk() => Ok(PinReference::Puk),
        _ => Err(Failure::NotFound),
    }
}
