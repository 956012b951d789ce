//! What the log says of a card.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use cardea_client::message::{CardRequest, Reference, Request, SecretBytes};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::support::{OWNER, PIN, Place};

/// The messages of each place in the program.
type Messages = HashMap<Identifier, Vec<String>>;

/// Collects messages.
struct Lines(Arc<Mutex<Messages>>);

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut messages = self.0.lock().unwrap();
        let place = messages.entry(event.metadata().callsite()).or_default();
        place.push(text.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Lines that repeat are counted by place: one event must not be withheld because of another.
#[test]
fn each_event_of_a_card_is_logged_by_a_place_of_its_own() {
    let place = Place::new();
    let card = place.card("card");
    let secret = |text: &[u8]| SecretBytes::new(text.to_vec());
    let serve = |uid, request| {
        let request = Request::card(card.as_str(), request);
        let visitor = &mut place.visitor(uid);
        let served = place.counter.serve(visitor, request, None, &mut |_| {});
        served.unwrap();
    };
    let messages = Arc::default();
    tracing::subscriber::with_default(Lines(Arc::clone(&messages)), || {
        serve(
            OWNER,
            CardRequest::ChangePin {
                old: secret(PIN),
                new: secret(b"777777"),
                reference: Reference::Pin,
            },
        );
        for pin_pad in [true, false] {
            serve(
                0,
                CardRequest::Configure {
                    pin_pad: Some(pin_pad),
                    visibility: None,
                },
            );
        }
    });
    let messages: &Mutex<Messages> = &messages;
    let messages = messages.lock().unwrap();
    let mut all: Vec<_> = messages.values().flatten().map(String::as_str).collect();
    all.sort_unstable();
    all.retain(|message| message.starts_with("PIN") || message.starts_with("card"));
    assert_eq!(
        all,
        ["PIN or PUK changed", "card configured", "card configured"]
    );
    for messages in messages.values() {
        let same = messages
            .iter()
            .all(|message| Some(message) == messages.first());
        assert!(same, "one place for several events: {messages:?}");
    }
}
