//! The reader's PIN pad (PC/SC part 10): a program asks for a PIN without seeing it. It is typed at the agent of
//! the card's owner and goes from there into the command.

use std::time::{Duration, Instant};

use cardea_card::Event;
use cardea_client::message::{Failure, FailureKind};
use zeroize::Zeroizing;

use crate::failure::fail;
use crate::holder::prompt::{question, unanswered};
use crate::host::Host;
use crate::host::audit::{Actor, Door};
use crate::host::hosted::{Body, HostedCard};
use crate::host::prompt::{NoAnswer, Purpose};
use crate::host::slot_connection::CardConnection;
use crate::time_limits::ANSWER_TIME;

/// CM_IOCTL_GET_FEATURE_REQUEST: tag, length and control code (big-endian) of each feature.
pub(crate) const GET_FEATURES: u32 = 0x4200_0000 + 3400;

/// Our control codes for FEATURE_VERIFY_PIN_DIRECT and FEATURE_MODIFY_PIN_DIRECT.
const VERIFY: u32 = 0x4233_0006;
const MODIFY: u32 = 0x4233_0007;

/// The features' tags (PC/SC part 10 §2.2).
const FEATURE_VERIFY_PIN_DIRECT: u8 = 0x06;
const FEATURE_MODIFY_PIN_DIRECT: u8 = 0x07;

/// Where the caller leaves the time to us.
const DEFAULT_TIME: Duration = Duration::from_secs(60);

/// Bytes before the command in PIN_VERIFY_STRUCTURE and PIN_MODIFY_STRUCTURE, and where each has its length.
const VERIFY_HEAD: usize = 19;
const MODIFY_HEAD: usize = 24;

/// Answers of the pad itself (PC/SC part 10 §2.5.2).
const TIMED_OUT: [u8; 2] = [0x64, 0x00];
const CANCELLED: [u8; 2] = [0x64, 0x01];

/// Instructions that take PINs.
const INS_VERIFY: u8 = 0x20;
const INS_CHANGE_REFERENCE_DATA: u8 = 0x24;
const INS_RESET_RETRY_COUNTER: u8 = 0x2C;

/// Reference of the PIN.
const PIN: u8 = 0x80;

/// Reference of the PUK; any other is the PIN's, or nobody's, as the card will say.
const PUK: u8 = 0x81;

/// What is asked for, and the command that takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    header: [u8; 4],
    purposes: Vec<Purpose>,
    limit: Duration,
}

/// The features of the reader with this card in it.
pub(crate) fn features(card: &HostedCard) -> Vec<u8> {
    let feature = |tag: u8, code: u32| {
        let [a, b, c, d] = code.to_be_bytes();
        [tag, 4, a, b, c, d]
    };
    if card.carrier().is_some() {
        // Its PIN is changed where it is.
        return feature(FEATURE_VERIFY_PIN_DIRECT, VERIFY).to_vec();
    }
    if !offers(card) {
        return Vec::new();
    }
    [
        feature(FEATURE_VERIFY_PIN_DIRECT, VERIFY),
        feature(FEATURE_MODIFY_PIN_DIRECT, MODIFY),
    ]
    .concat()
}

fn offers(card: &HostedCard) -> bool {
    matches!(&*card.body(), Body::Live(live) if live.record().settings.pin_pad)
}

