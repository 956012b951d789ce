//! Intents of this host, and what others put there.

use std::fs;

use cardea_card::record::{CardId, CardRecord};
use hmac::Mac;

use super::{id, only_card, record};
use crate::format::{HostKey, mac};
use crate::{Intent, IntentKind, Store, StoreError};

fn intent() -> Intent {
    Intent {
        card: id(),
        kind: IntentKind::Destroy,
        indices: vec![(0x01C2_0000, [3; 32]), (0x01C2_0001, [4; 32])],
    }
}

#[test]
fn intent_is_there_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.write_intent(&intent()).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.intents().unwrap(), [intent()]);
    store.remove_intent(id()).unwrap();
    store.remove_intent(id()).unwrap();
    assert!(store.intents().unwrap().is_empty());
}

/// The file of an intent under some host key.
fn file(intent: &Intent, key: [u8; 32]) -> Vec<u8> {
    let body = minicbor::to_vec(intent).unwrap();
    let tag = mac(&HostKey::new(key), &body).finalize().into_bytes();
    [&body[..], &tag].concat()
}

#[test]
fn planted_intent_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let own: [u8; 32] = std::fs::read(folder.path().join("host.key"))
        .unwrap()
        .try_into()
        .unwrap();
    let path = |card: CardId| folder.path().join("intents").join(card.to_string());
    let plant = |bytes: &[u8]| {
        std::fs::write(path(id()), bytes).unwrap();
        store.intents().unwrap()
    };
    let whole = file(&intent(), own);
    assert_eq!(plant(&whole), [intent()], "the right one is believed");
    assert!(
        plant(&file(&intent(), [7; 32])).is_empty(),
        "of another host"
    );
    assert!(plant(&minicbor::to_vec(intent()).unwrap()).is_empty());
    assert!(plant(b"").is_empty());
    for bit in (0..8 * whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(plant(&changed).is_empty(), "{bit}");
    }
    let mut outside = intent();
    outside.indices[0].0 = 0x01C0_0002;
    assert!(plant(&file(&outside, own)).is_empty(), "an index of others");

    // Under another name: another card, another spelling, a link, no id.
    plant(&whole);
    std::fs::write(path(CardId::new([1; 16])), &whole).unwrap();
    let upper = id().to_string().to_uppercase();
    std::fs::write(folder.path().join("intents").join(upper), &whole).unwrap();
    std::fs::write(folder.path().join("intents").join("note"), &whole).unwrap();
    let mut linked = intent();
    linked.card = CardId::new([2; 16]);
    let outside = folder.path().join("outside");
    std::fs::write(&outside, file(&linked, own)).unwrap();
    std::os::unix::fs::symlink(&outside, path(linked.card)).unwrap();
    assert_eq!(store.intents().unwrap(), [intent()]);
}

#[test]
fn intent_outside_the_cards_range_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for handle in [0x01C0_0002, 0x01C1_FFFF, 0x01C3_0000, 0x8100_0001] {
        let mut wrong = intent();
        wrong.indices[1].0 = handle;
        let refused = store.write_intent(&wrong).unwrap_err();
        assert!(matches!(refused, StoreError::Unusable { .. }), "{refused}");
    }
    let mut many = intent();
    many.indices = (0..5).map(|n| (0x01C2_0000 + n, [0; 32])).collect();
    store.write_intent(&many).unwrap_err();
    assert!(store.intents().unwrap().is_empty());
}

#[test]
fn unfinished_creation_removes_what_it_has_written_and_nothing_else() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(folder.path()).unwrap();
    let path = store.path(id());
    let generation = |suffix: &str| path.with_extension(format!("card.{suffix}"));
    store.create(&record("made")).unwrap();
    let own = fs::read(&path).unwrap();
    let (damaged, new) = (generation("damaged"), generation("new"));
    fs::write(&damaged, "for people").unwrap();
    fs::write(&new, own.split_at(own.len() / 2).0).unwrap();
    store.remove_made(id(), &|_| false).unwrap();
    assert_eq!(only_card(&store).name, "made");
    assert!(!new.exists(), "half a file is nobody's");
    fs::write(&new, &own).unwrap();
    let is_made = |record: &CardRecord| record.name == "made";
    store.remove_made(id(), &is_made).unwrap();
    assert!(!path.exists() && !new.exists());
    assert!(damaged.exists());

    // The record says the same; this host has not written it.
    let elsewhere = Store::open(other.path()).unwrap();
    elsewhere.create(&record("made")).unwrap();
    for name in [&path, &generation("old"), &new] {
        fs::copy(elsewhere.path(id()), name).unwrap();
        store.remove_made(id(), &is_made).unwrap();
        assert!(name.exists());
        let made = store.create(&record("made"));
        assert!(matches!(made.map(drop), Err(StoreError::Exists(_))));
        fs::remove_file(name).unwrap();
    }
    // Half a file keeps nobody from making it.
    fs::write(&new, own.split_at(own.len() / 2).0).unwrap();
    store.create(&record("again")).unwrap();
}
