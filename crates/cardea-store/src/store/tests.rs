//! Power cuts and failing disks at every step, and what the real file system does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicIsize, Ordering};

use cardea_card::record::{
    CardId, CounterMode, GidsRecord, IndexRecord, IndexRole, SecretLengths, Settings, SrkRecord,
    TpmRecord,
};
use cardea_card::token::CardStore as _;

use super::*;
use crate::intent::IntentKind;

fn record(name: &str) -> CardRecord {
    let mut tpm_name = vec![0x00, 0x0B];
    tpm_name.resize(34, 7);
    CardRecord {
        id: CardId::new([0xAB; 16]),
        name: name.into(),
        owner: 1000,
        created: 1_700_000_000,
        settings: Settings::default(),
        lengths: SecretLengths {
            pin: vec![6],
            puk: vec![],
        },
        tpm: TpmRecord {
            mode: CounterMode::Nv,
            srk: SrkRecord {
                handle: 0x8100_0001,
                name: tpm_name.clone(),
                template: vec![1],
            },
            salt: [9; 16],
            birth_public: vec![2; 88],
            indices: vec![IndexRecord {
                role: IndexRole::Pin,
                handle: 0x01C2_0000,
                name: tpm_name,
                limit: 5,
            }],
            approvals: vec![],
            vault: None,
            previous_vault: None,
            sealed_key: None,
            attestation_key: None,
        },
        keys: vec![],
        gids: GidsRecord {
            life_cycle: 5,
            files: vec![],
        },
        certificates_written: 0,
        provisional: None,
    }
}

/// What an unsynced file holds after a power cut.
#[derive(Clone, Copy, Debug)]
enum Lost {
    All,
    Half,
    Nothing,
}

#[derive(Clone, Default)]
struct State {
    /// Contents, and whether they are on the disk.
    inodes: Vec<(Vec<u8>, bool)>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
}

/// A disk that fails.
struct Model {
    state: Mutex<State>,
    /// Operations until it fails.
    left: AtomicIsize,
    /// Whether it works again after the one failure.
    once: bool,
}

impl Model {
    fn new(state: State, operations: isize, once: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            left: AtomicIsize::new(operations),
            once,
        })
    }

    fn step(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left == 0 || left < 0 && !self.once {
            return Err(io::Error::other("the disk has failed"));
        }
        Ok(self.state.lock().unwrap())
    }

    fn after_power_cut(&self, lost: Lost, names_too: bool) -> State {
        let mut state = self.state.lock().unwrap().clone();
        if names_too {
            state.names = state.durable.clone();
        }
        for (data, synced) in &mut state.inodes {
            if !*synced {
                match lost {
                    Lost::All => data.clear(),
                    Lost::Half => data.truncate(data.len() / 2),
                    Lost::Nothing => {}
                }
            }
        }
        state
    }
}

impl Disk for Model {
    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let inode = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.inodes[*inode].0.clone())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.step()?;
        let fresh = state.inodes.len();
        let inode = *state.names.entry(path.to_owned()).or_insert(fresh);
        if inode == fresh {
            state.inodes.push((vec![], false));
        }
        state.inodes[inode] = (bytes.to_vec(), false);
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = state.names[path];
        state.inodes[inode].1 = true;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?.names.remove(path);
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        state.durable = state.names.clone();
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state.lock().unwrap();
        Ok(state
            .names
            .keys()
            .filter(|name| name.parent() == Some(path))
            .cloned()
            .collect())
    }
}

fn store(disk: Arc<Model>) -> Store {
    let lock = tempfile::tempfile().unwrap();
    Store::with_disk(Path::new("/state"), disk, lock).unwrap()
}

/// A disk with one card, “first”, all of it synced.
fn one_card() -> State {
    let disk = Model::new(State::default(), isize::MAX, false);
    store(Arc::clone(&disk)).create(&record("first")).unwrap();
    let state = disk.state.lock().unwrap();
    assert!(state.inodes.iter().all(|(_, synced)| *synced));
    state.clone()
}

fn only_card(store: &Store) -> CardRecord {
    let mut cards = store.cards().unwrap();
    assert_eq!(cards.len(), 1);
    let card = cards.remove(0);
    assert!(card.trusted);
    card.content.unwrap()
}

#[test]
fn power_cut_at_any_step_of_a_save_leaves_the_old_or_the_new_record() {
    let mut finished = false;
    for steps in 0..20 {
        for lost in [Lost::All, Lost::Half, Lost::Nothing] {
            for names_too in [false, true] {
                let disk = Model::new(one_card(), steps, false);
                let mut file = store(Arc::clone(&disk)).card(record("").id);
                let saved = file.save(&record("second"));
                let after = disk.after_power_cut(lost, names_too);
                let found = only_card(&store(Model::new(after, isize::MAX, false))).name;
                if saved.is_ok() {
                    assert_eq!(found, "second", "{steps} {lost:?} {names_too}");
                    finished = true;
                } else {
                    assert!(["first", "second"].contains(&&*found));
                }
            }
        }
    }
    assert!(finished);
}

