//! Connections: impacket as a client, and clients that do not follow the protocol.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cardea_dcom::Guid;
use cardea_dcom::pdu::{
    self, AuthLevel, AuthSlot, Bind, Body, ContextOffer, Flags, Pdu, SyntaxId, auth_type, build,
    fault_status,
};
use cardea_rpc::auth::{
    AuthError, ClientFresh, Credentials, Directory, Fresh, NtHash, NtlmInitiator, ServerNames,
    Session,
};
use cardea_rpc::rpc::outgoing::{Outgoing, OutgoingError};
use cardea_rpc::rpc::{Answer, Connection, Request, Services};
use cardea_rpc::server::{Host, Limits, Server};
use cardea_testkit::process::{run, wait_for};
use cardea_tpmvsc::accounts::Accounts;

/// Echoes: opnum 0 for everybody, 1 for those who sign, 2 for those who seal; 3 says who calls; 4 can be undone.
#[derive(Clone)]
pub(crate) struct Echo {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) refused: Arc<AtomicUsize>,
    pub(crate) undone: Arc<AtomicUsize>,
}

const ECHO: Guid = Guid::from_u128(0xA0B0_C0D0_0001_0002_0003_0000_0000_0001);
const OTHER: Guid = Guid::from_u128(0xA0B0_C0D0_0001_0002_0003_0000_0000_0002);

impl Services for Echo {
    fn serves(&self, interface: &SyntaxId) -> bool {
        [ECHO, OTHER].map(SyntaxId::interface).contains(interface)
    }

    fn needs(&self, _: &SyntaxId, opnum: u16) -> AuthLevel {
        match opnum {
            0 => AuthLevel::None,
            1 => AuthLevel::Integrity,
            _ => AuthLevel::Privacy,
        }
    }

    fn call(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let mut undo: Option<cardea_rpc::rpc::Undo> = None;
        let stub = match request.call.opnum {
            0..=2 => request.stub.to_vec(),
            3 => request.caller.unwrap().user.clone().into_bytes(),
            4 => {
                // Until the client has gone.
                std::thread::sleep(Duration::from_millis(300));
                let undone = Arc::clone(&self.undone);
                undo = Some(Box::new(move || {
                    undone.fetch_add(1, Ordering::SeqCst);
                }));
                request.stub.to_vec()
            }
            _ => return Err(fault_status::OPERATION_RANGE),
        };
        Ok(Answer {
            stub: stub.into(),
            undo,
        })
    }

    fn accounts(&self) -> &dyn Directory {
        &*self.accounts
    }

    fn fresh(&self) -> std::io::Result<Fresh> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).unwrap();
        Ok(Fresh {
            nonce,
            decoy: [9; 16],
            time: 133_000_000_000_000_000,
        })
    }

    fn authenticated(&self, _: &str) {}

    fn names(&self) -> ServerNames {
        ServerNames::new("target.example.org")
    }

    fn refused(&self, _: AuthError) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}

impl Host for Echo {
    fn accept(&self, _: SocketAddr, _: SocketAddr) -> Option<Box<dyn Services>> {
        Some(Box::new(self.clone()))
    }
}

pub(crate) fn serve(limits: Limits) -> (u16, Echo) {
    let line = cardea_tpmvsc::accounts::line("ann", "correct horse").unwrap();
    let echo = Echo {
        accounts: Arc::new(Accounts::parse(&line).unwrap()),
        refused: Arc::default(),
        undone: Arc::default(),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    Server::start(vec![listener], Box::new(echo.clone()), limits).unwrap();
    (port, echo)
}

pub(crate) fn impacket(port: u16, mechanism: &str, calls: &[&str]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/echo_client.py");
    let mut command = Command::new("/usr/bin/python3");
    let port = port.to_string();
    command
        .arg("-B")
        .arg(script)
        .args([&port, mechanism])
        .args(calls);
    let outcome = run(&mut command);
    assert!(outcome.success, "{}", outcome.text);
    outcome.text.lines().map(str::to_owned).collect()
}

fn both(calls: &[&str], expected: &[&str]) {
    for mechanism in ["ntlm", "spnego"] {
        let (port, _) = serve(Limits::default());
        let said = impacket(port, mechanism, calls);
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{mechanism}: {said}");
        }
    }
}

#[test]
fn impacket_signs_and_seals_calls_of_any_length() {
    both(
        &[
            "privacy:ann:correct horse:2:0",
            "privacy:ann:correct horse:2:5",
            "privacy:ANN:correct horse:2:4096",
            "privacy:ann:correct horse:2:60000",
            "integrity:ann:correct horse:1:700",
            "privacy:ann:correct horse:3:1",
        ],
        &["same", "same", "same", "same", "same", "answer ann"],
    );
}

