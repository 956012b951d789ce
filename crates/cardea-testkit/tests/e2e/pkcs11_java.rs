//! Java 17 with our module through SunPKCS11: `keytool`, `jarsigner` and a program of our own.

use std::fs;

use cardea_testkit::rig::PIN;

use cardea_testkit::desk::{Desk, KEYS, WRONG, module};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/CardKeys.java");

/// Writes SunPKCS11's configuration. A key pair is made as objects of the session and copied to the token,
/// unless it is told otherwise.
fn prepare(desk: &Desk) {
    let module = module();
    let text = format!(
        "name = card\nlibrary = {module}\nslotListIndex = 0\n\
         attributes(generate, CKO_PRIVATE_KEY, *) = {{\n  CKA_TOKEN = true\n}}\n"
    );
    fs::write(desk.path("java.cfg"), text).unwrap();
}

/// What `keytool` and `jarsigner` are told of the card.
fn store(pin: &str) -> String {
    format!(
        "-keystore NONE -storetype PKCS11 -addprovider SunPKCS11 -providerArg java.cfg -storepass {pin}"
    )
}

#[test]
fn java_signs_and_decrypts_with_the_keys_of_the_card() {
    let desk = Desk::with_certificates();
    prepare(&desk);
    let run = |pin: &str| format!("java {PROGRAM} java.cfg {pin} message");
    let said = desk.does(&run(PIN));
    assert!(said.contains("all is right"), "{said}");
    for (key, algorithm, options) in [
        ("rsa", "SHA256withRSA", "-sha256"),
        ("rsa", "SHA384withRSA", "-sha384"),
        ("rsa", "RSASSA-PSS", "-sha256 -sigopt rsa_padding_mode:pss"),
        ("ec", "SHA256withECDSA", "-sha256"),
        ("ec", "SHA384withECDSA", "-sha384"),
    ] {
        desk.check(key, options, &format!("{key}-{algorithm}.sig"));
    }

    let said = desk.refuses(&run(WRONG));
    assert!(said.contains("CKR_PIN_INCORRECT"), "{said}");
    assert_eq!(desk.tries_left(), 4);
    desk.block();
    let said = desk.refuses(&run(PIN));
    assert!(said.contains("CKR_PIN_LOCKED"), "{said}");
    desk.unblock();
    desk.delete("ec");
    let said = desk.refuses(&run(PIN));
    assert!(!said.contains("all is right"), "{said}");
}

#[test]
fn keytool_lists_the_card_and_makes_requests() {
    let desk = Desk::with_certificates();
    prepare(&desk);
    let store = store(PIN);
    let listed = desk.does(&format!("keytool -list {store}"));
    assert!(listed.contains("contains 2 entries"), "{listed}");
    for key in KEYS {
        assert!(
            listed.contains(&format!("{key}, PrivateKeyEntry")),
            "{listed}"
        );
        desk.does(&format!(
            "keytool -certreq {store} -alias {key} -file request.pem"
        ));
        let verified = desk.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
        desk.does("openssl req -noout -pubkey -in request.pem -out requested.pub");
        assert_eq!(
            fs::read(desk.path("requested.pub")).unwrap(),
            fs::read(desk.public(key)).unwrap()
        );
    }
    desk.refuses(&format!("keytool -certreq {store} -alias none"));
    let wrong = self::store(WRONG);
    desk.refuses(&format!("keytool -list {wrong}"));
    assert_eq!(desk.tries_left(), 4);
}

/// With `-providerName` the card makes the key; without, Java makes an RSA key and imports it.
#[test]
fn keytool_makes_keys_on_the_card_and_imports_others() {
    let desk = Desk::new();
    desk.create("Alice");
    prepare(&desk);
    let store = store(PIN);
    let make = format!("keytool -genkeypair {store} -dname CN=Alice");
    for (alias, options, origin) in [
        (
            "made-rsa",
            "-keyalg RSA -keysize 2048 -providerName SunPKCS11-card",
            "generated",
        ),
        (
            "made-ec",
            "-keyalg EC -groupname secp256r1 -providerName SunPKCS11-card",
            "generated",
        ),
        ("brought-rsa", "-keyalg RSA -keysize 2048", "imported"),
    ] {
        desk.does(&format!("{make} -alias {alias} {options}"));
        let keys = desk.cardea(&["key", "list", "Alice"]);
        assert_eq!(
            keys.matches(origin).count(),
            1 + usize::from(alias == "made-ec"),
            "{keys}"
        );
        let listed = desk.does(&format!("keytool -list {store}"));
        assert!(
            listed.contains(&format!("{alias}, PrivateKeyEntry")),
            "{listed}"
        );
        // The certificate is the key's own.
        desk.does(&format!(
            "keytool -exportcert {store} -rfc -alias {alias} -file own.pem"
        ));
        desk.does("openssl verify -CAfile own.pem own.pem");
        desk.does(&format!(
            "keytool -certreq {store} -alias {alias} -file request.pem"
        ));
        let verified = desk.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
    }
    desk.does(&format!("keytool -delete {store} -alias made-rsa"));
    let listed = desk.does(&format!("keytool -list {store}"));
    assert!(listed.contains("contains 2 entries"), "{listed}");
}

#[test]
fn jarsigner_signs_with_the_keys_of_the_card() {
    let desk = Desk::with_certificates();
    prepare(&desk);
    desk.does("jar --create --file plain.jar message");
    desk.does("keytool -importcert -noprompt -keystore trust -storepass changeit -file ca.pem");
    let sign = |key: &str, pin: &str| {
        let store = store(pin);
        format!("jarsigner {store} -certchain {key}.pem -signedjar signed.jar plain.jar {key}")
    };
    for key in KEYS {
        desk.does(&sign(key, PIN));
        let verify = "jarsigner -verify -keystore trust -storepass changeit signed.jar";
        let verified = desk.does(verify);
        assert!(verified.contains("jar verified."), "{verified}");
        assert!(!verified.contains("chain is invalid"), "{verified}");
        fs::write(desk.path("message"), format!("after {key}")).unwrap();
        desk.does("jar --update --file signed.jar message");
        let said = desk.refuses(verify);
        assert!(said.contains("digest error"), "{said}");
    }
    desk.refuses(&sign("rsa", WRONG));
    assert_eq!(desk.tries_left(), 4);
    desk.refuses(&sign("none", PIN));
}
