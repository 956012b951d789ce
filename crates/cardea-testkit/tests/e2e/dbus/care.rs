//! Bad input, and whoever vanishes in the middle: a named error, and nothing half done.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::OwnedFd;

use cardea_testkit::bus::{BusClient, Dictionary, ROOT, SERVICE, option, secret, secret_option};
use cardea_testkit::process::wait_for;
use zbus::{OwnedObjectPath, as_variant};

use super::Bench;
use super::agent::{Agent, refuse, reply};
use super::bench::{NEW_PIN, OWNER, PIN, STRANGER, created, short_pins};

fn change(client: &BusClient, card: &str, old: zbus::OwnedFd, new: zbus::OwnedFd) -> String {
    match client.call(card, "Provisioning.ChangePin", &(old, new)) {
        Ok(_) => "done".to_owned(),
        Err(refusal) => refusal.0,
    }
}

fn options(pin: &[u8]) -> Dictionary {
    [
        option("admin-key", "random"),
        secret_option("pin-fd", pin),
        option("pin-policy", short_pins()),
        option("owner", OWNER),
    ]
    .into()
}

#[test]
fn descriptors_that_are_no_secrets_are_refused() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let owner = bench.client(OWNER);
    let file = |path: &str| zbus::OwnedFd::from(OwnedFd::from(std::fs::File::open(path).unwrap()));
    let endless = || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::thread::spawn(move || while writer.write_all(&[b'1'; 4096]).is_ok() {});
        zbus::OwnedFd::from(OwnedFd::from(reader))
    };
    for descriptor in [
        secret(b""),
        file("/dev/zero"),
        file("/etc/passwd"),
        endless(),
        secret(&[b'1'; 300]),
    ] {
        assert_eq!(
            change(&owner, &card, descriptor, secret(NEW_PIN)),
            "InvalidArgument"
        );
    }
    // Somebody who keeps the other end open.
    let (reader, writer) = std::io::pipe().unwrap();
    let silent = OwnedFd::from(reader).into();
    assert_eq!(
        change(&owner, &card, silent, secret(NEW_PIN)),
        "InvalidArgument"
    );
    drop(writer);
    assert_eq!(owner.number(&card, "Card", "PinTriesLeft"), 5);
    assert_eq!(change(&owner, &card, secret(PIN), secret(NEW_PIN)), "done");
}

#[test]
fn calls_that_are_none_have_the_bus_own_errors() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let owner = bench.client(OWNER);
    let name = |result: Result<zbus::Message, (String, String)>| {
        let (name, _) = result.unwrap_err();
        name.strip_prefix("org.freedesktop.DBus.Error.")
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        name(owner.call(&card, "Provisioning.Destroy", &())),
        "UnknownMethod"
    );
    assert_eq!(
        name(owner.call(&card, "Manager.CreateCard", &())),
        "UnknownInterface"
    );
    assert_eq!(
        name(owner.call(&card, "Provisioning.ChangePin", &("271828", "314159"))),
        "InvalidArgs"
    );
    assert_eq!(
        name(owner.call("/org/cardea/Other", "Manager.CreateCard", &())),
        "UnknownInterface"
    );
    let get = "org.freedesktop.DBus.Properties.Get";
    let unknown = ("org.cardea.VirtualSmartCard1.Card", "Pin");
    assert_eq!(name(owner.call(&card, get, &unknown)), "UnknownProperty");
    let set = (
        "org.cardea.VirtualSmartCard1.Card",
        "Owner",
        zbus::Variant::from(STRANGER),
    );
    assert_eq!(
        name(owner.call(&card, "org.freedesktop.DBus.Properties.Set", &set)),
        "PropertyReadOnly"
    );
    owner
        .call(&card, "org.freedesktop.DBus.Peer.Ping", &())
        .unwrap();
}