#[test]
fn calls_without_the_protection_that_they_need_are_refused() {
    both(
        &[
            "integrity:ann:correct horse:2:5",
            "connect:ann:correct horse:2:5",
            "connect:ann:correct horse:1:5",
            "none:::2:5",
            "none:::1:5",
            "none:::0:5",
        ],
        &[
            "refused", "refused", "refused", "refused", "refused", "same",
        ],
    );
}

#[test]
fn caller_without_the_password_gets_no_answer() {
    let calls = [
        "privacy:ann:wrong:2:5",
        "privacy:bob:correct horse:2:5",
        "integrity:ann:wrong:1:5",
        "privacy:Guest:correct horse:2:5",
        // What needs no protection is refused too once somebody claims to be someone.
        "privacy:ann:wrong:0:5",
    ];
    for mechanism in ["ntlm", "spnego"] {
        let (port, echo) = serve(Limits::default());
        for said in impacket(port, mechanism, &calls) {
            assert!(said.starts_with("refused"), "{said}");
        }
        assert_eq!(echo.refused.load(Ordering::SeqCst), calls.len());
    }
}

#[test]
fn changed_and_repeated_packets_end_the_connection() {
    for mechanism in ["ntlm", "spnego"] {
        for level in [
            "privacy:ann:correct horse:2",
            "integrity:ann:correct horse:1",
        ] {
            let (port, _) = serve(Limits::default());
            for how in ["damage", "replay"] {
                let call = format!("{level}:64:{how}");
                let said = impacket(port, mechanism, &[&call]);
                // RPC_S_SEC_PKG_ERROR.
                let refused =
                    said == ["refused rpc_s_sec_pkg_error"] || said.concat().contains("00000721");
                assert!(refused, "{said:?}");
            }
        }
    }
}

#[test]
fn what_was_done_for_a_client_that_is_gone_is_taken_back() {
    let (port, echo) = serve(Limits::default());
    let said = impacket(port, "ntlm", &["privacy:ann:correct horse:4:5"]);
    assert_eq!(said, ["same"]);
    assert_eq!(echo.undone.load(Ordering::SeqCst), 0);
    let said = impacket(port, "ntlm", &["privacy:ann:correct horse:4:5:vanish"]);
    assert_eq!(said, ["gone"]);
    wait_for("the undoing", || echo.undone.load(Ordering::SeqCst) == 1);
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// Whether the server has closed the connection, and with how many bytes before that.
fn closed_after(mut stream: &TcpStream) -> usize {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => rest.len(),
    }
}

#[test]
fn half_open_and_cut_connections_are_closed_in_time() {
    let limits = Limits {
        authentication: Duration::from_millis(600),
        packet: Duration::from_millis(200),
        ..Limits::default()
    };
    let (port, _) = serve(limits);
    let begin = Instant::now();
    let silent = connect(port);
    assert_eq!(closed_after(&silent), 0);
    assert!(begin.elapsed() >= limits.authentication);
    let cut = connect(port);
    let begin = Instant::now();
    (&cut).write_all(b"\x05\x00\x0b\x03\x10").unwrap();
    assert_eq!(closed_after(&cut), 0);
    assert!(begin.elapsed() < limits.authentication);
}

#[test]
fn connections_beyond_the_limits_are_closed_at_once() {
    let limits = Limits {
        of_one_address: 3,
        ..Limits::default()
    };
    let (port, _) = serve(limits);
    let kept: Vec<_> = (0..3).map(|_| connect(port)).collect();
    // The server has taken the three when it closes the fourth.
    assert_eq!(closed_after(&connect(port)), 0);
    drop(kept);
    let deadline = Instant::now() + Duration::from_secs(20);
    while impacket(port, "ntlm", &["none:::0:5"]) != ["same"] {
        assert!(Instant::now() < deadline, "places are not given back");
    }
}

#[test]
fn what_is_not_the_protocol_is_answered_with_a_refusal() {
    let (port, _) = serve(Limits::default());
    // A request before anything was bound, a packet of HTTP, another version, a length of nothing.
    let request = b"\x05\x00\x00\x03\x10\0\0\0\x18\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0";
    let version = b"\x04\x00\x0b\x03\x10\0\0\0\x48\0\0\0\x01\0\0\0";
    let length = b"\x05\x00\x0b\x03\x10\0\0\0\x04\0\0\0\x01\0\0\0";
    for (packet, is_answered) in [
        (&request[..], true),
        (b"GET / HTTP/1.1\r\n", false),
        (version, true),
        (length, true),
    ] {
        let stream = connect(port);
        (&stream).write_all(packet).unwrap();
        assert_eq!(closed_after(&stream) > 0, is_answered, "{packet:?}");
    }
}

