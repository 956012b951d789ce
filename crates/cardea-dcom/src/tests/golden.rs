//! Messages that were written out by hand from the documents, and that other implementations have read.

use cardea_terms::tpmvsc::Hresult;

use super::hex;
use crate::Guid;
use crate::dcom::ids::{IID_REM_UNKNOWN2, hresult};
use crate::dcom::*;
use crate::ndr::{Message, NdrError, Secret, WideString};
use crate::tpmvsc::*;

pub(super) const OBJREF: &str = "
    4d 45 4f 57 01 00 00 00 ff 1d 2b 11 dc d9 f7 41 86 9f d6 7f ee 7c b5 91
    00 00 00 00 05 00 00 00 88 77 66 55 44 33 22 11 00 ff ee dd cc bb aa 99
    00 00 00 a0 00 00 00 40 80 00 00 00 00 00 00 01
    10 00 0c 00 07 00 31 00 32 00 37 00 2e 00 30 00 2e 00 30 00 2e 00 31 00 00 00 00 00
    0a 00 ff ff 00 00 00 00";

pub(super) const ACTIVATION_ANSWER: &str = "
    00 00 00 00 00 00 00 00 00 00 02 00 d0 01 00 00
    d0 01 00 00 4d 45 4f 57 04 00 00 00 a3 01 00 00
    00 00 00 00 c0 00 00 00 00 00 00 46 39 03 00 00
    00 00 00 00 c0 00 00 00 00 00 00 46 00 00 00 00
    a8 01 00 00 98 01 00 00 00 00 00 00 01 10 08 00
    cc cc cc cc 60 00 00 00 00 00 00 00 98 01 00 00
    70 00 00 00 00 00 00 00 02 00 00 00 02 00 00 00
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    00 00 02 00 04 00 02 00 00 00 00 00 02 00 00 00
    39 03 00 00 00 00 00 00 c0 00 00 00 00 00 00 46
    b6 01 00 00 00 00 00 00 c0 00 00 00 00 00 00 46
    02 00 00 00 b0 00 00 00 78 00 00 00 01 10 08 00
    cc cc cc cc a0 00 00 00 00 00 00 00 01 00 00 00
    00 00 02 00 04 00 02 00 08 00 02 00 01 00 00 00
    ff 1d 2b 11 dc d9 f7 41 86 9f d6 7f ee 7c b5 91
    01 00 00 00 00 00 00 00 01 00 00 00 0c 00 02 00
    64 00 00 00 64 00 00 00
    4d 45 4f 57 01 00 00 00 ff 1d 2b 11 dc d9 f7 41 86 9f d6 7f ee 7c b5 91
    00 00 00 00 05 00 00 00 88 77 66 55 44 33 22 11 00 ff ee dd cc bb aa 99
    00 00 00 a0 00 00 00 40 80 00 00 00 00 00 00 01
    10 00 0c 00 07 00 31 00 32 00 37 00 2e 00 30 00 2e 00 30 00 2e 00 31 00 00 00 00 00
    0a 00 ff ff 00 00 00 00
    01 10 08 00
    cc cc cc cc 68 00 00 00 00 00 00 00 00 00 00 00
    00 00 02 00 88 77 66 55 44 33 22 11 04 00 02 00
    00 00 00 b0 00 00 00 40 80 00 00 00 00 00 00 02
    06 00 00 00 05 00 07 00 1a 00 00 00 1a 00 13 00
    07 00 31 00 32 00 37 00 2e 00 30 00 2e 00 30 00
    2e 00 31 00 5b 00 34 00 39 00 37 00 37 00 37 00
    5d 00 00 00 00 00 09 00 ff ff 00 00 0a 00 ff ff
    00 00 00 00 00 00 00 00";

pub(super) const CREATE: &str = "
    05 00 07 00 00 00 00 00 00 00 00 00 10 11 12 13
    14 15 16 17 18 19 1a 1b 1c 1d 1e 1f 00 00 00 00
    04 00 00 00 00 00 00 00 04 00 00 00 56 00 53 00
    43 00 00 00 82 00 00 00 18 00 00 00 01 02 03 04
    05 06 07 08 01 02 03 04 05 06 07 08 01 02 03 04
    05 06 07 08 18 00 00 00 00 00 02 00 03 00 00 00
    b0 73 dc 00 03 00 00 00 00 00 00 00 00 00 00 00
    08 00 00 00 31 32 33 34 35 36 37 38 08 00 00 00
    01 00 00 00 00 00 00 00";

