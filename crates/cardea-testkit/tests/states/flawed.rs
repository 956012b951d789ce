//! Cards that were made before it was known that their TPM sets counts back: used on, counted in their files, and told.

use cardea_card::record::CardRecord;
use cardea_client::message::{
    Authority, CardRequest, CardState, CardsRequest, CounterCheck, CounterMode, CreateCard,
    Failure, FailureKind, NewContent, Reference, Reply, Request,
};
use cardea_testkit::multiplexer::{Flaw, KnownCounter};
use cardea_testkit::process::wait_for;

use crate::{PIN, Place, secret};

const PUK: &[u8] = b"31415926";
const OTHER: &[u8] = b"161803";
const NEW: &[u8] = b"141421";
const NV_READ: u32 = 0x14E;
const OPEN: [&str; 4] = ["P6", "P7", "A1", "U6"];

impl Place {
    fn made_with_puk() -> Self {
        let place = Self::new();
        let content = NewContent::Personalised {
            pin: secret(PIN),
            puk: Some(secret(PUK)),
            admin_key: None,
            blank: false,
        };
        let order = CreateCard::new("card", content);
        let request = Request::Cards(CardsRequest::Create(Box::new(order)));
        place.ask(&request).unwrap();
        place
    }

    /// From now on reading a counter gives all tries back.
    fn set_counts_back(&self, record: &CardRecord) {
        let known = record
            .tpm
            .indices
            .iter()
            .zip([PIN, PUK])
            .map(|(index, value)| {
                let value = cardea_tpm::auth::auth_value(&record.tpm.salt, index.role, value);
                KnownCounter {
                    index: index.handle,
                    value: value.to_vec(),
                    limit: index.limit,
                }
            });
        let flaw = Flaw::forgetful_counters(known.collect());
        self.tpm.emulate(Some(flaw));
    }

    fn open_approvals(&self) -> Vec<String> {
        let approvals = self.record().tpm.approvals.into_iter();
        let ids = approvals.map(|approval| approval.id);
        ids.filter(|id| OPEN.contains(&id.as_str())).collect()
    }

    fn set_pin_by_puk(&self, puk: &[u8], new: &[u8]) -> Result<Reply, Failure> {
        self.ask(&Request::card(
            "card",
            CardRequest::UnblockPin {
                by: Authority::Puk(secret(puk)),
                new: secret(new),
            },
        ))
    }

    /// Whether a counter of the card was read.
    fn was_read(&self, record: &CardRecord) -> bool {
        let exchanges = self.tpm.exchanges();
        exchanges.iter().any(|one| {
            one.code() == NV_READ
                && record.tpm.indices.iter().any(|index| {
                    let handle = index.handle.to_be_bytes();
                    one.command.get(14..18) == Some(&handle[..])
                })
        })
    }
}

#[test]
fn card_is_counted_in_its_file_from_the_start_at_which_the_flaw_is_found() {
    let mut place = Place::made_with_puk();
    let key = place.key();
    let made = place.record();
    assert_eq!(place.open_approvals().len(), 3);
    place.daemon.kill();
    std::fs::remove_file(place.examination()).unwrap();
    place.set_counts_back(&made);
    place.tpm.forget_exchanges();
    place.daemon.restart();
    wait_for("the card", || place.verify(PIN).is_ok());
    place.sign(key).unwrap();
    assert_eq!(place.open_approvals(), [""; 0]);
    assert_eq!(place.status().counters, CounterCheck::Resets);
    assert_eq!(
        (place.audited("tpm-unsafe"), place.audited("tpm-examined")),
        (1, 2)
    );

    // Everywhere that the card is listed.
    assert!(place.shown().summary.counted_here);
    for arguments in [
        &["card", "list"][..],
        &["card", "show", "card"],
        &["doctor"],
    ] {
        let told = place.daemon.cardea(arguments).text;
        for words in ["without limit", "create a new card"] {
            assert!(told.contains(words), "{arguments:?}: {told}");
        }
    }
    let listed = place.daemon.printed(&["card", "list", "--json"]);
    assert!(listed.contains("\"counted_here\": true"), "{listed}");
    let findings = place.daemon.cardea(&["doctor", "--json"]).text;
    assert!(findings.contains("\"card-counted\""), "{findings}");

    // Tries are spent over restarts, whatever the TPM makes of its own count.
    for left in [4, 3] {
        let wrong = place.verify(OTHER).unwrap_err();
        assert_eq!(
            (wrong.kind, wrong.tries_left),
            (FailureKind::PinWrong, Some(left))
        );
    }
    place.daemon.kill();
    place.daemon.restart();
    wait_for("the card", || place.shown().pin.is_some());
    assert_eq!(place.shown().pin.and_then(|tries| tries.left), Some(3));
    for left in [2, 1, 0] {
        assert_eq!(place.verify(OTHER).unwrap_err().tries_left, Some(left));
    }
    assert_eq!(place.verify(PIN).unwrap_err().kind, FailureKind::Blocked);
    assert_eq!(place.state().0, CardState::Blocked);
    assert_eq!(
        place
            .set_pin_by_puk(b"00000000", OTHER)
            .unwrap_err()
            .tries_left,
        Some(9)
    );
    place.set_pin_by_puk(PUK, NEW).unwrap();
    assert_eq!(place.shown().pin.and_then(|tries| tries.left), Some(5));
    place.verify(NEW).unwrap();
    assert!(!place.was_read(&made), "a counter was read");

    // It stays so: what was deleted cannot be made again.
    place.daemon.kill();
    place.tpm.emulate(None);
    std::fs::remove_file(place.examination()).unwrap();
    place.daemon.restart();
    wait_for("the card", || place.verify(NEW).is_ok());
    assert_eq!(place.status().counters, CounterCheck::Good);
    assert!(place.shown().summary.counted_here);
    assert!(
        place
            .daemon
            .cardea(&["card", "destroy", "--yes", "card"])
            .success
    );
}

