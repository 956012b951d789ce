//! PIN and PUK: changed and unblocked.

use cardea_client::message::{Authority, CardRequest, Reference};
use cardea_testkit::bus::secret as pipe;

use crate::doors::{self, BUS, COMMAND_LINE, PKCS11, READER, SOCKET};
use crate::walk::{Door, Operation, Told, Truth, walk};
use crate::world::{CARD, World, secret, told};

pub(crate) const OPERATIONS: &[&Operation] = &[&SAME_LENGTH, &OTHER_LENGTH, &PUK, &UNBLOCK_BY_PUK];

const SAME_LENGTH: Operation = Operation {
    name: "PIN change, same length",
    prepare: |world| world.pin.next = other(&world.pin.now, 6),
    truth: pin_truth,
    happened: |world| world.pin.swap(),
    doors: CHANGES,
    stride: 1,
};

const OTHER_LENGTH: Operation = Operation {
    name: "PIN change, other length",
    prepare: |world| {
        world.pin.next = of_other_length(&world.pin.now, [6, 9]);
    },
    truth: pin_truth,
    happened: |world| world.pin.swap(),
    doors: CHANGES,
    stride: 1,
};

const CHANGES: &[Door] = &[
    (SOCKET, |world| change(world, Reference::Pin)),
    (READER, |world| {
        world.transmit(&[doors::apdu(
            [0, 0x24, 0, 0x80],
            &[&world.pin.now, &world.pin.next],
        )])
    }),
    (BUS, |world| {
        let values = (
            pipe(world.pin.now.as_bytes()),
            pipe(world.pin.next.as_bytes()),
        );
        doors::bus(world, "Provisioning.ChangePin", &values)
    }),
    (PKCS11, |world| {
        world.pkcs11("", &format!("set-pin {}", world.pin.next))
    }),
    (COMMAND_LINE, |world| {
        let (old, new) = files(world, &world.pin.now, &world.pin.next);
        world.cardea(&[
            "pin",
            "change",
            CARD,
            "--pin-file",
            &old,
            "--new-pin-file",
            &new,
        ])
    }),
];

const PUK: Operation = Operation {
    name: "PUK change",
    prepare: |world| {
        world.puk.next = of_other_length(&world.puk.now, [8, 12]);
    },
    truth: |world| world.which(Reference::Puk, &world.puk),
    happened: |world| world.puk.swap(),
    doors: &[
        (SOCKET, |world| change(world, Reference::Puk)),
        (READER, |world| {
            world.transmit(&[doors::apdu(
                [0, 0x24, 0, 0x81],
                &[&world.puk.now, &world.puk.next],
            )])
        }),
        (PKCS11, |world| {
            let action = format!("set-so-pin {}", world.puk.next);
            world.pkcs11(&world.puk.now, &action)
        }),
        (COMMAND_LINE, |world| {
            let (old, new) = files(world, &world.puk.now, &world.puk.next);
            world.cardea(&[
                "puk",
                "change",
                CARD,
                "--puk-file",
                &old,
                "--new-puk-file",
                &new,
            ])
        }),
    ],
    stride: 1,
};

const UNBLOCK_BY_PUK: Operation = Operation {
    name: "unblocking by PUK",
    prepare: |world| world.pin.next = of_other_length(&world.pin.now, [7, 9]),
    truth: pin_truth,
    happened: |world| world.pin.swap(),
    doors: &[
        (SOCKET, |world| {
            told(world.ask_card(CardRequest::UnblockPin {
                by: Authority::Puk(secret(&world.puk.now)),
                new: secret(&world.pin.next),
            }))
        }),
        (READER, |world| {
            world.transmit(&[doors::apdu(
                [0, 0x2C, 0, 0x80],
                &[&world.puk.now, &world.pin.next],
            )])
        }),
        (BUS, |world| {
            let values = (
                pipe(world.puk.now.as_bytes()),
                pipe(world.pin.next.as_bytes()),
            );
            doors::bus(world, "Provisioning.UnblockWithPuk", &values)
        }),
        (PKCS11, |world| {
            world.pkcs11(&world.puk.now, &format!("init-pin {}", world.pin.next))
        }),
        (COMMAND_LINE, |world| {
            let (puk, new) = files(world, &world.puk.now, &world.pin.next);
            world.cardea(&[
                "pin",
                "unblock",
                CARD,
                "--puk-file",
                &puk,
                "--new-pin-file",
                &new,
            ])
        }),
    ],
    stride: 1,
};