/// Asks for what the command needs, and gives it to the card: its status word, or the pad's own.
pub(crate) fn enter(
    host: &Host,
    connection: &mut CardConnection,
    actor: &Actor,
    code: u32,
    data: &[u8],
) -> Result<(Zeroizing<Vec<u8>>, Vec<Event>), Failure> {
    let unknown = || {
        let text = format!("the reader has no control code {code:#x}");
        fail(FailureKind::Invalid, text)
    };
    if !offers(connection.card()) {
        return Err(unknown());
    }
    let order = match code {
        VERIFY => parse(data, VERIFY_HEAD),
        MODIFY => parse(data, MODIFY_HEAD),
        _ => return Err(unknown()),
    };
    let order = order.ok_or_else(|| {
        tracing::info!(length = data.len(), "PIN pad: invalid structure");
        fail(
            FailureKind::Invalid,
            "not a PIN structure of PC/SC part 10 for a command that takes PINs",
        )
    })?;
    let own = |answer: [u8; 2]| Ok((Zeroizing::new(answer.to_vec()), Vec::new()));
    let mut apdu = Zeroizing::new(Vec::with_capacity(4 + 1 + 2 * 127));
    apdu.extend_from_slice(&order.header);
    apdu.push(0);
    for purpose in order.purposes {
        let card = connection.card();
        if let Some(left) = card.pad_pace().pause(Instant::now()) {
            tracing::debug!(card = %card.selector(), seconds = left.as_secs(), "PIN pad: nobody is asked");
            return own(CANCELLED);
        }
        let owner = card.owner.unwrap_or_default();
        let mut asked = question(card, purpose, owner, actor, Door::Reader);
        asked.limit = order.limit;
        match host.ask_person(&asked) {
            Ok(typed) => {
                card.pad_pace().answered();
                apdu.extend_from_slice(typed.expose());
            }
            Err(NoAnswer::Cancelled) => {
                refused(card);
                return own(CANCELLED);
            }
            Err(why) => {
                // Nobody was disturbed where there is no agent.
                if why == NoAnswer::TimedOut {
                    refused(card);
                }
                let error = unanswered(&why).message;
                tracing::info!(card = %card.selector(), error, "PIN pad: no answer");
                return own(TIMED_OUT);
            }
        }
    }
    let length = apdu.len() - order.header.len() - 1;
    let too_long = || fail(FailureKind::Invalid, "the values do not fit into a command");
    let length = u8::try_from(length).map_err(|_| too_long())?;
    *apdu.get_mut(4).ok_or_else(too_long)? = length;
    let gone = || fail(FailureKind::NotFound, "there is no card in this slot");
    connection.transmit(&apdu).ok_or_else(gone)
}

/// Anybody who reaches pcscd can ask: whoever refuses is left alone for a while.
fn refused(card: &HostedCard) {
    if let Some(pause) = card.pad_pace().refused(Instant::now()) {
        tracing::warn!(
            card = %card.selector(),
            seconds = pause.as_secs(),
            "PIN pad: refused several times in a row, nobody is asked for a while"
        );
    }
}

/// Whether a control code asks for a verification of the PIN, and the time that a person gets.
pub(crate) fn time_for_pin(code: u32, data: &[u8]) -> Option<Duration> {
    let order = (code == VERIFY).then(|| parse(data, VERIFY_HEAD))??;
    (order.purposes == [Purpose::Pin]).then_some(order.limit)
}

/// VERIFY with a PIN that the agent of a user asks for, whether or not the card has a PIN pad for others.
pub(crate) fn enter_at(
    host: &Host,
    connection: &mut CardConnection,
    (user, actor): (u32, &Actor),
    limit: Duration,
) -> Result<(Zeroizing<Vec<u8>>, Vec<Event>), Failure> {
    let mut asked = question(connection.card(), Purpose::Pin, user, actor, Door::Socket);
    asked.limit = limit.min(ANSWER_TIME);
    let typed = match host.ask(&asked) {
        Err(failure) if failure.kind == FailureKind::Cancelled => {
            return Ok((Zeroizing::new(CANCELLED.to_vec()), Vec::new()));
        }
        typed => typed?,
    };
    let too_long = |_| fail(FailureKind::Invalid, "the PIN does not fit into a command");
    let length = u8::try_from(typed.expose().len()).map_err(too_long)?;
    let mut apdu = Zeroizing::new(Vec::with_capacity(5 + typed.expose().len()));
    apdu.extend_from_slice(&[0, INS_VERIFY, 0, PIN, length]);
    apdu.extend_from_slice(typed.expose());
    let gone = || fail(FailureKind::NotFound, "the card is no longer available");
    connection.transmit(&apdu).ok_or_else(gone)
}

