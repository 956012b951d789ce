//! Machines that lie, and somebody on the way to them.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use cardea_dcom::dcom::ids::IID_UNKNOWN;
use cardea_dcom::dcom::{
    ActivatedInterface, ObjRef, OrpcResult, OrpcThat, Reference, ResolveOxid2Reply, StringBinding,
};
use cardea_dcom::pdu::{AuthLevel, HEADER_LENGTH, Header};
use cardea_rpc::auth::{AuthError, Directory, Fresh, NtHash, ServerNames};
use cardea_rpc::rpc::{Answer, Request, Services};
use cardea_rpc::server::{Host, Limits, Server};

use super::*;
use crate::account::Account;

const OXID: u64 = 7;
const OID: u64 = 8;
const IPID: Guid = Guid::from_u128(1);
const REM_UNKNOWN: Guid = Guid::from_u128(2);
const PASSWORD: &str = "correct horse";

/// A machine with a manager that lies about one thing.
#[derive(Clone)]
struct Liar {
    lie: Lie,
    port: u16,
    /// Of orders, references that were given back, pings.
    counts: Arc<[AtomicU32; 3]>,
    last_order: Arc<Mutex<Option<CreateCard>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    AnotherExporter,
    AnotherReference,
    LongAnswer,
    LongInstance,
    NeedsPings,
    NoAddress,
    NoInstance,
    Nothing,
    OldManager,
    Reboots,
    UnreadableAnswer,
    UnreadableReference,
    WaitsForEver,
    WrongVersion,
}

impl Liar {
    fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let liar = Self {
            lie,
            port: listener.local_addr().unwrap().port(),
            counts: Arc::default(),
            last_order: Arc::default(),
        };
        let host = Box::new(liar.clone());
        Server::start(vec![listener], host, Limits::default()).unwrap();
        liar
    }

    fn count(&self, what: usize) -> u32 {
        self.counts[what].load(Ordering::SeqCst)
    }

    fn machine(&self) -> Machine {
        machine(self.port, PASSWORD)
    }

    fn bindings(&self) -> DualStringArray {
        DualStringArray {
            addresses: match self.lie {
                Lie::NoAddress => Vec::new(),
                // First one that must not be connected to.
                _ => vec![
                    StringBinding::tcp("192.0.2.1", Some(1)),
                    StringBinding::tcp("127.0.0.1", Some(self.port)),
                ],
            },
            security: Vec::new(),
        }
    }

    fn activate(&self, request: &Request<'_>) -> ActivationAnswer {
        let (call, used) = RemoteCreateInstance::decode(request.stub).unwrap();
        request.check(used, Some(&call.this)).unwrap();
        // The call says once more, sealed, what it is for.
        assert!(request.stub.len() > used + 60);
        let asked = ActivationRequest::read(&call.properties.unwrap()).unwrap();
        assert_eq!(
            (asked.class, &*asked.iids),
            (CLSID_REMOTE_MANAGER, &INTERFACES[..])
        );
        let offered = |iid: &Guid| match self.lie {
            Lie::OldManager if *iid != IID_MANAGER => ActivatedInterface {
                iid: *iid,
                result: hresult::E_NOINTERFACE,
                pointer: None,
            },
            _ => ActivatedInterface {
                iid: *iid,
                result: hresult::S_OK,
                pointer: Some(self.pointer(*iid)),
            },
        };
        let reply = ActivationReply {
            destination: DIFFERENT_MACHINE,
            oxid: OXID,
            bindings: self.bindings(),
            rem_unknown: REM_UNKNOWN,
            auth_hint: 1,
            version: ComVersion {
                major: if self.lie == Lie::WrongVersion { 6 } else { 5 },
                minor: 7,
            },
            interfaces: asked.iids.iter().map(offered).collect(),
        };
        ActivationAnswer {
            that: OrpcThat::default(),
            properties: Some(reply.to_pointer()),
            result: hresult::S_OK,
        }
    }

    fn pointer(&self, iid: Guid) -> InterfacePointer {
        if self.lie == Lie::UnreadableReference {
            return InterfacePointer(b"MEOW and nothing else".to_vec());
        }
        let reference = ObjRef {
            iid: match self.lie {
                Lie::AnotherReference => IID_UNKNOWN,
                _ => iid,
            },
            reference: Reference::Standard {
                std: StdObjRef {
                    flags: match self.lie {
                        Lie::NeedsPings => 0,
                        _ => StdObjRef::NO_PING,
                    },
                    public_refs: 5,
                    oxid: match self.lie {
                        Lie::AnotherExporter => OXID + 1,
                        _ => OXID,
                    },
                    oid: OID,
                    ipid: IPID,
                },
                resolver: self.bindings(),
            },
        };
        InterfacePointer::from(&reference)
    }

    fn create(&self, request: &Request<'_>) -> Vec<u8> {
        let method = CreateMethod::from_opnum(request.call.opnum).unwrap();
        let (order, used) = CreateCard::decode(method, request.stub).unwrap();
        request.check(used, Some(&order.this)).unwrap();
        *self.last_order.lock().unwrap() = Some(order);
        let instance = match self.lie {
            Lie::NoInstance => None,
            Lie::LongInstance => Some("x".repeat(MAX_INSTANCE_ID + 1)),
            _ => Some(r"ROOT\SMARTCARDREADER\0000".to_owned()),
        };
        // Until there was a ping, or until the test is over.
        let waits_for = match self.lie {
            Lie::NeedsPings => Some(2),
            Lie::WaitsForEver => Some(1),
            _ => None,
        };
        let patience = Instant::now() + Duration::from_secs(20);
        while waits_for.is_some_and(|what| self.count(what) == 0) && Instant::now() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        match self.lie {
            Lie::LongAnswer => vec![0; 60_000],
            Lie::UnreadableAnswer => vec![1, 2, 3],
            _ => {
                let reply = CreateCardReply {
                    that: OrpcThat::default(),
                    instance_id: instance.and_then(|id| WideString::from_text(&id)),
                    need_reboot: self.lie == Lie::Reboots,
                    result: 0,
                };
                reply.encode(method).to_vec()
            }
        }
    }
}

