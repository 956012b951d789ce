//! What others with the TPM device do to the daemon's sessions and loaded keys while a PIN is verified: nothing of
//! it lets them sign.

use cardea_tpm::policy::{ApprovalId, ZERO, hash, name_of};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;

use super::live::{ECDSA, Live};
use super::row::Object::{Ec, Once, Owner};
use super::row::{ARMED, Knowledge, Object, Row, SESSIONS, Seen, row};
use crate::raw::{
    Auth, EMPTY, Entity, NULL, OWNER, Session, TRANSIENT, cc, ecc_signing_area, point, sized,
};

/// An index of the attacker's own.
const OWN_INDEX: u32 = 0x0150_0000;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = injections();
    rows.extend(contexts());
    rows
}

/// The key that a session is armed for.
fn key_of(session: Object) -> Object {
    match session {
        Object::ArmedOnce => Once,
        _ => Ec,
    }
}

/// A key that the daemon has loaded.
fn loaded(live: &Live, object: Object) -> Entity {
    let (_, public) = live.blob(object);
    let name = name_of(public);
    let mut handles = live.bench.handles(TRANSIENT).into_iter();
    let found = handles.find(|handle| {
        let entity = Entity::plain(*handle);
        name_of(&live.bench.public_of(&entity)) == name
    });
    Entity::named(found.expect("the daemon has it loaded"), &name)
}

/// Sign by others in a session of the daemon's.
fn signed_by_others(live: &Live, object: Object, handle: u32) -> u32 {
    let key = loaded(live, key_of(object));
    let session = Session::of_others(handle);
    live.sign(key_of(object), &key, Auth::Session(&session, &[]))
}

/// What is put into a session.
type Injection = fn(&Live, &Session) -> u32;

fn injections() -> Vec<Row> {
    let mut rows = vec![
        row(cc::SIGN, Knowledge::Device, "sign in the daemon's session")
            .on(ARMED, [("no HMAC", 0x9A2), ("zeros", 0x9A2)])
            .by(|live, object| {
                let session = Session::of_others(live.session(object));
                let key = loaded(live, key_of(object));
                let sign =
                    |guess: &[u8]| live.sign(key_of(object), &key, Auth::Session(&session, guess));
                [("no HMAC", sign(&[])), ("zeros", sign(&[7; 32]))]
            }),
        row(
            cc::POLICY_GET_DIGEST,
            Knowledge::Device,
            "read the daemon's session (shows that a PIN is verified), then sign in it",
        )
        .on(ARMED, [("", 0), ("Sign", 0x9A2)])
        .by(|live, object| {
            let handle = live.session(object);
            let digest = live.bench.policy_digest(handle);
            [
                ("", u32::from(digest.is_none())),
                ("Sign", signed_by_others(live, object, handle)),
            ]
        }),
    ];
    let put = "apply it to the daemon's session, then sign in that";
    for (command, said, injection) in injected() {
        rows.push(
            row(command, Knowledge::Device, put)
                .on(
                    ARMED,
                    [("", said), ("Sign", if said == 0 { 0x99D } else { 0x9A2 })],
                )
                .by(move |live, object| {
                    let handle = live.session(object);
                    let code = injection(live, &Session::of_others(handle));
                    [("", code), ("Sign", signed_by_others(live, object, handle))]
                }),
        );
    }
    rows
}

fn injected() -> Vec<(u32, u32, Injection)> {
    let mut injected: Vec<(u32, u32, Injection)> = vec![
        (cc::POLICY_RESTART, 0, |live, session| {
            live.bench.policy(session, cc::POLICY_RESTART, &[]).code
        }),
        (cc::POLICY_COMMAND_CODE, 0, |live, session| {
            live.bench.policy_command_code(session, cc::SIGN)
        }),
        (cc::POLICY_AUTH_VALUE, 0, |live, session| {
            live.bench.policy(session, cc::POLICY_AUTH_VALUE, &[]).code
        }),
        (cc::POLICY_PASSWORD, 0, |live, session| {
            live.bench.policy(session, cc::POLICY_PASSWORD, &[]).code
        }),
        (cc::POLICY_PHYSICAL_PRESENCE, 0, |live, session| {
            live.bench
                .policy(session, cc::POLICY_PHYSICAL_PRESENCE, &[])
                .code
        }),
        (cc::POLICY_LOCALITY, 0, |live, session| {
            live.bench.policy(session, cc::POLICY_LOCALITY, &[1]).code
        }),
        (cc::POLICY_NV_WRITTEN, 0, |live, session| {
            live.bench.policy(session, cc::POLICY_NV_WRITTEN, &[1]).code
        }),
        (cc::POLICY_CP_HASH, 0, |live, session| {
            let digest = sized(&[7; 32]);
            live.bench.policy(session, cc::POLICY_CP_HASH, &digest).code
        }),
        (cc::POLICY_NAME_HASH, 0, |live, session| {
            let digest = sized(&[7; 32]);
            live.bench
                .policy(session, cc::POLICY_NAME_HASH, &digest)
                .code
        }),
        (cc::POLICY_TEMPLATE, 0, |live, session| {
            let digest = sized(&[7; 32]);
            live.bench
                .policy(session, cc::POLICY_TEMPLATE, &digest)
                .code
        }),
        (cc::POLICY_DUPLICATION_SELECT, 0, |live, session| {
            let names = [sized(&[0, 0x0B]), sized(&[0, 0x0B]), vec![1]].concat();
            live.bench
                .policy(session, cc::POLICY_DUPLICATION_SELECT, &names)
                .code
        }),
        (cc::POLICY_PCR, 0, |live, session| {
            let selection = [0, 0, 0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 1];
            live.bench.policy(session, cc::POLICY_PCR, &selection).code
        }),
        (cc::POLICY_COUNTER_TIMER, 0, |live, session| {
            // The clock is at least 0.
            let compared = [&sized(&[0; 8])[..], &[0, 8, 0, 7]].concat();
            live.bench
                .policy(session, cc::POLICY_COUNTER_TIMER, &compared)
                .code
        }),
        (cc::POLICY_OR, 0, |live, session| {
            let now = live.bench.policy_digest(session.handle).unwrap();
            let branches = [&[0, 0, 0, 2][..], &sized(&now), &sized(&ZERO)].concat();
            live.bench.policy(session, cc::POLICY_OR, &branches).code
        }),
    ];
    injected.extend(authorities());
    injected
}

