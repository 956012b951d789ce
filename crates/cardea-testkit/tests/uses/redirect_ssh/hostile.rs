//! A remote machine that is no Cardea: what it may cost, and what the person here is told.
//!
//! The redirection's own `redirect-accept` leads to a socket of the test's instead of a daemon's; what comes over ssh
//! is bytes in either case.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use cardea_client::frame::{Channel, exactly};
use cardea_client::message::{
    Authority, CardRequest, CardsRequest, ConnectionRequest, FailureKind, Hello, MAGIC,
    MAX_PROGRAMS, NewKey, Operation, PowerAction, RedirectionRequest, Reference, Reply, Request,
    SecretBytes, SlotRequest, VERSION, packed,
};
use cardea_testkit::process::Running;
use cardea_testkit::redirection::Redirection;
use cardea_testkit::rig::PIN;
use minicbor::bytes::ByteVec;

const PATIENCE: Duration = Duration::from_secs(60);

/// A machine that `cardea redirect` has come to.
struct Hostile {
    redirect: Running,
    channel: Channel<UnixStream>,
    card: String,
}

/// Where the machine listens.
fn listen(machines: &Redirection) -> UnixListener {
    let path = machines.there.path("hostile.sock");
    drop(std::fs::remove_file(&path));
    UnixListener::bind(path).unwrap()
}

fn redirect(machines: &Redirection, listener: &UnixListener) -> (Running, UnixStream) {
    let accept = format!(
        "cardea --socket {} redirect-accept",
        machines.there.text("hostile.sock")
    );
    let redirect = machines.begin(&["cardea", "redirect", "dev1", "--remote-command", &accept]);
    let (socket, _) = listener.accept().unwrap();
    (redirect, socket)
}

impl Hostile {
    fn new(machines: &Redirection, listener: &UnixListener) -> Self {
        let (redirect, socket) = redirect(machines, listener);
        let mut channel = Channel::new(socket);
        let _: Hello = channel.receive(Some(PATIENCE), PATIENCE).unwrap();
        let hello = Hello {
            magic: MAGIC.into(),
            version: VERSION,
        };
        channel.send(&hello).unwrap();
        let asked: Request = channel.receive(Some(PATIENCE), PATIENCE).unwrap();
        assert!(
            matches!(
                asked,
                Request::Redirection(RedirectionRequest::Begin { .. })
            ),
            "{asked:?}"
        );
        channel.send(&Reply::Redirected { reader: true }).unwrap();
        let offered: Request = channel.receive(Some(PATIENCE), PATIENCE).unwrap();
        let Request::Redirection(RedirectionRequest::Offer { cards }) = offered else {
            panic!("no cards: {offered:?}");
        };
        Self {
            redirect,
            channel,
            card: cards[0].card_id.clone(),
        }
    }

    fn want(&mut self, program: u32, request: &Request) {
        let request = packed(request).unwrap();
        // It may have hung up by now.
        drop(self.channel.send(&Reply::Wanted { program, request }));
    }

