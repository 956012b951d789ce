//! A card in initialisation state is personalised at the reader.

use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, NewContent, Reference, Reply, Request,
};

use crate::cards::destroy;
use crate::doors::{self, READER};
use crate::walk::{Operation, Truth, walk};
use crate::world::{CARD, World};

const OPERATIONS: &[&Operation] = &[&FIRST_PIN, &ACTIVATION];

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
    doors: &[(READER, |world| world.transmit(&[first_pin(world)]))],
    stride: 2,
};

/// All that precedes it is done; the card becomes operational.
const ACTIVATION: Operation = Operation {
    name: "activation of a card in initialisation state",
    prepare: |world| {
        uninitialised(world);
        let key = [
            &hex("00DB3FFF267024840180A51F8718")[..],
            world.admin_key.now.as_bytes(),
            &hex("8803B073DC"),
        ];
        let commands = [
            first_pin(world),
            doors::apdu([0, 0x24, 1, 0x81], &[&world.puk.now]),
            hex("00E000000E620C8201398302A0108C03033000"),
            hex("00440000"),
            hex("00E000001C621A8201188302B0808C04870020FFA50BA4098001028301809501C0"),
            hex("00440000"),
            key.concat(),
            hex("00A4000C023FFF"),
        ];
        let mut card = world.reader();
        for command in commands {
            let response = card(&command);
            // What an attempt before has made already.
            let good = [[0x90, 0x00], [0x6A, 0x89], [0x69, 0x85], [0x6A, 0x82]];
            let good = good.iter().any(|good| response.ends_with(good));
            assert!(good, "{command:02X?}: {response:02X?}");
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
        world.transmit(&[hex("00A4000C023FFF"), hex("00440000")])
    })],
    stride: 2,
};

fn hex(text: &str) -> Vec<u8> {
    base16ct::mixed::decode_vec(text).unwrap()
}

fn first_pin(world: &World) -> Vec<u8> {
    doors::apdu([0, 0x24, 1, 0x80], &[&world.pin.now])
}

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
