//! PKCS#12.

use cardea_pki::{Certificate, Error, Pkcs12, PrivateKey};

use crate::support::{PASSPHRASE, data};

fn check(file: &str, passphrase: Option<&[u8]>, key: &str, others: &[&str], name: Option<&str>) {
    let parsed =
        Pkcs12::parse(&data(file), passphrase).unwrap_or_else(|error| panic!("{file}: {error}"));
    let expected = PrivateKey::parse(&data(&format!("{key}.pkcs8.pem")), None).unwrap();
    assert_eq!(parsed.key().public_key(), expected.public_key(), "{file}");
    match (parsed.key(), &expected) {
        (PrivateKey::Rsa(found), PrivateKey::Rsa(expected)) => assert_eq!(found.p(), expected.p()),
        (PrivateKey::Ec(found), PrivateKey::Ec(expected)) => assert_eq!(found.d(), expected.d()),
        _ => panic!("{file}: another kind"),
    }
    let certificate = Certificate::parse(&data(&format!("{key}.cert.pem"))).unwrap();
    let key = parsed.key().public_key();
    let all = parsed.certificates().iter().cloned();
    let (own, rest): (Vec<_>, Vec<_>) = all.partition(|found| found.matches(key));
    assert_eq!(own, [certificate], "{file}");
    let others: Vec<_> = others
        .iter()
        .map(|name| Certificate::parse(&data(name)).unwrap())
        .collect();
    assert_eq!(rest, others, "{file}");
    assert_eq!(parsed.friendly_name(), name, "{file}");
    assert_eq!(parsed.into_key().kind(), expected.kind());
}

#[test]
fn modern_files_are_read() {
    check(
        "modern.p12",
        PASSPHRASE,
        "rsa2048",
        &["ca.cert.pem"],
        Some("Ada's key – ключ"),
    );
    check("modern-default.p12", PASSPHRASE, "rsa2048", &[], None);
    check("modern-p384.p12", PASSPHRASE, "p384", &[], Some("p384"));
    check("modern-sha512.p12", PASSPHRASE, "p256", &[], None);
    check("plain.p12", PASSPHRASE, "p256", &[], None);
    check("pbmac1.p12", PASSPHRASE, "p256", &[], None);
}

#[test]
fn legacy_files_are_read() {
    check(
        "legacy.p12",
        PASSPHRASE,
        "rsa2048",
        &["ca.cert.pem"],
        Some("Ada's key"),
    );
    check("legacy-3des.p12", PASSPHRASE, "p256", &[], None);
    check("legacy-2des.p12", PASSPHRASE, "p256", &[], None);
    check("legacy-rc2-128.p12", PASSPHRASE, "p256", &[], None);
}

#[test]
fn files_of_nss_are_read() {
    check(
        "nss.p12",
        PASSPHRASE,
        "p384",
        &["ca.cert.pem"],
        Some("p384"),
    );
    check(
        "nss-legacy.p12",
        PASSPHRASE,
        "p384",
        &["ca.cert.pem"],
        Some("p384"),
    );
}

#[test]
fn passphrases_of_all_kinds_open_files() {
    for none in [None, Some(&b""[..])] {
        check("empty-passphrase.p12", none, "p256", &[], None);
    }
    let umlauts = Some("pässwörd€".as_bytes());
    check("umlauts.p12", umlauts, "p256", &[], None);
    check("umlauts-legacy.p12", umlauts, "p256", &[], None);
}

#[test]
fn wrong_and_missing_passphrases_are_told_apart() {
    for file in ["modern.p12", "legacy.p12", "plain.p12", "pbmac1.p12"] {
        let file = data(file);
        assert_eq!(
            Pkcs12::parse(&file, Some(b"open")).unwrap_err(),
            Error::WrongPassphrase
        );
        assert_eq!(
            Pkcs12::parse(&file, Some(b"")).unwrap_err(),
            Error::WrongPassphrase
        );
        assert_eq!(
            Pkcs12::parse(&file, None).unwrap_err(),
            Error::PassphraseNeeded
        );
    }
}

#[test]
fn key_without_certificate_is_read() {
    let parsed = Pkcs12::parse(&data("key-only.p12"), PASSPHRASE).unwrap();
    assert!(parsed.certificates().is_empty());
}

#[test]
fn what_is_not_taken_says_why() {
    for (file, part) in [
        ("two-keys.p12", "2 private keys in the file"),
        ("certificates-only.p12", "it contains 1 certificates only"),
        ("refused-rc4.p12", "PBE-SHA1-RC4-128 is not supported"),
        (
            "refused-no-mac.p12",
            "PKCS#12 without a MAC is not supported",
        ),
        ("refused-rsa4096.p12", "the key is RSA-4096"),
        ("p256.cert.der", "the PKCS#12 file is damaged or invalid"),
        ("p256.pkcs8.pem", "the PKCS#12 file is damaged or invalid"),
    ] {
        let error = Pkcs12::parse(&data(file), PASSPHRASE).unwrap_err();
        assert!(error.to_string().contains(part), "{file}: {error}");
    }
}

#[test]
fn pkcs12_is_told_from_private_keys_by_its_beginning() {
    for entry in std::fs::read_dir(crate::support::path("")).unwrap() {
        let path = entry.unwrap().path();
        let expected = path.extension().is_some_and(|ending| ending == "p12");
        let content = std::fs::read(&path).unwrap();
        assert_eq!(Pkcs12::looks_like(&content), expected, "{}", path.display());
    }
    for damaged in [&b""[..], b"0", b"0\x82", b"0\x82\x01", b"0\x03\x02\x01"] {
        assert!(!Pkcs12::looks_like(damaged), "{damaged:?}");
    }
    assert!(Pkcs12::looks_like(b"0\x03\x02\x01\x03"));
}
