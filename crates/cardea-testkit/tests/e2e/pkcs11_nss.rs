//! NSS with our module: `modutil`, `certutil`, `pk12util` and `cmsutil` 3.87.
//!
//! What the card signed is verified, and what it decrypts is encrypted, by OpenSSL.

use std::fs;

use cardea_testkit::rig::PIN;

use cardea_testkit::desk::{Desk, KEYS, MESSAGE, module};

/// An NSS database that has our module and trusts the test CA.
fn prepare(desk: &Desk) {
    fs::create_dir(desk.path("db")).unwrap();
    fs::write(desk.path("noise"), [0x5A; 64]).unwrap();
    desk.does("certutil -N -d sql:db --empty-password");
    let module = module();
    let added = desk.does(&format!(
        "modutil -force -dbdir sql:db -add cardea -libfile {module}"
    ));
    assert!(added.contains("added to database"), "{added}");
    if desk.path("ca.pem").exists() {
        desk.does("certutil -A -d sql:db -n tester -t CT,C,C -i ca.pem");
    }
}

/// A command of `certutil` on the card "Alice".
fn certutil(verb: &str) -> String {
    format!("certutil {verb} -d sql:db -h Alice -f pin")
}

#[test]
fn nss_lists_the_card_its_keys_and_certificates() {
    let desk = Desk::with_certificates();
    prepare(&desk);
    let modules = desk.does("modutil -dbdir sql:db -list");
    assert!(modules.contains("token: Alice"), "{modules}");

    let certificates = desk.does(&certutil("-L"));
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
    desk.does("openssl x509 -in rsa.pem -outform DER -out rsa.der");
    desk.does(&(certutil("-L") + " -n Alice:rsa -r -o stored"));
    assert_eq!(
        fs::read(desk.path("stored")).unwrap(),
        fs::read(desk.path("rsa.der")).unwrap()
    );

    let keys = desk.does(&certutil("-K"));
    for (kind, label) in [("rsa", "rsa"), ("ec", "ec")] {
        let found = |line: &str| {
            let mut words = line.split_ascii_whitespace().rev();
            words.next() == Some(label) && words.any(|word| word == kind)
        };
        assert!(keys.lines().any(found), "{keys}");
    }

    // A wrong PIN shows no key and costs a try, or two, as it may ask again.
    let refused = desk.refuses("certutil -K -d sql:db -h Alice -f wrong");
    assert!(refused.contains("ncorrect password"), "{refused}");
    assert!(desk.tries_left() < 5);
    desk.does(&certutil("-K"));
    desk.delete("ec");
    let keys = desk.does(&certutil("-K"));
    assert_eq!(keys.matches(" ec ").count(), 0, "{keys}");
}

#[test]
fn certutil_makes_requests_with_keys_that_are_there() {
    let desk = Desk::with_keys();
    prepare(&desk);
    for key in KEYS {
        // It finds a key by its CKA_ID, in digits.
        let uri = desk.key_uri(key);
        let (_, id) = uri.split_once(";id=%").unwrap();
        let id = id.get(..2).unwrap().to_lowercase();
        let make = certutil("-R");
        desk.does(&format!("{make} -k {id} -s CN=Alice -a -o request.pem"));
        let verified = desk.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
        desk.does("openssl req -noout -pubkey -in request.pem -out requested.pub");
        assert_eq!(
            fs::read(desk.path("requested.pub")).unwrap(),
            fs::read(desk.public(key)).unwrap()
        );
    }
}

