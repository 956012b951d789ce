//! Status reports: what a callback on the caller's machine hears, and what comes of its refusal.
//!
//! The callback is served by our own connections; the call that names it comes from impacket.

use std::io::{BufRead, BufReader, Lines};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cardea_dcom::Guid;
use cardea_dcom::dcom::ids::{IID_OBJECT_EXPORTER, IID_REM_UNKNOWN};
use cardea_dcom::dcom::{
    ComVersion, DualStringArray, ObjRef, OrpcResult, Reference, RemRefs, ResolveOxid,
    ResolveOxid2Reply, StdObjRef, StringBinding,
};
use cardea_dcom::ndr::Message;
use cardea_dcom::pdu::{AuthLevel, SyntaxId, fault_status};
use cardea_dcom::tpmvsc::{IID_CALLBACK, Report};
use cardea_rpc::auth::{AuthError, Directory, Fresh, ServerNames};
use cardea_rpc::rpc::{Answer, Request, Services};
use cardea_rpc::server::{Host, Limits, Server};
use cardea_testkit::process::wait_for;
use cardea_tpmvsc::accounts::Accounts;
use serde_json::{Value, json};

use crate::cards::Target;

const OXID: u64 = 0x1122_3344_5566_7788;
const IPID: Guid = Guid::from_u128(1);
const REM_UNKNOWN: Guid = Guid::from_u128(2);

/// An administrator's machine that listens to reports.
#[derive(Clone)]
struct Callback {
    accounts: Arc<Accounts>,
    /// Method, number, causality.
    heard: Arc<Mutex<Vec<(u16, u32, Guid)>>>,
    released: Arc<Mutex<u32>>,
    /// Answered with a failure.
    refuses: Option<u32>,
    /// Answered when the lock is free.
    holds: Option<(u32, Arc<Mutex<()>>)>,
    port: u16,
}

impl Callback {
    fn serve(refuses: Option<u32>) -> Self {
        Self::start(refuses, None)
    }

    /// One that does not answer a report as long as a lock is held.
    fn holding(step: u32, lock: &Arc<Mutex<()>>) -> Self {
        Self::start(None, Some((step, Arc::clone(lock))))
    }

    fn start(refuses: Option<u32>, holds: Option<(u32, Arc<Mutex<()>>)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let line = cardea_tpmvsc::accounts::line("target", "battery staple").unwrap();
        let callback = Self {
            accounts: Arc::new(Accounts::parse(&line).unwrap()),
            heard: Arc::default(),
            released: Arc::default(),
            refuses,
            holds,
            port: listener.local_addr().unwrap().port(),
        };
        let host = Box::new(callback.clone());
        Server::start(vec![listener], host, Limits::default()).unwrap();
        callback
    }

    fn bindings(&self) -> DualStringArray {
        DualStringArray {
            addresses: vec![
                // Somebody else, who must not be called.
                StringBinding::tcp("192.0.2.1", Some(1)),
                StringBinding::tcp("127.0.0.1", Some(self.port)),
            ],
            security: Vec::new(),
        }
    }

    fn reference(&self) -> String {
        let reference = ObjRef {
            iid: IID_CALLBACK,
            reference: Reference::Standard {
                std: StdObjRef {
                    flags: 0,
                    public_refs: 5,
                    oxid: OXID,
                    oid: 7,
                    ipid: IPID,
                },
                resolver: self.bindings(),
            },
        };
        base16ct::lower::encode_string(&reference.to_bytes())
    }

    fn numbers(&self) -> Vec<(u16, u32)> {
        let heard = self.heard.lock().unwrap();
        heard
            .iter()
            .map(|(opnum, number, _)| (*opnum, *number))
            .collect()
    }
}

impl Host for Callback {
    fn accept(&self, _: SocketAddr, _: SocketAddr) -> Option<Box<dyn Services>> {
        Some(Box::new(self.clone()))
    }
}

impl Services for Callback {
    fn serves(&self, interface: &SyntaxId) -> bool {
        [IID_OBJECT_EXPORTER, IID_CALLBACK, IID_REM_UNKNOWN]
            .map(SyntaxId::interface)
            .contains(interface)
    }

    fn needs(&self, interface: &SyntaxId, _: u16) -> AuthLevel {
        match interface.uuid {
            IID_OBJECT_EXPORTER => AuthLevel::None,
            _ => AuthLevel::Privacy,
        }
    }

