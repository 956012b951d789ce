//! Callers who mean harm, and what is left of a caller's secrets.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::fs::FileExt;

use cardea_dcom::Guid;
use cardea_dcom::dcom::OrpcThis;
use cardea_dcom::ndr::{Message, WideString};
use cardea_dcom::pdu::{ExpectedCall, SIGNS_HEADERS, SyntaxId};
use cardea_dcom::tpmvsc::{DestroyCard, DestroyCardReply, IID_MANAGER, manager};
use cardea_testkit::process::wait_for;
use cardea_testkit::remote::{Administrator, Refused, Service};
use cardea_testkit::workplace::Workplace;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::json;

use crate::cards::Target;

/// A workplace with the service before its daemon.
fn served() -> (Service, Workplace) {
    let workplace = Workplace::new();
    let service = Service::start(&workplace.path("service"), &workplace.daemon.socket());
    (service, workplace)
}

/// A connection from an address of this machine.
fn connected(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(from, 0)).unwrap();
    connect(&socket, &to).unwrap();
    socket.into()
}

#[test]
fn ten_thousand_half_open_binds_take_no_memory_and_keep_nobody_out() {
    let (service, _workplace) = served();
    let idle = service.load();
    Administrator::sign_in(service.address()).unwrap();
    let before = service.load();
    let mut open = Vec::new();
    for number in 0..10_000_u32 {
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(number % 8).unwrap() + 1);
        let mut stream = connected(from, service.address());
        // The header of a bind, and less than it says.
        let _ = stream.write_all(b"\x05\x00\x0b\x03\x10\0\0\0\x48\0\0\0\x01\0\0\0\xd0\x16\xd0\x16");
        open.push(stream);
        if open.len() > 200 {
            open.remove(0);
        }
        if number % 1000 == 999 {
            Administrator::sign_in(service.address()).unwrap();
        }
    }
    let during = service.load();
    assert!(
        during.memory <= before.memory + 4096,
        "{before:?} {during:?}"
    );
    assert!(during.threads <= before.threads + 2 * 64, "{during:?}");
    drop(open);
    wait_for("the end of the connections", || {
        service.load().is_as_busy_as(idle)
    });
}

#[test]
fn trailer_that_contradicts_the_bind_or_the_call_is_refused() {
    let (service, _workplace) = served();
    let stub = DestroyCard {
        this: OrpcThis::new(Guid::from_u128(7)),
        instance_id: WideString::from_text(r"ROOT\SMARTCARDREADER\0000").unwrap(),
        callback: None,
    };
    let stub = stub.encode();
    // The first call on a connection has this number.
    let true_call = ExpectedCall {
        interface: SyntaxId::interface(IID_MANAGER),
        transfer: SyntaxId::NDR,
        call_id: 2,
        context_id: 0,
        opnum: manager::DESTROY,
        offers_header_signing: false,
    };
    let called = |call: ExpectedCall, bits| {
        let mut caller = Administrator::sign_in(service.address()).unwrap();
        let stub = [&stub[..], &call.verification(stub.len(), bits)].concat();
        caller.call(manager::DESTROY, &stub)
    };
    let answer = called(true_call, 0).unwrap();
    let result = DestroyCardReply::decode_all(&answer).unwrap().result;
    assert_eq!(result, 0x8007_0490);
    let other_method = ExpectedCall {
        opnum: manager::CREATE,
        ..true_call
    };
    let other_interface = ExpectedCall {
        interface: SyntaxId::interface(Guid::NIL),
        ..true_call
    };
    let other_number = ExpectedCall {
        call_id: 3,
        ..true_call
    };
    for (call, bits) in [
        (other_method, 0),
        (other_interface, 0),
        (other_number, 0),
        // It would have offered to sign headers, and no such offer has come.
        (true_call, SIGNS_HEADERS),
    ] {
        let refused = called(call, bits).unwrap_err();
        assert_eq!(
            refused,
            Refused::Call("the call failed (0x00000005)".to_owned())
        );
    }
}

/// How often some bytes are in the memory of a process that can be written.
fn found(pid: u32, secret: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut count = 0;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // What the kernel does not show is not memory.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            count += bytes
                .windows(secret.len())
                .filter(|one| *one == secret)
                .count();
        }
    }
    count
}

#[test]
fn secrets_of_a_caller_are_neither_kept_nor_logged() {
    let target = Target::new("log = 'trace'\n");
    let mut client = target.usual(1);
    let (pin, puk) = (
        "Zq7#umbrella-PIN-with-as-many-characters-as-needed",
        "Xk9!paraffin-PUK-with-as-many-characters-as-needed",
    );
    let key = *b"K1=cobalt8K2=walnut8K3=m";
    let hex = |bytes: &[u8]| base16ct::lower::encode_string(bytes);
    let order = json!({
        "call": "create", "method": 1, "pin": pin, "puk": hex(puk.as_bytes()), "key": hex(&key),
    });
    assert_eq!(client.result(order.clone()), 0);
    // Refused ones as well, at the two places where that can be.
    let mut wrong = order.clone();
    wrong["kcv"] = json!("000000");
    assert_ne!(client.result(wrong), 0);
    let mut wrong = order;
    wrong["algorithm"] = json!(1);
    assert_ne!(client.result(wrong), 0);
    let log = target.log();
    for secret in [pin.as_bytes(), puk.as_bytes(), &key] {
        // Its second part, for allocators write their own over the beginning of what is free.
        let shown = String::from_utf8_lossy(secret);
        assert!(
            !log.contains(&*shown) && !log.contains(&hex(secret)),
            "{shown} in the log"
        );
        assert_eq!(
            found(target.pid(), &secret[16..]),
            0,
            "{shown} in the memory"
        );
    }
    // What is there is found.
    let kept = pin.to_owned();
    assert!(found(std::process::id(), kept.as_bytes()) > 0);
}
