//! Private and public keys.

use cardea_pki::{Curve, Error, KeyKind, PrivateKey, PublicKey};

use crate::support::{PASSPHRASE, data, openssl_text, path, text};

/// The numbers of a key as OpenSSL prints them, by their headings.
fn printed(name: &str, heading: &str) -> Vec<u8> {
    let path = path(name);
    let text = openssl_text(&["pkey", "-in", path.to_str().unwrap(), "-noout", "-text"]);
    let after = text.split_once(&format!("{heading}:")).unwrap().1;
    after
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .flat_map(|line| line.trim().split(':'))
        .filter(|byte| !byte.is_empty())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn without_zeros(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

fn padded(bytes: Vec<u8>, len: usize) -> Vec<u8> {
    let bytes = without_zeros(bytes);
    [vec![0; len - bytes.len()], bytes].concat()
}

/// Every file of a key gives the numbers that OpenSSL prints.
fn check(key: &str, forms: &[&str], kind: KeyKind) {
    for form in forms {
        let name = format!("{key}.{form}");
        let parsed = PrivateKey::parse(&data(&name), PASSPHRASE)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(parsed.kind(), kind);
        let plain = format!("{key}.pkcs8.pem");
        match &parsed {
            PrivateKey::Rsa(rsa) => {
                assert_eq!(rsa.n(), without_zeros(printed(&plain, "modulus")));
                assert_eq!(rsa.p(), without_zeros(printed(&plain, "prime1")));
                assert_eq!(rsa.q(), without_zeros(printed(&plain, "prime2")));
                assert_eq!(rsa.e(), [1, 0, 1]);
            }
            PrivateKey::Ec(ec) => {
                let len = ec.curve().field_len();
                assert_eq!(ec.d(), padded(printed(&plain, "priv"), len));
                let point = printed(&plain, "pub");
                assert_eq!([&[4], ec.x(), ec.y()].concat(), point);
            }
        }
        assert_eq!(
            parsed.public_key().to_spki_pem(),
            text(&format!("{key}.spki.pem"))
        );
    }
}

#[test]
fn rsa_2048_is_read_in_every_form() {
    check(
        "rsa2048",
        &[
            "pkcs8.pem",
            "pkcs8.der",
            "pkcs1.pem",
            "pkcs1.der",
            "aes256.pem",
        ],
        KeyKind::Rsa2048,
    );
}

#[test]
fn rsa_3072_is_read_in_every_form() {
    check(
        "rsa3072",
        &[
            "pkcs8.pem",
            "pkcs8.der",
            "pkcs1.pem",
            "pkcs1.der",
            "aes192-sha512.pem",
        ],
        KeyKind::Rsa3072,
    );
}

#[test]
fn p256_is_read_in_every_form() {
    check(
        "p256",
        &[
            "pkcs8.pem",
            "pkcs8.der",
            "sec1.pem",
            "sec1.der",
            "sec1-no-public.der",
            "sec1-compressed.der",
            "aes128-sha1.pem",
            "aes256.der",
            "aes256-default.pem",
            "3des.pem",
            "pbe-3des.pem",
        ],
        KeyKind::P256,
    );
}

#[test]
fn p384_is_read_in_every_form() {
    check(
        "p384",
        &[
            "pkcs8.pem",
            "pkcs8.der",
            "sec1.pem",
            "sec1.der",
            "sec1-no-public.der",
            "sec1-compressed.der",
            "scrypt.pem",
            "scrypt-default.pem",
        ],
        KeyKind::P384,
    );
}

#[test]
fn wrong_and_missing_passphrases_are_told_apart() {
    for name in [
        "rsa2048.aes256.pem",
        "p256.3des.pem",
        "p384.scrypt.pem",
        "p256.pbe-3des.pem",
        "p256.aes256.der",
    ] {
        let file = data(name);
        assert_eq!(
            PrivateKey::parse(&file, None).unwrap_err(),
            Error::PassphraseNeeded
        );
        // Among so many some padding looks right.
        for wrong in 0..600_u32 {
            let error = PrivateKey::parse(&file, Some(&wrong.to_be_bytes())).unwrap_err();
            assert_eq!(error, Error::WrongPassphrase, "{name}");
        }
    }
}

#[test]
fn passphrase_for_a_plain_file_is_not_used() {
    assert!(PrivateKey::parse(&data("p256.pkcs8.pem"), None).is_ok());
}

#[test]
fn keys_that_no_card_holds_are_named() {
    for (name, found) in [
        ("rsa1024.pkcs8.pem", "RSA-1024"),
        ("rsa4096.pkcs8.pem", "RSA-4096"),
        ("rsa2048-3primes.pkcs8.pem", "RSA with more than two primes"),
        ("rsa-pss.pkcs8.pem", "RSA-PSS"),
        ("brainpool.pkcs8.pem", "brainpoolP256r1"),
        ("brainpool.sec1.pem", "brainpoolP256r1"),
        ("secp256k1.pkcs8.pem", "secp256k1"),
        ("p521.pkcs8.pem", "P-521"),
        ("ed25519.pkcs8.pem", "Ed25519"),
        (
            "explicit.sec1.pem",
            "one on a curve that is described instead of named",
        ),
    ] {
        let error = PrivateKey::parse(&data(&format!("refused.{name}")), PASSPHRASE).unwrap_err();
        assert_eq!(
            error,
            Error::UnsupportedKey {
                found: found.to_owned()
            },
            "{name}"
        );
    }
    let error = PrivateKey::parse(&data("refused.rsa2048-e3.pkcs8.pem"), None).unwrap_err();
    assert_eq!(error, Error::Exponent);
}

#[test]
fn forms_that_are_not_read_are_named() {
    for (name, part) in [
        ("refused.ssleay.pem", "the old encryption of PEM"),
        ("refused.openssh.pem", "ssh-keygen -p -m PKCS8"),
        ("refused.pbe-md5-des.pem", "PBE-MD5-DES"),
        (
            "ca.cert.pem",
            "no private key in the file; it contains CERTIFICATE",
        ),
        ("p256.spki.pem", "it contains PUBLIC KEY"),
        ("p256.cert.der", "no private key in the file"),
        ("modern.p12", "PKCS#12"),
    ] {
        let error = PrivateKey::parse(&data(name), PASSPHRASE).unwrap_err();
        assert!(error.to_string().contains(part), "{name}: {error}");
    }
}

#[test]
fn key_behind_a_certificate_is_found() {
    let file = [data("ca.cert.pem"), data("p256.pkcs8.pem")].concat();
    assert_eq!(
        PrivateKey::parse(&file, None).unwrap().kind(),
        KeyKind::P256
    );
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    // The last byte of the public point.
    let mut file = data("p256.sec1.der");
    *file.last_mut().unwrap() ^= 1;
    assert!(matches!(
        PrivateKey::parse(&file, None),
        Err(Error::InconsistentKey(_))
    ));

    // A bit in the middle of each number.
    let file = data("rsa2048.pkcs1.der");
    let PrivateKey::Rsa(key) = PrivateKey::parse(&file, None).unwrap() else {
        panic!("not RSA");
    };
    let printed = |heading| without_zeros(printed("rsa2048.pkcs8.pem", heading));
    for number in [
        key.n().to_vec(),
        key.p().to_vec(),
        key.q().to_vec(),
        printed("privateExponent"),
        printed("exponent1"),
        printed("exponent2"),
        printed("coefficient"),
    ] {
        let at = file
            .windows(number.len())
            .position(|window| window == number)
            .unwrap();
        let mut file = file.clone();
        file[at + number.len() / 2] ^= 0x10;
        assert!(matches!(
            PrivateKey::parse(&file, None),
            Err(Error::InconsistentKey(_))
        ));
    }

    // Zero, and the order of the curve and beyond.
    let file = data("p256.sec1-no-public.der");
    for byte in [0, 0xff] {
        let mut file = file.clone();
        file[7..39].fill(byte);
        assert!(matches!(
            PrivateKey::parse(&file, None),
            Err(Error::InconsistentKey(_))
        ));
    }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let header = match u8::try_from(len) {
        Ok(len) if len < 0x80 => vec![tag, len],
        Ok(len) => vec![tag, 0x81, len],
        Err(_) => {
            let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
            vec![tag, 0x82, high, low]
        }
    };
    [header, content.to_vec()].concat()
}

#[test]
fn public_key_beside_a_private_one_must_be_its_own() {
    // OneAsymmetricKey (RFC 5958) of version 2, whose last field is `[1] IMPLICIT BIT STRING`.
    let with_public = |name: &str, public: &str| {
        let old = data(name);
        let spki = data(public);
        let public = PublicKey::parse(&spki).unwrap();
        let bits = match &public {
            PublicKey::Ec(key) => key.point().to_vec(),
            PublicKey::Rsa(_) => {
                let der = public.to_spki_der();
                // SEQUENCE, AlgorithmIdentifier of 15 bytes, BIT STRING.
                der[4 + 15 + 5..].to_vec()
            }
        };
        let header = if old[1] == 0x82 { 4 } else { 3 };
        let mut content = old[header..].to_vec();
        // The version.
        content[2] = 1;
        content.extend(element(0x81, &[&[0], &bits[..]].concat()));
        element(0x30, &content)
    };
    for (key, other) in [("p256", "p384"), ("rsa2048", "rsa3072")] {
        let name = format!("{key}.pkcs8.der");
        let own = with_public(&name, &format!("{key}.spki.pem"));
        PrivateKey::parse(&own, None).unwrap();
        let foreign = with_public(&name, &format!("{other}.spki.pem"));
        assert!(matches!(
            PrivateKey::parse(&foreign, None),
            Err(Error::InconsistentKey(_))
        ));
    }
}

#[test]
fn secrets_are_not_in_debug_output() {
    let key = PrivateKey::parse(&data("p256.pkcs8.pem"), None).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(P-256)");
    let PrivateKey::Ec(key) = key else {
        panic!("not EC");
    };
    assert_eq!(format!("{key:?}"), "EcPrivateKey(P-256)");
}

#[test]
fn public_keys_come_back() {
    for key in ["rsa2048", "rsa3072", "p256", "p384"] {
        let pem = text(&format!("{key}.spki.pem"));
        let parsed = PublicKey::parse(pem.as_bytes()).unwrap();
        assert_eq!(parsed.to_spki_pem(), pem);
        assert_eq!(PublicKey::parse(&parsed.to_spki_der()).unwrap(), parsed);
        let rebuilt = match &parsed {
            PublicKey::Rsa(key) => PublicKey::from_rsa(key.n(), key.e()),
            PublicKey::Ec(key) => PublicKey::from_ec(key.curve(), key.x(), key.y()),
        };
        assert_eq!(rebuilt.unwrap(), parsed);
    }
}

#[test]
fn openssh_lines_are_those_of_ssh_keygen() {
    for key in ["rsa2048", "rsa3072", "p256", "p384"] {
        let parsed = PublicKey::parse(&data(&format!("{key}.spki.pem"))).unwrap();
        let line = text(&format!("{key}.pub"));
        let mut parts = line.split_whitespace();
        let expected = format!("{} {}", parts.next().unwrap(), parts.next().unwrap());
        assert_eq!(parsed.to_openssh(""), expected);
        assert_eq!(
            parsed.to_openssh("ada@example\nssh-rsa"),
            format!("{expected} ada@examplessh-rsa")
        );
    }
}

#[test]
fn points_off_the_curve_are_refused() {
    for (x, y) in [
        (&[1; 32][..], &[1; 32][..]),
        (&[], &[]),
        (&[1; 33], &[1; 32]),
    ] {
        assert!(matches!(
            PublicKey::from_ec(Curve::P256, x, y),
            Err(Error::InconsistentKey(_))
        ));
    }
    assert!(PublicKey::from_ec_point(Curve::P384, &[0]).is_err());
    assert!(PublicKey::from_rsa(&[0xff; 256], &[3]).is_err());
    assert!(PublicKey::from_rsa(&[0xfe; 256], &[1, 0, 1]).is_err());
}
