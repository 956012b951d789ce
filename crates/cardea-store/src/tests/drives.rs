//! Folders on drives: what lies there, power cuts without a journal, and what this host knows of its cards.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cardea_card::record::{CardId, IndexRole};

use super::model::{Failure, Model, State};
use super::{id, record};
use crate::disk::Disk;
use crate::drive::{DriveFolder, Drives, FolderDisk};
use crate::format::HostKey;
use crate::{CardFileError, KnownCard, KnownIndex, KnownPolicies, Store, StoreError};

fn name() -> PathBuf {
    format!("{}.card", id()).into()
}

fn drives() -> Drives {
    Drives::new(Arc::new(HostKey::new([5; 32])))
}

fn folder(disk: &Arc<Model>) -> DriveFolder {
    drives().on_disk(Arc::<Model>::clone(disk))
}

/// The one card, as it is found after an interruption was dealt with.
fn found(state: State) -> Option<String> {
    let drive = folder(&Model::without_journal(state));
    let stored = drive.card(&name()).unwrap()?;
    assert!(stored.trusted, "{stored:?}");
    Some(stored.content.unwrap().name)
}

/// All of it on the disk.
fn disk_with(what: impl FnOnce(&DriveFolder)) -> State {
    let disk = Model::without_journal(State::default());
    what(&folder(&disk));
    disk.state().after_power_cut().swap_remove(0)
}

fn two_generations() -> State {
    disk_with(|drive| {
        drive.create(&record("older")).unwrap();
        drive.save(&record("first")).unwrap();
    })
}

/// A folder in which somebody makes a file of the card's name as soon as the new one is written.
struct Intruded(FolderDisk, PathBuf);