#[test]
fn call_that_brings_too_much_is_refused_before_it_is_decoded() {
    let bench = Bench::new();
    let root = bench.client(0);
    let refused = |member: &str, result: Result<zbus::Message, (String, String)>| {
        let (name, _) = result.unwrap_err();
        assert_eq!(
            name, "org.freedesktop.DBus.Error.LimitsExceeded",
            "{member}"
        );
    };
    let before = bench.daemon.peak_memory();
    // As it is: in a dictionary of values each byte would be one of them.
    let padding = vec![0_u8; 8 << 20];
    let large = HashMap::from([("padding", as_variant::Serialize(&padding))]);
    refused(
        "options",
        root.call(ROOT, "Manager.CreateCard", &("card", large)),
    );
    let grown = bench.daemon.peak_memory().saturating_sub(before);
    assert!(grown < 100 << 10, "{grown} KiB for 8 MiB");

    let descriptors: Vec<_> = (0..15).map(|_| secret(PIN)).collect();
    for member in ["Manager.ResetTpmLockout", "Manager.GetCardByReader"] {
        refused(member, root.call(ROOT, member, &descriptors));
    }
    let path = "x".repeat(5000);
    refused(
        "path",
        root.call(&format!("/{path}"), "Manager.GetCardByReader", &"x"),
    );
    root.call(ROOT, "org.freedesktop.DBus.Peer.Ping", &())
        .unwrap();
}

#[test]
fn options_of_any_type_are_decoded_into_what_they_may_be() {
    let bench = Bench::new();
    let root = bench.client(0);
    // As long as it may be, and as an option of no type that there is.
    let mut padded = options(PIN);
    padded.extend([option("padding", vec![7_u32; 3900])]);
    let refused = root
        .call(ROOT, "Manager.CreateCard", &("card", padded))
        .unwrap_err();
    assert_eq!(refused.0, "InvalidArgument");
    assert!(refused.1.contains("padding"), "{}", refused.1);
    let many = (0..40).map(|number| option(&format!("x{number}"), number));
    let mut options = options(PIN);
    options.extend(many);
    let refused = root
        .call(ROOT, "Manager.CreateCard", &("card", options))
        .unwrap_err();
    assert_eq!(refused.0, "org.freedesktop.DBus.Error.InvalidArgs");
}

#[test]
fn operation_that_panics_ends_with_an_error_and_the_service_goes_on() {
    let mut bench = Bench::new();
    bench
        .daemon
        .wrap(&["env", "CARDEA_FAULT_POINT=panic:create-seated"]);
    bench.daemon.restart();
    bench.await_service();
    let root = bench.client(0);
    let create = ("card", options(PIN));
    let operation: OwnedObjectPath = root.get(ROOT, "Manager.CreateCard", &create).unwrap();
    let (ok, error, _) = root.finished(operation.as_str());
    assert!(!ok && error == "Failed", "{error}");
    let list = bench.daemon.cardea(&["card", "list"]);
    assert!(list.text.contains("card"), "{}", list.text);
    root.call(ROOT, "org.freedesktop.DBus.Peer.Ping", &())
        .unwrap();
}

#[test]
fn wrong_options_make_no_card() {
    let bench = Bench::new();
    let root = bench.client(0);
    let with = |further: Vec<(String, zbus::OwnedVariant)>| {
        let mut options = options(PIN);
        options.extend(further);
        options
    };
    for (options, expected) in [
        (with(vec![option("pin", "271828")]), "InvalidArgument"),
        (with(vec![option("pin-fd", "271828")]), "InvalidArgument"),
        (
            with(vec![
                option("admin-key", "supplied"),
                secret_option("admin-key-fd", &[1; 23]),
            ]),
            "InvalidArgument",
        ),
        (
            with(vec![secret_option("puk-fd", &[b'1'; 1000])]),
            "InvalidArgument",
        ),
        (
            with(vec![option("attestation", "aik-and-certificate")]),
            "NotSupported",
        ),
        (
            with(vec![option("attestation", "certificate")]),
            "InvalidArgument",
        ),
    ] {
        let refused = root
            .call(ROOT, "Manager.CreateCard", &("card", options))
            .unwrap_err();
        assert_eq!(refused.0, expected);
    }
    for name in ["", "a\nb", &"x".repeat(4096)] {
        let refused = root
            .call(ROOT, "Manager.CreateCard", &(name, options(PIN)))
            .unwrap_err();
        assert_eq!(refused.0, "InvalidArgument");
    }
    // What only the card can say is the operation's end.
    let operation: OwnedObjectPath = root
        .get(ROOT, "Manager.CreateCard", &("card", options(b"123")))
        .unwrap();
    let (ok, error, _) = root.finished(operation.as_str());
    assert!(!ok && error == "PinPolicy", "{error}");
    let list = bench.daemon.cardea(&["card", "list"]);
    assert!(list.text.contains("no cards"), "{}", list.text);
}

