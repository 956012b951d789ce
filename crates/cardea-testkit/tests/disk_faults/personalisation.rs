//! A card in initialisation state is personalised at the reader.

use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, NewContent, Reference, Reply, Request,
};
use cardea_testkit::transcript::personalisation::{
    ACTIVATION as ACTIVATE, is_done, personalisation,
};

use crate::cards::destroy;
use crate::doors::{self, READER};
use crate::walk::{Operation, Truth, walk};
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
        // What an activation that failed has left may not take an admin key any more.
        destroy(world);
        uninitialised(world);
        let mut card = world.reader();
        for command in personalisation(
            world.pin.now.as_bytes(),
            Some(world.puk.now.as_bytes()),
            world.admin_key.now.as_bytes().try_into().unwrap(),
        ) {
            let response = card(&command);
            assert!(is_done(&response), "{command:02X?}: {response:02X?}");
        }
    },
    truth: |world| {
        let Reply::Card(card) = world.done_card(CardRequest::Show) else {
            panic!("no card")
        };
        // Before, only the reader compares it.
        let works = || card.uninitialised || world.takes(Reference::Pin, &world.pin.now);
        Truth::of(card.uninitialised, !card.uninitialised && works())
    },
    happened: destroy,
    doors: &[(READER, |world| {
        world.transmit(&ACTIVATE.map(<[u8]>::to_vec))
    })],
    stride: 2,
};

fn uninitialised(world: &mut World) {
    if world.ask_card(CardRequest::Show).is_err() {
        let order = CreateCard::new(CARD, NewContent::Uninitialised { puk: true });
        world.done(&Request::Cards(CardsRequest::Create(Box::new(order))));
    }
}

#[test]
fn answers_about_personalisation_are_true() {
    walk(&mut World::empty(), OPERATIONS, &[READER]);
}
