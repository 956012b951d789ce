//! Frames: limits in length and time, and what the server's end says to those who break them.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use cardea_client::ServerEnd;
use cardea_client::frame::{Channel, FRAME_TIME, FrameError};
use cardea_client::message::{
    CardsRequest, FailureKind, MAX_FRAME, Reply, Request, SecretBytes, SlotRequest, VERSION,
};
use proptest::prelude::*;

use crate::support::{LIMIT, Raw};

const SHORT: Duration = Duration::from_millis(30);

fn channels() -> (Channel<UnixStream>, Channel<UnixStream>) {
    let (one, other) = UnixStream::pair().unwrap();
    (Channel::new(one), Channel::new(other))
}

fn raw() -> (Raw, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    one.set_read_timeout(Some(LIMIT)).unwrap();
    (Raw(one), other)
}

/// The server's end after a good greeting.
fn greeted() -> (Raw, ServerEnd<UnixStream>) {
    let (mut raw, other) = raw();
    raw.hello(VERSION);
    let server = ServerEnd::accept(other, LIMIT).unwrap();
    raw.read();
    (raw, server)
}

fn response(bytes: Vec<u8>) -> Reply {
    Reply::Response(SecretBytes::new(bytes))
}

fn content(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Response(bytes) => bytes.expose().to_vec(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..6)
    ) {
        let (mut one, mut other) = channels();
        for message in &messages {
            one.send(&response(message.clone())).unwrap();
        }
        for message in messages {
            let reply = other.receive(Some(LIMIT), LIMIT).unwrap();
            prop_assert_eq!(content(reply), message);
        }
    }

    #[test]
    fn frames_in_pieces_are_put_together(
        message in prop::collection::vec(any::<u8>(), 0..300),
        piece in 1usize..9,
    ) {
        let (mut raw, other) = raw();
        let bytes = minicbor::to_vec(response(message.clone())).unwrap();
        let frame = [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat();
        let writer = thread::spawn(move || {
            for piece in frame.chunks(piece) {
                raw.0.write_all(piece).unwrap();
            }
            raw
        });
        let mut channel = Channel::new(other);
        prop_assert_eq!(content(channel.receive(Some(LIMIT), LIMIT).unwrap()), message);
        writer.join().unwrap();
    }

    #[test]
    fn no_bytes_of_a_client_harm_the_server(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut raw, mut server) = greeted();
        raw.frame(&bytes);
        drop(raw);
        // Refused or understood, and then the end; never a panic, never a hang.
        for _ in 0..2 {
            let _ = server.request(Some(LIMIT));
        }
    }
}

#[test]
fn longest_message_passes_and_a_longer_one_is_not_sent() {
    let (mut one, mut other) = channels();
    let longest = vec![1; MAX_FRAME - 8];
    let sent = longest.clone();
    let writer = thread::spawn(move || {
        one.send(&response(sent)).unwrap();
        one
    });
    assert_eq!(content(other.receive(Some(LIMIT), LIMIT).unwrap()), longest);
    let mut one = writer.join().unwrap();
    let error = one.send(&response(vec![0; MAX_FRAME])).unwrap_err();
    assert!(matches!(error, FrameError::TooLong), "{error}");
    one.send(&response(vec![7])).unwrap();
    assert_eq!(content(other.receive(Some(LIMIT), LIMIT).unwrap()), [7]);
}

#[test]
fn silence_and_dripping_end_at_their_deadlines() {
    let (mut raw, other) = raw();
    let mut channel = Channel::new(other);
    let error = channel.receive::<Reply>(Some(SHORT), LIMIT).unwrap_err();
    assert!(matches!(error, FrameError::TimedOut), "{error}");
    raw.0.write_all(&[0, 0, 0, 9]).unwrap();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..8 {
                thread::park_timeout(SHORT / 3);
                raw.0.write_all(&[0]).unwrap();
            }
        });
        let error = channel.receive::<Reply>(None, SHORT).unwrap_err();
        assert!(matches!(error, FrameError::TimedOut), "{error}");
        assert!(start.elapsed() < FRAME_TIME);
    });
}

#[test]
fn end_in_a_frame_is_not_an_end_between_frames() {
    let (mut raw, other) = raw();
    raw.0.write_all(&[0, 0]).unwrap();
    drop(raw);
    let mut channel = Channel::new(other);
    let error = channel.receive::<Reply>(None, LIMIT).unwrap_err();
    assert!(matches!(error, FrameError::Truncated), "{error}");
    let error = channel.receive::<Reply>(None, LIMIT).unwrap_err();
    assert!(
        matches!(error, FrameError::Truncated | FrameError::Closed),
        "{error}"
    );
}

#[test]
fn peer_that_takes_nothing_does_not_keep_a_sender() {
    let (mut one, _other) = channels();
    let start = Instant::now();
    let error = loop {
        if let Err(error) = one.send_within(&response(vec![0; 100_000]), SHORT) {
            break error;
        }
    };
    assert!(matches!(error, FrameError::TimedOut), "{error}");
    assert!(start.elapsed() < FRAME_TIME);
}

