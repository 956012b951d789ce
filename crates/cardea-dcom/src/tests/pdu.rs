//! Packets: made, read, cut into fragments, refused.

use super::{damaged, hex};
use crate::Guid;
use crate::pdu::*;

const INTERFACE: SyntaxId =
    SyntaxId::interface(Guid::from_u128(0x112B_1DFF_D9DC_41F7_869F_D67F_EE7C_B591));

const CALL: Call = Call {
    call_id: 7,
    context_id: 1,
    opnum: 3,
    object: Some(Guid::from_u128(0x8000_0000_0000_0000_0000_0000_0000_0001)),
};

fn slot() -> AuthSlot {
    AuthSlot {
        auth_type: auth_type::NTLM,
        level: AuthLevel::Privacy,
        context_id: 79231,
        value_length: 16,
    }
}

fn bind() -> Bind {
    let offer = |id, transfer| ContextOffer {
        id,
        interface: INTERFACE,
        transfer: vec![transfer],
    };
    Bind {
        max_transmit: 5840,
        max_receive: 5840,
        group: 0,
        contexts: vec![
            offer(0, SyntaxId::NDR),
            offer(1, SyntaxId::NDR64),
            offer(2, SyntaxId::of_features(Features(3))),
        ],
    }
}

/// What a bind of three contexts is on the wire, written by hand from C706 and MS-RPCE.
const BIND: &str = "
    05 00 0b 07 10 00 00 00 a0 00 00 00 02 00 00 00 d0 16 d0 16 00 00 00 00 03 00 00 00
    00 00 01 00 ff 1d 2b 11 dc d9 f7 41 86 9f d6 7f ee 7c b5 91 00 00 00 00
    04 5d 88 8a eb 1c c9 11 9f e8 08 00 2b 10 48 60 02 00 00 00
    01 00 01 00 ff 1d 2b 11 dc d9 f7 41 86 9f d6 7f ee 7c b5 91 00 00 00 00
    33 05 71 71 ba be 37 49 83 19 b5 db ef 9c cc 36 01 00 00 00
    02 00 01 00 ff 1d 2b 11 dc d9 f7 41 86 9f d6 7f ee 7c b5 91 00 00 00 00
    2c 1c b7 6c 12 98 40 45 03 00 00 00 00 00 00 00 01 00 00 00";

/// Its answer: NDR accepted, NDR64 refused, both features.
const BIND_ACK: &str = "
    05 00 0c 07 10 00 00 00 6c 00 00 00 02 00 00 00 d0 16 d0 16 01 00 00 00
    06 00 34 39 37 37 37 00 03 00 00 00
    00 00 00 00 04 5d 88 8a eb 1c c9 11 9f e8 08 00 2b 10 48 60 02 00 00 00
    02 00 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    03 00 03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";

fn ack() -> BindAck {
    let results = PresentationContexts::new().negotiate(
        &bind().contexts,
        |interface| *interface == INTERFACE,
        Features(3),
    );
    BindAck {
        max_transmit: 5840,
        max_receive: 5840,
        group: 1,
        address: "49777".to_owned(),
        results,
    }
}

#[test]
fn bind_and_its_answer_are_the_bytes_of_the_standard() {
    for (body, flags, text) in [
        (Body::Bind(bind()), Flags::HEADER_SIGNING, BIND),
        (Body::BindAck(ack()), Flags::HEADER_SIGNING, BIND_ACK),
    ] {
        let built = build(&body, 2, flags, None).unwrap();
        assert_eq!(base16ct::lower::encode_string(built.bytes()), {
            base16ct::lower::encode_string(&hex(text))
        });
        let read = Pdu::parse(built.bytes()).unwrap();
        assert_eq!((read.body, read.auth), (body, None));
        assert!(read.header.flags.has(Flags::WHOLE.with(flags)));
    }
}

/// One packet of each kind, with and without a trailer.
pub(super) fn every_packet() -> Vec<Vec<u8>> {
    let stub = [0x55; 21];
    let request = Request {
        alloc_hint: 21,
        context_id: 1,
        opnum: 3,
        object: CALL.object,
        stub: &stub,
    };
    let response = Response {
        alloc_hint: 21,
        context_id: 1,
        cancel_count: 0,
        stub: &stub,
    };
    let fault = Fault {
        context_id: 1,
        cancel_count: 0,
        status: fault_status::DISCONNECTED,
    };
    let bodies = [
        Body::AlterContext(bind()),
        Body::AlterContextResponse(ack()),
        Body::Auth3,
        Body::Bind(bind()),
        Body::BindAck(ack()),
        Body::BindNak(BindNak::new(nak::AUTH_TYPE)),
        Body::CoCancel,
        Body::Fault(fault),
        Body::Orphaned,
        Body::Request(Request {
            object: None,
            ..request
        }),
        Body::Request(request),
        Body::Response(response),
        Body::Shutdown,
    ];
    let slot = slot();
    let built = bodies.iter().flat_map(|body| {
        [None, Some(&slot)].map(|slot| {
            let built = build(body, 7, Flags::WHOLE, slot).unwrap();
            let read = Pdu::parse(built.bytes()).unwrap();
            assert_eq!(&read.body, body);
            assert_eq!(read.auth.is_some(), slot.is_some());
            built.bytes().to_vec()
        })
    });
    built.collect()
}

