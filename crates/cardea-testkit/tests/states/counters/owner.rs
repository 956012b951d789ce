//! Cards whose counts the TPM's owner reads, where the owner's authorisation is empty, set and known.

use cardea_client::message::{
    Authority, CardDetails, CardRequest, CardState, CardsRequest, CounterMode, CreateCard, Failure,
    FailureKind, NewContent, Reply, Request,
};
use cardea_testkit::multiplexer::{Fault, Flaw, Trigger};
use cardea_testkit::process::wait_for;

use super::{PIN, Place, secret};

const PUK: &[u8] = b"31415926";
const OWNER: &[u8] = b"owner";
const NV_DEFINE_SPACE: u32 = 0x12A;
/// TPM_RC_NV_SPACE.
const NO_ROOM: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0x01, 0x4B];

impl Place {
    /// With a TPM that sets counts back, and no card.
    fn resetting() -> Self {
        let mut place = Self::new();
        place.daemon.kill();
        place
            .tpm
            .emulate(Some(Flaw::forgetful_counters(Vec::new())));
        place.daemon.restart();
        place
    }

    fn create_with_puk(&self) -> Result<CardDetails, Failure> {
        let content = NewContent::Personalised {
            pin: secret(PIN),
            puk: Some(secret(PUK)),
            admin_key: None,
            blank: false,
        };
        let order = CreateCard::new("card", content);
        match self.ask(&Request::Cards(CardsRequest::Create(Box::new(order))))? {
            Reply::Card(details) => Ok(*details),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn shown(&self) -> CardDetails {
        match self.ask(&Request::card("card", CardRequest::Show)) {
            Ok(Reply::Card(details)) => *details,
            other => panic!("{other:?}"),
        }
    }

    fn left(&self) -> Option<u32> {
        self.shown().pin.and_then(|tries| tries.left)
    }

    fn wrong(&self) -> (FailureKind, Option<u32>) {
        let failure = self.verify(b"000000").unwrap_err();
        (failure.kind, failure.tries_left)
    }

    fn unblock_by_puk(&self, new: &[u8]) {
        let by = Authority::Puk(secret(PUK));
        let new = secret(new);
        let unblock = CardRequest::UnblockPin { by, new };
        self.ask(&Request::card("card", unblock)).unwrap();
    }
}

#[test]
fn card_is_made_by_default_and_says_what_it_cannot_tell() {
    let place = Place::resetting();
    let made = place.create_with_puk().unwrap();
    assert_eq!(made.counter_mode, Some(CounterMode::NvOwner));
    let warned = made.warnings.concat();
    assert!(warned.contains("owner authorisation"), "{warned}");
    let shown = place.daemon.printed(&["card", "show", "card"]);
    assert!(shown.contains("nv-owner"), "{shown}");
    let shown = place.daemon.printed(&["card", "show", "card", "--json"]);
    assert!(
        shown.contains("\"counter_mode\": \"nv-owner\"")
            || shown.contains("\"counter_mode\":\"nv-owner\""),
        "{shown}"
    );
    // With an empty authorisation nothing is hidden.
    assert_eq!(place.wrong(), (FailureKind::PinWrong, Some(4)));
    assert_eq!(place.left(), Some(4));
    let key = place.key();
    place.sign(key).unwrap();
    assert_eq!(place.left(), Some(5));
}

#[test]
fn count_is_hidden_while_the_owners_authorisation_is_set_and_the_card_works() {
    let mut place = Place::resetting();
    place.create_with_puk().unwrap();
    let key = place.key();
    assert_eq!(place.wrong(), (FailureKind::PinWrong, Some(4)));
    place.set_owner(b"", OWNER);
    place.daemon.restart();
    wait_for("the card", || {
        place.state().0 == CardState::Ready && place.verify(PIN).is_ok()
    });
    place.sign(key).unwrap();
    let shown = place.shown();
    // It has them, and nobody can say how many tries.
    for (tries, limit) in [(shown.pin, 5), (shown.puk, 10)] {
        let tries = tries.unwrap();
        assert_eq!((tries.left, tries.limit), (None, limit));
    }
    let warned = shown.warnings.concat();
    assert!(warned.contains("owner-auth"), "{warned}");
    for _ in 0..5 {
        let failure = place.verify(b"000000").unwrap_err();
        assert_eq!(failure.kind, FailureKind::PinWrong);
        assert_eq!(failure.tries_left, None);
        assert!(failure.message.contains("not known"), "{failure:?}");
    }
    // All that is left is what the TPM answers.
    for pin in [PIN, b"000000"] {
        assert_eq!(place.verify(pin).unwrap_err().kind, FailureKind::Blocked);
    }
    assert_eq!(place.left(), Some(0));
    assert_eq!(place.state().0, CardState::Blocked);
    place.unblock_by_puk(b"161803");
    assert_eq!(place.left(), None);
    assert_eq!(place.state().0, CardState::Ready);
    assert_eq!(place.wrong(), (FailureKind::PinWrong, None));
    // Whoever removes the authorisation has the count shown again.
    place.set_owner(OWNER, b"");
    assert_eq!(place.left(), Some(4));
    place.verify(b"161803").unwrap();
    place
        .ask(&Request::card(
            "card",
            CardRequest::Destroy { owner_auth: None },
        ))
        .unwrap();
    assert_eq!(place.status().card_indices, 0);
}

#[test]
fn memory_that_is_full_while_such_a_card_is_made_leaves_nothing() {
    let place = Place::resetting();
    // The trial's index, when the card is prepared and for what is kept of it, and the PIN's have room; the PUK's has not.
    let fault = Fault::Replace(NO_ROOM.to_vec());
    place
        .tpm
        .inject(Trigger::command(NV_DEFINE_SPACE).after(3), fault);
    let refused = place.create_with_puk().unwrap_err();
    assert_eq!(refused.kind, FailureKind::Full, "{refused:?}");
    assert_eq!(place.status().card_indices, 0);
    place.create_with_puk().unwrap();
    assert_eq!(place.status().card_indices, 2);
}
