//! One message of each kind, and what becomes of it when it is damaged.

use std::fmt::Debug;

use cardea_terms::tpmvsc::Hresult;

use super::golden::{create, reference, reply, security, wide};
use super::{damaged, golden, hex};
use crate::Guid;
use crate::dcom::ids::{IID_UNKNOWN, hresult};
use crate::dcom::*;
use crate::ndr::{Message, Secret};
use crate::pdu::SyntaxId;
use crate::tpmvsc::*;

/// A stub, and what reads it and writes it again.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) stub: Vec<u8>,
    again: fn(&[u8]),
}

/// What can be read can be written, and means the same then.
pub(super) fn again<T: Message + PartialEq + Debug>(stub: &[u8]) {
    let Ok((message, used)) = T::decode(stub) else {
        return;
    };
    assert!(used <= stub.len());
    let written = message.encode();
    assert_eq!(T::decode_all(&written), Ok(message));
}

fn again_create(method: CreateMethod, stub: &[u8]) {
    let Ok((request, used)) = CreateCard::decode(method, stub) else {
        return;
    };
    assert!(used <= stub.len());
    let _ = request.parameters();
    if let Some(callback) = &request.callback {
        again_objref(&callback.0);
    }
    let written = request.encode();
    assert_eq!(
        CreateCard::decode(method, &written),
        Ok((request, written.len()))
    );
}

fn again_create_reply(method: CreateMethod, stub: &[u8]) {
    if let Ok(reply) = CreateCardReply::decode(method, stub) {
        assert_eq!(
            CreateCardReply::decode(method, &reply.encode(method)),
            Ok(reply)
        );
    }
}

pub(super) fn again_objref(bytes: &[u8]) {
    if let Ok(reference) = ObjRef::parse(bytes) {
        assert_eq!(ObjRef::parse(&reference.to_bytes()), Ok(reference));
    }
}

/// The properties, out of the frame that is a reference.
pub(super) fn again_request(bytes: &[u8]) {
    if let Ok(mut request) = ActivationRequest::read(&InterfacePointer(bytes.to_vec())) {
        request.is_persistent = false;
        assert_eq!(ActivationRequest::read(&request.to_pointer()), Ok(request));
    }
}

pub(super) fn again_reply(bytes: &[u8]) {
    if let Ok(reply) = ActivationReply::read(&InterfacePointer(bytes.to_vec())) {
        assert_eq!(ActivationReply::read(&reply.to_pointer()), Ok(reply));
    }
}

pub(super) fn request() -> ActivationRequest {
    ActivationRequest {
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
    }
}

fn sample<T: Message + PartialEq + Debug>(name: &'static str, message: T) -> Sample {
    let stub = message.encode().to_vec();
    assert_eq!(T::decode_all(&stub), Ok(message), "{name}");
    Sample {
        name,
        stub,
        again: again::<T>,
    }
}

fn references() -> Vec<Sample> {
    let ObjRef {
        iid,
        reference: Reference::Standard { std, resolver },
    } = reference()
    else {
        unreachable!();
    };
    let kinds = [
        Reference::Custom {
            class: IID_UNKNOWN,
            data: vec![1, 2, 3],
        },
        Reference::Extended {
            std,
            resolver: resolver.clone(),
            data_id: IID_MANAGER,
            data: vec![4; 9],
        },
        Reference::Handler {
            std,
            class: IID_CALLBACK,
            resolver: resolver.clone(),
        },
        Reference::Standard {
            std,
            resolver: DualStringArray {
                addresses: vec![
                    StringBinding::tcp("h\u{f6}st", Some(1)),
                    StringBinding::tcp("::1", None),
                ],
                security: vec![
                    SecurityBinding {
                        service: 16,
                        principal: "host/target".to_owned(),
                    },
                    security(9),
                ],
            },
        },
    ];
    let samples = kinds.map(|reference| {
        let reference = ObjRef { iid, reference };
        let stub = reference.to_bytes();
        assert_eq!(ObjRef::parse(&stub), Ok(reference));
        Sample {
            name: "reference",
            stub,
            again: again_objref,
        }
    });
    samples.into()
}