/// Reads PIN_VERIFY_STRUCTURE or PIN_MODIFY_STRUCTURE. How the block is laid out is of no interest: the command is
/// built anew, with what was typed and nothing else.
fn parse(data: &[u8], head: usize) -> Option<Order> {
    let (structure, command) = data.split_at_checked(head)?;
    let (_, length) = structure.split_last_chunk::<4>()?;
    if usize::try_from(u32::from_le_bytes(*length)) != Ok(command.len()) {
        return None;
    }
    let header = *command.first_chunk::<4>()?;
    let present = match header {
        [_, _, _, PUK] => Purpose::Puk,
        _ => Purpose::Pin,
    };
    let changed = match present {
        Purpose::Puk => Purpose::NewPuk,
        _ => Purpose::NewPin,
    };
    let purposes = match (header, head) {
        ([0, INS_VERIFY, 0, _], VERIFY_HEAD) => vec![present],
        ([0, INS_CHANGE_REFERENCE_DATA, 0, _], MODIFY_HEAD) => vec![present, changed],
        ([0, INS_RESET_RETRY_COUNTER, 0, _], MODIFY_HEAD) => vec![Purpose::Puk, Purpose::NewPin],
        ([0, INS_RESET_RETRY_COUNTER, 2, _], MODIFY_HEAD) => vec![Purpose::NewPin],
        _ => return None,
    };
    let limit = match structure.first() {
        None | Some(0) => DEFAULT_TIME,
        Some(seconds) => Duration::from_secs((*seconds).into()),
    };
    Some(Order {
        header,
        purposes,
        limit: limit.min(ANSWER_TIME),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As OpenSC builds it: timeouts, format, sizes, then the command with a padded block.
    fn structure(head: usize, command: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; head];
        bytes[0] = 30;
        let length = u32::try_from(command.len()).unwrap();
        bytes[head - 4..].copy_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(command);
        bytes
    }

    #[test]
    fn commands_that_take_pins_are_understood() {
        for (head, command, purposes) in [
            (
                VERIFY_HEAD,
                &[0, 0x20, 0, 0x80, 8, 0xFF][..],
                vec![Purpose::Pin],
            ),
            (VERIFY_HEAD, &[0, 0x20, 0, 0x81], vec![Purpose::Puk]),
            (
                MODIFY_HEAD,
                &[0, 0x24, 0, 0x80, 0],
                vec![Purpose::Pin, Purpose::NewPin],
            ),
            (
                MODIFY_HEAD,
                &[0, 0x24, 0, 0x81],
                vec![Purpose::Puk, Purpose::NewPuk],
            ),
            (
                MODIFY_HEAD,
                &[0, 0x2C, 0, 0x80],
                vec![Purpose::Puk, Purpose::NewPin],
            ),
            (MODIFY_HEAD, &[0, 0x2C, 2, 0x80], vec![Purpose::NewPin]),
        ] {
            let order = parse(&structure(head, command), head).unwrap();
            assert_eq!(order.header, command[..4]);
            assert_eq!(order.purposes, purposes);
            assert_eq!(order.limit, Duration::from_secs(30));
        }
    }

    #[test]
    fn anything_else_is_not() {
        for (head, command) in [
            (VERIFY_HEAD, &[0, 0x20, 0][..]),
            (VERIFY_HEAD, &[]),
            (VERIFY_HEAD, &[0, 0x24, 0, 0x80]),
            (MODIFY_HEAD, &[0, 0x20, 0, 0x80]),
            (VERIFY_HEAD, &[0x10, 0x20, 0, 0x80]),
            (VERIFY_HEAD, &[0, 0xA4, 0, 0x80]),
            (VERIFY_HEAD, &[0, 0x20, 0xFF, 0x80]),
            (MODIFY_HEAD, &[0, 0x2C, 1, 0x80]),
        ] {
            assert_eq!(parse(&structure(head, command), head), None, "{command:x?}");
        }
        let whole = structure(VERIFY_HEAD, &[0, 0x20, 0, 0x80]);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length], VERIFY_HEAD), None);
        }
        let longer = [whole, vec![0]].concat();
        assert_eq!(parse(&longer, VERIFY_HEAD), None, "the length counts");
    }

    #[test]
    fn time_is_the_callers_within_limits() {
        let limit = |seconds| {
            let mut bytes = structure(VERIFY_HEAD, &[0, 0x20, 0, 0x80]);
            bytes[0] = seconds;
            parse(&bytes, VERIFY_HEAD).unwrap().limit
        };
        assert_eq!(limit(0), DEFAULT_TIME);
        assert_eq!(limit(1), Duration::from_secs(1));
        assert_eq!(limit(255), ANSWER_TIME);
    }
}
