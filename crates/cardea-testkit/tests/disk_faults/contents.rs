//! Certificates and objects.

use cardea_client::message::{CardRequest, Failure, FailureKind, NewObject, ObjectKind, Reply};

use crate::doors::{self, COMMAND_LINE, PKCS11, READER, SOCKET};
use crate::keys::{contents, keys, one_key};
use crate::walk::{Operation, Told, Truth, walk};
use crate::world::{World, secret, told};

pub(crate) const OPERATIONS: &[&Operation] = &[
    &CERTIFICATE,
    &NO_CERTIFICATE,
    &OBJECT,
    &NO_OBJECT,
    &DATA,
    &FILE,
    &NO_FILE,
];

const CERTIFICATE: Operation = Operation {
    name: "certificate stored",
    prepare: |world| {
        one_key(world);
        take_certificate(world);
        made(world);
    },
    truth: has_certificate,
    happened: |_| {},
    doors: &[
        (SOCKET, |world| told(give_certificate(world))),
        (PKCS11, |world| {
            let file = made(world);
            world.pkcs11("", &format!("certificate {file}"))
        }),
        (COMMAND_LINE, |world| {
            let file = made(world);
            doors::with_pin(world, &["cert", "import", &file])
        }),
    ],
    stride: 1,
};

const NO_CERTIFICATE: Operation = Operation {
    name: "certificate removed",
    prepare: |world| {
        one_key(world);
        if has_certificate(world) == Truth::Old {
            give_certificate(world).unwrap();
        }
    },
    truth: |world| has_certificate(world).opposite(),
    happened: |_| {},
    doors: &[
        (SOCKET, |world| {
            told(world.ask_card(CardRequest::DeleteCertificate {
                pin: Some(secret(&world.pin.now)),
                reference: keys(world)[0].reference,
            }))
        }),
        (PKCS11, |world| world.pkcs11("", "delete-certificate")),
        (COMMAND_LINE, |world| {
            doors::with_pin(world, &["cert", "delete", "key", "--yes"])
        }),
    ],
    stride: 1,
};

const OBJECT: Operation = Operation {
    name: "object stored",
    prepare: |world| take_objects(world),
    truth: has_object,
    happened: |_| {},
    doors: &[
        (SOCKET, |world| told(give_object(world))),
        (PKCS11, |world| world.pkcs11("", "data object")),
    ],
    stride: 1,
};

const NO_OBJECT: Operation = Operation {
    name: "object removed",
    prepare: |world| {
        if has_object(world) == Truth::Old {
            give_object(world).unwrap();
        }
    },
    truth: |world| has_object(world).opposite(),
    happened: |_| {},
    doors: &[
        (SOCKET, |world| {
            told(world.ask_card(CardRequest::DeleteObject {
                pin: Some(secret(&world.pin.now)),
                number: contents(world).objects[0].number,
            }))
        }),
        (PKCS11, |world| world.pkcs11("", "delete-data object")),
    ],
    stride: 1,
};

/// PUT DATA in place of what is there.
const DATA: Operation = Operation {
    name: "data object of a file",
    prepare: |world| {
        assert_eq!(put(world, [0xAA, 0xAA]), Told::Done);
    },
    truth: |world| {
        let mut card = world.reader();
        let found = card(&[0, 0xCB, 0xA0, 0x10, 4, 0x5C, 2, 0xDF, 0x24, 0]);
        Truth::of(
            found == [0xDF, 0x24, 2, 0xAA, 0xAA, 0x90, 0],
            found == [0xDF, 0x24, 2, 0xBB, 0xBB, 0x90, 0],
        )
    },
    happened: |_| {},
    doors: &[(READER, |world| put(world, [0xBB, 0xBB]))],
    stride: 1,
};

const FILE_ID: [u8; 2] = [0xA0, 0x20];

/// A file made: the operation is CREATE FILE.
const FILE: Operation = Operation {
    name: "file created",
    prepare: |world| {
        drop(doors::delete_file(world, FILE_ID));
    },
    truth: has_file,
    happened: |_| {},
    doors: &[(READER, |world| {
        world.transmit(&[doors::verify(world), create_file()])
    })],
    stride: 1,
};

/// And removed: the operation is DELETE FILE.
const NO_FILE: Operation = Operation {
    name: "file removed",
    prepare: |world| {
        drop(world.transmit(&[doors::verify(world), create_file(), vec![0, 0x44, 0, 0]]));
    },
    truth: |world| has_file(world).opposite(),
    happened: |_| {},
    doors: &[(READER, |world| doors::delete_file(world, FILE_ID))],
    stride: 1,
};

