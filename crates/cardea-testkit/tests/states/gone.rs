//! What is switched off is not lost, what is lost may come back, and a card without its administrator or PUK is a card.

use cardea_client::Client;
use cardea_client::message::{
    AdminAnswer, CardRequest, CardState, CardsRequest, CreateCard, FailureKind, NewContent, Page,
    Part, ReaderRequest, Reference, Reply, Request, TpmRequest,
};
use cardea_testkit::multiplexer::PowerEvent;
use cardea_testkit::process::wait_for;
use serde_json::Value;

use crate::{PIN, Place, over_the_reader, secret, verify_apdu};

const PUK: &[u8] = b"31415926";
const ADMIN_KEY: [u8; 24] = *b"0123456789abcdefFEDCBA98";

impl Place {
    /// TPM2_HierarchyControl: the owner hierarchy is off until the TPM restarts.
    fn switch_off(&self) {
        const PLATFORM: [u8; 4] = [0x40, 0, 0, 0x0C];
        const OWNER: [u8; 4] = [0x40, 0, 0, 0x01];
        let command = [
            &[0x80, 2, 0, 0, 0, 32, 0, 0, 0x01, 0x21][..],
            &PLATFORM,
            &[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0],
            &OWNER,
            &[0],
        ]
        .concat();
        let answer = self.tpm.transact(&command).unwrap();
        assert_eq!(answer[6..10], [0; 4], "HierarchyControl");
    }

    /// Waits until somebody who does nothing but look sees the state: nobody restarts the daemon.
    fn await_state(&self, state: CardState) {
        wait_for(&format!("{state:?}"), || {
            let Ok(Reply::Cards(Page { entries: cards, .. })) =
                self.ask(&Request::Cards(CardsRequest::List { from: None }))
            else {
                panic!("no list")
            };
            cards
                .iter()
                .any(|card| card.name == "card" && card.state == state)
        });
    }

    fn doctor(&self) -> Vec<Value> {
        let looked = self.daemon.cardea(&["doctor", "--json"]).text;
        let end = looked.rfind(']').unwrap();
        let findings: Value = serde_json::from_str(&looked[..=end]).unwrap();
        findings.as_array().unwrap().clone()
    }

    fn destroy(&self) -> Result<Reply, cardea_client::message::Failure> {
        self.ask(&Request::card(
            "card",
            CardRequest::Destroy { owner_auth: None },
        ))
    }

    /// A card with everything.
    fn create_whole(&self) {
        let content = NewContent::Personalised {
            pin: secret(PIN),
            puk: Some(secret(PUK)),
            admin_key: Some(secret(&ADMIN_KEY)),
            blank: false,
        };
        self.ask(&Request::Cards(CardsRequest::Create(Box::new(
            CreateCard::new("card", content),
        ))))
        .unwrap();
    }

    /// The handle of an index of the card.
    fn index(&self, role: &str) -> String {
        let Ok(Reply::Indices(Page {
            entries: indices, ..
        })) = self.ask(&Request::Tpm(TpmRequest::ListIndices { from: None }))
        else {
            panic!("no list")
        };
        let mut indices = indices.iter();
        let index = indices.find(|index| index.role.is_some_and(|known| known.word() == role));
        format!("0x{:08x}", index.unwrap().handle)
    }

    fn delete(&self, role: &str) -> String {
        let handle = self.index(role);
        let deleted = self.tpm.tpm2("tpm2_nvundefine", &["-C", "o", &handle]);
        assert!(deleted.success, "{}", deleted.text);
        handle
    }

    fn gone(&self) -> Vec<Part> {
        let Ok(Reply::Cards(Page { entries: cards, .. })) =
            self.ask(&Request::Cards(CardsRequest::List { from: None }))
        else {
            panic!("no list")
        };
        cards[0].gone.clone()
    }
}

