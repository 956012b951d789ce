//! A client and a server that have nothing but this crate: from the bind to the release of the manager.

use super::golden::{create, reply, wide};
use super::messages::request;
use crate::Guid;
use crate::dcom::ids::{
    IID_REM_UNKNOWN, IID_REMOTE_SCM_ACTIVATOR, hresult, rem_unknown, remote_scm_activator,
};
use crate::dcom::*;
use crate::exporter::{Lifetime, ObjectTable};
use crate::ndr::Message;
use crate::pdu::*;
use crate::tpmvsc::*;

const MANAGER: u64 = 1;
const REM_UNKNOWN: Guid = Guid::from_u128(0xB000);

/// Longer than a fragment of this length.
const LIMIT: u16 = MIN_FRAGMENT;

struct Server {
    contexts: PresentationContexts,
    reassembly: Reassembly,
    table: ObjectTable,
    created: Vec<CreateCard>,
}

impl Server {
    fn new() -> Self {
        let mut table = ObjectTable::new(7);
        let interfaces = interfaces_of_manager();
        table
            .add(MANAGER, Lifetime::Counted, true, &interfaces)
            .unwrap();
        Self {
            contexts: PresentationContexts::new(),
            reassembly: Reassembly::new(),
            table,
            created: Vec::new(),
        }
    }

    fn receive(&mut self, packet: &[u8]) -> Vec<Built> {
        let pdu = Pdu::parse(packet).unwrap();
        if let Body::Bind(bind) = &pdu.body {
            let served = [IID_REMOTE_SCM_ACTIVATOR, IID_REM_UNKNOWN, IID_MANAGER];
            let is_served =
                |offered: &SyntaxId| offered.version == 0 && served.contains(&offered.uuid);
            let ack = BindAck {
                max_transmit: negotiated_fragment(bind.max_receive).unwrap(),
                max_receive: negotiated_fragment(bind.max_transmit).unwrap(),
                group: 1,
                address: "135".to_owned(),
                results: self
                    .contexts
                    .negotiate(&bind.contexts, is_served, Features(3)),
            };
            let call_id = pdu.header.call_id;
            return vec![build(&Body::BindAck(ack), call_id, Flags::WHOLE, None).unwrap()];
        }
        let Some(whole) = self.reassembly.add(&pdu).unwrap() else {
            return Vec::new();
        };
        match self.answer(&whole.call, &whole.stub) {
            Ok(stub) => response_fragments(&whole.call, &stub, LIMIT, None).unwrap(),
            Err(status) => vec![fault_for(&whole.call, status, None).unwrap()],
        }
    }

    fn answer(&mut self, call: &Call, stub: &[u8]) -> Result<Vec<u8>, u32> {
        let interface = self
            .contexts
            .interface(call.context_id)
            .ok_or(fault_status::UNKNOWN_INTERFACE)?;
        let expected = ExpectedCall {
            interface,
            transfer: SyntaxId::NDR,
            call_id: call.call_id,
            context_id: call.context_id,
            opnum: call.opnum,
            offers_header_signing: true,
        };
        let end = |used| {
            check_verification(stub, used, &expected)
                .map(|_| ())
                .map_err(|_| fault_status::BAD_STUB_DATA)
        };
        let object = call.object.unwrap_or_default();
        match (interface.uuid, call.opnum) {
            (IID_REMOTE_SCM_ACTIVATOR, remote_scm_activator::REMOTE_CREATE_INSTANCE) => {
                let (call, used) =
                    RemoteCreateInstance::decode(stub).map_err(|e| e.fault_status())?;
                end(used)?;
                Ok(self.activate(&call))
            }
            (IID_REM_UNKNOWN, rem_unknown::REM_RELEASE) if object == REM_UNKNOWN => {
                let (refs, used) = RemRefs::decode(stub).map_err(|e| e.fault_status())?;
                end(used)?;
                Ok(self.table.release(&refs).0.encode().to_vec())
            }
            (IID_MANAGER, 3..) => {
                let found = self.table.find(&object);
                if !found.is_some_and(|found| self.table.supports(found.oid, &IID_MANAGER)) {
                    return Err(fault_status::DISCONNECTED);
                }
                if last_opnum(&IID_MANAGER).is_none_or(|last| call.opnum > last) {
                    return Err(fault_status::OPERATION_RANGE);
                }
                let method = CreateMethod::from_opnum(call.opnum).unwrap();
                let (request, used) =
                    CreateCard::decode(method, stub).map_err(|e| e.fault_status())?;
                end(used)?;
                Ok(self.create(request))
            }
            _ => Err(fault_status::OPERATION_RANGE),
        }
    }

