//! The drives in this session: each that has a folder of card files is attached while it is mounted.
//!
//! A thread watches what is mounted; each drive has one that keeps it attached. Nothing of a drive is kept open
//! here, so that it can be unmounted at any moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use cardea_client::Wake;
use cardea_client::drive::{DrivePlace, Ended, Mounts, hold};

/// The watching, until the value is dropped.
pub(crate) struct Drives {
    stop: Arc<Wake>,
}

impl Drives {
    /// Begins, for the daemon at this socket.
    pub(crate) fn start(socket: PathBuf) -> std::io::Result<Self> {
        let stop = Arc::new(Wake::new()?);
        let mounts = Mounts::new()?;
        let stopped = Arc::clone(&stop);
        thread::Builder::new()
            .name("drives".into())
            .spawn(move || watch(&mounts, &socket, &stopped))?;
        Ok(Self { stop })
    }
}

impl Drop for Drives {
    fn drop(&mut self) {
        self.stop.wake();
    }
}

fn watch(mounts: &Mounts, socket: &Path, stop: &Wake) {
    // A drive that was taken out or refused stays so until it is mounted again.
    let mut seen: HashMap<DrivePlace, Arc<Wake>> = HashMap::new();
    loop {
        let places = mounts.drives();
        seen.retain(|place, _| places.contains(place));
        for place in places {
            if seen.contains_key(&place) {
                continue;
            }
            match attach(&place, socket.to_owned()) {
                Ok(wake) => {
                    seen.insert(place, wake);
                }
                Err(error) => crate::say(&format!("{}: {error}", place.folder.display())),
            }
        }
        if mounts.wait(stop) {
            for wake in seen.values() {
                wake.wake();
            }
            return;
        }
    }
}

fn attach(place: &DrivePlace, socket: PathBuf) -> std::io::Result<Arc<Wake>> {
    let wake = Arc::new(Wake::new()?);
    let (own, folder) = (Arc::clone(&wake), place.folder.clone());
    thread::Builder::new().name("drive".into()).spawn(move || {
        let name = folder.display().to_string();
        let ended = hold(&socket, &folder, &own, &mut |attached| {
            for card in &attached.cards {
                crate::say(&format!("{name}: card {} attached", card.card_id));
            }
            for problem in &attached.problems {
                crate::say(&format!("{name}: {problem}"));
            }
        });
        match ended {
            Ok(Ended::Detached) => crate::say(&format!("{name}: detached")),
            Ok(Ended::Gone) => crate::say(&format!("{name}: gone")),
            Ok(Ended::Called | Ended::Disconnected) => {}
            Err(error) => crate::say(&format!("{name}: {error}")),
        }
    })?;
    Ok(wake)
}
