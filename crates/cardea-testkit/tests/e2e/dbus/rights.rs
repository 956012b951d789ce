//! Who may do what: each right refused and granted, and what is refused is in the audit.

use std::process::Command;

use cardea_testkit::bus::{BusClient, Dictionary, ROOT, SERVICE, option, secret, secret_option};
use cardea_testkit::process::{Outcome, run};

use super::Bench;
use super::bench::{NEW_PIN, OPERATOR, OWNER, PIN, STRANGER};

/// Every method of `Provisioning`, called in the right form: the error's name.
fn every_method(client: &BusClient, card: &str) -> Vec<(&'static str, Result<(), String>)> {
    let name = |refused: (String, String)| refused.0;
    let nothing = Dictionary::new;
    let call = |member: &'static str, done: Result<zbus::Message, (String, String)>| {
        (member, done.map(drop).map_err(name))
    };
    let pair = (secret(b"999999"), secret(NEW_PIN));
    let puk = (secret(b"99999999"), secret(NEW_PIN));
    vec![
        call(
            "ChangePin",
            client.call(card, "Provisioning.ChangePin", &pair),
        ),
        call(
            "UnblockWithPuk",
            client.call(card, "Provisioning.UnblockWithPuk", &puk),
        ),
        call(
            "RequestPinChange",
            client.call(card, "Provisioning.RequestPinChange", &nothing()),
        ),
        call(
            "RequestPinReset",
            client.call(card, "Provisioning.RequestPinReset", &nothing()),
        ),
        call(
            "GetChallengeContext",
            client.call(card, "Provisioning.GetChallengeContext", &()),
        ),
        call(
            "SetFriendlyName",
            client.call(card, "Provisioning.SetFriendlyName", &"other"),
        ),
        call(
            "GetAttestation",
            client.call(
                card,
                "Provisioning.GetAttestation",
                &(vec![0_u8; 20], nothing()),
            ),
        ),
    ]
}

/// The audit's records of refusals: user id, door and card of each.
fn denials(bench: &Bench) -> Vec<(u64, String, Option<String>)> {
    let audit = bench.daemon.cardea(&["audit", "--json"]);
    assert!(audit.success, "{}", audit.text);
    let records = audit
        .text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let word = |record: &serde_json::Value, key: &str| {
        let value = record.get(key)?;
        value.as_str().map(str::to_owned)
    };
    records
        .filter(|record| word(record, "event").as_deref() == Some("denied"))
        .map(|record| {
            let uid = record.get("uid").and_then(serde_json::Value::as_u64);
            let door = word(&record, "door").unwrap();
            (uid.unwrap(), door, word(&record, "card"))
        })
        .collect()
}

fn id_of(card: &str) -> String {
    card.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn card_of_another_is_not_there() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let stranger = bench.client(STRANGER);
    for (member, result) in every_method(&stranger, &card) {
        assert_eq!(
            result,
            Err("org.freedesktop.DBus.Error.UnknownObject".into()),
            "{member}"
        );
    }
    assert!(stranger.properties(&card, "Card").is_err());
    let folder = format!("{ROOT}/cards");
    let seen = stranger.get::<String, _>(
        &folder,
        "org.freedesktop.DBus.Introspectable.Introspect",
        &(),
    );
    assert_eq!(
        seen.unwrap_err().0,
        "org.freedesktop.DBus.Error.UnknownObject"
    );
    let owner = bench.client(OWNER);
    let seen: String = owner
        .get(
            &folder,
            "org.freedesktop.DBus.Introspectable.Introspect",
            &(),
        )
        .unwrap();
    assert!(seen.contains(&id_of(&card)), "{seen}");
    assert_eq!(
        owner.number(&card, "Card", "PinTriesLeft"),
        5,
        "nothing was tried"
    );
    let denied = denials(&bench);
    assert!(
        denied.contains(&(STRANGER.into(), "dbus".into(), Some(id_of(&card)))),
        "{denied:?}"
    );
}

#[test]
fn owner_has_the_rights_of_an_owner() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let owner = bench.client(OWNER);
    let refused = Err("NotAuthorized".to_owned());
    for (member, result) in every_method(&owner, &card) {
        match member {
            "ChangePin" => assert_eq!(result, Err("WrongPin".into())),
            "UnblockWithPuk" => assert_eq!(result, Err("InvalidArgument".into()), "there is none"),
            "RequestPinChange" => assert_eq!(result, Err("NoAgent".into())),
            "RequestPinReset" => assert_eq!(result, Ok(())),
            // Nobody is active without logind, and there the administrator is asked for.
            "GetChallengeContext" | "SetFriendlyName" => assert_eq!(result, refused, "{member}"),
            _ => assert_eq!(result, Err("NotSupported".into()), "{member}"),
        }
    }
    let options: Dictionary = [option("admin-key", "random"), secret_option("pin-fd", PIN)].into();
    let create = owner.call(ROOT, "Manager.CreateCard", &("mine", options));
    assert_eq!(create.unwrap_err().0, "NotAuthorized");
    let lockout = owner.call(ROOT, "Manager.ResetTpmLockout", &secret(b""));
    assert_eq!(lockout.unwrap_err().0, "NotAuthorized");
    let denied = denials(&bench);
    assert!(
        denied
            .iter()
            .any(|(uid, door, _)| *uid == u64::from(OWNER) && door == "dbus")
    );
}