    fn call(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let stub = match request.interface.uuid {
            IID_OBJECT_EXPORTER => {
                let asked = ResolveOxid::decode_all(request.stub).unwrap();
                assert_eq!((asked.oxid, &*asked.protocols), (OXID, &[7][..]));
                ResolveOxid2Reply {
                    bindings: Some(self.bindings()),
                    rem_unknown: REM_UNKNOWN,
                    auth_hint: 6,
                    version: ComVersion::CURRENT,
                    status: 0,
                }
                .encode()
            }
            IID_CALLBACK if request.call.object == Some(IPID) => {
                let report = Report::decode_all(request.stub).unwrap();
                assert_eq!(request.caller.unwrap().user, "target");
                let what = (request.call.opnum, report.number, report.this.cid);
                self.heard.lock().unwrap().push(what);
                match &self.holds {
                    Some((step, lock)) if *step == report.number => drop(lock.lock()),
                    _ => {}
                }
                let refused = self.refuses == Some(report.number) && request.call.opnum == 3;
                OrpcResult::new(if refused { 0x8000_4004 } else { 0 }).encode()
            }
            IID_REM_UNKNOWN if request.call.object == Some(REM_UNKNOWN) => {
                let refs = RemRefs::decode_all(request.stub).unwrap();
                *self.released.lock().unwrap() += refs.refs.first().unwrap().public;
                OrpcResult::new(0).encode()
            }
            _ => return Err(fault_status::DISCONNECTED),
        };
        Ok(Answer { stub, undo: None })
    }

    fn accounts(&self) -> &dyn Directory {
        &*self.accounts
    }

    fn fresh(&self) -> std::io::Result<Fresh> {
        Ok(Fresh {
            nonce: *b"87654321",
            decoy: [9; 16],
            time: 133_000_000_000_000_000,
        })
    }

    fn names(&self) -> ServerNames {
        ServerNames::new("admin.example.org")
    }

    fn refused(&self, _: AuthError) {}

    fn authenticated(&self, _: &str) {}
}

fn target(with_account: bool) -> Target {
    Target::new(match with_account {
        true => "callback = 'CALLBACK'\n",
        false => "",
    })
}

fn create(callback: &Callback) -> Value {
    json!({"call": "create", "method": 1, "callback": callback.reference()})
}

#[test]
fn callback_hears_every_step_in_its_order_and_is_released() {
    let target = target(true);
    let callback = Callback::serve(None);
    let mut client = target.usual(1);
    let card = client.call(create(&callback));
    assert_eq!(card["result"], 0, "{card}");
    let created = callback.numbers();
    assert_eq!(created.first(), Some(&(3, 0)), "{created:?}");
    assert!(
        created.ends_with(&[(3, 11), (3, 7), (3, 12)]),
        "{created:?}"
    );
    assert!(created.iter().all(|(opnum, _)| *opnum == 3), "{created:?}");
    // The causality of the call: impacket has one for the whole conversation.
    let cid = card["cid"].as_str().unwrap().to_owned();
    for (_, _, heard) in callback.heard.lock().unwrap().drain(..) {
        assert_eq!(base16ct::lower::encode_string(heard.as_bytes()), cid);
    }
    assert_eq!(*callback.released.lock().unwrap(), 5);
    let destroy = json!({
        "call": "destroy", "instance": card["instance"], "callback": callback.reference(),
    });
    assert_eq!(client.result(destroy), 0);
    let destroyed = callback.numbers();
    assert_eq!(destroyed.first(), Some(&(3, 8)), "{destroyed:?}");
    assert_eq!(destroyed.last(), Some(&(3, 13)), "{destroyed:?}");
}

#[test]
fn card_whose_callback_refuses_is_not_left_behind() {
    let target = target(true);
    let mut client = target.usual(1);
    // At the beginning, in the middle, and at the very end.
    for step in [0, 1, 11, 12] {
        let callback = Callback::serve(Some(step));
        assert_eq!(client.result(create(&callback)), 0x8000_4004, "{step}");
        assert_eq!(callback.numbers().last(), Some(&(3, step)));
        assert!(target.instances().is_empty(), "{step}");
    }
}

#[test]
fn others_do_not_wait_for_a_callback_that_does_not_answer() {
    let target = target(true);
    // Before the daemon is asked, while it works, and when it is done.
    for step in [0, 1, 12] {
        let lock = Arc::new(Mutex::new(()));
        let held = lock.lock().unwrap();
        let silent = Callback::holding(step, &lock);
        let mut waiting = target.usual(1);
        waiting.begin(create(&silent));
        wait_for("the report", || silent.numbers().last() == Some(&(3, step)));
        let mut other = target.usual(1);
        let card = other.call(json!({"call": "create", "method": 1}));
        assert_eq!(card["result"], 0, "{card}");
        let destroy = json!({"call": "destroy", "instance": card["instance"]});
        assert_eq!(other.result(destroy), 0);
        assert_eq!(silent.numbers().last(), Some(&(3, step)));
        drop(held);
        let card = waiting.read();
        assert_eq!(card["result"], 0, "{card}");
        assert_eq!(silent.numbers().last(), Some(&(3, 12)));
        let destroy = json!({"call": "destroy", "instance": card["instance"]});
        assert_eq!(other.result(destroy), 0);
    }
}