/// An account for calls outwards.
fn initiator(user: &str, password: &str) -> NtlmInitiator {
    let credentials = Credentials {
        user: user.to_owned(),
        domain: String::new(),
        hash: NtHash::of_password(password),
    };
    let mut random = [0; 24];
    getrandom::fill(&mut random).unwrap();
    let (nonce, session_key) = random.split_first_chunk().unwrap();
    let fresh = ClientFresh {
        nonce: *nonce,
        session_key: session_key.try_into().unwrap(),
        time: 0,
    };
    NtlmInitiator::new(credentials, "rpcss/127.0.0.1".to_owned(), fresh)
}

#[test]
fn our_own_client_seals_and_fails_as_it_must() {
    let (port, _) = serve(Limits::default());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let until = Instant::now() + Duration::from_secs(20);
    let bind = |interface, account| {
        Outgoing::bind(address, SyntaxId::interface(interface), account, until)
    };
    let mut known = bind(ECHO, Some(initiator("ann", "correct horse"))).unwrap();
    for length in [0, 5, 20_000] {
        let stub = vec![7; length];
        assert_eq!(*known.call(2, None, &stub).unwrap(), stub);
    }
    let range = known.call(9, None, &[]).unwrap_err();
    assert!(matches!(
        range,
        OutgoingError::Fault(fault_status::OPERATION_RANGE)
    ));
    let mut nobody = bind(ECHO, None).unwrap();
    assert_eq!(*nobody.call(0, None, &[1, 2, 3]).unwrap(), [1, 2, 3]);
    let denied = nobody.call(2, None, &[]).unwrap_err();
    assert!(matches!(
        denied,
        OutgoingError::Fault(fault_status::ACCESS_DENIED)
    ));
    let mut wrong = bind(ECHO, Some(initiator("ann", "wrong"))).unwrap();
    let denied = wrong.call(2, None, &[]).unwrap_err();
    assert!(matches!(
        denied,
        OutgoingError::Fault(fault_status::ACCESS_DENIED)
    ));
    let unknown = bind(Guid::NIL, None).err().unwrap();
    assert!(matches!(unknown, OutgoingError::Refused), "{unknown}");
}

/// A packet with a message of an authentication in it.
fn with_token(body: &Body<'_>, token: &[u8]) -> Vec<u8> {
    let slot = AuthSlot {
        auth_type: auth_type::NTLM,
        level: AuthLevel::Privacy,
        context_id: 1,
        value_length: u16::try_from(token.len()).unwrap(),
    };
    let mut built = build(body, 1, Flags::WHOLE, Some(&slot)).unwrap();
    built.value_mut().copy_from_slice(token);
    built.bytes().to_vec()
}

fn bind() -> Body<'static> {
    Body::Bind(Bind {
        max_transmit: 5840,
        max_receive: 5840,
        group: 0,
        contexts: vec![ContextOffer {
            id: 0,
            interface: SyntaxId::interface(ECHO),
            transfer: vec![SyntaxId::NDR],
        }],
    })
}

/// The packet that an authentication begins with.
fn first_packet() -> Vec<u8> {
    let initiator = initiator("ann", "correct horse");
    with_token(&bind(), initiator.negotiate())
}

#[test]
fn damaged_packets_neither_panic_nor_authenticate() {
    let (_, echo) = serve(Limits::default());
    let packet = first_packet();
    for at in 0..packet.len() {
        for change in [1, 0x80, 0xFF] {
            let mut packet = packet.clone();
            packet[at] ^= change;
            let mut connection = Connection::new(&echo, 135, 1);
            connection.receive(&mut packet);
            assert!(!connection.is_authenticated());
            // Whatever the state is now, more of the same does no harm.
            connection.receive(&mut packet);
        }
    }
    for length in 0..packet.len() {
        let mut cut = packet[..length].to_vec();
        if let Some(place) = cut.get_mut(8..10) {
            place.copy_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
        }
        let reaction = Connection::new(&echo, 135, 1).receive(&mut cut);
        assert!(reaction.close, "{length}");
    }
}

#[test]
fn request_waits_for_no_authentication_that_is_not_complete() {
    let (_, echo) = serve(Limits::default());
    let mut packet = first_packet();
    let mut connection = Connection::new(&echo, 135, 1);
    assert_eq!(connection.receive(&mut packet).packets.len(), 1);
    let request = Body::Request(pdu::Request {
        alloc_hint: 0,
        context_id: 0,
        opnum: 0,
        object: None,
        stub: b"anything",
    });
    // Opnum 0 is for everybody, but not for somebody who has begun to be someone.
    let reaction = connection.receive(&mut with_token(&request, &[0; 16]));
    let Body::Fault(fault) = Pdu::parse(&reaction.packets[0]).unwrap().body else {
        panic!("not a fault")
    };
    assert_eq!(fault.status, fault_status::ACCESS_DENIED);
    assert!(reaction.close && !connection.is_authenticated());
}