#[test]
fn polkit_lets_an_operator_do_everything() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let operator = bench.client(OPERATOR);
    for (member, result) in every_method(&operator, &card) {
        match member {
            "ChangePin" => assert_eq!(result, Err("WrongPin".into())),
            "UnblockWithPuk" => assert_eq!(result, Err("InvalidArgument".into())),
            "RequestPinChange" => assert_eq!(result, Err("NoAgent".into())),
            "GetAttestation" => assert!(result.is_err(), "no right goes with it"),
            _ => assert_eq!(result, Ok(()), "{member}"),
        }
    }
    // A TPM without authorisation is not in need of one; what counts is that the operator came so far.
    let lockout = operator.call(ROOT, "Manager.ResetTpmLockout", &secret(b""));
    assert!(lockout.is_ok(), "{lockout:?}");
}

/// What polkit's file says of everybody who sits at the machine, for sessions that tests do not have; and somebody who
/// is let at one user's card.
const EVERYBODY_IS_ACTIVE: &str = r#"
polkit.addRule(function(action, subject) {
    var active = ["create-card", "destroy-card", "provision", "rename-card"];
    for (var own in active) {
        if (action.id == "org.cardea.virtualsmartcard." + active[own]) { return polkit.Result.YES; }
    }
    if (action.id == "org.cardea.virtualsmartcard.provision-other" && subject.user == "list" &&
        action.lookup("card") == "card" && action.lookup("owner") == "www-data") { return polkit.Result.YES; }
    return polkit.Result.NOT_HANDLED;
});
"#;

#[test]
fn leave_for_ones_own_card_is_none_for_somebody_elses() {
    let bench = Bench::with_rules(EVERYBODY_IS_ACTIVE);
    let own = bench.card("own", [option("owner", STRANGER)].into());
    let card = bench.card("card", Dictionary::new());
    let stranger = bench.client(STRANGER);
    for (member, result) in every_method(&stranger, &own) {
        if ["GetChallengeContext", "SetFriendlyName"].contains(&member) {
            assert_eq!(result, Ok(()), "{member} of the own card");
        }
    }
    for (member, result) in every_method(&stranger, &card) {
        let unknown = Err("org.freedesktop.DBus.Error.UnknownObject".into());
        assert_eq!(result, unknown, "{member} of somebody else's");
    }
    let operator = bench.client(OPERATOR);
    let challenge = |card: &str| operator.call(card, "Provisioning.GetChallengeContext", &());
    assert!(challenge(&card).is_ok(), "polkit knows card and owner");
    assert!(challenge(&own).is_err());
    let root = bench.client(0);
    let instance = root.text(&card, "Card", "InstanceId");
    let destroy = |instance: &str| {
        let options = Dictionary::new();
        let answer = stranger.call(ROOT, "Manager.DestroyCard", &(instance, options));
        answer.unwrap_err()
    };
    let refused = destroy(&instance);
    assert_eq!(refused.0, "NotAuthorized");
    assert_eq!(
        refused,
        destroy("ROOT\\SMARTCARDREADER\\0815"),
        "as one that does not exist"
    );
    let options = |owner: u32| -> Dictionary {
        let pin = secret_option("pin-fd", PIN);
        let policy = option("pin-policy", super::bench::short_pins());
        [
            option("admin-key", "random"),
            option("owner", owner),
            policy,
            pin,
        ]
        .into()
    };
    let create = stranger.call(ROOT, "Manager.CreateCard", &("new", options(OWNER)));
    assert_eq!(create.unwrap_err().0, "NotAuthorized");
    super::bench::created(&stranger, "new", options(STRANGER));
    let instance = root.text(&own, "Card", "InstanceId");
    let body = (instance.as_str(), Dictionary::new());
    let operation: zbus::OwnedObjectPath =
        stranger.get(ROOT, "Manager.DestroyCard", &body).unwrap();
    let (ok, error, _) = stranger.finished(operation.as_str());
    assert!(ok, "{error}");
    assert!(root.properties(&own, "Card").is_err());
    assert!(
        root.properties(&card, "Card").is_ok(),
        "the other one is there"
    );
}

