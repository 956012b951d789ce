//! Which file counts.

use std::path::{Path, PathBuf};

use cardea_card::record::CardId;
use cardea_card::token::CardStore as _;

use super::{id, only_card, record};
use crate::{CardFileError, Claim, Store, StoreError, StoredCard};

/// A card with two generations, “first” and “second”.
fn two_generations() -> (tempfile::TempDir, Store, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store
        .create(&record("first"))
        .unwrap()
        .save(&record("second"))
        .unwrap();
    let path = store.path(id());
    (folder, store, path)
}

fn the_card(store: &Store) -> StoredCard {
    store.cards().unwrap().remove(0)
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, &bytes).unwrap();
    bytes
}

#[test]
fn damaged_current_generation_gives_the_previous_one_and_says_so() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 5] = [
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.push(0),
        |bytes| bytes.clear(),
        |bytes| bytes.fill(0),
    ];
    for damage in damages {
        let (_folder, store, path) = two_generations();
        change(&path, damage);
        let card = the_card(&store);
        assert!(card.previous && card.trusted);
        assert_eq!(card.content.unwrap().name, "first");
    }
}

#[test]
fn missing_current_generation_gives_the_previous_one_and_says_so() {
    let (_folder, store, path) = two_generations();
    std::fs::remove_file(&path).unwrap();
    let card = the_card(&store);
    assert!(card.previous && card.trusted);
    assert_eq!(card.path, path);
    store.card(id()).save(&record("third")).unwrap();
    assert!(!the_card(&store).previous);
}

#[test]
fn save_over_a_damaged_file_keeps_it_aside_and_the_previous_generation_too() {
    let (_folder, store, path) = two_generations();
    let damaged = change(&path, |bytes| bytes.truncate(40));
    store.card(id()).save(&record("third")).unwrap();
    assert_eq!(only_card(&store).name, "third");
    let aside = path.with_extension("card.damaged");
    assert_eq!(std::fs::read(aside).unwrap(), damaged);
    change(&path, |bytes| bytes.clear());
    assert_eq!(only_card(&store).name, "first");
}

#[test]
fn file_of_a_newer_version_hides_nothing_and_is_left_alone() {
    let (_folder, store, path) = two_generations();
    let newer = change(&path, |bytes| bytes[9] = 3);
    let card = the_card(&store);
    assert!(!card.previous && !card.trusted);
    assert!(matches!(card.content, Err(CardFileError::Newer { .. })));
    let error = store.card(id()).write_next(&record("third")).unwrap_err();
    assert!(matches!(
        error,
        StoreError::Card(CardFileError::Newer { .. })
    ));
    store.create(&record("third")).err().unwrap();
    store.adopt(&path).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), newer);
    assert!(!path.with_extension("card.new").exists());
}

#[test]
fn record_that_could_not_be_read_again_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut file = store.create(&record("first")).unwrap();
    file.save(&record("a\tb")).unwrap_err();
    assert_eq!(only_card(&store).name, "first");
}

#[test]
fn second_card_of_one_id_is_not_created() {
    let (_folder, store, path) = two_generations();
    let refused = store.create(&record("third")).err().unwrap();
    assert!(matches!(refused, StoreError::Exists(card) if card == id()));
    assert_eq!(only_card(&store).name, "second");
    change(&path, |bytes| bytes.clear());
    store.create(&record("third")).err().unwrap();
    assert_eq!(only_card(&store).name, "first");
}

#[test]
fn removal_takes_every_generation_and_nothing_else() {
    let (folder, store, path) = two_generations();
    change(&path, |bytes| bytes.clear());
    store.card(id()).save(&record("third")).unwrap();
    for wrong in [
        folder.path().join("host.key"),
        folder.path().join("cards"),
        folder.path().join("cards/../host.card"),
        path.with_extension("card.old"),
    ] {
        assert!(matches!(
            store.remove(&wrong),
            Err(StoreError::Unusable { .. })
        ));
    }
    store.remove(&path).unwrap();
    assert_eq!(folder.path().join("cards").read_dir().unwrap().count(), 0);
    store.remove(&path).unwrap();
}

/// Two hosts, and a card file of the first in the second.
fn brought() -> ([tempfile::TempDir; 2], Store, PathBuf) {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let theirs = Store::open(folders[0].path()).unwrap();
    let ours = Store::open(folders[1].path()).unwrap();
    theirs.create(&record("theirs")).unwrap();
    let path = ours.path(id());
    std::fs::copy(theirs.path(id()), &path).unwrap();
    (folders, ours, path)
}

