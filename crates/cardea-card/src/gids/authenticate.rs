//! GENERAL AUTHENTICATE: the administrator, by external or mutual authentication
//! (GIDS 2.0; ISO 7816-4 §11.5.5).

use cardea_iso7816::tlv;
use zeroize::Zeroizing;

use super::State;
use crate::engine::{Card, Command, Connection, Failure, Reply};
use crate::token::{AdminAnswer, AdminForm, TokenErrorKind};

/// What the card has asked, and in the mutual form what the host has.
#[derive(Debug)]
pub(crate) struct Challenge {
    card: Vec<u8>,
    host: Option<[u8; 16]>,
}

/// The data field: `7C { … }`.
enum Step<'a> {
    /// `82`: the answer.
    Answer(&'a [u8]),
    /// An empty `81`: external authentication.
    External,
    /// A challenge in `81`: mutual authentication.
    Mutual(&'a [u8; 16]),
}

/// Executes the command. `challenge` is what the command before has asked; whatever happens, it is over.
pub(super) fn authenticate(
    card: &mut Card,
    connection: &mut Connection,
    state: &mut State,
    challenge: Option<Challenge>,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    if (command.p1, command.p2) != (0, 0) {
        return Err(Failure::Parameters);
    }
    let step = parse(command.data)?;
    if state.environment.authentication.is_none() {
        return Err(Failure::Conditions);
    }
    // Nobody has the key of this card: better said now than after somebody has typed an answer.
    if !card.has_administrator() {
        return Err(Failure::SecurityStatus);
    }
    match step {
        Step::External => begin(card, state, AdminForm::External, None),
        Step::Mutual(host) => begin(card, state, AdminForm::Mutual, Some(*host)),
        Step::Answer(answer) => {
            let challenge = challenge.ok_or(Failure::Conditions)?;
            finish(card, connection, &challenge, answer)
        }
    }
}

fn begin(
    card: &mut Card,
    state: &mut State,
    form: AdminForm,
    host: Option<[u8; 16]>,
) -> Result<Reply, Failure> {
    let asked = card.admin_challenge(form)?;
    let reply = template(0x81, &asked);
    state.challenge = Some(Challenge { card: asked, host });
    Ok(Reply::data(reply))
}

fn finish(
    card: &mut Card,
    connection: &mut Connection,
    challenge: &Challenge,
    answer: &[u8],
) -> Result<Reply, Failure> {
    let answer = match (&challenge.host, answer.len()) {
        (None, 8) => AdminAnswer::External(answer.try_into().map_err(|_| Failure::Data)?),
        (Some(host), 40) => AdminAnswer::Mutual {
            host,
            cryptogram: answer.try_into().map_err(|_| Failure::Data)?,
        },
        _ => return Err(Failure::Data),
    };
    let judged = card.admin_answer(connection, &challenge.card, answer);
    match judged.map_err(Failure::from) {
        Ok(None) => Ok(Reply::Done),
        Ok(Some(cryptogram)) => Ok(Reply::Data(Zeroizing::new(template(0x82, &cryptogram)))),
        // The challenge was answered on another connection meanwhile.
        Err(Failure::Token(error)) if error.kind() == TokenErrorKind::NotAuthenticated => {
            Err(Failure::SecurityStatus)
        }
        Err(failure) => Err(failure),
    }
}

fn template(tag: u32, value: &[u8]) -> Vec<u8> {
    tlv::build(0x7C, |out| tlv::write(out, tag, value))
}

fn parse(data: &[u8]) -> Result<Step<'_>, Failure> {
    let outer = tlv::parse_single(data).map_err(|_| Failure::Data)?;
    let inner = tlv::parse_single(outer.value).map_err(|_| Failure::Data)?;
    match (outer.tag, inner.tag, inner.value) {
        (0x7C, 0x81, []) => Ok(Step::External),
        (0x7C, 0x81, host) => host.try_into().map(Step::Mutual).map_err(|_| Failure::Data),
        (0x7C, 0x82, answer @ [_, ..]) => Ok(Step::Answer(answer)),
        _ => Err(Failure::Data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_challenge_means_external_and_16_bytes_mutual() {
        assert!(matches!(parse(&[0x7C, 2, 0x81, 0]), Ok(Step::External)));
        let mut mutual = vec![0x7C, 18, 0x81, 16];
        mutual.extend([7; 16]);
        assert!(matches!(parse(&mutual), Ok(Step::Mutual([7, ..]))));
        assert!(matches!(
            parse(&[0x7C, 3, 0x82, 1, 5]),
            Ok(Step::Answer([5]))
        ));
        for wrong in [
            &[][..],
            &[0x7C],
            &[0x7C, 0],
            &[0x7C, 1, 0],
            &[0x7C, 2, 0x79, 0],
            &[0x7C, 2, 0x82, 0],
            &[0x7C, 3, 0x81, 1, 5],
            &[0x7D, 2, 0x81, 0],
            &[0x7C, 4, 0x81, 0, 0x81, 0],
        ] {
            assert!(matches!(parse(wrong), Err(Failure::Data)), "{wrong:02x?}");
        }
    }
}