pub(super) const CREATE_REPLY: &str = "
    00 00 00 00 00 00 00 00 00 00 02 00 1a 00 00 00
    00 00 00 00 1a 00 00 00 52 00 4f 00 4f 00 54 00
    5c 00 53 00 4d 00 41 00 52 00 54 00 43 00 41 00
    52 00 44 00 52 00 45 00 41 00 44 00 45 00 52 00
    5c 00 30 00 30 00 30 00 30 00 00 00 00 00 00 00
    00 00 00 00";

fn this() -> OrpcThis {
    OrpcThis::new(Guid::from_bytes(std::array::from_fn(|at| 0x10 + at as u8)))
}

pub(super) fn wide(text: &str) -> WideString {
    WideString::from_text(text).unwrap()
}

pub(super) fn reference() -> ObjRef {
    ObjRef {
        iid: IID_MANAGER,
        reference: Reference::Standard {
            std: StdObjRef {
                flags: 0,
                public_refs: 5,
                oxid: 0x1122_3344_5566_7788,
                oid: 0x99AA_BBCC_DDEE_FF00,
                ipid: Guid::from_u128(0xA000_0000_0000_4000_8000_0000_0000_0001),
            },
            resolver: DualStringArray {
                addresses: vec![StringBinding::tcp("127.0.0.1", None)],
                security: vec![security(10)],
            },
        },
    }
}

pub(super) fn security(service: u16) -> SecurityBinding {
    SecurityBinding {
        service,
        principal: String::new(),
    }
}

pub(super) fn reply() -> ActivationReply {
    ActivationReply {
        destination: DIFFERENT_MACHINE,
        oxid: 0x1122_3344_5566_7788,
        bindings: DualStringArray {
            addresses: vec![StringBinding::tcp("127.0.0.1", Some(49777))],
            security: vec![security(9), security(10)],
        },
        rem_unknown: Guid::from_u128(0xB000_0000_0000_4000_8000_0000_0000_0002),
        auth_hint: 6,
        version: ComVersion::CURRENT,
        interfaces: vec![ActivatedInterface {
            iid: IID_MANAGER,
            result: hresult::S_OK,
            pointer: Some(InterfacePointer::from(&reference())),
        }],
    }
}

pub(super) fn create() -> CreateCard {
    CreateCard {
        this: this(),
        method: CreateMethod::Plain,
        name: wide("VSC"),
        admin_algorithm: 0x82,
        admin_key: Secret::new(&cardea_terms::tpmvsc::DEFAULT_ADMIN_KEY),
        admin_kcv: Some(vec![0xB0, 0x73, 0xDC]),
        puk: None,
        pin: Secret::new(cardea_terms::tpmvsc::DEFAULT_PIN),
        pin_policy: None,
        attestation: 0,
        generate: true,
        callback: None,
    }
}

#[test]
fn reference_is_the_bytes_of_the_document() {
    let bytes = hex(OBJREF);
    assert_eq!(bytes.len(), 100);
    assert_eq!(reference().to_bytes(), bytes);
    assert_eq!(ObjRef::parse(&bytes), Ok(reference()));
    let (std, resolver) = (ObjRef::parse(&bytes).unwrap(), &reference());
    assert_eq!(std.standard(), resolver.standard());
}

#[test]
fn answer_to_an_activation_is_the_bytes_of_the_document() {
    let bytes = hex(ACTIVATION_ANSWER);
    assert_eq!(bytes.len(), 488);
    let answer = ActivationAnswer {
        that: OrpcThat::default(),
        properties: Some(reply().to_pointer()),
        result: hresult::S_OK,
    };
    // The number that is eight more than the data is the document's, and ignored by everybody.
    assert_eq!(
        base16ct::lower::encode_string(&answer.encode()),
        base16ct::lower::encode_string(&bytes)
    );
    let read = ActivationAnswer::decode_all(&bytes).unwrap();
    assert_eq!(
        ActivationReply::read(&read.properties.unwrap()),
        Ok(reply())
    );
}

#[test]
fn creation_and_its_answers_are_the_bytes_of_the_document() {
    let bytes = hex(CREATE);
    assert_eq!(create().encode()[..], bytes);
    assert_eq!(
        CreateCard::decode(CreateMethod::Plain, &bytes),
        Ok((create(), 136))
    );
    let reply = CreateCardReply {
        instance_id: Some(wide("ROOT\\SMARTCARDREADER\\0000")),
        ..CreateCardReply::failure(0)
    };
    let bytes = hex(CREATE_REPLY);
    for method in [CreateMethod::Plain, CreateMethod::PinPolicy] {
        assert_eq!(reply.encode(method)[..], bytes);
        assert_eq!(CreateCardReply::decode(method, &bytes), Ok(reply.clone()));
    }
    let failure = CreateCardReply::failure(Hresult::FAIL.0);
    assert_eq!(failure.encode(CreateMethod::Plain).len(), 20);
    assert_eq!(failure.encode(CreateMethod::Attestation).len(), 16);
    let destroyed = DestroyCardReply {
        that: OrpcThat::default(),
        need_reboot: false,
        result: 0,
    };
    assert_eq!(destroyed.encode().len(), 16);
}

