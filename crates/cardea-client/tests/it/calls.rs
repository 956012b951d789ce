//! Calls: answers, progress, daemons that go away, and what is sent twice.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cardea_client::message::{
    PowerAction, ReaderRequest, Reply, Request, SlotRequest, Step, VERSION,
};
use cardea_client::{Client, ClientError};

use crate::support::{LIMIT, Peer, Place, Raw};

const SHORT: Duration = Duration::from_millis(30);

const POWER: Request = Request::Slot {
    slot: 0,
    request: SlotRequest::Power {
        action: PowerAction::Up,
    },
};

/// Answers `ReaderRequest::Info` with a number, so that a test sees who answered.
fn answer(mut peer: Peer, slots: u8) -> Option<Request> {
    let request = peer.request(Some(LIMIT)).unwrap();
    peer.reply(&Reply::Reader { slots }).unwrap();
    request
}

fn slots(reply: Result<Reply, ClientError>) -> u8 {
    match reply.unwrap() {
        Reply::Reader { slots } => slots,
        other => panic!("{other:?}"),
    }
}

const STEPS: [Step; 2] = [Step::PrepareCard, Step::WriteFile];

#[test]
fn call_gives_its_answer_and_all_progress() {
    let place = Place::new();
    let served = place.serve(1, |_, mut peer| {
        peer.request(Some(LIMIT)).unwrap();
        for step in STEPS {
            peer.reply(&Reply::Progress(step)).unwrap();
        }
        peer.reply(&Reply::Done).unwrap();
    });
    let mut client = Client::connect(&place.socket()).unwrap();
    let mut steps = Vec::new();
    let reply = client.call_with_progress(&POWER, LIMIT, &mut |step| steps.push(step));
    assert!(matches!(reply, Ok(Reply::Done)));
    assert_eq!(steps, STEPS);
    served.recv().unwrap();
}

#[test]
fn progress_does_not_prolong_a_call() {
    let place = Place::new();
    let _served = place.serve(1, |_, mut peer| {
        peer.request(Some(LIMIT)).unwrap();
        while peer.reply(&Reply::Progress(Step::WaitForTurn)).is_ok() {
            thread::park_timeout(SHORT / 10);
        }
    });
    let mut client = Client::connect(&place.socket()).unwrap();
    let start = Instant::now();
    let error = client.call(&POWER, SHORT).unwrap_err();
    assert!(matches!(error, ClientError::TimedOut), "{error}");
    assert!(start.elapsed() < LIMIT);
}

#[test]
fn late_answer_is_never_taken_for_the_next_one() {
    let place = Place::new();
    let (late, is_late) = std::sync::mpsc::channel();
    let _served = place.serve(2, move |number, mut peer| {
        peer.request(Some(LIMIT)).unwrap();
        if number == 0 {
            is_late.recv().unwrap();
        }
        let slots = u8::try_from(number).unwrap();
        let _ = peer.reply(&Reply::Reader { slots });
    });
    let mut client = Client::connect(&place.socket()).unwrap();
    let error = client
        .call(&Request::Reader(ReaderRequest::Info), SHORT)
        .unwrap_err();
    assert!(matches!(error, ClientError::TimedOut), "{error}");
    late.send(()).unwrap();
    assert_eq!(
        slots(client.call(&Request::Reader(ReaderRequest::Info), LIMIT)),
        1
    );
}

#[test]
fn restarted_daemon_gets_the_next_request_once() {
    let place = Place::new();
    let served = place.serve(2, |number, peer| {
        answer(peer, u8::try_from(number).unwrap())
    });
    let mut client = Client::connect(&place.socket()).unwrap();
    assert_eq!(
        slots(client.call(&Request::Reader(ReaderRequest::Info), LIMIT)),
        0
    );
    served.recv().unwrap();
    // The first connection is closed: a request that is no mere question goes out all the same,
    // for it cannot have been done.
    assert_eq!(slots(client.call(&POWER, LIMIT)), 1);
    assert!(matches!(
        served.recv().unwrap(),
        Some(Request::Slot {
            request: SlotRequest::Power { .. },
            ..
        })
    ));
}

#[test]
fn question_whose_answer_was_lost_is_asked_again() {
    let place = Place::new();
    let served = place.serve(3, |number, mut peer| match number {
        0 => {
            answer_on(&mut peer, 0);
            // The second request is read, and then the daemon dies.
            peer.request(Some(LIMIT)).unwrap();
        }
        _ => answer_on(&mut peer, 1),
    });
    let mut client = Client::connect(&place.socket()).unwrap();
    assert_eq!(
        slots(client.call(&Request::Reader(ReaderRequest::Info), LIMIT)),
        0
    );
    assert_eq!(
        slots(client.call(&Request::Reader(ReaderRequest::Info), LIMIT)),
        1
    );
    drop(served);
}

