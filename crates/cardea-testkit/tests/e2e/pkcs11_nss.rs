//! NSS with our module: `modutil`, `certutil`, `pk12util` and `cmsutil` 3.87.
//!
//! What the card signed is verified, and what it decrypts is encrypted, by OpenSSL.

use std::fs;

use cardea_testkit::played;
use cardea_testkit::rig::PIN;

use cardea_testkit::workplace::{KEYS, MESSAGE, Workplace, module};

/// An NSS database that has our module and trusts the test CA.
fn prepare(workplace: &Workplace) {
    fs::create_dir(workplace.path("db")).unwrap();
    fs::write(workplace.path("noise"), [0x5A; 64]).unwrap();
    workplace.does("certutil -N -d sql:db --empty-password");
    let module = module();
    let added = workplace.does(&format!(
        "modutil -force -dbdir sql:db -add cardea -libfile {module}"
    ));
    assert!(added.contains("added to database"), "{added}");
    if workplace.path("ca.pem").exists() {
        workplace.does("certutil -A -d sql:db -n tester -t CT,C,C -i ca.pem");
    }
}

/// A command of `certutil` on the card "Alice".
fn certutil(verb: &str) -> String {
    format!("certutil {verb} -d sql:db -h Alice -f pin")
}

#[test]
fn nss_lists_the_card_its_keys_and_certificates() {
    let workplace = Workplace::with_certificates();
    prepare(&workplace);
    let modules = workplace.does("modutil -dbdir sql:db -list");
    assert!(modules.contains("token: Alice"), "{modules}");

    let certificates = workplace.does(&certutil("-L"));
    for key in KEYS {
        // `u`: the key is there too.
        let found = certificates
            .lines()
            .find(|line| line.starts_with(&format!("Alice:{key} ")));
        assert!(
            found.is_some_and(|line| line.ends_with("u,u,u")),
            "{certificates}"
        );
    }
    workplace.does("openssl x509 -in rsa.pem -outform DER -out rsa.der");
    workplace.does(&(certutil("-L") + " -n Alice:rsa -r -o stored"));
    assert_eq!(
        fs::read(workplace.path("stored")).unwrap(),
        fs::read(workplace.path("rsa.der")).unwrap()
    );

    let keys = workplace.does(&certutil("-K"));
    for (kind, label) in [("rsa", "rsa"), ("ec", "ec")] {
        let found = |line: &str| {
            let mut words = line.split_ascii_whitespace().rev();
            words.next() == Some(label) && words.any(|word| word == kind)
        };
        assert!(keys.lines().any(found), "{keys}");
    }

    // A wrong PIN shows no key and costs a try, or two, as it may ask again.
    let refused = workplace.refuses("certutil -K -d sql:db -h Alice -f wrong");
    assert!(refused.contains("ncorrect password"), "{refused}");
    assert!(workplace.tries_left() < 5);
    workplace.does(&certutil("-K"));
    workplace.delete("ec");
    let keys = workplace.does(&certutil("-K"));
    assert_eq!(keys.matches(" ec ").count(), 0, "{keys}");
}

#[test]
fn certutil_makes_requests_with_keys_that_are_there() {
    let workplace = Workplace::with_keys();
    prepare(&workplace);
    for key in KEYS {
        // It finds a key by its CKA_ID, in digits.
        let uri = workplace.key_uri(key);
        let (_, id) = uri.split_once(";id=%").unwrap();
        let id = id.get(..2).unwrap().to_lowercase();
        let make = certutil("-R");
        workplace.does(&format!("{make} -k {id} -s CN=Alice -a -o request.pem"));
        let verified = workplace.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
        workplace.does("openssl req -noout -pubkey -in request.pem -out requested.pub");
        assert_eq!(
            fs::read(workplace.path("requested.pub")).unwrap(),
            fs::read(workplace.public(key)).unwrap()
        );
    }
}

