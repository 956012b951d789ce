//! A whole door in a hundred lines: a line of text comes in, a line goes out.

use cardea_client::message::{
    CardRequest, CardsRequest, Failure, FailureKind, Page, Reference, Reply, Request, SecretBytes,
};
use cardea_host::{Counter, Visitor};

use crate::support::{OTHER, OWNER, PIN, Place};

/// Somebody who speaks in lines.
struct LineDoor<'a> {
    counter: &'a Counter,
    visitor: Visitor,
}

impl LineDoor<'_> {
    /// Answers one line: `list`, or `verify CARD PIN`.
    fn answer(&mut self, line: &str) -> String {
        let Some(request) = parse(line) else {
            return "what?".to_owned();
        };
        let reply = self
            .counter
            .serve(&mut self.visitor, request, None, &mut |_| {});
        match reply {
            Ok(reply) => shown(&reply),
            Err(failure) => refused(&failure),
        }
    }
}

/// From the door's words to the counter's.
fn parse(line: &str) -> Option<Request> {
    let mut words = line.split(' ');
    match (words.next()?, words.next(), words.next()) {
        ("list", None, None) => Some(Request::Cards(CardsRequest::List { from: None })),
        ("verify", Some(card), Some(pin)) => Some(Request::card(
            card,
            CardRequest::VerifyPin {
                value: SecretBytes::new(pin.as_bytes().to_vec()),
                reference: Reference::Pin,
            },
        )),
        _ => None,
    }
}

/// And back.
fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Cards(Page { entries: cards, .. }) => {
            let names: Vec<_> = cards.iter().map(|card| card.name.as_str()).collect();
            names.join(" ")
        }
        Reply::Done => "done".to_owned(),
        other => format!("{other:?}"),
    }
}

fn refused(failure: &Failure) -> String {
    match failure.kind {
        FailureKind::Denied => "no".to_owned(),
        FailureKind::PinWrong => format!("wrong, {}", failure.tries_left.unwrap_or_default()),
        _ => failure.message.clone(),
    }
}

fn door(place: &Place, uid: u32) -> LineDoor<'_> {
    LineDoor {
        counter: &place.counter,
        visitor: place.visitor(uid),
    }
}

#[test]
fn new_door_has_permission_and_audit_by_the_counter() {
    let place = Place::new();
    place.card("work");
    let pin = std::str::from_utf8(PIN).unwrap();

    let mut owner = door(&place, OWNER);
    assert_eq!(owner.answer("list"), "work");
    assert_eq!(owner.answer("verify work 654321"), "wrong, 4");
    assert_eq!(owner.answer(&format!("verify work {pin}")), "done");

    let mut other = door(&place, OTHER);
    assert_eq!(other.answer("list"), "");
    assert_eq!(
        other.answer(&format!("verify work {pin}")),
        "there is no such card; `cardea card list` shows yours"
    );
    assert_eq!(other.answer("destroy work"), "what?");

    assert_eq!(
        place.events(),
        ["tpm-examined", "card-created", "pin-failed", "denied"]
    );
}
