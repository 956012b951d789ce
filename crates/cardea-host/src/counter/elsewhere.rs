//! Requests about a card that is redirected from another machine.

use std::sync::Arc;

use cardea_client::message::{CardRequest, Failure, FailureKind, Reply};

use super::Visitor;
use crate::failure::fail;
use crate::host::hosted::HostedCard;
use crate::host::redirected::{Carrier, only_there};

/// What a user's program asks of a redirected card, over its own way there.
pub(super) fn ask(
    visitor: &Visitor,
    card: &HostedCard,
    carrier: &Arc<Carrier>,
    request: CardRequest,
) -> Result<Reply, Failure> {
    if card.owner != Some(visitor.caller.uid()) {
        return Err(fail(
            FailureKind::Denied,
            "this card is redirected from another machine; only its user can use it here",
        ));
    }
    match request {
        CardRequest::Contents { .. }
        | CardRequest::LoginByAgent
        | CardRequest::Logout
        | CardRequest::ReadCertificate { .. }
        | CardRequest::ReadObject { .. }
        | CardRequest::Status
        | CardRequest::UseKey { pin: None, .. } => {}
        CardRequest::Login { .. } | CardRequest::UseKey { .. } | CardRequest::VerifyPin { .. } => {
            return Err(fail(
                FailureKind::Denied,
                format!(
                    "the PIN of this card is typed at {}, where the card is, never here",
                    carrier.from
                ),
            ));
        }
        _ => return Err(only_there(carrier)),
    }
    let client = visitor.logins.elsewhere(carrier)?;
    match client.ask(card.selector(), request)? {
        // Whoever logs in leaves the question for the PIN to the other machine.
        Reply::Status(mut status) => {
            status.pin_pad = true;
            Ok(Reply::Status(status))
        }
        reply => Ok(reply),
    }
}