#[test]
fn command_whose_answer_was_lost_is_not_sent_again() {
    let place = Place::new();
    let served = place.serve(2, |number, mut peer| {
        if number == 0 {
            answer_on(&mut peer, 0);
            peer.request(Some(LIMIT)).unwrap();
        } else {
            answer_on(&mut peer, 1);
        }
    });
    let mut client = Client::connect(&place.socket()).unwrap();
    assert_eq!(
        slots(client.call(&Request::Reader(ReaderRequest::Info), LIMIT)),
        0
    );
    let error = client.call(&POWER, LIMIT).unwrap_err();
    assert!(matches!(error, ClientError::Disconnected(_)), "{error}");
    served.recv().unwrap();
    // The next connection carries the next request and nothing before it.
    assert_eq!(
        slots(client.call(&Request::Reader(ReaderRequest::Info), LIMIT)),
        1
    );
}

#[test]
fn transmit_passes_the_response_and_refusals() {
    let place = Place::new();
    let served = place.serve(1, |_, mut peer| {
        let request = peer.request(Some(LIMIT)).unwrap();
        peer.reply(&Reply::Response(cardea_client::message::SecretBytes::new(
            vec![0x90, 0x00],
        )))
        .unwrap();
        peer.request(Some(LIMIT)).unwrap();
        peer.reply(&Reply::Failed(cardea_client::message::Failure {
            kind: cardea_client::message::FailureKind::NotFound,
            message: "no card".into(),
            tries_left: None,
        }))
        .unwrap();
        request
    });
    let mut client = Client::connect(&place.socket()).unwrap();
    let response = client.transmit(3, &[0, 1, 2, 3], LIMIT, <[u8]>::to_vec);
    assert_eq!(response.unwrap(), [0x90, 0x00]);
    let error = client.transmit(3, &[], LIMIT, <[u8]>::to_vec).unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    match served.recv().unwrap() {
        Some(Request::Slot {
            slot: 3,
            request: SlotRequest::Transmit { apdu },
        }) => {
            assert_eq!(apdu.expose(), [0, 1, 2, 3])
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn request_longer_than_a_frame_is_not_sent_and_costs_nothing() {
    let place = Place::new();
    let _served = place.serve(1, |_, peer| answer(peer, 9));
    let mut client = Client::connect(&place.socket()).unwrap();
    let error = client
        .transmit(0, &vec![0; 200_000], LIMIT, |_| ())
        .unwrap_err();
    assert!(matches!(error, ClientError::TooLong), "{error}");
    assert_eq!(
        slots(client.call(&Request::Reader(ReaderRequest::Info), LIMIT)),
        9
    );
}

#[test]
fn missing_daemon_is_told_with_its_socket() {
    let error = Client::connect(Path::new("/nonexistent/socket")).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("/nonexistent/socket"));
    let long = "x".repeat(200);
    assert!(Client::connect(Path::new(&long)).is_err());
}

#[test]
fn daemon_of_another_version_is_told() {
    let place = Place::new();
    let listener = place.listen();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut raw = Raw(stream);
        raw.read();
        raw.hello(VERSION + 1);
        raw.read_end();
    });
    let error = Client::connect(&place.socket()).unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    server.join().unwrap();
}

#[test]
fn daemon_that_does_not_accept_is_not_waited_for_for_ever() {
    let place = Place::new();
    let _listener = place.listen();
    let mut client = Client::new(place.socket());
    let start = Instant::now();
    assert!(
        client
            .call(&Request::Reader(ReaderRequest::Info), SHORT)
            .is_err()
    );
    // The queue of connections fills up; then connecting itself would block.
    let mut waiting = Vec::new();
    while start.elapsed() < LIMIT {
        let (socket, path) = (UnixStream::pair().unwrap().0, place.socket());
        drop(socket);
        match try_connect(&path) {
            Some(stream) => waiting.push(stream),
            None => break,
        }
    }
    assert!(
        client
            .call(&Request::Reader(ReaderRequest::Info), SHORT)
            .is_err()
    );
    assert!(start.elapsed() < LIMIT);
}

/// Connects unless that would block.
fn try_connect(path: &Path) -> Option<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::NONBLOCK,
        None,
    )
    .unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).ok()?;
    Some(socket)
}

fn answer_on(peer: &mut Peer, slots: u8) {
    peer.request(Some(LIMIT)).unwrap();
    peer.reply(&Reply::Reader { slots }).unwrap();
}