    fn activate(&mut self, call: &RemoteCreateInstance) -> Vec<u8> {
        let asked = ActivationRequest::read(call.properties.as_ref().unwrap()).unwrap();
        assert_eq!(asked.class, CLSID_REMOTE_MANAGER);
        let mut next = 100;
        let mut ipid = || {
            next += 1;
            Guid::from_u128(next)
        };
        let resolver = reply().bindings;
        let interfaces = asked.iids.iter().map(|iid| {
            let made = self.table.objref(MANAGER, iid, &resolver, &mut ipid);
            ActivatedInterface {
                iid: *iid,
                result: made.as_ref().err().copied().unwrap_or(hresult::S_OK),
                pointer: made.ok().as_ref().map(InterfacePointer::from),
            }
        });
        let interfaces = interfaces.collect();
        let reply = ActivationReply {
            oxid: self.table.oxid(),
            rem_unknown: REM_UNKNOWN,
            interfaces,
            ..reply()
        };
        let answer = ActivationAnswer {
            that: OrpcThat::default(),
            properties: Some(reply.to_pointer()),
            result: hresult::S_OK,
        };
        answer.encode().to_vec()
    }

    fn create(&mut self, request: CreateCard) -> Vec<u8> {
        let reply = match request.parameters() {
            Ok(_) => CreateCardReply {
                instance_id: Some(wide("ROOT\\SMARTCARDREADER\\0000")),
                ..CreateCardReply::failure(hresult::S_OK)
            },
            Err(rejected) => CreateCardReply::failure(rejected.hresult().0),
        };
        let stub = reply.encode(request.method).to_vec();
        self.created.push(request);
        stub
    }
}

struct Client {
    server: Server,
    call_id: u32,
}

impl Client {
    fn connected() -> Self {
        let offer = |(id, uuid)| ContextOffer {
            id,
            interface: SyntaxId::interface(uuid),
            transfer: vec![SyntaxId::NDR],
        };
        let offered = [
            (0, IID_REMOTE_SCM_ACTIVATOR),
            (1, IID_REM_UNKNOWN),
            (2, IID_MANAGER),
            (3, IID_CALLBACK),
        ];
        let bind = Bind {
            max_transmit: LIMIT,
            max_receive: LIMIT,
            group: 0,
            contexts: offered.map(offer).into(),
        };
        let built = build(&Body::Bind(bind), 1, Flags::WHOLE, None).unwrap();
        let mut server = Server::new();
        let answer = server.receive(built.bytes());
        let Body::BindAck(ack) = Pdu::parse(answer[0].bytes()).unwrap().body else {
            panic!("{answer:?}");
        };
        let accepted: Vec<_> = ack.results.iter().map(ContextResult::is_accepted).collect();
        assert_eq!(accepted, [true, true, true, false]);
        Self { server, call_id: 1 }
    }

