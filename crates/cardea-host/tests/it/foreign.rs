//! Cards that are not this host's: how many of them a user can bring along, and who is troubled by them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cardea_card::record::{CardId, CardRecord};
use cardea_client::ServerEnd;
use cardea_client::message::{
    CardOverview, CardRequest, CardState, CardsRequest, CreateCard, DriveRequest, Failure,
    FailureKind, NewContent, RedirectionRequest, Reply, Request, SecretBytes,
};
use cardea_host::Visitor;
use cardea_store::Store;
use tempfile::TempDir;

use crate::support::{OTHER, OWNER, PIN, Place};

/// The limit of a greeting.
const PATIENCE: Duration = Duration::from_secs(30);

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
        let record = |card| {
            let mut id = [0x5A; 16];
            (id[0], id[1]) = (number, card);
            CardRecord {
                id: CardId::new(id),
                owner,
                ..self.0.clone()
            }
        };
        let records: Vec<_> = (0..CARDS).map(record).collect();
        written(&records)
    }

    fn attach<'a>(&self, place: &'a Place, number: u8, uid: u32) -> Holder<'a> {
        hold(place, self.drive(number, uid), uid)
    }

    /// A drive with one card of this id.
    fn attach_one<'a>(&self, place: &'a Place, id: &str, uid: u32) -> Holder<'a> {
        let record = CardRecord {
            id: id.parse().unwrap(),
            owner: uid,
            ..self.0.clone()
        };
        hold(place, written(&[record]), uid)
    }
}

/// A folder with these cards, written by another host.
fn written(records: &[CardRecord]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let cards = folder.path().join("cards");
    std::fs::create_dir(&cards).unwrap();
    let drives = Store::open(&folder.path().join("state")).unwrap().drives();
    let written = drives.open(File::open(&cards).unwrap().into()).unwrap();
    for record in records {
        written.create(record).unwrap();
    }
    folder
}

fn hold(place: &Place, folder: TempDir, uid: u32) -> Holder<'_> {
    let given: OwnedFd = File::open(folder.path().join("cards")).unwrap().into();
    let mut visitor = place.visitor(uid);
    let request = Request::Drive(DriveRequest::Attach {
        place: "/media/stick".to_owned(),
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

/// Owner and name of the card that a user finds by its id.
fn shown(place: &Place, id: &str, uid: u32) -> Result<(u32, Option<String>), Failure> {
    let request = Request::card(id, CardRequest::Show);
    let visitor = &mut place.visitor(uid);
    match place.counter.serve(visitor, request, None, &mut |_| {})? {
        Reply::Card(card) => Ok((card.summary.owner, card.summary.from)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn id_on_a_drive_of_another_computer_neither_tells_of_a_card_nor_keeps_it_away() {
    let (place, maker) = (Place::new(), Maker::new());
    let id = place.card("work");
    let squatter = maker.attach_one(&place, &id, OTHER);
    assert_eq!(squatter.attached, Ok((1, 0)), "as one that nobody has");
    assert_eq!(shown(&place, &id, OWNER), Ok((OWNER, None)));
    assert_eq!(shown(&place, &id, 0), Ok((OWNER, None)), "this host's own");
    assert_eq!(shown(&place, &id, OTHER), Ok((OTHER, None)));
    let own = maker.attach_one(&place, &id, OWNER);
    assert_eq!(own.kind(), Some(FailureKind::Invalid), "the caller's own");

    // Of what both bring along, too.
    let unknown = "5b".repeat(16);
    let one = maker.attach_one(&place, &unknown, OTHER);
    let two = maker.attach_one(&place, &unknown, OWNER);
    assert_eq!((&one.attached, &two.attached), (&Ok((1, 0)), &Ok((1, 0))));
    assert_eq!(shown(&place, &unknown, OWNER), Ok((OWNER, None)));
    assert_eq!(shown(&place, &unknown, OTHER), Ok((OTHER, None)));

    // What is taken away takes nobody's card along.
    drop((one, two, own, squatter));
    assert_eq!(shown(&place, &id, OWNER), Ok((OWNER, None)));
}

#[test]
fn id_of_a_redirected_card_neither_tells_of_a_card_nor_keeps_it_away() {
    let place = Place::new();
    let id = place.card("work");
    let wanted = "5c".repeat(16);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let greeting = std::thread::spawn(move || {
        let mut channel = cardea_client::frame::Channel::new(theirs);
        channel.greet(PATIENCE).unwrap();
        channel.into_socket()
    });
    let end = ServerEnd::accept(Arc::new(ours), PATIENCE).unwrap();
    let _peer = greeting.join().unwrap();
    let other = place.visitor(OTHER);
    let begin = Request::Redirection(RedirectionRequest::Begin {
        from: "laptop".to_owned(),
        reader: false,
    });
    let redirection = place.counter.redirect(&other, &end, begin).unwrap();
    let invented = |id: &str| CardOverview {
        card_id: id.to_owned(),
        name: "work".to_owned(),
        state: CardState::Ready,
        reason: String::new(),
        uninitialised: false,
    };
    let offered = [invented(&id), invented(&wanted)];
    assert_eq!(
        redirection.offer(&offered),
        Ok(()),
        "as one that nobody has"
    );
    let laptop = Some("laptop".to_owned());
    assert_eq!(shown(&place, &id, OWNER), Ok((OWNER, None)));
    assert_eq!(shown(&place, &id, 0), Ok((OWNER, None)), "this host's own");
    assert_eq!(shown(&place, &id, OTHER), Ok((OTHER, laptop)));

    // A card that is made later, with this id.
    let pin = SecretBytes::new(PIN.to_vec());
    let mut order = CreateCard::new("later", NewContent::with_pin(pin));
    order.owner = Some(OTHER);
    order.card_id = Some([0x5C; 16]);
    let create = Request::Cards(CardsRequest::Create(Box::new(order)));
    let root = &mut place.visitor(0);
    let made = place.counter.serve(root, create, None, &mut |_| {});
    assert!(matches!(made, Ok(Reply::Card(_))), "{made:?}");
    assert_eq!(
        shown(&place, &wanted, OTHER),
        Ok((OTHER, None)),
        "never shadowed"
    );
    let states = Request::Cards(CardsRequest::States { from: None });
    let user = &mut place.visitor(OTHER);
    match place.counter.serve(user, states, None, &mut |_| {}) {
        Ok(Reply::Overview(page)) => assert_eq!(page.entries.len(), 2, "{page:?}"),
        reply => panic!("{reply:?}"),
    }
}
