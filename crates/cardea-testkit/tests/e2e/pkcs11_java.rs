//! Java 17 with our module through SunPKCS11: `keytool`, `jarsigner` and a program of our own.

use std::fs;

use cardea_testkit::rig::PIN;

use cardea_testkit::workplace::{KEYS, WRONG, Workplace, module};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/CardKeys.java");

const SESSION_KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/SessionKeys.java");

/// Writes SunPKCS11's configuration. A key pair is made as objects of the session and copied to the token,
/// unless it is told otherwise.
fn prepare(workplace: &Workplace) {
    let module = module();
    let text = format!(
        "name = card\nlibrary = {module}\nslotListIndex = 0\n\
         attributes(generate, CKO_PRIVATE_KEY, *) = {{\n  CKA_TOKEN = true\n}}\n"
    );
    fs::write(workplace.path("java.cfg"), text).unwrap();
}

/// What `keytool` and `jarsigner` are told of the card.
fn store(pin: &str) -> String {
    format!(
        "-keystore NONE -storetype PKCS11 -addprovider SunPKCS11 -providerArg java.cfg -storepass {pin}"
    )
}

#[test]
fn java_signs_and_decrypts_with_the_keys_of_the_card() {
    let workplace = Workplace::with_certificates();
    prepare(&workplace);
    let run = |pin: &str| format!("java {PROGRAM} java.cfg {pin} message");
    let said = workplace.does(&run(PIN));
    assert!(said.contains("all is right"), "{said}");
    for (key, algorithm, options) in [
        ("rsa", "SHA256withRSA", "-sha256"),
        ("rsa", "SHA384withRSA", "-sha384"),
        ("rsa", "RSASSA-PSS", "-sha256 -sigopt rsa_padding_mode:pss"),
        ("ec", "SHA256withECDSA", "-sha256"),
        ("ec", "SHA384withECDSA", "-sha384"),
    ] {
        workplace.check(key, options, &format!("{key}-{algorithm}.sig"));
    }

    let said = workplace.refuses(&run(WRONG));
    assert!(said.contains("CKR_PIN_INCORRECT"), "{said}");
    assert_eq!(workplace.tries_left(), 4);
    workplace.block();
    let said = workplace.refuses(&run(PIN));
    assert!(said.contains("CKR_PIN_LOCKED"), "{said}");
    workplace.unblock();
    workplace.delete("ec");
    let said = workplace.refuses(&run(PIN));
    assert!(!said.contains("all is right"), "{said}");
}

/// Java's key pairs are objects of the session unless its configuration names another place.
#[test]
fn java_makes_and_uses_keys_of_a_session() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    let configuration = format!("name = card\nlibrary = {}\nslotListIndex = 0\n", module());
    fs::write(workplace.path("session.cfg"), configuration).unwrap();
    let said = workplace.does(&format!("java {SESSION_KEYS} session.cfg {PIN} message"));
    assert!(said.contains("all is right, and 0 entries"), "{said}");
    let keys = workplace.cardea(&["key", "list", "Alice", "--json"]);
    assert_eq!(keys.trim(), "[]");
}

/// It has the key made in a session, and copies it to the token.
#[test]
fn keytool_keeps_a_key_that_it_made_in_a_session() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    let configuration = format!("name = card\nlibrary = {}\nslotListIndex = 0\n", module());
    fs::write(workplace.path("java.cfg"), configuration).unwrap();
    let store = store(PIN);
    workplace.does(&format!(
        "keytool -genkeypair {store} -dname CN=Alice -alias kept -keyalg EC -groupname secp256r1 \
         -providerName SunPKCS11-card"
    ));
    let keys = workplace.cardea(&["key", "list", "Alice"]);
    assert_eq!(keys.matches("generated").count(), 1, "{keys}");
    workplace.does(&format!(
        "keytool -certreq {store} -alias kept -file request.pem"
    ));
    let verified = workplace.does("openssl req -verify -noout -in request.pem");
    assert!(verified.contains("verify OK"), "{verified}");
}

#[test]
fn keytool_lists_the_card_and_makes_requests() {
    let workplace = Workplace::with_certificates();
    prepare(&workplace);
    let store = store(PIN);
    let listed = workplace.does(&format!("keytool -list {store}"));
    assert!(listed.contains("contains 2 entries"), "{listed}");
    for key in KEYS {
        assert!(
            listed.contains(&format!("{key}, PrivateKeyEntry")),
            "{listed}"
        );
        workplace.does(&format!(
            "keytool -certreq {store} -alias {key} -file request.pem"
        ));
        let verified = workplace.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
        workplace.does("openssl req -noout -pubkey -in request.pem -out requested.pub");
        assert_eq!(
            fs::read(workplace.path("requested.pub")).unwrap(),
            fs::read(workplace.public(key)).unwrap()
        );
    }
    workplace.refuses(&format!("keytool -certreq {store} -alias none"));
    let wrong = self::store(WRONG);
    workplace.refuses(&format!("keytool -list {wrong}"));
    assert_eq!(workplace.tries_left(), 4);
}

/// With `-providerName` the card makes the key; without, Java makes an RSA key and imports it.
#[test]
fn keytool_makes_keys_on_the_card_and_imports_others() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    prepare(&workplace);
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
        workplace.does(&format!("{make} -alias {alias} {options}"));
        let keys = workplace.cardea(&["key", "list", "Alice"]);
        assert_eq!(
            keys.matches(origin).count(),
            1 + usize::from(alias == "made-ec"),
            "{keys}"
        );
        let listed = workplace.does(&format!("keytool -list {store}"));
        assert!(
            listed.contains(&format!("{alias}, PrivateKeyEntry")),
            "{listed}"
        );
        // The certificate is the key's own.
        workplace.does(&format!(
            "keytool -exportcert {store} -rfc -alias {alias} -file own.pem"
        ));
        workplace.does("openssl verify -CAfile own.pem own.pem");
        workplace.does(&format!(
            "keytool -certreq {store} -alias {alias} -file request.pem"
        ));
        let verified = workplace.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
    }
    workplace.does(&format!("keytool -delete {store} -alias made-rsa"));
    let listed = workplace.does(&format!("keytool -list {store}"));
    assert!(listed.contains("contains 2 entries"), "{listed}");
}

#[test]
fn jarsigner_signs_with_the_keys_of_the_card() {
    let workplace = Workplace::with_certificates();
    prepare(&workplace);
    workplace.does("jar --create --file plain.jar message");
    workplace
        .does("keytool -importcert -noprompt -keystore trust -storepass changeit -file ca.pem");
    let sign = |key: &str, pin: &str| {
        let store = store(pin);
        format!("jarsigner {store} -certchain {key}.pem -signedjar signed.jar plain.jar {key}")
    };
    for key in KEYS {
        workplace.does(&sign(key, PIN));
        let verify = "jarsigner -verify -keystore trust -storepass changeit signed.jar";
        let verified = workplace.does(verify);
        assert!(verified.contains("jar verified."), "{verified}");
        assert!(!verified.contains("chain is invalid"), "{verified}");
        fs::write(workplace.path("message"), format!("after {key}")).unwrap();
        workplace.does("jar --update --file signed.jar message");
        let said = workplace.refuses(verify);
        assert!(said.contains("digest error"), "{said}");
    }
    workplace.refuses(&sign("rsa", WRONG));
    assert_eq!(workplace.tries_left(), 4);
    workplace.refuses(&sign("none", PIN));
}