impl Host for Liar {
    fn accept(&self, _: SocketAddr, _: SocketAddr) -> Option<Box<dyn Services>> {
        Some(Box::new(self.clone()))
    }
}

impl Services for Liar {
    fn serves(&self, _: &SyntaxId) -> bool {
        true
    }

    fn needs(&self, _: &SyntaxId, _: u16) -> AuthLevel {
        AuthLevel::Privacy
    }

    fn call(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let stub = match request.interface.uuid {
            IID_REMOTE_SCM_ACTIVATOR => self.activate(request).encode().to_vec(),
            IID_OBJECT_EXPORTER if request.call.opnum == object_exporter::RESOLVE_OXID2 => {
                ResolveOxid2Reply {
                    bindings: Some(self.bindings()),
                    rem_unknown: REM_UNKNOWN,
                    auth_hint: 6,
                    version: ComVersion::CURRENT,
                    status: resolver_status::OK,
                }
                .encode()
                .to_vec()
            }
            IID_OBJECT_EXPORTER => {
                self.counts[2].fetch_add(1, Ordering::SeqCst);
                ComplexPingReply {
                    set: 9,
                    backoff: 0,
                    status: resolver_status::OK,
                }
                .encode()
                .to_vec()
            }
            IID_REM_UNKNOWN => {
                let (refs, _) = RemRefs::decode(request.stub).unwrap();
                assert_eq!(request.call.object, Some(REM_UNKNOWN));
                self.counts[1].fetch_add(refs.refs[0].public, Ordering::SeqCst);
                OrpcResult::new(0).encode().to_vec()
            }
            _ => {
                self.counts[0].fetch_add(1, Ordering::SeqCst);
                assert_eq!(request.call.object, Some(IPID));
                self.create(request)
            }
        };
        Ok(Answer {
            stub: stub.into(),
            undo: None,
        })
    }

    fn accounts(&self) -> &dyn Directory {
        self
    }

    fn fresh(&self) -> io::Result<Fresh> {
        Ok(Fresh {
            nonce: random::bytes()?,
            decoy: random::bytes()?,
            time: random::file_time(),
        })
    }

    fn names(&self) -> ServerNames {
        ServerNames::new("target")
    }

    fn refused(&self, _: AuthError) {}

    fn authenticated(&self, _: &str) {}
}

impl Directory for Liar {
    fn nt_hash(&self, user: &str) -> Option<NtHash> {
        (user == "ann").then(|| NtHash::of_password(PASSWORD))
    }
}

fn machine(port: u16, password: &str) -> Machine {
    let account = Account::with_password(&"ann".parse().unwrap(), password);
    let mut machine = Machine::new("127.0.0.1", port, account).unwrap();
    machine.patience = Duration::from_secs(2);
    machine
}

fn card(policy: Option<[u8; 32]>) -> NewCard {
    NewCard {
        name: "remote".to_owned(),
        admin_key: Zeroizing::new([7; 24]),
        puk: None,
        pin: Zeroizing::new(b"12345678".to_vec()),
        policy,
        attestation: Attestation::None,
        generate: true,
    }
}

fn silent() -> Watch {
    Watch {
        abort: Arc::default(),
        hear: None,
    }
}

