//! A card in initialisation state is personalised at the reader.

use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, NewContent, Reference, Reply, Request,
};
use cardea_testkit::transcript::personalisation::{
    ACTIVATION as ACTIVATE, is_done, personalisation,
};

use crate::cards::destroy;
use crate::doors::{self, READER};
use crate::walk::{Operation, Told, Truth, walk};
use crate::world::{CARD, World};

pub(crate) const OPERATIONS: &[&Operation] = &[&FIRST_PIN, &ACTIVATION];

const FIRST_PIN: Operation = Operation {
    name: "first PIN of a card in initialisation state",
    prepare: uninitialised,
    truth: |world| {
        let verify = doors::apdu([0, 0x20, 0, 0x80], &[&world.pin.now]);
        let mut card = world.reader();
        let is_set = card(&verify) == [0x90, 0];
        Truth::of(!is_set, is_set)
    },
    happened: destroy,
    doors: &[(READER, |world| {
        world.transmit(&[doors::apdu([0, 0x24, 1, 0x80], &[&world.pin.now])])
    })],
    stride: 2,
};

/// All that precedes it is done; the card becomes operational.
const ACTIVATION: Operation = Operation {
    name: "activation of a card in initialisation state",
    prepare: |world| {
        if is_uninitialised(world) == Some(true) {
            // What one that failed has left is personalised from the beginning again.
            personalise(world);
            assert_eq!(activate(world), Told::Done);
            assert!(works(world), "the card that was personalised again");
        }
        destroy(world);
        uninitialised(world);
        personalise(world);
    },
    truth: |world| {
        let is_old = is_uninitialised(world).unwrap();
        // Before, only the reader compares it.
        Truth::of(is_old, !is_old && works(world))
    },
    happened: destroy,
    doors: &[(READER, |world| activate(world))],
    stride: 2,
};

/// None without a card.
fn is_uninitialised(world: &World) -> Option<bool> {
    match world.ask_card(CardRequest::Show) {
        Ok(Reply::Card(card)) => Some(card.uninitialised),
        _ => None,
    }
}

/// All that precedes the activation, or the rest of it.
fn personalise(world: &World) {
    let mut card = world.reader();
    for command in personalisation(
        world.pin.now.as_bytes(),
        Some(world.puk.now.as_bytes()),
        world.admin_key.now.as_bytes().try_into().unwrap(),
    ) {
        let response = card(&command);
        assert!(is_done(&response), "{command:02X?}: {response:02X?}");
    }
}

fn activate(world: &World) -> Told {
    world.transmit(&ACTIVATE.map(<[u8]>::to_vec))
}

fn works(world: &World) -> bool {
    world.takes(Reference::Pin, &world.pin.now)
        && world.takes(Reference::Puk, &world.puk.now)
        && doors::administered(world, &[]) == Told::Done
}

fn uninitialised(world: &mut World) {
    if is_uninitialised(world).is_none() {
        let order = CreateCard::new(CARD, NewContent::Uninitialised { puk: true });
        world.done(&Request::Cards(CardsRequest::Create(Box::new(order))));
    }
}

#[test]
fn answers_about_personalisation_are_true() {
    walk(&mut World::empty(), OPERATIONS, &[READER]);
}
