//! A card on a drive, whose file another system on the same computer has written.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::Wake;
use cardea_client::drive::{hold, open_folder};
use cardea_client::message::{
    CardRequest, CardState, CardsRequest, CreateCard, Reference, Reply, Request,
};

use crate::cards::cards;
use crate::doors::{COMMAND_LINE, SOCKET};
use crate::walk::{Operation, Truth, walk};
use crate::world::{CARD, World, told};

pub(crate) const OPERATIONS: &[&Operation] = &[&ADOPTION];

/// The drive's file is written anew, and the card remembered among those of this system.
const ADOPTION: Operation = Operation {
    name: "adoption",
    prepare: |world| {
        let system = state(world);
        if system == Some(CardState::NotTrusted) {
            return;
        }
        let drive = world.path("drive");
        let kept = world.path("written by another system");
        if !kept.exists() {
            write_by_another_system(world, &drive, &kept);
        }
        // A system that has neither the card nor the key of the other one.
        world.drive = None;
        world.daemon.kill();
        std::fs::remove_dir_all(world.daemon.state()).unwrap();
        std::fs::remove_dir_all(&drive).unwrap();
        copy(&kept, &drive);
        world.restart();
        world.drive = Some(Drive::hold(world.daemon.socket(), drive));
        let state = settled(world);
        assert_eq!(state, Some(CardState::NotTrusted));
    },
    truth: |world| match settled(world) {
        Some(CardState::NotTrusted) => Truth::Old,
        Some(CardState::Ready) if world.takes(Reference::Pin, &world.pin.now) => Truth::New,
        _ => Truth::Broken,
    },
    happened: |_| {},
    doors: &[
        (SOCKET, |world| {
            told(world.ask_card(CardRequest::Adopt { owner: None }))
        }),
        (COMMAND_LINE, |world| world.cardea(&["card", "adopt", CARD])),
    ],
    stride: 1,
};

/// The drive is there until this is dropped, also for another daemon.
pub(crate) struct Drive {
    wake: Arc<Wake>,
    holder: Option<JoinHandle<()>>,
}

impl Drive {
    fn hold(socket: PathBuf, folder: PathBuf) -> Self {
        let wake = Arc::new(Wake::new().unwrap());
        let own = Arc::clone(&wake);
        let holder = std::thread::spawn(move || {
            // Whether the card is there, the daemon is asked.
            drop(hold(&socket, &folder, &own, &mut |_| {}));
        });
        Self {
            wake,
            holder: Some(holder),
        }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.wake.wake();
        drop(self.holder.take().map(JoinHandle::join));
    }
}

fn write_by_another_system(world: &World, drive: &Path, kept: &Path) {
    std::fs::create_dir(drive).unwrap();
    let folder = open_folder(drive).unwrap();
    let order = CreateCard {
        drive: true,
        ..world.order(CARD)
    };
    let request = Request::Cards(CardsRequest::Create(Box::new(order)));
    let mut client = Client::connect(&world.daemon.socket()).unwrap();
    let limit = Duration::from_secs(60);
    let made = client.call_with_folder(&request, folder.as_fd(), limit, &mut |_| {});
    assert!(matches!(made, Ok(Reply::Card(_))), "{made:?}");
    copy(drive, kept);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn state(world: &World) -> Option<CardState> {
    cards(world).first().map(|card| card.state)
}

/// The card's state once its drive is there: after another daemon has started, this takes a moment.
fn settled(world: &World) -> Option<CardState> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let state = state(world);
        let is_settled = matches!(state, Some(CardState::NotTrusted | CardState::Ready));
        if is_settled || Instant::now() > end {
            return state;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn answers_about_adoption_are_true() {
    walk(&mut World::empty(), OPERATIONS, &[SOCKET, COMMAND_LINE]);
}
