//! PIN tickets: heard on the bus or found in memory, and used elsewhere and later.

use std::time::{Duration, Instant};

use cardea_card::record::{CardRecord, IndexRole, KeyRecord};
use cardea_card::token::{KeyClass, PinReference};
use cardea_testkit::multiplexer::PowerEvent;

use crate::bench::{Bench, Kind, Outcome, PIN, counter_name, pin, signs, succeeds_if};
use crate::raw::{Auth, EMPTY, Entity, OWNER, Reader, Ticket, cc};

struct Heard {
    bench: Bench,
    record: CardRecord,
    ticket: Ticket,
    since: Instant,
}

/// Seconds that a verification of these cards is good for.
const LIFE: u32 = 2;

fn hear() -> Heard {
    let bench = Bench::new();
    let mut record = bench.record(Kind::Plain);
    record.settings.session_limit = LIFE;
    let record = bench.with_keys(&record, &[KeyClass::Session, KeyClass::Always]);
    bench.mux.forget_exchanges();
    let mut card = bench.open(&record);
    let mut connection = card.connect();
    let since = Instant::now();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
        .unwrap();
    let exchanges = bench.mux.exchanges();
    let answer = exchanges
        .iter()
        .find(|exchange| exchange.code() == cc::POLICY_SECRET)
        .and_then(|exchange| exchange.response.clone())
        .unwrap();
    // Header and size of the parameters come first.
    let ticket = Ticket::read(&mut Reader(&answer[14..]));
    assert!(!ticket.timeout.is_empty(), "a ticket was given");
    card.end_all();
    Heard {
        bench,
        record,
        ticket,
        since,
    }
}

impl Heard {
    fn key(&self, class: KeyClass) -> &KeyRecord {
        let card = self.bench.open(&self.record);
        let keys = card.keys().unwrap();
        let (number, _) = keys.iter().find(|(_, info)| info.class == class).unwrap();
        let mut keys = self.record.keys.iter();
        keys.find(|key| key.number() == *number).unwrap()
    }

    /// A signature by another process, in a session of its own.
    fn signs(&self, key: &KeyRecord, policy_ref: &[u8]) -> bool {
        let bench = &self.bench;
        let loaded = bench.load(&key.object.private, &key.object.public).unwrap();
        let session = bench.policy_session();
        let name = counter_name(&self.record, IndexRole::Pin);
        bench.policy_ticket(&session, &self.ticket, policy_ref, &name);
        let code = bench.sign(&loaded, Auth::Session(&session, &[]));
        bench.flush(session.handle);
        bench.flush(loaded.handle);
        code == 0
    }
}

/// It works until its time in any session (the threat model says so), and never after.
pub(crate) fn used_after_its_time() -> Outcome {
    ends(&hear())
}

/// The same with the owner's value, which slows the TPM's clock and sets it: the time of a ticket grows with the
/// first and not with the second.
pub(crate) fn used_while_the_clock_is_slow() -> Outcome {
    const SLOWEST: u8 = 0xFD;
    let heard = hear();
    let bench = &heard.bench;
    let owner = [Entity::plain(OWNER)];
    let slower = bench.send(cc::CLOCK_RATE_ADJUST, &owner, &[EMPTY], &[SLOWEST]);
    let now = bench.send(cc::READ_CLOCK, &[], &[], &[]);
    let clock = u64::from_be_bytes(now.body[8..16].try_into().unwrap());
    let tomorrow = (clock + 24 * 3_600_000).to_be_bytes();
    let set = bench.send(cc::CLOCK_SET, &owner, &[EMPTY], &tomorrow);
    assert_eq!((slower.code, set.code), (0, 0));
    ends(&heard)
}

fn ends(heard: &Heard) -> Outcome {
    let key = heard.key(KeyClass::Session).clone();
    assert!(heard.signs(&key, b"sess"), "within its time it works");
    // The TPM's clock may be coarse, and the engine rounds up.
    let end = heard.since + Duration::from_secs(u64::from(LIFE) + 8);
    while heard.signs(&key, b"sess") {
        succeeds_if!(Instant::now() > end, "the ticket is good after its time");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Every kind of restart ends it.
pub(crate) fn used_after_a_restart() -> Outcome {
    for event in [
        PowerEvent::Cut,
        PowerEvent::Reset,
        PowerEvent::Restart,
        PowerEvent::Resume,
    ] {
        let heard = hear();
        let key = heard.key(KeyClass::Session).clone();
        assert!(heard.signs(&key, b"sess"), "before {event:?} it works");
        heard.bench.mux.power(event);
        succeeds_if!(heard.signs(&key, b"sess"), "it is good after {event:?}");
    }
    Ok(())
}

/// Whatever it is said to be for.
pub(crate) fn used_for_a_key_that_wants_the_pin_every_time() -> Outcome {
    let heard = hear();
    let keys: Vec<_> = heard.record.keys.clone();
    let always = keys.last().unwrap();
    for policy_ref in [&b"sess"[..], b"once", b""] {
        let found = keys
            .iter()
            .find(|key| *key != always && heard.signs(key, b"sess"));
        assert!(found.is_some(), "it works for the other key");
        succeeds_if!(
            heard.signs(always, policy_ref),
            "it serves a key that wants the PIN every time, as {}",
            policy_ref.escape_ascii()
        );
    }
    // And through the card: one PIN, one signature.
    let bench = &heard.bench;
    let mut card = bench.open(&heard.record);
    let mut connection = card.connect();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
        .unwrap();
    assert!(signs(&mut card, &mut connection, always.reference));
    succeeds_if!(
        signs(&mut card, &mut connection, always.reference),
        "the card signs twice after one PIN"
    );
    Ok(())
}