#[test]
fn operation_that_is_cancelled_leaves_no_card() {
    let bench = Bench::new();
    let root = bench.client(0);
    let (cancel, cancelled) = std::sync::mpsc::channel();
    let agent = Agent::new(&bench, 0, move |client, call| {
        // It is cancelled meanwhile; the answer comes all the same.
        cancelled.recv().unwrap();
        reply(client, call, &secret(PIN));
        false
    });
    let mut options = options(PIN);
    options.remove("pin-fd");
    let operation: OwnedObjectPath = root
        .get(ROOT, "Manager.CreateCard", &("card", options))
        .unwrap();
    root.call(operation.as_str(), "Operation.Cancel", &())
        .unwrap();
    cancel.send(()).unwrap();
    let (ok, error, _) = root.finished(operation.as_str());
    assert!(!ok && error == "Cancelled", "{error}");
    agent.done();
    let list = bench.daemon.cardea(&["card", "list"]);
    assert!(list.text.contains("no cards"), "{}", list.text);
}

#[test]
fn agents_that_lie_hang_or_die_cost_no_try() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let owner = bench.client(OWNER);
    let request = |bench: &Bench| {
        let client = bench.client(OWNER);
        let done =
            client.get::<bool, _>(&card, "Provisioning.RequestPinChange", &Dictionary::new());
        done.map_err(|refusal| refusal.0)
    };
    // A text in place of a descriptor.
    let liar = Agent::new(&bench, OWNER, |client, call| {
        zruntime::block_on(client.connection.reply(&call.header(), &"271828")).unwrap();
        false
    });
    assert_eq!(request(&bench), Err("NoAgent".into()));
    liar.done();
    // An endless descriptor.
    let endless = Agent::new(&bench, OWNER, |client, call| {
        let zeros = OwnedFd::from(std::fs::File::open("/dev/zero").unwrap());
        reply(client, call, &zeros.into());
        false
    });
    assert_eq!(request(&bench), Err("NoAgent".into()));
    endless.done();
    // Values that cannot be right, again and again.
    let guesser = Agent::typing(
        &bench,
        OWNER,
        &[("pin", b"1"), ("pin", b"2"), ("pin", b"3")],
    );
    assert_eq!(request(&bench), Err("NoAgent".into()));
    guesser.done();
    // An error of its own.
    let broken = Agent::new(&bench, OWNER, |client, call| {
        refuse(client, call, &format!("{SERVICE}.Error.Failed"));
        false
    });
    assert_eq!(request(&bench), Err("NoAgent".into()));
    broken.done();
    // It dies with the question.
    let dead = Agent::new(&bench, OWNER, |client, _| {
        zruntime::block_on(client.connection.clone().close()).unwrap();
        false
    });
    assert_eq!(request(&bench), Err("NoAgent".into()));
    dead.done();
    assert_eq!(owner.number(&card, "Card", "PinTriesLeft"), 5);
}

#[test]
fn question_ends_with_the_client_that_wanted_it() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let hanging = Agent::new(&bench, OWNER, |_, _| true);
    let client = bench.client(OWNER);
    let connection = client.connection.clone();
    let path = card.clone();
    let waiting = std::thread::spawn(move || {
        let options = Dictionary::new();
        let service = Some(SERVICE);
        let interface = format!("{SERVICE}.Provisioning");
        let call = client.connection.call_method(
            service,
            path.as_str(),
            Some(interface.as_str()),
            "RequestPinChange",
            &options,
        );
        zruntime::block_on(call).is_err()
    });
    assert_eq!(hanging.asked.recv().unwrap(), "pin");
    zruntime::block_on(connection.close()).unwrap();
    assert_eq!(hanging.asked.recv().unwrap(), "Cancel", "the agent is told");
    assert!(waiting.join().unwrap());
    let owner = bench.client(OWNER);
    assert_eq!(owner.number(&card, "Card", "PinTriesLeft"), 5);
}

#[test]
fn two_callers_race_for_one_card() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let instance = bench.client(0).text(&card, "Card", "InstanceId");
    let racers: Vec<_> = (0..4)
        .map(|_| {
            let (client, instance) = (bench.client(0), instance.clone());
            std::thread::spawn(move || {
                let begun = client.get::<OwnedObjectPath, _>(
                    ROOT,
                    "Manager.DestroyCard",
                    &(instance.as_str(), Dictionary::new()),
                );
                match begun {
                    Ok(operation) => client.finished(operation.as_str()).1,
                    Err((name, _)) => name,
                }
            })
        })
        .collect();
    let mut ends: Vec<String> = racers
        .into_iter()
        .map(|racer| racer.join().unwrap())
        .collect();
    ends.sort();
    assert_eq!(
        ends.iter().filter(|end| end.is_empty()).count(),
        1,
        "{ends:?}"
    );
    assert!(
        ends.iter().all(|end| end.is_empty() || end == "NotFound"),
        "{ends:?}"
    );
}

