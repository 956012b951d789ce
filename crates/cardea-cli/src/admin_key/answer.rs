//! A card's challenge, and the administrator's answer to it.

use cardea_client::dictation::to_dictation;
use cardea_client::message::{
    AdminAnswer, CardDetails, CardRequest, Part, Reply, Request, SecretBytes,
};

use super::respond;
use crate::arguments::AdminArguments;
use crate::daemon::{Daemon, require_part};
use crate::exit::Failure;
use crate::hex::Block;
use crate::terminal::output::note;
use crate::terminal::secret;

/// The administrator's answer: given, computed with the admin key, or asked for.
pub(crate) fn answer(
    card: &CardDetails,
    arguments: &AdminArguments,
    daemon: &mut Daemon,
) -> Result<AdminAnswer, Failure> {
    must_have_administrator(card)?;
    let (challenge, response) = match (arguments.challenge, arguments.response, arguments.key()) {
        (Some(challenge), Some(response), _) => (challenge, response),
        (_, _, Some(source)) => {
            let key = secret::admin_key("admin key", &source)?;
            let challenge = challenge(card, daemon)?;
            (challenge, respond(&key, challenge))
        }
        _ => {
            let challenge = challenge(card, daemon)?;
            note(&format!("card id:   {}", card.summary.card_id));
            note(&format!("challenge: {}", to_dictation(&challenge.0)));
            (challenge, secret::response()?)
        }
    };
    Ok(AdminAnswer {
        challenge: challenge.0.to_vec(),
        response: SecretBytes::new(response.0.to_vec()),
    })
}

pub(crate) fn challenge(card: &CardDetails, daemon: &mut Daemon) -> Result<Block, Failure> {
    let request = Request::card(card.summary.card_id.clone(), CardRequest::AdminChallenge);
    match daemon.call(&request, "fetching a challenge")? {
        Reply::Challenge(bytes) => match bytes.as_slice().try_into() {
            Ok(block) => Ok(Block(block)),
            Err(_) => Err(Daemon::unexpected()),
        },
        _ => Err(Daemon::unexpected()),
    }
}

pub(crate) fn must_have_administrator(card: &CardDetails) -> Result<(), Failure> {
    require_part(card, Part::Administrator)?;
    if card.administrator {
        Ok(())
    } else {
        Err(Failure::usage(
            "this card has no administrator: nobody has its admin key",
        ))
    }
}