#[test]
fn sending_to_a_closed_peer_is_an_error_and_no_signal() {
    // Tests of Rust programs ignore SIGPIPE; the C program of the reader's tests does not.
    let (mut one, other) = channels();
    drop(other);
    let error = one.send(&Reply::Done).unwrap_err();
    assert!(matches!(error, FrameError::Closed), "{error}");
}

#[test]
fn strangers_are_greeted_and_refused() {
    for version in [0, VERSION + 1] {
        let (mut raw, other) = raw();
        raw.hello(version);
        let error = ServerEnd::accept(other, LIMIT).unwrap_err();
        let text = error.to_string();
        for number in [version, VERSION] {
            assert!(text.contains(&format!("version {number}")), "{text}");
        }
        let FrameError::Stranger { version: told } = error else {
            panic!("{text}");
        };
        assert_eq!(told, Some(version));
        assert!(!raw.read().is_empty());
    }
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 0, 0, 1, 0xFF],
        &[0xFF; 8],
    ] {
        let (mut raw, other) = raw();
        raw.0.write_all(garbage).unwrap();
        let error = ServerEnd::accept(other, LIMIT).unwrap_err();
        assert!(
            matches!(error, FrameError::Stranger { version: None }),
            "{error}"
        );
        assert!(!raw.read().is_empty());
    }
}

#[test]
fn silent_client_does_not_keep_the_greeting_open() {
    let (_raw, other) = raw();
    let error = ServerEnd::accept(other, SHORT).unwrap_err();
    assert!(matches!(error, FrameError::TimedOut), "{error}");
}

#[test]
fn what_is_no_request_is_told_so() {
    let after = minicbor::to_vec(Request::Cards(CardsRequest::List { from: None })).unwrap();
    let trailing = [&after[..], &[0]].concat();
    for garbage in [vec![], vec![0xFF], vec![0x82, 0x18, 0x63, 0x80], trailing] {
        let (mut raw, mut server) = greeted();
        raw.frame(&garbage);
        let error = server.request(Some(LIMIT)).unwrap_err();
        assert!(matches!(error, FrameError::Malformed(_)), "{error}");
        assert_eq!(kind(&raw.read()), FailureKind::Protocol);
    }
    let (mut raw, mut server) = greeted();
    raw.0.write_all(&[0xFF; 4]).unwrap();
    let error = server.request(Some(LIMIT)).unwrap_err();
    assert!(matches!(error, FrameError::TooLong), "{error}");
    assert_eq!(kind(&raw.read()), FailureKind::Protocol);
}

#[test]
fn answer_that_fits_no_frame_becomes_a_failure() {
    let (mut raw, mut server) = greeted();
    server.reply(&response(vec![0; MAX_FRAME])).unwrap();
    assert_eq!(kind(&raw.read()), FailureKind::Failed);
    drop(raw);
    assert!(server.request(None).unwrap().is_none());
}

fn kind(frame: &[u8]) -> FailureKind {
    match minicbor::decode(frame).unwrap() {
        Reply::Failed(failure) => failure.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn server_that_stays_awake_after_an_apdu_takes_requests_at_once_late_and_in_pieces() {
    let request = Request::slot(
        0,
        SlotRequest::Transmit {
            apdu: SecretBytes::new(vec![0; 4]),
        },
    );
    let content = minicbor::to_vec(&request).unwrap();
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let (mut raw, mut server) = greeted();
    let expect = |server: &mut ServerEnd<UnixStream>| {
        let request = server.request(Some(LIMIT)).unwrap();
        assert!(matches!(
            request,
            Some(Request::Slot {
                request: SlotRequest::Transmit { .. },
                ..
            })
        ));
    };
    raw.frame(&content);
    expect(&mut server);
    for late in [Duration::ZERO, SHORT] {
        raw.0.write_all(&length).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::park_timeout(late);
                raw.0.write_all(&content).unwrap();
            });
            expect(&mut server);
        });
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::park_timeout(late);
                raw.frame(&content);
            });
            expect(&mut server);
        });
    }
    let error = server.request(Some(SHORT)).unwrap_err();
    assert!(matches!(error, FrameError::TimedOut), "{error}");
    raw.frame(&content);
    expect(&mut server);
    raw.0.write_all(&[0, 0]).unwrap();
    drop(raw);
    let error = server.request(None).unwrap_err();
    assert!(matches!(error, FrameError::Truncated), "{error}");
}

#[test]
fn end_after_an_apdu_is_an_end() {
    let (mut raw, mut server) = greeted();
    let request = Request::slot(
        0,
        SlotRequest::Transmit {
            apdu: SecretBytes::new(vec![]),
        },
    );
    raw.frame(&minicbor::to_vec(&request).unwrap());
    assert!(server.request(None).unwrap().is_some());
    drop(raw);
    assert!(server.request(None).unwrap().is_none());
}