/// Those in which somebody else has a say.
fn authorities() -> Vec<(u32, u32, Injection)> {
    vec![
        (cc::POLICY_SECRET, 0, |live, session| {
            let owner = live.entity(Owner);
            live.bench.policy_secret(&owner, EMPTY, session, b"sess")
        }),
        (cc::POLICY_TICKET, 0, |live, session| {
            let owner = live.entity(Owner);
            let ticket = live
                .bench
                .policy_secret_ticket(&owner, EMPTY, session, b"sess", 1000);
            live.bench
                .policy_ticket(session, &ticket, b"sess", owner.name())
        }),
        (cc::POLICY_SIGNED, 0, signed_by_own_key),
        (cc::POLICY_AUTHORIZE, 0x1C4, |live, session| {
            live.authorize(session, ApprovalId::P3)
        }),
        (cc::POLICY_NV, 0, |live, session| {
            let index = own_index(live, &[0; 8]);
            let entities = [index.clone(), index.clone(), Entity::plain(session.handle)];
            let parameters = [&sized(&[0; 8])[..], &[0, 0, 0, 0]].concat();
            let answer = live
                .bench
                .send(cc::POLICY_NV, &entities, &[EMPTY], &parameters);
            undefine(live, index);
            answer.code
        }),
        (cc::POLICY_AUTHORIZE_NV, 0, |live, session| {
            let now = live.bench.policy_digest(session.handle).unwrap();
            let index = own_index(live, &[&[0, 0x0B], &now[..]].concat());
            let entities = [index.clone(), index.clone(), Entity::plain(session.handle)];
            let answer = live
                .bench
                .send(cc::POLICY_AUTHORIZE_NV, &entities, &[EMPTY], &[]);
            undefine(live, index);
            answer.code
        }),
    ]
}

/// PolicySigned by a key of the attacker's, without a nonce.
fn signed_by_own_key(live: &Live, session: &Session) -> u32 {
    let mut public = ecc_signing_area(0x0004_0040);
    public.truncate(public.len() - 4);
    let (x, y) = point();
    public.extend([sized(&x), sized(&y)].concat());
    let null = NULL.to_be_bytes();
    let parameters = [&[0, 0][..], &sized(&public), &null].concat();
    let key = live.bench.send(cc::LOAD_EXTERNAL, &[], &[], &parameters);
    let key = Entity::named(key.handle(), &name_of(&public));
    let secret = p256::ecdsa::SigningKey::from_slice(&[0x17; 32]).unwrap();
    let signature: p256::ecdsa::Signature = secret.sign_prehash(&hash(&[&[0; 4]])).unwrap();
    let (r, s) = signature.split_bytes();
    let signature = [&ECDSA[..], &sized(&r), &sized(&s)].concat();
    let entities = [key.clone(), Entity::plain(session.handle)];
    let parameters = [&[0; 10][..], &signature].concat();
    let answer = live
        .bench
        .send(cc::POLICY_SIGNED, &entities, &[], &parameters);
    live.bench.flush(key.handle);
    answer.code
}