#[test]
fn hierarchy_that_is_switched_off_costs_no_card_and_is_back_after_a_restart_of_the_tpm() {
    let mut place = Place::new();
    place.create("card").unwrap();
    let key = place.key();
    place.switch_off();
    let refused = place.sign(key).unwrap_err();
    assert_eq!(refused.kind, FailureKind::SwitchedOff, "{refused:?}");
    assert!(
        refused.message.contains("until the computer is restarted"),
        "{refused:?}"
    );
    assert_eq!(place.state().0, CardState::SwitchedOff);
    // Nothing advises to destroy it, and nothing destroys it.
    let findings = place.doctor();
    let found = |name: &str| findings.iter().any(|finding| finding["name"] == name);
    assert!(found("card-off") && found("tpm-off"), "{findings:?}");
    assert!(!Value::from(findings).to_string().contains("destroy"));
    assert_eq!(place.destroy().unwrap_err().kind, FailureKind::SwitchedOff);
    assert_eq!(
        place.create("second").unwrap_err().kind,
        FailureKind::SwitchedOff
    );
    let listed = place.daemon.cardea(&["card", "list"]);
    assert!(listed.text.contains("switched-off"), "{}", listed.text);
    // Nor does a daemon that starts meanwhile.
    place.daemon.restart();
    place.await_state(CardState::SwitchedOff);
    let refused = place.verify(PIN).unwrap_err();
    assert_eq!(refused.kind, FailureKind::SwitchedOff, "{refused:?}");

    place.tpm.power(PowerEvent::Reset);
    place.await_state(CardState::Ready);
    place.sign(key).unwrap();
    let audit = place.daemon.printed(&["audit", "--json"]);
    assert!(!audit.contains("card-lost"), "{audit}");
}