#[test]
fn callback_that_never_answers_hears_no_more_and_the_card_is_made() {
    let target = target(true);
    let lock = Arc::new(Mutex::new(()));
    let _held = lock.lock().unwrap();
    let silent = Callback::holding(1, &lock);
    let begin = Instant::now();
    assert_eq!(target.usual(1).result(create(&silent)), 0);
    assert_eq!(silent.numbers().last(), Some(&(3, 1)));
    // Of the ten seconds there is one time, not one for each report.
    assert!(begin.elapsed() < Duration::from_secs(40));
    assert_eq!(target.instances().len(), 1);
}

#[test]
fn errors_are_reported_before_the_call_fails() {
    let target = target(true);
    let mut client = target.usual(1);
    let callback = Callback::serve(None);
    let mut order = create(&callback);
    order["pin"] = json!("1234567");
    assert_eq!(client.result(order), 0x8010_002A);
    assert_eq!(callback.numbers(), [(4, 1)]);
}

#[test]
fn call_goes_on_where_there_is_no_way_to_report() {
    let silent = target(false);
    let callback = Callback::serve(None);
    assert_eq!(silent.usual(1).result(create(&callback)), 0);
    assert!(callback.numbers().is_empty());
    // Nobody is there; and somebody else.
    let target = target(true);
    let mut gone = callback.clone();
    gone.port = 1;
    let mut client = target.usual(1);
    assert_eq!(client.result(create(&gone)), 0);
    assert_eq!(target.instances().len(), 1);
}

/// The same machine, played by impacket: what it cannot decode, decrypt or verify ends it.
struct Stranger {
    program: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Stranger {
    fn start(refuses: i32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/callback_host.py");
        let mut program = Command::new("/usr/bin/python3")
            .arg("-B")
            .arg(script)
            .args(["target", "battery staple", &refuses.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stranger = Self {
            lines: BufReader::new(program.stdout.take().unwrap()).lines(),
            program,
            port: 0,
        };
        stranger.port = u16::try_from(stranger.heard()["port"].as_u64().unwrap()).unwrap();
        stranger
    }

    fn heard(&mut self) -> Value {
        let line = self.lines.next().unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The reports until the release, all of one causality.
    fn reports(&mut self, cid: &str) -> Vec<(u64, u64)> {
        let mut reports = Vec::new();
        loop {
            let heard = self.heard();
            assert_eq!(heard["cid"], cid, "{heard}");
            if heard["released"] == 5 {
                return reports;
            }
            assert_eq!(heard["user"], "target");
            let [opnum, number] = ["opnum", "number"].map(|key| heard[key].as_u64().unwrap());
            reports.push((opnum, number));
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn impacket_opens_verifies_and_decodes_the_reports() {
    let target = target(true);
    let mut client = target.usual(1);
    let mut reference = Callback::serve(None);
    let mut stranger = Stranger::start(-1);
    reference.port = stranger.port;
    let card = client.call(create(&reference));
    assert_eq!(card["result"], 0, "{card}");
    let cid = card["cid"].as_str().unwrap().to_owned();
    let created = stranger.reports(&cid);
    assert_eq!(created.first(), Some(&(3, 0)), "{created:?}");
    assert!(
        created.ends_with(&[(3, 11), (3, 7), (3, 12)]),
        "{created:?}"
    );
    let destroy = json!({
        "call": "destroy", "instance": card["instance"], "callback": reference.reference(),
    });
    assert_eq!(client.result(destroy), 0);
    let destroyed = stranger.reports(&cid);
    assert_eq!(destroyed.last(), Some(&(3, 13)), "{destroyed:?}");
    // A PIN that is too short is reported as an error.
    let mut order = create(&reference);
    order["pin"] = json!("1234567");
    assert_eq!(client.result(order), 0x8010_002A);
    assert_eq!(stranger.reports(&cid), [(4, 1)]);
    // It refuses when the card is made: it is taken back.
    let mut stranger = Stranger::start(12);
    reference.port = stranger.port;
    assert_eq!(client.result(create(&reference)), 0x8000_4004);
    assert_eq!(stranger.reports(&cid).last(), Some(&(3, 12)));
    assert!(target.instances().is_empty());
}
