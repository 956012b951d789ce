//! Cards as a whole: created, destroyed, provisioned; and the TPM's own values.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cardea_client::message::{
    CardRequest, CardState, CardSummary, CardsRequest, Hierarchy, Page, Reference, Reply, Request,
    TpmRequest,
};
use cardea_testkit::bus::{Dictionary, ROOT, option, secret as pipe, secret_option};
use zbus::OwnedObjectPath;

use crate::doors::{self, BUS, COMMAND_LINE, SOCKET};
use crate::keys::{keys, one_key};
use crate::walk::{Operation, Told, Truth, walk};
use crate::world::{CARD, World, secret, told};

pub(crate) const OPERATIONS: &[&Operation] = &[
    &CREATION,
    &DESTRUCTION,
    &PROVISIONING,
    &AUTHORISATION,
    &AUTHORISATIONS,
];

/// Card ids that a card has in turn.
const IDS: [&str; 2] = [
    "01234567-89ab-cdef-0123-456789abcdef",
    "89abcdef-0123-4567-89ab-cdef01234567",
];

const CREATION: Operation = Operation {
    name: "creation",
    prepare: |world| destroy(world),
    truth: is_there,
    happened: |_| {},
    doors: &[
        (SOCKET, |world| {
            let order = Box::new(world.order(CARD));
            told(world.ask(&Request::Cards(CardsRequest::Create(order))))
        }),
        (BUS, |world| {
            let policy: HashMap<String, zbus::Variant<'static>> =
                [("min-length".to_owned(), zbus::Variant::from(6_u32))].into();
            let options: Dictionary = [
                option("admin-key", "supplied"),
                secret_option("admin-key-fd", world.admin_key.now.as_bytes()),
                secret_option("pin-fd", world.pin.now.as_bytes()),
                secret_option("puk-fd", world.puk.now.as_bytes()),
                option("pin-policy", policy),
            ]
            .into();
            operation(world, "Manager.CreateCard", &(CARD, options))
        }),
        (COMMAND_LINE, |world| {
            let pin = world.file("pin", &world.pin.now);
            let puk = world.file("puk", &world.puk.now);
            let key = world.file("key", doors::hexadecimal(&world.admin_key.now));
            let key = format!("file:{key}");
            world.cardea(&[
                "card",
                "create",
                "--name",
                CARD,
                "--pin-file",
                &pin,
                "--puk-file",
                &puk,
                "--admin-key",
                &key,
            ])
        }),
    ],
    stride: 3,
};

const DESTRUCTION: Operation = Operation {
    name: "destruction",
    prepare: create,
    truth: |world| is_there(world).opposite(),
    happened: |_| {},
    doors: &[
        (SOCKET, |world| {
            told(world.ask_card(CardRequest::Destroy { owner_auth: None }))
        }),
        (BUS, |world| {
            let instance = match world.done_card(CardRequest::Show) {
                Reply::Card(card) => card.summary.instance_id,
                other => panic!("{other:?}"),
            };
            let options = Dictionary::new();
            operation(world, "Manager.DestroyCard", &(instance.as_str(), options))
        }),
        (COMMAND_LINE, |world| {
            world.cardea(&["card", "destroy", CARD, "--yes"])
        }),
    ],
    stride: 2,
};

/// Erased, with another card id.
const PROVISIONING: Operation = Operation {
    name: "provisioning",
    prepare: |world| {
        create(world);
        one_key(world);
        world.bus_path = doors::card_path(world);
        world.count = u32::from(card_id(world) == IDS[0]);
    },
    truth: |world| {
        let is_new = card_id(world) == IDS[world.count as usize];
        let has_key = keys(world).len() == 1;
        Truth::of(!is_new && has_key, is_new && !has_key)
    },
    happened: |_| {},
    doors: &[(BUS, |world| {
        let context = match doors::bus_object(world, "Provisioning.GetChallengeContext") {
            Ok(context) => context,
            Err(told) => return told,
        };
        let response = doors::answer(world, &context.challenge("ChallengeContext"));
        let values = (pipe(&response), true, IDS[world.count as usize]);
        context.told("ChallengeContext.Provision", &values)
    })],
    stride: 1,
};

