//! Cards whose counters are objects, on TPMs without PIN indices: what they promise, and what the TPM's lockout and the
//! card's file do to them.

use std::fs;

use cardea_client::message::{
    Authority, CardDetails, CardRequest, CardsRequest, CounterMode, CreateCard, Failure,
    FailureKind, NewContent, Reference, Reply, Request, TpmRequest,
};
use cardea_testkit::multiplexer::{Part, Profile};
use cardea_testkit::process::wait_for;

use crate::{PIN, Place, secret};

const PUK: &[u8] = b"31415926";

impl Place {
    /// With a TPM that plays a part.
    fn playing(profile: &str) -> Self {
        let mut place = Self::new();
        place.daemon.kill();
        place.tpm.play(Part::new(Profile::named(profile)));
        place.daemon.restart();
        place
    }

    fn create_in_object(&self, name: &str) -> Result<Reply, Failure> {
        let content = NewContent::Personalised {
            pin: secret(PIN),
            puk: Some(secret(PUK)),
            admin_key: None,
            blank: false,
        };
        let order = CreateCard {
            counter_mode: Some(CounterMode::Object),
            ..CreateCard::new(name, content)
        };
        self.ask(&Request::Cards(CardsRequest::Create(Box::new(order))))
    }

    fn details(&self) -> CardDetails {
        match self.ask(&Request::card("card", CardRequest::Show)) {
            Ok(Reply::Card(details)) => *details,
            other => panic!("{other:?}"),
        }
    }

    fn failures(&self) -> u32 {
        match self.ask(&Request::Tpm(TpmRequest::Status)) {
            Ok(Reply::Tpm(status)) => status.lockout_count,
            other => panic!("{other:?}"),
        }
    }

    fn unblock(&self, puk: &[u8], new: &[u8]) -> Result<Reply, Failure> {
        self.ask(&Request::card(
            "card",
            CardRequest::UnblockPin {
                by: Authority::Puk(secret(puk)),
                new: secret(new),
            },
        ))
    }

    fn change_pin(&self, old: &[u8], new: &[u8]) -> Result<Reply, Failure> {
        self.ask(&Request::card(
            "card",
            CardRequest::ChangePin {
                old: secret(old),
                new: secret(new),
                reference: Reference::Pin,
            },
        ))
    }

    fn card_file(&self) -> std::path::PathBuf {
        let cards = self.daemon.state().join("cards");
        let files = fs::read_dir(cards).unwrap();
        let mut paths = files.map(|entry| entry.unwrap().path());
        paths
            .find(|path| path.extension().is_some_and(|it| it == "card"))
            .unwrap()
    }
}

#[test]
fn tpm_without_counters_is_told_and_the_card_is_made_in_objects_on_request_only() {
    let place = Place::playing("slb9665");
    let refused = place.create("card").unwrap_err();
    assert_eq!(refused.kind, FailureKind::Full, "{refused:?}");
    for word in ["no counters for PINs", "--counter-mode object"] {
        assert!(refused.message.contains(word), "{}", refused.message);
    }
    place.create_in_object("card").unwrap();
    assert_eq!(place.details().counter_mode, Some(CounterMode::Object));
    let key = place.key();
    place.sign(key).unwrap();
    let told = place.daemon.printed(&["card", "show", "card"]);
    assert!(told.contains("the TPM's lockout"), "{told}");
}

#[test]
fn pin_is_blocked_by_the_cards_own_count_and_never_by_the_lockout() {
    let mut place = Place::playing("slb9665");
    place.create_in_object("card").unwrap();
    let key = place.key();
    for left in [4, 3] {
        let wrong = place.verify(b"000000").unwrap_err();
        assert_eq!(
            (wrong.kind, wrong.tries_left),
            (FailureKind::PinWrong, Some(left))
        );
    }
    // The count is in the file before the TPM is asked.
    place.daemon.kill();
    place.daemon.restart();
    wait_for("the card", || place.details().pin.is_some());
    for left in [2, 1] {
        let wrong = place.verify(b"000000").unwrap_err();
        assert_eq!(
            (wrong.kind, wrong.tries_left),
            (FailureKind::PinWrong, Some(left))
        );
    }
    let last = place.verify(b"000000").unwrap_err();
    assert_eq!(
        (last.kind, last.tries_left),
        (FailureKind::Blocked, Some(0))
    );
    let refused = place.verify(PIN).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Blocked, "{refused:?}");
    assert_eq!(place.failures(), 5, "of 32");

    let wrong = place.unblock(b"00000000", PIN).unwrap_err();
    assert_eq!(
        (wrong.kind, wrong.tries_left),
        (FailureKind::PinWrong, Some(9))
    );
    place.unblock(PUK, b"161803").unwrap();
    assert_eq!(place.verify(PIN).unwrap_err().tries_left, Some(4));
    place.verify(b"161803").unwrap();
    place.change_pin(b"161803", PIN).unwrap();
    place.sign(key).unwrap();
    place.daemon.restart();
    wait_for("the card", || place.verify(PIN).is_ok());
    place.sign(key).unwrap();
}

#[test]
fn cards_stay_away_from_the_lockout_and_say_how_long() {
    let place = Place::playing("pluton");
    place.create_in_object("card").unwrap();
    let wrong = place.verify(b"000000").unwrap_err();
    assert_eq!(
        (wrong.kind, wrong.tries_left),
        (FailureKind::PinWrong, Some(4))
    );
    for pin in [PIN, b"000000"] {
        let refused = place.verify(pin).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Lockout, "{refused:?}");
        for word in ["at most 1000 s", "near its lockout"] {
            assert!(refused.message.contains(word), "{}", refused.message);
        }
    }
    assert_eq!(place.failures(), 1);
    assert_eq!(
        place.details().pin.map(|tries| tries.left),
        Some(4),
        "nothing was compared"
    );
    assert!(place.daemon.cardea(&["tpm", "reset-lockout"]).success);
    place.verify(PIN).unwrap();
}

/// What object mode cannot promise, and says.
#[test]
fn older_file_brings_the_older_pin_back() {
    let mut place = Place::playing("slb9665");
    place.create_in_object("card").unwrap();
    let path = place.card_file();
    let older = fs::read(&path).unwrap();
    place.change_pin(PIN, b"161803").unwrap();
    assert_eq!(place.verify(PIN).unwrap_err().kind, FailureKind::PinWrong);
    place.daemon.kill();
    fs::write(&path, older).unwrap();
    place.daemon.restart();
    wait_for("the card", || place.verify(PIN).is_ok());
}

#[test]
fn destroyed_card_leaves_nothing_and_ten_have_room() {
    let place = Place::playing("ptt-303");
    for number in 0..10 {
        place.create_in_object(&format!("card {number}")).unwrap();
    }
    for number in 0..10 {
        let destroy = CardRequest::Destroy { owner_auth: None };
        place
            .ask(&Request::card(format!("card {number}"), destroy))
            .unwrap();
    }
    let files = fs::read_dir(place.daemon.state().join("cards")).unwrap();
    assert_eq!(files.count(), 0);
}
