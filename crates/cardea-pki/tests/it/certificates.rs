//! Certificates.

use cardea_pki::{Certificate, Error, KeyKind, PublicKey};

use crate::support::{data, openssl_text, path, text};

fn public(key: &str) -> PublicKey {
    PublicKey::parse(&data(&format!("{key}.spki.pem"))).unwrap()
}

#[test]
fn certificate_is_read_as_openssl_reads_it() {
    for key in ["rsa2048", "rsa3072", "p256", "p384"] {
        let certificate = Certificate::parse(&data(&format!("{key}.cert.pem"))).unwrap();
        assert_eq!(certificate.der(), data(&format!("{key}.cert.der")));
        assert_eq!(Certificate::parse(certificate.der()).unwrap(), certificate);
        assert_eq!(certificate.to_pem(), text(&format!("{key}.cert.pem")));
        assert_eq!(certificate.spki(), public(key).to_spki_der());
        assert_eq!(certificate.public_key().unwrap(), &public(key));

        let file = path(&format!("{key}.cert.pem"));
        let printed = openssl_text(&[
            "x509",
            "-in",
            file.to_str().unwrap(),
            "-noout",
            "-subject",
            "-issuer",
            "-serial",
            "-fingerprint",
            "-sha256",
            "-startdate",
            "-enddate",
            "-dateopt",
            "iso_8601",
            "-nameopt",
            "RFC2253,-esc_msb,utf8",
        ]);
        let value = |heading: &str| {
            let line = printed
                .lines()
                .find(|line| line.starts_with(heading))
                .unwrap();
            line.split_once('=').unwrap().1.to_owned()
        };
        assert_eq!(certificate.subject().to_string(), value("subject"));
        assert_eq!(certificate.issuer().to_string(), value("issuer"));
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02X}"))
                .collect::<Vec<_>>()
        };
        // OpenSSL leaves a leading zero out.
        let serial = hex(certificate.serial()).concat();
        assert_eq!(
            serial.strip_prefix("00").unwrap_or(&serial),
            value("serial")
        );
        assert_eq!(
            hex(&certificate.fingerprint()).join(":"),
            value("sha256 Fingerprint")
        );
        assert_eq!(certificate.not_before(), seconds(&value("notBefore")));
        assert_eq!(certificate.not_after(), seconds(&value("notAfter")));
        assert!(!certificate.is_self_issued());
    }
}

/// Seconds since 1970 of `2026-01-31 12:00:00Z`, by `date`.
fn seconds(text: &str) -> i64 {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", text, "+%s"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn alternative_names_are_listed() {
    let certificate = Certificate::parse(&data("rsa2048.cert.pem")).unwrap();
    let names: Vec<_> = certificate
        .alternative_names()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        names,
        [
            "email:ada@example.org",
            "dns:ada.example.org",
            "uri:https://example.org/ada",
            "upn:ada@EXAMPLE.ORG"
        ]
    );
    assert_eq!(certificate.subject().common_name(), Some("Ada Lovelace"));
    assert_eq!(
        certificate.subject().to_string(),
        r"CN=Ada Lovelace,OU=Żółw,O=Example\, Ltd.,C=GB"
    );
    let none = Certificate::parse(&data("p256.cert.pem")).unwrap();
    assert!(none.alternative_names().is_empty());
}

#[test]
fn certificate_matches_its_key_only() {
    let keys = ["rsa2048", "rsa3072", "p256", "p384"];
    for own in keys {
        let certificate = Certificate::parse(&data(&format!("{own}.cert.pem"))).unwrap();
        for other in keys {
            assert_eq!(certificate.matches(&public(other)), own == other);
        }
    }
}

#[test]
fn certificate_of_a_key_that_no_card_holds_is_read() {
    let certificate = Certificate::parse(&data("ca.cert.pem")).unwrap();
    assert_eq!(certificate.key_kind(), None);
    assert_eq!(certificate.key_description(), "RSA-4096");
    assert!(matches!(
        certificate.public_key(),
        Err(Error::UnsupportedKey { .. })
    ));
    assert!(certificate.is_self_issued());
    assert!(!certificate.matches(&public("rsa2048")));

    let certificate = Certificate::parse(&data("p384.cert.pem")).unwrap();
    assert_eq!(certificate.key_kind(), Some(KeyKind::P384));
    assert_eq!(certificate.key_description(), "P-384");
}

#[test]
fn all_certificates_of_a_file_are_read() {
    let file = [
        data("p256.cert.pem"),
        data("p256.spki.pem"),
        data("ca.cert.pem"),
    ]
    .concat();
    let all = Certificate::parse_all(&file).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(Certificate::parse(&file).unwrap(), all[0]);
}

#[test]
fn files_without_a_certificate_say_what_they_have() {
    assert_eq!(
        Certificate::parse(&data("p256.spki.pem")).unwrap_err(),
        Error::NoCertificate {
            found: "PUBLIC KEY".to_owned()
        }
    );
    assert!(matches!(
        Certificate::parse(b""),
        Err(Error::Malformed { .. })
    ));
    assert!(matches!(
        Certificate::parse(&data("p256.pkcs8.der")),
        Err(Error::Malformed { .. })
    ));
    let huge = vec![b' '; cardea_pki::MAX_INPUT + 1];
    assert_eq!(Certificate::parse(&huge), Err(Error::TooLarge(huge.len())));
}
