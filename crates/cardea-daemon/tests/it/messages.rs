//! Messages that are none: the daemon answers or closes, and serves the next client.

use std::time::{Duration, Instant};

use cardea_client::message::{
    CardRequest, CardsRequest, FailureKind, Hello, MAGIC, MAX_FRAME, Reply, Request, VERSION,
};

use crate::support::{Client, Place, creation};

fn protocol_error(client: &mut Client) -> bool {
    matches!(client.reply(), Some(Reply::Failed(failure)) if failure.kind == FailureKind::Protocol)
}

#[test]
fn garbage_is_answered_and_the_next_client_is_served() {
    let place = Place::new();
    let _daemon = place.start();
    for garbage in [
        &[][..],
        &[0xFF; 64],
        &[0x82, 0x18, 99, 0xF6],
        &[0x9B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x82, 0x02, 0x82, 0x18, 0x20],
    ] {
        let mut client = place.client();
        let length = u32::try_from(garbage.len()).unwrap();
        client.bytes(&length.to_be_bytes());
        client.bytes(garbage);
        assert!(protocol_error(&mut client), "{garbage:02X?}");
        assert!(client.frame().is_none(), "closed after {garbage:02X?}");
        place.client().list();
    }
}

#[test]
fn message_with_something_behind_it_is_refused() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    let mut message = minicbor::to_vec(Request::Cards(CardsRequest::List { from: None })).unwrap();
    message.push(0);
    client.bytes(&u32::try_from(message.len()).unwrap().to_be_bytes());
    client.bytes(&message);
    assert!(protocol_error(&mut client));
}

#[test]
fn oversize_frame_is_refused_by_its_length_alone() {
    let place = Place::new();
    let _daemon = place.start();
    for length in [u32::try_from(MAX_FRAME).unwrap() + 1, u32::MAX] {
        let mut client = place.client();
        client.bytes(&length.to_be_bytes());
        assert!(protocol_error(&mut client));
        assert!(client.frame().is_none());
        let mut client = Client::raw(&place.socket());
        client.bytes(&length.to_be_bytes());
        let hello: Hello = minicbor::decode(&client.frame().unwrap()).unwrap();
        assert_eq!(hello.version, VERSION);
        assert!(client.frame().is_none());
    }
    place.client().list();
}

#[test]
fn other_version_is_told_ours_and_closed() {
    let place = Place::new();
    let _daemon = place.start();
    for hello in [
        Hello {
            magic: MAGIC.into(),
            version: VERSION + 1,
        },
        Hello {
            magic: "other".into(),
            version: VERSION,
        },
    ] {
        let mut client = Client::raw(&place.socket());
        client.send(&hello);
        let ours: Hello = minicbor::decode(&client.frame().unwrap()).unwrap();
        assert_eq!((ours.magic.as_str(), ours.version), (MAGIC, VERSION));
        assert!(client.frame().is_none());
    }
}

#[test]
fn silence_before_the_greeting_ends_and_half_a_frame_does_too() {
    let place = Place::new();
    let _daemon = place.start();
    let start = Instant::now();
    let mut silent = Client::raw(&place.socket());
    let mut half = place.client();
    half.bytes(&[0, 0, 1, 0, 1, 2, 3]);
    let mut idle = place.client();
    // Nobody waits for them.
    place.client().list();
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(silent.frame().is_none());
    assert!(half.frame().is_none());
    // A greeted client may be silent for as long as it likes.
    idle.list();
}

#[test]
fn client_that_leaves_during_a_call_does_not_stop_it() {
    let place = Place::new();
    let _daemon = place.start();
    let mut leaver = place.client();
    leaver.send(&creation("orphan"));
    // The first sign of the work.
    leaver.frame();
    drop(leaver);
    let mut client = place.client();
    crate::support::until("the card is made", || {
        client.list().iter().any(|card| card.name == "orphan")
    });
}