fn create(lie: Lie) -> (Liar, Result<String, RemoteError>) {
    let liar = Liar::start(lie);
    let made = liar.machine().create(&card(None), &silent());
    (liar, made)
}

#[test]
fn honest_machine_gets_the_whole_order_and_its_references_back() {
    for lie in [Lie::Nothing, Lie::AnotherExporter, Lie::Reboots] {
        let (liar, made) = create(lie);
        assert_eq!(made.unwrap(), r"ROOT\SMARTCARDREADER\0000");
        let order = liar.last_order.lock().unwrap().take().unwrap();
        assert_eq!(order.name.to_text().unwrap(), "remote");
        assert_eq!(order.admin_kcv.unwrap(), key_check_value(&[7; 24]));
        assert!(order.callback.is_none() && order.generate);
        assert_eq!((liar.count(0), liar.count(1), liar.count(2)), (1, 5, 0));
    }
}

#[test]
fn object_that_needs_pings_gets_them() {
    let (liar, made) = create(Lie::NeedsPings);
    made.unwrap();
    assert_eq!(liar.count(2), 1);
}

#[test]
fn old_manager_makes_cards_without_what_it_does_not_know() {
    let (liar, made) = create(Lie::OldManager);
    made.unwrap();
    let machine = liar.machine();
    let policy = machine.create(&card(Some([1; 32])), &silent());
    assert!(matches!(
        policy,
        Err(RemoteError::NotSupported("PIN policies"))
    ));
    let mut attested = card(None);
    attested.attestation = Attestation::AikOnly;
    let attested = machine.create(&attested, &silent());
    assert!(matches!(attested, Err(RemoteError::NotSupported(_))));
    assert_eq!(liar.count(0), 1);
}

#[test]
fn lies_before_an_order_end_it_before_a_secret_is_sent() {
    for lie in [
        Lie::AnotherReference,
        Lie::NoAddress,
        Lie::UnreadableReference,
        Lie::WrongVersion,
    ] {
        let (liar, made) = create(lie);
        let error = made.unwrap_err();
        let is_expected = matches!(
            error,
            RemoteError::Protocol(_) | RemoteError::NotSupported(_)
        );
        assert!(is_expected, "{error:?}");
        assert_eq!(liar.count(0), 0);
    }
}

#[test]
fn lies_after_an_order_leave_it_in_doubt() {
    for lie in [
        Lie::LongAnswer,
        Lie::LongInstance,
        Lie::NoInstance,
        Lie::UnreadableAnswer,
    ] {
        let (liar, made) = create(lie);
        let error = made.unwrap_err();
        assert!(matches!(error, RemoteError::Lost(_)), "{error:?}");
        assert_eq!(liar.count(0), 1);
    }
}

#[test]
fn machine_that_does_not_know_the_password_gets_nothing() {
    let liar = Liar::start(Lie::Nothing);
    let made = machine(liar.port, "another").create(&card(None), &silent());
    assert!(matches!(made, Err(RemoteError::Denied)), "{made:?}");
    assert_eq!(liar.count(0), 0);
}

#[test]
fn order_is_carried_out_where_nothing_is_reported_and_that_is_said_once() {
    let liar = Liar::start(Lie::Nothing);
    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let noted = Arc::clone(&heard);
    let watch = Watch {
        abort: Arc::default(),
        hear: Some(Arc::new(move |event| noted.lock().unwrap().push(event))),
    };
    liar.machine().create(&card(None), &watch).unwrap();
    assert_eq!(*heard.lock().unwrap(), [Event::NoReports]);
    let order = liar.last_order.lock().unwrap().take().unwrap();
    let reference = order.callback.unwrap().objref().unwrap();
    assert_eq!(reference.iid, cardea_dcom::tpmvsc::IID_CALLBACK);
}

/// Somebody between the client and a machine: changes packets of the machine, or of the client, by their number.
fn between(port: u16, change: impl Fn(bool, usize, &mut Vec<u8>) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    let change = Arc::new(change);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            for of_server in [false, true] {
                let (client, server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (from, to) = if of_server {
                    (server, client)
                } else {
                    (client, server)
                };
                let change = Arc::clone(&change);
                thread::spawn(move || {
                    let _ = pass_on(from, to, |number, packet| change(of_server, number, packet));
                });
            }
        }
    });
    own
}

fn pass_on(
    mut from: std::net::TcpStream,
    mut to: std::net::TcpStream,
    change: impl Fn(usize, &mut Vec<u8>),
) -> io::Result<()> {
    for number in 0.. {
        let mut header = [0; HEADER_LENGTH];
        let read = from.read_exact(&mut header);
        if read.is_err() {
            let _ = to.shutdown(std::net::Shutdown::Both);
            return read;
        }
        let mut packet = vec![0; usize::from(Header::read(&header).fragment_length)];
        packet[..HEADER_LENGTH].copy_from_slice(&header);
        from.read_exact(&mut packet[HEADER_LENGTH..])?;
        change(number, &mut packet);
        to.write_all(&packet)?;
    }
    Ok(())
}

