//! Operations of a card's holder: PIN, PUK and the use of keys.

use cardea_card::CardError;
use cardea_card::token::{HashAlgorithm, KeyAlgorithm, KeyClass, PinReference, PrivateOperation};
use cardea_testkit::software::{SeededRng, rsa_public_key};

use super::adversary::Conversation;
use super::rules::is_genuine;
use super::world::{Ending, Entry, Report, Visit, World, is_signature};
use super::{CardOperation, show};
use crate::bench::{Kind, PIN, PUK, SECOND_PIN, THIRD_PIN, WRONG_PIN, pin};
use crate::bus::PLAIN;
use crate::raw::cc;

const CLASSES: [KeyClass; 2] = [KeyClass::Session, KeyClass::Always];
const PINS: [&[u8]; 2] = [PIN, SECOND_PIN];
const PUKS: [&[u8]; 2] = [PUK, THIRD_PIN];

fn login(row: &'static str, share: usize, world: fn() -> World) -> CardOperation {
    CardOperation {
        row,
        stride: 2,
        share,
        is_slow: false,
        entry: Entry::Pin,
        world,
        prepare: World::cold,
        run: |world, visit| visit.verify(world.pin).map(|()| Vec::new()),
        settle: |world, report, heard| {
            if report.is_done() && !is_compared(heard) {
                return Err("the PIN is accepted, but not by the TPM".into());
            }
            world.check_pin()?;
            Ok(report.ending())
        },
    }
}

/// Whether the TPM has found a value to be correct.
fn is_compared(heard: &Conversation) -> bool {
    let mut lines = heard.lines.iter();
    lines.any(|line| line.place.code == cc::POLICY_SECRET && is_genuine(line))
}

#[test]
fn login_with_session_keys() {
    show(&login("login", 1, || {
        World::new(Kind::Plain, &[KeyClass::Session])
    }));
}

#[test]
fn login_with_an_always_class_key() {
    show(&login("login, always-class key", 2, || {
        World::new(Kind::Plain, &CLASSES)
    }));
}

#[test]
fn login_with_a_wrong_pin() {
    show(&CardOperation {
        run: |_, visit| visit.verify(WRONG_PIN).map(|()| Vec::new()),
        settle: |world, report, _| {
            if report.is_done() {
                return Err("a wrong PIN is accepted".into());
            }
            world.check_pin()?;
            Ok(Ending::Refused)
        },
        ..login("login, wrong PIN", 2, || World::new(Kind::Plain, &CLASSES))
    });
}

#[test]
fn signature() {
    show(&CardOperation {
        row: "signature",
        stride: 2,
        share: 1,
        is_slow: false,
        entry: Entry::None,
        world: || World::new(Kind::Plain, &CLASSES),
        prepare: World::verified,
        run: |world, visit| {
            let mut signed = Vec::new();
            for key in &world.record.keys {
                signed.extend(visit.sign(key.number())?);
            }
            Ok(signed)
        },
        settle: |world, report, _| {
            if let Report::Done(signed) = report {
                let card = world.bench.open(&world.record);
                let (one, other) = signed.split_at(signed.len() / 2);
                for (key, signature) in world.record.keys.iter().zip([one, other]) {
                    if !is_signature(&card, key.number(), signature) {
                        return Err("a signature is not the key's".into());
                    }
                }
            }
            world.check_pin()?;
            Ok(report.ending())
        },
    });
}

fn world_with_rsa_key() -> World {
    let mut world = World::new(Kind::Plain, &[]);
    let mut visit = world.verified();
    visit.generate(KeyAlgorithm::Rsa2048).unwrap();
    world.record = visit.card.record().clone();
    world
}

fn decipher(world: &World, visit: &mut Visit) -> Result<Vec<u8>, CardError> {
    let keys = visit.card.keys()?;
    let public = rsa_public_key(&keys[0].1.public).unwrap();
    let padding = rsa::Oaep::<sha1::Sha1>::new();
    let cryptogram = public.encrypt(&mut SeededRng::new(5), padding, PLAIN);
    let operation = PrivateOperation::DecryptOaep {
        hash: HashAlgorithm::Sha1,
        label: &[],
        cryptogram: &cryptogram.unwrap(),
    };
    let key = world.record.keys[0].number();
    let plain = visit.card.use_key(&mut visit.connection, key, operation)?;
    Ok(plain.to_vec())
}

