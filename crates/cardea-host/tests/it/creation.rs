//! A creation that is refused leaves what it has found.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use cardea_client::message::{
    CardsRequest, CreateCard, Failure, FailureKind, NewContent, Reply, Request, SecretBytes,
};

use crate::support::{OWNER, PIN, Place};

/// Creates a card with a chosen id, as root.
fn create(place: &Place, id: [u8; 16], folder: Option<OwnedFd>) -> Result<Reply, Failure> {
    let pin = SecretBytes::new(PIN.to_vec());
    let mut order = CreateCard::new("again", NewContent::with_pin(pin));
    order.owner = Some(OWNER);
    order.drive = folder.is_some();
    order.card_id = Some(id);
    let create = Request::Cards(CardsRequest::Create(Box::new(order)));
    let root = &mut place.visitor(0);
    place.counter.serve(root, create, folder, &mut |_| {})
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn file_that_has_the_chosen_id_already_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let open = || OwnedFd::from(File::open(folder.path()).unwrap());
    let elsewhere = Place::new();
    let card_id = elsewhere.card_on_drive("foreign", open());
    let name = format!("{card_id}.card");
    let path = folder.path().join(&name);
    let before = fs::read(&path).unwrap();
    let id = u128::from_str_radix(&card_id, 16).unwrap().to_be_bytes();

    let place = Place::new();
    let state = place.state();
    let refused = |made: Result<Reply, Failure>| {
        let failure = made.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid, "{failure:?}");
        let text = format!("a card with the id {card_id} already exists");
        assert_eq!(failure.message, text);
    };
    refused(create(&place, id, Some(open())));
    assert_eq!(fs::read(&path).unwrap(), before, "on the drive");

    // Brought while the daemon runs, as the only generation that is left of it.
    for generation in [name.clone(), format!("{name}.old"), format!("{name}.new")] {
        let brought = state.join("cards").join(&generation);
        fs::copy(&path, &brought).unwrap();
        refused(create(&place, id, None));
        refused(create(&place, id, Some(open())));
        assert_eq!(fs::read(&brought).unwrap(), before, "{generation}");
        fs::remove_file(&brought).unwrap();
    }
    assert_eq!(names(&state.join("intents")), Vec::<String>::new());
    assert_eq!(names(folder.path()), [name]);

    let made = create(&place, id, None);
    assert!(
        matches!(made, Ok(Reply::Card(_))),
        "the id is free: {made:?}"
    );
}
