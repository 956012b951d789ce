//! Sessions of the daemon, used by another process that has the TPM device.

use cardea_card::record::IndexRole;
use cardea_card::token::{KeyClass, PinReference};
use cardea_testkit::bare::BarePins as _;
use cardea_testkit::multiplexer::{Fault, Trigger};
use cardea_testkit::process::wait_for;
use cardea_tpm::policy::name_of;

use crate::bench::{Bench, Kind, Outcome, PIN, SECOND_PIN, index, pin, signs, succeeds_if, value};
use crate::raw::{Auth, Entity, LOADED_SESSIONS, Session, TRANSIENT, cc, sized};

/// Signing with the daemon's armed session by its handle.
pub(crate) fn armed_session_of_the_daemon() -> Outcome {
    const ROUNDS: usize = 5;

    let bench = Bench::new();
    let record = bench.with_keys(&bench.record(Kind::Plain), &[KeyClass::Session]);
    let mut card = bench.open(&record);
    let mut connection = card.connect();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
        .unwrap();
    let key = &record.keys[0];
    assert!(signs(&mut card, &mut connection, key.reference));
    // As the daemon does once its client has the answer. The service's own thread may be at it.
    wait_for("the daemon's sessions are armed", || {
        bench.service.run_idle_work();
        card.pin_status(PinReference::Pin).unwrap();
        bench.handles(LOADED_SESSIONS).len() >= 2
    });
    let name = name_of(&key.object.public);
    // What is loaded may not be armed yet.
    for _ in 0..ROUNDS {
        for session in bench.handles(LOADED_SESSIONS) {
            for object in bench.handles(TRANSIENT) {
                let loaded = Entity::named(object, &name);
                for guess in [&[][..], &[0; 32], PIN] {
                    let session = Session::of_others(session);
                    let code = bench.sign(&loaded, Auth::Session(&session, guess));
                    succeeds_if!(
                        code == 0,
                        "session {:#x} of the daemon signs",
                        session.handle
                    );
                }
            }
        }
        bench.service.run_idle_work();
        card.pin_status(PinReference::Pin).unwrap();
    }
    assert!(signs(&mut card, &mut connection, key.reference));
    Ok(())
}

/// A PIN change that is interrupted just before its last command leaves a session that may set a PIN.
pub(crate) fn session_of_a_pin_change() -> Outcome {
    let bench = Bench::new();
    let record = bench.record(Kind::Plain);
    let mut token = bench.service.token(&record).unwrap();
    bench
        .mux
        .inject(Trigger::command(cc::NV_CHANGE_AUTH), Fault::DropBefore);
    let changed = token.change(PinReference::Pin, &pin(PIN), &pin(SECOND_PIN));
    assert!(changed.is_err() && bench.mux.waiting_faults() == 0);
    let counter = index(&record, IndexRole::Pin);
    let counter = Entity::named(counter.handle, &counter.name);
    let sessions = bench.handles(LOADED_SESSIONS);
    assert!(sessions.len() >= 2, "{sessions:x?}");
    for session in sessions {
        let session = Session::of_others(session);
        let root = value(&record, IndexRole::Pin, b"root's");
        let auth = [Auth::Session(&session, &[])];
        let entities = [counter.clone()];
        let answer = bench.send(cc::NV_CHANGE_AUTH, &entities, &auth, &sized(&root));
        succeeds_if!(answer.code == 0, "another process sets the PIN");
    }
    Ok(())
}
