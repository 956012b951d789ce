//! Session keys over the socket, with a TPM: they live as long as the program, and nowhere else.

use std::fs;

use cardea_client::message::{
    CardRequest, CardsRequest, ConnectionRequest, FailureKind, KeyClass, Operation, PrivateKey,
    Reply, Request, SecretBytes, SessionKeyMaterial,
};
use cardea_terms::{KeyAlgorithm, PublicKey};

use crate::support::{Client, Place, destruction, login, on_card, secret, until};

fn generation(class: KeyClass) -> Request {
    on_card(CardRequest::MakeSessionKey {
        class,
        material: SessionKeyMaterial::Generated(KeyAlgorithm::P256),
    })
}

fn signature(key: u64) -> Request {
    on_card(CardRequest::UseSessionKey {
        key,
        operation: Operation::SignEcdsa {
            digest: vec![7; 32],
        },
    })
}

fn deletion(key: u64) -> Request {
    on_card(CardRequest::DeleteSessionKey { key })
}

fn made(client: &mut Client, request: &Request) -> u64 {
    match client.call(request) {
        Reply::SessionKey { key, .. } => key,
        other => panic!("{other:?}"),
    }
}

fn is_signed(client: &mut Client, key: u64) -> bool {
    matches!(client.call(&signature(key)), Reply::Result(signature) if signature.expose().len() == 64)
}

#[test]
fn session_key_is_its_programs_and_not_in_the_cards_file() {
    let place = Place::new();
    let _daemon = place.start();
    let mut home = place.client();
    let card = home.create("work");
    let file = || {
        let mut files: Vec<_> = walk(&place.state_dir());
        files.retain(|(path, _)| path.contains(&card.summary.card_id));
        assert!(!files.is_empty());
        files
    };
    let before = file();
    assert_eq!(
        home.kind(&generation(KeyClass::Session)),
        FailureKind::NotLoggedIn
    );
    home.done(&login());
    let key = made(&mut home, &generation(KeyClass::Session));
    assert!(is_signed(&mut home, key));
    assert_eq!(file(), before);
    assert!(home.show("work").keys.is_empty());

    // A second connection of the program; another program, which has the PIN too.
    let Reply::Result(ticket) = home.call(&Request::Connection(ConnectionRequest::ShareLogins))
    else {
        panic!("no ticket");
    };
    let mut second = place.client();
    second.done(&Request::Connection(ConnectionRequest::JoinLogins {
        ticket,
    }));
    let mut other = place.client();
    other.done(&login());
    assert!(is_signed(&mut second, key));
    assert_eq!(other.kind(&signature(key ^ 1)), FailureKind::NotFound);
    assert_eq!(other.kind(&deletion(key)), FailureKind::NotFound);
    assert!(is_signed(&mut home, key));
    second.done(&deletion(key));
    assert_eq!(home.kind(&signature(key)), FailureKind::NotFound);
    assert_eq!(home.kind(&deletion(key)), FailureKind::NotFound);
}

/// The files below a folder, with their content.
fn walk(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn session_keys_end_with_logout_program_and_card() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("work");
    client.done(&login());
    let key = made(&mut client, &generation(KeyClass::Session));
    client.done(&on_card(CardRequest::Logout));
    client.done(&login());
    assert_eq!(client.kind(&signature(key)), FailureKind::NotFound);

    // The name of a key that outlives its program would be worth something to the next.
    let mut passing = place.client();
    passing.done(&login());
    let key = made(&mut passing, &generation(KeyClass::Session));
    assert!(
        is_signed(&mut client, key),
        "whoever has its name and the PIN"
    );
    drop(passing);
    until(
        "the key is gone with its program",
        || matches!(client.call(&signature(key)), Reply::Failed(failure) if failure.kind == FailureKind::NotFound),
    );

    let key = made(&mut client, &generation(KeyClass::Session));
    client.call(&destruction("work"));
    client.create("work");
    client.done(&login());
    assert_eq!(client.kind(&signature(key)), FailureKind::NotFound);
}

#[test]
fn session_key_is_imported_and_may_want_the_pin_every_time() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("work");
    client.done(&login());
    let scalar = p256_scalar();
    let import = |class| {
        let (scalar, x, y) = scalar.clone();
        on_card(CardRequest::MakeSessionKey {
            class,
            material: SessionKeyMaterial::Imported(PrivateKey::Ec { scalar, x, y }),
        })
    };
    match client.call(&import(KeyClass::Session)) {
        Reply::SessionKey {
            public: PublicKey::Ec { x, y },
            key,
        } => {
            assert_eq!((x, y), (scalar.1.clone(), scalar.2.clone()));
            assert!(is_signed(&mut client, key));
        }
        other => panic!("{other:?}"),
    }
    let key = made(&mut client, &import(KeyClass::Always));
    client.done(&login());
    assert!(is_signed(&mut client, key));
    assert_eq!(client.kind(&signature(key)), FailureKind::NotLoggedIn);
    // On a connection of its own, as programs verify the PIN for one operation.
    let mut once = place.client();
    once.done(&login());
    assert!(is_signed(&mut once, key));
    assert_eq!(once.kind(&signature(key)), FailureKind::NotLoggedIn);
}

/// The scalar 1, whose point is the base point (SEC 2 §2.4.2).
fn p256_scalar() -> (SecretBytes, Vec<u8>, Vec<u8>) {
    let bytes = |digits: &str| {
        let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(digit).collect::<Vec<_>>()
    };
    let mut scalar = vec![0; 31];
    scalar.push(1);
    (
        secret(&scalar),
        bytes("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
        bytes("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"),
    )
}

#[test]
fn program_has_its_limit_of_session_keys_and_its_uses_are_recorded() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("work");
    client.done(&login());
    let keys: Vec<u64> = (0..32)
        .map(|_| made(&mut client, &generation(KeyClass::Session)))
        .collect();
    assert_eq!(
        client.kind(&generation(KeyClass::Session)),
        FailureKind::Full
    );
    client.done(&deletion(keys[0]));
    made(&mut client, &generation(KeyClass::Session));
    assert!(is_signed(&mut client, keys[31]));
    let Reply::Audit { records, .. } = client.call(&Request::Cards(CardsRequest::ReadAudit {
        offset: 0,
        most: 1 << 16,
    })) else {
        panic!("no audit");
    };
    let records = String::from_utf8(records).unwrap();
    assert_eq!(records.matches("\"session-key-generated\"").count(), 33);
    assert_eq!(records.matches("\"session-key-used\"").count(), 1);
    for key in keys {
        assert!(
            !records.contains(&key.to_string()),
            "a key's name is recorded"
        );
    }
}
