//! Who may report, and what.

use std::net::Ipv4Addr;
use std::time::Instant;

use cardea_dcom::dcom::{OrpcThis, StdObjRef};
use cardea_rpc::auth::{ClientFresh, Credentials, NtHash, NtlmInitiator};
use cardea_rpc::rpc::outgoing::{Outgoing, OutgoingError};

use super::*;

const CID: Guid = Guid::from_u128(77);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Listening {
    reports: Reports,
    heard: Arc<Mutex<Vec<Event>>>,
    watch: Watch,
}

fn listen(other: IpAddr) -> Listening {
    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let noted = Arc::clone(&heard);
    let watch = Watch {
        abort: Arc::default(),
        hear: Some(Arc::new(move |event| noted.lock().unwrap().push(event))),
    };
    let reports = Reports::listen(HERE, other, CID, watch.clone()).unwrap();
    Listening {
        reports,
        heard,
        watch,
    }
}

impl Listening {
    /// What the other machine knows: the object, its address, the account.
    fn known(&self) -> (StdObjRef, SocketAddr, Credentials) {
        let reference = self.reports.reference().objref().unwrap();
        let (std, resolver) = reference.standard().unwrap();
        let (host, port) = resolver.addresses[0].host_and_port().unwrap();
        let address = SocketAddr::new(host.parse().unwrap(), port.unwrap());
        let account = OneTimeAccount::of_reference(resolver).unwrap();
        (*std, address, account)
    }

    fn connect(&self, account: Option<Credentials>, iid: Guid) -> Result<Outgoing, OutgoingError> {
        let (_, address, _) = self.known();
        let until = Instant::now() + Duration::from_secs(10);
        let initiator = account.map(|account| {
            let fresh = ClientFresh {
                nonce: random::bytes().unwrap(),
                session_key: random::bytes().unwrap(),
                time: 0,
            };
            NtlmInitiator::new(account, "rpcss/127.0.0.1".to_owned(), fresh)
        });
        Outgoing::bind(address, SyntaxId::interface(iid), initiator, until)
    }

    fn report(&self, connection: &mut Outgoing, opnum: u16, number: u32, cid: Guid) -> Said {
        let (std, ..) = self.known();
        let report = Report {
            this: OrpcThis::new(cid),
            number,
        };
        match connection.call(opnum, Some(std.ipid), &report.encode()) {
            Ok(stub) => Said::Result(OrpcResult::decode_all(&stub).unwrap().result),
            Err(OutgoingError::Fault(status)) => Said::Fault(status),
            Err(error) => panic!("{error}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Fault(u32),
    Result(u32),
}

#[test]
fn account_of_the_reference_may_report_about_this_order_alone() {
    let listening = listen(HERE);
    let (_, _, account) = listening.known();
    let mut known = listening.connect(Some(account), IID_CALLBACK).unwrap();
    let mut say = |opnum, number, cid| listening.report(&mut known, opnum, number, cid);
    assert_eq!(say(3, 0, CID), Said::Result(0));
    assert_eq!(say(4, 17, CID), Said::Result(0));
    // A number that nobody knows is not shown, and no reason to give up.
    assert_eq!(say(3, 4711, CID), Said::Result(0));
    assert_eq!(
        say(3, 1, Guid::from_u128(1)),
        Said::Fault(fault_status::DISCONNECTED)
    );
    assert_eq!(say(5, 1, CID), Said::Fault(fault_status::OPERATION_RANGE));
    let heard = listening.heard.lock().unwrap();
    let expected = [
        Event::Step(Status::CardInitializing),
        Event::Failed(ErrorReport::Create),
    ];
    assert_eq!(*heard, expected);
}

#[test]
fn nobody_else_may_report() {
    let listening = listen(HERE);
    let (_, _, account) = listening.known();
    let wrong = Credentials {
        hash: NtHash::from_bytes([1; 16]),
        ..account
    };
    for account in [None, Some(wrong)] {
        let mut stranger = listening.connect(account, IID_CALLBACK).unwrap();
        let said = listening.report(&mut stranger, 3, 0, CID);
        assert_eq!(said, Said::Fault(fault_status::ACCESS_DENIED));
    }
    assert!(listening.heard.lock().unwrap().is_empty() && !listening.reports.were_heard());
}

#[test]
fn another_machine_is_not_let_in() {
    let listening = listen(IpAddr::from([192, 0, 2, 1]));
    let (_, _, account) = listening.known();
    assert!(listening.connect(Some(account), IID_CALLBACK).is_err());
}

#[test]
fn reports_are_bounded_and_refused_when_nobody_wants_the_order() {
    let listening = listen(HERE);
    let (_, _, account) = listening.known();
    let mut known = listening.connect(Some(account), IID_CALLBACK).unwrap();
    for _ in 0..MAX_REPORTS - 1 {
        assert_eq!(listening.report(&mut known, 3, 1, CID), Said::Result(0));
    }
    listening.watch.abort.store(true, Ordering::SeqCst);
    let aborted = listening.report(&mut known, 3, 1, CID);
    assert_eq!(aborted, Said::Result(Hresult::ABORT.0));
    let more = listening.report(&mut known, 3, 1, CID);
    assert_eq!(more, Said::Fault(fault_status::DISCONNECTED));
}

#[test]
fn resolver_knows_this_exporter_alone_and_says_no_secret() {
    let listening = listen(HERE);
    let (std, ..) = listening.known();
    let mut nobody = listening.connect(None, IID_OBJECT_EXPORTER).unwrap();
    let mut resolve = |oxid| {
        let question = ResolveOxid {
            oxid,
            protocols: vec![7],
        };
        let opnum = object_exporter::RESOLVE_OXID2;
        let stub = nobody.call(opnum, None, &question.encode()).unwrap();
        ResolveOxid2Reply::decode_all(&stub).unwrap()
    };
    let found = resolve(std.oxid).bindings.unwrap();
    assert!(OneTimeAccount::of_reference(&found).is_none());
    assert_eq!(resolve(std.oxid ^ 1).status, resolver_status::INVALID_OXID);
}

#[test]
fn listener_ends_with_the_order() {
    let listening = listen(HERE);
    let (_, address, _) = listening.known();
    drop(listening);
    let until = Instant::now() + Duration::from_secs(10);
    let is_open = || std::net::TcpStream::connect(address).is_ok();
    while is_open() {
        assert!(Instant::now() < until, "it still listens");
        std::thread::sleep(Duration::from_millis(5));
    }
}