/// A request with a trailer of a level, sealed or signed as it says by the keys that were agreed on.
fn request_at(level: AuthLevel, session: &mut dyn Session) -> Vec<u8> {
    let request = Body::Request(pdu::Request {
        alloc_hint: 0,
        context_id: 0,
        opnum: 1,
        object: None,
        stub: b"anything",
    });
    let slot = AuthSlot {
        auth_type: auth_type::NTLM,
        level,
        context_id: 1,
        value_length: 16,
    };
    let mut built = build(&request, 2, Flags::WHOLE, Some(&slot)).unwrap();
    let spans = built.spans().cloned().unwrap();
    let span = &mut built.bytes_mut()[spans.signed()];
    let signature = match level {
        AuthLevel::Privacy => session.seal(span, spans.body),
        _ => session.sign(span),
    };
    built.value_mut().copy_from_slice(&signature);
    built.bytes().to_vec()
}

#[test]
fn packet_with_another_level_than_agreed_on_is_refused() {
    for (level, is_answered) in [
        (AuthLevel::Privacy, true),
        (AuthLevel::Integrity, false),
        (AuthLevel::Packet, false),
        (AuthLevel::Connect, false),
        (AuthLevel::None, false),
    ] {
        let (_, echo) = serve(Limits::default());
        let initiator = initiator("ann", "correct horse");
        let mut connection = Connection::new(&echo, 135, 1);
        let first = with_token(&bind(), initiator.negotiate());
        let answer = connection.receive(&mut first.clone()).packets.remove(0);
        let challenge = Pdu::parse(&answer).unwrap().auth.unwrap().value.to_vec();
        let (token, mut session) = initiator.authenticate(&challenge).unwrap();
        connection.receive(&mut with_token(&Body::Auth3, &token));
        assert!(connection.is_authenticated());
        let mut packet = request_at(level, &mut session);
        let reaction = connection.receive(&mut packet);
        let answer = reaction
            .packets
            .first()
            .map(|packet| Pdu::parse(packet).unwrap().body);
        match answer {
            Some(Body::Response(_)) => assert!(is_answered, "{level:?}"),
            Some(Body::Fault(fault)) => {
                assert!(!is_answered && reaction.close, "{level:?}");
                assert_eq!(fault.status, fault_status::SECURITY_PACKAGE);
            }
            other => panic!("{level:?}: {other:?}"),
        }
    }
}

#[test]
fn fragments_in_another_order_end_the_connection() {
    let fragment = |flags, call_id, stub: &[u8]| {
        let request = Body::Request(pdu::Request {
            alloc_hint: u32::MAX,
            context_id: 0,
            opnum: 0,
            object: None,
            stub,
        });
        build(&request, call_id, flags, None)
            .unwrap()
            .bytes()
            .to_vec()
    };
    let (first, middle, last) = (Flags::FIRST, Flags(0), Flags::LAST);
    let whole = [(first, 2), (middle, 2), (last, 2)];
    for (order, is_answered) in [
        (&whole[..], true),
        (&[(middle, 2)], false),
        (&[(last, 2)], false),
        (&[(first, 2), (first, 2)], false),
        (&[(first, 2), (middle, 3)], false),
        (&[(first, 2), (Flags::WHOLE, 2)], false),
    ] {
        let (_, echo) = serve(Limits::default());
        let mut connection = Connection::new(&echo, 135, 1);
        let mut bound = build(&bind(), 1, Flags::WHOLE, None)
            .unwrap()
            .bytes()
            .to_vec();
        connection.receive(&mut bound);
        let reaction = order.iter().map(|(flags, call_id)| {
            connection.receive(&mut fragment(*flags, *call_id, b"12345678"))
        });
        let reaction = reaction.last().unwrap();
        assert_eq!(reaction.close, !is_answered, "{order:?}");
        let answer = Pdu::parse(&reaction.packets[0]).unwrap().body;
        assert_eq!(
            matches!(answer, Body::Response(_)),
            is_answered,
            "{order:?}"
        );
    }
    // More than a call may have, in fragments of an honest length.
    let (_, echo) = serve(Limits::default());
    let mut connection = Connection::new(&echo, 135, 1);
    let mut bound = build(&bind(), 1, Flags::WHOLE, None)
        .unwrap()
        .bytes()
        .to_vec();
    connection.receive(&mut bound);
    let mut sent = 0;
    let closed = (0..100).any(|number| {
        let flags = if number == 0 { first } else { middle };
        sent += 4096;
        connection
            .receive(&mut fragment(flags, 2, &[7; 4096]))
            .close
    });
    assert!(closed && sent <= 64 * 1024 + 4096, "{sent}");
}
