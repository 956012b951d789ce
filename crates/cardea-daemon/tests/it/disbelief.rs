//! Card files that are not what they say.

use std::fs;

use cardea_client::message::{CardState, FailureKind};
use cardea_host::CardId;
use cardea_store::Store;

use crate::support::{PIN, Place, Swtpm, destruction, secret};

#[test]
fn card_of_another_tpm_is_listed_with_the_reason_and_removed() {
    let mut place = Place::new();
    let daemon = place.start();
    place.client().create("stolen");
    daemon.stop();
    let home = std::mem::replace(
        &mut place.tpm,
        Swtpm::start(&place.folder.path().join("other-tpm")),
    );

    let daemon = place.start();
    let mut client = place.client();
    let cards = client.list();
    assert_eq!(cards[0].state, CardState::Foreign);
    assert!(cards[0].reason.contains("made by another TPM"), "{cards:?}");
    assert_eq!(cards[0].slot, None);
    client.done(&destruction("stolen"));
    assert!(client.list().is_empty());
    daemon.stop();
    assert_eq!(home.indices().len(), 1, "its own TPM was not touched");
}

#[test]
fn destroyed_card_does_not_come_back_from_a_copy() {
    let place = Place::new();
    let daemon = place.start();
    place.client().create("old");
    let copy = files(&place);
    place.client().done(&destruction("old"));
    daemon.stop();
    restore(&copy);
    let _daemon = place.start();
    let cards = place.client().list();
    assert_eq!(cards[0].state, CardState::Lost, "{cards:?}");
    assert_eq!(cards[0].slot, None);
    place.client().done(&destruction("old"));
    assert!(place.client().list().is_empty());
}

#[test]
fn file_of_another_host_is_refused_and_its_removal_touches_no_index() {
    let place = Place::new();
    let daemon = place.start();
    let mut client = place.client();
    client.create("victim");
    client.power(0);
    assert_eq!(client.verify(0, b"000000"), 0x63C4);
    daemon.stop();

    // The same TPM, another state folder with another host key: as a file brought from elsewhere.
    let files = files(&place);
    let mut config = place.config();
    config.state_dir = place.path("elsewhere");
    drop(cardea_daemon::Daemon::start(config.clone()).unwrap());
    for (path, content) in &files {
        let relative = path.strip_prefix(place.state_dir()).unwrap();
        fs::write(config.state_dir.join(relative), content).unwrap();
    }
    let daemon = cardea_daemon::Daemon::start(config).unwrap();
    let mut client = place.client();
    let cards = client.list();
    assert_eq!(cards[0].state, CardState::NotTrusted, "{cards:?}");
    assert_eq!(cards[0].slot, None);
    let change = cardea_client::message::Request::card(
        "victim",
        cardea_client::message::CardRequest::ChangePin {
            old: secret(b"000000"),
            new: secret(b"111111"),
            reference: cardea_client::message::Reference::Pin,
        },
    );
    assert_eq!(client.kind(&change), FailureKind::Failed);
    client.done(&destruction("victim"));
    daemon.stop();

    let _daemon = place.start();
    let mut client = place.client();
    assert_eq!(
        client.show("victim").pin.unwrap().left,
        Some(4),
        "no try was spent"
    );
    client.power(0);
    assert_eq!(client.verify(0, PIN), 0x9000);
}

#[test]
fn second_file_for_the_same_index_is_refused_although_this_host_wrote_it() {
    let place = Place::new();
    let daemon = place.start();
    let mut client = place.client();
    client.create("victim");
    client.power(0);
    assert_eq!(client.verify(0, b"000000"), 0x63C4);
    daemon.stop();

    let store = Store::open(&place.state_dir()).unwrap();
    let mut forged = store.cards().unwrap().remove(0).content.unwrap();
    forged.id = CardId::new([7; 16]);
    forged.name = "thief".into();
    forged.owner += 1;
    forged.created += 1;
    store.create(&forged).unwrap();
    drop(store);

    let daemon = place.start();
    let mut client = place.client();
    let thief = client.show("thief").summary;
    assert_eq!(thief.state, CardState::NotTrusted);
    assert!(thief.reason.contains("0x01c2"), "{thief:?}");
    assert_eq!(
        (thief.slot, client.show("victim").summary.slot),
        (None, Some(0))
    );
    client.done(&destruction("thief"));
    daemon.stop();

    let _daemon = place.start();
    let mut client = place.client();
    assert_eq!(client.list().len(), 1);
    assert_eq!(client.show("victim").pin.unwrap().left, Some(4));
    client.power(0);
    assert_eq!(client.verify(0, PIN), 0x9000);
}

#[test]
fn truncated_card_file_is_listed_as_unreadable_and_the_others_work() {
    let place = Place::new();
    let daemon = place.start();
    let mut client = place.client();
    client.create("good");
    let before: Vec<_> = files(&place).into_iter().map(|(path, _)| path).collect();
    let bad = client.create("bad").summary.card_id;
    daemon.stop();
    for (path, content) in files(&place) {
        if !before.contains(&path) {
            fs::write(path, &content[..content.len() / 2]).unwrap();
        }
    }
    let _daemon = place.start();
    let mut client = place.client();
    let state = |name: &str, client: &mut crate::support::Client| client.show(name).summary.state;
    assert_eq!(state("good", &mut client), CardState::Ready);
    assert_eq!(state(&bad, &mut client), CardState::Unreadable);
    client.done(&destruction(&bad));
    assert_eq!(client.list().len(), 1);
}

/// All card files with their content.
fn files(place: &Place) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    fs::read_dir(place.state_dir().join("cards"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn restore(files: &[(std::path::PathBuf, Vec<u8>)]) {
    for (path, content) in files {
        fs::write(path, content).unwrap();
    }
}