#[test]
fn damaged_packets_are_refused_or_mean_what_they_say() {
    for packet in every_packet() {
        for bytes in damaged(&packet) {
            let found = spans(&bytes);
            let Ok(read) = Pdu::parse(&bytes) else {
                continue;
            };
            let slot = read.auth.map(|auth| AuthSlot {
                auth_type: auth.auth_type,
                level: auth.level().unwrap_or(AuthLevel::None),
                context_id: auth.context_id,
                value_length: auth.value.len().try_into().unwrap(),
            });
            let header = read.header;
            let built = build(&read.body, header.call_id, header.flags, slot.as_ref()).unwrap();
            let again = Pdu::parse(built.bytes()).unwrap();
            assert_eq!(again.body, read.body);
            if let Ok(Some(spans)) = found {
                assert!(spans.body.start <= spans.body.end);
                assert_eq!(spans.body.end, spans.trailer.start);
                assert_eq!(spans.value.end, bytes.len());
                assert_eq!(spans.signed(), 0..spans.trailer.end);
            }
        }
    }
}

#[test]
fn spans_of_what_was_made_are_those_of_what_is_received() {
    for (object, header) in [(CALL.object, 40), (None, 24)] {
        let call = Call { object, ..CALL };
        let mut made = request_fragments(&call, &[9; 21], MAX_FRAGMENT, Some(&slot())).unwrap();
        let built = &mut made[0];
        let found = spans(built.bytes()).unwrap().unwrap();
        assert_eq!(built.spans(), Some(&found));
        assert_eq!(found.header, 0..header);
        // 21 bytes are padded to 32.
        assert_eq!(found.body, header..header + 32);
        assert_eq!(built.signed().len(), header + 40);
        assert_eq!(built.body_mut().len(), 32);
        built.value_mut().fill(0xEE);
        let auth = Pdu::parse(built.bytes()).unwrap().auth.unwrap();
        assert_eq!((auth.pad_length, auth.value), (11, &[0xEE; 16][..]));
        assert_eq!(auth.level(), Some(AuthLevel::Privacy));
    }
}

#[test]
fn fragments_come_together_again() {
    for length in [0, 1, 1376, 1377, 5000, MAX_STUB] {
        let stub: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        for slot in [None, Some(&slot())] {
            let sent = [
                request_fragments(&CALL, &stub, 1432, slot).unwrap(),
                response_fragments(&CALL, &stub, 1432, slot).unwrap(),
            ];
            for (number, sent) in sent.iter().enumerate() {
                let mut reassembly = Reassembly::new();
                let last = sent.len() - 1;
                for (at, fragment) in sent.iter().enumerate() {
                    assert!(fragment.bytes().len() <= 1432);
                    let pdu = Pdu::parse(fragment.bytes()).unwrap();
                    let whole = reassembly.add(&pdu).unwrap();
                    assert_eq!(whole.is_some(), at == last);
                    let Some(whole) = whole else { continue };
                    assert_eq!(&*whole.stub, &stub[..]);
                    assert_eq!(whole.security, slot.map(|slot| slot.context_id));
                    assert_eq!(number == 0, whole.call == CALL);
                }
                assert!(!reassembly.is_pending());
            }
        }
    }
    let error = request_fragments(&CALL, &vec![0; MAX_STUB + 1], 1432, None).unwrap_err();
    assert_eq!(error, PduError::StubTooLong);
}

