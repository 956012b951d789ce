//! A disk that can fail or lose its power at every step, and forgets what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::Store;
use crate::disk::Disk;

/// What an unsynced file holds after a power cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lost {
    All,
    Half,
    Nothing,
    Zeroed,
}

impl Lost {
    pub(super) const EACH: [Self; 4] = [Self::All, Self::Half, Self::Nothing, Self::Zeroed];
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Never.
    Never,
    /// This step, with this error; the next ones work.
    Once(usize, io::ErrorKind),
    /// From this step on there is no power.
    PowerCut(usize),
}

#[derive(Clone, Default)]
pub(super) struct State {
    /// Contents, and whether they are on the disk.
    inodes: Vec<(Vec<u8>, bool)>,
    /// As programs see them.
    names: BTreeMap<PathBuf, usize>,
    /// As the disk has them.
    durable: BTreeMap<PathBuf, usize>,
    /// What the disk may or may not have of the changes since, each by itself: no order is promised.
    pending: Vec<Change>,
}

/// A change of names; each is done as a whole or not at all.
#[derive(Clone)]
struct Change {
    gone: Option<PathBuf>,
    there: Option<(PathBuf, usize)>,
}

impl State {
    fn change(&mut self, gone: Option<&Path>, there: Option<(&Path, usize)>) {
        let change = Change {
            gone: gone.map(Path::to_owned),
            there: there.map(|(path, inode)| (path.to_owned(), inode)),
        };
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    pub(super) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        Some(self.inodes[*self.names.get(path)?].0.clone())
    }

    /// Changes a file behind the store's back.
    pub(super) fn tamper(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.inodes[self.names[path]].0);
    }

    /// Every state that a power cut can leave.
    pub(super) fn after_power_cut(&self) -> Vec<Self> {
        assert!(self.pending.len() < 8, "too many states to look at");
        let mut states = Vec::new();
        for subset in 0..1u32 << self.pending.len() {
            for lost in Lost::EACH {
                let mut names = self.durable.clone();
                for (position, change) in self.pending.iter().enumerate() {
                    if subset & 1 << position != 0 {
                        change.apply(&mut names);
                    }
                }
                let mut inodes = self.inodes.clone();
                for (data, _) in inodes.iter_mut().filter(|(_, synced)| !synced) {
                    match lost {
                        Lost::All => data.clear(),
                        Lost::Half => data.truncate(data.len() / 2),
                        Lost::Nothing => {}
                        Lost::Zeroed => data.fill(0),
                    }
                }
                inodes.iter_mut().for_each(|(_, synced)| *synced = true);
                states.push(Self {
                    inodes,
                    durable: names.clone(),
                    names,
                    pending: Vec::new(),
                });
            }
        }
        states
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((path, inode)) = &self.there {
            names.insert(path.clone(), *inode);
        }
    }
}

pub(super) struct Model {
    state: Mutex<State>,
    failure: Mutex<Failure>,
    steps: AtomicUsize,
    journal: bool,
}

impl Model {
    pub(super) fn new(state: State) -> Arc<Self> {
        Self::made(state, true)
    }

    /// A rename is several changes, of which the disk may have some only.
    pub(super) fn without_journal(state: State) -> Arc<Self> {
        Self::made(state, false)
    }

    fn made(state: State, journal: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            failure: Mutex::new(Failure::Never),
            steps: AtomicUsize::new(0),
            journal,
        })
    }

    /// From now on; steps are counted from here.
    pub(super) fn fail(&self, failure: Failure) {
        *self.failure.lock().unwrap() = failure;
        self.steps.store(0, Ordering::SeqCst);
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.load(Ordering::SeqCst)
    }

    pub(super) fn state(&self) -> State {
        self.state.lock().unwrap().clone()
    }

    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        match *self.failure.lock().unwrap() {
            Failure::Once(at, kind) if at == step => return Err(kind.into()),
            Failure::PowerCut(at) if at <= step => return Err(io::Error::other("no power")),
            _ => {}
        }
        Ok(self.state.lock().unwrap())
    }
}

impl Disk for Model {
    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        let content = self.state.lock().unwrap().content(path);
        content.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.remove(path)?;
        let mut state = self.step()?;
        let inode = state.inodes.len();
        state.inodes.push((Vec::new(), false));
        state.change(None, Some((path, inode)));
        drop(state);
        // A full disk takes a part.
        let written = self.step().map(drop);
        let whole = if written.is_ok() { 1 } else { 2 };
        self.state.lock().unwrap().inodes[inode].0 = bytes[..bytes.len() / whole].to_vec();
        written?;
        self.step()?.inodes[inode].1 = true;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if self.journal {
            state.change(Some(from), Some((to, inode)));
        } else {
            // As vfat does it: a name of an empty file, where its content is, the old name away.
            let empty = state.inodes.len();
            state.inodes.push((Vec::new(), true));
            state.change(None, Some((to, empty)));
            state.change(None, Some((to, inode)));
            state.change(Some(from), None);
        }
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.state.lock().unwrap().names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        if state.names.contains_key(path) {
            state.change(Some(path), None);
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let State {
            durable, pending, ..
        } = &mut *state;
        // A change concerns one folder.
        pending.retain(|change| {
            let path = change.gone.as_deref();
            let path = path.or(change.there.as_ref().map(|(path, _)| path.as_path()));
            let here = path.and_then(Path::parent) == Some(folder);
            if here {
                change.apply(durable);
            }
            !here
        });
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state.lock().unwrap();
        let names = state.names.keys();
        Ok(names
            .filter(|name| name.parent() == Some(path))
            .cloned()
            .collect())
    }

    fn renames_whole(&self) -> bool {
        self.journal
    }
}

pub(super) fn open(disk: &Arc<Model>) -> Store {
    let disk = Arc::clone(disk);
    let lock = tempfile::tempfile().unwrap();
    Store::with_disk(Path::new("/state"), disk, lock).unwrap()
}

/// The store after somebody switched the power on again.
pub(super) fn reopen(state: State) -> Store {
    open(&Model::new(state))
}
