//! Card keys as the key of a session's salt, which no PIN guards: what is wrong with a salt must not show.

use super::live::Live;
use super::row::Object::{Rsa, Srk, Vault};
use super::row::{BLOBS, EC_KEYS, Knowledge, Object, Row, Seen, row};
use crate::raw::{Auth, EMPTY, Entity, NULL, Reader, Session, SessionKind, cc, ecc_salt, sized};

pub(super) fn rows() -> Vec<Row> {
    let correct = "start a session with a salt for it: it decrypts that without the PIN, and confirms a correct salt";
    let incorrect = "start a session with an incorrect salt: all get the same answer";
    vec![
        row(cc::START_AUTH_SESSION, Knowledge::CardFile, correct)
            .on(EC_KEYS, [("", 0), ("then used", 0)])
            .on(&[Rsa, Srk], [("", 0), ("then used", 0)])
            .by(|live, object| {
                let key = live.entity(object);
                let (salt, encrypted) = salt(live, object, &key, b"SECRET\0");
                started(live, &key, &salt, &encrypted)
            }),
        row(cc::START_AUTH_SESSION, Knowledge::CardFile, incorrect)
            .on(
                &[Rsa],
                [
                    ("wrong label", 0x2C4),
                    ("garbage", 0x2C4),
                    ("too large", 0x2C4),
                    ("short", 0x2C4),
                ],
            )
            .by(|live, object| {
                let key = live.entity(object);
                let (_, wrong) = salt(live, object, &key, b"IDENTITY\0");
                let start = |salt: &[u8]| begin(live, &key, salt);
                [
                    ("wrong label", start(&wrong)),
                    ("garbage", start(&[0x11; 256])),
                    ("too large", start(&[0xFF; 256])),
                    ("short", start(&[0x11; 16])),
                ]
            }),
        row(cc::START_AUTH_SESSION, Knowledge::CardFile, incorrect)
            .on(
                EC_KEYS,
                [
                    ("off the curve", 0x2C4),
                    ("zero", 0x2C4),
                    ("garbage", 0x2C4),
                ],
            )
            .by(|live, object| {
                let key = live.entity(object);
                let point = |x: u8, y: u8| [sized(&[x; 32]), sized(&[y; 32])].concat();
                let start = |salt: &[u8]| begin(live, &key, salt);
                [
                    ("off the curve", start(&point(1, 1))),
                    ("zero", start(&point(0, 0))),
                    ("garbage", start(&[0x11; 16])),
                ]
            }),
        row(
            cc::START_AUTH_SESSION,
            Knowledge::CardFile,
            "start a session with a salt for it",
        )
        .on(&[Vault], 0x19C)
        .by(|live, object| begin(live, &live.entity(object), &[0x11; 32])),
        row(
            cc::START_AUTH_SESSION,
            Knowledge::CardFile,
            "bind a session to it: its value is empty, and such sessions are among the nine ways",
        )
        .on(BLOBS, 0)
        .on(&[Srk], 0)
        .by(|live, object| {
            let none = Entity::plain(NULL);
            let bind = live.entity(object);
            live.bench
                .start_session(SessionKind::Hmac, &none, &[], &bind)
                .code
        }),
    ]
}

/// A salt with this label: itself, and how the TPM is told.
fn salt(live: &Live, object: Object, key: &Entity, label: &[u8]) -> (Vec<u8>, Vec<u8>) {
    if object != Rsa {
        return ecc_salt(&live.bench.public_of(key), label);
    }
    // The TPM encrypts with the public key for anybody: OAEP with SHA-256.
    let salt = [0x3A; 32];
    let parameters = [&sized(&salt)[..], &[0, 0x17, 0, 0x0B], &sized(label)].concat();
    let entity = std::slice::from_ref(key);
    let answer = live.bench.send(cc::RSA_ENCRYPT, entity, &[], &parameters);
    assert_eq!(answer.code, 0, "RSA_Encrypt");
    (salt.to_vec(), Reader(&answer.body).sized().to_vec())
}

fn begin(live: &Live, key: &Entity, encrypted: &[u8]) -> u32 {
    let none = Entity::plain(NULL);
    live.bench
        .start_session(SessionKind::Hmac, key, encrypted, &none)
        .code
}

/// A session whose key follows from the salt, and its use with an own key.
fn started(live: &Live, key: &Entity, salt: &[u8], encrypted: &[u8]) -> Seen {
    let none = Entity::plain(NULL);
    let answer = live
        .bench
        .start_session(SessionKind::Hmac, key, encrypted, &none);
    if answer.code != 0 {
        return answer.code.into();
    }
    let session = Session::started(&answer, Some(salt));
    let own = live.bench.primary(&[]);
    let entities = [own.clone(), own];
    let auths = [Auth::Session(&session, &[]), EMPTY];
    let parameters = [0, 0, 0, 0x10];
    let used = live.bench.send(cc::CERTIFY, &entities, &auths, &parameters);
    [("", 0), ("then used", used.code)].into()
}
