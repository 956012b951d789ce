//! Envelopes for the holder of a certificate, opened by OpenSSL.

use std::fs;

use cardea_pki::envelope::{Random, seal};
use cardea_pki::{Certificate, Error};
use zeroize::Zeroizing;

use crate::support::{data, openssl, path};

fn random() -> Random {
    Random {
        key: Zeroizing::new([0x11; 32]),
        iv: [0x22; 16],
        seed: Zeroizing::new([0x33; 32]),
    }
}

/// Opens an envelope with a key.
fn opened(envelope: &str, key: &str, certificate: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envelope");
    fs::write(&file, envelope).unwrap();
    let file = file.to_str().unwrap();
    openssl(&[
        "cms",
        "-decrypt",
        "-inform",
        "PEM",
        "-in",
        file,
        "-inkey",
        key,
        "-recip",
        certificate,
    ])
}

#[test]
fn holder_of_the_certificate_opens_it() {
    for key in ["rsa2048", "rsa3072"] {
        let certificate = Certificate::parse(&data(&format!("{key}.cert.pem"))).unwrap();
        for content in [&b""[..], b"cardea admin key\n", &[7; 1024]] {
            let envelope = seal(content, &certificate, &random()).unwrap();
            let key_file = path(&format!("{key}.pkcs8.pem"));
            let certificate = path(&format!("{key}.cert.pem"));
            let found = opened(
                &envelope,
                key_file.to_str().unwrap(),
                certificate.to_str().unwrap(),
            );
            assert_eq!(found, content, "{key}");
        }
    }
}

/// Larger than any key on a card.
#[test]
fn administrators_may_have_4096_bits() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (key, certificate) = (file("key"), file("certificate"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:4096",
        "-nodes",
        "-keyout",
        &key,
        "-out",
        &certificate,
        "-subj",
        "/CN=Administrator",
        "-days",
        "1",
    ]);
    let parsed = Certificate::parse(&fs::read(&certificate).unwrap()).unwrap();
    let envelope = seal(b"secret", &parsed, &random()).unwrap();
    assert_eq!(opened(&envelope, &key, &certificate), b"secret");
}

#[test]
fn other_keys_and_long_contents_are_refused() {
    let curve = Certificate::parse(&data("p256.cert.pem")).unwrap();
    assert!(matches!(
        seal(b"secret", &curve, &random()),
        Err(Error::UnsupportedKey { .. })
    ));
    let rsa = Certificate::parse(&data("rsa2048.cert.pem")).unwrap();
    assert!(matches!(
        seal(&[0; 1025], &rsa, &random()),
        Err(Error::TooLarge(1025))
    ));
}