#[test]
fn fragments_of_other_calls_are_refused_and_so_is_too_much() {
    let stub = vec![1; 3000];
    let parts =
        |call: &Call, slot: Option<&AuthSlot>| request_fragments(call, &stub, 1432, slot).unwrap();
    let mine = parts(&CALL, Some(&slot()));
    let others = [
        Call { call_id: 8, ..CALL },
        Call {
            context_id: 2,
            ..CALL
        },
        Call { opnum: 4, ..CALL },
        Call {
            object: Some(INTERFACE.uuid),
            ..CALL
        },
    ];
    let mut wrong: Vec<_> = others
        .iter()
        .map(|call| parts(call, Some(&slot())))
        .collect();
    wrong.push(parts(
        &CALL,
        Some(&AuthSlot {
            context_id: 3,
            ..slot()
        }),
    ));
    wrong.push(parts(&CALL, None));
    let parse = |built: &Built| built.bytes().to_vec();
    let first = parse(&mine[0]);
    for other in wrong {
        let mut reassembly = Reassembly::new();
        assert!(
            reassembly
                .add(&Pdu::parse(&first).unwrap())
                .unwrap()
                .is_none()
        );
        let second = parse(&other[1]);
        let error = reassembly.add(&Pdu::parse(&second).unwrap()).unwrap_err();
        assert_eq!(error, PduError::Fragments);
        assert!(!reassembly.is_pending());
    }
    // A second fragment without a first, and a first one in the middle.
    let second = parse(&mine[1]);
    let mut reassembly = Reassembly::new();
    assert!(reassembly.add(&Pdu::parse(&second).unwrap()).is_err());
    assert!(
        reassembly
            .add(&Pdu::parse(&first).unwrap())
            .unwrap()
            .is_none()
    );
    assert!(reassembly.add(&Pdu::parse(&first).unwrap()).is_err());
    // Fragments without end.
    let mut reassembly = Reassembly::new();
    assert!(
        reassembly
            .add(&Pdu::parse(&first).unwrap())
            .unwrap()
            .is_none()
    );
    let refused = (0..100).find_map(|_| reassembly.add(&Pdu::parse(&second).unwrap()).err());
    assert_eq!(refused, Some(PduError::StubTooLong));
}

#[test]
fn unacceptable_packets_have_their_answers() {
    let answer = |at: usize, value: u8| {
        let mut bytes = hex(BIND);
        bytes[at] = value;
        let header = Header::read(bytes.first_chunk().unwrap());
        let error = Pdu::parse(&bytes).unwrap_err();
        refusal(&header, error).map(|built| {
            let read = Pdu::parse(built.bytes()).unwrap();
            assert_eq!(read.header.call_id, header.call_id);
            match read.body {
                Body::BindNak(nak) => (13, u32::from(nak.reason)),
                Body::Fault(fault) => (3, fault.status),
                other => panic!("{other:?}"),
            }
        })
    };
    assert_eq!(answer(0, 4), Some((13, nak::PROTOCOL_VERSION.into())));
    assert_eq!(answer(1, 2), Some((13, nak::PROTOCOL_VERSION.into())));
    assert_eq!(answer(3, 1), Some((13, nak::NOT_SPECIFIED.into())));
    assert_eq!(answer(4, 0x11), Some((13, nak::NOT_SPECIFIED.into())));
    assert_eq!(answer(9, 0xFF), Some((13, nak::LOCAL_LIMIT.into())));
    assert_eq!(answer(24, 33), Some((13, nak::LOCAL_LIMIT.into())));
    assert_eq!(answer(2, 1), None);
    // A big-endian sender: its lengths are understood, the rest is refused.
    let mut big = hex(BIND);
    big[4] = 0;
    big[8..10].copy_from_slice(&[0, 0xA0]);
    big[12..16].copy_from_slice(&[0, 0, 0, 2]);
    let header = Header::read(big.first_chunk().unwrap());
    assert_eq!((header.fragment_length, header.call_id), (160, 2));
    assert_eq!(Pdu::parse(&big), Err(PduError::ByteOrder));
}

#[test]
fn contexts_are_answered_in_order_and_remembered() {
    let mut contexts = PresentationContexts::new();
    let is_served = |interface: &SyntaxId| *interface == INTERFACE;
    let offer = |id, interface, transfer| ContextOffer {
        id,
        interface,
        transfer,
    };
    let other = SyntaxId::interface(Guid::of_com(0x131));
    let answers = contexts.negotiate(
        &[
            offer(4, other, vec![SyntaxId::NDR]),
            offer(5, INTERFACE, vec![SyntaxId::NDR64, SyntaxId::NDR]),
            offer(6, INTERFACE, vec![]),
            offer(5, other, vec![SyntaxId::NDR]),
            offer(7, other, vec![SyntaxId::of_features(Features(7))]),
        ],
        is_served,
        Features::SECURITY_CONTEXTS,
    );
    let seen: Vec<_> = answers.iter().map(|one| (one.result, one.reason)).collect();
    assert_eq!(seen, [(2, 1), (0, 0), (2, 2), (2, 1), (3, 1)]);
    assert_eq!(contexts.interface(5), Some(INTERFACE));
    assert_eq!((contexts.interface(4), contexts.interface(7)), (None, None));
    // The same number for another interface, and the same offer once more.
    let again = contexts.negotiate(
        &[
            offer(5, other, vec![SyntaxId::NDR]),
            offer(5, INTERFACE, vec![SyntaxId::NDR]),
        ],
        |_| true,
        Features(0),
    );
    assert_eq!((again[0].result, again[0].reason), (2, 0));
    assert!(again[1].is_accepted());
    // A connection does not take contexts without end.
    let many: Vec<_> = (100..200)
        .map(|id| offer(id, INTERFACE, vec![SyntaxId::NDR]))
        .collect();
    let answers = contexts.negotiate(&many, is_served, Features(0));
    let accepted = answers.iter().filter(|answer| answer.is_accepted()).count();
    assert_eq!(accepted, MAX_CONNECTION_CONTEXTS - 1);
    assert_eq!((answers[99].result, answers[99].reason), (2, 3));
}

