//! Session keys over the software token: whose they are, how long they last, and that nothing of them is kept.

use cardea_card::token::{KeyAlgorithm, KeyClass, PrivateOperation, TokenErrorKind};
use cardea_card::{
    Card, CardError, Connection, Event, KeyUsage, NewKey, SessionKeyId, SessionKeyOwner,
};

use crate::{VERIFY, send, verified};

const OPERATION: PrivateOperation<'_> = PrivateOperation::SignEcdsa { digest: &[7; 32] };

fn make(
    card: &mut Card,
    connection: &Connection,
    owner: &SessionKeyOwner,
    class: KeyClass,
) -> Result<SessionKeyId, CardError> {
    let made = card.generate_session_key(connection, owner, KeyAlgorithm::P256, class);
    made.map(|(id, _)| id)
}

fn kind<T>(result: Result<T, CardError>) -> Option<TokenErrorKind> {
    match result {
        Err(CardError::Token(error)) => Some(error.kind()),
        _ => None,
    }
}

#[test]
fn session_key_signs_and_is_neither_in_the_record_nor_among_the_keys() {
    let (mut card, mut connection, _parts) = verified();
    let (before, revision) = (card.record().clone(), card.revision());
    let owner = SessionKeyOwner::default();
    card.take_events();
    let key = make(&mut card, &connection, &owner, KeyClass::Session).unwrap();
    let signature = card.use_key(&mut connection, key, OPERATION).unwrap();
    assert_eq!(signature.len(), 64);
    assert_eq!(
        card.take_events(),
        [Event::SessionKeyGenerated, Event::SessionKeyUsed]
    );
    assert!(card.keys().unwrap().is_empty());
    assert_eq!((card.record(), card.revision()), (&before, revision));
}

#[test]
fn session_key_needs_the_pin_to_be_made_and_used() {
    let (mut card, mut connection, _parts) = verified();
    let owner = SessionKeyOwner::default();
    let mut stranger = card.connect();
    let refused = make(&mut card, &stranger, &owner, KeyClass::Session);
    assert_eq!(kind(refused), Some(TokenErrorKind::NotAuthenticated));
    let key = make(&mut card, &connection, &owner, KeyClass::Session).unwrap();
    let refused = card.use_key(&mut stranger, key, OPERATION);
    assert_eq!(kind(refused), Some(TokenErrorKind::NotAuthenticated));
    // The key outlives the verification, and needs the next one.
    card.end_all();
    let refused = card.use_key(&mut connection, key, OPERATION);
    assert_eq!(kind(refused), Some(TokenErrorKind::NotAuthenticated));
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    assert!(card.use_key(&mut connection, key, OPERATION).is_ok());
}

#[test]
fn session_key_with_the_pin_every_time_signs_once_after_each() {
    let (mut card, mut connection, _parts) = verified();
    let owner = SessionKeyOwner::default();
    let key = make(&mut card, &connection, &owner, KeyClass::Always).unwrap();
    for _ in 0..2 {
        assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
        assert!(card.use_key(&mut connection, key, OPERATION).is_ok());
        let again = card.use_key(&mut connection, key, OPERATION);
        assert_eq!(kind(again), Some(TokenErrorKind::NotAuthenticated));
    }
}

#[test]
fn session_keys_end_with_their_program_and_no_others_do() {
    let (mut card, mut connection, _parts) = verified();
    let (one, other) = (SessionKeyOwner::default(), SessionKeyOwner::default());
    let first = make(&mut card, &connection, &one, KeyClass::Session).unwrap();
    let second = make(&mut card, &connection, &one, KeyClass::Session).unwrap();
    let foreign = make(&mut card, &connection, &other, KeyClass::Session).unwrap();
    assert!(!card.delete_session_key(&other, first), "another's");
    assert!(card.delete_session_key(&one, first));
    assert!(!card.delete_session_key(&one, first), "twice");
    let gone = card.use_key(&mut connection, first, OPERATION);
    assert_eq!(kind(gone), Some(TokenErrorKind::NotConfigured));
    assert!(card.use_key(&mut connection, second, OPERATION).is_ok());
    drop(one);
    let gone = card.use_key(&mut connection, second, OPERATION);
    assert_eq!(kind(gone), Some(TokenErrorKind::NotConfigured));
    assert!(card.use_key(&mut connection, foreign, OPERATION).is_ok());
    card.delete_session_keys(&other);
    assert!(!card.has_session_key(foreign));
}

#[test]
fn one_program_cannot_take_all_session_keys_and_all_together_have_a_limit() {
    let (mut card, connection, _parts) = verified();
    let owners: [SessionKeyOwner; 3] = Default::default();
    let mut made = [0; 3];
    for (owner, made) in owners.iter().zip(&mut made) {
        while make(&mut card, &connection, owner, KeyClass::Session).is_ok() {
            *made += 1;
        }
        let full = make(&mut card, &connection, owner, KeyClass::Session);
        assert_eq!(kind(full), Some(TokenErrorKind::Full));
    }
    assert_eq!(made, [32, 32, 0]);
    // The card's own keys have their own room, and a program that ends makes room.
    let [_first, second, third] = owners;
    drop(second);
    assert!(make(&mut card, &connection, &third, KeyClass::Session).is_ok());
}

#[test]
fn kept_session_key_is_one_of_the_cards_and_outlives_its_program() {
    let (mut card, mut connection, _parts) = verified();
    let owner = SessionKeyOwner::default();
    let key = make(&mut card, &connection, &owner, KeyClass::Session).unwrap();
    let new = NewKey {
        label: Some("kept".into()),
        usage: KeyUsage::Exchange,
        class: KeyClass::Session,
        id: None,
    };
    let mut stranger = card.connect();
    let refused = card.keep_session_key(&mut stranger, key, &new);
    assert_eq!(kind(refused), Some(TokenErrorKind::NotAuthenticated));
    card.take_events();
    let number = card.keep_session_key(&mut connection, key, &new).unwrap();
    assert_eq!(card.take_events(), [Event::KeyGenerated(number)]);
    assert_eq!(card.key_label(number).as_deref(), Some("kept"));
    drop(owner);
    assert!(card.use_key(&mut connection, number, OPERATION).is_ok());
    let gone = card.keep_session_key(&mut connection, key, &new);
    assert_eq!(kind(gone), Some(TokenErrorKind::NotConfigured));
}