fn activations() -> Vec<Sample> {
    let pointer = InterfacePointer::from(&reference());
    let this = create().this;
    let that = OrpcThat::default();
    let interfaces = vec![
        ActivatedInterface {
            iid: Guid::NIL,
            result: 0,
            pointer: Some(pointer.clone()),
        },
        ActivatedInterface {
            iid: Guid::NIL,
            result: hresult::E_NOINTERFACE,
            pointer: None,
        },
    ];
    let request = request();
    let properties = Some(request.to_pointer());
    assert_eq!(
        ActivationRequest::read(&request.to_pointer()).as_ref(),
        Ok(&request)
    );
    vec![
        Sample {
            name: "properties in",
            stub: request.to_pointer().0,
            again: again_request,
        },
        Sample {
            name: "properties out",
            stub: reply().to_pointer().0,
            again: again_reply,
        },
        sample(
            "RemoteCreateInstance",
            RemoteCreateInstance {
                this,
                outer: None,
                properties: properties.clone(),
            },
        ),
        sample(
            "RemoteGetClassObject",
            RemoteGetClassObject { this, properties },
        ),
        Sample {
            name: "activation answer",
            stub: hex(golden::ACTIVATION_ANSWER),
            again: again::<ActivationAnswer>,
        },
        sample(
            "RemoteActivation",
            RemoteActivation {
                this,
                class: CLSID_REMOTE_MANAGER,
                object_name: Some(wide("x")),
                storage: Some(pointer.clone()),
                impersonation: 2,
                mode: 0,
                iids: vec![IID_MANAGER],
                protocols: vec![7, 8, 9],
            },
        ),
        sample(
            "RemoteActivation reply",
            RemoteActivationReply {
                that,
                oxid: 7,
                bindings: Some(reply().bindings),
                rem_unknown: IID_MANAGER,
                auth_hint: 6,
                version: ComVersion::CURRENT,
                result: 0,
                interfaces,
                status: 0,
            },
        ),
    ]
}

fn resolutions() -> Vec<Sample> {
    let bindings = Some(reply().bindings);
    vec![
        sample(
            "ResolveOxid",
            ResolveOxid {
                oxid: 5,
                protocols: vec![7],
            },
        ),
        sample(
            "ResolveOxid reply",
            ResolveOxidReply {
                bindings: bindings.clone(),
                rem_unknown: IID_MANAGER,
                auth_hint: 6,
                status: 0,
            },
        ),
        sample(
            "ResolveOxid2 reply",
            ResolveOxid2Reply {
                bindings: bindings.clone(),
                rem_unknown: IID_MANAGER,
                auth_hint: 6,
                version: ComVersion::CURRENT,
                status: 0,
            },
        ),
        sample("SimplePing", SimplePing { set: 9 }),
        sample(
            "ComplexPing",
            ComplexPing {
                set: 0,
                sequence: 1,
                add: vec![1, 2],
                remove: vec![3],
            },
        ),
        sample(
            "ComplexPing of nothing",
            ComplexPing {
                set: 1,
                sequence: 2,
                add: vec![],
                remove: vec![],
            },
        ),
        sample(
            "ComplexPing reply",
            ComplexPingReply {
                set: 9,
                backoff: 0,
                status: 0,
            },
        ),
        sample("status", Status { status: 5 }),
        sample(
            "ept_map",
            MapEndpoint {
                object: Some(Guid::NIL),
                tower: Some(tower().to_bytes()),
                handle: [0; 20],
                max_towers: 4,
            },
        ),
        sample(
            "ept_map reply",
            MapEndpointReply {
                handle: [0; 20],
                max_towers: 4,
                towers: vec![tower().to_bytes()],
                status: 0,
            },
        ),
        sample(
            "ServerAlive2 reply",
            ServerAlive2Reply {
                version: ComVersion::CURRENT,
                bindings,
                status: 0,
            },
        ),
    ]
}

fn tower() -> Tower {
    Tower {
        interface: SyntaxId::interface(IID_MANAGER),
        transfer: SyntaxId::NDR,
        port: 135,
        address: [127, 0, 0, 1].into(),
    }
}

