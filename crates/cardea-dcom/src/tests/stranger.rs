//! Another implementation reads what is written here, and its writings are read here.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base16ct::lower::encode_string;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::golden::create;
use super::hex;
use super::round_trip::{guid, std};
use crate::Guid;
use crate::dcom::*;
use crate::ndr::{Message, Secret, WideString};
use crate::pdu::*;
use crate::tpmvsc::*;

/// How many messages of each kind.
const EACH: usize = 100;

/// A message: what it is, its bytes, what it says, and what must hold for the other's writing of it.
struct Case {
    kind: &'static str,
    bytes: Vec<u8>,
    says: String,
    is_same: Box<IsSame>,
}

/// Whether the other's writing of a message is read as that message.
type IsSame = dyn Fn(&[u8]) -> bool;

fn hexed(bytes: &[u8]) -> String {
    match bytes {
        [] => "-".to_owned(),
        bytes => encode_string(bytes),
    }
}

fn units(text: &WideString) -> String {
    let bytes: Vec<u8> = text
        .units()
        .iter()
        .flat_map(|unit| unit.to_le_bytes())
        .collect();
    hexed(&bytes)
}

fn id(guid: &Guid) -> String {
    encode_string(guid.as_bytes())
}

fn joined(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(" ")
}

/// Draws values that are the same in each run.
struct Source(TestRunner);

impl Source {
    fn draw<T: std::fmt::Debug>(&mut self, strategy: impl Strategy<Value = T>) -> T {
        strategy.new_tree(&mut self.0).unwrap().current()
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        self.draw(vec(any::<u8>(), 1..limit))
    }

    /// Text without lone surrogates, on which the other gives up.
    fn text(&mut self) -> WideString {
        let text = self.draw("[ -~\u{e4}\u{20ac}\u{1f600}]{1,20}");
        WideString::from_text(&text).unwrap()
    }

    /// The other takes three zero bytes for an end, which holds for ASCII that is not empty.
    fn bindings(&mut self) -> DualStringArray {
        let text = "[a-z0-9.:\\[\\]]{1,20}";
        let addresses = self.draw(vec((1..=u16::MAX, text), 1..4));
        let security = self.draw(vec((1..=u16::MAX, text), 1..4));
        DualStringArray {
            addresses: addresses
                .into_iter()
                .map(|(tower, address)| StringBinding { tower, address })
                .collect(),
            security: security
                .into_iter()
                .map(|(service, principal)| SecurityBinding { service, principal })
                .collect(),
        }
    }

    fn slot(&mut self) -> Option<AuthSlot> {
        let drawn = self.draw(option::of((any::<u8>(), any::<u32>(), 1u16..100)));
        drawn.map(|(auth_type, context_id, value_length)| AuthSlot {
            auth_type,
            level: AuthLevel::Integrity,
            context_id,
            value_length,
        })
    }

    fn reference(&mut self) -> ObjRef {
        let (kind, iid, class, std) = self.draw((0..3, guid(), guid(), std()));
        let resolver = self.bindings();
        ObjRef {
            iid,
            reference: match kind {
                0 => Reference::Custom {
                    class,
                    data: self.bytes(40),
                },
                1 => Reference::Handler {
                    std,
                    class,
                    resolver,
                },
                _ => Reference::Standard { std, resolver },
            },
        }
    }
}

fn std_says(std: &StdObjRef) -> String {
    let StdObjRef {
        flags,
        public_refs,
        oxid,
        oid,
        ipid,
    } = std;
    format!("{flags} {public_refs} {oxid} {oid} {}", id(ipid))
}

fn bindings_say(bindings: &DualStringArray) -> String {
    let one = |number: u16, text: &str| {
        format!("{number}/{}", units(&WideString::from_text(text).unwrap()))
    };
    let addresses = bindings.addresses.iter();
    let addresses = addresses.map(|binding| one(binding.tower, &binding.address));
    let security = bindings.security.iter();
    let security = security.map(|binding| one(binding.service, &binding.principal));
    let all: Vec<_> = addresses.chain(security).collect();
    joined([all.len().to_string()].into_iter().chain(all))
}

fn trailer_says(auth: Option<AuthTrailer<'_>>) -> String {
    let Some(auth) = auth else {
        return "none".to_owned();
    };
    format!(
        "{} {} {} {} {}",
        auth.auth_type,
        auth.level,
        auth.pad_length,
        auth.context_id,
        hexed(auth.value)
    )
}

fn syntax(syntax: &SyntaxId) -> String {
    format!(
        "{}{}",
        id(&syntax.uuid),
        encode_string(&syntax.version.to_le_bytes())
    )
}

