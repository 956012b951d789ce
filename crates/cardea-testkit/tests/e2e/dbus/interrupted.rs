//! The daemon or the bus ends in the middle of each operation: the card is as before or after, and the next
//! operation works.

use std::time::Duration;

use cardea_testkit::bus::{BusClient, Dictionary, ROOT, SERVICE, secret, secret_option};
use cardea_testkit::process::wait_for;
use zbus::OwnedObjectPath;

use super::Bench;
use super::bench::{ADMIN_KEY, NEW_PIN, OWNER, PIN, PUK};

const NEW_KEY: &[u8; 24] = b"another-admin-key-24byte";
const OLD_ID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const NEW_ID: &str = "89abcdef-0123-4567-89ab-cdef01234567";

/// The end of a call that may be cut off; absent when it was.
fn cut<B>(client: &BusClient, path: &str, member: &str, body: &B) -> Option<bool>
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    let (interface, member) = member.split_once('.').unwrap();
    let interface = format!("{SERVICE}.{interface}");
    let call =
        client
            .connection
            .call_method(Some(SERVICE), path, Some(interface.as_str()), member, body);
    let runtime = zruntime::SharedRuntime::current().unwrap();
    match zruntime::block_on(runtime.timeout(Duration::from_secs(10), call)) {
        Ok(Ok(_)) => Some(true),
        Ok(Err(zbus::Error::MethodError(name, ..))) if name.contains("cardea") => Some(false),
        _ => None,
    }
}

fn answer(challenge: &[u8], key: &[u8; 24]) -> [u8; 8] {
    let mut block: [u8; 8] = challenge.try_into().unwrap();
    cardea_tpm::AdminKey::new(key).unwrap().encrypt(&mut block);
    block
}

fn challenge(client: &BusClient, path: &str, interface: &str) -> Vec<u8> {
    let value = client.property(path, interface, "Challenge").unwrap();
    value.try_into().unwrap()
}

/// A context, and the answer to it under a key.
fn context(client: &BusClient, card: &str, key: &[u8; 24]) -> (String, [u8; 8]) {
    let path: OwnedObjectPath = client
        .get(card, "Provisioning.GetChallengeContext", &())
        .unwrap();
    let challenge = challenge(client, path.as_str(), "ChallengeContext");
    (path.to_string(), answer(&challenge, key))
}

fn is_admin_key(client: &BusClient, card: &str, key: &[u8; 24]) -> bool {
    let (path, answer) = context(client, card, key);
    client
        .get(&path, "ChallengeContext.VerifyResponse", &secret(&answer))
        .unwrap()
}

fn is_pin(client: &BusClient, card: &str, pin: &[u8]) -> bool {
    let same = (secret(pin), secret(pin));
    client.call(card, "Provisioning.ChangePin", &same).is_ok()
}

/// Prepares and begins an operation, ends the daemon or the bus under it, and gives what the caller was told.
fn interrupt<P: Send + 'static>(
    bench: &mut Bench,
    round: u64,
    prepare: impl FnOnce(&BusClient) -> P,
    operation: impl FnOnce(&BusClient, P) -> Option<bool> + Send + 'static,
) -> Option<bool> {
    let client = bench.client(0);
    let prepared = prepare(&client);
    let begun = std::thread::spawn(move || operation(&client, prepared));
    std::thread::sleep(Duration::from_millis(round * 3));
    match round % 2 {
        0 => bench.daemon.restart(),
        _ => bench.bus.restart(),
    }
    let told = begun.join().unwrap();
    bench.await_service();
    told
}

/// Where it was acknowledged it is done; where it is not done it was not acknowledged.
fn consistent(told: Option<bool>, before: bool, after: bool) {
    assert!(before != after, "neither before nor after, or both");
    assert!(told != Some(true) || after, "acknowledged, and not done");
}

/// Until the restarted daemon has its card.
fn root(bench: &Bench, card: &str) -> BusClient {
    let root = bench.client(0);
    wait_for("the card is ready", || {
        let status = root.property(card, "Card", "Status");
        status.is_ok_and(|status| <&str>::try_from(&status) == Ok("ready"))
    });
    root
}