#[test]
fn switched_off_hierarchy_is_noticed_by_the_reader_too_and_use_finds_the_card_again() {
    let place = Place::new();
    place.create("card").unwrap();
    place.switch_off();
    // The wire has no words for it.
    assert_eq!(over_the_reader(&place, &[verify_apdu()]), [[0x6F, 0x00]]);
    wait_for("the keeper finds out why", || {
        let Ok(Reply::Overview(Page { entries: cards, .. })) =
            place.ask(&Request::Cards(CardsRequest::States { from: None }))
        else {
            panic!("no states")
        };
        cards[0].state == CardState::SwitchedOff
    });
    place.tpm.power(PowerEvent::Restart);
    // Whoever uses the card does not wait for the keeper's next round.
    wait_for("the card is asked again", || place.verify(PIN).is_ok());
    assert_eq!(place.state().0, CardState::Ready);
    wait_for("the card is in its reader again", || {
        let mut client = Client::connect(&place.daemon.socket()).unwrap();
        let limit = std::time::Duration::from_secs(10);
        match client
            .call(&Request::Reader(ReaderRequest::States), limit)
            .unwrap()
        {
            Reply::Slots { inserted, .. } => inserted.iter().any(|slot| *slot != 0),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn card_whose_tpm_comes_back_is_not_lost_for_good() {
    let mut place = Place::new();
    place.create("other").unwrap();
    let state = |place: &Place| place.folder.path().join("tpm/tpm2-00.permall");
    let exchange = |place: &mut Place, from: &str, to: &str| {
        place.chip.kill();
        let folder = place.folder.path().to_owned();
        std::fs::copy(state(place), folder.join(from)).unwrap();
        if !to.is_empty() {
            std::fs::copy(folder.join(to), state(place)).unwrap();
        }
        place.chip.restart();
    };
    exchange(&mut place, "before", "");
    wait_for("the TPM is there again", || place.create("card").is_ok());
    // The TPM of before the card was made, as another mainboard is one of another history.
    exchange(&mut place, "after", "before");
    place.await_state(CardState::Lost);
    let mut findings = place.doctor().into_iter();
    let finding = findings
        .find(|finding| finding["name"] == "card-lost")
        .unwrap();
    assert!(finding["command"].is_null(), "{finding}");
    for told in ["full power cycle", "cannot be undone", "firmware setup"] {
        assert!(finding.to_string().contains(told), "{finding}");
    }
    exchange(&mut place, "again", "after");
    place.await_state(CardState::Ready);
    let verified = place.ask(&Request::card(
        "card",
        CardRequest::VerifyPin {
            value: secret(PIN),
            reference: Reference::Pin,
        },
    ));
    verified.unwrap();
}

#[test]
fn card_without_its_puk_works_and_says_so_without_counting_a_wrong_puk() {
    for replaced in [false, true] {
        let place = Place::new();
        place.create_whole();
        let key = place.key();
        let handle = place.delete("puk");
        if replaced {
            let defined = place
                .tpm
                .tpm2("tpm2_nvdefine", &["-C", "o", "-s", "8", &handle]);
            assert!(defined.success, "{}", defined.text);
        }
        // While the daemon runs, and after it has started anew.
        let mut place = place;
        for restarted in [false, true] {
            if restarted {
                place.daemon.restart();
                place.await_state(CardState::Ready);
                assert_eq!(place.gone(), [Part::Puk]);
            }
            let refused = place
                .ask(&Request::card(
                    "card",
                    CardRequest::VerifyPin {
                        value: secret(PUK),
                        reference: Reference::Puk,
                    },
                ))
                .unwrap_err();
            assert_eq!(
                (refused.kind, refused.tries_left),
                (FailureKind::Failed, None),
                "{replaced} {restarted} {refused:?}"
            );
            assert!(refused.message.contains("index of its PUK"), "{refused:?}");
            assert_eq!(place.gone(), [Part::Puk]);
            assert_eq!(place.state().0, CardState::Ready);
            place.verify(PIN).unwrap();
            place.sign(key).unwrap();
        }
        let shown = place.daemon.printed(&["card", "show", "card", "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["gone"], serde_json::json!(["puk"]));
        assert_eq!(
            (&shown["puk"], &shown["state"]),
            (&Value::Null, &"ready".into())
        );
        for arguments in [
            &["card", "list"][..],
            &["card", "show", "card"],
            &["pin", "unblock", "card", "--puk-file", "/dev/null"],
            &["puk", "verify", "card", "--puk-file", "/dev/null"],
            &["doctor"],
        ] {
            let told = place.daemon.cardea(arguments).text;
            assert!(
                told.contains("the card's PUK is gone"),
                "{arguments:?}: {told}"
            );
        }
    }
}

#[test]
fn card_without_its_administrator_works_and_counts_no_wrong_answer() {
    for replaced in [false, true] {
        let place = Place::new();
        place.create_whole();
        let key = place.key();
        let challenge =
            |place: &Place| place.ask(&Request::card("card", CardRequest::AdminChallenge));
        let Ok(Reply::Challenge(given)) = challenge(&place) else {
            panic!("no challenge")
        };
        let handle = place.delete("adm");
        if replaced {
            let defined = place
                .tpm
                .tpm2("tpm2_nvdefine", &["-C", "o", "-s", "8", &handle]);
            assert!(defined.success, "{}", defined.text);
        }
        let answer = AdminAnswer {
            challenge: given,
            response: secret(&[0; 8]),
        };
        let refused = place
            .ask(&Request::card("card", CardRequest::VerifyAdmin { answer }))
            .unwrap_err();
        assert_eq!(refused.kind, FailureKind::Failed, "{refused:?}");
        assert!(
            refused.message.contains("index of its administrator"),
            "{refused:?}"
        );
        assert_eq!(place.gone(), [Part::Administrator]);
        assert_eq!(challenge(&place).unwrap_err().kind, FailureKind::Failed);
        let audit = place.daemon.printed(&["audit", "--json"]);
        assert!(!audit.contains("admin-failed"), "{audit}");
        // All else works, the PUK too.
        place.verify(PIN).unwrap();
        place.sign(key).unwrap();
        place
            .ask(&Request::card(
                "card",
                CardRequest::UnblockPin {
                    by: cardea_client::message::Authority::Puk(secret(PUK)),
                    new: secret(PIN),
                },
            ))
            .unwrap();
        let told = place.daemon.cardea(&["admin", "challenge", "card"]).text;
        assert!(told.contains("the card's administrator is gone"), "{told}");
    }
}
