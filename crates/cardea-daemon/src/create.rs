//! Making a card, so that a crash at any moment leaves either the whole card or nothing.
//!
//! Order (tpm-design: "writes that touch the TPM and the file"): intent on disk, indices in the TPM, card
//! file, intent removed, slot, answer. What a crash leaves is undone at the next start from the intent.

use std::sync::Arc;

use cardea_card::gids;
use cardea_card::record::{CardId, CardRecord, SecretLengths, Settings, TpmRecord};
use cardea_card::secret::Pin;
use cardea_card::token::Rng;
use cardea_client::message::{CardDetails, CreateCard, Failure, FailureKind, SecretBytes};
use cardea_store::{Intent, IntentKind};
use cardea_tpm::{AdminKey, NewCard};

use crate::ambient::{SystemRng, unix_time};
use crate::failure::{fail, of_store, of_tpm};
use crate::fault;
use crate::host::{Host, lock};
use crate::hosted::{Body, HostedCard, Place, View};
use crate::permission::Caller;
use crate::startup::{indices, open};
use crate::{describe, failure};

/// Shortest PIN and PUK (MS-TPMVSC: a policy may go down to 4).
pub(crate) const MIN_SECRET: usize = 4;

/// Longest PIN that OpenSC 0.23 sends to a GIDS card.
const OPENSC_MAX_PIN: usize = 15;

/// Longest name in bytes.
const MAX_NAME: usize = 127;

/// A request whose values were all checked.
struct Order {
    name: String,
    owner: u32,
    blank: bool,
    lengths: SecretLengths,
    secrets: NewCard,
    warnings: Vec<String>,
}

/// Makes a card and answers with its description.
pub(crate) fn create(
    host: &Host,
    caller: Caller,
    request: CreateCard,
    progress: &mut dyn FnMut(&str),
) -> Result<CardDetails, Failure> {
    let order = check(caller, request)?;
    let _guard = host.provision(progress);
    let mut warnings = order.warnings.clone();
    if host.cards().iter().any(|card| card.name == order.name) {
        warnings.push("another card has this name: use the card id to tell them apart".to_owned());
    }
    let card = make(host, order, progress)?;
    host.add(Arc::clone(&card));
    host.seat_cards();
    if host.slots.slot_of(&card).is_none() {
        warnings.push(format!(
            "no reader: all {} slots are taken (setting `slots`)",
            host.slots.count()
        ));
    }
    tracing::info!(card = %card.selector(), name = card.name, owner = card.owner, by = caller.uid, "card created");
    fault::point("create-seated");
    let mut details = describe::details(host, &card);
    warnings.append(&mut details.warnings);
    details.warnings = warnings;
    Ok(details)
}

fn make(
    host: &Host,
    order: Order,
    progress: &mut dyn FnMut(&str),
) -> Result<Arc<HostedCard>, Failure> {
    let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
    let mut id = [0; 16];
    SystemRng.fill(&mut id);
    let id = CardId::new(id);

    progress("preparing the card");
    let prepared = service
        .prepare_card(&taken(host), order.secrets)
        .map_err(|error| of_tpm(&error))?;
    let intent = Intent {
        card: id,
        kind: IntentKind::Create,
        indices: prepared
            .intent()
            .iter()
            .map(|index| (index.handle, index.policy))
            .collect(),
    };
    fault::point("create-prepared");
    host.store
        .write_intent(&intent)
        .map_err(|error| of_store(&error))?;
    fault::point("create-intent");
    let mut steps = 0;
    let created = service.create_card(prepared, &mut |step| {
        steps += 1;
        fault::point(&format!("create-tpm-{steps}"));
        progress(step);
    });
    let tpm = match created {
        Ok(tpm) => tpm,
        Err(error) => {
            abandon(host, intent);
            return Err(of_tpm(&error));
        }
    };
    fault::point("create-tpm");
    progress("writing the card file");
    let record = record(id, order.name, order.owner, order.lengths, order.blank, tpm);
    if let Err(error) = host.store.create(&record) {
        // The file may be there all the same (a folder that could not be synced): it goes first,
        // because a file without indices is a lost card and indices without a file are named by the intent.
        if let Err(error) = host.store.remove(&host.store.path(id)) {
            tracing::warn!(card = %id, error = failure::chain(&error), "card file not removed");
        }
        abandon(host, intent);
        return Err(of_store(&error));
    }
    fault::point("create-file");
    if let Err(error) = host.store.remove_intent(id) {
        // Harmless: at the next start the file wins.
        tracing::warn!(card = %id, error = failure::chain(&error), "intent not removed");
    }
    fault::point("create-intent-removed");
    let instance = host
        .store
        .instance(id)
        .inspect_err(|error| {
            tracing::warn!(card = %id, error = failure::chain(error), "no instance number");
        })
        .ok();
    let place = Place {
        id: Some(id),
        path: host.store.path(id),
        instance,
    };
    match open(host, &record, &service) {
        Ok(live) => {
            let body = Body::Live(Box::new(live));
            Ok(Arc::new(HostedCard::new(
                place,
                &record,
                body,
                View::ready(),
            )))
        }
        Err(reason) => {
            // The card is on disk and in the TPM; the keeper shows it with the reason.
            let body = Body::Waiting(Box::new(record.clone()));
            let card = HostedCard::new(place, &record, body, View::away());
            host.add(Arc::new(card));
            host.wake_keeper();
            Err(fail(
                FailureKind::Failed,
                format!("card {id} was made but cannot be used: {reason}"),
            ))
        }
    }
}

