//! Responses that are replaced or changed on the way.

use cardea_card::record::IndexRole;
use cardea_card::token::PinReference;
use cardea_testkit::bare::BarePins as _;
use cardea_testkit::multiplexer::{Fault, Passage, Trigger};
use cardea_tpm::policy::{ApprovalId, name_of, role_ref};

use crate::bench::{
    Bench, Kind, Outcome, PIN, PUK, SECOND_PIN, WRONG_PIN, index, pin, succeeds_if, value,
};
use crate::interposer::{Adversary, Conversation, ERRORS, Manipulation, Place, begin, end};
use crate::raw::{Auth, Entity, cc, sized};
use crate::wire::{code_of, refusal};

/// After three wrong PINs the counter is changed to show none.
pub(crate) fn counter_shown_as_full() -> Outcome {
    let mut bench = Bench::new();
    let record = bench.record(Kind::Plain);
    let mut token = bench.service.token(&record).unwrap();
    for _ in 0..3 {
        assert!(token.verify(PinReference::Pin, &pin(WRONG_PIN)).is_err());
    }
    drop(token);
    bench.restart();
    bench.mux.interpose(
        |_: u64, command: &[u8], tpm: &mut Passage<'_>| -> Option<Vec<u8>> {
            let mut answer = tpm.transact(command)?;
            if code_of(command) == cc::NV_READ && code_of(&answer) == 0 {
                // The count follows the header and the sizes of parameters and data.
                answer[16..20].fill(0);
            }
            Some(answer)
        },
    );
    let mut token = bench.service.token(&record).unwrap();
    let shown = token.status(PinReference::Pin);
    succeeds_if!(
        shown.as_ref().is_ok_and(|status| status.left != 2),
        "{:?} tries are shown as left where two are",
        shown.map(|status| status.left)
    );
    Ok(())
}

/// A wrong PIN is compared, and the response replaced by each error after which the comparison could be repeated.
pub(crate) fn wrong_pin_that_costs_two_tries() -> Outcome {
    let mut bench = Bench::new();
    let record = bench.record(Kind::Plain);
    for code in ERRORS {
        let compared = Place {
            code: cc::POLICY_SECRET,
            occurrence: 0,
        };
        let adversary = Adversary::aiming(
            compared,
            Manipulation::ErrorAfter(code),
            Conversation::default(),
            bench.salt(),
        );
        begin(&bench, &adversary);
        let mut token = bench.service.token(&record).unwrap();
        let verified = token.verify(PinReference::Pin, &pin(WRONG_PIN));
        drop(token);
        end(&mut bench, &adversary);
        assert!(verified.is_err() && adversary.has_hit());
        let failures = bench.failures(&record);
        succeeds_if!(
            failures > 1,
            "one wrong PIN costs {failures} tries after {code:#x}"
        );
        assert_eq!(failures, 1, "it was compared");
        assert!(bench.accepts(&record, PIN));
        bench.restart();
    }
    Ok(())
}

/// The new PIN is set and the response replaced by an error, or the command is held back and executed later.
pub(crate) fn change_reported_as_failed() -> Outcome {
    let errors = [0x903, 0x910, 0x922, 0x9A2, 0x12F, 0x921];
    let ways = errors
        .iter()
        .flat_map(|code| {
            [
                Manipulation::ErrorAfter(*code),
                Manipulation::HeldBack(*code),
            ]
        })
        .chain([Manipulation::Lost]);
    for way in ways {
        let mut bench = Bench::new();
        let record = bench.record(Kind::Plain);
        let changed = Place {
            code: cc::NV_CHANGE_AUTH,
            occurrence: 0,
        };
        let salt = bench.salt();
        let adversary = Adversary::aiming(changed, way, Conversation::default(), salt);
        begin(&bench, &adversary);
        let mut token = bench.service.token(&record).unwrap();
        let said = token.change(PinReference::Pin, &pin(PIN), &pin(SECOND_PIN));
        drop(token);
        end(&mut bench, &adversary);
        assert!(adversary.has_hit());
        let is_changed = bench.accepts(&record, SECOND_PIN);
        assert_ne!(is_changed, bench.accepts(&record, PIN), "one of them holds");
        let Err(error) = said else {
            succeeds_if!(!is_changed, "reported as changed and not changed: {way}");
            continue;
        };
        let told = error.to_string();
        succeeds_if!(
            is_changed && !told.contains("not known"),
            "changed and reported as failed ({told}): {way}"
        );
    }
    Ok(())
}

/// The holder of the PUK gives the PIN more tries than the card was created with. The card must be reported as
/// damaged at once, not only when it is opened the next time.
pub(crate) fn limit_raised_under_a_running_service() -> Outcome {
    const ENDLESS: u32 = 4_000_000_000;
    let bench = Bench::new();
    let record = bench.record(Kind::Puk);
    let mut card = bench.open(&record);
    assert_eq!(card.pin_status(PinReference::Pin).unwrap().limit, 5);
    let puk = index(&record, IndexRole::Puk);
    let session = bench.policy_session();
    let authority = Entity::named(puk.handle, &puk.name);
    let shown = value(&record, IndexRole::Puk, PUK);
    let secret = bench.policy_secret(&authority, Auth::Password(&shown), &session, b"puk");
    bench.policy_command_code(&session, cc::NV_WRITE);
    let mut approvals = record.tpm.approvals.iter();
    let wanted = ApprovalId::P4.as_str();
    let approval = approvals.find(|found| found.id == wanted).unwrap();
    let birth = name_of(&record.tpm.birth_public);
    let role = role_ref(IndexRole::Pin);
    bench.policy_authorize(&session, &approval.digest, role, &birth, &approval.ticket);
    let counter = index(&record, IndexRole::Pin);
    let counter = Entity::named(counter.handle, &counter.name);
    let tries = [[0; 4], ENDLESS.to_be_bytes()].concat();
    let data = [&sized(&tries)[..], &[0, 0]].concat();
    let auth = [Auth::Session(&session, &[])];
    let entities = [counter.clone(), counter];
    let written = bench.send(cc::NV_WRITE, &entities, &auth, &data);
    assert_eq!((secret, written.code), (0, 0), "the PUK allows it");
    // Another token has no counter cached.
    let mut token = bench.service.token(&record).unwrap();
    let shown = token.status(PinReference::Pin);
    succeeds_if!(
        shown.is_ok(),
        "the card goes on with {} tries",
        shown.unwrap().limit
    );
    Ok(())
}

/// An error before any comparison is no reason to ask the user again: giving up at every error would keep the rules
/// above too.
pub(crate) fn full_slots_before_a_comparison() {
    let bench = Bench::new();
    let record = bench.record(Kind::Plain);
    let mut token = bench.service.token(&record).unwrap();
    let trigger = Trigger::command(cc::START_AUTH_SESSION);
    bench.mux.inject(trigger, Fault::Replace(refusal(0x903)));
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    assert_eq!(bench.mux.waiting_faults(), 0);
}
