//! The bytes of messages, as `docs/formats/socket.md` tells them: a change here is a new version.

use cardea_client::message::{
    CreateCard, Failure, FailureKind, Hello, MAGIC, NewContent, PowerAction, Reference, Reply,
    Request, SecretBytes, VERSION,
};

fn hex(message: impl minicbor::Encode<()>) -> String {
    let bytes = minicbor::to_vec(message).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    assert_eq!(hex(hello), "a200666361726465610101");
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
        (Request::ListCards, "820080"),
        (Request::ShowCard { card: card() }, "8201816141"),
        (
            Request::CreateCard(create),
            "820281a5006141018200844131f64132f5020509f40cf4",
        ),
        (
            Request::DestroyCard {
                card: card(),
                owner_auth: None,
            },
            "8203816141",
        ),
        (
            Request::ChangePin {
                card: card(),
                old: secret(b"1"),
                new: secret(b"2"),
                reference: Reference::Pin,
            },
            "82048461414131413200",
        ),
        (Request::TpmStatus, "820580"),
        (Request::ReaderInfo, "820680"),
        (Request::SlotStates, "820780"),
        (
            Request::WaitSlotStates {
                generation: 7,
                timeout_ms: 30_000,
            },
            "82088207197530",
        ),
        (
            Request::Power {
                slot: 3,
                action: PowerAction::Up,
            },
            "8209820302",
        ),
        (
            Request::Transmit {
                slot: 0,
                apdu: secret(&[0x80, 0x21, 0, 0]),
            },
            "820a82004480210000",
        ),
        (
            Request::Answered {
                program: 1,
                reply: secret(&[0]),
            },
            "82183782014100",
        ),
        (Request::OnBehalf { whom: card() }, "821838816141"),
        (
            Request::TransmitCard {
                card: card(),
                apdu: secret(&[0]),
            },
            "82183b8261414100",
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
        (Reply::Progress("x".into()), "8202816178"),
        (Reply::Cards(vec![]), "82038180"),
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
