//! Keys: generated, imported and deleted.

use cardea_client::message::{
    CardRequest, Contents, KeyClass, KeySummary, NewKey, Operation as KeyOperation, PrivateKey,
    Reply, Thing,
};
use cardea_terms::KeyAlgorithm;
use p256::elliptic_curve::sec1::ToSec1Point;

use crate::doors::{self, COMMAND_LINE, PKCS11, READER, SOCKET};
use crate::walk::{Operation, Truth, walk};
use crate::world::{World, secret, told};

pub(crate) const OPERATIONS: &[&Operation] = &[&GENERATION, &IMPORT, &DELETION, &RENAMING];

/// Label of the key that is made or deleted, and the other one that it may get.
const KEY: &str = "key";
const RENAMED: &str = "renamed";

const GENERATION: Operation = Operation {
    name: "key generation",
    prepare: delete_all,
    truth: one_or_none,
    happened: |_| {},
    doors: &[
        (SOCKET, |world| {
            told(world.ask_card(CardRequest::GenerateKey {
                pin: Some(secret(&world.pin.now)),
                key: new_key(),
                algorithm: KeyAlgorithm::P256,
            }))
        }),
        (READER, |world| {
            let generate = vec![0, 0x47, 0, 0, 8, 0xAC, 6, 0x80, 1, 0x0C, 0x83, 1, 0x81, 0];
            world.transmit(&[&key_file(world)[..], &[generate]].concat())
        }),
        (PKCS11, |world| world.pkcs11("", "generate key")),
        (COMMAND_LINE, |world| {
            let words = ["key", "generate", "--algorithm", "p-256", "--label", KEY];
            doors::with_pin(world, &words)
        }),
    ],
    stride: 1,
};

const IMPORT: Operation = Operation {
    name: "key import",
    prepare: delete_all,
    truth: one_or_none,
    happened: |_| {},
    doors: &[
        (SOCKET, |world| {
            let (scalar, x, y) = numbers();
            told(world.ask_card(CardRequest::ImportKey {
                pin: Some(secret(&world.pin.now)),
                key: new_key(),
                material: PrivateKey::Ec {
                    scalar: secret(scalar),
                    x,
                    y,
                },
            }))
        }),
        (READER, |world| {
            let (scalar, x, y) = numbers();
            let sec1 = [
                &[0x30, 0x68, 2, 1, 1, 4, 0x20][..],
                &scalar,
                &[4, 0x41, 4],
                &x,
                &y,
            ];
            let data = [
                &[
                    0x70, 0x77, 0x84, 1, 0x81, 0xA5, 0x72, 0x83, 1, 3, 0x84, 1, 0, 0x87, 0x6A,
                ][..],
                &sec1.concat(),
            ];
            let data = data.concat();
            let length = u8::try_from(data.len()).unwrap();
            let put = [&[0, 0xDB, 0x3F, 0xFF, length][..], &data].concat();
            world.transmit(&[&key_file(world)[..], &[put]].concat())
        }),
        (PKCS11, |world| world.pkcs11("", "import key")),
        (COMMAND_LINE, |world| {
            let (scalar, x, y) = numbers();
            // RFC 5915, with prime256v1.
            let curve = [0xA0, 0x0A, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
            let head = [0x30, 0x77, 2, 1, 1, 4, 0x20];
            let point = [0xA1, 0x44, 3, 0x42, 0, 4];
            let key = [&head[..], &scalar, &curve, &point, &x, &y].concat();
            let key = world.file("key.der", key);
            doors::with_pin(world, &["key", "import", &key, "--label", KEY])
        }),
    ],
    stride: 1,
};

const DELETION: Operation = Operation {
    name: "key deletion",
    prepare: one_key,
    truth: |world| one_or_none(world).opposite(),
    happened: |_| {},
    doors: &[
        (SOCKET, |world| {
            told(world.ask_card(CardRequest::DeleteKey {
                pin: Some(secret(&world.pin.now)),
                reference: keys(world)[0].reference,
            }))
        }),
        (READER, |world| {
            let number = keys(world)[0].reference;
            doors::delete_file(world, [0xB0, number])
        }),
        (PKCS11, |world| world.pkcs11("", "delete key")),
        (COMMAND_LINE, |world| {
            doors::with_pin(world, &["key", "delete", KEY, "--yes"])
        }),
    ],
    stride: 1,
};

const RENAMING: Operation = Operation {
    name: "change of a key's name",
    prepare: one_key,
    truth: |world| {
        let keys = keys(world);
        Truth::of(
            keys[0].label == KEY,
            keys[0].label == RENAMED && keys[0].id == [7, 7],
        )
    },
    happened: delete_all,
    doors: &[
        (SOCKET, |world| {
            told(world.ask_card(CardRequest::Rename {
                pin: Some(secret(&world.pin.now)),
                thing: Thing::Key(keys(world)[0].reference),
                label: Some(RENAMED.into()),
                id: Some(vec![7, 7]),
            }))
        }),
        (PKCS11, |world| world.pkcs11("", "rename key renamed")),
    ],
    stride: 1,
};

fn new_key() -> NewKey {
    NewKey {
        label: Some(KEY.into()),
        class: KeyClass::Session,
        sign_only: false,
        id: None,
    }
}

/// Scalar and point of the key that is imported.
fn numbers() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let key = p256::SecretKey::from_slice(&[0x33; 32]).unwrap();
    let point = key.public_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(32);
    (vec![0x33; 32], x.to_vec(), y.to_vec())
}

