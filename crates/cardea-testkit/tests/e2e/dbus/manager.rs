//! Cards are made, found, told of and destroyed.

use cardea_testkit::bus::{Dictionary, ROOT, option, secret, secret_option};

use super::Bench;
use super::bench::{NEW_PIN, OPERATOR, OWNER, PIN, PUK, STRANGER, created, short_pins};

#[test]
fn card_is_created_found_told_of_and_destroyed() {
    let bench = Bench::new();
    let mut owner = bench.client(OWNER);
    let none: std::collections::HashMap<
        zbus::OwnedObjectPath,
        std::collections::HashMap<String, Dictionary>,
    > = owner
        .get(
            ROOT,
            "org.freedesktop.DBus.ObjectManager.GetManagedObjects",
            &(),
        )
        .unwrap();
    assert!(
        none.keys().all(|path| path.as_str().contains("/readers/")),
        "{none:?}"
    );

    let operator = bench.client(OPERATOR);
    let options: Dictionary = [
        option("admin-key", "random"),
        secret_option("pin-fd", PIN),
        option("pin-policy", short_pins()),
        option("owner", OWNER),
        option("card-id", "{01234567-89AB-CDEF-0123-456789ABCDEF}"),
    ]
    .into();
    let card = created(&operator, "Käthe's", options);

    let added = owner.signal("InterfacesAdded");
    let (path, interfaces): (
        zbus::OwnedObjectPath,
        std::collections::HashMap<String, Dictionary>,
    ) = added.body().deserialize().unwrap();
    assert_eq!(path.as_str(), card);
    assert!(interfaces.contains_key("org.cardea.VirtualSmartCard1.Provisioning"));
    assert_eq!(owner.text(&card, "Card", "FriendlyName"), "Käthe's");
    assert_eq!(
        owner.text(&card, "Card", "CardId"),
        "01234567-89ab-cdef-0123-456789abcdef"
    );
    assert_eq!(owner.text(&card, "Card", "Status"), "ready");
    assert_eq!(owner.text(&card, "Card", "UnblockMode"), "none");
    assert_eq!(owner.number(&card, "Card", "PinTriesLeft"), 5);
    assert_eq!(owner.number(&card, "Card", "Owner"), OWNER);
    let instance = owner.text(&card, "Card", "InstanceId");
    let reader = owner.text(&card, "Card", "ReaderName");
    for (method, key) in [
        ("Manager.GetCardByInstanceId", instance.as_str()),
        (
            "Manager.GetCardByCardId",
            "01234567-89ab-cdef-0123-456789abcdef",
        ),
        ("Manager.GetCardByReader", reader.as_str()),
    ] {
        let found: zbus::OwnedObjectPath = owner.get(ROOT, method, &key).unwrap();
        assert_eq!(found.as_str(), card, "{method}");
        let stranger = bench.client(STRANGER);
        let hidden = stranger.call(ROOT, method, &key).unwrap_err();
        assert_eq!(hidden.0, "NotFound", "{method}");
    }

    let denied = owner
        .call(ROOT, "Manager.DestroyCard", &(&instance, Dictionary::new()))
        .unwrap_err();
    assert_eq!(denied.0, "NotAuthorized");
    let operation: zbus::OwnedObjectPath = operator
        .get(ROOT, "Manager.DestroyCard", &(&instance, Dictionary::new()))
        .unwrap();
    let (ok, error, _) = operator.finished(operation.as_str());
    assert!(ok, "{error}");
    owner.signal("InterfacesRemoved");
    assert!(owner.property(&card, "Card", "Status").is_err());
}

#[test]
fn manager_and_readers_tell_of_the_machine() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let stranger = bench.client(STRANGER);
    let manager = stranger.properties(ROOT, "Manager").unwrap();
    assert_eq!(bool::try_from(&manager["TpmPresent"]), Ok(true));
    assert_eq!(bool::try_from(&manager["TpmInLockout"]), Ok(false));
    assert_eq!(u32::try_from(&manager["TpmLockoutSeconds"]), Ok(0));
    assert_eq!(u32::try_from(&manager["KeyLimit"]), Ok(30));
    let policies = Vec::<String>::try_from(manager["TpmHierarchyPolicies"].try_clone().unwrap());
    assert_eq!(policies.unwrap(), [""; 0]);
    assert_eq!(stranger.text(ROOT, "Manager", "TpmManufacturer"), "IBM");
    let reader = format!("{ROOT}/readers/0");
    assert_eq!(stranger.text(&reader, "Reader", "Kind"), "tpm");
    assert_eq!(stranger.text(&reader, "Reader", "Status"), "ready");
    let card_of = |client: &cardea_testkit::bus::BusClient| {
        let value = client.property(&reader, "Reader", "Card").unwrap();
        zbus::OwnedObjectPath::try_from(value).unwrap().to_string()
    };
    assert_eq!(
        card_of(&stranger),
        "/",
        "others see that there is one, as pcscd tells"
    );
    assert_eq!(card_of(&bench.client(OWNER)), card);
    let empty = format!("{ROOT}/readers/3");
    assert_eq!(stranger.text(&empty, "Reader", "Status"), "disconnected");
    assert!(
        stranger
            .properties(&format!("{ROOT}/readers/4"), "Reader")
            .is_err()
    );
}

