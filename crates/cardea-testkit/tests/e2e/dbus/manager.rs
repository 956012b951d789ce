//! Cards are made, found, told of and destroyed.

use cardea_testkit::bus::{Dictionary, ROOT, option, secret_option};

use super::Bench;
use super::bench::{OPERATOR, OWNER, PIN, STRANGER, created, short_pins};

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