/// NSS gives a new key its own CKA_ID, the hash of its public half, by C_SetAttributeValue.
#[test]
fn certutil_makes_keys_on_the_card() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    prepare(&workplace);
    for (kind, algorithm, is_there) in [
        ("-k rsa -g 2048", "rsa-2048", true),
        ("-k ec -q secp256r1", "p-256", true),
        ("-k ec -q secp384r1", "p-384", played::has_curve("P-384")),
    ] {
        let make = certutil("-R") + &format!(" {kind} -z noise -s CN=Alice -a -o request.pem");
        if !is_there {
            workplace.refuses(&make);
            continue;
        }
        workplace.does(&make);
        let verified = workplace.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
        let listed = workplace.cardea(&["key", "list", "Alice"]);
        assert_eq!(listed.matches(algorithm).count(), 1, "{listed}");
        // The certificate for it finds its key.
        workplace.does("openssl req -noout -pubkey -in request.pem -out requested.pub");
        let certificate = workplace.issue("requested.pub", algorithm);
        let store = certutil("-A");
        workplace.does(&format!("{store} -n {algorithm} -t ,, -a -i {certificate}"));
        let certificates = workplace.does(&certutil("-L"));
        let found = certificates
            .lines()
            .find(|line| line.starts_with(&format!("Alice:{algorithm} ")));
        assert!(
            found.is_some_and(|line| line.ends_with("u,u,u")),
            "{certificates}"
        );
    }
    let make = certutil("-S");
    workplace.does(&format!(
        "{make} -k ec -q secp256r1 -z noise -s CN=Self -n own -x -t ,, -m 7"
    ));
    workplace.does(&(certutil("-L") + " -n Alice:own -a -o own.pem"));
    workplace.does("openssl verify -CAfile own.pem own.pem");
    let listed = workplace.cardea(&["key", "list", "Alice"]);
    assert!(!listed.contains("imported"), "{listed}");
}

#[test]
fn cmsutil_signs_and_decrypts() {
    let workplace = Workplace::with_certificates();
    prepare(&workplace);
    for key in KEYS {
        let sign = format!("cmsutil -S -d sql:db -N Alice:{key} -i message");
        workplace.does(&format!("{sign} -p {PIN} -o signed"));
        workplace.check_cms("signed", "DER");
    }
    // It does not read what OpenSSL seals for an EC key ("improperly formatted DER-encoded message").
    workplace
        .does("openssl cms -encrypt -aes256 -in message -outform DER -out sealed -recip rsa.pem");
    let open = "cmsutil -D -d sql:db -i sealed";
    let opened = workplace.does(&format!("{open} -p {PIN}"));
    assert!(opened.replace('\r', "").contains(MESSAGE), "{opened}");
    let refused = workplace.refuses(&format!("{open} -f wrong"));
    assert!(refused.contains("ncorrect password"), "{refused}");
    workplace.does(&format!("{open} -p {PIN}"));
    workplace.delete("rsa");
    let refused = workplace.refuses(&format!("{open} -p {PIN}"));
    assert!(refused.contains("not a recipient"), "{refused}");
}

/// `pk12util` makes the private key, then its public half as a token object, then the certificate.
#[test]
fn pk12util_imports_keys_with_their_certificates() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    for (name, make) in [
        ("r", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("e", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ] {
        workplace.does(&format!("openssl genpkey {make} -out {name}.key"));
        workplace.does(&format!(
            "openssl pkey -in {name}.key -pubout -out {name}.key.pub"
        ));
        workplace.issue(&format!("{name}.key.pub"), name);
        workplace.does(&format!(
            "openssl pkcs12 -export -inkey {name}.key -in {name}.pem -name {name} \
             -passout pass:secret -out {name}.p12"
        ));
    }
    prepare(&workplace);
    let import = |name: &str, passphrase: &str| {
        format!("pk12util -i {name}.p12 -d sql:db -h Alice -k pin -W {passphrase}")
    };
    workplace.refuses(&import("r", "another"));
    workplace.refuses("pk12util -i r.p12 -d sql:db -h Alice -k wrong -W secret");
    let listed = workplace.cardea(&["key", "list", "Alice"]);
    assert!(!listed.contains("imported"), "{listed}");
    for (name, algorithm) in [("r", "rsa-2048"), ("e", "p-256")] {
        workplace.does(&import(name, "secret"));
        let listed = workplace.cardea(&["key", "list", "Alice"]);
        let key = listed
            .lines()
            .find(|line| line.contains(algorithm))
            .unwrap();
        assert!(
            key.contains("imported") && key.contains(&format!("CN={name}")),
            "{key}"
        );
        workplace.does(&format!(
            "cmsutil -S -d sql:db -N Alice:{name} -p {PIN} -i message -o signed"
        ));
        workplace.check_cms("signed", "DER");
    }
    workplace
        .does("openssl cms -encrypt -aes256 -in message -outform DER -out sealed -recip r.pem");
    let opened = workplace.does(&format!("cmsutil -D -d sql:db -i sealed -p {PIN}"));
    assert!(opened.replace('\r', "").contains(MESSAGE), "{opened}");
    // What was imported does not come out again.
    workplace.refuses("pk12util -o out.p12 -n Alice:r -d sql:db -h Alice -k pin -W secret");
}