#[test]
fn operation_tells_its_steps_and_its_end_to_its_caller() {
    let bench = Bench::new();
    let mut root = bench.client(0);
    let stranger = bench.client(STRANGER);
    // So that it would be told, if it were told anything.
    stranger.properties(ROOT, "Manager").unwrap();
    let options: Dictionary = [
        option("admin-key", "default"),
        option("use-default-pin", true),
        option("use-default-puk", true),
    ]
    .into();
    let operation: zbus::OwnedObjectPath = root
        .get(ROOT, "Manager.CreateCard", &("card", options))
        .unwrap();
    let mut steps = Vec::new();
    let (ok, hresult, error, result) = loop {
        let signal = root.next("a signal of the operation", |message| {
            let header = message.header();
            header
                .path()
                .is_some_and(|path| path.as_str() == operation.as_str())
        });
        let body = signal.body();
        let header = signal.header();
        match header.member().map(|member| member.as_str()) {
            Some("Progress") => {
                let (_, name): (u32, String) = body.deserialize().unwrap();
                steps.push(name);
            }
            _ => {
                break body
                    .deserialize::<(bool, u32, String, Dictionary)>()
                    .unwrap();
            }
        }
    };
    assert!(ok && hresult == 0, "{error}");
    assert_eq!(
        steps.first().map(String::as_str),
        Some("VTPMSMARTCARD_INITIALIZING")
    );
    assert_eq!(steps.last().map(String::as_str), Some("CARD_CREATED"));
    for key in ["instance-id", "card-id", "card", "reader", "need-reboot"] {
        assert!(result.contains_key(key), "{key}");
    }
    assert!(
        stranger
            .properties(operation.as_str(), "Operation")
            .is_err()
    );
    let policy = root
        .property(
            &format!(
                "{ROOT}/cards/{}",
                <&str>::try_from(&result["card-id"]).unwrap()
            ),
            "Card",
            "PinPolicy",
        )
        .unwrap();
    let policy = Dictionary::try_from(policy).unwrap();
    assert_eq!(u32::try_from(&policy["min-length"]), Ok(8));
    assert_eq!(<&str>::try_from(&policy["other"]), Ok("disallow"));
}

#[test]
fn card_without_its_puk_says_so_and_its_pin_changes_all_the_same() {
    let mut bench = Bench::new();
    let path = bench.card("card", [secret_option("puk-fd", PUK)].into());
    let indices = bench.daemon.printed(&["tpm", "indices", "--json"]);
    let indices: serde_json::Value = serde_json::from_str(&indices).unwrap();
    let mut indices = indices.as_array().unwrap().iter();
    let index = indices.find(|index| index["role"] == "puk").unwrap();
    bench.daemon.stop();
    let handle = index["handle"].as_str().unwrap();
    let deleted = bench._tpm.tpm2("tpm2_nvundefine", &["-C", "o", handle]);
    assert!(deleted.success, "{}", deleted.text);
    bench.daemon.restart();
    bench.await_service();
    let owner = bench.client(OWNER);
    let missing = owner.property(&path, "Card", "MissingParts").unwrap();
    assert_eq!(Vec::<String>::try_from(missing).unwrap(), ["puk"]);
    assert_eq!(owner.text(&path, "Card", "Status"), "ready");
    assert_eq!(owner.text(&path, "Card", "UnblockMode"), "none");
    assert_eq!(owner.number(&path, "Card", "PukTriesLeft"), u32::MAX);
    let unblocked = owner.call(
        &path,
        "Provisioning.UnblockWithPuk",
        &(secret(PUK), secret(NEW_PIN)),
    );
    let refusal = unblocked.unwrap_err();
    assert_eq!(refusal.0, "Failed", "{refusal:?}");
    assert!(refusal.1.contains("index of its PUK"), "{refusal:?}");
    let changed = owner.call(
        &path,
        "Provisioning.ChangePin",
        &(secret(PIN), secret(NEW_PIN)),
    );
    changed.unwrap();
}
