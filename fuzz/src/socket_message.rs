//! The private socket, from both ends.

use std::fmt::Debug;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cardea_client::ServerEnd;
use cardea_client::frame::{self, Channel, FrameError};
use cardea_client::message::{
    AdminAnswer, Authority, CardRequest, CardsRequest, ConnectionRequest, CreateCard, Failure,
    FailureKind, Hash, Hello, MAGIC, MAX_FRAME, NewContent, NewKey, NewObject, ObjectKind,
    Operation, PowerAction, PrivateKey, ReaderRequest, Reference, Reply, Request, SecretBytes,
    SessionKeyMaterial, SlotRequest, Thing, TpmRequest, VERSION,
};
use minicbor::{Decode, Encode};

use crate::Target;

/// What a peer writes: as a stream of frames and as the content of one frame.
pub const TARGET: Target = Target {
    name: "socket_message",
    run,
    seeds,
    words: &[
        b"\x00\x00\x00\x0C\xBF\x00\x66cardea\x01\x02\xFF",
        b"\x00\x02\x00\x00",
        b"\x00\x02\x00\x01",
        b"\xFF\xFF\xFF\xFF",
        b"\x82\x00\x80",
        b"\x82\x06\x82\x00\x82\x01\x81\x41",
        b"\xBF\x00\x66cardea\x01\x02\xFF",
        b"\x9B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x5B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
    ],
};

/// Fits a socket's buffer: the writer must not wait.
const MOST: usize = 64 * 1024;

/// Nothing comes any more once the writer has closed, so this is never waited for.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(input: &[u8]) {
    let input = input.get(..MOST).unwrap_or(input);
    stable::<Hello>(input);
    stable::<Request>(input);
    stable::<Reply>(input);
    daemon(input);
    client(input);
}

/// What is understood is written in one way, and that way is understood.
fn stable<T>(content: &[u8])
where
    T: for<'b> Decode<'b, ()> + Encode<()> + Debug,
{
    let Ok(message) = frame::exactly::<T>(content) else {
        return;
    };
    let once = minicbor::to_vec(&message).expect("what was read can be written");
    let again = frame::exactly::<T>(&once).expect("what was written can be read");
    let twice = minicbor::to_vec(&again).expect("what was read can be written");
    assert_eq!(once, twice);
    // Messages are logged by their Debug form.
    assert!(!format!("{message:?}").is_empty());
}

/// The daemon's end reads until the stream ends or makes no sense, and never waits for more.
fn daemon(input: &[u8]) {
    let (socket, _peer) = stream(input);
    let Ok(mut end) = ServerEnd::accept(socket, PATIENCE) else {
        return;
    };
    loop {
        match end.request(Some(PATIENCE)) {
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                assert!(!matches!(error, FrameError::TimedOut), "{error}");
                return;
            }
        }
    }
}

/// A client that hears the input as replies.
fn client(input: &[u8]) {
    let (socket, _peer) = stream(input);
    let mut channel = Channel::new(socket);
    loop {
        match channel.receive::<Reply>(Some(PATIENCE), PATIENCE) {
            Ok(_) => {}
            Err(error) => {
                assert!(!matches!(error, FrameError::TimedOut), "{error}");
                return;
            }
        }
    }
}

/// A socket at whose other end the input was written and the writing closed. Nobody reads there, but it is
/// open: answers go somewhere.
fn stream(input: &[u8]) -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.write_all(input).expect("the input fits");
    theirs
        .shutdown(Shutdown::Write)
        .expect("a connected socket");
    (ours, theirs)
}

