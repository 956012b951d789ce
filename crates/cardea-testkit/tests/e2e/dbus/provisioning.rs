//! PIN, PUK, administrator and name of one card.

use cardea_testkit::bus::{BusClient, Dictionary, option, secret, secret_option};
use zbus::OwnedObjectPath;

use super::Bench;
use super::agent::Agent;
use super::bench::{NEW_PIN, OPERATOR, OWNER, PIN, PUK, answer};

/// Challenge of a context or a reset.
fn challenge(client: &BusClient, path: &OwnedObjectPath, interface: &str) -> Vec<u8> {
    let value = client
        .property(path.as_str(), interface, "Challenge")
        .unwrap();
    value.try_into().unwrap()
}

/// Spends all tries of the PIN.
pub(super) fn block(client: &BusClient, card: &str) {
    for left in (0..5).rev() {
        let wrong = (secret(b"999999"), secret(NEW_PIN));
        let (name, text) = client
            .call(card, "Provisioning.ChangePin", &wrong)
            .unwrap_err();
        match left {
            0 => assert_eq!(name, "PinBlocked"),
            1 => assert!(
                name == "WrongPin" && text.contains("1 try left"),
                "{name} {text}"
            ),
            _ => assert!(
                name == "WrongPin" && text.contains(&format!("{left} tries")),
                "{text}"
            ),
        }
    }
    assert_eq!(client.number(card, "Card", "PinTriesLeft"), 0);
}

fn change(client: &BusClient, card: &str, old: &[u8], new: &[u8]) -> Result<(), String> {
    let values = (secret(old), secret(new));
    let done = client.call(card, "Provisioning.ChangePin", &values);
    done.map(drop).map_err(|refusal| refusal.0)
}

#[test]
fn owner_changes_the_pin_and_its_policy_holds() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let owner = bench.client(OWNER);
    assert_eq!(change(&owner, &card, PIN, b"123"), Err("PinPolicy".into()));
    assert_eq!(
        change(&owner, &card, PIN, b""),
        Err("InvalidArgument".into())
    );
    assert_eq!(
        change(&owner, &card, b"999999", NEW_PIN),
        Err("WrongPin".into())
    );
    assert_eq!(change(&owner, &card, PIN, NEW_PIN), Ok(()));
    assert_eq!(change(&owner, &card, NEW_PIN, PIN), Ok(()));
    assert_eq!(owner.number(&card, "Card", "PinTriesLeft"), 5);
}

#[test]
fn puk_unblocks() {
    let bench = Bench::new();
    let card = bench.card("card", [secret_option("puk-fd", PUK)].into());
    let owner = bench.client(OWNER);
    assert_eq!(owner.text(&card, "Card", "UnblockMode"), "puk");
    block(&owner, &card);
    let unblock = |puk: &[u8]| {
        owner.call(
            &card,
            "Provisioning.UnblockWithPuk",
            &(secret(puk), secret(NEW_PIN)),
        )
    };
    assert_eq!(unblock(b"00000000").unwrap_err().0, "WrongPuk");
    unblock(PUK).unwrap();
    assert_eq!(change(&owner, &card, NEW_PIN, PIN), Ok(()));
    let refused = owner.call(&card, "Provisioning.RequestPinReset", &Dictionary::new());
    assert_eq!(refused.unwrap_err().0, "NotSupported");
}

#[test]
fn challenge_context_verifies_provisions_and_changes_the_key() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let administrator = bench.client(OPERATOR);
    let context = || -> OwnedObjectPath {
        let made = administrator.get(&card, "Provisioning.GetChallengeContext", &());
        made.unwrap()
    };
    let owner = bench.client(OWNER);

    // Wrong, and void from then on.
    let wrong = context();
    assert!(
        owner
            .properties(wrong.as_str(), "ChallengeContext")
            .is_err(),
        "not the owner's"
    );
    let verify = "ChallengeContext.VerifyResponse";
    let right: bool = administrator
        .get(wrong.as_str(), verify, &secret(&[0; 8]))
        .unwrap();
    assert!(!right);
    let late = answer(&challenge(&administrator, &wrong, "ChallengeContext"));
    let right: bool = administrator
        .get(wrong.as_str(), verify, &secret(&late))
        .unwrap();
    assert!(!right, "one challenge, one attempt");

    // Right, once for several things.
    let good = context();
    assert_eq!(
        administrator.text(good.as_str(), "ChallengeContext", "Algorithm"),
        "tdea-cbc"
    );
    let response = answer(&challenge(&administrator, &good, "ChallengeContext"));
    let right: bool = administrator
        .get(good.as_str(), verify, &secret(&response))
        .unwrap();
    assert!(right);
    let id = "89abcdef-0123-4567-89ab-cdef01234567";
    administrator
        .call(
            good.as_str(),
            "ChallengeContext.Provision",
            &(secret(b""), true, id),
        )
        .unwrap();
    assert_eq!(owner.text(&card, "Card", "CardId"), id);
    assert_eq!(owner.number(&card, "Card", "KeyCount"), 0);
    let new_key = [0x42; 24].map(|byte: u8| byte ^ 1);
    administrator
        .call(
            good.as_str(),
            "ChallengeContext.ChangeAdministrativeKey",
            &(secret(b""), secret(&new_key)),
        )
        .unwrap();
    administrator
        .call(good.as_str(), "ChallengeContext.Close", &())
        .unwrap();
    assert!(
        administrator
            .properties(good.as_str(), "ChallengeContext")
            .is_err()
    );

    // The old key is nobody's any more.
    let next = context();
    let response = answer(&challenge(&administrator, &next, "ChallengeContext"));
    let right: bool = administrator
        .get(next.as_str(), verify, &secret(&response))
        .unwrap();
    assert!(!right);
}

