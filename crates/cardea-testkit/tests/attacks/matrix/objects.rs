//! Commands on objects that ask for an empty value or for none: statements, copies, new values, public
//! operations.

use super::live::{ECDSA, Live, RSASSA};
use super::row::Object::{Ec, Imported, Once, Rsa, Srk, Vault};
use super::row::{
    BLOBS, EC_KEYS, INDICES, KEYS, Knowledge, OBJECTS, Object, Row, Seen, not_tried, row,
};
use crate::raw::{Auth, EMPTY, Entity, NULL, OWNER, PLATFORM, Reader, cc, public_area, sized};

/// Attributes of the attacker's own storage keys: restricted, decrypt, userWithAuth, noDA.
const STORAGE: u32 = 0x0003_0472;
/// Where the attacker makes objects persistent.
const PERSISTENT: u32 = 0x8101_0000;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = statements();
    rows.extend(copies());
    rows.extend(values());
    rows.extend(persistent());
    rows.extend(public_operations());
    rows.extend(super::forged::rows());
    rows
}

/// An own storage key in the null hierarchy.
fn own_parent(live: &Live) -> Entity {
    let rest = [6, 128, 0x43, 0x10, 3, 0x10, 0, 0];
    let area = public_area(0x23, STORAGE, &[], &rest);
    let made = live.bench.primary_in(NULL, &[], &[], &area);
    made.expect("the null hierarchy has no value")
}

/// A use of an object that would succeed with the right authorisation.
fn used(live: &Live, object: Object, entity: &Entity, auth: Auth<'_>) -> u32 {
    match object {
        Vault => {
            let entity = std::slice::from_ref(entity);
            live.bench.send(cc::UNSEAL, entity, &[auth], &[]).code
        }
        _ => live.sign(object, entity, auth),
    }
}

fn statements() -> Vec<Row> {
    let attest = [&[0, 0][..], &ECDSA].concat();
    let for_certify = attest.clone();
    vec![
        row(
            cc::CERTIFY,
            Knowledge::CardFile,
            "have the attacker's own key certify it: a true statement, possible by design",
        )
        .on(OBJECTS, 0)
        .by(move |live, object| {
            let entities = [live.entity(object), live.bench.primary(&[])];
            let auths = [EMPTY, EMPTY];
            let answer = live
                .bench
                .send(cc::CERTIFY, &entities, &auths, &for_certify);
            answer.code
        }),
        row(
            cc::CERTIFY_CREATION,
            Knowledge::CardFile,
            "have the attacker's own key certify its creation: a true statement about generated keys",
        )
        .on(&[Ec, Once, Rsa], 0)
        .on(&[Imported, Vault, Srk], 0x4E0)
        .by(created),
        row(
            cc::ACTIVATE_CREDENTIAL,
            Knowledge::CardFile,
            "activate a credential for it with the attacker's own key: proves that it is in this TPM",
        )
        .on(BLOBS, 0)
        .on(&[Srk], 0)
        .by(activated),
        row(
            cc::MAKE_CREDENTIAL,
            Knowledge::CardFile,
            "make a credential for it to decrypt",
        )
        .on(BLOBS, 0x18A)
        .on(&[Srk], 0)
        .by(|live, object| {
            let key = live.entity(object);
            make_credential(live, &key, &[0, 0x0B]).0
        }),
    ]
}

fn created(live: &mut Live, object: Object) -> u32 {
    let (hash, ticket) = match object {
        Vault | Srk => (Vec::new(), Vec::new()),
        key => {
            let key = live.key(key);
            (key.creation_hash.clone(), key.creation_ticket.clone())
        }
    };
    let none = || vec![0x80, 0x21, 0x40, 0, 0, 1, 0, 0];
    let ticket = if ticket.is_empty() { none() } else { ticket };
    let entities = [live.bench.primary(&[]), live.entity(object)];
    let parameters = [&[0, 0][..], &sized(&hash), &ECDSA, &ticket].concat();
    live.bench
        .send(cc::CERTIFY_CREATION, &entities, &[EMPTY], &parameters)
        .code
}

fn make_credential(live: &Live, key: &Entity, name: &[u8]) -> (u32, Vec<u8>) {
    let parameters = [sized(b"credential"), sized(name)].concat();
    let key = std::slice::from_ref(key);
    let answer = live.bench.send(cc::MAKE_CREDENTIAL, key, &[], &parameters);
    (answer.code, answer.body)
}

fn activated(live: &mut Live, object: Object) -> u32 {
    let parent = own_parent(live);
    let entity = live.entity(object);
    let (code, credential) = make_credential(live, &parent, entity.name());
    assert_eq!(code, 0, "MakeCredential");
    let entities = [entity, parent];
    let auths = [EMPTY, EMPTY];
    live.bench
        .send(cc::ACTIVATE_CREDENTIAL, &entities, &auths, &credential)
        .code
}

