//! A card that a person names is found once.

use std::sync::Arc;
use std::sync::Mutex;

use cardea_client::message::{
    Authority, CardRequest, CardsRequest, CreateCard, FailureKind, NewContent, Reference, Reply,
    Request, SecretBytes,
};
use cardea_host::{
    ConsentRequest, Grant, HostedCard, NoAnswer, Prompter, Purpose, Question, Right,
};

use crate::support::{OTHER, OWNER, PIN, Place};

const NEW_PIN: &[u8] = b"777777";

/// Answers like a person, and does something else while it is asked.
struct Person {
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Prompter for Person {
    fn ask(&self, question: &Question<'_>) -> Result<SecretBytes, NoAnswer> {
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        let pin = match question.purpose {
            Purpose::NewPin => NEW_PIN,
            _ => PIN,
        };
        Ok(SecretBytes::new(pin.to_vec()))
    }

    fn consent(&self, _: &ConsentRequest<'_>) -> Result<(), NoAnswer> {
        Err(NoAnswer::Cancelled)
    }
}

fn card(place: &Place, id: &str) -> Arc<HostedCard> {
    let cards = place.counter.host().present_cards();
    let found = cards.into_iter().find(|card| card.selector() == id);
    found.unwrap()
}

fn verifies(place: &Place, id: &str, pin: &[u8]) -> bool {
    let verify = CardRequest::VerifyPin {
        value: SecretBytes::new(pin.to_vec()),
        reference: Reference::Pin,
    };
    let request = Request::card(id, verify);
    let owner = &mut place.visitor(OWNER);
    place
        .counter
        .serve(owner, request, None, &mut |_| {})
        .is_ok()
}

#[test]
fn card_is_the_one_that_was_named_whatever_its_name_means_once_the_person_has_answered() {
    let place = Arc::new(Place::new());
    let (named, other) = (place.card("work"), place.card("home"));
    let meanwhile = {
        let place = Arc::clone(&place);
        let (named, other) = (card(&place, &named), card(&place, &other));
        move || {
            let root = place.visitor(0);
            place.counter.rename_card(&root, &named, "old").unwrap();
            place.counter.rename_card(&root, &other, "work").unwrap();
        }
    };
    let person = Person {
        meanwhile: Mutex::new(Some(Box::new(meanwhile))),
    };
    assert!(place.counter.host().set_prompter(Arc::new(person)));
    let reference = Reference::Pin;
    let change = Request::card("work", CardRequest::ChangePinByAgent { reference });
    let owner = &mut place.visitor(OWNER);
    let changed = place.counter.serve(owner, change, None, &mut |_| {});
    assert!(matches!(changed, Ok(Reply::Done)), "{changed:?}");
    assert!(verifies(&place, &named, NEW_PIN));
    assert!(verifies(&place, &other, PIN), "the other card is untouched");
}

#[test]
fn grant_is_good_for_one_right_of_one_user_about_one_card() {
    let place = Place::new();
    let (one, two) = (place.card("one"), place.card("two"));
    let (one, two) = (card(&place, &one), card(&place, &two));
    let grant = Grant {
        right: Right::RenameCard,
        uid: OTHER,
        card: one.id,
        new_owner: None,
    };
    let rename = |grant, uid, card| {
        let visitor = place.visitor(uid).with_grant(Some(grant));
        place.counter.rename_card(&visitor, card, "renamed")
    };
    let kind = |result: Result<(), cardea_client::message::Failure>| result.unwrap_err().kind;
    assert_eq!(kind(rename(grant, OTHER, &two)), FailureKind::Denied);
    assert_eq!(kind(rename(grant, OWNER, &one)), FailureKind::Denied);
    let destroy = Grant {
        right: Right::DestroyCard,
        ..grant
    };
    assert_eq!(kind(rename(destroy, OTHER, &one)), FailureKind::Denied);
    let change = CardRequest::Destroy { owner_auth: None };
    let visitor = &mut place.visitor(OTHER).with_grant(Some(grant));
    let destroyed = place.counter.serve_card(visitor, &one, change, &mut |_| {});
    assert_eq!(destroyed.unwrap_err().kind, FailureKind::Denied);
    let about_none = Grant {
        card: None,
        ..grant
    };
    assert_eq!(kind(rename(about_none, OTHER, &one)), FailureKind::Denied);
    rename(grant, OTHER, &one).unwrap();
    assert_eq!(one.name(), "renamed");
}

#[test]
fn grant_to_make_a_card_is_good_for_one_owner() {
    let place = Place::new();
    let grant = Grant {
        right: Right::CreateCard,
        uid: OTHER,
        card: None,
        new_owner: Some(OWNER),
    };
    let order = |owner| {
        let pin = SecretBytes::new(PIN.to_vec());
        CreateCard {
            owner,
            ..CreateCard::new("new", NewContent::with_pin(pin))
        }
    };
    let create = |grant: Grant, uid, owner| {
        let visitor = place.visitor(uid).with_grant(Some(grant));
        let created = place
            .counter
            .create_card(&visitor, order(owner), false, &mut |_| {});
        created
            .map(|(card, _)| card.owner)
            .map_err(|failure| failure.kind)
    };
    let denied = Err(FailureKind::Denied);
    assert_eq!(create(grant, OTHER, None), denied, "the caller's own");
    assert_eq!(create(grant, OTHER, Some(OTHER)), denied);
    assert_eq!(create(grant, OTHER, Some(0)), denied);
    assert_eq!(create(grant, OWNER, Some(OWNER)), denied, "of another user");
    let about_none = Grant {
        new_owner: None,
        ..grant
    };
    assert_eq!(create(about_none, OTHER, Some(OWNER)), denied);
    let request = Request::Cards(CardsRequest::Create(Box::new(order(None))));
    let visitor = &mut place.visitor(OTHER).with_grant(Some(grant));
    let served = place.counter.serve(visitor, request, None, &mut |_| {});
    assert_eq!(served.unwrap_err().kind, FailureKind::Denied);
    assert!(place.counter.host().present_cards().is_empty());
    let own = Grant {
        new_owner: Some(OTHER),
        ..grant
    };
    assert_eq!(create(own, OTHER, None), Ok(Some(OTHER)));
    assert_eq!(create(grant, OTHER, Some(OWNER)), Ok(Some(OWNER)));
}

#[test]
fn card_without_a_puk_says_so_to_each_request_about_it() {
    let place = Place::new();
    let card = place.card("card");
    let secret = |text: &[u8]| SecretBytes::new(text.to_vec());
    let failure = |request| {
        let request = Request::card(card.as_str(), request);
        let visitor = &mut place.visitor(OWNER);
        let served = place.counter.serve(visitor, request, None, &mut |_| {});
        let failure = served.unwrap_err();
        (failure.kind, failure.message)
    };
    let none = (FailureKind::Invalid, "this card has no PUK".to_owned());
    let (puk, new) = (secret(b"12345678"), secret(b"87654321"));
    let verify = CardRequest::VerifyPin {
        reference: Reference::Puk,
        value: puk.clone(),
    };
    assert_eq!(failure(verify), none);
    let change = CardRequest::ChangePin {
        reference: Reference::Puk,
        old: puk.clone(),
        new: new.clone(),
    };
    assert_eq!(failure(change), none);
    let unblock = CardRequest::UnblockPin {
        by: Authority::Puk(puk),
        new,
    };
    assert_eq!(failure(unblock), none);
}