fn seeds() -> Vec<Vec<u8>> {
    let hello = Hello {
        magic: MAGIC.to_owned(),
        version: VERSION,
    };
    let secret = || SecretBytes::new(b"123456".to_vec());
    let requests = [
        Request::Cards(CardsRequest::List { from: None }),
        Request::card("Alice".to_owned(), CardRequest::Show),
        Request::Cards(CardsRequest::Create(Box::new(CreateCard {
            owner: Some(1000),
            pin_policy: Some([1; 32]),
            pin_tries: Some(3),
            ..CreateCard::new(
                "Alice",
                NewContent::Personalised {
                    pin: secret(),
                    puk: Some(secret()),
                    admin_key: Some(SecretBytes::new(vec![1; 24])),
                    blank: false,
                },
            )
        }))),
        Request::Cards(CardsRequest::Create(Box::new(CreateCard::new(
            "Bob",
            NewContent::Uninitialised { puk: true },
        )))),
        Request::card(
            "0123".to_owned(),
            CardRequest::ChangePin {
                old: secret(),
                new: secret(),
                reference: Reference::Puk,
            },
        ),
        Request::card(
            "0123".to_owned(),
            CardRequest::UnblockPin {
                by: Authority::Admin(AdminAnswer {
                    challenge: vec![1; 8],
                    response: SecretBytes::new(vec![2; 8]),
                }),
                new: secret(),
            },
        ),
        Request::card(
            "0123".to_owned(),
            CardRequest::ImportKey {
                pin: Some(secret()),
                key: NewKey {
                    label: Some("mail".to_owned()),
                    class: cardea_client::message::KeyClass::Always,
                    sign_only: false,
                    id: Some(vec![7]),
                },
                material: PrivateKey::Ec {
                    scalar: SecretBytes::new(vec![1; 32]),
                    x: vec![2; 32],
                    y: vec![3; 32],
                },
            },
        ),
        Request::card(
            "0123".to_owned(),
            CardRequest::UseKey {
                pin: Some(secret()),
                reference: 0x81,
                operation: Operation::SignPkcs1 {
                    hash: Hash::Sha256,
                    digest: vec![4; 32],
                },
            },
        ),
        Request::card(
            "0123".to_owned(),
            CardRequest::MakeSessionKey {
                class: cardea_client::message::KeyClass::Session,
                material: SessionKeyMaterial::Imported(PrivateKey::Ec {
                    scalar: SecretBytes::new(vec![1; 32]),
                    x: vec![2; 32],
                    y: vec![3; 32],
                }),
            },
        ),
        Request::card(
            "0123".to_owned(),
            CardRequest::UseSessionKey {
                key: u64::MAX,
                operation: Operation::SignEcdsa {
                    digest: vec![4; 32],
                },
            },
        ),
        Request::Tpm(TpmRequest::Status),
        Request::card("0123".to_owned(), CardRequest::Contents { known: 7 }),
        Request::card(
            "0123".to_owned(),
            CardRequest::StoreObject {
                pin: None,
                object: NewObject {
                    kind: ObjectKind::Data,
                    label: "note".to_owned(),
                    id: vec![6, 1, 42],
                    application: "mail".to_owned(),
                    value: vec![1, 2, 3],
                },
            },
        ),
        Request::card(
            "0123".to_owned(),
            CardRequest::Rename {
                pin: None,
                thing: Thing::Key(0x81),
                label: Some("mail".to_owned()),
                id: Some(vec![1]),
            },
        ),
        Request::Connection(ConnectionRequest::JoinLogins { ticket: secret() }),
        Request::Reader(ReaderRequest::WaitStates {
            generation: 7,
            timeout_ms: 1000,
        }),
        Request::slot(
            0,
            SlotRequest::Power {
                action: PowerAction::Up,
            },
        ),
        Request::slot(
            0,
            SlotRequest::Transmit {
                apdu: SecretBytes::new(vec![0, 0xA4, 4, 0]),
            },
        ),
    ];
    let replies = [
        Reply::Done,
        Reply::Progress(cardea_client::message::Step::PrepareCard),
        Reply::Failed(Failure {
            kind: FailureKind::PinWrong,
            message: "the PIN is wrong".to_owned(),
            tries_left: Some(4),
        }),
        Reply::Slots {
            generation: 8,
            inserted: vec![0, 3],
        },
        Reply::Response(SecretBytes::new(vec![0x90, 0])),
    ];
    let mut session = framed(&hello);
    requests
        .iter()
        .for_each(|request| session.extend(framed(request)));
    let mut seeds = vec![
        session,
        replies.iter().flat_map(framed).collect(),
        encoded(&hello),
        [framed(&hello), vec![0, 2, 0, 1]].concat(),
        [
            &framed(&hello)[..],
            &u32::try_from(MAX_FRAME).unwrap_or(0).to_be_bytes(),
        ]
        .concat(),
    ];
    seeds.extend(requests.iter().map(encoded));
    seeds.extend(replies.iter().map(encoded));
    // A request and a reply may be the same bytes.
    seeds.sort();
    seeds.dedup();
    seeds
}

fn encoded<T: Encode<()>>(message: &T) -> Vec<u8> {
    minicbor::to_vec(message).expect("messages can be written")
}

fn framed<T: Encode<()>>(message: &T) -> Vec<u8> {
    let content = encoded(message);
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), content.as_slice()].concat()
}
