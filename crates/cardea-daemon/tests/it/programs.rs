//! What PKCS#11 programs ask of the socket: several connections, contents without the TPM, the admin key.

use cardea_client::message::{
    Authority, CardRequest, CardsRequest, ConnectionRequest, FailureKind, NewKey, NewObject,
    ObjectKind, Operation, Page, Reply, Request, Thing,
};

use crate::support::{ADMIN_KEY, PIN, Place, administered, login, on_card, secret, until};

fn signature() -> Request {
    on_card(CardRequest::UseKey {
        pin: None,
        reference: 0x9E,
        operation: Operation::SignEcdsa {
            digest: vec![7; 32],
        },
    })
}

fn key() -> Request {
    on_card(CardRequest::GenerateKey {
        pin: Some(secret(PIN)),
        key: NewKey {
            label: Some("mail".into()),
            class: cardea_client::message::KeyClass::Session,
            sign_only: false,
            id: Some(vec![1, 2]),
        },
        algorithm: cardea_terms::KeyAlgorithm::P256,
    })
}

#[test]
fn connections_of_one_program_share_its_logins_and_no_others_do() {
    let place = Place::new();
    let _daemon = place.start();
    let mut home = place.client();
    home.create("work");
    assert!(matches!(home.call(&key()), Reply::Key(_)));
    assert!(matches!(home.call(&login()), Reply::Done));
    let Reply::Result(ticket) = home.call(&Request::Connection(ConnectionRequest::ShareLogins))
    else {
        panic!("no ticket");
    };
    let join = || {
        Request::Connection(ConnectionRequest::JoinLogins {
            ticket: ticket.clone(),
        })
    };
    let mut worker = place.client();
    assert_eq!(worker.kind(&signature()), FailureKind::NotLoggedIn);
    assert!(matches!(worker.call(&join()), Reply::Done));
    assert!(matches!(worker.call(&signature()), Reply::Result(_)));
    let mut stranger = place.client();
    let guess = Request::Connection(ConnectionRequest::JoinLogins {
        ticket: secret(&[0; 32]),
    });
    assert_eq!(stranger.kind(&guess), FailureKind::NotFound);
    assert_eq!(stranger.kind(&signature()), FailureKind::NotLoggedIn);

    // The program lives as long as one of its connections does.
    drop(home);
    assert!(matches!(worker.call(&signature()), Reply::Result(_)));
    assert!(matches!(
        worker.call(&on_card(CardRequest::Logout)),
        Reply::Done
    ));
    assert_eq!(worker.kind(&signature()), FailureKind::NotLoggedIn);
    assert!(matches!(worker.call(&login()), Reply::Done));
    drop(worker);
    until("the ticket is gone with its program", || {
        // A stranger that joins in time would keep the program alive: a new one for each attempt.
        let mut late = place.client();
        matches!(late.call(&join()), Reply::Failed(failure) if failure.kind == FailureKind::NotFound)
    });
}

#[test]
fn contents_are_given_once_for_each_revision() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("work");
    let mut contents = |known| match client.call(&on_card(CardRequest::Contents { known })) {
        Reply::Contents { revision, contents } => (revision, contents),
        other => panic!("{other:?}"),
    };
    let (empty, first) = contents(0);
    assert!(first.unwrap().keys.is_empty());
    assert_eq!(contents(empty), (empty, None));
    assert!(matches!(client.call(&key()), Reply::Key(_)));
    let object = on_card(CardRequest::StoreObject {
        pin: Some(secret(PIN)),
        object: NewObject {
            kind: ObjectKind::Data,
            label: "note".into(),
            id: Vec::new(),
            application: "mail".into(),
            value: b"remember".to_vec(),
        },
    });
    let Reply::Object { number } = client.call(&object) else {
        panic!("not stored");
    };
    let rename = on_card(CardRequest::Rename {
        pin: Some(secret(PIN)),
        thing: Thing::Key(0x9E),
        label: Some("post".into()),
        id: None,
    });
    assert!(matches!(client.call(&rename), Reply::Done));
    let Reply::Contents { revision, contents } =
        client.call(&on_card(CardRequest::Contents { known: empty }))
    else {
        panic!("no contents");
    };
    assert_ne!(revision, empty);
    let contents = contents.unwrap();
    assert_eq!(contents.keys[0].label, "post");
    assert_eq!(contents.keys[0].id, [1, 2]);
    assert_eq!(contents.objects[0].number, number);
    let read = |number| on_card(CardRequest::ReadObject { number });
    assert!(
        matches!(client.call(&read(number)), Reply::Certificate(value) if value == b"remember")
    );
    assert_eq!(client.kind(&read(99)), FailureKind::NotFound);
    for (label, id) in [(Some(""), None), (Some("a\tb"), None), (None, Some(vec![]))] {
        let rename = on_card(CardRequest::Rename {
            pin: Some(secret(PIN)),
            thing: Thing::Key(0x9E),
            label: label.map(str::to_owned),
            id,
        });
        assert_eq!(client.kind(&rename), FailureKind::Invalid, "{label:?}");
    }
    let delete = || {
        on_card(CardRequest::DeleteObject {
            pin: Some(secret(PIN)),
            number,
        })
    };
    assert!(matches!(client.call(&delete()), Reply::Done));
    assert_eq!(client.kind(&delete()), FailureKind::NotFound);
}

#[test]
fn who_waits_for_cards_is_told_at_once() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    let Reply::Overview(Page {
        generation,
        entries: cards,
        ..
    }) = client.call(&Request::Cards(CardsRequest::States { from: None }))
    else {
        panic!("no overview");
    };
    assert!(cards.is_empty());
    let waiting = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut waiter = place.client();
            waiter.call(&Request::Cards(CardsRequest::WaitStates {
                generation,
                timeout_ms: 30_000,
            }))
        });
        client.create("work");
        waiter.join().unwrap()
    });
    let Reply::Overview(Page {
        generation: after,
        entries: cards,
        ..
    }) = waiting
    else {
        panic!("no overview");
    };
    assert_ne!(after, generation);
    assert_eq!(cards[0].name, "work");
    assert!(!cards[0].uninitialised);
    let unchanged = client.call(&Request::Cards(CardsRequest::WaitStates {
        generation: after,
        timeout_ms: 10,
    }));
    assert!(matches!(unchanged, Reply::Overview(Page { generation, .. }) if generation == after));
}

#[test]
fn admin_key_itself_verifies_and_unblocks_for_longer_than_the_vault_lasts() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.call(&Request::Cards(CardsRequest::Create(Box::new(
        administered("work", None),
    ))));
    let verify = |key: &[u8]| on_card(CardRequest::VerifyAdminKey { key: secret(key) });
    assert_eq!(client.kind(&verify(&[1; 23])), FailureKind::Invalid);
    let mut wrong = ADMIN_KEY;
    wrong[7] ^= 0x10;
    assert_eq!(client.kind(&verify(&wrong)), FailureKind::AdminWrong);
    // The vault has 64 answers of this form.
    for count in 0..80 {
        let reply = client.call(&verify(&ADMIN_KEY));
        assert!(matches!(reply, Reply::Done), "{count}: {reply:?}");
    }
    let unblock = on_card(CardRequest::UnblockPin {
        by: Authority::AdminKey(secret(&ADMIN_KEY)),
        new: secret(b"7654321"),
    });
    assert!(matches!(client.call(&unblock), Reply::Done));
    let login = on_card(CardRequest::Login {
        pin: secret(b"7654321"),
    });
    assert!(matches!(client.call(&login), Reply::Done));
}
