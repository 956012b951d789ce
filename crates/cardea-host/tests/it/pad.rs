//! The reader's PIN pad, as pcscd asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cardea_client::message::{CardRequest, PowerAction, Reply, Request, SecretBytes, SlotRequest};
use cardea_host::{ConsentRequest, Door, NoAnswer, Prompter, Question, Visitor};

use crate::support::{PIN, Place};

/// The user that pcscd runs as there.
const PCSCD: u32 = 2;
/// FEATURE_VERIFY_PIN_DIRECT.
const VERIFY: u32 = 0x4233_0006;

/// Counts the questions, and refuses them until told otherwise.
#[derive(Default)]
struct Person {
    asked: AtomicU32,
    answers: AtomicBool,
}

impl Prompter for Person {
    fn ask(&self, question: &Question<'_>) -> Result<SecretBytes, NoAnswer> {
        assert_eq!(question.door, Door::Reader);
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.answers.load(Ordering::Relaxed) {
            Ok(SecretBytes::new(PIN.to_vec()))
        } else {
            Err(NoAnswer::Cancelled)
        }
    }

    fn consent(&self, _: &ConsentRequest<'_>) -> Result<(), NoAnswer> {
        Err(NoAnswer::Cancelled)
    }
}

/// VERIFY of the PIN, as a program sends it with SCardControl; the status word.
fn verify(place: &Place, pcscd: &mut Visitor) -> [u8; 2] {
    // Timeouts and format, the length of the command, the command.
    let data = [&[0; 15][..], &4_u32.to_le_bytes(), &[0, 0x20, 0, 0x80]].concat();
    let request = Request::slot(0, SlotRequest::Control { code: VERIFY, data });
    match place.counter.serve(pcscd, request, None, &mut |_| {}) {
        Ok(Reply::Response(answer)) => answer.expose().try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn person_who_refuses_at_the_pin_pad_is_left_alone() {
    let place = Place::new();
    let id = place.card("work");
    let configure = CardRequest::Configure {
        pin_pad: Some(true),
        visibility: None,
    };
    let root = &mut place.visitor(0);
    let set = Request::card(&id, configure);
    place.counter.serve(root, set, None, &mut |_| {}).unwrap();
    let person = Arc::new(Person::default());
    assert!(
        place
            .counter
            .host()
            .set_prompter(Arc::clone(&person) as Arc<dyn Prompter>)
    );

    let pcscd = &mut place.visitor(PCSCD);
    let action = PowerAction::Up;
    let power = Request::slot(0, SlotRequest::Power { action });
    place
        .counter
        .serve(pcscd, power, None, &mut |_| {})
        .unwrap();

    // An answer in between ends the count: the person is there and wants it.
    for answers in [false, false, true, false, false] {
        person.answers.store(answers, Ordering::Relaxed);
        let expected = if answers { [0x90, 0x00] } else { [0x64, 0x01] };
        assert_eq!(verify(&place, pcscd), expected);
    }
    assert_eq!(person.asked.load(Ordering::Relaxed), 5);
    // The third refusal in a row is the last question for a while, whatever asks and however often.
    for _ in 0..50 {
        assert_eq!(verify(&place, pcscd), [0x64, 0x01]);
    }
    person.answers.store(true, Ordering::Relaxed);
    assert_eq!(verify(&place, pcscd), [0x64, 0x01]);
    assert_eq!(person.asked.load(Ordering::Relaxed), 6);
}