#[test]
fn help_desk_resets_a_blocked_pin() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let owner = bench.client(OWNER);
    assert_eq!(
        owner.text(&card, "Card", "UnblockMode"),
        "challenge-response"
    );
    block(&owner, &card);
    let request = || -> OwnedObjectPath {
        let options = Dictionary::new();
        owner
            .get(&card, "Provisioning.RequestPinReset", &options)
            .unwrap()
    };
    let complete = |path: &OwnedObjectPath| {
        owner.get::<bool, _>(path.as_str(), "PinResetRequest.Complete", &())
    };

    // Without a response it is refused.
    assert_eq!(complete(&request()), Ok(false));
    let wrong = request();
    let give = |path: &OwnedObjectPath, member: &str, value: &[u8]| {
        owner.call(
            path.as_str(),
            &format!("PinResetRequest.{member}"),
            &secret(value),
        )
    };
    assert_eq!(
        give(&wrong, "SetResponse", &[1; 7]).unwrap_err().0,
        "InvalidArgument"
    );
    give(&wrong, "SetResponse", &[1; 8]).unwrap();
    give(&wrong, "SetNewPin", NEW_PIN).unwrap();
    assert_eq!(complete(&wrong).unwrap_err().0, "WrongResponse");
    assert!(owner.properties(wrong.as_str(), "PinResetRequest").is_err());

    let good = request();
    let response = answer(&challenge(&owner, &good, "PinResetRequest"));
    give(&good, "SetResponse", &response).unwrap();
    give(&good, "SetNewPin", NEW_PIN).unwrap();
    assert_eq!(complete(&good), Ok(true));
    assert_eq!(change(&owner, &card, NEW_PIN, PIN), Ok(()));

    // The new PIN from the agent.
    let asked = request();
    let response = answer(&challenge(&owner, &asked, "PinResetRequest"));
    give(&asked, "SetResponse", &response).unwrap();
    let agent = Agent::typing(&bench, OWNER, &[("new-pin", NEW_PIN)]);
    assert_eq!(complete(&asked), Ok(true));
    agent.done();
    assert_eq!(change(&owner, &card, NEW_PIN, PIN), Ok(()));
    let cancelled = request();
    owner
        .call(cancelled.as_str(), "PinResetRequest.Cancel", &())
        .unwrap();
    assert!(complete(&cancelled).is_err());
}

#[test]
fn pin_is_changed_at_the_agent() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let owner = bench.client(OWNER);
    let request =
        || owner.get::<bool, _>(&card, "Provisioning.RequestPinChange", &Dictionary::new());
    assert_eq!(request().unwrap_err().0, "NoAgent");
    // A PIN that its policy has never allowed costs no try, a wrong one is asked again.
    let typed: &[(&str, &[u8])] = &[
        ("pin", b"12"),
        ("pin", b"999999"),
        ("pin", PIN),
        ("new-pin", NEW_PIN),
    ];
    let agent = Agent::typing(&bench, OWNER, typed);
    assert_eq!(request(), Ok(true));
    agent.done();
    assert_eq!(change(&owner, &card, NEW_PIN, PIN), Ok(()));
    let agent = Agent::refusing(&bench, OWNER);
    assert_eq!(request(), Ok(false));
    agent.done();
    assert_eq!(owner.number(&card, "Card", "PinTriesLeft"), 5);
}