/// On a card without PUK.
pub(crate) const UNBLOCK_BY_ADMIN: Operation = Operation {
    name: "unblocking by the administrator",
    prepare: |world| {
        // A card has few challenges.
        world.count += 1;
        if world.count > 12 {
            world.renew();
        }
        world.pin.next = of_other_length(&world.pin.now, [8, 6]);
    },
    truth: pin_truth,
    happened: |world| world.pin.swap(),
    doors: &[
        (SOCKET, |world| {
            let answer = match doors::answered(world) {
                Ok(answer) => answer,
                Err(failed) => return failed,
            };
            told(world.ask_card(CardRequest::UnblockPin {
                by: Authority::Admin(answer),
                new: secret(&world.pin.next),
            }))
        }),
        (READER, |world| {
            let new = doors::apdu([0, 0x2C, 2, 0x80], &[&world.pin.next]);
            doors::administered(world, &[new])
        }),
        (BUS, |world| {
            let request = match doors::bus_object(world, "Provisioning.RequestPinReset") {
                Ok(request) => request,
                Err(told) => return told,
            };
            let response = doors::answer(world, &request.challenge("PinResetRequest"));
            let new = world.pin.next.clone();
            for (member, value) in [
                ("SetResponse", &response[..]),
                ("SetNewPin", new.as_bytes()),
            ] {
                request.call(&format!("PinResetRequest.{member}"), &pipe(value));
            }
            request.told("PinResetRequest.Complete", &())
        }),
        (PKCS11, |world| {
            let key = doors::hexadecimal(&world.admin_key.now);
            world.pkcs11(&key, &format!("init-pin {}", world.pin.next))
        }),
        (COMMAND_LINE, |world| {
            let key = doors::hexadecimal(&world.admin_key.now);
            let (key, new) = files(world, &key, &world.pin.next);
            world.cardea(&[
                "pin",
                "unblock",
                CARD,
                "--admin-key-file",
                &key,
                "--new-pin-file",
                &new,
            ])
        }),
    ],
    stride: 1,
};

fn pin_truth(world: &mut World) -> Truth {
    world.which(Reference::Pin, &world.pin)
}

fn change(world: &World, reference: Reference) -> Told {
    let values = match reference {
        Reference::Pin => &world.pin,
        Reference::Puk => &world.puk,
    };
    told(world.ask_card(CardRequest::ChangePin {
        old: secret(&values.now),
        new: secret(&values.next),
        reference,
    }))
}

/// Another value, of the one of two lengths that the present value does not have: with another length the card's file
/// changes each time, and not in the first run alone.
fn of_other_length(now: &str, [one, another]: [usize; 2]) -> String {
    other(now, if now.len() == one { another } else { one })
}

/// Another value of this length.
fn other(now: &str, length: usize) -> String {
    let digit = if now.starts_with('3') { "4" } else { "3" };
    format!("{digit}{}", "14159265358979".get(..length - 1).unwrap())
}

fn files(world: &World, old: &str, new: &str) -> (String, String) {
    (world.file("old", old), world.file("new", new))
}

#[test]
fn answers_about_pins_over_the_socket_are_true() {
    walk(&mut World::empty().with_card(), OPERATIONS, &[SOCKET]);
}

#[test]
fn answers_about_pins_over_the_command_line_are_true() {
    walk(&mut World::empty().with_card(), OPERATIONS, &[COMMAND_LINE]);
}

#[test]
fn answers_about_pins_over_the_reader_are_true() {
    walk(&mut World::empty().with_card(), OPERATIONS, &[READER]);
}

#[test]
fn answers_about_pins_over_the_bus_are_true() {
    walk(&mut World::on_bus().with_card(), OPERATIONS, &[BUS]);
}

#[test]
fn answers_about_pins_over_pkcs11_are_true() {
    walk(&mut World::empty().with_card(), OPERATIONS, &[PKCS11]);
}

#[test]
fn answers_about_unblocking_by_the_administrator_are_true() {
    let doors = [SOCKET, COMMAND_LINE, READER, PKCS11];
    walk(
        &mut World::empty().with_helped_card(),
        &[&UNBLOCK_BY_ADMIN],
        &doors,
    );
}

#[test]
fn answers_about_unblocking_by_the_administrator_over_the_bus_are_true() {
    walk(
        &mut World::on_bus().with_helped_card(),
        &[&UNBLOCK_BY_ADMIN],
        &[BUS],
    );
}
