//! The bytes of messages, as `docs/formats/socket.md` tells them: a change here is a new version.

use cardea_client::message::{
    CardRequest, CardsRequest, ConnectionRequest, CreateCard, Failure, FailureKind, Hello,
    IndexRole, MAGIC, NewContent, Page, PowerAction, ReaderRequest, RedirectionRequest, Reference,
    Reply, Request, SecretBytes, SlotRequest, Step, TpmRequest, VERSION,
};

fn hex(message: impl minicbor::Encode<()>) -> String {
    let bytes = minicbor::to_vec(message).unwrap();
    base16ct::lower::encode_string(&bytes)
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

#[test]
fn greeting_and_requests_keep_their_bytes() {
    let hello = Hello {
        magic: MAGIC.into(),
        version: VERSION,
    };
    assert_eq!(hex(hello), "a200666361726465610102");
    let card = || "A".to_owned();
    let create = CreateCard {
        owner: Some(5),
        ..CreateCard::new(
            card(),
            NewContent::Personalised {
                pin: secret(b"1"),
                puk: None,
                admin_key: Some(secret(b"2")),
                blank: true,
            },
        )
    };
    for (request, bytes) in [
        (
            Request::Cards(CardsRequest::List { from: None }),
            "820181820080",
        ),
        (Request::card(card(), CardRequest::Show), "8200826141820080"),
        (
            Request::Cards(CardsRequest::Create(Box::new(create))),
            "820181820181a5006141018200844131f64132f5020509f40cf4",
        ),
        (
            Request::card(card(), CardRequest::Destroy { owner_auth: None }),
            "8200826141820c80",
        ),
        (
            Request::card(
                card(),
                CardRequest::ChangePin {
                    old: secret(b"1"),
                    new: secret(b"2"),
                    reference: Reference::Pin,
                },
            ),
            "82008261418205834131413200",
        ),
        (Request::Tpm(TpmRequest::Status), "820781820080"),
        (Request::Reader(ReaderRequest::Info), "820481820080"),
        (Request::Reader(ReaderRequest::States), "820481820180"),
        (
            Request::Reader(ReaderRequest::WaitStates {
                generation: 7,
                timeout_ms: 30_000,
            }),
            "82048182028207197530",
        ),
        (
            Request::slot(
                3,
                SlotRequest::Power {
                    action: PowerAction::Up,
                },
            ),
            "8206820382008102",
        ),
        (
            Request::slot(
                0,
                SlotRequest::Transmit {
                    apdu: secret(&[0x80, 0x21, 0, 0]),
                },
            ),
            "820682008201814480210000",
        ),
        (
            Request::Redirection(RedirectionRequest::Answered {
                program: 1,
                reply: secret(&[0]),
            }),
            "820581820282014100",
        ),
        (
            Request::Connection(ConnectionRequest::OnBehalf { whom: card() }),
            "8202818201816141",
        ),
        (
            Request::Connection(ConnectionRequest::OnBehalfOfCaller {
                principal: card(),
                address: "::1".into(),
            }),
            "8202818203826141633a3a31",
        ),
        (
            Request::card(card(), CardRequest::Transmit { apdu: secret(&[0]) }),
            "820082614182181b814100",
        ),
    ] {
        assert_eq!(hex(&request), bytes, "{request:?}");
    }
}

#[test]
fn replies_of_the_reader_and_failures_keep_their_bytes() {
    let failure = Failure {
        kind: FailureKind::PinWrong,
        message: "no".into(),
        tries_left: Some(3),
    };
    for (reply, bytes) in [
        (Reply::Done, "820080"),
        (Reply::Failed(failure), "820181a3000a01626e6f0203"),
        (
            Reply::Progress(Step::DefineCounter(IndexRole::Puk)),
            "82028182018102",
        ),
        (
            Reply::Cards(Page::cut(7, None, |_| std::iter::empty())),
            "820381a400070100028003f4",
        ),
        (Reply::Reader { slots: 4 }, "82068104"),
        (
            Reply::Slots {
                generation: 9,
                inserted: vec![0, 300],
            },
            "82078209820019012c",
        ),
        (Reply::Atr(vec![0x3B, 0x80]), "820881423b80"),
        (Reply::Response(secret(&[0x69, 0x82])), "820981426982"),
        (
            Reply::Wanted {
                program: 1,
                request: secret(&[0]),
            },
            "82181882014100",
        ),
    ] {
        assert_eq!(hex(&reply), bytes, "{reply:?}");
    }
}
