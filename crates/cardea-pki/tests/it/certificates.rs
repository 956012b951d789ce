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

#[test]
fn awkward_certificates_belong_to_their_keys() {
    let mut count = 0;
    for entry in std::fs::read_dir(path("../awkward")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let file = data(&format!("../awkward/{name}"));
        let (key, is_refused) = match name.strip_prefix("refused-") {
            Some(rest) => (rest, true),
            None => (name.as_str(), false),
        };
        let key = public(key.split('.').next().unwrap());
        let belongs = Certificate::parse(&file).is_ok_and(|found| found.matches(&key));
        assert_eq!(belongs, !is_refused, "{name}");
        count += 1;
    }
    assert!(count >= 10, "{count} files");

    let universal = Certificate::parse(&data("../awkward/p256.universal-string.der")).unwrap();
    assert_eq!(universal.subject().to_string(), "CN=Zoë");
    // What is behind a certificate is not part of it.
    let plain = data("../awkward/rsa2048.plain.der");
    let padded = Certificate::parse(&data("../awkward/rsa2048.zeros-behind.der")).unwrap();
    assert_eq!(padded.der(), plain);
}

#[test]
fn certificates_inside_pkcs7_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let expected: Vec<Certificate> = ["p256", "ca", "rsa2048"]
        .map(|name| Certificate::parse(&data(&format!("{name}.cert.pem"))).unwrap())
        .into();
    let bundle = folder.path().join("bundle.pem");
    let pem: String = expected.iter().map(Certificate::to_pem).collect();
    std::fs::write(&bundle, pem).unwrap();
    let made = |form: &str| {
        let out = folder.path().join(form);
        openssl_text(&[
            "crl2pkcs7",
            "-nocrl",
            "-certfile",
            bundle.to_str().unwrap(),
            "-outform",
            form,
            "-out",
            out.to_str().unwrap(),
        ]);
        std::fs::read(out).unwrap()
    };
    let (der, pem) = (made("DER"), String::from_utf8(made("PEM")).unwrap());
    assert!(pem.contains("BEGIN PKCS7"));
    assert_eq!(Certificate::parse_all(&der).unwrap(), expected);
    assert_eq!(Certificate::parse_all(pem.as_bytes()).unwrap(), expected);
    let padded = [&der[..], b"\0\0\r\n"].concat();
    assert_eq!(Certificate::parse_all(&padded).unwrap(), expected);
    // AD CS writes this label over it.
    let labelled = pem.replace("PKCS7", "CERTIFICATE");
    assert_eq!(
        Certificate::parse_all(labelled.as_bytes()).unwrap(),
        expected
    );
    // Lengths at the end, as BER has them: of the outer three elements.
    let mut ber = vec![0x30, 0x80];
    let content = &der[4..];
    ber.extend(&content[..11]);
    ber.extend([0xA0, 0x80, 0x30, 0x80]);
    ber.extend(&content[11 + 4 + 4..]);
    ber.extend([0; 6]);
    assert_eq!(Certificate::parse_all(&ber).unwrap(), expected);
    let padded = [&ber[..], b"\0\0\r\n"].concat();
    assert_eq!(Certificate::parse_all(&padded).unwrap(), expected);
    let followed = [&ber[..], b"\0\0more"].concat();
    assert!(Certificate::parse_all(&followed).is_err());

    // Damaged, cut, and without certificates.
    for len in [20, 100, der.len() - 1] {
        assert!(Certificate::parse_all(&der[..len]).is_err(), "{len}");
    }
    let data_only = [
        0x30, 0x0f, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01, 0xa0, 0x02,
        0x04, 0x00,
    ];
    assert!(matches!(
        Certificate::parse_all(&data_only),
        Err(Error::Unsupported(_))
    ));
    let empty = [
        &[
            0x30, 0x23, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02,
        ][..],
        &[
            0xa0, 0x16, 0x30, 0x14, 0x02, 0x01, 0x01, 0x31, 0x00, 0x30, 0x0b,
        ],
        &[
            0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01,
        ],
        &[0x31, 0x00],
    ]
    .concat();
    let error = Certificate::parse_all(&empty).unwrap_err();
    assert!(
        error.to_string().contains("PKCS#7 without certificates"),
        "{error}"
    );
}