/// One user makes cards of their own, another one for one other user.
const CREATE_ONLY: &str = r#"
polkit.addRule(function(action, subject) {
    if (action.id == "org.cardea.virtualsmartcard.create-card" && subject.user == "backup") {
        return polkit.Result.YES;
    }
    if (action.id == "org.cardea.virtualsmartcard.create-card-other" && subject.user == "list" &&
        action.lookup("card") == "new" && action.lookup("owner") == "www-data") { return polkit.Result.YES; }
    return polkit.Result.NOT_HANDLED;
});
"#;

#[test]
fn card_for_somebody_else_needs_one_leave_and_each_refusal_is_in_the_audit() {
    let bench = Bench::with_rules(CREATE_ONLY);
    let options = |owner: u32| -> Dictionary {
        let pin = secret_option("pin-fd", PIN);
        let policy = option("pin-policy", super::bench::short_pins());
        let owner = option("owner", owner);
        [option("admin-key", "random"), owner, policy, pin].into()
    };
    let (operator, stranger) = (bench.client(OPERATOR), bench.client(STRANGER));
    let card = super::bench::created(&operator, "new", options(OWNER));
    assert_eq!(bench.client(OWNER).number(&card, "Card", "Owner"), OWNER);
    super::bench::created(&stranger, "own", options(STRANGER));
    let create = |client: &BusClient, owner| {
        let refused = client.call(ROOT, "Manager.CreateCard", &("new", options(owner)));
        refused.unwrap_err().0
    };
    let mut expected = Vec::new();
    // A user each: what is refused to one process again within a minute is counted, and not recorded again.
    for (uid, owner) in [(OPERATOR, STRANGER), (OWNER, OWNER), (STRANGER, OWNER)] {
        let refused = create(&bench.client(uid), owner);
        assert_eq!(refused, "NotAuthorized", "{uid} for {owner}");
        expected.push((u64::from(uid), "dbus".to_owned(), None));
        assert_eq!(denials(&bench), expected, "{uid} for {owner}");
    }
    let refused = create(&operator, OPERATOR);
    assert_eq!(
        refused, "NotAuthorized",
        "leave for others is none for one's own"
    );
    let instance = bench.client(0).text(&card, "Card", "InstanceId");
    let body = (instance.as_str(), Dictionary::new());
    let refused = stranger.call(ROOT, "Manager.DestroyCard", &body);
    assert_eq!(refused.unwrap_err().0, "NotAuthorized");
    expected.push((STRANGER.into(), "dbus".into(), Some(id_of(&card))));
    assert_eq!(denials(&bench), expected, "the card that was named");
}

/// The service's user in the installed unit is not root, and polkit answers few about other users.
#[test]
fn polkit_answers_the_user_that_the_service_runs_as() {
    const SERVICE_USER: (u32, &str) = (5, "games");
    let mut bench = Bench::new();
    let file = bench
        .folder
        .path()
        .join("bus/actions/org.cardea.virtualsmartcard.policy");
    let policy = std::fs::read_to_string(&file).unwrap();
    let owner = format!("unix-user:{}<", SERVICE_USER.1);
    std::fs::write(&file, policy.replace("unix-user:cardea<", &owner)).unwrap();
    bench.bus.restart();
    let stranger = bench.client(STRANGER);
    let ask = |uid: u32, action: &str| {
        let subject: Dictionary = [option("name", stranger.name())].into();
        let details = [("card", "card"), ("owner", "www-data")];
        let details: std::collections::HashMap<_, _> = details.into();
        let action = format!("org.cardea.virtualsmartcard.{action}");
        let body = (("system-bus-name", subject), action, details, 0_u32, "");
        bench.client(uid).call_to(
            "org.freedesktop.PolicyKit1",
            "/org/freedesktop/PolicyKit1/Authority",
            "org.freedesktop.PolicyKit1.Authority",
            "CheckAuthorization",
            &body,
        )
    };
    for action in ["create-card", "provision", "provision-other", "change-pin"] {
        let answer = ask(SERVICE_USER.0, action);
        assert!(answer.is_ok(), "{action}: {answer:?}");
        assert!(
            ask(OWNER, action).is_err(),
            "{action}: everybody is answered"
        );
    }
}

#[test]
fn without_polkit_only_administrators_have_rights() {
    let mut bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    bench.bus.stop_polkit();
    let operator = bench.client(OPERATOR);
    let (name, text) = operator
        .call(
            ROOT,
            "Manager.DestroyCard",
            &("ROOT\\SMARTCARDREADER\\0000", Dictionary::new()),
        )
        .unwrap_err();
    assert_eq!(name, "NotAuthorized");
    assert!(text.contains("polkit cannot be asked"), "{text}");
    let root = bench.client(0);
    root.call(&card, "Provisioning.SetFriendlyName", &"renamed")
        .unwrap();
    let owner = bench.client(OWNER);
    let pins = (secret(PIN), secret(NEW_PIN));
    owner.call(&card, "Provisioning.ChangePin", &pins).unwrap();
}