/// Every handle that some card or interrupted operation names, whether it is in the TPM or not.
fn taken(host: &Host) -> Vec<u32> {
    let mut taken: Vec<u32> = host
        .cards()
        .iter()
        .flat_map(|card| card.handles.clone())
        .collect();
    taken.extend(
        lock(&host.intents)
            .iter()
            .flat_map(|intent| indices(intent).into_iter().map(|index| index.handle)),
    );
    taken
}

/// Creation failed: undefines what is left of it now, or leaves that to the keeper.
fn abandon(host: &Host, intent: Intent) {
    let undone = host
        .tpm
        .service()
        .and_then(|service| service.undo_intent(&indices(&intent)))
        .map_err(|error| failure::chain(&error))
        .and_then(|()| {
            host.store
                .remove_intent(intent.card)
                .map_err(|error| failure::chain(&error))
        });
    if let Err(error) = undone {
        tracing::warn!(card = %intent.card, error, "interrupted creation is undone later");
        lock(&host.intents).push(intent);
        host.wake_keeper();
    }
}

fn record(
    id: CardId,
    name: String,
    owner: u32,
    lengths: SecretLengths,
    blank: bool,
    tpm: TpmRecord,
) -> CardRecord {
    CardRecord {
        id,
        name,
        owner,
        created: unix_time(),
        settings: Settings::default(),
        lengths,
        tpm,
        keys: Vec::new(),
        gids: if blank {
            gids::blank_card()
        } else {
            gids::created_card(id)
        },
        certificates_written: 0,
        provisional: None,
    }
}

