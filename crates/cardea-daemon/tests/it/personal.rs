//! What the socket says to holders and administrators of cards.

use cardea_client::message::{
    AdminAnswer, CardRequest, CardsRequest, CreateCard, FailureKind, KeyAlgorithm, KeyClass,
    NewContent, Reference, Reply, Request,
};

use crate::support::{PIN, Place, administered, generation, on_card, secret};

#[test]
fn card_in_initialisation_state_spends_no_tries() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    let order = CreateCard::new("work", NewContent::Uninitialised { puk: true });
    assert!(matches!(
        client.call(&Request::Cards(CardsRequest::Create(Box::new(order)))),
        Reply::Card(_)
    ));
    for reference in [Reference::Pin, Reference::Puk] {
        let failure = client.failure(&on_card(CardRequest::VerifyPin {
            value: secret(PIN),
            reference,
        }));
        assert_eq!(failure.kind, FailureKind::Invalid, "{failure:?}");
        assert!(failure.message.contains("personalise"), "{failure:?}");
    }
    assert_eq!(
        client.kind(&generation(KeyAlgorithm::P256, KeyClass::Session)),
        FailureKind::Invalid,
        "no key either"
    );
    let shown = client.show("work");
    assert_eq!(shown.pin.unwrap().left, Some(5));
    assert_eq!(shown.puk.unwrap().left, Some(10));
}

#[test]
fn challenge_of_no_vault_and_card_without_administrator_are_told() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.call(&Request::Cards(CardsRequest::Create(Box::new(
        administered("work", None),
    ))));
    let failure = client.failure(&on_card(CardRequest::VerifyAdmin {
        answer: AdminAnswer {
            challenge: vec![0; 8],
            response: secret(&[0; 8]),
        },
    }));
    assert_eq!(failure.kind, FailureKind::AdminWrong, "{failure:?}");
    client.create("plain");
    let failure = client.failure(&Request::card("plain", CardRequest::AdminChallenge));
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert!(failure.message.contains("no administrator"), "{failure:?}");
}

#[test]
fn full_card_is_not_called_a_full_tpm() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("work");
    for _ in 0..30 {
        let reply = client.call(&generation(KeyAlgorithm::P256, KeyClass::Session));
        assert!(matches!(reply, Reply::Key(_)), "{reply:?}");
    }
    let failure = client.failure(&generation(KeyAlgorithm::P256, KeyClass::Session));
    assert_eq!(failure.kind, FailureKind::Full);
    assert!(failure.message.contains("delete a key"), "{failure:?}");
}