impl Disk for Intruded {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.0.read(path, limit)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.0.write(path, bytes)?;
        fs::write(&self.1, "somebody else's")
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename_new(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.0.sync_folder(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.list(path)
    }

    fn renames_whole(&self) -> bool {
        self.0.renames_whole()
    }
}

#[test]
fn file_that_somebody_makes_during_a_creation_stays() {
    for kind in ["ext4", "vfat"] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(name());
        let disk = FolderDisk::new(File::open(place.path()).unwrap().into(), Ok(kind)).unwrap();
        let drive = drives().on_disk(Arc::new(Intruded(disk, path.clone())));
        let refused = drive.create(&record("new"));
        assert!(
            matches!(refused, Err(StoreError::Exists(card)) if card == id()),
            "{kind} {refused:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"somebody else's", "{kind}");
        let left = fs::read_dir(place.path()).unwrap().count();
        assert_eq!(left, 1, "{kind}: nothing of the new one is left");
        // Nothing was remembered that would remove it later.
        drop(drive.card(&name()).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"somebody else's", "{kind}");
    }
}

#[test]
fn power_cut_at_any_step_of_a_save_without_journal_leaves_the_old_or_the_new_record() {
    let first = disk_with(|drive| drive.create(&record("first")).unwrap());
    for before in [first, two_generations()] {
        for steps in 0.. {
            let disk = Model::without_journal(before.clone());
            let drive = folder(&disk);
            disk.fail(Failure::PowerCut(steps));
            let done = drive.save(&record("second")).is_ok();
            for state in disk.state().after_power_cut() {
                let name = found(state.clone()).expect("a generation");
                assert!(
                    name == "second" || !done && name == "first",
                    "{steps} {name}"
                );
                // And it goes on from there.
                let disk = Model::without_journal(state);
                folder(&disk).save(&record("third")).unwrap();
                assert_eq!(found(disk.state()).as_deref(), Some("third"));
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn power_cut_at_any_step_of_a_creation_without_journal_leaves_the_card_or_none() {
    for steps in 0.. {
        let disk = Model::without_journal(State::default());
        disk.fail(Failure::PowerCut(steps));
        let done = folder(&disk).create(&record("first")).is_ok();
        for state in disk.state().after_power_cut() {
            let drive = folder(&Model::without_journal(state));
            let stored = drive.card(&name()).unwrap();
            let whole = stored.as_ref().is_some_and(|stored| stored.trusted);
            // A name without content may be left where nothing was acknowledged.
            let empty =
                stored.is_none_or(|stored| matches!(stored.content, Err(CardFileError::Truncated)));
            assert!(whole || !done && empty, "{steps}");
        }
        if done {
            break;
        }
    }
}

#[test]
fn power_cut_at_any_step_of_a_removal_without_journal_brings_no_older_generation_back() {
    for steps in 0.. {
        let disk = Model::without_journal(two_generations());
        disk.fail(Failure::PowerCut(steps));
        let done = folder(&disk).remove(id()).is_ok();
        for state in disk.state().after_power_cut() {
            let name = found(state);
            assert!(
                name.is_none() || !done && name.as_deref() == Some("first"),
                "{steps}"
            );
        }
        if done {
            break;
        }
    }
}

#[test]
fn failed_save_without_journal_leaves_the_old_record_and_the_next_one_works() {
    let mut failed = 0;
    for step in 0..20 {
        let disk = Model::without_journal(two_generations());
        let drive = folder(&disk);
        disk.fail(Failure::Once(step, std::io::ErrorKind::StorageFull));
        if drive.save(&record("second")).is_err() {
            failed += 1;
            assert_eq!(found(disk.state()).as_deref(), Some("first"), "{step}");
        }
        disk.fail(Failure::Never);
        drive.save(&record("third")).unwrap();
        assert_eq!(found(disk.state()).as_deref(), Some("third"));
    }
    assert!(failed >= 7, "{failed}");
}

#[test]
fn nothing_is_built_on_what_was_refused_when_the_folder_was_opened_before() {
    for make in [Model::new, Model::without_journal] {
        for steps in 0.. {
            let (drives, disk) = (drives(), make(two_generations()));
            let folder = || drives.on_disk(Arc::<Model>::clone(&disk));
            disk.fail(Failure::PowerCut(steps));
            let done = folder().save(&record("second")).is_ok();
            disk.fail(Failure::Never);
            if done {
                break;
            }
            folder().save(&record("third")).unwrap();
            let mut state = disk.state();
            assert_eq!(found(state.clone()).as_deref(), Some("third"), "{steps}");
            // The one before it is not the one that was refused.
            state.tamper(&name(), Vec::clear);
            assert_eq!(found(state).as_deref(), Some("first"), "{steps}");
        }
    }
}

/// What another host has written, and what this host makes of it.
#[test]
fn adoption_that_failed_is_taken_back_and_one_that_is_done_stays() {
    let theirs = |disk: &Arc<Model>| {
        let key = HostKey::new([6; 32]);
        let drives = Drives::new(Arc::new(key));
        let folder = drives.on_disk(Arc::<Model>::clone(disk));
        folder.create(&record("theirs")).unwrap();
        disk.state().after_power_cut().swap_remove(0)
    };
    let seen = |folder: &DriveFolder| {
        let stored = folder.card(&name()).unwrap().unwrap();
        (stored.content.unwrap().name, stored.trusted)
    };
    let (old, new) = (("theirs".to_owned(), false), ("ours".to_owned(), true));
    for make in [Model::new, Model::without_journal] {
        let before = theirs(&make(State::default()));
        for at in 0..30 {
            let once = Failure::Once(at, std::io::ErrorKind::StorageFull);
            for failure in [once, Failure::PowerCut(at)] {
                let (drives, disk) = (drives(), make(before.clone()));
                let folder = || drives.on_disk(Arc::<Model>::clone(&disk));
                disk.fail(failure);
                let done = folder().adopt(&record("ours"));
                disk.fail(Failure::Never);
                let left = seen(&self::folder(&make(disk.state())));
                let expected = match &done {
                    Ok(()) => &new,
                    Err(_) => &old,
                };
                // Another daemon, which knows of no refusal, may find it where the answer has said so.
                let is_not_known = done
                    .as_ref()
                    .is_err_and(|error| error.to_string().contains("not known"));
                let expected_by_another = if is_not_known { &left } else { expected };
                assert_eq!(&left, expected_by_another, "{failure:?} {done:?}");
                assert!(failure != once || !is_not_known, "{failure:?}");
                assert_eq!(&seen(&folder()), expected, "{failure:?} {done:?}");
                folder().adopt(&record("ours")).unwrap();
                assert_eq!(seen(&folder()), new);
            }
        }
    }
}

fn opened(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

#[test]
fn only_regular_files_of_a_folder_on_a_disk_are_read() {
    let place = tempfile::tempdir().unwrap();
    let state = Store::open(&place.path().join("state")).unwrap();
    let path = place.path().join("Cardea");
    fs::create_dir(&path).unwrap();
    // Whatever the tests run on.
    let drive = || state.drives().open_on(opened(&path), Ok("ext4")).unwrap();
    assert!(drive().names().unwrap().is_empty());
    drive().create(&record("first")).unwrap();
    assert!(matches!(
        drive().create(&record("again")),
        Err(StoreError::Exists(_))
    ));
    assert_eq!(drive().names().unwrap(), [name()]);
    let card = drive().card(&name()).unwrap().unwrap();
    assert!(card.trusted);
    assert_eq!(card.content.unwrap().name, "first");
    let elsewhere = path.join("elsewhere");
    fs::rename(path.join(name()), &elsewhere).unwrap();
    for make in [
        Box::new(|| symlink(&elsewhere, path.join(name())).unwrap()) as Box<dyn Fn()>,
        Box::new(|| fs::create_dir(path.join(name())).unwrap()),
        Box::new(|| drop(std::os::unix::net::UnixListener::bind(path.join(name())).unwrap())),
    ] {
        make();
        let found = drive().card(&name()).unwrap().unwrap();
        assert!(
            matches!(found.content, Err(CardFileError::NotRegular)),
            "{found:?}"
        );
        drop(fs::remove_dir(path.join(name())));
        drop(fs::remove_file(path.join(name())));
    }
    // Names that lead elsewhere are none.
    for stray in ["../state/cards", "elsewhere/x", "..", "/etc/passwd", "x//y"] {
        let found = drive().card(Path::new(stray)).unwrap();
        let content = found.map(|found| found.content);
        assert!(!matches!(content, Some(Ok(_))), "{stray}");
    }
    assert!(
        state.drives().open(opened(&elsewhere)).is_err(),
        "not a folder"
    );
    for kept_nowhere in ["/proc", "/sys", "/dev"] {
        let refused = state.drives().open(opened(Path::new(kept_nowhere)));
        let refused = text(refused.err().unwrap());
        assert!(refused.contains("file systems of this kind"), "{refused}");
    }
}

fn text(error: StoreError) -> String {
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

fn known() -> KnownCard {
    KnownCard {
        card: id(),
        name: "Travel".into(),
        owner: 1000,
        created: 7,
        indices: vec![KnownIndex {
            handle: 0x01C2_0000,
            role: IndexRole::Pin,
            policy: [3; 32],
        }],
        sealed: Some(KnownPolicies {
            handle: 0x01C2_0003,
            policy: [4; 32],
        }),
    }
}

#[test]
fn known_card_is_there_until_it_is_removed_and_planted_ones_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.write_known(&known()).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.known_cards().unwrap(), [known()]);
    let path = folder.path().join("drives").join(id().to_string());
    let whole = fs::read(&path).unwrap();
    for bit in (0..8 * whole.len()).step_by(5) {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, changed).unwrap();
        assert!(store.known_cards().unwrap().is_empty(), "bit {bit}");
    }
    // Under another card's name, or as an intent, it is nothing.
    fs::remove_file(&path).unwrap();
    let other = folder
        .path()
        .join("drives")
        .join(CardId::new([1; 16]).to_string());
    fs::write(&other, &whole).unwrap();
    assert!(store.known_cards().unwrap().is_empty());
    fs::rename(&other, folder.path().join("intents").join(id().to_string())).unwrap();
    assert!(store.intents().unwrap().is_empty());
    store.write_known(&known()).unwrap();
    store.remove_known(id()).unwrap();
    store.remove_known(id()).unwrap();
    assert!(store.known_cards().unwrap().is_empty());
    let handle = 0x0180_0000;
    let index = KnownIndex {
        handle,
        ..known().indices[0]
    };
    let sealed = known()
        .sealed
        .map(|sealed| KnownPolicies { handle, ..sealed });
    for impossible in [
        KnownCard {
            indices: vec![index],
            ..known()
        },
        KnownCard { sealed, ..known() },
    ] {
        assert!(matches!(
            store.write_known(&impossible),
            Err(StoreError::Unusable { .. })
        ));
    }
}
