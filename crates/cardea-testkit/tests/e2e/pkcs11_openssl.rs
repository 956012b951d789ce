//! OpenSSL with our module through libp11's engine (OpenSSL 3.0, libengine-pkcs11-openssl 0.4.12).
//!
//! What the card signed is verified, and what it decrypts is encrypted, by OpenSSL without the engine.

use std::fs;

use cardea_testkit::rig::PIN;

use cardea_testkit::workplace::{KEYS, MESSAGE, WRONG, Workplace, module};

/// Writes the configuration of the engine with a PIN.
fn configure(workplace: &Workplace, pin: &str) {
    let module = module();
    let text = format!(
        "openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = engine\n\
         [engine]\nengine_id = pkcs11\nMODULE_PATH = {module}\nPIN = {pin}\ninit = 1\n\
         [req]\ndistinguished_name = name\n[name]\n"
    );
    fs::write(workplace.path("engine.cnf"), text).unwrap();
}

/// A command of OpenSSL with the engine.
fn engine(command: &str) -> String {
    format!("env OPENSSL_CONF=engine.cnf openssl {command} -engine pkcs11 -keyform engine")
}

fn ready() -> Workplace {
    let workplace = Workplace::with_certificates();
    configure(&workplace, PIN);
    workplace
}

#[test]
fn openssl_signs_with_the_keys_of_the_card() {
    let workplace = ready();
    workplace.does("openssl dgst -sha256 -binary -out digest message");
    workplace.does("openssl dgst -sha256 -binary -out other message another");
    for key in KEYS {
        let uri = workplace.key_uri(key);
        let public = workplace.public(key);

        let sign = engine("pkeyutl -sign");
        workplace.does(&format!(
            "{sign} -inkey {uri} -in digest -pkeyopt digest:sha256 -out signature"
        ));
        let verify = format!(
            "openssl pkeyutl -verify -pubin -inkey {public} -sigfile signature -pkeyopt digest:sha256"
        );
        workplace.does(&format!("{verify} -in digest"));
        workplace.refuses(&format!("{verify} -in other"));

        for hash in ["sha256", "sha384"] {
            let sign = engine("dgst");
            workplace.does(&format!(
                "{sign} -{hash} -sign {uri} -out signature message"
            ));
            workplace.check(key, &format!("-{hash}"), "signature");
        }

        let request = engine("req -new");
        workplace.does(&format!(
            "{request} -key {uri} -subj /CN=Alice -out request.pem"
        ));
        let verified = workplace.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
        let request = engine("req -x509 -new");
        workplace.does(&format!(
            "{request} -key {uri} -subj /CN=Alice -out own.pem"
        ));
        workplace.does("openssl verify -CAfile own.pem own.pem");
    }

    let pss = "-sha256 -sigopt rsa_padding_mode:pss";
    let (sign, uri) = (engine("dgst"), workplace.key_uri("rsa"));
    workplace.does(&format!("{sign} {pss} -sign {uri} -out signature message"));
    workplace.check("rsa", pss, "signature");
}

#[test]
fn openssl_makes_and_opens_cms_with_the_keys_of_the_card() {
    let workplace = ready();
    let cms = |key: &str, options: &str| {
        let (sign, uri) = (engine("cms -sign"), workplace.key_uri(key));
        workplace.does(&format!(
            "{sign} -inkey {uri} -signer {key}.pem -md sha256 {options} -in message -out signed"
        ));
        workplace.check_cms("signed", "SMIME");
        workplace.does("openssl cms -cmsout -print -in signed")
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
        workplace.does(&format!(
            "openssl cms -encrypt -aes256 -in message -out sealed -recip {key}.pem {options}"
        ));
        let decrypt = engine("cms -decrypt -in sealed -out opened");
        let uri = workplace.key_uri(key);
        workplace.does(&format!("{decrypt} -inkey {uri} -recip {key}.pem"));
        let opened = fs::read_to_string(workplace.path("opened")).unwrap();
        assert_eq!(opened.replace('\r', ""), MESSAGE, "{key} {options}");
    }
    // What is sealed for the EC key says nothing to the other.
    let decrypt = engine("cms -decrypt -in sealed -out opened");
    let uri = workplace.key_uri("rsa");
    workplace.refuses(&format!("{decrypt} -inkey {uri} -recip rsa.pem"));
}

#[test]
fn openssl_decrypts_by_rsa() {
    let workplace = ready();
    let (public, uri) = (workplace.public("rsa"), workplace.key_uri("rsa"));
    for options in [
        "-pkeyopt rsa_padding_mode:pkcs1",
        "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha1",
        "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256",
    ] {
        workplace.does(&format!(
            "openssl pkeyutl -encrypt -pubin -inkey {public} -in message -out sealed {options}"
        ));
        let decrypt = engine("pkeyutl -decrypt -in sealed -out opened");
        workplace.does(&format!("{decrypt} -inkey {uri} {options}"));
        let opened = fs::read_to_string(workplace.path("opened")).unwrap();
        assert_eq!(opened, MESSAGE, "{options}");
    }
}

#[test]
fn openssl_is_refused_with_a_wrong_pin_a_blocked_one_and_without_key_or_card() {
    let workplace = ready();
    let sign = engine("dgst -sha256");
    let uri = workplace.key_uri("rsa");
    let sign = format!("{sign} -sign {uri} -out signature message");
    configure(&workplace, WRONG);
    let said = workplace.refuses(&sign);
    assert!(said.contains("PIN incorrect"), "{said}");
    // The engine tries a PIN of its configuration once.
    assert_eq!(workplace.tries_left(), 4);
    configure(&workplace, PIN);
    workplace.does(&sign);
    assert_eq!(workplace.tries_left(), 5);

    workplace.block();
    let said = workplace.refuses(&sign);
    assert!(said.contains("PIN locked"), "{said}");
    workplace.unblock();
    workplace.delete("rsa");
    let said = workplace.refuses(&sign);
    assert!(said.contains("key was not found"), "{said}");
    let (sign, uri) = (engine("dgst -sha256"), workplace.key_uri("ec"));
    let sign = format!("{sign} -sign {uri} -out signature message");
    workplace.does(&sign);
    workplace.cardea(&["card", "destroy", "Alice", "--yes"]);
    workplace.refuses(&sign);
}