#[test]
fn one_user_cannot_keep_the_others_out() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let _hanging = Agent::new(&bench, OWNER, |_, _| true);
    let path = zbus::ObjectPath::try_from(card.as_str()).unwrap();
    let clients: Vec<_> = (0..8).map(|_| bench.client(OWNER)).collect();
    for client in &clients {
        for _ in 0..8 {
            let call = zbus::Message::method_call(path.clone(), "RequestPinChange")
                .destination(SERVICE)
                .interface(format!("{SERVICE}.Provisioning"))
                .build(&Dictionary::new())
                .unwrap();
            zruntime::block_on(client.connection.send(&call)).unwrap();
        }
    }
    let owner = bench.client(OWNER);
    wait_for("the owner's calls are too many", || {
        owner
            .properties(&card, "Card")
            .is_err_and(|refused| refused.0 == "Busy")
    });
    let stranger = bench.client(STRANGER);
    for _ in 0..20 {
        stranger.properties(ROOT, "Manager").unwrap();
    }
    drop(clients);
    wait_for("the owner is served again", || {
        owner.properties(&card, "Card").is_ok()
    });
}

#[test]
fn one_client_has_room_for_so_many_challenges() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let owner = bench.client(OWNER);
    let request = || owner.call(&card, "Provisioning.RequestPinReset", &Dictionary::new());
    let refused = (0..100).find_map(|_| request().err()).unwrap();
    assert_eq!(refused.0, "LimitReached");
    let other = bench.client(OWNER);
    other
        .call(&card, "Provisioning.RequestPinReset", &Dictionary::new())
        .unwrap();
}

#[test]
fn after_restarts_the_card_is_as_before_or_after() {
    let mut bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    for round in 0..6 {
        // In the middle of a creation and of a PIN change.
        let maker = bench.client(0);
        let begun = maker.call(ROOT, "Manager.CreateCard", &("second", options(PIN)));
        assert!(begun.is_ok());
        let (owner, path) = (bench.client(OWNER), card.clone());
        let changing = std::thread::spawn(move || {
            let interface = format!("{SERVICE}.Provisioning");
            let values = (secret(PIN), secret(NEW_PIN));
            let call = owner.connection.call_method(
                Some(SERVICE),
                path.as_str(),
                Some(interface.as_str()),
                "ChangePin",
                &values,
            );
            let limit = std::time::Duration::from_secs(20);
            let runtime = zruntime::SharedRuntime::current().unwrap();
            matches!(zruntime::block_on(runtime.timeout(limit, call)), Ok(Ok(_)))
        });
        std::thread::sleep(std::time::Duration::from_millis(4 * round));
        match round % 2 {
            0 => bench.daemon.restart(),
            _ => bench.bus.restart(),
        }
        let acknowledged = changing.join().unwrap();
        bench.await_service();
        let owner = bench.client(OWNER);
        wait_for("the card is there", || {
            owner.properties(&card, "Card").is_ok()
        });
        let changed = change(&owner, &card, secret(NEW_PIN), secret(PIN)) == "done";
        assert!(
            changed || !acknowledged,
            "an acknowledged PIN is not the card's"
        );
        if !changed {
            assert_eq!(change(&owner, &card, secret(PIN), secret(NEW_PIN)), "done");
            assert_eq!(change(&owner, &card, secret(NEW_PIN), secret(PIN)), "done");
        }
        // The second card is whole or not there; then the next one is made.
        let cards = bench.daemon.cardea(&["card", "list", "--json"]);
        let cards: serde_json::Value = serde_json::from_str(&cards.text).unwrap();
        for other in cards.as_array().unwrap() {
            assert_eq!(other["state"], "ready", "{other}");
            if other["name"] == "second" {
                let id = other["card_id"].as_str().unwrap();
                let gone = bench.daemon.cardea(&["card", "destroy", id, "--yes"]);
                assert!(gone.success, "{}", gone.text);
            }
        }
    }
    let root = bench.client(0);
    created(&root, "last", options(PIN));
}
