//! What the engine must never send, whatever responses it gets.

use super::adversary::{Conversation, Line};
use super::manipulation::no_hmac;
use crate::needles::Needles;
use crate::raw::{cc, command_name};
use crate::wire::{Assertion, HeardTicket, code_of, nonces, parts, policy_session};

/// The rules that a conversation breaks. `entered` is whether a person entered the values that are compared.
pub(crate) fn broken(heard: &Conversation, entered: bool, secrets: &Needles) -> Vec<String> {
    let mut broken = Vec::new();
    if entered {
        broken.extend(repeated_comparison(&heard.lines));
    }
    broken.extend(birth_key_used_again(&heard.lines));
    broken.extend(signature_for_unproven_session(&heard.lines));
    broken.extend(secret_in_the_clear(heard, secrets));
    broken
}

/// Tickets that crossed the bus.
pub(crate) fn tickets(heard: &Conversation) -> Vec<HeardTicket> {
    let tickets = heard.lines.iter().filter_map(|line| {
        let answer = line.answered.as_ref()?;
        HeardTicket::parse(&line.command, answer)
    });
    tickets.collect()
}

/// Whether the TPM has executed the command with success and the client has received its response.
pub(crate) fn is_genuine(line: &Line) -> bool {
    line.told == line.answered && !is_refused(line)
}

fn is_refused(line: &Line) -> bool {
    line.told.as_deref().is_none_or(|told| code_of(told) != 0)
}

/// A value is compared once for each time that it is entered. After an error it may be compared again only if the
/// TPM has stated, with an HMAC, that it did not count a failure.
fn repeated_comparison(lines: &[Line]) -> Option<String> {
    lines.iter().enumerate().find_map(|(at, line)| {
        let asked = comparison(line)?;
        let is_of_index =
            |line: &Line| comparison(line).is_some_and(|other| other.authority == asked.authority);
        // A new value of the index is another one.
        let since = lines[..at].iter().rposition(|line| {
            let parts = parts(&line.command);
            line.place.code == cc::NV_CHANGE_AUTH
                && is_genuine(line)
                && parts.is_some_and(|parts| parts.handles[0] == asked.authority)
        });
        let same_value = &lines[since.unwrap_or_default()..at];
        let before = same_value.iter().rposition(is_of_index)?;
        let (earlier, between) = (&same_value[before], &same_value[before + 1..]);
        let is_read = |line| is_genuine_reading(line, asked.authority);
        if between.iter().any(is_read) {
            return None;
        }
        // Once it has been shown to be correct, repeating it costs no try.
        let is_known = || {
            let mut comparisons = same_value[..before].iter().filter(|line| is_of_index(line));
            comparisons.any(is_genuine)
        };
        if !is_genuine(earlier) && !is_known() {
            return Some("a value is compared again after the comparison failed".into());
        }
        let is_same_use =
            comparison(earlier).is_some_and(|earlier| earlier.policy_ref == asked.policy_ref);
        (is_same_use && has_failed(between))
            .then(|| "a value is compared again after another command failed".into())
    })
}

fn comparison(line: &Line) -> Option<Assertion<'_>> {
    (line.place.code == cc::POLICY_SECRET).then(|| Assertion::parse(&line.command))?
}

/// A reading of the index's counter whose response has an HMAC.
fn is_genuine_reading(line: &Line, index: u32) -> bool {
    let parts = parts(&line.command);
    line.place.code == cc::NV_READ
        && is_genuine(line)
        && line.told.as_deref().and_then(no_hmac).is_some()
        && parts.is_some_and(|parts| parts.handles[1] == index)
}

/// Whether a command was refused for good: not one that was sent again at once, nor a flush.
fn has_failed(lines: &[Line]) -> bool {
    let next = lines.iter().skip(1).map(|line| line.place.code);
    let next = next.chain([cc::POLICY_SECRET]);
    lines.iter().zip(next).any(|(line, next)| {
        is_refused(line) && next != line.place.code && line.place.code != cc::FLUSH_CONTEXT
    })
}

fn birth_key_used_again(lines: &[Line]) -> Option<String> {
    let signs = |line: &Line| [cc::VERIFY_SIGNATURE, cc::POLICY_SIGNED].contains(&line.place.code);
    let first = lines.iter().position(signs)?;
    lines[first..]
        .iter()
        .any(|line| line.place.code == cc::LOAD_EXTERNAL)
        .then(|| "a birth key that has signed is used for another creation".into())
}

/// The birth key's signature authorises whichever session has the nonce that it covers. That nonce must come from a
/// response with an HMAC, received in that session: otherwise the session may be somebody else's.
fn signature_for_unproven_session(lines: &[Line]) -> Option<String> {
    lines.iter().enumerate().find_map(|(at, line)| {
        if line.place.code != cc::POLICY_SIGNED {
            return None;
        }
        let signed = Assertion::parse(&line.command)?;
        let is_proven = lines[..at].iter().any(|earlier| {
            let answer = earlier.answered.as_deref().unwrap_or_default();
            let sessions = parts(&earlier.command).map(|parts| parts.sessions);
            let sessions = sessions.unwrap_or_default().into_iter();
            let mut received = sessions.zip(nonces(&earlier.command, answer));
            earlier.told == earlier.answered
                && received
                    .any(|(session, nonce)| session == signed.session && nonce == signed.nonce)
        });
        (!is_proven).then(|| "the birth key signs for a session that was not proven".into())
    })
}

fn secret_in_the_clear(heard: &Conversation, secrets: &Needles) -> Option<String> {
    let clients = heard.lines.iter().flat_map(|line| {
        let command = Some(&line.command);
        let messages = [command, line.answered.as_ref()].into_iter().flatten();
        messages.map(|message| (line.place.code, message))
    });
    let own = heard
        .own
        .iter()
        .flat_map(|(command, answer)| [command, answer].map(|message| (code_of(command), message)));
    clients.chain(own).find_map(|(code, message)| {
        let found = secrets.found_in(message);
        let (name, _) = found.first()?;
        let command = command_name(code);
        Some(format!("{name} crosses the bus in the clear: {command}"))
    })
}

/// Whether the engine has put a PIN ticket into this session, which it takes for its own: the ticket alone allows as
/// much.
pub(crate) fn has_pin_ticket(heard: &Conversation, session: u32) -> bool {
    heard.lines.iter().any(|line| {
        line.place.code == cc::POLICY_TICKET && policy_session(&line.command) == Some(session)
    })
}

/// Comparisons with an index's value that the interposer has sent itself, each of which may have cost a try.
pub(crate) fn own_comparisons(heard: &Conversation, index: u32) -> u32 {
    let own = heard.own.iter().filter(|(command, _)| {
        code_of(command) == cc::POLICY_SECRET
            && Assertion::parse(command).is_some_and(|asked| asked.authority == index)
    });
    u32::try_from(own.count()).unwrap()
}