fn create_file() -> Vec<u8> {
    let data = [
        0x62, 0x0C, 0x82, 1, 0x39, 0x83, 2, 0xA0, 0x20, 0x8C, 3, 0x03, 0x30, 0,
    ];
    [&[0, 0xE0, 0, 0, 0x0E][..], &data].concat()
}

fn has_file(world: &mut World) -> Truth {
    let mut card = world.reader();
    match card(&doors::select(FILE_ID)).as_slice() {
        [0x90, 0] => Truth::New,
        [0x6A, 0x82] => Truth::Old,
        _ => Truth::Broken,
    }
}

fn put(world: &World, value: [u8; 2]) -> Told {
    let put = [&[0, 0xDB, 0xA0, 0x10, 5, 0xDF, 0x24, 2][..], &value].concat();
    world.transmit(&[doors::verify(world), put])
}

fn has_certificate(world: &mut World) -> Truth {
    let [key] = keys(world).try_into().unwrap();
    let read = world.ask_card(CardRequest::ReadCertificate {
        reference: key.reference,
    });
    match read {
        Ok(Reply::Certificate(_)) if key.certificate => Truth::New,
        Err(Failure {
            kind: FailureKind::NotFound,
            ..
        }) if !key.certificate => Truth::Old,
        _ => Truth::Broken,
    }
}

fn take_certificate(world: &mut World) {
    if has_certificate(world) == Truth::New {
        world.done_card(CardRequest::DeleteCertificate {
            pin: Some(secret(&world.pin.now)),
            reference: keys(world)[0].reference,
        });
    }
}

fn give_certificate(world: &World) -> Result<Reply, Failure> {
    let der = std::fs::read(made(world)).unwrap();
    world.ask_card(CardRequest::StoreCertificate {
        pin: Some(secret(&world.pin.now)),
        reference: keys(world)[0].reference,
        der,
        label: None,
    })
}

/// A certificate of the card's key, which the command line makes: its file.
fn made(world: &World) -> String {
    let key = keys(world)[0].clone();
    let name = format!("{:?}", key.public);
    let known = world.path("certified");
    let path = world.path("certificate.der");
    if std::fs::read_to_string(&known).ok().as_ref() != Some(&name) {
        let words = ["cert", "self-sign", "--key", "key", "--subject", "CN=card"];
        let signed = doors::with_pin(world, &words);
        assert_eq!(signed, Told::Done);
        let read = world.done_card(CardRequest::ReadCertificate {
            reference: key.reference,
        });
        let Reply::Certificate(der) = read else {
            panic!("{read:?}")
        };
        std::fs::write(&path, der).unwrap();
        std::fs::write(&known, name).unwrap();
        world.done_card(CardRequest::DeleteCertificate {
            pin: Some(secret(&world.pin.now)),
            reference: key.reference,
        });
    }
    path.display().to_string()
}

fn give_object(world: &World) -> Result<Reply, Failure> {
    world.ask_card(CardRequest::StoreObject {
        pin: Some(secret(&world.pin.now)),
        object: NewObject {
            kind: ObjectKind::Data,
            label: "object".into(),
            id: Vec::new(),
            application: "test".into(),
            value: vec![7; 300],
        },
    })
}

fn has_object(world: &mut World) -> Truth {
    match contents(world).objects.as_slice() {
        [] => Truth::Old,
        [object] => {
            let read = world.ask_card(CardRequest::ReadObject {
                number: object.number,
            });
            match read {
                Ok(Reply::Certificate(value)) if value == [7; 300] => Truth::New,
                _ => Truth::Broken,
            }
        }
        _ => Truth::Broken,
    }
}

fn take_objects(world: &World) {
    for object in contents(world).objects {
        world.done_card(CardRequest::DeleteObject {
            pin: Some(secret(&world.pin.now)),
            number: object.number,
        });
    }
}

#[test]
fn answers_about_contents_over_socket_and_command_line_are_true() {
    let mut world = World::empty().with_card();
    walk(&mut world, OPERATIONS, &[SOCKET, COMMAND_LINE]);
}

#[test]
fn answers_about_contents_over_the_reader_are_true() {
    let mut world = World::empty().with_card();
    walk(&mut world, OPERATIONS, &[READER]);
}

#[test]
fn answers_about_contents_over_pkcs11_are_true() {
    let mut world = World::empty().with_card();
    walk(&mut world, OPERATIONS, &[PKCS11]);
}