/// NSS gives a new key its own CKA_ID, the hash of its public half, by C_SetAttributeValue.
#[test]
fn certutil_makes_keys_on_the_card() {
    let desk = Desk::new();
    desk.create("Alice");
    prepare(&desk);
    for (kind, algorithm) in [
        ("-k rsa -g 2048", "rsa-2048"),
        ("-k ec -q secp256r1", "p-256"),
        ("-k ec -q secp384r1", "p-384"),
    ] {
        let make = certutil("-R");
        desk.does(&format!(
            "{make} {kind} -z noise -s CN=Alice -a -o request.pem"
        ));
        let verified = desk.does("openssl req -verify -noout -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
        let listed = desk.cardea(&["key", "list", "Alice"]);
        assert_eq!(listed.matches(algorithm).count(), 1, "{listed}");
        // The certificate for it finds its key.
        desk.does("openssl req -noout -pubkey -in request.pem -out requested.pub");
        let certificate = desk.issue("requested.pub", algorithm);
        let store = certutil("-A");
        desk.does(&format!("{store} -n {algorithm} -t ,, -a -i {certificate}"));
        let certificates = desk.does(&certutil("-L"));
        let found = certificates
            .lines()
            .find(|line| line.starts_with(&format!("Alice:{algorithm} ")));
        assert!(
            found.is_some_and(|line| line.ends_with("u,u,u")),
            "{certificates}"
        );
    }
    let make = certutil("-S");
    desk.does(&format!(
        "{make} -k ec -q secp256r1 -z noise -s CN=Self -n own -x -t ,, -m 7"
    ));
    desk.does(&(certutil("-L") + " -n Alice:own -a -o own.pem"));
    desk.does("openssl verify -CAfile own.pem own.pem");
    let listed = desk.cardea(&["key", "list", "Alice"]);
    assert!(!listed.contains("imported"), "{listed}");
}

#[test]
fn cmsutil_signs_and_decrypts() {
    let desk = Desk::with_certificates();
    prepare(&desk);
    for key in KEYS {
        let sign = format!("cmsutil -S -d sql:db -N Alice:{key} -i message");
        desk.does(&format!("{sign} -p {PIN} -o signed"));
        desk.check_cms("signed", "DER");
    }
    // It does not read what OpenSSL seals for an EC key ("improperly formatted DER-encoded message").
    desk.does("openssl cms -encrypt -aes256 -in message -outform DER -out sealed -recip rsa.pem");
    let open = "cmsutil -D -d sql:db -i sealed";
    let opened = desk.does(&format!("{open} -p {PIN}"));
    assert!(opened.replace('\r', "").contains(MESSAGE), "{opened}");
    let refused = desk.refuses(&format!("{open} -f wrong"));
    assert!(refused.contains("ncorrect password"), "{refused}");
    desk.does(&format!("{open} -p {PIN}"));
    desk.delete("rsa");
    let refused = desk.refuses(&format!("{open} -p {PIN}"));
    assert!(refused.contains("not a recipient"), "{refused}");
}

/// `pk12util` makes the private key, then its public half as a token object, then the certificate.
#[test]
fn pk12util_imports_keys_with_their_certificates() {
    let desk = Desk::new();
    desk.create("Alice");
    for (name, make) in [
        ("r", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("e", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ] {
        desk.does(&format!("openssl genpkey {make} -out {name}.key"));
        desk.does(&format!(
            "openssl pkey -in {name}.key -pubout -out {name}.key.pub"
        ));
        desk.issue(&format!("{name}.key.pub"), name);
        desk.does(&format!(
            "openssl pkcs12 -export -inkey {name}.key -in {name}.pem -name {name} \
             -passout pass:secret -out {name}.p12"
        ));
    }
    prepare(&desk);
    let import = |name: &str, passphrase: &str| {
        format!("pk12util -i {name}.p12 -d sql:db -h Alice -k pin -W {passphrase}")
    };
    desk.refuses(&import("r", "another"));
    desk.refuses("pk12util -i r.p12 -d sql:db -h Alice -k wrong -W secret");
    let listed = desk.cardea(&["key", "list", "Alice"]);
    assert!(!listed.contains("imported"), "{listed}");
    for (name, algorithm) in [("r", "rsa-2048"), ("e", "p-256")] {
        desk.does(&import(name, "secret"));
        let listed = desk.cardea(&["key", "list", "Alice"]);
        let key = listed
            .lines()
            .find(|line| line.contains(algorithm))
            .unwrap();
        assert!(
            key.contains("imported") && key.contains(&format!("CN={name}")),
            "{key}"
        );
        desk.does(&format!(
            "cmsutil -S -d sql:db -N Alice:{name} -p {PIN} -i message -o signed"
        ));
        desk.check_cms("signed", "DER");
    }
    desk.does("openssl cms -encrypt -aes256 -in message -outform DER -out sealed -recip r.pem");
    let opened = desk.does(&format!("cmsutil -D -d sql:db -i sealed -p {PIN}"));
    assert!(opened.replace('\r', "").contains(MESSAGE), "{opened}");
    // What was imported does not come out again.
    desk.refuses("pk12util -o out.p12 -n Alice:r -d sql:db -h Alice -k pin -W secret");
}
