//! The daemon is killed at every step of creation and destruction; the next one cleans up.
//! The places exist in builds with debug assertions only.
#![cfg(debug_assertions)]

use cardea_client::message::{CardState, CardsRequest, CreateCard, FailureKind, Reply, Request};

use crate::support::{Place, administered, creation, destruction};

/// Cards with approved policies and with sealed ones.
const FORMS: [fn(Box<CreateCard>) -> CardsRequest; 2] =
    [CardsRequest::Create, CardsRequest::CreateAttested];

/// Kills the daemon during a creation at this place; false when the creation never came there.
fn create_and_crash(place: &Place, fault: &str) -> bool {
    create_with(place, CardsRequest::Create, fault)
}

/// The same, with the request that makes the order one for a card of some form.
fn create_with(place: &Place, request: fn(Box<CreateCard>) -> CardsRequest, fault: &str) -> bool {
    let mut process = place.spawn(Some(fault));
    let mut client = place.client();
    let order = administered("new", Some(b"87654321"));
    client.send(&Request::Cards(request(Box::new(order))));
    let crashed = client.reply().is_none();
    if crashed {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(process.wait().signal(), Some(9), "{fault}");
    }
    crashed
}

#[test]
fn request_that_panics_is_answered_and_nothing_else_stops() {
    let place = Place::new();
    let mut process = place.spawn(Some("panic:create-seated"));
    let mut other = place.client();
    let mut client = place.client();
    let failure = client.failure(&creation("work"));
    assert_eq!(failure.kind, FailureKind::Failed);
    assert!(
        failure.message.contains("internal error"),
        "{}",
        failure.message
    );
    assert!(client.frame().is_none(), "its connection ends");
    // What it had done is there, and can be used.
    assert_eq!(other.list().len(), 1);
    other.power(0);
    assert_eq!(other.verify(0, crate::support::PIN), 0x9000);
    assert!(process.is_running());
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().success());
}

/// After a restart: every index in the TPM belongs to a listed card, every listed card works.
fn assert_consistent(place: &Place, kept: &str, fault: &str) {
    let process = place.spawn(None);
    let mut client = place.client();
    let cards = client.list();
    assert!(
        cards.iter().any(|card| card.name == kept),
        "{fault}: an acknowledged card is gone"
    );
    let mut indices = 0;
    for card in &cards {
        assert_eq!(card.state, CardState::Ready, "{fault}: {card:?}");
        let details = client.show(&card.card_id);
        let sealed = details.attestation.is_some_and(|it| it.sealed);
        let parts = [details.puk.is_some(), details.administrator, sealed];
        indices += 1 + parts.map(usize::from).iter().sum::<usize>();
    }
    process.kill();
    assert_eq!(place.tpm.indices().len(), indices, "{fault}: stray index");
}

#[test]
fn killed_creation_leaves_all_of_a_card_or_nothing() {
    let place = Place::new();
    let process = place.spawn(None);
    place.client().create("kept");
    process.kill();
    for fault in [
        "create-prepared",
        "create-intent",
        "create-tpm",
        "create-file",
        "create-intent-removed",
        "create-seated",
    ] {
        for request in FORMS {
            assert!(create_with(&place, request, fault), "{fault} never came");
            assert_consistent(&place, "kept", fault);
        }
    }
}