#[test]
fn failed_save_leaves_the_old_record() {
    for steps in 0..5 {
        let disk = Model::new(one_card(), steps, true);
        let store = store(Arc::clone(&disk));
        store
            .card(record("").id)
            .save(&record("second"))
            .unwrap_err();
        assert_eq!(only_card(&store).name, "first", "{steps}");
        store.card(record("").id).save(&record("third")).unwrap();
        assert_eq!(only_card(&store).name, "third");
    }
}

#[test]
fn power_cut_at_any_step_of_a_removal_brings_no_older_generation_back() {
    for steps in 0..8 {
        let disk = Model::new(one_card(), isize::MAX, false);
        let mut file = store(Arc::clone(&disk)).card(record("").id);
        file.save(&record("second")).unwrap();
        let state = disk.state.lock().unwrap().clone();
        for names_too in [false, true] {
            let disk = Model::new(state.clone(), steps, false);
            let removing = store(Arc::clone(&disk));
            let removed = removing.remove(&removing.path(record("").id));
            let after = disk.after_power_cut(Lost::All, names_too);
            let left = store(Model::new(after, isize::MAX, false)).cards().unwrap();
            match left.into_iter().next() {
                None => {}
                Some(card) => {
                    assert!(removed.is_err());
                    assert_eq!(card.content.unwrap().name, "second");
                }
            }
        }
    }
}

#[test]
fn intent_and_registry_survive_or_were_never_acknowledged() {
    let intent = Intent {
        card: record("").id,
        kind: IntentKind::Create,
        indices: vec![(0x01C2_0000, [3; 32])],
    };
    for steps in 0..6 {
        let disk = Model::new(one_card(), steps, false);
        let written = store(Arc::clone(&disk)).write_intent(&intent);
        let numbered = store(Arc::clone(&disk)).instance(intent.card);
        let after = store(Model::new(
            disk.after_power_cut(Lost::All, true),
            isize::MAX,
            false,
        ));
        let intents = after.intents().unwrap();
        if written.is_ok() {
            assert_eq!(intents, std::slice::from_ref(&intent));
        } else {
            assert!(intents.is_empty());
            numbered.unwrap_err();
        }
    }
}

#[test]
fn second_store_on_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::open(folder.path()).unwrap();
    let refused = Store::open(folder.path()).err().unwrap();
    assert!(matches!(refused, StoreError::InUse(_)), "{refused}");
    assert!(refused.to_string().starts_with("another daemon uses"));
    drop(first);
    Store::open(folder.path()).unwrap();
}

#[test]
fn state_is_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.create(&record("first")).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.path()), 0o700);
    assert_eq!(mode(&folder.path().join("host.key")), 0o600);
    assert_eq!(mode(&store.path(record("").id)), 0o600);
}

#[test]
fn damaged_current_generation_gives_the_previous_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut file = store.create(&record("first")).unwrap();
    file.save(&record("second")).unwrap();
    let path = store.path(record("").id);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let card = store.cards().unwrap().remove(0);
    assert!(card.previous && card.trusted);
    assert_eq!(card.content.unwrap().name, "first");
}

#[test]
fn file_of_another_host_is_not_trusted_until_it_is_adopted() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (theirs, ours) = (
        Store::open(theirs.path()).unwrap(),
        Store::open(ours.path()).unwrap(),
    );
    theirs.create(&record("theirs")).unwrap();
    let path = ours.path(record("").id);
    std::fs::copy(theirs.path(record("").id), &path).unwrap();
    let card = ours.cards().unwrap().remove(0);
    assert!(!card.trusted);
    assert_eq!(card.content.unwrap().name, "theirs");
    ours.adopt(&path).unwrap();
    assert!(ours.cards().unwrap()[0].trusted);
}

#[test]
fn links_and_renamed_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.create(&record("first")).unwrap();
    let path = store.path(record("").id);
    let other = store.path(CardId::new([1; 16]));
    std::fs::copy(&path, &other).unwrap();
    let link = store.path(CardId::new([2; 16]));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let cards = store.cards().unwrap();
    let fault = |wanted: &Path| {
        cards
            .iter()
            .find(|card| card.path == wanted)
            .unwrap()
            .content
            .as_ref()
            .unwrap_err()
    };
    assert!(matches!(fault(&other), CardFileError::OtherCard(_)));
    assert!(matches!(fault(&link), CardFileError::Io(_)));
}

