//! Cards that are not this host's: how many of them a user can bring along, and who is troubled by them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use cardea_card::record::{CardId, CardRecord};
use cardea_client::message::{
    CardState, CardsRequest, DriveRequest, Failure, FailureKind, Reply, Request,
};
use cardea_host::Visitor;
use cardea_store::Store;
use tempfile::TempDir;

use crate::support::{OTHER, OWNER, Place};

/// Cards on one drive, all that it may have.
const CARDS: u8 = 16;

/// A card of another host, as its file says.
fn pattern() -> CardRecord {
    let elsewhere = Place::new();
    let folder = tempfile::tempdir().unwrap();
    let cards = folder.path().join("cards");
    std::fs::create_dir(&cards).unwrap();
    let id = elsewhere.card_on_drive("foreign", File::open(&cards).unwrap().into());
    let drives = Store::open(&folder.path().join("state")).unwrap().drives();
    let written = drives.open(File::open(&cards).unwrap().into()).unwrap();
    let name = format!("{id}.card");
    let stored = written.card(Path::new(&name)).unwrap().unwrap();
    stored.content.unwrap()
}

/// Drives with cards of another host.
struct Maker(CardRecord);

impl Maker {
    fn new() -> Self {
        Self(pattern())
    }

    fn drive(&self, number: u8, owner: u32) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let cards = folder.path().join("cards");
        std::fs::create_dir(&cards).unwrap();
        let drives = Store::open(&folder.path().join("state")).unwrap().drives();
        let written = drives.open(File::open(&cards).unwrap().into()).unwrap();
        for card in 0..CARDS {
            let mut id = [0x5A; 16];
            (id[0], id[1]) = (number, card);
            let record = CardRecord {
                id: CardId::new(id),
                owner,
                ..self.0.clone()
            };
            written.create(&record).unwrap();
        }
        folder
    }

    fn attach<'a>(&self, place: &'a Place, number: u8, uid: u32) -> Holder<'a> {
        let folder = self.drive(number, uid);
        let given: OwnedFd = File::open(folder.path().join("cards")).unwrap().into();
        let mut visitor = place.visitor(uid);
        let request = Request::Drive(DriveRequest::Attach {
            place: format!("/media/{number}"),
        });
        let counter = &place.counter;
        let attached = match counter.serve(&mut visitor, request, Some(given), &mut |_| {}) {
            Ok(Reply::Drive { cards, problems }) => {
                assert!(cards.iter().all(|card| card.state == CardState::Foreign));
                Ok((cards.len(), problems.len()))
            }
            Ok(other) => panic!("{other:?}"),
            Err(failure) => Err(failure),
        };
        Holder {
            place,
            visitor,
            _folder: folder,
            attached,
        }
    }
}

/// A user's program that holds a drive.
struct Holder<'a> {
    place: &'a Place,
    visitor: Visitor,
    _folder: TempDir,
    attached: Result<(usize, usize), Failure>,
}

impl Holder<'_> {
    fn kind(&self) -> Option<FailureKind> {
        self.attached.as_ref().err().map(|failure| failure.kind)
    }

    fn ask(&mut self, request: CardsRequest) -> Reply {
        let counter = &self.place.counter;
        let request = Request::Cards(request);
        let reply = counter.serve(&mut self.visitor, request, None, &mut |_| {});
        reply.unwrap()
    }

    /// The names in the list of programs, and the whole list's generation and length.
    fn lists(&mut self) -> (Vec<String>, u64, usize) {
        let states = match self.ask(CardsRequest::States { from: None }) {
            Reply::Overview(page) => page.entries.into_iter().map(|card| card.name).collect(),
            other => panic!("{other:?}"),
        };
        match self.ask(CardsRequest::List { from: None }) {
            Reply::Cards(page) => {
                assert!(!page.more);
                (states, page.generation, page.entries.len())
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn foreign_cards_of_one_user_are_limited_and_trouble_no_administrator() {
    let (place, maker) = (Place::new(), Maker::new());
    place.card("work");
    let one = maker.attach(&place, 1, OWNER);
    let mut two = maker.attach(&place, 2, OWNER);
    let three = maker.attach(&place, 3, OWNER);
    assert_eq!(one.attached, Ok((16, 0)));
    assert_eq!(two.attached, Ok((16, 0)));
    assert_eq!(three.kind(), Some(FailureKind::Busy));
    let other = maker.attach(&place, 4, OTHER);
    assert_eq!(other.attached, Ok((16, 0)), "others have their own limit");

    let (own, _, all) = two.lists();
    assert_eq!((own.len(), all), (33, 33));
    let mut root = maker.attach(&place, 5, 0);
    assert_eq!(root.attached, Ok((16, 0)));
    let (shown, generation, all) = root.lists();
    let foreign = shown.iter().filter(|name| *name != "work").count();
    assert_eq!(
        (shown.len(), foreign),
        (17, 16),
        "root's own and usable ones: {shown:?}"
    );
    assert_eq!(all, 1 + 16 * 4);

    drop(one);
    let (_, now, left) = root.lists();
    assert_eq!(left, 1 + 16 * 3);
    assert_eq!(
        now, generation,
        "no user makes the list of others begin anew"
    );
    let again = maker.attach(&place, 3, OWNER);
    assert_eq!(again.attached, Ok((16, 0)), "detached ones make room");
}

#[test]
fn foreign_cards_of_many_users_leave_room_for_administrators() {
    let (place, maker) = (Place::new(), Maker::new());
    let users: Vec<_> = (0..8)
        .map(|user| maker.attach(&place, user, OWNER + u32::from(user)))
        .collect();
    let refused = users
        .iter()
        .filter(|user| user.kind() == Some(FailureKind::Busy));
    assert_eq!(refused.count(), 2);
    let administrators: Vec<_> = (20..22)
        .map(|number| maker.attach(&place, number, 0))
        .collect();
    assert!(administrators.iter().all(|one| one.attached == Ok((16, 0))));
}