#[test]
fn unreadable_file_of_a_creation_that_was_killed_keeps_its_indices_for_the_card() {
    let place = Place::new();
    assert!(create_and_crash(&place, "create-file"));
    let folder = place.state_dir().join("cards");
    let mut files = std::fs::read_dir(folder).unwrap();
    let path = files.next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    let foreign = {
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    for (content, state) in [
        (&whole[..40], CardState::Unreadable),
        (&foreign, CardState::NotTrusted),
    ] {
        std::fs::write(&path, content).unwrap();
        let process = place.spawn(None);
        let cards = place.client().list();
        assert!(
            matches!(&cards[..], [card] if card.state == state),
            "{cards:?}"
        );
        process.kill();
        assert_eq!(place.tpm.indices().len(), 3, "the file may come back");
        assert_eq!(intents(&place), Some(1));
    }

    // It comes back: a whole card.
    std::fs::write(&path, &whole).unwrap();
    let process = place.spawn(None);
    let cards = place.client().list();
    assert!(
        matches!(&cards[..], [card] if card.state == CardState::Ready),
        "{cards:?}"
    );
    place.client().done(&destruction("new"));
    process.kill();

    // It does not: whoever destroys the card destroys its indices, too.
    for damage in [40, whole.len()] {
        assert!(create_and_crash(&place, "create-file"));
        let mut files = std::fs::read_dir(place.state_dir().join("cards")).unwrap();
        let path = files.next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(damage);
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let process = place.spawn(None);
        let mut client = place.client();
        let [card] = &client.list()[..] else {
            panic!("{damage}");
        };
        client.done(&destruction(&card.card_id));
        assert_eq!(client.list(), []);
        process.kill();
        assert_eq!(place.tpm.indices().len(), 0, "{damage}");
        assert_eq!(intents(&place), Some(0));
    }
}

#[test]
fn killed_between_tpm_commands_of_a_creation_leaves_no_index() {
    let place = Place::new();
    let process = place.spawn(None);
    place.client().create("kept");
    process.kill();
    for request in FORMS {
        let mut steps = 0;
        loop {
            let fault = format!("create-tpm-{}", steps + 1);
            if !create_with(&place, request, &fault) {
                break;
            }
            steps += 1;
            assert_consistent(&place, "kept", &fault);
        }
        assert!(steps >= 3, "only {steps} steps are announced");
    }
}

#[test]
fn killed_destruction_is_completed_or_not_begun() {
    for fault in ["destroy-intent", "destroy-tpm", "destroy-file"] {
        let place = Place::new();
        let mut process = place.spawn(Some(fault));
        let mut client = place.client();
        client.create("kept");
        let doomed = CardsRequest::CreateAttested(Box::new(administered("doomed", None)));
        assert!(matches!(
            client.call(&Request::Cards(doomed)),
            Reply::Card(_)
        ));
        client.send(&destruction("doomed"));
        assert!(client.reply().is_none(), "{fault} never came");
        process.wait();
        assert_consistent(&place, "kept", fault);
        let _process = place.spawn(None);
        let names: Vec<_> = place.client().list().into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["kept"], "{fault}");
    }
}

#[test]
fn interrupted_creation_is_undone_when_an_absent_tpm_comes_back() {
    let mut place = Place::new();
    assert!(create_and_crash(&place, "create-tpm"));
    place.tpm.kill();
    let process = place.spawn(None);
    place.client().list();
    place.tpm.restart();
    // A creation waits until what was interrupted is undone, so afterwards one card is all there is.
    let mut client = place.client();
    crate::support::until("a card can be made", || {
        matches!(client.call(&creation("after")), Reply::Card(_))
    });
    crate::support::until("the intent is gone", || intents(&place) == Some(0));
    process.kill();
    assert_eq!(place.tpm.indices().len(), 1);
}

#[test]
fn creation_whose_file_or_intent_cannot_be_written_leaves_no_index() {
    let place = Place::new();
    let daemon = place.start();
    let mut client = place.client();
    client.create("kept");
    for folder in ["cards", "intents"] {
        let folder = place.state_dir().join(folder);
        let aside = place.path("aside");
        std::fs::rename(&folder, &aside).unwrap();
        std::fs::write(&folder, "in the way").unwrap();
        assert_eq!(client.kind(&creation("unlucky")), FailureKind::Failed);
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(&aside, &folder).unwrap();
        assert_eq!(client.list().len(), 1);
    }
    client.create("next");
    daemon.stop();
    assert_eq!(place.tpm.indices().len(), 2);
    let _daemon = place.start();
    assert!(
        place
            .client()
            .list()
            .iter()
            .all(|card| card.state == CardState::Ready)
    );
}

#[test]
fn tpm_killed_during_a_creation_leaves_all_of_a_card_or_nothing() {
    // After so many announced steps: at different places of the work.
    let places = [1, 3, 5, 7].map(|steps| FORMS.map(|request| (steps, request)));
    for (steps, request) in places.into_iter().flatten() {
        let mut place = Place::new();
        let daemon = place.start();
        let mut client = place.client();
        client.create("kept");
        let order = Box::new(administered("new", Some(b"87654321")));
        let order = request(order);
        let of_card = match order {
            CardsRequest::CreateAttested(_) => 4,
            _ => 3,
        };
        client.send(&Request::Cards(order));
        for _ in 0..steps {
            client.frame();
        }
        place.tpm.kill();
        let made = matches!(client.reply(), Some(Reply::Card(_)));
        place.tpm.restart();
        crate::support::until("what was interrupted is undone", || {
            client
                .list()
                .iter()
                .all(|card| card.state == CardState::Ready)
                && intents(&place) == Some(0)
        });
        assert_eq!(client.list().len(), 1 + usize::from(made));
        daemon.stop();
        let of_new = if made { of_card } else { 0 };
        assert_eq!(place.tpm.indices().len(), 1 + of_new);
    }
}

/// Intents on disk.
fn intents(place: &Place) -> Option<usize> {
    Some(
        std::fs::read_dir(place.state_dir().join("intents"))
            .ok()?
            .count(),
    )
}