#[test]
fn tower_is_read_as_written_and_others_are_not() {
    let bytes = tower().to_bytes();
    // C706 appendix L: five floors, the first with an interface, the last with an address.
    assert_eq!(bytes.len(), 2 + 2 * (2 + 19 + 2 + 2) + 7 + 7 + 9);
    assert_eq!(bytes[..5], [5, 0, 19, 0, 0x0D]);
    assert!(bytes.ends_with(&[1, 0, 7, 2, 0, 0, 135, 1, 0, 9, 4, 0, 127, 0, 0, 1]));
    assert_eq!(Tower::parse(&bytes), Some(tower()));
    for at in 0..bytes.len() {
        assert_eq!(Tower::parse(&bytes[..at]), None);
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        // The minor version of RPC means nothing.
        let is_same = Tower::parse(&changed) == Some(tower());
        assert_eq!(is_same, (57..59).contains(&at), "{at}");
    }
}

fn counts() -> Vec<Sample> {
    let this = create().this;
    let that = OrpcThat::default();
    let std = *reference().standard().unwrap().0;
    vec![
        sample(
            "RemQueryInterface",
            RemQueryInterface {
                this,
                ipid: std.ipid,
                refs: 5,
                iids: interfaces_of_manager().to_vec(),
            },
        ),
        sample(
            "RemQueryInterface reply",
            RemQueryInterfaceReply {
                that,
                results: Some(vec![
                    QueryResult { result: 0, std },
                    QueryResult::failure(hresult::E_NOINTERFACE),
                ]),
                result: 1,
            },
        ),
        sample(
            "RemAddRef",
            RemRefs {
                this,
                refs: vec![InterfaceRef {
                    ipid: std.ipid,
                    public: 1,
                    private: 2,
                }],
            },
        ),
        sample(
            "RemAddRef reply",
            RefResults {
                that,
                results: vec![0, 1],
                result: 0,
            },
        ),
        sample("result", OrpcResult::new(Hresult::FAIL.0)),
        sample(
            "RemQueryInterface2",
            RemQueryInterface2 {
                this,
                ipid: std.ipid,
                iids: vec![IID_UNKNOWN],
            },
        ),
        sample(
            "RemQueryInterface2 reply",
            RemQueryInterface2Reply {
                that,
                interfaces: vec![
                    (hresult::E_NOINTERFACE, None),
                    (0, Some(InterfacePointer::from(&reference()))),
                ],
                result: 1,
            },
        ),
    ]
}

fn cards() -> Vec<Sample> {
    let full = CreateCard {
        puk: Some(Secret::new(b"87654321")),
        pin_policy: Some(vec![1; 32]),
        attestation: 2,
        callback: Some(InterfacePointer::from(&reference())),
        ..create()
    };
    let with = |method| CreateCard {
        method,
        attestation: match method {
            CreateMethod::Attestation => 2,
            _ => 0,
        },
        pin_policy: full
            .pin_policy
            .clone()
            .filter(|_| method != CreateMethod::Plain),
        ..full.clone()
    };
    let reply = CreateCardReply {
        instance_id: Some(wide("ROOT\\SMARTCARDREADER\\0000")),
        ..CreateCardReply::failure(0)
    };
    vec![
        Sample {
            name: "create",
            stub: with(CreateMethod::Plain).encode().to_vec(),
            again: |stub| again_create(CreateMethod::Plain, stub),
        },
        Sample {
            name: "create with PIN policy",
            stub: with(CreateMethod::PinPolicy).encode().to_vec(),
            again: |stub| again_create(CreateMethod::PinPolicy, stub),
        },
        Sample {
            name: "create with attestation",
            stub: with(CreateMethod::Attestation).encode().to_vec(),
            again: |stub| again_create(CreateMethod::Attestation, stub),
        },
        Sample {
            name: "create reply",
            stub: reply.encode(CreateMethod::Plain).to_vec(),
            again: |stub| again_create_reply(CreateMethod::Plain, stub),
        },
        Sample {
            name: "create with attestation reply",
            stub: reply.encode(CreateMethod::Attestation).to_vec(),
            again: |stub| again_create_reply(CreateMethod::Attestation, stub),
        },
        sample(
            "destroy",
            DestroyCard {
                this: create().this,
                instance_id: wide("ROOT\\SMARTCARDREADER\\0001"),
                callback: full.callback.clone(),
            },
        ),
        sample(
            "destroy reply",
            DestroyCardReply {
                that: OrpcThat::default(),
                need_reboot: true,
                result: 0,
            },
        ),
        sample(
            "report",
            Report {
                this: create().this,
                number: 9,
            },
        ),
    ]
}

