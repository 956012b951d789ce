//! A change of PIN or PUK whose answer is lost: nobody is told that it is done, or that it is not.

use cardea_client::message::{
    Authority, CardRequest, CardsRequest, CreateCard, FailureKind, NewContent, Reference, Reply,
    Request,
};
use cardea_testkit::multiplexer::{Fault, Trigger};

use crate::{PIN, Place, over_the_reader, secret};

const NV_CHANGE_AUTH: u32 = 0x13B;
const NEW_PIN: &[u8] = b"314159";
const PUK: &[u8] = b"31415926";
const NEW_PUK: &[u8] = b"27182818";

/// TPM_RC_POLICY_FAIL of the first session: an answer without HMAC, which anybody on the way can give.
const REFUSED: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0x09, 0x9D];

/// How the answer to the next change is lost, and whether the TPM has made the change.
fn losses() -> [(Fault, bool); 4] {
    [
        (Fault::DropBefore, false),
        (Fault::DropAfter, true),
        (Fault::Replace(REFUSED.to_vec()), false),
        (Fault::Change(Box::new(|_| REFUSED.to_vec())), true),
    ]
}

impl Place {
    fn lose(&self, fault: Fault) {
        self.tpm.inject(Trigger::command(NV_CHANGE_AUTH), fault);
    }

    fn change(&self, reference: Reference, old: &[u8], new: &[u8]) -> FailureKind {
        let changed = self.ask(&Request::card(
            "card",
            CardRequest::ChangePin {
                old: secret(old),
                new: secret(new),
                reference,
            },
        ));
        let failure = changed.unwrap_err();
        let word = match reference {
            Reference::Pin => "old or the new PIN",
            Reference::Puk => "old or the new PUK",
        };
        assert!(
            failure.message.contains(word) && failure.message.contains("try the new one once"),
            "{failure:?}"
        );
        failure.kind
    }

    /// Whether the card takes this value; a wrong one is one.
    fn takes(&self, reference: Reference, value: &[u8]) -> bool {
        let verified = self.ask(&Request::card(
            "card",
            CardRequest::VerifyPin {
                value: secret(value),
                reference,
            },
        ));
        match verified {
            Ok(Reply::Done) => true,
            Err(failure) if failure.kind == FailureKind::PinWrong => false,
            other => panic!("{other:?}"),
        }
    }

    fn with_puk() -> Self {
        let place = Self::new();
        let content = NewContent::Personalised {
            pin: secret(PIN),
            puk: Some(secret(PUK)),
            admin_key: None,
            blank: false,
        };
        place
            .ask(&Request::Cards(CardsRequest::Create(Box::new(
                CreateCard::new("card", content),
            ))))
            .unwrap();
        place
    }
}

#[test]
fn interrupted_change_says_that_it_is_not_known_which_value_holds() {
    let place = Place::with_puk();
    for (reference, old, new) in [
        (Reference::Pin, PIN, NEW_PIN),
        (Reference::Puk, PUK, NEW_PUK),
    ] {
        let (mut old, mut new) = (old, new);
        for (fault, made) in losses() {
            place.lose(fault);
            let kind = place.change(reference, old, new);
            assert_eq!(kind, FailureKind::ChangeUnknown);
            // As the words say.
            assert_eq!(place.takes(reference, new), made);
            assert_eq!(place.takes(reference, old), !made);
            if made {
                std::mem::swap(&mut old, &mut new);
            }
            assert!(place.takes(reference, old));
        }
    }
}

#[test]
fn interrupted_unblocking_says_the_same() {
    for (fault, made) in losses() {
        let place = Place::with_puk();
        place.lose(fault);
        let unblocked = place.ask(&Request::card(
            "card",
            CardRequest::UnblockPin {
                by: Authority::Puk(secret(PUK)),
                new: secret(NEW_PIN),
            },
        ));
        let failure = unblocked.unwrap_err();
        assert_eq!(failure.kind, FailureKind::ChangeUnknown, "{failure:?}");
        assert_eq!(place.takes(Reference::Pin, NEW_PIN), made);
    }
}

#[test]
fn interrupted_change_fails_on_the_command_line_and_has_no_diagnosis_on_the_wire() {
    let place = Place::with_puk();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (old, new) = (file("old", PIN), file("new", NEW_PIN));
    place.lose(Fault::DropAfter);
    let change = [
        "pin",
        "change",
        "card",
        "--pin-file",
        &old,
        "--new-pin-file",
        &new,
    ];
    let changed = place.daemon.cardea(&change);
    assert!(!changed.success);
    assert!(
        changed
            .text
            .contains("it is not known whether the old or the new PIN is valid")
            && !changed.text.contains("full power cycle"),
        "{}",
        changed.text
    );
    place.lose(Fault::DropAfter);
    let apdu = [&[0, 0x24, 0, 0x80, 12][..], NEW_PIN, PIN].concat();
    assert_eq!(over_the_reader(&place, &[apdu]), [[0x6F, 0x00]]);
    assert!(place.takes(Reference::Pin, PIN));
}