#[test]
fn name_and_card_id_are_the_old_or_the_new_ones() {
    let mut bench = Bench::new();
    let card = bench.card(
        "old",
        [cardea_testkit::bus::option("card-id", OLD_ID)].into(),
    );
    let (mut name, mut id) = (["old", "new"], [OLD_ID, NEW_ID]);
    for round in 0..4 {
        let (path, next) = (card.clone(), name[1]);
        let told = interrupt(
            &mut bench,
            round,
            |_| (),
            move |client, ()| cut(client, &path, "Provisioning.SetFriendlyName", &next),
        );
        let seen = root(&bench, &card).text(&card, "Card", "FriendlyName");
        consistent(told, seen == name[0], seen == name[1]);
        if seen == name[1] {
            name.reverse();
        }
        let next = id[1];
        let authenticate = |client: &BusClient| context(client, &card, ADMIN_KEY);
        let told = interrupt(
            &mut bench,
            round,
            authenticate,
            move |client, (context, response)| {
                cut(
                    client,
                    &context,
                    "ChallengeContext.Provision",
                    &(secret(&response), true, next),
                )
            },
        );
        let seen = root(&bench, &card).text(&card, "Card", "CardId");
        consistent(told, seen == id[0], seen == id[1]);
        if seen == id[1] {
            id.reverse();
        }
    }
    assert!(is_pin(&bench.client(0), &card, PIN));
}

#[test]
fn admin_key_is_the_old_or_the_new_one() {
    let mut bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let mut keys = [*ADMIN_KEY, *NEW_KEY];
    for round in [0, 1, 8, 21] {
        let [old, new] = keys;
        let authenticate = |client: &BusClient| context(client, &card, &old);
        let told = interrupt(
            &mut bench,
            round,
            authenticate,
            move |client, (context, response)| {
                let values = (secret(&response), secret(&new));
                cut(
                    client,
                    &context,
                    "ChallengeContext.ChangeAdministrativeKey",
                    &values,
                )
            },
        );
        let root = root(&bench, &card);
        let after = is_admin_key(&root, &card, &keys[1]);
        consistent(told, is_admin_key(&root, &card, &keys[0]), after);
        if after {
            keys.reverse();
        }
    }
}

#[test]
fn pin_is_the_old_or_the_new_one_after_a_reset() {
    let mut bench = Bench::new();
    let helped = bench.card("helped", Dictionary::new());
    let with_puk = bench.card("with puk", [secret_option("puk-fd", PUK)].into());
    let (mut pins, mut others) = ([PIN, NEW_PIN], [PIN, NEW_PIN]);
    for round in 0..4 {
        let next = pins[1];
        let request = |client: &BusClient| {
            let options = Dictionary::new();
            let request: OwnedObjectPath = client
                .get(&helped, "Provisioning.RequestPinReset", &options)
                .unwrap();
            let challenge = challenge(client, request.as_str(), "PinResetRequest");
            let response = secret(&answer(&challenge, ADMIN_KEY));
            for (member, value) in [("SetResponse", response), ("SetNewPin", secret(next))] {
                let member = format!("PinResetRequest.{member}");
                client.call(request.as_str(), &member, &value).unwrap();
            }
            request
        };
        let told = interrupt(&mut bench, round, request, |client, request| {
            cut(client, request.as_str(), "PinResetRequest.Complete", &())
        });
        let client = root(&bench, &helped);
        let after = is_pin(&client, &helped, pins[1]);
        consistent(told, is_pin(&client, &helped, pins[0]), after);
        if after {
            pins.reverse();
        }
        let (path, next) = (with_puk.clone(), others[1]);
        let values = |_: &BusClient| (secret(PUK), secret(next));
        let told = interrupt(&mut bench, round, values, move |client, values| {
            cut(client, &path, "Provisioning.UnblockWithPuk", &values)
        });
        let client = root(&bench, &with_puk);
        let after = is_pin(&client, &with_puk, others[1]);
        consistent(told, is_pin(&client, &with_puk, others[0]), after);
        if after {
            others.reverse();
        }
    }
}

#[test]
fn destruction_is_whole_or_has_not_begun() {
    let mut bench = Bench::new();
    for round in 0..4 {
        let card = bench.card("card", Dictionary::new());
        let client = bench.client(0);
        let instance = client.text(&card, "Card", "InstanceId");
        interrupt(
            &mut bench,
            round,
            |_| (),
            move |client, ()| {
                cut(
                    client,
                    ROOT,
                    "Manager.DestroyCard",
                    &(instance.as_str(), Dictionary::new()),
                )
            },
        );
        // What was begun is finished at the start.
        let list = || {
            let cards = bench.daemon.cardea(&["card", "list", "--json"]);
            serde_json::from_str::<serde_json::Value>(&cards.text).unwrap()
        };
        wait_for("whole or gone", || {
            let cards = list();
            let mut states = cards
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|card| card.get("state"));
            states.all(|state| state == "ready")
        });
        let owner = bench.client(OWNER);
        if owner.properties(&card, "Card").is_ok() {
            assert!(is_pin(&owner, &card, PIN));
            let gone = bench.daemon.cardea(&["card", "destroy", "card", "--yes"]);
            // The bus may have restarted with the operation still at work.
            assert!(gone.success || gone.code == Some(7), "{}", gone.text);
        }
        assert_eq!(list(), serde_json::json!([]));
    }
}
