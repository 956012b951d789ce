//! What is written down of cards, whichever door it came by.

use cardea_client::message::{
    AuditHead, CardRequest, CardsRequest, FailureKind, NewKey, Operation, Reference, Reply,
    Request, SecretBytes,
};

use crate::support::{Client, PIN, Place, destruction};

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

fn card() -> String {
    "work".to_owned()
}

/// All records as text, and the newest as the daemon knows it.
fn records(client: &mut Client) -> (Vec<String>, AuditHead) {
    let mut offset = 0;
    let mut text = String::new();
    loop {
        // Small parts: a record never comes in two.
        let Reply::Audit {
            records,
            next,
            head,
            ..
        } = client.call(&Request::Cards(CardsRequest::ReadAudit {
            offset,
            most: 1000,
        }))
        else {
            panic!("no audit");
        };
        text.push_str(&String::from_utf8(records).unwrap());
        if next == offset {
            return (text.lines().map(str::to_owned).collect(), head);
        }
        offset = next;
    }
}

#[test]
fn every_door_leaves_its_records_and_they_survive_the_daemon() {
    let place = Place::new();
    let daemon = place.start();
    let mut client = place.client();
    client.create("work");
    let key = Request::card(
        card(),
        CardRequest::GenerateKey {
            pin: Some(secret(PIN)),
            key: NewKey {
                label: None,
                always: false,
                sign_only: false,
                id: None,
            },
            algorithm: cardea_terms::KeyAlgorithm::P256,
        },
    );
    assert!(matches!(client.call(&key), Reply::Key(_)));
    let sign = Request::card(
        card(),
        CardRequest::UseKey {
            pin: Some(secret(PIN)),
            reference: 0x9E,
            operation: Operation::SignEcdsa {
                digest: vec![7; 32],
            },
        },
    );
    for _ in 0..3 {
        assert!(matches!(client.call(&sign), Reply::Result(_)));
    }
    let wrong = Request::card(
        card(),
        CardRequest::VerifyPin {
            value: secret(b"000000"),
            reference: Reference::Pin,
        },
    );
    assert_eq!(client.kind(&wrong), FailureKind::PinWrong);
    client.power(0);
    assert_eq!(client.verify(0, b"000000"), 0x63C3);
    assert_eq!(client.verify(0, PIN), 0x9000);
    client.done(&Request::card(
        card(),
        CardRequest::ChangePin {
            old: secret(PIN),
            new: secret(b"7654321"),
            reference: Reference::Pin,
        },
    ));
    drop(client);
    drop(daemon);

    let _daemon = place.start();
    let mut client = place.client();
    client.done(&destruction("work"));
    let (lines, head) = records(&mut client);
    let events: Vec<_> = lines
        .iter()
        .map(|line| {
            let after = |field: &str| {
                let (_, rest) = line.split_once(&format!("\"{field}\":\"")).unwrap();
                rest.split_once('"').unwrap().0.to_owned()
            };
            (after("event"), after("door"))
        })
        .collect();
    let expected = [
        ("card-created", "socket"),
        ("key-generated", "socket"),
        // Three uses in a moment are told once.
        ("key-used", "socket"),
        ("pin-failed", "socket"),
        ("pin-failed", "reader"),
        ("pin-changed", "socket"),
        ("card-destroyed", "socket"),
    ];
    let expected = expected.map(|(event, door)| (event.to_owned(), door.to_owned()));
    assert_eq!(events, expected);
    assert_eq!(head.sequence, 7);
    let own = std::env::current_exe().unwrap();
    let program = format!("\"program\":\"{}\"", own.display());
    assert!(
        lines.iter().all(|line| line.contains(&program)),
        "{lines:#?}"
    );
    let pin = String::from_utf8(PIN.to_vec()).unwrap();
    assert!(!lines.iter().any(|line| line.contains(&pin)));
}