const LIST: Request = Request::Cards(CardsRequest::List { from: None });

/// Connections that end something with themselves, as many as one user may have.
fn holding(place: &Place) -> Vec<Client> {
    let clients: Vec<Client> = (0..64)
        .map(|_| {
            let mut client = place.client();
            client.power(0);
            client
        })
        .collect();
    assert_eq!(place.client().kind(&LIST), FailureKind::Busy);
    clients
}

#[test]
fn one_user_has_64_connections_and_the_next_is_told_so() {
    let place = Place::new();
    let _daemon = place.start();
    place.client().create("work");
    let mut clients = holding(&place);
    clients.pop();
    crate::support::until("there is room again", || {
        matches!(place.client().call(&LIST), Reply::Cards(_))
    });
}

#[test]
fn connection_that_nothing_hangs_on_makes_room_for_a_new_one() {
    let place = Place::new();
    let _daemon = place.start();
    let mut holder = place.client();
    holder.create("work");
    holder.power(0);
    let mut polite = cardea_client::Client::connect(&place.socket()).unwrap();
    let mut clients: Vec<Client> = (0..62).map(|_| place.client()).collect();
    let mut newest = place.client();
    newest.list();
    // A client notices, and comes back.
    polite.cards(crate::support::LIMIT).unwrap();
    assert_eq!(polite.connections(), 2);
    assert!(clients[0].frame().is_none(), "closed in its place");
    for client in [&mut holder, &mut newest, &mut clients[1]] {
        client.list();
    }
}

#[test]
fn daemon_shows_that_it_lives_however_many_connections_there_are() {
    let place = Place::new();
    let daemon = place.start();
    place.client().create("work");
    let _clients = holding(&place);
    let _silent: Vec<Client> = (0..64).map(|_| Client::raw(&place.socket())).collect();
    assert!(daemon.is_alive(crate::support::LIMIT));
    daemon.stop();
}

#[test]
fn storm_of_connections_is_one_line_in_the_log() {
    let place = Place::new();
    let log = place.path("log");
    let mut process = place.spawn_with(|command| {
        command.stderr(std::fs::File::create(&log).unwrap());
    });
    place.client().create("work");
    let clients = holding(&place);
    for _ in 0..4 {
        // They stay until they are refused: one that is gone by then is no refusal.
        let storm: Vec<_> = (0..499).map(|_| Client::raw(&place.socket())).collect();
        // The kernel's queue is one: when the last connection has been refused, all others have been.
        let mut last = Client::raw(&place.socket());
        while last.frame().is_some() {}
        drop(storm);
    }
    let lines = |what: &str| {
        let text = std::fs::read_to_string(&log).unwrap();
        let lines = text.lines().filter(|line| line.contains(what));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // A user without seats kept for it is refused before it has one, too.
    let refusals = || {
        [
            lines("too many connections"),
            lines("too many new connections"),
        ]
    };
    let told = refusals().concat();
    assert_eq!(lines("too many connections").len(), 1, "{told:?}");
    assert!(told.len() <= 2, "{told:?}");
    drop(clients);
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().success());
    // What was not logged is counted, also when its minute is not over.
    let times = |line: &String| {
        let (_, times) = line.split_once("times=")?;
        times.split(' ').next()?.parse::<usize>().ok()
    };
    let withheld: usize = refusals().concat().iter().filter_map(times).sum();
    // Also the one that found all places taken.
    assert_eq!(told.len() + withheld, 2001);
}

#[test]
fn wrong_values_are_named() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    let long = "x".repeat(128);
    for name in ["", "a\u{7}b", &long] {
        let failure = client.failure(&creation(name));
        assert_eq!(failure.kind, FailureKind::Invalid);
        assert!(failure.message.contains("name"), "{failure:?}");
    }
    assert_eq!(
        client.kind(&Request::card("nothing", CardRequest::Show)),
        FailureKind::NotFound
    );
}
