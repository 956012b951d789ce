//! The admin key.

use cardea_client::message::{CardRequest, FailureKind};
use cardea_terms::Visibility;
use cardea_testkit::bus::secret as pipe;
use cardea_testkit::transcript::personalisation::put_admin_key;

use crate::doors::{self, BUS, COMMAND_LINE, READER, SOCKET};
use crate::walk::{Operation, Truth, walk};
use crate::world::{CARD, World, secret, told};

pub(crate) const OPERATIONS: &[&Operation] = &[&ADMIN_KEY, &SETTINGS, &RENAMING];

const ADMIN_KEY: Operation = Operation {
    name: "change of the admin key",
    prepare: |_| {},
    truth: |world| {
        let (old, new) = (world.admin_key.now.clone(), world.admin_key.next.clone());
        Truth::of(is_admin_key(world, &old), is_admin_key(world, &new))
    },
    happened: |world| world.admin_key.swap(),
    doors: &[
        (SOCKET, |world| {
            let answer = match doors::answered(world) {
                Ok(answer) => answer,
                Err(failed) => return failed,
            };
            told(world.ask_card(CardRequest::ChangeAdminKey {
                answer,
                new: secret(&world.admin_key.next),
            }))
        }),
        (READER, |world| {
            let key = put_admin_key(world.admin_key.next.as_bytes().try_into().unwrap());
            doors::administered(world, &[doors::select([0xB0, 0x80]), key])
        }),
        (BUS, |world| {
            let context = match doors::bus_object(world, "Provisioning.GetChallengeContext") {
                Ok(context) => context,
                Err(told) => return told,
            };
            let response = doors::answer(world, &context.challenge("ChallengeContext"));
            let values = (pipe(&response), pipe(world.admin_key.next.as_bytes()));
            context.told("ChallengeContext.ChangeAdministrativeKey", &values)
        }),
        (COMMAND_LINE, |world| {
            let old = world.file("old key", doors::hexadecimal(&world.admin_key.now));
            let new = world.file("new key", doors::hexadecimal(&world.admin_key.next));
            world.cardea(&[
                "admin",
                "change-key",
                CARD,
                "--admin-key-file",
                &old,
                "--new-key-file",
                &new,
            ])
        }),
    ],
    stride: 4,
};

/// Whether the card is in its reader always, and whether its PIN is typed at the agent.
const SETTINGS: Operation = Operation {
    name: "change of settings",
    prepare: |world| set(world, false).map(drop).unwrap(),
    truth: |world| match doors::shown(world) {
        (true, Visibility::OwnerSession) => Truth::New,
        (false, Visibility::Always) => Truth::Old,
        _ => Truth::Broken,
    },
    happened: |_| {},
    doors: &[
        (SOCKET, |world| told(set(world, true))),
        (COMMAND_LINE, |world| {
            world.cardea(&[
                "card",
                "set",
                CARD,
                "--pin-pad",
                "on",
                "--reader",
                "owner-session",
            ])
        }),
    ],
    stride: 1,
};

const RENAMING: Operation = Operation {
    name: "change of the card's name",
    prepare: |world| {
        let path = doors::card_path(world);
        world
            .bus()
            .call(&path, "Provisioning.SetFriendlyName", &CARD)
            .unwrap();
        world.count = 0;
    },
    truth: |world| {
        let path = world.bus_path.clone();
        let name = world.bus().text(&path, "Card", "FriendlyName");
        Truth::of(name == CARD, name == "renamed")
    },
    happened: |world| {
        let path = world.bus_path.clone();
        world
            .bus()
            .call(&path, "Provisioning.SetFriendlyName", &CARD)
            .unwrap();
    },
    doors: &[(BUS, |world| {
        world.bus_path = doors::card_path(world);
        doors::bus(world, "Provisioning.SetFriendlyName", &"renamed")
    })],
    stride: 1,
};

fn set(
    world: &World,
    new: bool,
) -> Result<cardea_client::message::Reply, cardea_client::message::Failure> {
    world.ask_card(CardRequest::Configure {
        pin_pad: Some(new),
        visibility: Some(if new {
            Visibility::OwnerSession
        } else {
            Visibility::Always
        }),
    })
}

fn is_admin_key(world: &World, key: &str) -> bool {
    match world.ask_card(CardRequest::VerifyAdminKey { key: secret(key) }) {
        Ok(_) => true,
        Err(failure) if failure.kind == FailureKind::AdminWrong => false,
        // Which of two keys works takes one wrong answer, far from those after which the next one has to wait.
        Err(failure) => panic!("{failure:?}"),
    }
}

#[test]
fn answers_about_administration_over_socket_and_command_line_are_true() {
    let mut world = World::empty().with_card();
    walk(&mut world, OPERATIONS, &[SOCKET, COMMAND_LINE]);
}

#[test]
fn answers_about_administration_over_the_reader_are_true() {
    let mut world = World::empty().with_card();
    walk(&mut world, OPERATIONS, &[READER]);
}

#[test]
fn answers_about_administration_over_the_bus_are_true() {
    let mut world = World::on_bus().with_card();
    walk(&mut world, OPERATIONS, &[BUS]);
}