#[test]
fn addresses_have_a_longest_length_with_and_without_an_end() {
    let answer = |length: usize| {
        let body = Body::BindAck(BindAck {
            address: "1".repeat(length),
            ..ack()
        });
        build(&body, 2, Flags::WHOLE, None).map(|built| built.bytes().to_vec())
    };
    let longest = answer(255).unwrap();
    assert!(Pdu::parse(&longest).is_ok());
    assert_eq!(answer(256).unwrap_err(), PduError::TooMany);
    // The NUL at its end is overwritten: one more character, and no end.
    let mut longer = longest;
    longer[24..26].copy_from_slice(&256u16.to_le_bytes());
    longer[26 + 255] = b'1';
    assert_eq!(Pdu::parse(&longer).unwrap_err(), PduError::TooMany);
}

#[test]
fn limits_of_fragments_are_agreed_on() {
    assert_eq!(negotiated_fragment(4280), Ok(4280));
    assert_eq!(negotiated_fragment(65535), Ok(MAX_FRAGMENT));
    assert_eq!(negotiated_fragment(1431), Err(PduError::FragmentSize));
}

#[test]
fn verification_trailer_must_agree_with_the_call() {
    let call = ExpectedCall {
        interface: INTERFACE,
        transfer: SyntaxId::NDR,
        call_id: 7,
        context_id: 1,
        opnum: 3,
        offers_header_signing: true,
    };
    for used in 0..9 {
        let mut stub = vec![3; used];
        assert_eq!(check_verification(&stub, used, &call), Ok(None));
        stub.extend(call.verification(used, 1));
        let found = check_verification(&stub, used, &call).unwrap().unwrap();
        assert_eq!(found.bitmask, Some(1));
        assert!(found.has_context && found.has_header);
        let start = used.next_multiple_of(4);
        // The bitmask of a client that does offer it (another command, if its number changes), and reserved bytes are
        // not checked.
        let unchecked = [8..10, 12..16, 65..68].into_iter().flatten();
        let unchecked = unchecked.collect::<Vec<_>>();
        for at in start..stub.len() {
            let mut wrong = stub.clone();
            wrong[at] ^= 0x01;
            let is_unchecked = unchecked.contains(&(at - start));
            let result = check_verification(&wrong, used, &call);
            assert!(is_unchecked || result.is_err(), "{used} {at}");
            assert!(start == at || check_verification(&stub[..at], used, &call).is_err());
        }
        for other in [
            ExpectedCall { call_id: 8, ..call },
            ExpectedCall {
                context_id: 0,
                ..call
            },
            ExpectedCall { opnum: 4, ..call },
            ExpectedCall {
                transfer: SyntaxId::NDR64,
                ..call
            },
            // Somebody has removed the offer from the bind.
            ExpectedCall {
                offers_header_signing: false,
                ..call
            },
        ] {
            let result = check_verification(&stub, used, &other);
            assert_eq!(result, Err(PduError::Verification));
        }
    }
    assert!(check_verification(&[0; 12], 4, &call).is_err());
    assert!(check_verification(&[0; 4], 5, &call).is_err());
    // A client that does not sign headers and says so.
    let plain = ExpectedCall {
        offers_header_signing: false,
        ..call
    };
    let found = check_verification(&plain.verification(0, !SIGNS_HEADERS), 0, &plain);
    assert_eq!(found.unwrap().unwrap().bitmask, Some(!SIGNS_HEADERS));
}

#[test]
fn secrets_do_not_show() {
    let mut made = request_fragments(&CALL, b"12345678", MAX_FRAGMENT, None).unwrap();
    let built = made.remove(0);
    let read = Pdu::parse(built.bytes()).unwrap();
    let shown = format!("{built:?} {read:?} {:?}", Reassembly::new().add(&read));
    // "12" in ASCII, as a list of bytes would show it.
    assert!(
        !shown.contains("49, 50") && !shown.contains("1234"),
        "{shown}"
    );
}