#[test]
fn file_of_another_host_is_not_trusted_until_it_is_adopted() {
    let (_folders, ours, path) = brought();
    let card = the_card(&ours);
    assert!(!card.trusted && !card.previous);
    assert_eq!(card.content.unwrap().name, "theirs");
    assert_eq!(ours.adopt(&path).unwrap().name, "theirs");
    assert_eq!(only_card(&ours).name, "theirs");
    assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1);
}

#[test]
fn adoption_replaces_no_card_and_takes_no_index() {
    let (folders, ours, path) = brought();
    let outside = folders[0].path().join("brought.card");
    std::fs::rename(&path, &outside).unwrap();
    ours.create(&record("ours")).unwrap();
    let refused = ours.adopt(&outside).unwrap_err();
    assert!(matches!(refused, StoreError::Exists(_)), "{refused}");
    ours.remove(&path).unwrap();

    let mut claimant = record("older claimant");
    claimant.id = CardId::new([1; 16]);
    ours.create(&claimant).unwrap();
    let refused = ours.adopt(&outside).unwrap_err();
    assert!(matches!(
        refused,
        StoreError::Claimed { claim: Claim::Index(0x01C2_0000), owner } if owner == claimant.id
    ));
    assert_eq!(only_card(&ours).name, "older claimant");
    ours.remove(&ours.path(claimant.id)).unwrap();
    ours.adopt(&outside).unwrap();
    assert_eq!(only_card(&ours).name, "theirs");
    assert!(outside.exists());
}

#[test]
fn names_that_stand_for_no_card_or_another_are_refused() {
    let (folder, store, path) = two_generations();
    let other = store.path(CardId::new([1; 16]));
    std::fs::copy(&path, &other).unwrap();
    let cards = folder.path().join("cards");
    let upper = cards.join(format!("{}.card", "AB".repeat(16)));
    let copy = cards.join("copy of a card.card");
    std::fs::copy(&path, &upper).unwrap();
    std::fs::copy(&path, &copy).unwrap();
    let found = store.cards().unwrap();
    let look = |wanted: &Path| {
        let card = found.iter().find(|card| card.path == wanted).unwrap();
        assert!(!card.trusted);
        (card.id, card.content.as_ref().unwrap_err())
    };
    assert!(matches!(look(&other), (Some(_), CardFileError::OtherCard(card)) if *card == id()));
    assert!(matches!(look(&upper), (None, CardFileError::StrayName)));
    assert!(matches!(look(&copy), (None, CardFileError::StrayName)));
    assert_eq!(found.len(), 4);
    store.remove(&copy).unwrap();
    assert!(!copy.exists());
}

#[test]
fn what_is_no_regular_file_is_never_opened_as_one() {
    let (folder, store, path) = two_generations();
    let outside = folder.path().join("outside");
    std::fs::copy(&path, &outside).unwrap();
    let before = std::fs::read(&outside).unwrap();
    let link = store.path(CardId::new([1; 16]));
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let pipe = store.path(CardId::new([2; 16]));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let socket = store.path(CardId::new([3; 16]));
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let directory = store.path(CardId::new([4; 16]));
    std::fs::create_dir(&directory).unwrap();
    for card in store.cards().unwrap() {
        if card.path != path {
            assert!(
                matches!(card.content, Err(CardFileError::NotRegular)),
                "{card:?}"
            );
        }
    }
    // Nor written through, wherever it lies.
    std::os::unix::fs::symlink(&outside, path.with_extension("card.new")).unwrap();
    std::fs::remove_file(path.with_extension("card.old")).unwrap();
    std::os::unix::fs::symlink(&outside, path.with_extension("card.old")).unwrap();
    store.card(id()).save(&record("third")).unwrap();
    assert_eq!(std::fs::read(&outside).unwrap(), before);
    assert!(path.symlink_metadata().unwrap().is_file());
}

#[test]
fn interrupted_replacement_is_finished_or_forgotten_at_the_next_start() {
    let (folder, store, path) = two_generations();
    let new = path.with_extension("card.new");
    std::fs::rename(&path, &new).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(only_card(&store).name, "second");
    assert!(!new.exists());
    std::fs::copy(path.with_extension("card.old"), &new).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(only_card(&store).name, "second");
    assert!(!new.exists());
}