fn copies() -> Vec<Row> {
    let plain = [0, 0, 0, 0x10];
    vec![
        row(
            cc::DUPLICATE,
            Knowledge::CardFile,
            "copy it unencrypted, authorised by its value",
        )
        .on(OBJECTS, 0x124)
        .by(move |live, object| {
            let entities = [live.entity(object), Entity::plain(NULL)];
            live.bench
                .send(cc::DUPLICATE, &entities, &[EMPTY], &plain)
                .code
        }),
        row(
            cc::DUPLICATE,
            Knowledge::CardFile,
            "copy it unencrypted, in a policy session for this command",
        )
        .on(OBJECTS, 0x99D)
        .by(move |live, object| {
            let entities = [live.entity(object), Entity::plain(NULL)];
            let session = live.bench.policy_session();
            live.bench.policy_command_code(&session, cc::DUPLICATE);
            let auth = [Auth::Session(&session, &[])];
            live.bench
                .send(cc::DUPLICATE, &entities, &auth, &plain)
                .code
        }),
        row(
            cc::DUPLICATE,
            Knowledge::Pin,
            "copy it unencrypted, in a policy session for this command",
        )
        .on(KEYS, 0x99D)
        .by(move |live, object| {
            let entities = [live.entity(object), Entity::plain(NULL)];
            let session = live.satisfied(super::uses::policy_ref(object));
            live.bench.policy_command_code(&session, cc::DUPLICATE);
            let auth = [Auth::Session(&session, &[])];
            live.bench
                .send(cc::DUPLICATE, &entities, &auth, &plain)
                .code
        }),
        row(
            cc::REWRAP,
            Knowledge::CardFile,
            "rewrap the attacker's own object to it",
        )
        .on(BLOBS, 0x28A)
        .on(&[Srk], 0)
        .by(|live, object| {
            let entities = [Entity::plain(NULL), live.entity(object)];
            let copy = [sized(&sized(&[7; 32])), sized(&[0, 0x0B]), sized(&[])].concat();
            live.bench.send(cc::REWRAP, &entities, &[EMPTY], &copy).code
        }),
        row(
            cc::CONTEXT_SAVE,
            Knowledge::CardFile,
            "save it, load the copy and use that",
        )
        .on(BLOBS, [("", 0), ("ContextLoad", 0), ("then used", 0x12F)])
        .on(&[Srk], [("", 0x184)])
        .by(saved),
        row(
            cc::CONTEXT_LOAD,
            Knowledge::CardFile,
            "change a byte of the saved object",
        )
        .on(BLOBS, 0x1DF)
        .by(|live, object| {
            let entity = live.entity(object);
            let mut context = live.bench.save(entity.handle).body;
            let last = context.len() - 1;
            context[last] ^= 1;
            live.bench.load_context(&context).code
        }),
        not_tried(
            cc::CONTEXT_LOAD,
            Knowledge::Device,
            &[Srk],
            "a persistent object cannot be saved",
        ),
    ]
}

fn saved(live: &mut Live, object: Object) -> Seen {
    let entity = live.entity(object);
    let answer = live.bench.save(entity.handle);
    if answer.code != 0 {
        return [("", answer.code)].into();
    }
    let loaded = live.bench.load_context(&answer.body);
    let copy = Entity::named(loaded.handle(), entity.name());
    let code = used(live, object, &copy, EMPTY);
    [("", 0), ("ContextLoad", loaded.code), ("then used", code)].into()
}

fn values() -> Vec<Row> {
    vec![
        row(
            cc::OBJECT_CHANGE_AUTH,
            Knowledge::CardFile,
            "set a known value and use the object with it",
        )
        .on(BLOBS, [("", 0), ("then used", 0x12F)])
        .on(&[Srk], [("", 0x28A)])
        .by(|live, object| {
            let entity = live.entity(object);
            let entities = [entity.clone(), live.entity(Srk)];
            let value = sized(b"own value");
            let answer = live
                .bench
                .send(cc::OBJECT_CHANGE_AUTH, &entities, &[EMPTY], &value);
            live.bench.flush(entity.handle);
            if answer.code != 0 {
                return Seen::from([("", answer.code)]);
            }
            let private = Reader(&answer.body[4..]).sized();
            let (_, public) = live.blob(object);
            let changed = live.bench.load(private, public).expect("it loads");
            let code = used(live, object, &changed, Auth::Password(b"own value"));
            [("", 0), ("then used", code)].into()
        }),
        row(
            cc::LOAD,
            Knowledge::CardFile,
            "change its public part (userWithAuth, decrypt, policy), or load it below another parent",
        )
        .on(
            BLOBS,
            [
                ("userWithAuth", 0x1DF),
                ("decrypt", 0x1DF),
                ("policy", 0x1DF),
                ("parent", 0x1DF),
            ],
        )
        .by(|live, object| {
            let (private, public) = live.blob(object);
            let load = |at: usize, bit: u8| {
                let mut public = public.to_vec();
                public[at] ^= bit;
                match live.bench.load(private, &public) {
                    Ok(_) => 0,
                    Err(code) => code,
                }
            };
            let changed = [load(7, 0x40), load(5, 0x02), load(10, 0x01)];
            let parameters = [sized(private), sized(public)].concat();
            let parent = [own_parent(live)];
            let below = live.bench.send(cc::LOAD, &parent, &[EMPTY], &parameters);
            [
                ("userWithAuth", changed[0]),
                ("decrypt", changed[1]),
                ("policy", changed[2]),
                ("parent", below.code),
            ]
        }),
    ]
}