fn check(caller: Caller, request: CreateCard) -> Result<Order, Failure> {
    let invalid = |text: String| fail(FailureKind::Invalid, text);
    let name = request.name;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(invalid(format!(
            "a name has 1 to {MAX_NAME} bytes, not {}",
            name.len()
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid("a name has no control characters".into()));
    }
    let owner = request.owner.unwrap_or(caller.uid);
    if owner == u32::MAX {
        return Err(invalid(format!("{owner} is not a user id")));
    }
    let mut warnings = Vec::new();
    let pin = secret("PIN", &request.pin, &mut warnings)?;
    let puk = request
        .puk
        .map(|puk| secret("PUK", &puk, &mut warnings))
        .transpose()?;
    let admin_key = request
        .admin_key
        .map(|key| admin_key(&key, &mut warnings))
        .transpose()?;
    Ok(Order {
        name,
        owner,
        blank: request.blank,
        lengths: SecretLengths {
            pin: vec![pin.len()],
            puk: puk.iter().map(Pin::len).collect(),
        },
        secrets: NewCard {
            pin,
            puk,
            admin_key,
        },
        warnings,
    })
}

fn secret(what: &str, bytes: &SecretBytes, warnings: &mut Vec<String>) -> Result<Pin, Failure> {
    let length = bytes.expose().len();
    if length > OPENSC_MAX_PIN {
        warnings.push(format!(
            "OpenSC cannot enter a {what} of more than {OPENSC_MAX_PIN} bytes"
        ));
    }
    Pin::new(bytes.expose())
        .ok()
        .filter(|_| length >= MIN_SECRET)
        .ok_or_else(|| {
            fail(
                FailureKind::Invalid,
                format!(
                    "a {what} has {MIN_SECRET} to {} bytes, not {length}",
                    Pin::MAX
                ),
            )
        })
}

fn admin_key(bytes: &SecretBytes, warnings: &mut Vec<String>) -> Result<AdminKey, Failure> {
    let key = AdminKey::new(bytes.expose())
        .map_err(|error| fail(FailureKind::Invalid, error.to_string()))?;
    warnings.extend(weakness(bytes.expose()).map(str::to_owned));
    Ok(key)
}

/// Why a key should not be used: known to all, or no more than single DES.
fn weakness(key: &[u8]) -> Option<&'static str> {
    // DES ignores the lowest bit of each byte (FIPS 46-3).
    let same = |one: Option<&[u8]>, other: Option<&[u8]>| {
        one.zip(other)
            .is_some_and(|(one, other)| one.iter().zip(other).all(|(a, b)| a & 0xFE == b & 0xFE))
    };
    let part = |number: usize| key.get(8 * number..8 * number + 8);
    let default: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
    if (0..3).all(|number| same(part(number), Some(default))) {
        Some("the admin key is the default one: everybody knows it")
    } else if same(part(0), part(1)) || same(part(1), part(2)) {
        Some(
            "the admin key is weak: two neighbouring parts are the same, which makes it single DES",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CreateCard {
        CreateCard {
            name: "card".into(),
            pin: SecretBytes::new(b"123456".to_vec()),
            puk: None,
            admin_key: None,
            blank: false,
            owner: None,
        }
    }

    const CALLER: Caller = Caller {
        uid: 1000,
        administrator: true,
        reader: false,
    };

    fn kind(request: CreateCard) -> Option<FailureKind> {
        check(CALLER, request).err().map(|failure| failure.kind)
    }

    #[test]
    fn names_have_1_to_127_bytes_without_control_characters() {
        for (name, good) in [
            ("", false),
            ("x", true),
            ("Käthe's card", true),
            (&*"x".repeat(127), true),
            (&*"x".repeat(128), false),
            (&*"ä".repeat(64), false),
            ("a\nb", false),
            ("a\u{85}b", false),
            ("\0", false),
        ] {
            let name = name.to_owned();
            let result = kind(CreateCard {
                name: name.clone(),
                ..request()
            });
            assert_eq!(result.is_none(), good, "{name:?}");
        }
    }

    #[test]
    fn pins_and_puks_have_4_to_127_bytes_and_long_ones_warn() {
        for (length, good) in [(0, false), (3, false), (4, true), (127, true), (128, false)] {
            let secret = || SecretBytes::new(vec![b'1'; length]);
            let pin = CreateCard {
                pin: secret(),
                ..request()
            };
            let puk = CreateCard {
                puk: Some(secret()),
                ..request()
            };
            assert_eq!(kind(pin).is_none(), good, "PIN of {length}");
            assert_eq!(kind(puk).is_none(), good, "PUK of {length}");
        }
        for (length, warnings) in [(15, 0), (16, 1)] {
            let order = check(
                CALLER,
                CreateCard {
                    pin: SecretBytes::new(vec![b'1'; length]),
                    ..request()
                },
            );
            assert_eq!(order.ok().unwrap().warnings.len(), warnings);
        }
    }

    #[test]
    fn owner_is_the_caller_unless_another_is_named() {
        assert_eq!(check(CALLER, request()).ok().unwrap().owner, 1000);
        let named = CreateCard {
            owner: Some(7),
            ..request()
        };
        assert_eq!(check(CALLER, named).ok().unwrap().owner, 7);
        let nobody = CreateCard {
            owner: Some(u32::MAX),
            ..request()
        };
        assert_eq!(kind(nobody), Some(FailureKind::Invalid));
    }

    #[test]
    fn default_and_weak_admin_keys_are_named() {
        let mut key = [1, 2, 3, 4, 5, 6, 7, 8].repeat(3);
        assert!(weakness(&key).unwrap().contains("default"));
        key[0] ^= 1;
        assert!(weakness(&key).unwrap().contains("default"), "parity bit");
        key[0] ^= 2;
        assert!(weakness(&key).unwrap().contains("single DES"));
        key[16] ^= 2;
        assert_eq!(weakness(&key), None);
        let short = CreateCard {
            admin_key: Some(SecretBytes::new(vec![1; 16])),
            ..request()
        };
        assert_eq!(kind(short), Some(FailureKind::Invalid));
    }
}