    fn answer(&mut self) -> (u32, Reply) {
        loop {
            match self.channel.receive(Some(PATIENCE), PATIENCE).unwrap() {
                Request::Redirection(RedirectionRequest::Answered { program, reply }) => {
                    return (program, exactly(reply.expose()).unwrap());
                }
                Request::Redirection(RedirectionRequest::Offer { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, request: &Request) -> Reply {
        self.want(1, request);
        self.answer().1
    }

    /// It ends by itself, and says why.
    fn ends(mut self, why: &str) {
        assert!(!self.redirect.wait().success());
        let said = self.redirect.log();
        assert!(said.contains(why), "{why} is not in\n{said}");
    }
}

fn secret() -> SecretBytes {
    SecretBytes::new(b"000000".to_vec())
}

fn apdu(card: &str, bytes: &[u8]) -> Request {
    Request::card(
        card,
        CardRequest::Transmit {
            apdu: SecretBytes::new(bytes.to_vec()),
        },
    )
}

/// Everything by which a try could be spent or a card be changed.
fn attempts(card: &str) -> Vec<Request> {
    let card = || card.to_owned();
    let pin = [&[0, 0x20, 0, 0x80, 6][..], b"000000"].concat();
    let part = [&[0x10, 0x20, 0, 0x80, 6][..], b"000000"].concat();
    let puk = [&[0, 0x2C, 0, 0x80, 14][..], b"00000000000000"].concat();
    vec![
        Request::card(card(), CardRequest::Login { pin: secret() }),
        Request::card(
            card(),
            CardRequest::VerifyPin {
                value: secret(),
                reference: Reference::Pin,
            },
        ),
        Request::card(
            card(),
            CardRequest::VerifyPin {
                value: secret(),
                reference: Reference::Puk,
            },
        ),
        Request::card(
            card(),
            CardRequest::ChangePin {
                old: secret(),
                new: secret(),
                reference: Reference::Pin,
            },
        ),
        Request::card(
            card(),
            CardRequest::UnblockPin {
                by: Authority::Puk(secret()),
                new: secret(),
            },
        ),
        Request::card(
            card(),
            CardRequest::UseKey {
                pin: Some(secret()),
                reference: 0x81,
                operation: Operation::SignEcdsa {
                    digest: vec![0; 32],
                },
            },
        ),
        Request::card(
            card(),
            CardRequest::GenerateKey {
                pin: Some(secret()),
                key: NewKey {
                    label: None,
                    class: cardea_client::message::KeyClass::Session,
                    sign_only: false,
                    id: None,
                },
                algorithm: cardea_terms::KeyAlgorithm::P256,
            },
        ),
        Request::card(
            card(),
            CardRequest::DeleteKey {
                pin: None,
                reference: 0x81,
            },
        ),
        Request::card(card(), CardRequest::Destroy { owner_auth: None }),
        Request::card(card(), CardRequest::AdminChallenge),
        Request::card(
            card(),
            CardRequest::ChangePinByAgent {
                reference: Reference::Pin,
            },
        ),
        Request::Connection(ConnectionRequest::ShareLogins),
        Request::Cards(CardsRequest::List { from: None }),
        Request::slot(
            0,
            SlotRequest::Transmit {
                apdu: SecretBytes::new(pin.clone()),
            },
        ),
        apdu(&card(), &pin),
        apdu(&card(), &part),
        apdu(&card(), &puk),
        apdu(&card(), &[0, 0x87, 0, 0, 4, 0x7C, 2, 0x81, 0, 0]),
    ]
}

#[test]
fn no_request_of_a_hostile_machine_spends_a_try_or_changes_the_card() {
    let machines = Redirection::new("");
    let listener = listen(&machines);
    let count = attempts("").len();
    for number in 0..count {
        let mut hostile = Hostile::new(&machines, &listener);
        let card = hostile.card.clone();
        // With power, and in the middle of a chain of commands.
        let up = Request::card(
            card.clone(),
            CardRequest::Power {
                action: PowerAction::Up,
            },
        );
        assert!(matches!(hostile.ask(&up), Reply::Atr(_)));
        let asked = attempts(&card).remove(number);
        hostile.want(1, &asked);
        hostile
            .ends("which redirected cards do not offer; the cards are no longer available at dev1");
        assert_eq!(machines.here.tries_left(), 5, "{asked:?}");
    }
    let shown = machines.here.cardea(&["card", "show", "Alice"]);
    assert!(shown.contains("10 of 10 tries left"), "the PUK: {shown}");
    let keys = machines.here.cardea(&["key", "list", "Alice"]);
    assert_eq!(keys.matches("generated").count(), 2, "{keys}");

    // What it may ask needs the PIN that a person types; a person who says no is not asked for ever.
    let mut hostile = Hostile::new(&machines, &listener);
    let card = hostile.card.clone();
    let sign = Request::card(
        card.clone(),
        CardRequest::UseKey {
            pin: None,
            reference: 0x81,
            operation: Operation::SignEcdsa {
                digest: vec![0; 32],
            },
        },
    );
    let refused = hostile.ask(&sign);
    assert!(
        matches!(&refused, Reply::Failed(failure) if failure.kind == FailureKind::NotLoggedIn),
        "{refused:?}"
    );
    let perform = hostile.ask(&apdu(&card, &[0, 0x2A, 0x9E, 0x9A, 1, 7, 0]));
    assert!(
        matches!(&perform, Reply::Failed(_)),
        "without power: {perform:?}"
    );
    let other = hostile.ask(&Request::card("0".repeat(32), CardRequest::Status));
    assert!(matches!(&other, Reply::Failed(failure) if failure.kind == FailureKind::Removed));
    // Not by its name either.
    let named = hostile.ask(&Request::card("Alice", CardRequest::Status));
    assert!(matches!(&named, Reply::Failed(failure) if failure.kind == FailureKind::Removed));
    machines.person().types("");
    let login = Request::card(card, CardRequest::LoginByAgent);
    for _ in 0..2 {
        let refused = hostile.ask(&login);
        assert!(
            matches!(&refused, Reply::Failed(failure) if failure.kind == FailureKind::Cancelled),
            "{refused:?}"
        );
    }
    hostile.want(1, &login);
    hostile.ends("dev1 was refused several times in a row");
    assert_eq!(machines.here.tries_left(), 5);
}

#[test]
fn garbage_and_floods_end_or_wait_and_the_card_here_works_on() {
    let machines = Redirection::new("");
    let listener = listen(&machines);
    garbage_ends_the_greeting(&machines, &listener);
    garbage_ends_the_redirection(&machines, &listener);
    floods_end_or_wait(&machines, &listener);
}

fn garbage_ends_the_greeting(machines: &Redirection, listener: &UnixListener) {
    for (bytes, why) in [
        (&b"Welcome to dev1\r\n"[..], "unexpected output from dev1"),
        (&[0xFF; 64], "unexpected output from dev1"),
        (&[], "did not take the cards"),
    ] {
        let (mut redirect, socket) = redirect(machines, listener);
        std::io::Write::write_all(&mut &socket, bytes).unwrap();
        drop(socket);
        assert!(!redirect.wait().success());
        assert!(redirect.log().contains(why), "{why}: {}", redirect.log());
    }
    let (mut stranger, socket) = redirect(machines, listener);
    let mut channel = Channel::new(socket);
    let hello = Hello {
        magic: MAGIC.into(),
        version: VERSION + 7,
    };
    channel.send(&hello).unwrap();
    assert!(!stranger.wait().success());
    assert!(
        stranger.log().contains(&format!(
            "another version of Cardea (protocol {})",
            VERSION + 7
        )),
        "{}",
        stranger.log()
    );
}

fn garbage_ends_the_redirection(machines: &Redirection, listener: &UnixListener) {
    let raw = |bytes: &[u8], why: &str| {
        let hostile = Hostile::new(machines, listener);
        let mut socket = hostile.channel.socket();
        std::io::Write::write_all(&mut socket, bytes).unwrap();
        hostile.ends(why);
    };
    raw(&[0xFF; 4096], "dev1 sent an invalid message");
    raw(&[0, 0, 0, 2, 0x82, 0x00], "dev1 sent an invalid message");
    raw(&[0, 2, 0, 1, 0], "dev1 sent an invalid message");
    let mut hostile = Hostile::new(machines, listener);
    // A request in a request in a request is invalid.
    let inner = packed(&Reply::Wanted {
        program: 1,
        request: SecretBytes::new(vec![0x82; 1000]),
    });
    let request = inner.unwrap();
    drop(hostile.channel.send(&Reply::Wanted {
        program: 1,
        request,
    }));
    hostile.ends("dev1 sent an invalid request");
    let mut hostile = Hostile::new(machines, listener);
    drop(hostile.channel.send(&Reply::Certificate(vec![0; 100])));
    hostile.ends("dev1 sent an unexpected reply");
    let mut hostile = Hostile::new(machines, listener);
    drop(hostile.channel.send(&ByteVec::from(vec![0; 1000])));
    hostile.ends("dev1 sent an invalid message");
}

fn floods_end_or_wait(machines: &Redirection, listener: &UnixListener) {
    // The next before the last is answered.
    let mut hostile = Hostile::new(machines, listener);
    let status = Request::card(hostile.card.clone(), CardRequest::Status);
    for _ in 0..100 {
        hostile.want(1, &status);
    }
    hostile.ends("sent a request before the previous one was answered");
    // Too many programs.
    let mut hostile = Hostile::new(machines, listener);
    for program in 0..100 {
        hostile.want(program, &status);
    }
    hostile.ends(&format!(
        "asked for more than {MAX_PROGRAMS} programs at once"
    ));

    // A flood by the rules is slowed down, and the person here signs meanwhile.
    let mut hostile = Hostile::new(machines, listener);
    let start = Instant::now();
    for number in 0..2000 {
        let reply = hostile.ask(&status);
        assert!(matches!(reply, Reply::Status(_)), "{reply:?}");
        if number == 900 {
            machines
                .here
                .ok(&["--login", "--pin", PIN, "--list-objects"]);
        }
    }
    // 800 at once, then 400 in a second.
    assert!(
        start.elapsed() > Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert!(hostile.redirect.running());
    hostile.redirect.terminate();
    assert_eq!(machines.here.tries_left(), 5);
    // With a decent machine everything is as ever.
    let mut redirect = machines.start(&[]);
    let signed = machines.sign("rsa");
    assert!(signed.success, "{}", signed.text);
    machines.check("rsa");
    redirect.terminate();
}

/// A local user whose "other machine" lies to the daemon there: bounded, and nobody else is affected.
#[test]
fn daemon_survives_a_hostile_redirection() {
    let machines = Redirection::without_agent("");
    let connect = || {
        let mut channel =
            Channel::new(UnixStream::connect(machines.there.daemon.socket()).unwrap());
        channel.greet(PATIENCE).unwrap();
        channel
    };
    let refused =
        |channel: &mut Channel<UnixStream>| match channel.receive(Some(PATIENCE), PATIENCE) {
            Ok(Reply::Failed(failure)) => failure,
            other => panic!("not refused: {other:?}"),
        };
    let begin = || {
        let mut channel = connect();
        let request = Request::Redirection(RedirectionRequest::Begin {
            from: "laptop".into(),
            reader: true,
        });
        channel.send(&request).unwrap();
        match channel.receive(Some(PATIENCE), PATIENCE) {
            // Off unless the administrator has allowed it.
            Ok(Reply::Redirected { reader: false }) => channel,
            other => panic!("not redirected: {other:?}"),
        }
    };
    let card = |id: &str, name: &str| cardea_client::message::CardOverview {
        card_id: id.into(),
        name: name.into(),
        state: cardea_client::message::CardState::Ready,
        reason: String::new(),
        uninitialised: false,
    };
    let id = "00112233445566778899aabbccddeeff";
    let mut nameless = connect();
    let request = Request::Redirection(RedirectionRequest::Begin {
        from: "lap\ntop".into(),
        reader: false,
    });
    nameless.send(&request).unwrap();
    assert_eq!(refused(&mut nameless).kind, FailureKind::Invalid);
    for cards in [
        vec![card("xyz", "Alice")],
        vec![card(id, "A\u{1b}[2J")],
        vec![card(id, "")],
        vec![card(id, "Alice"), card(id, "Bob")],
        (0..17)
            .map(|number| card(&format!("{number:032x}"), "Alice"))
            .collect(),
    ] {
        let mut channel = begin();
        let request = Request::Redirection(RedirectionRequest::Offer { cards });
        channel.send(&request).unwrap();
        refused(&mut channel);
    }
    let mut channel = begin();
    let request = Request::Cards(CardsRequest::List { from: None });
    channel.send(&request).unwrap();
    assert_eq!(refused(&mut channel).kind, FailureKind::Protocol);

    // An answer to something else, or none that could be one, is no card's.
    let mut channel = begin();
    let cards = vec![card(id, "Liar")];
    let request = Request::Redirection(RedirectionRequest::Offer { cards });
    channel.send(&request).unwrap();
    cardea_testkit::process::wait_for("the card", || machines.is_there());
    let tool = std::thread::scope(|scope| {
        let tool = scope.spawn(|| machines.there.tool(&["--list-objects"]));
        for _ in 0..20 {
            match channel.receive(Some(PATIENCE), PATIENCE) {
                Ok(Reply::Wanted { program, .. }) => {
                    let reply = packed(&Reply::Certificate(vec![1, 2, 3])).unwrap();
                    channel
                        .send(&Request::Redirection(RedirectionRequest::Answered {
                            program,
                            reply,
                        }))
                        .unwrap();
                }
                Ok(Reply::Released { .. }) => break,
                other => panic!("{other:?}"),
            }
        }
        tool.join().unwrap()
    });
    assert!(!tool.text.contains("Certificate Object"), "{}", tool.text);
    // So many of a user.
    let more: Vec<_> = (0..3).map(|_| begin()).collect();
    let mut fifth = connect();
    let request = Request::Redirection(RedirectionRequest::Begin {
        from: "laptop".into(),
        reader: false,
    });
    fifth.send(&request).unwrap();
    assert_eq!(refused(&mut fifth).kind, FailureKind::Busy);
    drop((channel, more));
    cardea_testkit::process::wait_for("the card goes", || !machines.is_there());
}
