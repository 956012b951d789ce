//! A card that becomes this host's own.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cardea_card::record::CardRecord;
use cardea_client::message::{
    CardRequest, CardState, CardSummary, CardsRequest, DriveRequest, Failure, Hold, Reply, Request,
};
use cardea_host::Visitor;
use cardea_store::Store;

use crate::support::{OTHER, Place};

/// The folder of a drive.
struct Drive(tempfile::TempDir);

impl Drive {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> OwnedFd {
        File::open(self.0.path()).unwrap().into()
    }

    /// The record of its card, and whether the store has written it.
    fn record(&self, store: &Store, id: &str) -> (CardRecord, bool) {
        let folder = store.drives().open(self.open()).unwrap();
        let name = format!("{id}.card");
        let stored = folder.card(Path::new(&name)).unwrap().unwrap();
        (stored.content.unwrap(), stored.trusted)
    }
}

fn attach(place: &Place, drive: &Drive) -> (Visitor, CardSummary) {
    let mut root = place.visitor(0);
    let request = Request::Drive(DriveRequest::Attach {
        place: "/media/stick".to_owned(),
    });
    match place
        .counter
        .serve(&mut root, request, Some(drive.open()), &mut |_| {})
    {
        Ok(Reply::Drive { mut cards, .. }) => (root, cards.pop().unwrap()),
        other => panic!("{other:?}"),
    }
}

fn listed(place: &Place) -> Vec<CardSummary> {
    let request = Request::Cards(CardsRequest::List { from: None });
    let root = &mut place.visitor(0);
    match place.counter.serve(root, request, None, &mut |_| {}) {
        Ok(Reply::Cards(page)) => page.entries,
        other => panic!("{other:?}"),
    }
}

/// Adopts a card, while the holder of its drive gives its folder when asked.
fn adopt(
    place: &Place,
    (holder, drive): (&mut Visitor, &Drive),
    id: &str,
    owner: u32,
) -> Result<Reply, Failure> {
    let is_done = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut folder = None;
            while !is_done.load(Ordering::Relaxed) {
                let hold = Request::Drive(DriveRequest::Hold { timeout_ms: 20 });
                let reply = place
                    .counter
                    .serve(holder, hold, folder.take(), &mut |_| {});
                if matches!(reply, Ok(Reply::Hold(Hold::Folder))) {
                    folder = Some(drive.open());
                }
            }
        });
        let reply = ask(place, id, owner);
        is_done.store(true, Ordering::Relaxed);
        reply
    })
}

fn ask(place: &Place, id: &str, owner: u32) -> Result<Reply, Failure> {
    let owner = Some(owner);
    let request = Request::card(id, CardRequest::Adopt { owner });
    let root = &mut place.visitor(0);
    place.counter.serve(root, request, None, &mut |_| {})
}

/// A drive with a card that the TPM of this place has made, and another installation has written.
fn brought(place: &Place, elsewhere: &Store) -> (Drive, String) {
    let drive = Drive::new();
    let id = place.card_on_drive("travel", drive.open());
    let (record, _) = drive.record(elsewhere, &id);
    let destroy = Request::card(&id, CardRequest::Destroy { owner_auth: None });
    let root = &mut place.visitor(0);
    let destroyed = place.counter.serve(root, destroy, None, &mut |_| {});
    assert!(matches!(destroyed, Ok(Reply::Done)), "{destroyed:?}");
    let drive = Drive::new();
    let folder = elsewhere.drives().open(drive.open()).unwrap();
    folder.create(&record).unwrap();
    (drive, id)
}

#[test]
fn adoption_that_cannot_be_recorded_is_done_and_noted_and_recorded_when_attached_again() {
    let place = Place::new();
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Store::open(folder.path()).unwrap();
    let (drive, id) = brought(&place, &elsewhere);
    let (mut holder, card) = attach(&place, &drive);
    assert_eq!(card.state, CardState::NotTrusted, "{card:?}");

    let recorded = place.state().join("drives").join(&id);
    fs::create_dir(&recorded).unwrap();
    let adopted = adopt(&place, (&mut holder, &drive), &id, OTHER);
    assert!(matches!(adopted, Ok(Reply::Card(_))), "{adopted:?}");
    // The file on the drive has changed its host: the audit has it, and the card is listed.
    assert!(!drive.record(&elsewhere, &id).1);
    assert!(place.events().contains(&"card-adopted".to_owned()));
    let [listed_card] = &listed(&place)[..] else {
        panic!("the card is listed");
    };
    assert_eq!(listed_card.owner, OTHER);
    assert_ne!(listed_card.state, CardState::NotTrusted);

    fs::remove_dir(&recorded).unwrap();
    drop(holder);
    let (_holder, card) = attach(&place, &drive);
    assert_eq!(card.owner, OTHER);
    assert_ne!(card.state, CardState::NotTrusted, "{card:?}");
    assert_eq!(listed(&place).len(), 1);
    assert!(recorded.is_file());
}