#[test]
fn planted_intent_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let intent = Intent {
        card: record("").id,
        kind: IntentKind::Destroy,
        indices: vec![(0x01C2_0000, [3; 32])],
    };
    store.write_intent(&intent).unwrap();
    let other = CardId::new([1; 16]);
    std::fs::copy(
        folder.path().join("intents").join(intent.card.to_string()),
        folder.path().join("intents").join(other.to_string()),
    )
    .unwrap();
    let forged = minicbor::to_vec(&intent).unwrap();
    std::fs::write(folder.path().join("intents").join("ff".repeat(16)), forged).unwrap();
    assert_eq!(store.intents().unwrap(), std::slice::from_ref(&intent));
    store.remove_intent(intent.card).unwrap();
    store.remove_intent(intent.card).unwrap();
    assert!(store.intents().unwrap().is_empty());
}

#[test]
fn instance_numbers_are_the_lowest_free_and_survive() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two, three) = (
        CardId::new([1; 16]),
        CardId::new([2; 16]),
        CardId::new([3; 16]),
    );
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(
        [store.instance(one).unwrap(), store.instance(two).unwrap()],
        [0, 1]
    );
    store.release_instance(one).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(
        [store.instance(two).unwrap(), store.instance(three).unwrap()],
        [1, 0]
    );
}

#[test]
fn two_claimants_of_an_index_are_found() {
    let one = record("one");
    let mut two = record("two");
    two.id = CardId::new([2; 16]);
    assert_eq!(
        crate::conflicts(&[&one, &two]),
        [(one.id, two.id, 0x01C2_0000)]
    );
    two.tpm.indices[0].handle = 0x01C2_0003;
    assert!(crate::conflicts(&[&one, &two]).is_empty());
}

mod format {
    use proptest::prelude::*;

    use super::record;
    use crate::format::{CardFileError, HostKey, VERSION, decode, encode};

    fn key() -> HostKey {
        HostKey::new([1; 32])
    }

    #[test]
    fn newer_version_is_refused_and_named() {
        let mut file = encode(&key(), &record("card")).unwrap();
        file[9] = 2;
        let error = decode(&key(), &file).unwrap_err();
        assert!(matches!(
            error,
            CardFileError::Newer {
                found: 2,
                known: VERSION
            }
        ));
        assert!(error.to_string().contains("format 2"), "{error}");
    }

    #[test]
    fn every_truncation_is_an_error_and_every_flipped_bit_is_noticed() {
        let file = encode(&key(), &record("card")).unwrap();
        for length in 0..file.len() {
            decode(&key(), &file[..length]).unwrap_err();
        }
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&key(), &flipped), Ok(decoded) if decoded.trusted));
        }
        let longer = [&file[..], &[0]].concat();
        assert!(!decode(&key(), &longer).unwrap().trusted);
        assert!(!decode(&HostKey::new([2; 32]), &file).unwrap().trusted);
    }

    #[test]
    fn record_out_of_bounds_is_refused_although_this_host_wrote_it() {
        let mut wrong = record("name\nwith a line end");
        let refused = |record| decode(&key(), &encode(&key(), &record).unwrap()).unwrap_err();
        assert!(matches!(refused(wrong.clone()), CardFileError::Fault(_)));
        wrong.name = "name".into();
        wrong.tpm.indices[0].handle = 0x01C0_0002;
        assert!(matches!(refused(wrong), CardFileError::Fault(_)));
    }

    #[test]
    fn file_of_the_first_version_is_read() {
        let file = include_bytes!("../../tests/old/v1/card.card");
        let decoded = decode(&HostKey::new([0x42; 32]), file).unwrap();
        assert!(decoded.trusted);
        assert_eq!(decoded.record, record("a card of version 1"));
    }

    proptest! {
        #[test]
        fn decoding_gives_what_was_encoded(
            name in "[a-zA-Z äöü0-9]{1,40}",
            owner: u32,
            created: u64,
            pin in 1..=127u8,
        ) {
            let mut given = record(&name);
            (given.owner, given.created, given.lengths.pin) = (owner, created, vec![pin]);
            let decoded = decode(&key(), &encode(&key(), &given).unwrap()).unwrap();
            prop_assert!(decoded.trusted);
            prop_assert_eq!(decoded.record, given);
        }

        #[test]
        fn arbitrary_bytes_are_an_error(body in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&key(), &body).is_err());
            let mut file = b"Cardea\r\n\x00\x01".to_vec();
            file.extend_from_slice(&(body.len() as u32).to_be_bytes());
            file.extend_from_slice(&body);
            file.extend_from_slice(&[0; 32]);
            prop_assert!(!matches!(decode(&key(), &file), Ok(decoded) if decoded.trusted));
        }
    }
}
