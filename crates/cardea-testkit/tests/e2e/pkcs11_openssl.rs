//! OpenSSL with our module through libp11's engine (OpenSSL 3.0, libengine-pkcs11-openssl 0.4.12).
//!
//! What the card signed is verified, and what it decrypts is encrypted, by OpenSSL without the engine.

use std::fs;

use cardea_testkit::rig::PIN;

use cardea_testkit::desk::{Desk, KEYS, MESSAGE, WRONG, module};

/// Writes the configuration of the engine with a PIN.
fn configure(desk: &Desk, pin: &str) {
    let module = module();
    let text = format!(
        "openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = engine\n\
         [engine]\nengine_id = pkcs11\nMODULE_PATH = {module}\nPIN = {pin}\ninit = 1\n\
         [req]\ndistinguished_name = name\n[name]\n"
    );
    fs::write(desk.path("engine.cnf"), text).unwrap();
}

/// A command of OpenSSL with the engine.
fn engine(command: &str) -> String {
    format!("env OPENSSL_CONF=engine.cnf openssl {command} -engine pkcs11 -keyform engine")
}

fn ready() -> Desk {
    let desk = Desk::with_certificates();
    configure(&desk, PIN);
    desk
}

#[test]
fn openssl_signs_with_the_keys_of_the_card() {
    let desk = ready();
    desk.does("openssl dgst -sha256 -binary -out digest message");
    desk.does("openssl dgst -sha256 -binary -out other message another");
    for key in KEYS {
        let uri = desk.key_uri(key);
        let public = desk.public(key);

        let sign = engine("pkeyutl -sign");
        desk.does(&format!(
            "{sign} -inkey {uri} -in digest -pkeyopt digest:sha256 -out signature"
        ));
        let verify = format!(
            "openssl pkeyutl -verify -pubin -inkey {public} -sigfile signature -pkeyopt digest:sha256"
        );
        desk.does(&format!("{verify} -in digest"));
        desk.refuses(&format!("{verify} -in other"));

        for hash in ["sha256", "sha384"] {
            let sign = engine("dgst");
            desk.does(&format!(
                "{sign} -{hash} -sign {uri} -out signature message"
            ));
            desk.check(key, &format!("-{hash}"), "signature");
        }

        let request = engine("req -new");
        desk.does(&format!(
            "{request} -key {uri} -subj /CN=Alice -out request.pem"
        ));
        let verified = desk.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
        let request = engine("req -x509 -new");
        desk.does(&format!(
            "{request} -key {uri} -subj /CN=Alice -out own.pem"
        ));
        desk.does("openssl verify -CAfile own.pem own.pem");
    }

    let pss = "-sha256 -sigopt rsa_padding_mode:pss";
    let (sign, uri) = (engine("dgst"), desk.key_uri("rsa"));
    desk.does(&format!("{sign} {pss} -sign {uri} -out signature message"));
    desk.check("rsa", pss, "signature");
}

#[test]
fn openssl_makes_and_opens_cms_with_the_keys_of_the_card() {
    let desk = ready();
    let cms = |key: &str, options: &str| {
        let (sign, uri) = (engine("cms -sign"), desk.key_uri(key));
        desk.does(&format!(
            "{sign} -inkey {uri} -signer {key}.pem -md sha256 {options} -in message -out signed"
        ));
        desk.check_cms("signed", "SMIME");
        desk.does("openssl cms -cmsout -print -in signed")
    };
    for key in KEYS {
        cms(key, "");
    }
    let printed = cms("rsa", "-keyopt rsa_padding_mode:pss");
    assert!(printed.contains("rsassaPss"), "{printed}");

    // An EC key opens it by ECDH.
    for (key, options) in [
        ("rsa", ""),
        ("rsa", "-keyopt rsa_padding_mode:oaep"),
        ("ec", ""),
    ] {
        desk.does(&format!(
            "openssl cms -encrypt -aes256 -in message -out sealed -recip {key}.pem {options}"
        ));
        let decrypt = engine("cms -decrypt -in sealed -out opened");
        let uri = desk.key_uri(key);
        desk.does(&format!("{decrypt} -inkey {uri} -recip {key}.pem"));
        let opened = fs::read_to_string(desk.path("opened")).unwrap();
        assert_eq!(opened.replace('\r', ""), MESSAGE, "{key} {options}");
    }
    // What is sealed for the EC key says nothing to the other.
    let decrypt = engine("cms -decrypt -in sealed -out opened");
    let uri = desk.key_uri("rsa");
    desk.refuses(&format!("{decrypt} -inkey {uri} -recip rsa.pem"));
}

#[test]
fn openssl_decrypts_by_rsa() {
    let desk = ready();
    let (public, uri) = (desk.public("rsa"), desk.key_uri("rsa"));
    for options in [
        "-pkeyopt rsa_padding_mode:pkcs1",
        "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha1",
        "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256",
    ] {
        desk.does(&format!(
            "openssl pkeyutl -encrypt -pubin -inkey {public} -in message -out sealed {options}"
        ));
        let decrypt = engine("pkeyutl -decrypt -in sealed -out opened");
        desk.does(&format!("{decrypt} -inkey {uri} {options}"));
        let opened = fs::read_to_string(desk.path("opened")).unwrap();
        assert_eq!(opened, MESSAGE, "{options}");
    }
}

#[test]
fn openssl_is_refused_with_a_wrong_pin_a_blocked_one_and_without_key_or_card() {
    let desk = ready();
    let sign = engine("dgst -sha256");
    let uri = desk.key_uri("rsa");
    let sign = format!("{sign} -sign {uri} -out signature message");
    configure(&desk, WRONG);
    let said = desk.refuses(&sign);
    assert!(said.contains("PIN incorrect"), "{said}");
    // The engine tries a PIN of its configuration once.
    assert_eq!(desk.tries_left(), 4);
    configure(&desk, PIN);
    desk.does(&sign);
    assert_eq!(desk.tries_left(), 5);

    desk.block();
    let said = desk.refuses(&sign);
    assert!(said.contains("PIN locked"), "{said}");
    desk.unblock();
    desk.delete("rsa");
    let said = desk.refuses(&sign);
    assert!(said.contains("key was not found"), "{said}");
    let (sign, uri) = (engine("dgst -sha256"), desk.key_uri("ec"));
    let sign = format!("{sign} -sign {uri} -out signature message");
    desk.does(&sign);
    desk.cardea(&["card", "destroy", "Alice", "--yes"]);
    desk.refuses(&sign);
}
