//! Arguments and results of DCOM and MS-TPMVSC.

use std::fmt::Debug;

use cardea_dcom::Guid;
use cardea_dcom::dcom::{
    ActivatedInterface, ActivationAnswer, ActivationReply, ActivationRequest, ComVersion,
    ComplexPing, ComplexPingReply, DIFFERENT_MACHINE, DualStringArray, InterfacePointer,
    InterfaceRef, Location, ObjRef, OrpcResult, OrpcThat, OrpcThis, QueryResult, RefResults,
    Reference, RemQueryInterface, RemQueryInterface2, RemQueryInterface2Reply,
    RemQueryInterfaceReply, RemRefs, RemoteActivation, RemoteActivationReply, RemoteCreateInstance,
    RemoteGetClassObject, ResolveOxid, ResolveOxid2Reply, ResolveOxidReply, ServerAlive2Reply,
    StdObjRef, StringBinding, TOWER_TCP,
};
use cardea_dcom::exporter::{Lifetime, ObjectTable, PingSets};
use cardea_dcom::ndr::{Message, Secret, WideString};
use cardea_dcom::tpmvsc::{
    CLSID_REMOTE_MANAGER, CreateCard, CreateCardReply, CreateMethod, DestroyCard, DestroyCardReply,
    IID_MANAGER, Report, interfaces_of_manager,
};

use crate::Target;

/// A byte that says which message, and the message.
pub const TARGET: Target = Target {
    name: "dcom_message",
    run,
    seeds,
    words: &[
        b"\x05\x00\x07\x00",
        b"MEOW\x04\x00\x00\x00",
        b"\x01\x10\x08\x00\xcc\xcc\xcc\xcc",
        b"\x00\x00\x02\x00",
        b"\xab\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46",
        b"\xb6\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46",
        b"\x39\x03\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46",
        b"\x20\x00\x00\x00",
    ],
};

/// What can be read can be written, and means the same then.
fn again<T: Message + PartialEq + Debug>(stub: &[u8]) -> Option<T> {
    let (message, used) = T::decode(stub).ok()?;
    assert!(used <= stub.len());
    assert_eq!(T::decode_all(&message.encode()).as_ref(), Ok(&message));
    Some(message)
}

fn run(input: &[u8]) {
    let Some((&kind, stub)) = input.split_first() else {
        return;
    };
    let pointer = InterfacePointer(stub.to_vec());
    match kind {
        0 => create(CreateMethod::Plain, stub),
        1 => create(CreateMethod::PinPolicy, stub),
        2 => create(CreateMethod::Attestation, stub),
        3 => drop(again::<DestroyCard>(stub)),
        4 => drop(again::<DestroyCardReply>(stub)),
        5 => drop(again::<Report>(stub)),
        6 => properties_in(&pointer),
        7 => properties_out(&pointer),
        8 => {
            let message = again::<RemoteCreateInstance>(stub);
            let properties = message.and_then(|message| message.properties);
            properties.iter().for_each(properties_in);
        }
        9 => drop(again::<RemoteGetClassObject>(stub)),
        10 => {
            let message = again::<ActivationAnswer>(stub);
            let properties = message.and_then(|message| message.properties);
            properties.iter().for_each(properties_out);
        }
        11 => drop(again::<RemoteActivation>(stub)),
        12 => drop(again::<RemoteActivationReply>(stub)),
        13 => drop(again::<ResolveOxid>(stub)),
        14 => drop(again::<ResolveOxidReply>(stub)),
        15 => drop(again::<ResolveOxid2Reply>(stub)),
        16 => pings(stub),
        17 => drop(again::<ComplexPingReply>(stub)),
        18 => drop(again::<ServerAlive2Reply>(stub)),
        19..=21 => references(kind, stub),
        22 => drop(again::<RemQueryInterfaceReply>(stub)),
        23 => drop(again::<RemQueryInterface2Reply>(stub)),
        24 => drop(again::<RefResults>(stub)),
        25 => drop(again::<OrpcResult>(stub)),
        26 => {
            for method in [CreateMethod::Plain, CreateMethod::Attestation] {
                if let Ok(reply) = CreateCardReply::decode(method, stub) {
                    let written = reply.encode(method);
                    assert_eq!(CreateCardReply::decode(method, &written), Ok(reply));
                }
            }
        }
        _ => {}
    }
}

fn create(method: CreateMethod, stub: &[u8]) {
    let Ok((request, used)) = CreateCard::decode(method, stub) else {
        return;
    };
    assert!(used <= stub.len());
    drop(request.parameters());
    let written = request.encode();
    let again = CreateCard::decode(method, &written);
    assert_eq!(again, Ok((request, written.len())));
}

