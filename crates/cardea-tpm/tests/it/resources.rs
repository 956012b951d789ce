//! More keys and cards than slots; a TPM that goes away.

use cardea_card::token::{
    KeyAlgorithm, KeyClass, KeyStore, PinReference, PrivateOperation, TokenErrorKind,
};
use cardea_testkit::bare::BarePins as _;

use crate::support::{Kind, PIN, Swtpm, make, pin, token};

const SIGN: PrivateOperation<'_> = PrivateOperation::SignEcdsa { digest: &[1; 32] };

#[test]
fn thirty_keys_sign_in_turn_on_three_slots() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    assert_eq!(service.status().unwrap().transient_slots, 3);
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let keys: Vec<_> = (0x81..=0x9E)
        .map(|reference| {
            token
                .generate(reference, KeyAlgorithm::P256, KeyClass::Session)
                .unwrap()
        })
        .collect();
    assert_eq!(keys.len(), 30);
    for _ in 0..2 {
        for key in &keys {
            token.operate(key, SIGN).unwrap();
        }
    }
}

#[test]
fn ten_verified_cards_sign_in_turn_on_three_sessions() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut cards: Vec<_> = (0..10)
        .map(|_| {
            let card = make(&service, Kind::Plain);
            let mut token = token(&service, &card);
            token.verify(PinReference::Pin, &pin(PIN)).unwrap();
            let key = token
                .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
                .unwrap();
            (token, key)
        })
        .collect();
    for _ in 0..3 {
        for (token, key) in &mut cards {
            token.operate(key, SIGN).unwrap();
            assert_eq!(token.status(PinReference::Pin).unwrap().left, 5);
        }
    }
}

#[test]
fn a_pin_typed_for_one_operation_is_not_lost_to_another_card() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut cards: Vec<_> = (0..6)
        .map(|_| {
            let card = make(&service, Kind::Plain);
            let mut token = token(&service, &card);
            let key = token
                .generate(0x81, KeyAlgorithm::P256, KeyClass::Always)
                .unwrap();
            (token, key)
        })
        .collect();
    for _ in 0..2 {
        for (token, _) in &mut cards {
            token.verify(PinReference::Pin, &pin(PIN)).unwrap();
        }
        for (token, key) in &mut cards {
            token.operate(key, SIGN).unwrap();
            assert_eq!(
                token.operate(key, SIGN).unwrap_err().kind(),
                TokenErrorKind::NotAuthenticated
            );
        }
    }
    // What is dropped is dropped in the TPM's storage as well as in its slots.
    for (token, _) in &mut cards {
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    }
    for (token, key) in &mut cards {
        token.disarm();
        assert_eq!(
            token.operate(key, SIGN).unwrap_err().kind(),
            TokenErrorKind::NotAuthenticated
        );
    }
}

#[test]
fn power_cut_ends_the_verification_and_loses_nothing_else() {
    let mut tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Admin);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    token.operate(&key, SIGN).unwrap();
    tpm.power_cycle();
    assert_eq!(
        token.operate(&key, SIGN).unwrap_err().kind(),
        TokenErrorKind::NotAuthenticated
    );
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    token.operate(&key, SIGN).unwrap();
}

#[test]
fn absent_tpm_is_told_at_once_and_noticed_when_it_is_back() {
    let mut tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    tpm.stop();
    let begin = std::time::Instant::now();
    for _ in 0..3 {
        let error = token.operate(&key, SIGN).unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Unavailable);
        let error = token.verify(PinReference::Pin, &pin(PIN)).unwrap_err();
        assert!(error.to_string().contains("cannot be reached"), "{error}");
        assert!(service.status().is_err());
        token.logout();
    }
    assert!(begin.elapsed() < std::time::Duration::from_secs(2));
    tpm.resume();
    assert_eq!(token.status(PinReference::Pin).unwrap().left, 5);
    assert_eq!(
        token.operate(&key, SIGN).unwrap_err().kind(),
        TokenErrorKind::NotAuthenticated
    );
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    token.operate(&key, SIGN).unwrap();
}

#[test]
fn verification_ends_with_the_session_limit_and_a_session_older_than_that_can_be_verified() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut card = make(&service, Kind::Plain);
    card.settings.session_limit = 1;
    let mut token = token(&service, &card);
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    // Twice: the second time the session is older than the limit already.
    for _ in 0..2 {
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();
        token.operate(&key, SIGN).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let error = loop {
            match token.operate(&key, SIGN) {
                Ok(_) => assert!(std::time::Instant::now() < deadline, "it never ends"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), TokenErrorKind::NotAuthenticated);
    }
    assert_eq!(token.status(PinReference::Pin).unwrap().left, 5);
}

#[test]
fn killed_service_leaves_no_slot_taken() {
    let tpm = Swtpm::start();
    let card = {
        let service = tpm.service();
        let card = make(&service, Kind::Plain);
        // StartAuthSession, unsalted HMAC: sessions that nobody will flush.
        let mut start = vec![
            0x80, 0x01, 0, 0, 0, 43, 0, 0, 0x01, 0x76, 0x40, 0, 0, 7, 0x40, 0, 0, 7,
        ];
        start.extend_from_slice(&[0, 16]);
        start.extend_from_slice(&[5; 16]);
        start.extend_from_slice(&[0, 0, 0, 0, 0x10, 0, 0x0B]);
        let codes: Vec<u8> = (0..3)
            .map(|_| service.raw(start.clone()).unwrap().0[9])
            .collect();
        assert_eq!(codes, [0, 0, 3], "the last session finds no slot (0x903)");
        card
    };
    let service = tpm.service();
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    token.operate(&key, SIGN).unwrap();
}
