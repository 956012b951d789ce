//! Commands of a machine that a card is redirected to, before they reach the card: what is the same for all
//! applications.
//!
//! A command is judged by its header and by whether it has data: a chain of commands is the same instruction in each
//! part (ISO 7816-4 §5.3.3), and the engine gives up a chain that another instruction interrupts.

use cardea_iso7816::{Chaining, CommandApdu};

use super::application::{Application, Verdict};
use super::command::Command;
use super::failure::Failure;
use super::transport::{GET_RESPONSE, chaining};

/// Judges a command APDU for the application that would execute it.
pub(crate) fn judge(application: &dyn Application, apdu: &[u8]) -> Verdict {
    match parse(apdu) {
        Err(failure) => failure.into(),
        Ok((command, _)) if command.ins == GET_RESPONSE => Verdict::Passes,
        Ok((command, chaining)) => application.judge_guest(&command, chaining),
    }
}

/// The command or the part of one in an APDU.
pub(crate) fn parse(apdu: &[u8]) -> Result<(Command<'_>, Chaining), Failure> {
    let apdu = CommandApdu::parse(apdu).map_err(|_| Failure::Length)?;
    // What speaks of secure messaging or of other channels has no class of ours either.
    let chaining = chaining(apdu.cla).map_err(|_| Failure::Class)?;
    let command = Command {
        ins: apdu.ins,
        p1: apdu.p1,
        p2: apdu.p2,
        data: apdu.data,
    };
    Ok((command, chaining))
}
