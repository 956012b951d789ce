//! What is written down of cards, whichever door it came by.

use cardea_client::message::{
    AuditHead, CardRequest, CardsRequest, FailureKind, KeyAlgorithm, KeyClass, Operation,
    Reference, Reply, Request,
};

use crate::support::{Client, PIN, Place, destruction, generation, on_card, secret};

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
    let key = generation(KeyAlgorithm::P256, KeyClass::Session);
    assert!(matches!(client.call(&key), Reply::Key(_)));
    let sign = on_card(CardRequest::UseKey {
        pin: Some(secret(PIN)),
        reference: 0x9E,
        operation: Operation::SignEcdsa {
            digest: vec![7; 32],
        },
    });
    for _ in 0..3 {
        assert!(matches!(client.call(&sign), Reply::Result(_)));
    }
    let wrong = on_card(CardRequest::VerifyPin {
        value: secret(b"000000"),
        reference: Reference::Pin,
    });
    assert_eq!(client.kind(&wrong), FailureKind::PinWrong);
    client.power(0);
    assert_eq!(client.verify(0, b"000000"), 0x63C3);
    assert_eq!(client.verify(0, PIN), 0x9000);
    client.done(&on_card(CardRequest::ChangePin {
        old: secret(PIN),
        new: secret(b"7654321"),
        reference: Reference::Pin,
    }));
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
        // By the daemon itself, before it makes the first card.
        ("tpm-examined", "daemon"),
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
    assert_eq!(head.sequence, 8);
    let own = std::env::current_exe().unwrap();
    let program = format!("\"program\":\"{}\"", own.display());
    let by_program = lines.iter().filter(|line| line.contains(&program));
    assert_eq!(by_program.count(), 7, "{lines:#?}");
    let pin = String::from_utf8(PIN.to_vec()).unwrap();
    assert!(!lines.iter().any(|line| line.contains(&pin)));
}

/// A cryptogram that no key of ours has made: smaller than any modulus, and without padding.
const NO_CRYPTOGRAM: [u8; 256] = [0x11; 256];

/// Makes a key that wants the PIN every time, and returns its reference.
fn every_time(client: &mut Client) -> u8 {
    match client.call(&generation(KeyAlgorithm::Rsa2048, KeyClass::Always)) {
        Reply::Key(key) => key.reference,
        other => panic!("{other:?}"),
    }
}

fn decryption(pin: Option<&[u8]>, reference: u8) -> Request {
    on_card(CardRequest::UseKey {
        pin: pin.map(secret),
        reference,
        operation: Operation::DecryptPkcs1 {
            cryptogram: NO_CRYPTOGRAM.to_vec(),
        },
    })
}

#[test]
fn failed_use_of_a_key_that_wants_the_pin_every_time_is_recorded_alike_at_every_door() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("work");
    // One key for each way: uses of the same key by one process are recorded together.
    let keys = [(); 3].map(|()| every_time(&mut client));

    // The command line: PIN and use in one request.
    client.failure(&decryption(Some(PIN), keys[0]));
    // The PKCS#11 module: a login, then the use.
    let mut program = place.client();
    let login = CardRequest::Login { pin: secret(PIN) };
    program.done(&on_card(login));
    program.failure(&decryption(None, keys[1]));
    // The reader: VERIFY, MANAGE SECURITY ENVIRONMENT, PERFORM SECURITY OPERATION: DECIPHER.
    client.power(0);
    assert_eq!(client.verify(0, PIN), 0x9000);
    let choose = [0, 0x22, 0x41, 0xB8, 6, 0x80, 1, 0x47, 0x84, 1, keys[2]];
    assert_eq!(client.transmit(0, &choose), [0x90, 0x00]);
    let (first, last) = NO_CRYPTOGRAM.split_at(255);
    let part = [&[0x10, 0x2A, 0x80, 0x86, 255][..], first].concat();
    assert_eq!(client.transmit(0, &part), [0x90, 0x00]);
    let part = [&[0x00, 0x2A, 0x80, 0x86, 1][..], last, &[0]].concat();
    let answer = client.transmit(0, &part);
    assert!(!answer.ends_with(&[0x90, 0x00]), "{answer:02X?}");

    let (lines, _) = records(&mut client);
    let used = |key: &u8, door: &str| {
        let mut lines = lines.iter();
        lines.any(|line| {
            line.contains("\"event\":\"key-used\"")
                && line.contains(&format!("\"key\":\"{key:02X}\""))
                && line.contains(&format!("\"door\":\"{door}\""))
        })
    };
    for (key, door) in keys.iter().zip(["socket", "socket", "reader"]) {
        assert!(used(key, door), "{door} {key:02X}: {lines:#?}");
    }
}

#[test]
fn programs_of_other_users_are_named_for_a_service_without_privileges() {
    let place = Place::new();
    let Some(process) = place.spawn_as_service(64_003) else {
        return;
    };
    let mut client = place.client();
    client.create("work");
    let (lines, _) = records(&mut client);
    let created = lines
        .iter()
        .find(|line| line.contains("\"event\":\"card-created\""))
        .unwrap_or_else(|| panic!("{lines:?}"));
    // Which executable we are it cannot read; what we call ourselves it can.
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    let named = format!("\"program\":\"[{}]\"", own.trim_end());
    assert!(created.contains(&named), "no {named} in {created}");
    process.kill();
}