/// The PIN, and the key file `81` for a P-256 key, which may be there already.
fn key_file(world: &World) -> Vec<Vec<u8>> {
    let create = [
        0x62, 0x1B, 0x82, 1, 0x18, 0x83, 2, 0xB0, 0x81, 0x8C, 5, 0x8F, 0x10, 0x10, 0x10, 0, 0xA5,
        0x0B, 0xB6, 9, 0x80, 1, 0x1C, 0x83, 1, 0x81, 0x95, 1, 0x40,
    ];
    let create = [&[0, 0xE0, 0, 0, 0x1D][..], &create].concat();
    vec![doors::verify(world), create, vec![0, 0x44, 0, 0]]
}

pub(crate) fn contents(world: &World) -> Contents {
    match world.done_card(CardRequest::Contents { known: 0 }) {
        Reply::Contents { contents, .. } => contents.unwrap(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn keys(world: &World) -> Vec<KeySummary> {
    contents(world).keys
}

/// New: there is one key, and it signs. Old: there is none.
fn one_or_none(world: &mut World) -> Truth {
    match keys(world).as_slice() {
        [] => Truth::Old,
        [key] => {
            let signed = world.ask_card(CardRequest::UseKey {
                pin: Some(secret(&world.pin.now)),
                reference: key.reference,
                operation: KeyOperation::SignEcdsa {
                    digest: vec![1; 32],
                },
            });
            if signed.is_ok() {
                Truth::New
            } else {
                Truth::Broken
            }
        }
        _ => Truth::Broken,
    }
}

pub(crate) fn delete_all(world: &mut World) {
    for key in keys(world) {
        world.done_card(CardRequest::DeleteKey {
            pin: Some(secret(&world.pin.now)),
            reference: key.reference,
        });
    }
    // What the reader's door has made before its key.
    drop(doors::delete_file(world, [0xB0, 0x81]));
}

/// The key [`KEY`] and no other.
pub(crate) fn one_key(world: &mut World) {
    if let [key] = keys(world).as_slice()
        && key.label == KEY
    {
        return;
    }
    delete_all(world);
    world.done_card(CardRequest::GenerateKey {
        pin: Some(secret(&world.pin.now)),
        key: new_key(),
        algorithm: KeyAlgorithm::P256,
    });
}

#[test]
fn answers_about_keys_over_socket_and_command_line_are_true() {
    let mut world = World::empty().with_card();
    walk(&mut world, OPERATIONS, &[SOCKET, COMMAND_LINE]);
}

#[test]
fn answers_about_keys_over_the_reader_are_true() {
    let mut world = World::empty().with_card();
    walk(&mut world, OPERATIONS, &[READER]);
}

#[test]
fn answers_about_keys_over_pkcs11_are_true() {
    let mut world = World::empty().with_card();
    walk(&mut world, OPERATIONS, &[PKCS11]);
}