/// Of the TPM's owner: no file of ours but the audit's.
const AUTHORISATION: Operation = Operation {
    name: "owner authorisation of the TPM",
    prepare: |world| {
        if are_set(world).0 {
            world.done(&authorisation(Hierarchy::Owner, "owner", ""));
        }
    },
    truth: |world| match are_set(world) {
        (is_set, false) => Truth::of(!is_set, is_set),
        _ => Truth::Broken,
    },
    happened: |world| drop(world.done(&authorisation(Hierarchy::Owner, "owner", ""))),
    doors: &[
        (SOCKET, |world| {
            told(world.ask(&authorisation(Hierarchy::Owner, "", "owner")))
        }),
        (COMMAND_LINE, |world| {
            let file = world.file("owner", "owner");
            let words = ["tpm", "provision", "--yes", "--only", "owner"];
            world.cardea(&[&words[..], &["--owner-auth-file", &file]].concat())
        }),
    ],
    stride: 1,
};

/// Of the TPM's owner and its lockout, after each other.
const AUTHORISATIONS: Operation = Operation {
    name: "both authorisations of the TPM",
    prepare: |world| {
        let (owner, lockout) = are_set(world);
        for (is_set, hierarchy) in [(owner, Hierarchy::Owner), (lockout, Hierarchy::Lockout)] {
            if is_set {
                world.done(&authorisation(hierarchy, "both", ""));
            }
        }
    },
    truth: |world| match are_set(world) {
        (false, false) => Truth::Old,
        (true, true) => Truth::New,
        _ => Truth::Broken,
    },
    happened: |_| {},
    doors: &[(COMMAND_LINE, |world| {
        let file = world.file("both", "both");
        let files = ["--owner-auth-file", &file, "--lockout-auth-file", &file];
        world.cardea(&[&["tpm", "provision", "--yes"][..], &files].concat())
    })],
    stride: 1,
};

fn authorisation(hierarchy: Hierarchy, old: &str, new: &str) -> Request {
    Request::Tpm(TpmRequest::SetHierarchyAuth {
        hierarchy,
        old: secret(old),
        new: secret(new),
    })
}

/// Whether the owner's and the lockout's are set.
fn are_set(world: &World) -> (bool, bool) {
    match world.done(&Request::Tpm(TpmRequest::Status)) {
        Reply::Tpm(status) => (status.owner_auth_set, status.lockout_auth_set),
        other => panic!("{other:?}"),
    }
}

fn card_id(world: &World) -> String {
    world.bus().text(&world.bus_path, "Card", "CardId")
}

/// A long operation on the bus, to its end.
fn operation<B>(world: &World, member: &str, body: &B) -> Told
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    let client = world.bus();
    let begun: Result<OwnedObjectPath, _> = client.get(ROOT, member, body);
    match begun {
        Ok(path) => match client.finished(path.as_str()) {
            (true, ..) => Told::Done,
            (false, error, _) => {
                let text = client.text(path.as_str(), "Operation", "ErrorMessage");
                Told::Failed(format!("{error}: {text}"))
            }
        },
        refused => doors::refused(refused),
    }
}

pub(crate) fn create(world: &mut World) {
    if cards(world).is_empty() {
        world.create_card();
    }
}

pub(crate) fn destroy(world: &mut World) {
    if !cards(world).is_empty() {
        world.done_card(CardRequest::Destroy { owner_auth: None });
    }
}

pub(crate) fn cards(world: &World) -> Vec<CardSummary> {
    match world.done(&Request::Cards(CardsRequest::List { from: None })) {
        Reply::Cards(Page { entries, .. }) => entries,
        other => panic!("{other:?}"),
    }
}

fn indices(world: &World) -> usize {
    match world.done(&Request::Tpm(TpmRequest::ListIndices { from: None })) {
        Reply::Indices(Page { entries, .. }) => entries.len(),
        other => panic!("{other:?}"),
    }
}

/// New: the card is there, with its secrets and its indices. Old: nothing of it is there. What the daemon does by
/// itself after a failure may take a moment.
fn is_there(world: &mut World) -> Truth {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let (cards, indices) = (cards(world), indices(world));
        match (cards.as_slice(), indices) {
            ([], 0) => return Truth::Old,
            ([card], 3) if card.state == CardState::Ready => {
                let works = world.takes(Reference::Pin, &world.pin.now)
                    && world.takes(Reference::Puk, &world.puk.now);
                return if works { Truth::New } else { Truth::Broken };
            }
            _ => {}
        }
        if Instant::now() > end {
            eprintln!("{cards:?}, {indices} indices");
            return Truth::Broken;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn answers_about_cards_over_the_socket_are_true() {
    walk(&mut World::empty(), OPERATIONS, &[SOCKET]);
}

#[test]
fn answers_about_cards_over_the_command_line_are_true() {
    walk(&mut World::empty(), OPERATIONS, &[COMMAND_LINE]);
}

#[test]
fn answers_about_cards_over_the_bus_are_true() {
    walk(&mut World::on_bus(), OPERATIONS, &[BUS]);
}
