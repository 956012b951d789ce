//! Keys of the attacker's with the card's policy: what makes them look like the card's, and what does not.

use cardea_tpm::policy::name_of;

use super::live::Live;
use super::row::Object::{Ec, Nothing, Null, Owner, Srk};
use super::row::{KEYS, Knowledge, Object, Row, row};
use crate::raw::{EMPTY, Entity, NULL, OWNER, cc, no_pcrs, point, public_area, sensitive, sized};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = below_the_root_key();
    rows.extend(loaded_from_outside());
    rows
}

fn below_the_root_key() -> Vec<Row> {
    vec![
        row(
            cc::CREATE,
            Knowledge::CardFile,
            "create a key with the card's policy and a known private part, or a known value",
        )
        .on(
            &[Srk],
            [("known private part", 0x2C2), ("known value", 0)],
        )
        .by(|live, object| {
            let policy = &live.blob(Ec).1[10..42];
            let make = |attributes, value: &[u8], data: &[u8]| {
                let rest = [0x10, 0x10, 3, 0x10, 0, 0];
                let area = public_area(0x23, attributes, policy, &rest);
                let parameters =
                    [&sensitive(value, data)[..], &sized(&area), &no_pcrs()].concat();
                let parent = [live.entity(object)];
                live.bench
                    .send(cc::CREATE, &parent, &[EMPTY], &parameters)
                    .code
            };
            [
                ("known private part", make(0x0006_0432, &[], &[7; 32])),
                (
                    "known value",
                    make(0x0006_0432, b"own", &[]),
                ),
            ]
        }),
        row(
            cc::IMPORT,
            Knowledge::CardFile,
            "import the attacker's own key with the card's policy: it does not become a key of the card",
        )
        .on(&[Srk], [("as generated", 0x2C2), ("as imported", 0)])
        .by(|live, object| {
            let import = |attributes: u32| {
                let (public, secret) = own_key(live, attributes);
                let copy = [sized(&public), sized(&sized(&secret))].concat();
                let parameters = [&[0, 0][..], &copy, &[0, 0, 0, 0x10]].concat();
                let parent = [live.entity(object)];
                live.bench
                    .send(cc::IMPORT, &parent, &[EMPTY], &parameters)
                    .code
            };
            [
                ("as generated", import(0x0006_0432)),
                ("as imported", import(0x0006_0400)),
            ]
        }),
        row(
            cc::CREATE_LOADED,
            Knowledge::CardFile,
            "derive a key with the card's policy from a known seed, by attributes",
        )
        .on(
            &[Nothing],
            [("00060432", 0x82), ("00060412", 0x2C2), ("00060410", 0)],
        )
        .by(derived),
    ]
}

fn loaded_from_outside() -> Vec<Row> {
    vec![
        row(
            cc::LOAD_EXTERNAL,
            Knowledge::CardFile,
            "load the attacker's own private key with the card's policy, by attributes",
        )
        .on(
            &[Null],
            [
                ("00060432", 0x2C2),
                ("00060412", 0x2C2),
                ("00060402", 0x2C2),
                ("00060400", 0),
            ],
        )
        .on(
            &[Owner],
            [
                ("00060432", 0x3C5),
                ("00060412", 0x3C5),
                ("00060402", 0x3C5),
                ("00060400", 0x3C5),
            ],
        )
        .by(external),
        row(
            cc::LOAD_EXTERNAL,
            Knowledge::CardFile,
            "load its public part alone and use that",
        )
        .on(KEYS, [("", 0), ("then used", 0x12F)])
        .by(|live, object| {
            let (_, public) = live.blob(object);
            let owner = OWNER.to_be_bytes();
            let parameters = [&[0, 0][..], &sized(public), &owner].concat();
            let answer = live.bench.send(cc::LOAD_EXTERNAL, &[], &[], &parameters);
            let entity = Entity::named(answer.handle(), &name_of(public));
            [
                ("", answer.code),
                ("then used", live.sign(object, &entity, EMPTY)),
            ]
        }),
    ]
}

/// A derivation parent whose seed is known, and keys derived from it.
fn derived(live: &mut Live, _: Object) -> [(&'static str, u32); 3] {
    let policy = live.blob(Ec).1[10..42].to_vec();
    let derive = |attributes: u32| {
        // KEYEDHASH, restricted, decrypt, userWithAuth, noDA; XOR with SHA-256, KDF1_SP800_108.
        let area = public_area(8, 0x0003_0440, &[], &[0x0A, 0x0B, 0x22, 0]);
        let parent = live.bench.primary_in(NULL, &[], &[7; 32], &area);
        let parent = parent.expect("a derivation parent");
        let template = public_area(0x23, attributes, &policy, &[0x10, 0x10, 3, 0x10, 0, 0]);
        let parameters = [sensitive(&[], &[]), sized(&template)].concat();
        let entity = std::slice::from_ref(&parent);
        let code = live
            .bench
            .send(cc::CREATE_LOADED, entity, &[EMPTY], &parameters)
            .code;
        live.clean();
        code
    };
    [
        ("00060432", derive(0x0006_0432)),
        ("00060412", derive(0x0006_0412)),
        ("00060410", derive(0x0006_0410)),
    ]
}

/// A key with the card's policy whose private part is known: TPMT_PUBLIC and TPMT_SENSITIVE.
fn own_key(live: &Live, attributes: u32) -> (Vec<u8>, Vec<u8>) {
    let policy = &live.blob(Ec).1[10..42];
    let mut public = public_area(0x23, attributes, policy, &[0x10, 0x10, 3, 0x10]);
    let (x, y) = point();
    public.extend([sized(&x), sized(&y)].concat());
    let secret = [&[0, 0x23, 0, 0, 0, 0][..], &sized(&[0x17; 32])].concat();
    (public, secret)
}

fn external(live: &mut Live, object: Object) -> [(&'static str, u32); 4] {
    let load = |attributes: u32| {
        let (public, secret) = own_key(live, attributes);
        let hierarchy = live.entity(object).handle.to_be_bytes();
        let parameters = [&sized(&secret)[..], &sized(&public), &hierarchy].concat();
        live.bench
            .send(cc::LOAD_EXTERNAL, &[], &[], &parameters)
            .code
    };
    [
        ("00060432", load(0x0006_0432)),
        ("00060412", load(0x0006_0412)),
        ("00060402", load(0x0006_0402)),
        ("00060400", load(0x0006_0400)),
    ]
}