/// A program of a user's.
fn as_user(bench: &Bench, uid: u32, program: &str, arguments: &[&str]) -> Outcome {
    let program = match program {
        "cardea" => bench.program("cardea").display().to_string(),
        other => other.to_owned(),
    };
    run(Command::new("setpriv")
        .args(["--reuid", &uid.to_string(), "--clear-groups", &program])
        .args(arguments)
        .env("CARDEA_SOCKET", bench.daemon.socket()))
}

#[test]
fn two_users_see_and_use_their_own_card_only() {
    let bench = Bench::new();
    let ours = [("ours", OWNER), ("theirs", STRANGER)].map(|(name, owner)| {
        let card = bench.card(name, [option("owner", owner)].into());
        (name, owner, card)
    });
    let module = bench.program("libcardea_pkcs11.so").display().to_string();
    for (own, (name, uid, card)) in ours.iter().enumerate() {
        let (other, _, foreign) = &ours[1 - own];
        // The socket.
        let list = as_user(&bench, *uid, "cardea", &["card", "list"]);
        assert!(
            list.text.contains(name) && !list.text.contains(other),
            "{}",
            list.text
        );
        for command in [
            &["card", "show"][..],
            &["key", "list"],
            &["card", "destroy", "--yes"],
            &["card", "set", "--pin-pad", "on"],
        ] {
            let about = |card: &str| {
                let mut words = command.to_vec();
                words.insert(2, card);
                let refused = as_user(&bench, *uid, "cardea", &words);
                assert!(!refused.success, "{words:?}: {}", refused.text);
                (refused.code, refused.text)
            };
            assert_eq!(
                about(other),
                about("none"),
                "{command:?}: as one that does not exist"
            );
            assert_eq!(
                about(&id_of(foreign)),
                about(&"5d".repeat(16)),
                "{command:?}"
            );
        }
        // PKCS#11.
        let tokens = as_user(&bench, *uid, "pkcs11-tool", &["--module", &module, "-L"]);
        assert!(
            tokens.text.contains(name) && !tokens.text.contains(other),
            "{}",
            tokens.text
        );
        // The bus.
        let client = bench.client(*uid);
        let objects: std::collections::HashMap<
            zbus::OwnedObjectPath,
            std::collections::HashMap<String, Dictionary>,
        > = client
            .get(
                ROOT,
                "org.freedesktop.DBus.ObjectManager.GetManagedObjects",
                &(),
            )
            .unwrap();
        let cards: Vec<&str> = objects
            .keys()
            .map(|path| path.as_str())
            .filter(|path| path.contains("/cards/"))
            .collect();
        assert_eq!(cards, [card.as_str()]);
        let values = (secret(b"999999"), secret(NEW_PIN));
        let refused = client
            .call(foreign, "Provisioning.ChangePin", &values)
            .unwrap_err();
        assert_eq!(refused.0, "org.freedesktop.DBus.Error.UnknownObject");
        // Use of the own one.
        let pins = (secret(PIN), secret(NEW_PIN));
        client.call(card, "Provisioning.ChangePin", &pins).unwrap();
    }
    let denied = denials(&bench);
    for (own, (_, uid, _)) in ours.iter().enumerate() {
        let (_, _, foreign) = &ours[1 - own];
        for door in ["socket", "dbus"] {
            let expected = (u64::from(*uid), door.to_owned(), Some(id_of(foreign)));
            assert!(denied.contains(&expected), "{expected:?} in {denied:?}");
        }
    }
    let root = bench.client(0);
    for (_, _, card) in &ours {
        assert_eq!(root.number(card, "Card", "PinTriesLeft"), 5);
    }
}

#[test]
fn agents_are_asked_for_their_own_user_only() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let stranger = super::agent::Agent::new(&bench, STRANGER, |_, _| true);
    let owner = bench.client(OWNER);
    let refused = owner.call(&card, "Provisioning.RequestPinChange", &Dictionary::new());
    assert_eq!(refused.unwrap_err().0, "NoAgent");
    assert!(
        stranger.asked.try_recv().is_err(),
        "a stranger's agent was asked"
    );
    // Who is no service calls no agent: the bus stands before it.
    let path = "/org/cardea/TestAgent";
    let agent = bench.client(OWNER);
    let called = owner.call_to(
        &agent.name(),
        path,
        &format!("{SERVICE}.Agent"),
        "Cancel",
        &(),
    );
    assert_eq!(
        called.unwrap_err().0,
        "org.freedesktop.DBus.Error.AccessDenied"
    );
}