#[test]
fn report_has_the_causality_of_its_call() {
    let report = Report {
        this: create().this,
        number: 9,
    };
    let mut bytes = hex(CREATE)[..32].to_vec();
    bytes.extend([9, 0, 0, 0]);
    assert_eq!(report.encode()[..], bytes);
    assert_eq!(Report::decode_all(&bytes), Ok(report));
    assert_eq!(OrpcResult::new(0).encode()[..], [0; 12]);
}

#[test]
fn counts_of_a_creation_must_agree() {
    let decode = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = hex(CREATE);
        change(&mut bytes);
        CreateCard::decode(CreateMethod::Plain, &bytes).map(|(request, _)| request)
    };
    let wrong: [(usize, u8); 8] = [
        (0x20, 3),    // longer than its maximum
        (0x24, 1),    // does not begin at its beginning
        (0x28, 3),    // without an end
        (0x2E, 0),    // an end in the middle
        (0x54, 0x17), // admin key
        (0x64, 4),    // KCV
        (0x70, 9),    // PIN: longer than said
        (0x7C, 7),
    ];
    for (at, value) in wrong {
        let result = decode(&|bytes| bytes[at] = value);
        assert_eq!(result, Err(NdrError::BadStubData), "{at:#x}");
    }
    let null_with_length = decode(&|bytes| bytes[0x6C] = 8);
    assert_eq!(null_with_length, Err(NdrError::NullReference));
    assert_eq!(NdrError::NullReference.fault_status(), 0x6F4);
    assert_eq!(NdrError::BadStubData.fault_status(), 0x6F7);
    // Padding may be anything; so may the truth.
    let same = decode(&|bytes| {
        bytes[0x35..0x38].fill(0xAA);
        bytes[0x63] = 0xBF;
        bytes[0x80..0x84].fill(0xFF);
    });
    assert_eq!(same, Ok(create()));
}

#[test]
fn arguments_are_checked_against_the_protocol() {
    let argument = |change: &dyn Fn(&mut CreateCard)| {
        let mut request = create();
        change(&mut request);
        request.parameters().err()
    };
    assert_eq!(argument(&|_| {}), None);
    let secret = |length: usize| Secret::new(&vec![b'1'; length]);
    type Change<'a> = &'a dyn Fn(&mut CreateCard);
    let not_acceptable: [Change<'_>; 11] = [
        &|request| request.name = wide(""),
        &|request| request.name = wide(&"x".repeat(129)),
        &|request| request.name = wide("a\u{7}"),
        &|request| request.name = WideString::new(vec![0xD800]).unwrap(),
        &|request| request.admin_algorithm = 0x81,
        &|request| request.admin_key = secret(16),
        &|request| request.admin_key = secret(25),
        &|request| request.admin_kcv = Some(vec![1; 4]),
        &|request| request.admin_kcv = Some(vec![]),
        &|request| request.pin_policy = Some(vec![1; 31]),
        &|request| request.attestation = 3,
    ];
    for (number, change) in not_acceptable.iter().enumerate() {
        assert_eq!(argument(change), Some(Rejected::Argument), "{number}");
    }
    let weak: [Change<'_>; 5] = [
        &|request| request.pin = secret(7),
        &|request| request.pin = secret(128),
        &|request| request.puk = Some(secret(7)),
        &|request| request.puk = Some(secret(128)),
        &|request| {
            request.pin = secret(3);
            request.pin_policy = Some(vec![0; 32]);
        },
    ];
    for (number, change) in weak.iter().enumerate() {
        assert_eq!(argument(change), Some(Rejected::PinComplexity), "{number}");
    }
    assert_eq!(Rejected::PinComplexity.hresult(), Hresult(0x8010_002A));
    assert_eq!(
        Rejected::PinComplexity.report(),
        Some(ErrorReport::PinComplexity)
    );
    let with_policy = argument(&|request| {
        request.pin = secret(4);
        request.pin_policy = Some(vec![0; 32]);
        request.puk = Some(secret(127));
    });
    assert_eq!(with_policy, None);
}