#[test]
fn decryption() {
    show(&CardOperation {
        row: "decryption",
        stride: 2,
        share: 1,
        is_slow: false,
        entry: Entry::None,
        world: world_with_rsa_key,
        prepare: World::verified,
        run: decipher,
        settle: |world, report, _| {
            if matches!(report, Report::Done(plain) if plain != PLAIN) {
                return Err("the plaintext is another one".into());
            }
            world.check_pin()?;
            Ok(report.ending())
        },
    });
}

fn other(present: &'static [u8], [one, two]: [&'static [u8]; 2]) -> &'static [u8] {
    if present == one { two } else { one }
}

fn change(
    visit: &mut Visit,
    reference: PinReference,
    old: &[u8],
    new: &[u8],
) -> Result<Vec<u8>, CardError> {
    let connection = &mut visit.connection;
    visit
        .card
        .change_pin(connection, reference, &pin(old), &pin(new))?;
    Ok(Vec::new())
}

#[test]
fn pin_change() {
    show(&CardOperation {
        row: "PIN change",
        stride: 3,
        share: 2,
        is_slow: false,
        entry: Entry::Pin,
        world: || World::new(Kind::Plain, &CLASSES),
        prepare: World::cold,
        run: |world, visit| {
            let new = other(world.pin, PINS);
            change(visit, PinReference::Pin, world.pin, new)
        },
        settle: |world, report, _| {
            let old = world.pin;
            world.pin = world.working(PinReference::Pin, PINS)?;
            report.change_ending(world.pin != old)
        },
    });
}

#[test]
fn puk_change() {
    show(&CardOperation {
        row: "PUK change",
        stride: 3,
        share: 5,
        is_slow: false,
        entry: Entry::Puk,
        world: || World::new(Kind::Puk, &CLASSES),
        prepare: World::warm,
        run: |world, visit| {
            let new = other(world.puk, PUKS);
            change(visit, PinReference::Puk, world.puk, new)
        },
        settle: |world, report, _| {
            let old = world.puk;
            world.puk = world.working(PinReference::Puk, PUKS)?;
            world.check_pin()?;
            report.change_ending(world.puk != old)
        },
    });
}

/// Uses up one try, which unblocking gives back.
pub(super) fn use_up_one_try(world: &mut World) {
    let mut visit = world.warm();
    assert!(visit.verify(WRONG_PIN).is_err());
    world.spent = 1;
}

/// The PIN that unblocking sets.
pub(super) fn new_pin(world: &World) -> &'static [u8] {
    other(world.pin, PINS)
}

/// Unblocking sets the PIN first, then gives the tries back.
pub(super) fn settle_unblocking(world: &mut World, report: &Report) -> Result<Ending, String> {
    if report.is_done() && world.bench.failures(&world.record) > 0 {
        return Err("the tries are not given back".into());
    }
    let old = world.pin;
    world.pin = world.working(PinReference::Pin, PINS)?;
    world.spent = 0;
    report.change_ending(world.pin != old)
}

#[test]
fn unblocking_by_puk() {
    show(&CardOperation {
        row: "unblocking by PUK",
        stride: 3,
        share: 2,
        is_slow: false,
        entry: Entry::Puk,
        world: || World::new(Kind::Puk, &CLASSES),
        prepare: |world| {
            use_up_one_try(world);
            world.warm()
        },
        run: |world, visit| {
            let (puk, new) = (pin(world.puk), pin(new_pin(world)));
            let connection = &mut visit.connection;
            visit.card.unblock_by_puk(connection, &puk, &new)?;
            Ok(Vec::new())
        },
        settle: |world, report, _| {
            let ending = settle_unblocking(world, report)?;
            world.working(PinReference::Puk, [world.puk, WRONG_PIN])?;
            Ok(ending)
        },
    });
}

#[test]
fn reading_the_tries() {
    show(&CardOperation {
        row: "reading the tries",
        stride: 1,
        share: 2,
        is_slow: false,
        entry: Entry::None,
        world: || World::new(Kind::Puk, &[]),
        prepare: |world| {
            use_up_one_try(world);
            world.cold()
        },
        run: |_, visit| {
            let mut shown = Vec::new();
            for reference in [PinReference::Pin, PinReference::Puk] {
                let status = visit.card.pin_status(reference)?;
                shown.extend(
                    [status.left, status.limit].map(|it| u8::try_from(it).unwrap_or(u8::MAX)),
                );
            }
            Ok(shown)
        },
        settle: |world, report, _| {
            if matches!(report, Report::Done(shown) if shown[..] != [4, 5, 10, 10]) {
                return Err("wrong numbers of tries are shown".into());
            }
            world.check_pin()?;
            world.spent = 0;
            Ok(report.ending())
        },
    });
}