/// A packet, with a value in its trailer; the other's writing of it may have other padding only.
fn packet(
    source: &mut Source,
    kind: &'static str,
    body: Body<'_>,
    slot: Option<AuthSlot>,
    says: impl Fn(&Pdu<'_>) -> String + 'static,
) -> Case {
    let call_id = source.draw(any::<u32>());
    let mut built = build(&body, call_id, Flags::WHOLE, slot.as_ref()).unwrap();
    let value = built.value_mut();
    value.copy_from_slice(&source.draw(vec(any::<u8>(), value.len())));
    let said = says(&Pdu::parse(built.bytes()).unwrap());
    let expected = said.clone();
    Case {
        kind,
        bytes: built.bytes().to_vec(),
        says: said,
        is_same: Box::new(move |bytes| says(&Pdu::parse(bytes).unwrap()) == expected),
    }
}

fn bind(source: &mut Source) -> Case {
    let numbers = source.draw(any::<(u16, u16, u32)>());
    let contexts = source.draw(vec((any::<u16>(), guid(), any::<u32>(), guid()), 1..5));
    let contexts = contexts
        .into_iter()
        .map(|(id, uuid, version, transfer)| ContextOffer {
            id,
            interface: SyntaxId { uuid, version },
            transfer: vec![SyntaxId {
                uuid: transfer,
                version: 2,
            }],
        });
    let body = Body::Bind(Bind {
        max_transmit: numbers.0,
        max_receive: numbers.1,
        group: numbers.2,
        contexts: contexts.collect(),
    });
    let slot = source.slot();
    packet(source, "bind", body, slot, |pdu| {
        let Body::Bind(bind) = &pdu.body else {
            return String::new();
        };
        let mut says = format!("{} {} ", pdu.header.call_id, pdu.header.flags.0);
        write!(
            says,
            "{} {} {} ",
            bind.max_transmit, bind.max_receive, bind.group
        )
        .unwrap();
        for offer in &bind.contexts {
            let [transfer] = &offer.transfer[..] else {
                return String::new();
            };
            write!(
                says,
                "{}/{}/{} ",
                offer.id,
                syntax(&offer.interface),
                syntax(transfer)
            )
            .unwrap();
        }
        says + &trailer_says(pdu.auth)
    })
}

fn bind_ack(source: &mut Source) -> Case {
    let numbers = source.draw(any::<(u16, u16, u32)>());
    let results = source.draw(vec((any::<u16>(), any::<u16>(), guid()), 1..5));
    let results = results
        .into_iter()
        .map(|(result, reason, uuid)| ContextResult {
            result,
            reason,
            transfer: SyntaxId { uuid, version: 1 },
        });
    let body = Body::BindAck(BindAck {
        max_transmit: numbers.0,
        max_receive: numbers.1,
        group: numbers.2,
        address: source.draw("[0-9]{1,5}"),
        results: results.collect(),
    });
    packet(source, "bind_ack", body, None, |pdu| {
        let Body::BindAck(ack) = &pdu.body else {
            return String::new();
        };
        let mut says = format!("{} {} ", pdu.header.call_id, pdu.header.flags.0);
        write!(
            says,
            "{} {} {} ",
            ack.max_transmit, ack.max_receive, ack.group
        )
        .unwrap();
        write!(says, "{}", ack.address).unwrap();
        for result in &ack.results {
            let transfer = syntax(&result.transfer);
            write!(says, " {}/{}/{transfer}", result.result, result.reason).unwrap();
        }
        says
    })
}

fn request(source: &mut Source) -> Case {
    let stub = source.bytes(60);
    let (alloc_hint, context_id, opnum) = source.draw(any::<(u32, u16, u16)>());
    let object = source.draw(option::of(guid()));
    // The other loses the trailer of a request with an object.
    let slot = source.slot().filter(|_| object.is_none());
    let body = Body::Request(Request {
        alloc_hint,
        context_id,
        opnum,
        object,
        stub: &stub,
    });
    packet(source, "request", body, slot, |pdu| {
        let Body::Request(request) = &pdu.body else {
            return String::new();
        };
        let object = request.object.as_ref().map_or("-".to_owned(), id);
        format!(
            "{} {} {} {} {} {object} {} {}",
            pdu.header.call_id,
            pdu.header.flags.0,
            request.alloc_hint,
            request.context_id,
            request.opnum,
            hexed(request.stub),
            trailer_says(pdu.auth)
        )
    })
}

fn response(source: &mut Source) -> Case {
    let stub = source.bytes(60);
    let (alloc_hint, context_id, cancel_count) = source.draw(any::<(u32, u16, u8)>());
    let slot = source.slot();
    let body = Body::Response(Response {
        alloc_hint,
        context_id,
        cancel_count,
        stub: &stub,
    });
    packet(source, "response", body, slot, |pdu| {
        let Body::Response(response) = &pdu.body else {
            return String::new();
        };
        format!(
            "{} {} {} {} {} {} {}",
            pdu.header.call_id,
            pdu.header.flags.0,
            response.alloc_hint,
            response.context_id,
            response.cancel_count,
            hexed(response.stub),
            trailer_says(pdu.auth)
        )
    })
}

fn fault(source: &mut Source) -> Case {
    let (context_id, status) = source.draw(any::<(u16, u32)>());
    let body = Body::Fault(Fault {
        context_id,
        cancel_count: 0,
        status,
    });
    packet(source, "fault", body, None, |pdu| {
        let Body::Fault(fault) = &pdu.body else {
            return String::new();
        };
        let Header { call_id, flags, .. } = pdu.header;
        format!(
            "{call_id} {} {} {}",
            flags.0, fault.context_id, fault.status
        )
    })
}

fn objref(source: &mut Source) -> Case {
    let reference = source.reference();
    let iid = id(&reference.iid);
    let says = match &reference.reference {
        Reference::Custom { class, data } => {
            format!("custom {iid} {} {}", id(class), hexed(data))
        }
        Reference::Extended { .. } => unreachable!("it is not drawn"),
        Reference::Handler {
            std,
            class,
            resolver,
        } => format!(
            "handler {iid} {} {} {}",
            std_says(std),
            id(class),
            bindings_say(resolver)
        ),
        Reference::Standard { std, resolver } => {
            format!(
                "standard {iid} {} {}",
                std_says(std),
                bindings_say(resolver)
            )
        }
    };
    Case {
        kind: "objref",
        bytes: reference.to_bytes(),
        says,
        is_same: Box::new(move |bytes| ObjRef::parse(bytes).unwrap() == reference),
    }
}

fn activation(source: &mut Source) -> Case {
    let [
        destination,
        class_context,
        flags,
        impersonation,
        process,
        apartment,
        context,
    ] = source.draw(any::<[u32; 7]>());
    let (class, iids) = source.draw((guid(), vec(guid(), 1..5)));
    let machine = source.draw(any::<bool>()).then(|| source.text());
    let request = ActivationRequest {
        destination,
        class,
        class_context,
        flags,
        iids,
        version: ComVersion {
            major: 5,
            minor: source.draw(any::<u16>()),
        },
        impersonation,
        protocols: source.draw(vec(any::<u16>(), 1..5)),
        location: Location {
            machine,
            process,
            apartment,
            context,
        },
        is_persistent: false,
    };
    let mut says = format!("{destination} {} {class_context} {flags} ", id(&class));
    write!(says, "{} ", request.iids.len()).unwrap();
    says += &joined(request.iids.iter().map(id));
    write!(says, " {} {impersonation} ", request.version.minor).unwrap();
    says += &joined(request.protocols.iter().map(u16::to_string));
    // The other does not tell the end of the string from its content.
    let machine = request.location.machine.as_ref();
    let machine = machine.map_or("-".to_owned(), |machine| units(machine) + "0000");
    write!(says, " {machine} {process} {apartment} {context}").unwrap();
    let call = RemoteCreateInstance {
        this: create().this,
        outer: None,
        properties: Some(request.to_pointer()),
    };
    Case {
        kind: "activation",
        bytes: call.encode().to_vec(),
        says,
        is_same: Box::new(move |bytes| {
            ActivationRequest::read(&InterfacePointer(bytes.to_vec())).unwrap() == request
        }),
    }
}

fn answer(source: &mut Source) -> Case {
    let (destination, oxid, rem_unknown) = source.draw((any::<u32>(), any::<u64>(), guid()));
    let interfaces = source.draw(vec((guid(), any::<u32>()), 1..4));
    let interfaces = interfaces
        .into_iter()
        .map(|(iid, result)| ActivatedInterface {
            iid,
            result,
            pointer: Some(InterfacePointer::from(&source.reference())),
        });
    let interfaces = interfaces.collect();
    let reply = ActivationReply {
        destination,
        oxid,
        bindings: source.bindings(),
        rem_unknown,
        auth_hint: 6,
        version: ComVersion::CURRENT,
        interfaces,
    };
    let mut says = format!("0 {destination} {oxid} {} 6 ", id(&rem_unknown));
    says += &bindings_say(&reply.bindings);
    for one in &reply.interfaces {
        let pointer = hexed(&one.pointer.as_ref().unwrap().0);
        write!(says, " {}/{}/{pointer}", id(&one.iid), one.result).unwrap();
    }
    let call = ActivationAnswer {
        that: OrpcThat::default(),
        properties: Some(reply.to_pointer()),
        result: 0,
    };
    Case {
        kind: "answer",
        bytes: call.encode().to_vec(),
        says,
        is_same: Box::new(move |bytes| {
            ActivationReply::read(&InterfacePointer(bytes.to_vec())).unwrap() == reply
        }),
    }
}

fn query_results(source: &mut Source) -> Case {
    let results = source.draw(vec((any::<u32>(), std()), 1..6));
    let reply = RemQueryInterfaceReply {
        that: OrpcThat::default(),
        results: Some(
            results
                .into_iter()
                .map(|(result, std)| QueryResult { result, std })
                .collect(),
        ),
        result: source.draw(any::<u32>()),
    };
    let mut says = reply.result.to_string();
    for one in reply.results.iter().flatten() {
        write!(says, " {} {}", one.result, std_says(&one.std)).unwrap();
    }
    Case {
        kind: "query_results",
        bytes: reply.encode().to_vec(),
        says,
        is_same: Box::new(move |bytes| RemQueryInterfaceReply::decode_all(bytes).unwrap() == reply),
    }
}

fn creation(source: &mut Source) -> Case {
    let methods = [
        (CreateMethod::Plain, "create3"),
        (CreateMethod::PinPolicy, "create5"),
        (CreateMethod::Attestation, "create6"),
    ];
    let (method, kind) = methods[source.draw(0..3usize)];
    let mut optional = |limit| source.draw(option::of(vec(any::<u8>(), 1..limit)));
    let (kcv, puk, policy) = (optional(4), optional(128), optional(33));
    let mut this = create().this;
    this.cid = source.draw(guid());
    let request = CreateCard {
        this,
        method,
        name: source.text(),
        admin_algorithm: source.draw(any::<u8>()),
        admin_key: Secret::new(&source.bytes(30)),
        admin_kcv: kcv,
        puk: puk.map(|puk| Secret::new(&puk)),
        pin: Secret::new(&source.bytes(128)),
        pin_policy: policy.filter(|_| method != CreateMethod::Plain),
        attestation: match method {
            CreateMethod::Attestation => source.draw(any::<u32>()),
            _ => 0,
        },
        generate: source.draw(any::<bool>()),
        callback: source
            .draw(any::<bool>())
            .then(|| InterfacePointer::from(&source.reference())),
    };
    let bytes = |bytes: Option<&[u8]>| bytes.map_or("null".to_owned(), hexed);
    let says = joined([
        id(&request.this.cid),
        units(&request.name),
        request.admin_algorithm.to_string(),
        hexed(&request.admin_key),
        bytes(request.admin_kcv.as_deref()),
        bytes(request.puk.as_deref()),
        hexed(&request.pin),
        bytes(request.pin_policy.as_deref()),
        request.attestation.to_string(),
        u8::from(request.generate).to_string(),
        bytes(request.callback.as_ref().map(|pointer| &pointer.0[..])),
    ]);
    Case {
        kind,
        bytes: request.encode().to_vec(),
        says,
        is_same: Box::new(move |bytes| {
            CreateCard::decode(method, bytes).unwrap() == (request.clone(), bytes.len())
        }),
    }
}

#[test]
fn implementation_in_python_agrees_on_every_message_both_ways() {
    let kinds = [
        bind,
        bind_ack,
        request,
        response,
        fault,
        objref,
        activation,
        answer,
        query_results,
        creation,
    ];
    let mut source = Source(TestRunner::deterministic());
    let cases: Vec<Case> = kinds
        .iter()
        .flat_map(|kind| std::iter::repeat_n(kind, EACH))
        .map(|kind| kind(&mut source))
        .collect();
    let mut input = String::new();
    for case in &cases {
        writeln!(input, "{} {}", case.kind, encode_string(&case.bytes)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stranger.py");
    let mut program = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // In a thread of its own: both pipes may be full.
    let mut stdin = program.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = program.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "the implementation in Python fails"
    );
    writer.join().unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<_> = said.lines().collect();
    assert_eq!(said.len(), 1000);
    for (number, (case, said)) in cases.iter().zip(said).enumerate() {
        let (says, again) = said.split_once('\t').unwrap();
        assert_eq!(says, case.says, "{} {number}", case.kind);
        assert!(
            (case.is_same)(&hex(again)),
            "{} {number}: {again}",
            case.kind
        );
    }
}