#[test]
fn extensions_are_skipped_wherever_they_are() {
    // Two extensions in three places of four, eight and no bytes of data.
    let extended = "
        05 00 07 00 01 00 00 00 00 00 00 00 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f 00 00 02 00
        03 00 00 00 00 00 00 00 04 00 02 00 04 00 00 00 08 00 02 00 00 00 00 00 0c 00 02 00 00 00 00 00
        08 00 00 00 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 04 00 00 00 01 02 03 04 00 00 00 00
        00 00 00 00 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 00 00 00 00
        09 00 00 00";
    let bytes = hex(extended);
    let report = Report::decode_all(&bytes).unwrap();
    assert_eq!((report.number, report.this.flags), (9, 1));
    assert_eq!(report.this.cid, this().cid);
    let mut wrong = bytes.clone();
    wrong[64] = 16;
    assert!(Report::decode_all(&wrong).is_err());
    wrong = bytes;
    wrong[32] = 17;
    assert!(Report::decode_all(&wrong).is_err());
}

#[test]
fn version_must_be_five_and_the_lower_minor_counts() {
    let version = |major, minor| ComVersion { major, minor }.negotiate();
    assert_eq!(version(5, 4), Ok(ComVersion { major: 5, minor: 4 }));
    assert_eq!(version(5, 9), Ok(ComVersion::CURRENT));
    assert_eq!(version(4, 7), Err(0x8001_0110));
}

#[test]
fn addresses_are_hosts_with_and_without_ports() {
    let parse = |address: &str, tower| {
        let binding = StringBinding {
            tower,
            address: address.to_owned(),
        };
        binding
            .host_and_port()
            .map(|(host, port)| (host.to_owned(), port))
    };
    let found = |host: &str, port| Some((host.to_owned(), port));
    assert_eq!(parse("host", 7), found("host", None));
    assert_eq!(parse("::1[135]", 7), found("::1", Some(135)));
    assert_eq!(parse("host[135]", 8), None);
    assert_eq!(parse("host[99999]", 7), None);
    assert_eq!(parse("[135]", 7), None);
    assert_eq!(parse("135]", 7), None);
    let made = StringBinding::tcp("host", Some(1));
    assert_eq!(made.host_and_port(), Some(("host", Some(1))));
}

#[test]
fn empty_lists_of_addresses_are_read_in_all_their_forms() {
    let empty = DualStringArray::default();
    let read = |text: &str| DualStringArray::decode_all(&hex(text));
    assert_eq!(
        read(&base16ct::lower::encode_string(&empty.encode())),
        Ok(empty.clone())
    );
    assert_eq!(
        read("02 00 00 00 02 00 01 00 00 00 00 00"),
        Ok(empty.clone())
    );
    assert_eq!(read("00 00 00 00 00 00 00 00"), Ok(empty));
    assert!(read("02 00 00 00 02 00 03 00 00 00 00 00").is_err());
    assert!(read("03 00 00 00 02 00 01 00 00 00 00 00 00 00").is_err());
}

#[test]
fn interfaces_have_their_methods() {
    let last = interfaces_of_manager().map(|iid| last_opnum(&iid));
    assert_eq!(last, [Some(4), Some(5), Some(6)]);
    assert_eq!(last_opnum(&IID_CALLBACK), Some(4));
    assert_eq!(last_opnum(&IID_REM_UNKNOWN2), None);
    for method in [
        CreateMethod::Plain,
        CreateMethod::PinPolicy,
        CreateMethod::Attestation,
    ] {
        assert_eq!(CreateMethod::from_opnum(method.opnum()), Some(method));
    }
    assert_eq!(CreateMethod::from_opnum(manager::DESTROY), None);
}

#[test]
fn names_of_numbers_are_those_of_the_other_crate() {
    use cardea_terms::tpmvsc::Status;
    for status in [
        Status::CardInitializing,
        Status::CardCreating,
        Status::CardDestroying,
        Status::SimulatorDestroying,
        Status::ReaderCreating,
        Status::ReaderDestroying,
        Status::GenerateRunning,
        Status::CardCreated,
        Status::CardDestroyed,
    ] {
        assert_eq!(status_name(status as u32), Some(status.name()));
    }
    assert_eq!(status_name(14), None);
    for (number, error) in ErrorReport::ALL.into_iter().enumerate() {
        assert_eq!(error as usize, number);
        assert_eq!(ErrorReport::from_wire(number as u32), Some(error));
    }
    assert_eq!(ErrorReport::from_wire(19), None);
}
