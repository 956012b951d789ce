//! The interposer's own session in place of the one in which a value is compared.

use cardea_card::record::CardRecord;
use cardea_card::token::{AdminForm, KeyClass, PinReference};
use cardea_testkit::bare::BarePins as _;

use crate::bench::{Bench, Kind, Outcome, PIN, PUK, SECOND_PIN, THIRD_PIN, pin, succeeds_if};
use crate::exploit;
use crate::interposer::{Adversary, Conversation, Manipulation, Place, begin, end, rules};
use crate::raw::cc;
use crate::vault::Said;
use crate::wire::{Assertion, code_of};

/// An operation for which a person enters a value.
struct Entry {
    kind: Kind,
    /// Performs it, with whatever result; returns the card file afterwards.
    work: fn(&Bench, &CardRecord) -> CardRecord,
}

/// Arms sessions for both classes of keys.
const LOGIN: Entry = Entry {
    kind: Kind::Plain,
    work: |bench, record| {
        let mut card = bench.open_unchecked(record);
        let mut connection = card.connect();
        drop(card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN)));
        card.record().clone()
    },
};

const PIN_CHANGE: Entry = Entry {
    kind: Kind::Plain,
    work: |bench, record| {
        let mut token = bench.service.token(record).unwrap();
        drop(token.change(PinReference::Pin, &pin(PIN), &pin(SECOND_PIN)));
        record.clone()
    },
};

const PUK_CHANGE: Entry = Entry {
    kind: Kind::Puk,
    work: |bench, record| {
        let mut token = bench.service.token(record).unwrap();
        drop(token.change(PinReference::Puk, &pin(PUK), &pin(THIRD_PIN)));
        record.clone()
    },
};

const UNBLOCKING: Entry = Entry {
    kind: Kind::Puk,
    work: |bench, record| {
        let mut card = bench.open_unchecked(record);
        let mut connection = card.connect();
        drop(card.unblock_by_puk(&mut connection, &pin(PUK), &pin(SECOND_PIN)));
        card.record().clone()
    },
};

/// Only the response; what it approves is used later.
const ADMINISTRATION: Entry = Entry {
    kind: Kind::Admin,
    work: |bench, record| {
        let mut card = bench.open_unchecked(record);
        Said::new(&mut card, AdminForm::External).answer(&mut card);
        card.record().clone()
    },
};

/// Where the interposer interferes, and how.
type Aim = (Place, Manipulation);

impl Entry {
    fn card(&self) -> (Bench, CardRecord) {
        let bench = Bench::new();
        let classes = [KeyClass::Session, KeyClass::Always];
        let record = bench.with_keys(&bench.record(self.kind), &classes);
        (bench, record)
    }

    /// The operation without interference.
    fn baseline(&self) -> Conversation {
        let (mut bench, record) = self.card();
        bench.restart();
        let listener = Adversary::listening(bench.salt());
        begin(&bench, &listener);
        (self.work)(&bench, &record);
        end(&mut bench, &listener)
    }

    /// What the interposer gains, of what it wants.
    fn gains(&self, aims: impl Fn(&Conversation) -> Vec<Aim>, wanted: fn(&str) -> bool) -> Outcome {
        let baseline = self.baseline();
        let aims = aims(&baseline);
        assert!(!aims.is_empty());
        let (mut bench, mut record) = self.card();
        for (place, manipulation) in aims {
            match self.kind {
                // Creating one takes long, and a response without interference leaves it as it was.
                Kind::Admin => record = (self.work)(&bench, &record),
                Kind::Both | Kind::Plain | Kind::Puk => (bench, record) = self.card(),
            }
            bench.restart();
            let salt = bench.salt();
            let adversary = Adversary::aiming(place, manipulation, baseline.clone(), salt);
            begin(&bench, &adversary);
            record = (self.work)(&bench, &record);
            let heard = end(&mut bench, &adversary);
            assert!(adversary.has_hit() && !heard.sessions.is_empty());
            for session in &heard.sessions {
                let mut gains = exploit::session(&bench, &record, session);
                bench.flush(session.handle);
                if rules::has_pin_ticket(&heard, session.handle) {
                    gains.retain(|gain| gain != exploit::BY_THE_PIN_TICKET);
                }
                gains.retain(|gain| wanted(gain));
                let gains = gains.join(", ");
                succeeds_if!(!gains.is_empty(), "the interposer's session {gains}");
            }
        }
        Ok(())
    }
}

