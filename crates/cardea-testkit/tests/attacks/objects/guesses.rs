//! Guessing a PIN through every command that compares the value of an object.

use cardea_card::record::{CardRecord, IndexRole};

use crate::bench::{Bench, Kind, Outcome, PIN, succeeds_if, value};
use crate::raw::{Auth, EMPTY, Entity, LOCKOUT, RETRY, SessionKind, cc, sized};

/// TPM_PT_LOCKOUT_COUNTER (TPM 2.0 Part 2 §6.13).
const LOCKOUT_COUNTER: u32 = 0x20E;

/// How a command's session comes to be.
#[derive(Clone, Copy, Debug)]
enum By {
    /// To another object, whose value the attacker knows.
    Bound,
    /// To the card's object, with the value that is guessed.
    BoundToIt,
    Password,
    Salted,
    Unsalted,
}

const MANNERS: [By; 5] = [
    By::Bound,
    By::BoundToIt,
    By::Password,
    By::Salted,
    By::Unsalted,
];

/// No way tells a right value from a wrong one without one failure that counts towards the lockout.
pub(crate) fn every_way_to_guess() -> Outcome {
    let mut bench = Bench::new();
    let record = bench.record(Kind::Admin);
    // The daemon's sessions would take the room of the attacker's.
    bench.restart();
    let right = value(&record, IndexRole::Pin, PIN);
    let wrong = value(&record, IndexRole::Pin, b"wrong");
    let (mut ways, mut compared) = (0, 0);
    for by in MANNERS {
        for what in WHATS {
            ways += 1;
            let name = format!("{what:?}, {by:?}");
            forgive(&bench);
            let said_wrong = show(&bench, &record, what, by, &wrong);
            let cost = bench.property(LOCKOUT_COUNTER);
            let said_right = show(&bench, &record, what, by, &right);
            succeeds_if!(said_wrong == 0, "{name} takes a wrong value");
            succeeds_if!(
                said_wrong != said_right && cost == 0,
                "{name} tells right from wrong ({said_right:#x}, {said_wrong:#x}) and does not count"
            );
            assert!(cost <= 1, "{name} counts {cost} failures");
            assert_eq!(
                bench.property(LOCKOUT_COUNTER),
                cost,
                "{name}: a right value neither counts nor lowers the count"
            );
            compared += cost;
        }
    }
    assert!(ways == 40 && compared >= 25, "{compared} of {ways} compare");
    Ok(())
}

/// What the value is shown for.
#[derive(Clone, Copy, Debug)]
enum What {
    Certify,
    ChangeAuth,
    Hmac,
    HmacStart,
    Secret(&'static [u8]),
}

const WHATS: [What; 8] = [
    What::Certify,
    What::ChangeAuth,
    What::Hmac,
    What::HmacStart,
    What::Secret(b"sess"),
    What::Secret(b"once"),
    What::Secret(b""),
    What::Secret(b"else"),
];

fn forgive(bench: &Bench) {
    let lockout = [Entity::plain(LOCKOUT)];
    assert_eq!(bench.send(cc::LOCK_RESET, &lockout, &[EMPTY], &[]).code, 0);
}

fn show(bench: &Bench, record: &CardRecord, what: What, by: By, value: &[u8; 32]) -> u32 {
    let said = show_once(bench, record, what, by, value);
    match said {
        RETRY => show_once(bench, record, what, by, value),
        said => said,
    }
}

fn show_once(bench: &Bench, record: &CardRecord, what: What, by: By, value: &[u8; 32]) -> u32 {
    let counter = bench.counter(record, IndexRole::Pin);
    let own = match by {
        By::Password => None,
        By::Unsalted => Some(bench.session(SessionKind::Hmac, false, None)),
        By::Salted => Some(bench.session(SessionKind::Hmac, true, None)),
        By::BoundToIt => Some(bench.session(SessionKind::Hmac, false, Some((&counter, value)))),
        By::Bound => {
            let key = bench.primary(b"own");
            let session = bench.session(SessionKind::Hmac, false, Some((&key, b"own")));
            bench.flush(key.handle);
            Some(session)
        }
    };
    let auth = match &own {
        None => Auth::Password(value),
        // The session's key has the value already (TPM 2.0 Part 1 §19.6.10).
        Some(session) if matches!(by, By::BoundToIt) => Auth::Session(session, &[]),
        Some(session) => Auth::Session(session, value),
    };
    let code = command(bench, &counter, what, auth, value);
    if let Some(session) = own {
        bench.flush(session.handle);
    }
    bench.put_away(&counter);
    code
}

fn command(bench: &Bench, counter: &Entity, what: What, auth: Auth<'_>, value: &[u8; 32]) -> u32 {
    let alone = std::slice::from_ref(counter);
    let answer = match what {
        What::Secret(policy_ref) => {
            let session = bench.policy_session();
            let code = bench.policy_secret(counter, auth, &session, policy_ref);
            bench.flush(session.handle);
            return code;
        }
        What::Hmac => {
            let parameters = [&sized(b"data")[..], &[0, 0x0B]].concat();
            bench.send(cc::HMAC, alone, &[auth], &parameters)
        }
        What::HmacStart => {
            let parameters = [&sized(b"")[..], &[0, 0x0B]].concat();
            let answer = bench.send(cc::HMAC_START, alone, &[auth], &parameters);
            if answer.code == 0 {
                bench.flush(answer.handle());
            }
            answer
        }
        What::ChangeAuth => {
            let entities = [counter.clone(), Entity::plain(0x8100_0001)];
            bench.send(cc::OBJECT_CHANGE_AUTH, &entities, &[auth], &sized(value))
        }
        What::Certify => {
            let key = bench.primary(&[]);
            let entities = [counter.clone(), key.clone()];
            let parameters = [&sized(b"")[..], &[0, 0x10]].concat();
            let answer = bench.send(cc::CERTIFY, &entities, &[auth, EMPTY], &parameters);
            bench.flush(key.handle);
            answer
        }
    };
    answer.code
}