/// One of each.
pub(super) fn all() -> Vec<Sample> {
    [
        references(),
        activations(),
        resolutions(),
        counts(),
        cards(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn damaged_messages_are_refused_or_mean_what_they_say() {
    for sample in all() {
        (sample.again)(&sample.stub);
        for bytes in damaged(&sample.stub) {
            (sample.again)(&bytes);
        }
    }
}

#[test]
fn messages_are_refused_when_anything_is_missing() {
    for sample in all() {
        // Of an OBJREF that is data, any part is data.
        if sample.name == "reference" {
            continue;
        }
        let whole = sample.stub.len();
        let cut = &sample.stub[..whole - 1];
        let is_read = match sample.name {
            "create" => CreateCard::decode(CreateMethod::Plain, cut).is_ok(),
            "report" => Report::decode(cut).is_ok(),
            "RemAddRef" => RemRefs::decode(cut).is_ok(),
            "ComplexPing" => ComplexPing::decode(cut).is_ok(),
            "activation answer" => ActivationAnswer::decode(cut).is_ok(),
            "properties out" => ActivationReply::read(&InterfacePointer(cut.to_vec())).is_ok(),
            "properties in" => ActivationRequest::read(&InterfacePointer(cut.to_vec())).is_ok(),
            _ => false,
        };
        assert!(!is_read, "{}", sample.name);
    }
}

#[test]
fn properties_are_found_by_class_and_unknown_ones_ignored() {
    let pointer = request().to_pointer();
    let whole = pointer.objref().unwrap();
    // The class of the context, which is not needed, is made an unknown one, and one of a required one.
    let change = |from: u32, to: u32| {
        let mut bytes = pointer.0.clone();
        let (from, to) = (Guid::of_com(from), Guid::of_com(to));
        let at = bytes
            .windows(16)
            .position(|window| window == from.as_bytes())
            .unwrap();
        bytes[at..at + 16].copy_from_slice(to.as_bytes());
        ActivationRequest::read(&InterfacePointer(bytes))
    };
    assert_eq!(change(0x1A5, 0x777), Ok(request()));
    assert!(change(0x1AB, 0x777).is_err());
    assert!(change(0x1AA, 0x777).is_err());
    assert!(change(0x1A4, 0x777).is_err());
    assert!(change(0x1A5, 0x1AD).unwrap().is_persistent);
    // What a server sends is not what a client sends.
    assert!(ActivationReply::read(&pointer).is_err());
    assert_eq!(whole.standard(), None);
}

#[test]
fn announced_counts_reserve_nothing() {
    // A count of 65535 elements, and none of them.
    let mut stub = RemRefs {
        this: create().this,
        refs: vec![],
    }
    .encode()
    .to_vec();
    stub[32..34].copy_from_slice(&[0xFF; 2]);
    stub[36..40].copy_from_slice(&[0xFF, 0xFF, 0, 0]);
    assert!(RemRefs::decode(&stub).is_err());
    let mut create = hex(golden::CREATE);
    create[0x20..0x24].fill(0xFF);
    create[0x28..0x2C].fill(0xFF);
    assert!(CreateCard::decode(CreateMethod::Plain, &create).is_err());
}

#[test]
fn secrets_of_messages_do_not_show() {
    let request = create();
    let shown = format!("{request:?} {:?}", request.parameters());
    assert!(
        !shown.contains("12345678") && !shown.contains("49, 50"),
        "{shown}"
    );
    assert!(shown.contains("Secret(24 bytes)"));
}