#[test]
fn whoever_changes_an_answer_on_the_way_is_noticed() {
    // The last byte of the body, of a signature, and of the header.
    for place in [30, usize::MAX, 20] {
        let liar = Liar::start(Lie::Nothing);
        let port = between(liar.port, move |of_server, number, packet| {
            // After the answer to the bind comes that of the activation.
            if of_server && number == 1 {
                let at = place.min(packet.len() - 1);
                packet[at] ^= 1;
            }
        });
        let made = machine(port, PASSWORD).create(&card(None), &silent());
        assert!(
            matches!(made, Err(RemoteError::Auth(AuthError::Signature))),
            "{made:?}"
        );
        assert_eq!(liar.count(0), 0);
    }
}

#[test]
fn answer_without_protection_is_refused() {
    let liar = Liar::start(Lie::Nothing);
    let port = between(liar.port, |of_server, number, packet| {
        if of_server && number == 1 {
            // No trailer: what stood there becomes part of the body.
            packet[10..12].fill(0);
        }
    });
    let made = machine(port, PASSWORD).create(&card(None), &silent());
    assert!(
        matches!(made, Err(RemoteError::Auth(AuthError::Signature))),
        "{made:?}"
    );
}

#[test]
fn lower_level_and_weaker_challenges_are_refused() {
    for (from_end, what) in [(1_usize, "level"), (0, "flags")] {
        let liar = Liar::start(Lie::Nothing);
        let port = between(liar.port, move |of_server, number, packet| {
            if !of_server || number != 0 {
                return;
            }
            let length = usize::from(u16::from_le_bytes([packet[10], packet[11]]));
            let value = packet.len() - length;
            match from_end {
                // The level in the trailer before the value.
                1 => packet[value - 7] = 5,
                // Flags of CHALLENGE: sealing and 128 bits are gone.
                _ => packet[value + 20..value + 24].fill(0),
            }
        });
        let made = machine(port, PASSWORD).create(&card(None), &silent());
        let error = made.unwrap_err();
        let is_refused = matches!(error, RemoteError::Auth(AuthError::NotOffered(_)));
        assert!(is_refused, "{what}: {error:?}");
        assert_eq!(liar.count(0), 0);
    }
}

/// A machine that answers everything with the same bytes, and then nothing.
fn raw(answer: &'static [u8], stays: bool) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
            if stays {
                kept.push(stream);
            }
        }
    });
    port
}

#[test]
fn silence_and_rubbish_end_in_time() {
    let nak = [
        5, 0, 13, 3, 16, 0, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 8, 0, 1, 5, 0, 0, 0, 0,
    ];
    let nak: &'static [u8] = Box::leak(Box::new(nak));
    for (answer, stays) in [
        (&b""[..], true),
        (b"", false),
        // A packet that announces more than there may be.
        (
            b"\x05\x00\x0c\x03\x10\x00\x00\x00\xff\xff\x00\x00\x01\x00\x00\x00",
            true,
        ),
        // One that announces more than comes.
        (
            b"\x05\x00\x0c\x03\x10\x00\x00\x00\x00\x02\x00\x00\x01\x00\x00\x00",
            true,
        ),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
        (nak, false),
    ] {
        let mut machine = machine(raw(answer, stays), PASSWORD);
        machine.patience = Duration::from_millis(500);
        let begin = Instant::now();
        let made = machine.create(&card(None), &silent());
        assert!(made.is_err(), "{answer:?}");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn order_that_nobody_reports_about_ends_when_it_is_aborted() {
    let liar = Liar::start(Lie::WaitsForEver);
    let abort = Arc::new(AtomicBool::new(false));
    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let noted = Arc::clone(&heard);
    let watch = Watch {
        abort: Arc::clone(&abort),
        hear: Some(Arc::new(move |event| noted.lock().unwrap().push(event))),
    };
    let made = thread::scope(|scope| {
        scope.spawn(|| {
            while liar.count(0) == 0 {
                thread::sleep(Duration::from_millis(5));
            }
            abort.store(true, Ordering::SeqCst);
        });
        liar.machine().create(&card(None), &watch)
    });
    liar.counts[1].store(1, Ordering::SeqCst);
    assert!(matches!(made, Err(RemoteError::Aborted)), "{made:?}");
    assert_eq!(*heard.lock().unwrap(), [Event::Aborting]);
}
