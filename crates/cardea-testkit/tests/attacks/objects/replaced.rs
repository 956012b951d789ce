//! Root puts an object of its own, or of another card, in the place of a card's.

use cardea_card::record::{CardRecord, CounterObject, IndexRole, ObjectBlob};
use cardea_card::token::{KeyClass, Unblocker};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::policy::{counter_branches, counter_template, name_of};

use crate::bench::{
    Bench, Kind, Outcome, PIN, SECOND_PIN, counter_object, pin, signs_with, succeeds_if, value,
};
use crate::raw::{Auth, EMPTY, Entity, NULL, Reader, cc, no_pcrs, sensitive, sized};

const ROOT_PIN: &[u8] = b"pin-of-root";
const SRK: u32 = 0x8100_0001;

/// An object like the card's, with a PIN of root's.
pub(crate) fn object_made_again() -> Outcome {
    let mut bench = Bench::new();
    let classes = [KeyClass::Session, KeyClass::Always];
    let record = bench.with_keys(&bench.record(Kind::Admin), &classes);
    let first = record.keys[0].reference;
    assert!(signs_with(&bench, &record, PIN, first));
    let genuine = counter_object(&record, IndexRole::Pin).unwrap();
    let administrator = counter_object(&record, IndexRole::Adm).unwrap();
    let authority = name_of(&administrator.object.public);
    let branches = counter_branches(Some((IndexRole::Adm, &authority)));
    let root = value(&record, IndexRole::Pin, ROOT_PIN);
    let own = made(&bench, &counter_template(&branches), &root);
    succeeds_if!(
        name_of(&own.public) == name_of(&genuine.object.public),
        "another object has the Name that the keys ask for"
    );
    // With the genuine public area: the Name is right, and the TPM would have to believe it.
    let public = &genuine.object.public;
    succeeds_if!(
        bench.load(&own.private, public).is_ok(),
        "root's private part goes with the card's public one"
    );
    for (private, hierarchy) in [
        (sensitive_area(&root), NULL),
        (sensitive_area(&root), 0x4000_0001),
    ] {
        let parameters = [&private[..], &sized(public), &hierarchy.to_be_bytes()].concat();
        let loaded = bench.send(cc::LOAD_EXTERNAL, &[], &[], &parameters);
        succeeds_if!(
            loaded.code == 0,
            "an object from outside has the card's public area"
        );
    }
    let edited = with_object(&record, IndexRole::Pin, own.clone());
    succeeds_if!(
        bench.service.check_card(&edited).is_ok() && signs_with(&bench, &edited, ROOT_PIN, first),
        "the card with root's PIN signs"
    );
    // Where the daemon were fooled, the TPM must not sign.
    // The daemon's sessions would occupy the slots.
    bench.restart();
    for key in &record.keys {
        for policy_ref in [&b"sess"[..], b"once"] {
            let session = bench.policy_session();
            let loaded = bench.load(&own.private, &own.public).unwrap();
            let auth = Auth::Password(&root);
            let asked = bench.policy_secret(&loaded, auth, &session, policy_ref);
            assert_eq!(asked, 0, "the TPM takes root's PIN for root's object");
            bench.flush(loaded.handle);
            let key = bench.load(&key.object.private, &key.object.public).unwrap();
            let code = bench.sign(&key, Auth::Session(&session, &[]));
            succeeds_if!(code == 0, "root signs with a key of the card");
            bench.flush(key.handle);
            bench.flush(session.handle);
        }
    }
    flipped(&bench, &record)
}

/// A changed byte of the object makes it another one, or none.
fn flipped(bench: &Bench, record: &CardRecord) -> Outcome {
    let genuine = counter_object(record, IndexRole::Pin)
        .unwrap()
        .object
        .clone();
    let mut tried = 0;
    for at in (0..genuine.private.len()).step_by(9) {
        let mut object = genuine.clone();
        object.private[at] ^= 1 << (at % 8);
        tried += 1;
        succeeds_if!(
            bench.load(&object.private, &object.public).is_ok(),
            "byte {at} of the private part can be changed"
        );
    }
    for at in (0..genuine.public.len()).step_by(3) {
        let mut object = genuine.clone();
        object.public[at] ^= 1 << (at % 8);
        tried += 1;
        let edited = with_object(record, IndexRole::Pin, object);
        succeeds_if!(
            bench.service.check_card(&edited).is_ok(),
            "byte {at} of the public part can be changed"
        );
    }
    assert!(tried > 30, "{tried}");
    assert!(bench.accepts(record, PIN));
    Ok(())
}