    /// Calls a method, in fragments, and gives its result or its fault.
    fn call(
        &mut self,
        context_id: u16,
        opnum: u16,
        object: Option<Guid>,
        stub: &[u8],
    ) -> Result<Vec<u8>, u32> {
        self.call_id += 1;
        let call = Call {
            call_id: self.call_id,
            context_id,
            opnum,
            object,
        };
        let mut reassembly = Reassembly::new();
        for fragment in request_fragments(&call, stub, LIMIT, None).unwrap() {
            for answer in self.server.receive(fragment.bytes()) {
                let pdu = Pdu::parse(answer.bytes()).unwrap();
                assert_eq!(pdu.header.call_id, self.call_id);
                if let Body::Fault(fault) = pdu.body {
                    return Err(fault.status);
                }
                if let Some(whole) = reassembly.add(&pdu).unwrap() {
                    return Ok(whole.stub.to_vec());
                }
            }
        }
        panic!("no answer");
    }
}

#[test]
fn client_and_server_of_this_crate_create_a_card() {
    let mut client = Client::connected();
    let this = create().this;
    let mut asked = request();
    // More than a fragment.
    asked.iids = [IID_MANAGER, IID_CALLBACK].repeat(50);
    let activation = RemoteCreateInstance {
        this,
        outer: None,
        properties: Some(asked.to_pointer()),
    };
    assert!(activation.encode().len() > usize::from(LIMIT));
    let opnum = remote_scm_activator::REMOTE_CREATE_INSTANCE;
    let stub = client.call(0, opnum, None, &activation.encode()).unwrap();
    let answer = ActivationAnswer::decode_all(&stub).unwrap();
    let activated = ActivationReply::read(&answer.properties.unwrap()).unwrap();
    assert_eq!(activated.interfaces[1].result, hresult::E_NOINTERFACE);
    let pointer = activated.interfaces[0].pointer.clone().unwrap();
    let std = *pointer.objref().unwrap().standard().unwrap().0;

    let mut stub = create().encode().to_vec();
    let expected = ExpectedCall {
        interface: SyntaxId::interface(IID_MANAGER),
        transfer: SyntaxId::NDR,
        call_id: 3,
        context_id: 2,
        opnum: manager::CREATE,
        offers_header_signing: true,
    };
    stub.extend(expected.verification(stub.len(), 1));
    let made = client
        .call(2, manager::CREATE, Some(std.ipid), &stub)
        .unwrap();
    let made = CreateCardReply::decode(CreateMethod::Plain, &made).unwrap();
    assert_eq!(made.result, hresult::S_OK);
    assert_eq!(client.server.created, [create()]);
    // The same bytes once more: the trailer is of the call before.
    let again = client.call(2, manager::CREATE, Some(std.ipid), &stub);
    assert_eq!(again, Err(fault_status::BAD_STUB_DATA));

    let plain = create().encode();
    let faults = [
        client.call(2, manager::CREATE, None, &plain),
        client.call(2, manager::CREATE, Some(REM_UNKNOWN), &plain),
        client.call(2, manager::CREATE_WITH_PIN_POLICY, Some(std.ipid), &plain),
        client.call(3, manager::CREATE, Some(std.ipid), &plain),
        client.call(2, 0, Some(std.ipid), &plain),
    ];
    let expected = [
        fault_status::DISCONNECTED,
        fault_status::DISCONNECTED,
        fault_status::OPERATION_RANGE,
        fault_status::UNKNOWN_INTERFACE,
        fault_status::OPERATION_RANGE,
    ];
    assert_eq!(faults.map(Result::unwrap_err), expected);

    let refs = RemRefs {
        this,
        refs: vec![InterfaceRef {
            ipid: std.ipid,
            public: 5 * 50,
            private: 0,
        }],
    };
    let opnum = rem_unknown::REM_RELEASE;
    let stub = client
        .call(1, opnum, Some(REM_UNKNOWN), &refs.encode())
        .unwrap();
    assert_eq!(OrpcResult::decode_all(&stub), Ok(OrpcResult::new(0)));
    let gone = client.call(2, manager::CREATE, Some(std.ipid), &plain);
    assert_eq!(gone, Err(fault_status::DISCONNECTED));
    assert_eq!(client.server.created.len(), 1);
}
