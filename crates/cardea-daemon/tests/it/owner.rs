//! A TPM whose owner authorisation is set: what waits for it, what is told, and that nothing is lost meanwhile.

use std::fs::{self, File};

use cardea_client::message::{
    CardRequest, CardState, CardsRequest, CreateCard, Failure, FailureKind, IndexSummary, Reply,
    Request, TpmRequest,
};
use cardea_tpm::{Hierarchy, HierarchyAuth, HierarchyPolicy, Service};

use crate::support::{Client, Place, Process, administered, destruction, order, secret, until};

const OWNER: &[u8] = b"owner";

fn set_owner(place: &Place, old: &[u8], new: &[u8]) {
    let auth = |value| HierarchyAuth::new(value).unwrap();
    let done = Service::start(&place.tpm.address())
        .unwrap()
        .set_hierarchy_auth(Hierarchy::Owner, &auth(old), &auth(new));
    assert!(matches!(done, Ok(HierarchyPolicy::Emptied)), "{done:?}");
}

fn creation(order: CreateCard, owner_auth: Option<&[u8]>) -> Request {
    Request::Cards(CardsRequest::Create(Box::new(CreateCard {
        owner_auth: owner_auth.map(secret),
        ..order
    })))
}

fn destruction_by(card: &str, owner_auth: Option<&[u8]>) -> Request {
    Request::card(
        card,
        CardRequest::Destroy {
            owner_auth: owner_auth.map(secret),
        },
    )
}

fn indices(client: &mut Client) -> Vec<IndexSummary> {
    match client.call(&Request::Tpm(TpmRequest::ListIndices { from: None })) {
        Reply::Indices(page) => page.entries,
        other => panic!("{other:?}"),
    }
}

fn intents(place: &Place) -> usize {
    fs::read_dir(place.state_dir().join("intents"))
        .unwrap()
        .count()
}

/// Denied, and told what gives the authorisation.
fn assert_denied(failure: &Failure, says: &str) {
    assert_eq!(failure.kind, FailureKind::Denied, "{failure:?}");
    assert!(
        failure.message.contains(says) && failure.message.contains("--owner-auth-file"),
        "{}",
        failure.message
    );
}

fn with_credential(place: &Place, content: &[u8]) -> Process {
    let folder = place.path("credentials");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("owner-auth"), content).unwrap();
    place.spawn_with(|command| {
        command.env("CREDENTIALS_DIRECTORY", &folder);
    })
}

#[test]
fn missing_and_wrong_and_needless_authorisations_are_told_apart() {
    let place = Place::new();
    let needless = {
        let _daemon = place.start();
        place.client().failure(&creation(order("one"), Some(OWNER)))
    };
    assert_eq!(needless.kind, FailureKind::Invalid);
    assert!(
        needless.message.contains("has no owner authorisation"),
        "{needless:?}"
    );
    set_owner(&place, b"", OWNER);
    let _daemon = place.start();
    let mut client = place.client();
    assert_denied(&client.failure(&creation(order("one"), None)), "is set");
    let wrong = client.failure(&creation(order("one"), Some(b"wrong")));
    assert_denied(&wrong, "is not the TPM's");
    assert!(client.list().is_empty() && indices(&mut client).is_empty());
    let long = client.kind(&creation(order("one"), Some(&[1; 33])));
    assert_eq!(long, FailureKind::Invalid);
    let made = client.call(&creation(order("one"), Some(OWNER)));
    assert!(matches!(made, Reply::Card(_)), "{made:?}");
    assert_denied(&client.failure(&destruction_by("one", None)), "is set");
    let wrong = client.failure(&destruction_by("one", Some(b"wrong")));
    assert_denied(&wrong, "is not the TPM's");
    assert_eq!(client.list()[0].state, CardState::Ready);
    client.done(&destruction_by("one", Some(OWNER)));
    assert!(indices(&mut client).is_empty());
}

#[test]
#[cfg(debug_assertions)]
fn interrupted_creation_waits_for_the_authorisation_and_is_undone_with_the_next_one() {
    let place = Place::new();
    let mut process = place.spawn(Some("create-tpm"));
    let mut client = place.client();
    client.send(&Request::Cards(CardsRequest::Create(Box::new(
        administered("new", Some(b"87654321")),
    ))));
    assert!(client.reply().is_none());
    process.wait();
    set_owner(&place, b"", OWNER);

    let log = place.path("log");
    let process = place.spawn_with(|command| {
        command.stderr(File::create(&log).unwrap());
    });
    let mut client = place.client();
    let listed = indices(&mut client);
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|index| index.unfinished), "{listed:?}");
    assert_denied(&client.failure(&creation(order("one"), None)), "is set");
    let wrong = client.failure(&creation(order("one"), Some(b"wrong")));
    assert_denied(&wrong, "is not the TPM's");
    assert_eq!((indices(&mut client).len(), intents(&place)), (3, 1));
    // The log says it once, however often it was tried.
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("to be retried").count(), 1, "{log}");
    let made = client.call(&creation(order("one"), Some(OWNER)));
    assert!(matches!(made, Reply::Card(_)), "{made:?}");
    let listed = indices(&mut client);
    assert_eq!((listed.len(), intents(&place)), (1, 0), "{listed:?}");
    process.kill();
}