fn persistent() -> Vec<Row> {
    let evict = |live: &Live, by: u32, object: &Entity| {
        let entities = [Entity::plain(by), object.clone()];
        let handle = PERSISTENT.to_be_bytes();
        live.bench
            .send(cc::EVICT_CONTROL, &entities, &[EMPTY], &handle)
            .code
    };
    vec![
        row(
            cc::EVICT_CONTROL,
            Knowledge::Owner,
            "make it persistent and use it",
        )
        .on(BLOBS, [("", 0), ("then used", 0x12F)])
        .by(move |live, object| {
            let entity = live.entity(object);
            let code = evict(live, OWNER, &entity);
            let kept = Entity::named(PERSISTENT, entity.name());
            let then = used(live, object, &kept, EMPTY);
            assert_eq!(evict(live, OWNER, &kept), 0, "it is taken away again");
            [("", code), ("then used", then)]
        }),
        row(cc::EVICT_CONTROL, Knowledge::Platform, "make it persistent")
            .on(BLOBS, 0x285)
            .by(move |live, object| {
                let entity = live.entity(object);
                evict(live, PLATFORM, &entity)
            }),
        row(
            cc::EVICT_CONTROL,
            Knowledge::Owner,
            "pass an index instead of an object",
        )
        .on(INDICES, 0x284)
        .by(move |live, object| {
            let entity = live.entity(object);
            evict(live, OWNER, &entity)
        }),
    ]
}

fn public_operations() -> Vec<Row> {
    let alone = |code: u32, parameters: Vec<u8>| {
        move |live: &mut Live, object: Object| {
            let entity = [live.entity(object)];
            live.bench.send(code, &entity, &[], &parameters).code
        }
    };
    vec![
        row(
            cc::READ_PUBLIC,
            Knowledge::CardFile,
            "read its public part (public by design)",
        )
        .on(OBJECTS, 0)
        .by(alone(cc::READ_PUBLIC, Vec::new())),
        row(
            cc::ECDH_KEY_GEN,
            Knowledge::CardFile,
            "compute the public half of a key agreement",
        )
        .on(EC_KEYS, 0)
        .on(&[Srk], 0)
        .on(&[Rsa, Vault], 0x19C)
        .by(alone(cc::ECDH_KEY_GEN, Vec::new())),
        row(
            cc::RSA_ENCRYPT,
            Knowledge::CardFile,
            "encrypt to it (public by design)",
        )
        .on(EC_KEYS, 0x19C)
        .on(&[Rsa], 0)
        .on(&[Vault, Srk], 0x19C)
        .by(alone(
            cc::RSA_ENCRYPT,
            [&sized(&[1; 32])[..], &[0, 0x10, 0, 0]].concat(),
        )),
        row(
            cc::VERIFY_SIGNATURE,
            Knowledge::CardFile,
            "verify an invalid signature",
        )
        .on(KEYS, 0x2DB)
        .on(&[Vault, Srk], 0x182)
        .by(|live, object| {
            let entity = [live.entity(object)];
            let parameters = [sized(&[7; 32]), garbage(object)].concat();
            live.bench
                .send(cc::VERIFY_SIGNATURE, &entity, &[], &parameters)
                .code
        }),
        row(
            cc::POLICY_SIGNED,
            Knowledge::CardFile,
            "use it as an authority with an invalid signature",
        )
        .on(KEYS, 0x5DB)
        .on(&[Vault], 0x5D2)
        .on(&[Srk], 0x5DB)
        .by(|live, object| {
            let session = live.bench.policy_session();
            let entities = [live.entity(object), Entity::plain(session.handle)];
            let parameters = [vec![0; 10], garbage(object)].concat();
            live.bench
                .send(cc::POLICY_SIGNED, &entities, &[], &parameters)
                .code
        }),
    ]
}

/// TPMT_SIGNATURE of the key's kind, signed by nobody.
fn garbage(object: Object) -> Vec<u8> {
    match object {
        Rsa => [&RSASSA[..], &sized(&[7; 256])].concat(),
        _ => [&ECDSA[..], &sized(&[7; 32]), &sized(&[7; 32])].concat(),
    }
}