#[test]
fn card_in_use_is_closed_when_a_wrong_pin_shows_that_it_does_not_count() {
    let place = Place::made_with_puk();
    place.verify(PIN).unwrap();
    place.set_counts_back(&place.record());
    let refused = place.verify(OTHER).unwrap_err();
    assert_eq!(refused.kind, FailureKind::UnsafeTpm, "{refused:?}");
    wait_for("the card", || place.verify(PIN).is_ok());
    assert_eq!(place.open_approvals(), [""; 0]);
    assert_eq!(place.status().counters, CounterCheck::Resets);
    assert_eq!(
        place.verify(OTHER).unwrap_err().tries_left,
        Some(4),
        "counted in the file"
    );
    let change = CardRequest::ChangePin {
        old: secret(PIN),
        new: secret(OTHER),
        reference: Reference::Pin,
    };
    place.ask(&Request::card("card", change)).unwrap();
    place.verify(OTHER).unwrap();
    assert_eq!(
        (place.audited("tpm-unsafe"), place.audited("card-lost")),
        (1, 0)
    );
}

#[test]
fn new_card_beside_one_that_is_counted_here_is_read_by_the_owner() {
    let mut place = Place::new();
    place.create("card").unwrap();
    place.daemon.kill();
    std::fs::remove_file(place.examination()).unwrap();
    place
        .tpm
        .emulate(Some(Flaw::forgetful_counters(Vec::new())));
    place.daemon.restart();
    wait_for("the card", || place.verify(PIN).is_ok());
    for arguments in [&["tpm", "status"][..], &["doctor"]] {
        let told = place.daemon.cardea(arguments).text;
        assert!(told.contains("owner can read"), "{told}");
    }
    let made = |name: &str| match place.create(name) {
        Ok(Reply::Card(details)) => *details,
        other => panic!("{other:?}"),
    };
    let taken = place.status().cards.unwrap();
    assert_eq!(taken.mode, Some(CounterMode::NvOwner));
    assert!(taken.reason.contains("sets the count"), "{taken:?}");
    let second = made("second");
    assert_eq!(second.counter_mode, Some(CounterMode::NvOwner));
    assert_eq!(second.summary.state, CardState::Ready);
    assert!(!second.summary.counted_here);
    assert_eq!(second.pin.and_then(|tries| tries.left), Some(5));
    assert_eq!(place.audited("tpm-unsafe"), 1);
    // What is kept says it again.
    place.daemon.kill();
    place.daemon.restart();
    wait_for("the card", || place.verify(PIN).is_ok());
    let second = place.daemon.printed(&["card", "show", "second"]);
    assert!(
        second.contains("nv-owner") && second.contains("ready"),
        "{second}"
    );
    // A chip that is mended without another firmware shows it when a card is made.
    place.daemon.kill();
    place.tpm.emulate(None);
    place.daemon.restart();
    wait_for("the card", || place.verify(PIN).is_ok());
    assert_eq!(place.status().counters, CounterCheck::Resets);
    let Ok(Reply::Card(third)) = place.create("third") else {
        panic!("no card is made")
    };
    assert_eq!(third.counter_mode, Some(CounterMode::Nv));
    assert!(!third.summary.counted_here);
    assert_eq!(place.status().counters, CounterCheck::Good);
    // The others keep their form.
    let second = place.daemon.printed(&["card", "show", "second"]);
    assert!(second.contains("nv-owner"), "{second}");
    assert!(place.shown().summary.counted_here);
    assert_eq!(place.audited("tpm-unsafe"), 1);
}