#[test]
#[cfg(debug_assertions)]
fn interrupted_destruction_waits_for_the_authorisation_and_is_no_card_meanwhile() {
    let place = Place::new();
    let mut process = place.spawn(Some("destroy-intent"));
    let mut client = place.client();
    client.create("kept");
    client.create("doomed");
    client.send(&destruction("doomed"));
    assert!(client.reply().is_none());
    process.wait();
    set_owner(&place, b"", OWNER);

    let process = place.spawn(None);
    let mut client = place.client();
    let doomed = |client: &mut Client| {
        let cards = client.list();
        cards
            .into_iter()
            .find(|card| card.name == "doomed")
            .unwrap()
    };
    until("it is told", || {
        doomed(&mut client).reason.contains("owner authorisation")
    });
    // A refused attempt does not make it a card again that the keeper could end at any moment.
    for owner_auth in [None, Some(&b"wrong"[..])] {
        let refused = client.failure(&destruction_by("doomed", owner_auth));
        assert_eq!(refused.kind, FailureKind::Denied, "{refused:?}");
        assert_ne!(doomed(&mut client).state, CardState::Ready);
        assert_eq!((indices(&mut client).len(), intents(&place)), (2, 1));
    }
    client.done(&destruction_by("doomed", Some(OWNER)));
    assert_eq!((indices(&mut client).len(), intents(&place)), (1, 0));
    let names: Vec<_> = client.list().into_iter().map(|card| card.name).collect();
    assert_eq!(names, ["kept"]);
    process.kill();
}

#[test]
fn service_credential_makes_and_destroys_cards_and_ends_what_was_interrupted() {
    let place = Place::new();
    // As `cardea tpm provision` writes it, and before the TPM has any: then it is not shown.
    let content = b"lockout-auth hex:00\nowner-auth hex:6F776E6572\n";
    let process = with_credential(&place, content);
    place.client().create("early");
    process.kill();
    set_owner(&place, b"", OWNER);

    let process = with_credential(&place, content);
    let mut client = place.client();
    client.create("late");
    client.done(&destruction("early"));
    process.kill();

    let process = with_credential(&place, b"wrong");
    let mut client = place.client();
    for request in [creation(order("one"), None), destruction("late")] {
        assert_denied(
            &client.failure(&request),
            "service credential `owner-auth` is not",
        );
    }
    client.done(&destruction_by("late", Some(OWNER)));
    process.kill();

    // What cannot be an authorisation is none.
    let process = with_credential(&place, &[1; 300]);
    let missing = place.client().failure(&creation(order("one"), None));
    assert_denied(&missing, "is set");
    process.kill();
}

#[test]
#[cfg(debug_assertions)]
fn service_credential_ends_at_the_start_what_was_interrupted() {
    let place = Place::new();
    let mut process = place.spawn(Some("create-tpm"));
    let mut client = place.client();
    client.send(&Request::Cards(CardsRequest::Create(Box::new(order(
        "new",
    )))));
    assert!(client.reply().is_none());
    process.wait();
    set_owner(&place, b"", OWNER);
    let process = with_credential(&place, OWNER);
    until("it is undone", || intents(&place) == 0);
    assert!(indices(&mut place.client()).is_empty());
    process.kill();
}

#[test]
fn index_is_removed_that_no_card_can_claim_and_no_other() {
    let place = Place::new();
    let daemon = place.start();
    let mut client = place.client();
    client.create("lost");
    let remove = |handle| {
        Request::Tpm(TpmRequest::RemoveIndex {
            handle,
            owner_auth: None,
        })
    };
    let listed = indices(&mut client);
    assert!(listed[0].card_form && listed[0].written, "{listed:?}");
    let handle = listed[0].handle;
    assert_eq!(client.kind(&remove(handle)), FailureKind::Denied);
    daemon.stop();
    // A file that cannot be read may be its card's.
    let cards: Vec<_> = fs::read_dir(place.state_dir().join("cards"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!cards.is_empty());
    for file in &cards {
        fs::write(file, "of a newer version").unwrap();
    }
    let daemon = place.start();
    let mut client = place.client();
    let refused = client.failure(&remove(handle));
    assert_eq!(refused.kind, FailureKind::Denied);
    assert!(refused.message.contains("cannot be read"), "{refused:?}");
    daemon.stop();
    for file in &cards {
        fs::remove_file(file).unwrap();
    }
    let _daemon = place.start();
    let mut client = place.client();
    assert!(indices(&mut client)[0].card.is_none());
    client.done(&remove(handle));
    assert!(indices(&mut client).is_empty());
    assert_eq!(client.kind(&remove(handle)), FailureKind::NotFound);
}