pub(crate) fn properties_in(pointer: &InterfacePointer) {
    if let Ok(mut request) = ActivationRequest::read(pointer) {
        // It is noted, and never sent.
        request.is_persistent = false;
        assert_eq!(ActivationRequest::read(&request.to_pointer()), Ok(request));
    }
}

pub(crate) fn properties_out(pointer: &InterfacePointer) {
    if let Ok(reply) = ActivationReply::read(pointer) {
        assert_eq!(ActivationReply::read(&reply.to_pointer()), Ok(reply));
    }
}

fn pings(stub: &[u8]) {
    let Some(ping) = again::<ComplexPing>(stub) else {
        return;
    };
    let mut sets = PingSets::new();
    let made = sets.complex_ping(
        &ComplexPing {
            set: 0,
            ..ping.clone()
        },
        0,
        &mut || 5,
        |_| true,
    );
    assert_eq!(made.set, 5);
    let reply = sets.complex_ping(&ping, 1, &mut || 6, |oid| oid != 0);
    assert!(reply.set == ping.set || ping.set == 0);
    drop(sets.expire(10_000));
}

fn references(kind: u8, stub: &[u8]) {
    let mut table = ObjectTable::new(1);
    table
        .add(2, Lifetime::Counted, true, &interfaces_of_manager())
        .expect("it is empty");
    let mut next = 0;
    let mut ipid = || {
        next += 1;
        Guid::from_u128(next)
    };
    table
        .refer(2, &IID_MANAGER, 1, &mut ipid)
        .expect("it has that");
    match kind {
        19 => {
            if let Some(query) = again::<RemQueryInterface>(stub) {
                let reply = table.query(&query, &mut ipid);
                assert!(again::<RemQueryInterfaceReply>(&reply.encode()).is_some());
            }
        }
        20 => {
            if let Some(refs) = again::<RemRefs>(stub) {
                assert_eq!(table.add_refs(&refs).results.len(), refs.refs.len());
                let (_, gone) = table.release(&refs);
                assert!(gone.iter().all(|oid| !table.has(*oid)));
            }
        }
        _ => {
            if let Some(query) = again::<RemQueryInterface2>(stub) {
                let resolver = DualStringArray::default();
                let reply = table.query2(&query, &resolver, &mut ipid);
                assert_eq!(reply.interfaces.len(), query.iids.len());
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = cards();
    seeds.extend(activations());
    seeds.extend(resolutions());
    seeds.extend(counts());
    let with_kind = |(kind, stub): (u8, Vec<u8>)| [vec![kind], stub].concat();
    seeds.into_iter().map(with_kind).collect()
}

const THIS: OrpcThis = OrpcThis::new(Guid::of_com(0x99));
const THAT: OrpcThat = OrpcThat { flags: 0 };
const STD: StdObjRef = StdObjRef {
    flags: 0,
    public_refs: 5,
    oxid: 1,
    oid: 2,
    ipid: Guid::from_u128(1),
};

fn bindings() -> DualStringArray {
    DualStringArray {
        addresses: vec![StringBinding::tcp("127.0.0.1", Some(49777))],
        security: vec![],
    }
}

fn pointer() -> InterfacePointer {
    InterfacePointer::from(&ObjRef {
        iid: IID_MANAGER,
        reference: Reference::Standard {
            std: STD,
            resolver: bindings(),
        },
    })
}

fn wide(text: &str) -> WideString {
    WideString::from_text(text).expect("it has no NUL")
}

fn cards() -> Vec<(u8, Vec<u8>)> {
    let create = |method| {
        let request = CreateCard {
            this: THIS,
            method,
            name: wide("VSC"),
            admin_algorithm: 0x82,
            admin_key: Secret::new(&[1; 24]),
            admin_kcv: Some(vec![1; 3]),
            puk: Some(Secret::new(b"87654321")),
            pin: Secret::new(b"12345678"),
            pin_policy: Some(vec![1; 32]),
            attestation: 1,
            generate: true,
            callback: Some(pointer()),
        };
        request.encode().to_vec()
    };
    let destroy = DestroyCard {
        this: THIS,
        instance_id: wide("ROOT\\SMARTCARDREADER\\0000"),
        callback: None,
    };
    let reply = CreateCardReply {
        instance_id: Some(wide("ROOT\\SMARTCARDREADER\\0000")),
        ..CreateCardReply::failure(0)
    };
    let report = Report {
        this: THIS,
        number: 9,
    };
    vec![
        (0, create(CreateMethod::Plain)),
        (1, create(CreateMethod::PinPolicy)),
        (2, create(CreateMethod::Attestation)),
        (3, destroy.encode().to_vec()),
        (5, report.encode().to_vec()),
        (26, reply.encode(CreateMethod::Plain).to_vec()),
    ]
}

fn activations() -> Vec<(u8, Vec<u8>)> {
    let request = ActivationRequest {
        destination: DIFFERENT_MACHINE,
        class: CLSID_REMOTE_MANAGER,
        class_context: 0x14,
        flags: 2,
        iids: interfaces_of_manager().to_vec(),
        version: ComVersion::CURRENT,
        impersonation: 3,
        protocols: vec![TOWER_TCP],
        location: Location {
            machine: Some(wide("target")),
            ..Location::default()
        },
        is_persistent: false,
    };
    let interfaces = vec![ActivatedInterface {
        iid: Guid::NIL,
        result: 0,
        pointer: Some(pointer()),
    }];
    let reply = ActivationReply {
        destination: DIFFERENT_MACHINE,
        oxid: 1,
        bindings: bindings(),
        rem_unknown: Guid::from_u128(9),
        auth_hint: 6,
        version: ComVersion::CURRENT,
        interfaces: interfaces.clone(),
    };
    let create = RemoteCreateInstance {
        this: THIS,
        outer: None,
        properties: Some(request.to_pointer()),
    };
    let answer = ActivationAnswer {
        that: THAT,
        properties: Some(reply.to_pointer()),
        result: 0,
    };
    let older = RemoteActivation {
        this: THIS,
        class: CLSID_REMOTE_MANAGER,
        object_name: None,
        storage: None,
        impersonation: 2,
        mode: 0,
        iids: vec![IID_MANAGER],
        protocols: vec![TOWER_TCP],
    };
    let older_reply = RemoteActivationReply {
        that: THAT,
        oxid: 1,
        bindings: Some(bindings()),
        rem_unknown: Guid::from_u128(9),
        auth_hint: 6,
        version: ComVersion::CURRENT,
        result: 0,
        interfaces,
        status: 0,
    };
    vec![
        (6, request.to_pointer().0),
        (7, reply.to_pointer().0),
        (8, create.encode().to_vec()),
        (10, answer.encode().to_vec()),
        (11, older.encode().to_vec()),
        (12, older_reply.encode().to_vec()),
    ]
}

/// The properties of a question and of an answer.
pub(crate) fn activation_pointers() -> [InterfacePointer; 2] {
    let of_kind = |kind: u8| {
        let mut all = activations().into_iter();
        let found = all.find(|(one, _)| *one == kind);
        InterfacePointer(found.map(|(_, bytes)| bytes).unwrap_or_default())
    };
    [of_kind(6), of_kind(7)]
}

fn resolutions() -> Vec<(u8, Vec<u8>)> {
    let resolve = ResolveOxid {
        oxid: 1,
        protocols: vec![TOWER_TCP],
    };
    let reply = ResolveOxid2Reply {
        bindings: Some(bindings()),
        rem_unknown: Guid::from_u128(9),
        auth_hint: 6,
        version: ComVersion::CURRENT,
        status: 0,
    };
    let ping = ComplexPing {
        set: 5,
        sequence: 1,
        add: vec![1, 2],
        remove: vec![3],
    };
    let alive = ServerAlive2Reply {
        version: ComVersion::CURRENT,
        bindings: Some(bindings()),
        status: 0,
    };
    vec![
        (13, resolve.encode().to_vec()),
        (15, reply.encode().to_vec()),
        (16, ping.encode().to_vec()),
        (18, alive.encode().to_vec()),
    ]
}

fn counts() -> Vec<(u8, Vec<u8>)> {
    let query = RemQueryInterface {
        this: THIS,
        ipid: STD.ipid,
        refs: 5,
        iids: interfaces_of_manager().to_vec(),
    };
    let refs = RemRefs {
        this: THIS,
        refs: vec![InterfaceRef {
            ipid: STD.ipid,
            public: 1,
            private: 0,
        }],
    };
    let second = RemQueryInterface2 {
        this: THIS,
        ipid: STD.ipid,
        iids: vec![IID_MANAGER],
    };
    let reply = RemQueryInterfaceReply {
        that: THAT,
        results: Some(vec![QueryResult {
            result: 0,
            std: STD,
        }]),
        result: 0,
    };
    let second_reply = RemQueryInterface2Reply {
        that: THAT,
        interfaces: vec![(0, Some(pointer()))],
        result: 0,
    };
    vec![
        (19, query.encode().to_vec()),
        (20, refs.encode().to_vec()),
        (21, second.encode().to_vec()),
        (22, reply.encode().to_vec()),
        (23, second_reply.encode().to_vec()),
        (25, OrpcResult::new(0).encode().to_vec()),
    ]
}
