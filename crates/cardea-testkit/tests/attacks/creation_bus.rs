//! An interposer at creation who takes the card over later, when nobody is on the bus any more.

use std::sync::{Arc, Mutex};

use cardea_card::gids;
use cardea_card::record::{CardRecord, IndexRole};
use cardea_card::token::KeyClass;
use cardea_testkit::multiplexer::Passage;
use cardea_testkit::software::card_record;
use cardea_tpm::policy::{NV_DEFINED, index_policy, name_of, nv_public};
use cardea_tpm::{NewCard, NewSecrets, PIN_LIMIT};

use crate::bench::{Bench, Kind, Outcome, PIN, index, pin, signs_with, succeeds_if, value};
use crate::raw::{
    Answer, Auth, Beginning, EMPTY, Entity, LOADED_SESSIONS, OWNER, Salt, Session, SessionKind,
    TRANSIENT, cc, sized,
};
use crate::wire::{begun_as, code_of, refusal};

const OTHER_PIN: &[u8] = b"pin-of-root-Jc5w";

/// The interposer answers a StartAuthSession with its own session, lets the engine approve the first write in it, and
/// answers that write with an error after which creation could be repeated. If the same birth key is used again, the
/// card that results has an index that the interposer can define and write again, at any time, with another PIN.
pub(crate) fn takeover_after_creation() -> Outcome {
    let mut bench = Bench::new();
    let new = NewCard::new(NewSecrets::Given {
        pin: pin(PIN),
        puk: None,
        admin_key: None,
    });
    let prepared = bench.service.prepare_card(&[], new).unwrap();
    let interposer = Arc::new(Mutex::new(Interposer::default()));
    let (theirs, salt) = (Arc::clone(&interposer), bench.salt());
    bench.mux.interpose(
        move |client: u64, command: &[u8], tpm: &mut Passage<'_>| -> Option<Vec<u8>> {
            if client == 0 {
                return tpm.transact(command);
            }
            theirs.lock().unwrap().exchange(&salt, command, tpm)
        },
    );
    let made = bench.service.create_card(prepared, &mut |_| {});
    bench.mux.withdraw();
    let session = interposer.lock().unwrap().session.clone().unwrap();
    let context = bench.save(session.handle);
    let record = match made {
        Ok(tpm) => {
            let length = u8::try_from(PIN.len()).unwrap();
            let mut record = card_record(gids::blank_card(), length, None);
            record.tpm = tpm;
            record
        }
        // The user tries again, with another birth key.
        Err(_) => bench.record(Kind::Plain),
    };
    let record = bench.with_keys(&record, &[KeyClass::Session, KeyClass::Always]);
    assert!(signs_with(&bench, &record, PIN, record.keys[0].reference));

    // Later: the owner's value and the saved session are enough.
    bench.restart();
    for first in [TRANSIENT, LOADED_SESSIONS] {
        for handle in bench.handles(first) {
            bench.flush(handle);
        }
    }
    bench.load_context(&context.body);
    let written = define_again(&bench, &record, &session);
    bench.flush(session.handle);
    if written != 0 {
        return Ok(());
    }
    succeeds_if!(
        bench.service.check_card(&record).is_ok(),
        "the card with another PIN is taken for the card"
    );
    for key in &record.keys {
        let signed = signs_with(&bench, &record, OTHER_PIN, key.reference);
        succeeds_if!(signed, "key {:02X} signs with another PIN", key.reference);
    }
    Ok(())
}

/// Deletes the PIN's index, defines it again with another PIN, and writes it in this session.
fn define_again(bench: &Bench, record: &CardRecord, session: &Session) -> u32 {
    let counter = index(record, IndexRole::Pin);
    let present = Entity::named(counter.handle, &counter.name);
    let entities = [Entity::plain(OWNER), present];
    let deleted = bench.send(cc::NV_UNDEFINE_SPACE, &entities, &[EMPTY], &[]);
    assert_eq!(deleted.code, 0);
    let policy = index_policy(&name_of(&record.tpm.birth_public), IndexRole::Pin);
    let public = nv_public(counter.handle, NV_DEFINED, &policy);
    let other = value(record, IndexRole::Pin, OTHER_PIN);
    let parameters = [sized(&other), sized(&public)].concat();
    let entities = [Entity::plain(OWNER)];
    let defined = bench.send(cc::NV_DEFINE_SPACE, &entities, &[EMPTY], &parameters);
    assert_eq!(defined.code, 0);
    let unwritten = Entity::named(counter.handle, &name_of(&public));
    let tries = [[0; 4], PIN_LIMIT.to_be_bytes()].concat();
    let data = [&sized(&tries)[..], &[0, 0]].concat();
    let auth = [Auth::Session(session, &[])];
    let entities = [unwritten.clone(), unwritten];
    bench.send(cc::NV_WRITE, &entities, &auth, &data).code
}

#[derive(Default)]
struct Interposer {
    session: Option<Session>,
    has_refused: bool,
}

impl Interposer {
    fn exchange(&mut self, salt: &Salt, command: &[u8], tpm: &mut Passage<'_>) -> Option<Vec<u8>> {
        const SESSION_MEMORY: u32 = 0x903;
        match code_of(command) {
            cc::START_AUTH_SESSION if self.session.is_none() && is_policy(command) => {
                let beginning = Beginning::new(SessionKind::Policy, Some(salt), None);
                let answer = tpm.transact(&beginning.command)?;
                let session = beginning.session(&Answer::of(&answer));
                let told = begun_as(session.handle, &session.nonce_tpm);
                self.session = Some(session);
                Some(told)
            }
            cc::NV_WRITE if !self.has_refused => {
                self.has_refused = true;
                Some(refusal(SESSION_MEMORY))
            }
            cc::FLUSH_CONTEXT if self.is_own(&command[10..14]) => Some(refusal(0)),
            _ => tpm.transact(command),
        }
    }

    fn is_own(&self, handle: &[u8]) -> bool {
        let own = self.session.as_ref();
        own.is_some_and(|own| own.handle.to_be_bytes() == handle)
    }
}

/// Whether StartAuthSession asks for a policy session: the kind follows handles, nonce and salt.
fn is_policy(command: &[u8]) -> bool {
    let salt = usize::from(u16::from_be_bytes([command[36], command[37]]));
    command[38 + salt] == SessionKind::Policy as u8
}