/// An index of the attacker's own with this content, readable by its empty value.
fn own_index(live: &Live, data: &[u8]) -> Entity {
    let size = u16::try_from(data.len()).unwrap();
    // Ordinary: AUTHREAD, AUTHWRITE, NO_DA.
    let public = |attributes: u32| {
        let mut public = OWN_INDEX.to_be_bytes().to_vec();
        public.extend([0, 0x0B]);
        public.extend(attributes.to_be_bytes());
        public.extend([0, 0]);
        public.extend(size.to_be_bytes());
        public
    };
    let (defined, written) = (0x0204_0004, 0x2204_0004);
    let owner = [Entity::plain(OWNER)];
    let parameters = [&[0, 0][..], &sized(&public(defined))].concat();
    let answer = live
        .bench
        .send(cc::NV_DEFINE_SPACE, &owner, &[EMPTY], &parameters);
    assert_eq!(answer.code, 0, "NV_DefineSpace");
    let index = Entity::named(OWN_INDEX, &name_of(&public(defined)));
    let content = [&sized(data)[..], &[0, 0]].concat();
    let entities = [index.clone(), index];
    let answer = live.bench.send(cc::NV_WRITE, &entities, &[EMPTY], &content);
    assert_eq!(answer.code, 0, "NV_Write");
    Entity::named(OWN_INDEX, &name_of(&public(written)))
}

fn undefine(live: &Live, index: Entity) {
    let entities = [Entity::plain(OWNER), index];
    let answer = live
        .bench
        .send(cc::NV_UNDEFINE_SPACE, &entities, &[EMPTY], &[]);
    assert_eq!(answer.code, 0, "NV_UndefineSpace");
}

fn contexts() -> Vec<Row> {
    let loaded_keys = [Ec, Once];
    vec![
        row(
            cc::CONTEXT_SAVE,
            Knowledge::Device,
            "take the daemon's session, give it back, load it a second time",
        )
        .on(SESSIONS, [("", 0), ("ContextLoad", 0), ("again", 0x1CB)])
        .by(|live, object| {
            let saved = live.bench.save(live.session(object));
            let first = live.bench.load_context(&saved.body);
            let second = live.bench.load_context(&saved.body);
            [
                ("", saved.code),
                ("ContextLoad", first.code),
                ("again", second.code),
            ]
        }),
        row(
            cc::CONTEXT_SAVE,
            Knowledge::Device,
            "take the daemon's session for good",
        )
        .on(SESSIONS, 0)
        .by(|live, object| {
            let handle = live.session(object);
            let saved = live.bench.save(handle);
            live.bench.flush(handle);
            saved.code
        }),
        row(
            cc::CONTEXT_LOAD,
            Knowledge::Device,
            "change a byte of the daemon's saved session, then load it unchanged",
        )
        .on(SESSIONS, [("changed", 0x1DF), ("unchanged", 0)])
        .by(|live, object| {
            let saved = live.bench.save(live.session(object)).body;
            let mut changed = saved.clone();
            let last = changed.len() - 1;
            changed[last] ^= 1;
            [
                ("changed", live.bench.load_context(&changed).code),
                ("unchanged", live.bench.load_context(&saved).code),
            ]
        }),
        row(
            cc::CONTEXT_SAVE,
            Knowledge::Device,
            "copy a key the daemon has loaded, and use the copy",
        )
        .on(&loaded_keys, [("", 0), ("ContextLoad", 0), ("Sign", 0x12F)])
        .by(|live, object| {
            let key = loaded(live, object);
            let saved = live.bench.save(key.handle);
            let copy = live.bench.load_context(&saved.body);
            let copied = Entity::named(copy.handle(), key.name());
            let code = live.sign(object, &copied, EMPTY);
            live.bench.flush(copied.handle);
            [("", saved.code), ("ContextLoad", copy.code), ("Sign", code)]
        }),
        row(
            cc::FLUSH_CONTEXT,
            Knowledge::Device,
            "flush the daemon's session",
        )
        .on(SESSIONS, 0)
        .by(|live, object| flush(live, live.session(object))),
        row(
            cc::FLUSH_CONTEXT,
            Knowledge::Device,
            "flush a key the daemon has loaded",
        )
        .on(&loaded_keys, 0)
        .by(|live, object| flush(live, loaded(live, object).handle)),
        row(
            cc::CREATE_PRIMARY,
            Knowledge::Device,
            "put the attacker's own key at the handle of a flushed card key; then the holder signs",
        )
        .on(
            &loaded_keys,
            Seen::from([("", 0)]).and("signature", "not by that key"),
        )
        .by(in_its_place),
    ]
}

fn flush(live: &Live, handle: u32) -> u32 {
    let handle = handle.to_be_bytes();
    live.bench.send(cc::FLUSH_CONTEXT, &[], &[], &handle).code
}

/// The daemon's key flushed and replaced by keys of the attacker's.
fn in_its_place(live: &mut Live, object: Object) -> Seen {
    let handle = loaded(live, object).handle;
    flush(live, handle);
    let area = ecc_signing_area(0x0004_0472);
    let own = std::iter::from_fn(|| live.bench.primary_in(NULL, &[], &[], &area).ok());
    // The first free handle is not always the one that was flushed.
    let mut own = own.map(|key| key.handle).take(2).collect::<Vec<_>>();
    assert!(own.contains(&handle), "{own:x?}: {handle:#x} is used again");
    own.retain(|own| *own == handle || flush(live, *own) != 0);
    let signed = match live.holder_signs(object) {
        Some(false) => "by that key",
        Some(true) | None => "not by that key",
    };
    flush(live, handle);
    Seen::from([("", 0)]).and("signature", signed)
}
