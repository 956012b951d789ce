//! The state folder on the real file system.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cardea_card::record::CardId;

use super::{id, only_card, record};
use crate::{Store, StoreError};

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn second_store_on_a_folder_is_refused_while_anything_of_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::open(folder.path()).unwrap();
    let file = first.create(&record("first")).unwrap();
    for holder in [Box::new(first) as Box<dyn std::any::Any>, Box::new(file)] {
        let refused = Store::open(folder.path()).err().unwrap();
        assert!(matches!(refused, StoreError::InUse(_)), "{refused}");
        assert!(refused.to_string().starts_with("another daemon uses"));
        drop(holder);
    }
    Store::open(folder.path()).unwrap();
}

#[test]
fn state_is_closed_to_others() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("lib").join("cardea");
    let store = Store::open(&folder).unwrap();
    store.create(&record("first")).unwrap();
    store.instance(id()).unwrap();
    for name in ["", "cards", "intents"] {
        assert_eq!(mode(&folder.join(name)), 0o700, "{name}");
    }
    for name in ["host.key", "lock", "registry"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&store.path(id())), 0o600);
}

#[test]
fn open_folder_is_closed_and_open_card_file_becomes_private_with_the_next_save() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    set_mode(folder.path(), 0o755);
    set_mode(&folder.path().join("cards"), 0o777);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(mode(folder.path()), 0o700);
    assert_eq!(mode(&folder.path().join("cards")), 0o700);
    let file = store.create(&record("first")).unwrap();
    // What an interrupted write left must not lend its mode.
    let new = store.path(id()).with_extension("card.new");
    std::fs::write(&new, b"left").unwrap();
    set_mode(&new, 0o666);
    file.write_next(&record("second")).unwrap();
    assert_eq!(mode(&store.path(id())), 0o600);
}

#[test]
fn host_key_that_others_could_read_or_that_is_no_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let key = folder.path().join("host.key");
    let refused = |what: &str| {
        let refused = Store::open(folder.path()).err().unwrap();
        assert!(refused.to_string().contains(what), "{refused}");
    };
    set_mode(&key, 0o640);
    refused("others may read it");
    set_mode(&key, 0o600);
    drop(Store::open(folder.path()).unwrap());
    for length in [0, 31, 33, 4096] {
        std::fs::write(&key, vec![1; length]).unwrap();
        refused("32 bytes");
    }
    let elsewhere = folder.path().join("elsewhere");
    std::fs::write(&elsewhere, [1; 32]).unwrap();
    std::fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &key).unwrap();
    refused("cannot read");
}

#[test]
fn host_key_is_made_once_and_another_one_believes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.create(&record("first")).unwrap();
    drop(store);
    let key = folder.path().join("host.key");
    let before = std::fs::read(&key).unwrap();
    assert_eq!(
        only_card(&Store::open(folder.path()).unwrap()).name,
        "first"
    );
    assert_eq!(std::fs::read(&key).unwrap(), before);
    std::fs::remove_file(&key).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let card = store.cards().unwrap().remove(0);
    assert!(!card.trusted);
    assert_eq!(card.content.unwrap().name, "first");
    assert_ne!(std::fs::read(&key).unwrap(), before);
}

#[test]
fn folder_in_place_of_which_something_else_lies_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("state");
    std::fs::write(&folder, b"a file").unwrap();
    assert!(matches!(Store::open(&folder), Err(StoreError::Io { .. })));
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let elsewhere = place.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.join("cards")).unwrap();
    assert!(matches!(
        Store::open(&folder),
        Err(StoreError::Unusable { .. })
    ));
    // The folder itself may be a link, as systemd makes it for a dynamic user.
    let link = place.path().join("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    Store::open(&link).unwrap();
}

#[test]
fn instance_numbers_are_the_lowest_free_and_survive() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, three] = [1, 2, 3].map(|byte| CardId::new([byte; 16]));
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(
        [one, two, one].map(|card| store.instance(card).unwrap()),
        [0, 1, 0]
    );
    store.release_instance(one).unwrap();
    store.release_instance(one).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(
        [two, three].map(|card| store.instance(card).unwrap()),
        [1, 0]
    );
}

#[test]
fn damaged_registry_is_refused_with_a_remedy_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.instance(CardId::new([1; 16])).unwrap();
    drop(store);
    let path = folder.path().join("registry");
    let whole = std::fs::read(&path).unwrap();
    // {0: [entry, entry]}
    let twice = [&[0xA1, 0x00, 0x82], &whole[3..], &whole[3..]].concat();
    let longer = [&whole[..], &[0]].concat();
    let shorter = whole[..whole.len() - 1].to_vec();
    for damaged in [twice, longer, shorter, vec![]] {
        std::fs::write(&path, &damaged).unwrap();
        let refused = Store::open(folder.path()).err().unwrap();
        assert!(refused.to_string().contains("remove it"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
}