/// A file that has another card's objects in it.
pub(crate) fn object_of_another_card() -> Outcome {
    let bench = Bench::new();
    let victim = bench.numbered(Kind::Puk, 1);
    let victim = bench.with_keys(&victim, &[KeyClass::Session]);
    let own = bench.numbered(Kind::Puk, 2);
    let key = victim.keys[0].reference;
    for role in [IndexRole::Pin, IndexRole::Puk] {
        let mut edited = victim.clone();
        let borrowed = counter_object(&own, role).unwrap().object.clone();
        edited = with_object(&edited, role, borrowed);
        edited.tpm.salt = own.tpm.salt;
        let is_believed = bench.service.check_card(&edited).is_ok();
        succeeds_if!(
            is_believed && signs_with(&bench, &edited, PIN, key),
            "the PIN of another card's object {role:?} opens the card's keys"
        );
    }
    assert!(signs_with(&bench, &victim, PIN, key));
    Ok(())
}

/// The card file and the TPM in an attacker's hands, who has no secret.
pub(crate) fn pin_reset_without_a_secret() -> Outcome {
    for kind in [Kind::Admin, Kind::Plain, Kind::Puk] {
        let bench = Bench::new();
        let record = bench.record(kind);
        let counter = bench.counter(&record, IndexRole::Pin);
        let root = value(&record, IndexRole::Pin, SECOND_PIN);
        let entities = [counter.clone(), Entity::plain(SRK)];
        let change = |auth: Auth<'_>| {
            bench
                .send(cc::OBJECT_CHANGE_AUTH, &entities, &[auth], &sized(&root))
                .code
        };
        succeeds_if!(
            change(EMPTY) == 0,
            "its parent's empty value replaces the PIN"
        );
        for with_code in [false, true] {
            let session = bench.policy_session();
            if with_code {
                bench.policy_command_code(&session, cc::OBJECT_CHANGE_AUTH);
            }
            let own = [Entity::plain(session.handle)];
            for value in [&[][..], b"guess"] {
                bench.send(cc::POLICY_AUTH_VALUE, &own, &[], &[]);
                let code = change(Auth::Session(&session, value));
                succeeds_if!(code == 0, "a policy without the value replaces the PIN");
            }
            bench.flush(session.handle);
        }
        bench.put_away(&counter);
        let mut card = bench.open(&record);
        let mut connection = card.connect();
        let reset = card.unblock_by_admin(&mut connection, &pin(SECOND_PIN));
        succeeds_if!(reset.is_ok(), "nobody's administrator resets the PIN");
        drop(card);
        let mut token = bench.service.token(&record).unwrap();
        for by in [Unblocker::Admin, Unblocker::Puk] {
            let reset = token.unblock(by, &pin(SECOND_PIN));
            succeeds_if!(reset.is_ok(), "no proof resets the PIN as {by:?}");
        }
    }
    Ok(())
}

fn with_object(record: &CardRecord, role: IndexRole, object: ObjectBlob) -> CardRecord {
    let mut record = record.clone();
    let objects = record.tpm.counter_objects.iter_mut().flatten();
    for counter in objects.filter(|counter| counter.role == role) {
        *counter = CounterObject {
            object: object.clone(),
            ..counter.clone()
        };
    }
    record
}

/// TPM2B_SENSITIVE of a KEYEDHASH object with this value and some key.
fn sensitive_area(value: &[u8]) -> Vec<u8> {
    const KEYEDHASH: [u8; 2] = [0, 8];
    sized(
        &[
            &KEYEDHASH[..],
            &sized(value),
            &sized(&[0; 32]),
            &sized(&[7; 32]),
        ]
        .concat(),
    )
}

/// An object below the storage root key with this value.
fn made(bench: &Bench, template: &[u8], value: &[u8]) -> ObjectBlob {
    let parameters = [&sensitive(value, b"")[..], &sized(template), &no_pcrs()].concat();
    let made = bench.send(cc::CREATE, &[Entity::plain(SRK)], &[EMPTY], &parameters);
    assert_eq!(made.code, 0, "Create");
    let mut answer = Reader(&made.body[4..]);
    ObjectBlob {
        private: answer.sized().to_vec(),
        public: answer.sized().to_vec(),
    }
}
