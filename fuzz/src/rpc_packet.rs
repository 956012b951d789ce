//! Packets of DCE/RPC, one by one and as a stream.

use cardea_dcom::Guid;
use cardea_dcom::pdu::{
    AuthLevel, AuthSlot, Bind, BindAck, BindNak, Body, Call, ContextOffer, ExpectedCall, Fault,
    Features, Flags, Header, MAX_FRAGMENT, MAX_STUB, Pdu, PresentationContexts, Reassembly,
    SyntaxId, auth_type, build, check_verification, nak, refusal, request_fragments,
    response_fragments, spans,
};

use crate::Target;

/// Any bytes as packets, one behind the other.
pub const TARGET: Target = Target {
    name: "rpc_packet",
    run,
    seeds,
    words: &[
        b"\x05\x00\x0b\x03\x10\x00\x00\x00",
        b"\x05\x00\x00\x83\x10\x00\x00\x00",
        b"\x05\x00\x02\x03\x10\x00\x00\x00",
        b"\x04\x5d\x88\x8a\xeb\x1c\xc9\x11\x9f\xe8\x08\x00\x2b\x10\x48\x60\x02\x00\x00\x00",
        b"\x2c\x1c\xb7\x6c\x12\x98\x40\x45",
        b"\x8a\xe3\x13\x71\x02\xf4\x36\x71",
        b"\x0a\x06\x00\x00",
        b"\xd0\x16\xd0\x16",
    ],
};

const CALL: Call = Call {
    call_id: 7,
    context_id: 1,
    opnum: 3,
    object: Some(Guid::of_com(0x131)),
};

const EXPECTED: ExpectedCall = ExpectedCall {
    interface: SyntaxId::interface(Guid::of_com(0x131)),
    transfer: SyntaxId::NDR,
    call_id: 7,
    context_id: 1,
    opnum: 3,
    offers_header_signing: true,
};

fn run(input: &[u8]) {
    let mut rest = input;
    let mut reassembly = Reassembly::new();
    let mut contexts = PresentationContexts::new();
    while let Some(first) = rest.first_chunk() {
        let header = Header::read(first);
        let length = usize::from(header.fragment_length).max(1);
        let (packet, next) = rest.split_at(length.min(rest.len()));
        rest = next;
        let found = spans(packet);
        match Pdu::parse(packet) {
            Ok(pdu) => accepted(&pdu, packet.len(), &mut reassembly, &mut contexts),
            Err(error) => {
                if let Some(answer) = refusal(&header, error) {
                    assert!(Pdu::parse(answer.bytes()).is_ok(), "it can be sent");
                }
            }
        }
        if let Ok(Some(spans)) = found {
            assert!(spans.body.start <= spans.body.end);
            assert_eq!(spans.body.end, spans.trailer.start);
            assert_eq!(spans.value.end, packet.len());
        }
    }
    for used in [0, 1, 4, input.len()] {
        if let Ok(Some(_)) = check_verification(input, used, &EXPECTED) {
            assert!(input.len() - used >= 12, "a signature and a command");
        }
    }
}

fn accepted(
    pdu: &Pdu<'_>,
    length: usize,
    reassembly: &mut Reassembly,
    contexts: &mut PresentationContexts,
) {
    let slot = pdu.auth.map(|auth| AuthSlot {
        auth_type: auth.auth_type,
        level: auth.level().unwrap_or(AuthLevel::None),
        context_id: auth.context_id,
        value_length: auth.value.len().try_into().expect("a packet is short"),
    });
    // Padding is added where the sender had less.
    if let Ok(built) = build(
        &pdu.body,
        pdu.header.call_id,
        pdu.header.flags,
        slot.as_ref(),
    ) {
        let again = Pdu::parse(built.bytes()).expect("it was read once");
        assert!(again.body == pdu.body, "it means the same");
    } else {
        assert!(length + 16 > usize::from(MAX_FRAGMENT));
    }
    if let Body::Bind(bind) | Body::AlterContext(bind) = &pdu.body {
        let is_served = |interface: &SyntaxId| interface.version == 0;
        let results = contexts.negotiate(&bind.contexts, is_served, Features(3));
        assert_eq!(results.len(), bind.contexts.len());
    }
    if let Ok(Some(whole)) = reassembly.add(pdu) {
        assert!(whole.stub.len() <= MAX_STUB);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let slot = AuthSlot {
        auth_type: auth_type::NTLM,
        level: AuthLevel::Privacy,
        context_id: 1,
        value_length: 16,
    };
    let offer = |id, transfer| ContextOffer {
        id,
        interface: EXPECTED.interface,
        transfer: vec![transfer],
    };
    let bind = Bind {
        max_transmit: MAX_FRAGMENT,
        max_receive: MAX_FRAGMENT,
        group: 0,
        contexts: vec![
            offer(0, SyntaxId::NDR),
            offer(1, SyntaxId::NDR64),
            offer(2, SyntaxId::of_features(Features(3))),
        ],
    };
    let results = PresentationContexts::new().negotiate(&bind.contexts, |_| true, Features(3));
    let ack = BindAck {
        max_transmit: MAX_FRAGMENT,
        max_receive: MAX_FRAGMENT,
        group: 1,
        address: "135".to_owned(),
        results,
    };
    let fault = Fault {
        context_id: 1,
        cancel_count: 0,
        status: 5,
    };
    let bodies = [
        Body::AlterContext(bind.clone()),
        Body::AlterContextResponse(ack.clone()),
        Body::Auth3,
        Body::Bind(bind),
        Body::BindAck(ack),
        Body::BindNak(BindNak::new(nak::AUTH_TYPE)),
        Body::CoCancel,
        Body::Fault(fault),
        Body::Orphaned,
        Body::Shutdown,
    ];
    let mut seeds: Vec<Vec<u8>> = bodies
        .iter()
        .flat_map(|body| {
            [
                build(body, 7, Flags::WHOLE, None),
                build(body, 7, Flags::WHOLE, Some(&slot)),
            ]
        })
        .map(|built| built.expect("it is short").bytes().to_vec())
        .collect();
    let stream = |fragments: Vec<cardea_dcom::pdu::Built>| -> Vec<u8> {
        fragments
            .iter()
            .flat_map(|built| built.bytes().to_vec())
            .collect()
    };
    let mut stub = vec![3; 13];
    stub.extend(EXPECTED.verification(13, 1));
    for stub in [stub, vec![9; 3000]] {
        for slot in [None, Some(&slot)] {
            let made = request_fragments(&CALL, &stub, 1432, slot).expect("it is short");
            seeds.push(stream(made));
            let made = response_fragments(&CALL, &stub, 1432, slot).expect("it is short");
            seeds.push(stream(made));
        }
    }
    seeds.push(EXPECTED.verification(0, 1));
    seeds
}