/// The places of a command in a conversation.
fn places(baseline: &Conversation, code: u32) -> Vec<Place> {
    let lines = baseline.lines.iter();
    lines
        .map(|line| line.place)
        .filter(|place| place.code == code)
        .collect()
}

/// Each StartAuthSession in turn is answered with handle and nonce of the interposer's own session, or with its handle
/// alone.
fn other_session(entry: &Entry, wanted: fn(&str) -> bool) -> Outcome {
    let aims = |baseline: &Conversation| {
        let places = places(baseline, cc::START_AUTH_SESSION).into_iter();
        let aims = places.flat_map(|place| {
            [(true, false), (true, true), (false, true)].map(|(nonce, salted)| {
                let manipulation = Manipulation::OtherSession {
                    handle: true,
                    nonce,
                    salted,
                };
                (place, manipulation)
            })
        });
        aims.collect()
    };
    entry.gains(aims, wanted)
}

/// In place of the session for keys of the session class.
pub(crate) fn session_exchanged_at_login() -> Outcome {
    other_session(&LOGIN, |gain| gain.contains("Session"))
}

/// In place of the session for one use of an always-class key.
pub(crate) fn session_for_one_use_exchanged_at_login() -> Outcome {
    other_session(&LOGIN, |gain| gain.contains("Always"))
}

pub(crate) fn session_exchanged_at_a_pin_change() -> Outcome {
    other_session(&PIN_CHANGE, |_| true)
}

pub(crate) fn session_exchanged_at_a_puk_change() -> Outcome {
    other_session(&PUK_CHANGE, |_| true)
}

pub(crate) fn session_exchanged_at_unblocking() -> Outcome {
    other_session(&UNBLOCKING, |_| true)
}

pub(crate) fn session_exchanged_at_an_administrators_answer() -> Outcome {
    other_session(&ADMINISTRATION, |_| true)
}

/// Access to the device is enough for this: the daemon's session is flushed before a value is compared in it, and
/// another started, which gets the same handle.
fn same_handle(entry: &Entry) -> Outcome {
    let aims = |baseline: &Conversation| {
        let places = places(baseline, cc::POLICY_SECRET).into_iter();
        let aims = places.flat_map(|place| {
            [false, true].map(|salted| (place, Manipulation::ReplacedSession { salted }))
        });
        aims.collect()
    };
    entry.gains(aims, |_| true)
}

/// For every comparison of every operation.
pub(crate) fn session_with_the_same_handle() -> Outcome {
    for entry in [LOGIN, PIN_CHANGE, PUK_CHANGE, UNBLOCKING, ADMINISTRATION] {
        same_handle(&entry)?;
    }
    Ok(())
}

/// A comparison without a nonce is valid for any session that has its handle.
pub(crate) fn comparison_without_a_nonce() -> Outcome {
    for entry in [LOGIN, PIN_CHANGE, PUK_CHANGE, UNBLOCKING, ADMINISTRATION] {
        for line in &entry.baseline().lines {
            if code_of(&line.command) != cc::POLICY_SECRET {
                continue;
            }
            let asked = Assertion::parse(&line.command).unwrap();
            succeeds_if!(
                asked.nonce.is_empty(),
                "the comparison for {} has no nonce",
                asked.policy_ref.escape_ascii()
            );
        }
    }
    Ok(())
}