#[test]
fn card_is_made_with_a_pin_from_the_agent() {
    let bench = Bench::new();
    let operator = bench.client(OPERATOR);
    let agent = Agent::typing(&bench, OPERATOR, &[("new-pin", b"12345678")]);
    let options: Dictionary = [
        option("admin-key", "default"),
        option("use-default-puk", true),
    ]
    .into();
    let card = super::bench::created(&operator, "card", options);
    agent.done();
    assert_eq!(operator.text(&card, "Card", "UnblockMode"), "puk");
    assert_eq!(operator.number(&card, "Card", "Owner"), OPERATOR);
    assert_eq!(change(&operator, &card, b"12345678", b"87654321"), Ok(()));
}

#[test]
fn name_is_changed_by_whom_polkit_lets() {
    let bench = Bench::new();
    let card = bench.card("before", Dictionary::new());
    let mut owner = bench.client(OWNER);
    let denied = owner
        .call(&card, "Provisioning.SetFriendlyName", &"mine")
        .unwrap_err();
    assert_eq!(denied.0, "NotAuthorized");
    let operator = bench.client(OPERATOR);
    operator
        .call(&card, "Provisioning.SetFriendlyName", &"after")
        .unwrap();
    owner.signal("PropertiesChanged");
    assert_eq!(owner.text(&card, "Card", "FriendlyName"), "after");
    let wrong = operator
        .call(&card, "Provisioning.SetFriendlyName", &"a\nb")
        .unwrap_err();
    assert_eq!(wrong.0, "InvalidArgument");
}

#[test]
fn evidence_is_for_whoever_sees_a_card_with_an_attestation_key() {
    let bench = Bench::new();
    let owner = bench.client(OWNER);
    let nonce = || vec![7_u8; 20];
    let plain = bench.card("plain", Dictionary::new());
    let body = (nonce(), Dictionary::new());
    let refused = owner
        .call(&plain, "Provisioning.GetAttestation", &body)
        .unwrap_err();
    assert_eq!(refused.0, "NotSupported");
    assert_eq!(owner.text(&plain, "Card", "Attestation"), "none");
    assert_eq!(owner.text(&plain, "Card", "AuthorityKeyContainerName"), "");

    let attested = bench.card("attested", [option("attestation", "aik-only")].into());
    assert_eq!(owner.text(&attested, "Card", "Attestation"), "aik-only");
    let container = owner.text(&attested, "Card", "AuthorityKeyContainerName");
    let id = container.strip_prefix("cardea-ak-").unwrap();
    assert_eq!(id.len(), 32);
    let mut told: Dictionary = owner
        .get(&attested, "Provisioning.GetAttestation", &body)
        .unwrap();
    let level: u32 = told.remove("level").unwrap().try_into().unwrap();
    assert_eq!(level, 1, "until the next restart");
    let bundle: Vec<u8> = told.remove("evidence").unwrap().try_into().unwrap();
    let bundle = cardea_attest::Bundle::decode(&bundle).unwrap();
    assert_eq!(bundle.nonce, nonce());

    let pin = bench.folder.path().join("typed");
    std::fs::write(&pin, PIN).unwrap();
    let generate = ["key", "generate", id, "--algorithm", "p-256", "--pin-file"];
    let made = bench
        .daemon
        .cardea(&[&generate[..], &[pin.to_str().unwrap()]].concat());
    assert!(made.success, "{}", made.text);
    let listed = bench.daemon.printed(&["key", "list", id, "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let reference = listed[0]["reference"].as_str().unwrap();
    let reference = u8::from_str_radix(reference, 16).unwrap();
    let asked = |keys: Vec<u8>| -> Dictionary {
        [option("format", "statement"), option("keys", keys)].into()
    };
    let body = (nonce(), asked(vec![reference]));
    let mut told: Dictionary = owner
        .get(&attested, "Provisioning.GetAttestation", &body)
        .unwrap();
    let mut bytes = |name: &str| -> Vec<u8> { told.remove(name).unwrap().try_into().unwrap() };
    let attest = bytes("attest");
    assert!(attest.starts_with(b"\xFFTCG"));
    assert!(attest.windows(20).any(|part| part == nonce()));
    assert_eq!(bytes("aik-public"), bundle.attestation_key);
    assert!(!bytes("signature").is_empty() && !bytes("key-public").is_empty());

    for (keys, name) in [
        (vec![], "InvalidArgument"),
        (vec![reference, reference], "InvalidArgument"),
        (vec![0x80], "NotFound"),
    ] {
        let refused = owner
            .call(
                &attested,
                "Provisioning.GetAttestation",
                &(nonce(), asked(keys)),
            )
            .unwrap_err();
        assert_eq!(refused.0, name);
    }
    let other = bench.client(OPERATOR);
    assert!(
        other
            .call(
                &attested,
                "Provisioning.GetAttestation",
                &(nonce(), Dictionary::new())
            )
            .is_err()
    );
}
