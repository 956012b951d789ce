//! Requests and self-signed certificates, with OpenSSL to sign and to check.

use cardea_pki::{
    AlternativeName, Certificate, DigestAlgorithm, Error, KeyKind, Name, PrivateKey, PublicKey,
    RequestBuilder, SelfSignedBuilder, SignatureAlgorithm, Signed, ToBeSigned,
};

use crate::support::{data, openssl, openssl_text, path};

const KEYS: [&str; 4] = ["rsa2048", "rsa3072", "p256", "p384"];

fn public(key: &str) -> PublicKey {
    let key = PrivateKey::parse(&data(&format!("{key}.pkcs8.pem")), None).unwrap();
    key.public_key().clone()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// What OpenSSL signs with a key.
fn sign(key: &str, to_be_signed: &ToBeSigned) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, to_be_signed.bytes()).unwrap();
    let key = path(&format!("{key}.pkcs8.pem"));
    let digest = format!("-{}", to_be_signed.digest_algorithm());
    openssl(&[
        "dgst",
        &digest,
        "-sign",
        key.to_str().unwrap(),
        body.to_str().unwrap(),
    ])
}

/// The two numbers of an ECDSA signature behind each other, as a card gives them.
fn raw(der: &[u8], len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number: Vec<_> = number
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        out.extend(vec![0; len - number.len()]);
        out.extend(number);
        rest = after;
    }
    out
}

/// What OpenSSL says of a file that was written.
fn read_back(signed: &Signed, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file.pem");
    std::fs::write(&file, signed.to_pem()).unwrap();
    let mut all = arguments.to_vec();
    all.extend(["-in", file.to_str().unwrap()]);
    openssl_text(&all)
}

fn full_request(key: &str) -> RequestBuilder {
    RequestBuilder::new(
        name("CN=Ada Lovelace,OU=Żółw,O=Example\\, Ltd.,C=GB"),
        public(key),
    )
    .alternative_name("dns:ada.example.org".parse().unwrap())
    .alternative_name("email:ada@example.org".parse().unwrap())
    .alternative_name("upn:ada@EXAMPLE.ORG".parse().unwrap())
    .alternative_name("uri:https://example.org/ada".parse().unwrap())
    .key_usage("digitalSignature".parse().unwrap())
    .key_usage("keyEncipherment".parse().unwrap())
    .extended_key_usage("clientAuth".parse().unwrap())
    .extended_key_usage("smartcardLogon".parse().unwrap())
    .extended_key_usage("emailProtection".parse().unwrap())
}

#[test]
fn openssl_verifies_requests_of_every_key_and_algorithm() {
    use SignatureAlgorithm::*;
    for key in KEYS {
        for algorithm in [RsaSha256, RsaSha384, RsaSha512, EcdsaSha256, EcdsaSha384] {
            let built = full_request(key).signature_algorithm(algorithm).build();
            if !algorithm.fits(public(key).kind()) {
                assert!(matches!(built, Err(Error::SignatureAlgorithm { .. })));
                continue;
            }
            let to_be_signed = built.unwrap();
            assert_eq!(to_be_signed.signature_algorithm(), algorithm);
            let request = to_be_signed.finish(&sign(key, &to_be_signed)).unwrap();
            let text = read_back(&request, &["req", "-verify", "-noout", "-text"]);
            assert!(
                text.contains(&format!("Signature Algorithm: {algorithm}")),
                "{text}"
            );
        }
    }
}

#[test]
fn openssl_reads_what_was_asked_for() {
    let to_be_signed = full_request("rsa2048").build().unwrap();
    let request = to_be_signed
        .finish(&sign("rsa2048", &to_be_signed))
        .unwrap();
    let text = read_back(
        &request,
        &[
            "req",
            "-verify",
            "-noout",
            "-text",
            "-nameopt",
            "RFC2253,-esc_msb,utf8",
        ],
    );
    for line in [
        r"Subject: CN=Ada Lovelace,OU=Żółw,O=Example\, Ltd.,C=GB",
        "X509v3 Key Usage: critical",
        "Digital Signature, Key Encipherment",
        "TLS Web Client Authentication, Microsoft Smartcard Login, E-mail Protection",
        "DNS:ada.example.org, email:ada@example.org, othername: UPN::ada@EXAMPLE.ORG, URI:https://example.org/ada",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn request_without_extensions_is_verified() {
    let to_be_signed = RequestBuilder::new(name("/CN=plain"), public("p256"))
        .build()
        .unwrap();
    assert_eq!(to_be_signed.digest_algorithm(), DigestAlgorithm::Sha256);
    let request = to_be_signed.finish(&sign("p256", &to_be_signed)).unwrap();
    let text = read_back(&request, &["req", "-verify", "-noout", "-text"]);
    assert!(text.contains("(none)"), "{text}");
}

#[test]
fn subject_is_as_openssl_writes_it() {
    let subject = "/C=GB/ST=Some/L=Here/O=Example/OU=a+CN=Ada/emailAddress=ada@example.org/DC=org";
    let to_be_signed = RequestBuilder::new(name(subject), public("p256"))
        .build()
        .unwrap();
    let own = to_be_signed.finish(&sign("p256", &to_be_signed)).unwrap();
    let key = path("p256.pkcs8.pem");
    let theirs = openssl(&[
        "req",
        "-new",
        "-utf8",
        "-key",
        key.to_str().unwrap(),
        "-subj",
        subject,
        "-outform",
        "DER",
    ]);
    // Everything but the signature.
    let body = to_be_signed.bytes();
    assert_eq!(&theirs[4..4 + body.len()], body);
    assert_eq!(&own.der()[4..4 + body.len()], body);
}

#[test]
fn both_forms_of_ecdsa_signatures_make_the_same_request() {
    for (key, len) in [("p256", 32), ("p384", 48)] {
        let to_be_signed = full_request(key).build().unwrap();
        let der = sign(key, &to_be_signed);
        let raw = raw(&der, len);
        assert_eq!(
            to_be_signed.finish(&der).unwrap(),
            to_be_signed.finish(&raw).unwrap()
        );
    }
}

#[test]
fn signatures_that_do_not_fit_are_refused() {
    for key in KEYS {
        let to_be_signed = full_request(key).build().unwrap();
        let signature = sign(key, &to_be_signed);
        for at in [signature.len() / 2, signature.len() - 1] {
            let mut wrong = signature.clone();
            wrong[at] ^= 1;
            assert_eq!(to_be_signed.finish(&wrong), Err(Error::Signature));
        }
        for wrong in [
            &[][..],
            &signature[1..],
            &[0; 64],
            &[0; 96],
            &[0xff; 256],
            &[0xff; 384],
        ] {
            assert_eq!(to_be_signed.finish(wrong), Err(Error::Signature));
        }
        // Of another request, and of a key of the same kind.
        let other = RequestBuilder::new(name("CN=other"), public(key))
            .build()
            .unwrap();
        assert_eq!(
            to_be_signed.finish(&sign(key, &other)),
            Err(Error::Signature)
        );
    }
}

#[test]
fn digest_and_digest_info_are_those_that_are_signed() {
    let to_be_signed = full_request("rsa2048").build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (info, digest) = (folder.path().join("info"), folder.path().join("digest"));
    std::fs::write(&info, to_be_signed.digest_info()).unwrap();
    std::fs::write(&digest, to_be_signed.digest()).unwrap();
    let key = path("rsa2048.pkcs8.pem");
    let key = key.to_str().unwrap();
    let by_info = openssl(&[
        "pkeyutl",
        "-sign",
        "-inkey",
        key,
        "-in",
        info.to_str().unwrap(),
    ]);
    let by_digest = openssl(&[
        "pkeyutl",
        "-sign",
        "-inkey",
        key,
        "-in",
        digest.to_str().unwrap(),
        "-pkeyopt",
        "digest:sha256",
    ]);
    assert_eq!(by_info, by_digest);
    to_be_signed.finish(&by_info).unwrap();
}

#[test]
fn self_signed_certificates_are_verified_and_read_again() {
    for key in KEYS {
        // From 2026 into 2099: both forms of times.
        let (not_before, not_after) = (1_767_225_600, 4_070_908_799);
        let to_be_signed = SelfSignedBuilder::new(
            name("CN=Ada,O=Example"),
            public(key),
            &[0xff, 1, 2],
            not_before,
            not_after,
        )
        .alternative_name("upn:ada@EXAMPLE.ORG".parse().unwrap())
        .key_usage("digitalSignature".parse().unwrap())
        .extended_key_usage("clientAuth".parse().unwrap())
        .build()
        .unwrap();
        let signed = to_be_signed.finish(&sign(key, &to_be_signed)).unwrap();

        let certificate = Certificate::parse(signed.to_pem().as_bytes()).unwrap();
        assert_eq!(certificate.der(), signed.der());
        assert!(certificate.matches(&public(key)));
        assert_eq!(certificate.not_before(), not_before);
        assert_eq!(certificate.not_after(), not_after);
        assert_eq!(certificate.serial(), [0, 0xff, 1, 2]);
        assert_eq!(certificate.subject().to_string(), "CN=Ada,O=Example");
        assert!(certificate.is_self_issued());
        assert_eq!(
            certificate.alternative_names(),
            [AlternativeName::Upn("ada@EXAMPLE.ORG".to_owned())]
        );

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("certificate.pem");
        std::fs::write(&file, signed.to_pem()).unwrap();
        let file = file.to_str().unwrap();
        openssl(&[
            "verify",
            "-CAfile",
            file,
            "-check_ss_sig",
            "-partial_chain",
            "-attime",
            "1800000000",
            "-purpose",
            "sslclient",
            "-x509_strict",
            file,
        ]);
        let text = openssl_text(&["x509", "-in", file, "-noout", "-text"]);
        for line in [
            "Version: 3",
            "CA:FALSE",
            "Subject Key Identifier",
            "0xff0102",
        ] {
            assert!(
                text.to_lowercase().contains(&line.to_lowercase()),
                "{line}\n{text}"
            );
        }
    }
}

#[test]
fn impossible_certificates_are_refused() {
    let build = |subject: &str, serial: &[u8], not_before, not_after| {
        SelfSignedBuilder::new(name(subject), public("p256"), serial, not_before, not_after)
            .build()
            .map(|_| ())
    };
    assert_eq!(build("CN=a", &[0x7f; 20], 0, 1), Ok(()));
    for (subject, serial, not_before, not_after) in [
        ("", &[1][..], 0, 1),
        ("CN=a", &[], 0, 1),
        ("CN=a", &[0, 0], 0, 1),
        ("CN=a", &[0x80; 20], 0, 1),
        ("CN=a", &[1; 21], 0, 1),
        ("CN=a", &[1], 1, 0),
        ("CN=a", &[1], 0, i64::MAX),
    ] {
        let error = build(subject, serial, not_before, not_after).unwrap_err();
        assert!(matches!(error, Error::InvalidText { .. }), "{error}");
    }
    // A name that was made without being read from text.
    let request = RequestBuilder::new(name("CN=a"), public("p256"))
        .alternative_name(AlternativeName::Dns("a\nb".to_owned()));
    assert!(matches!(request.build(), Err(Error::InvalidText { .. })));
}

#[test]
fn algorithms_follow_from_kind_and_digest() {
    for (kind, digest, expected) in [
        (
            KeyKind::Rsa2048,
            "sha512",
            Some(SignatureAlgorithm::RsaSha512),
        ),
        (
            KeyKind::P256,
            "SHA-256",
            Some(SignatureAlgorithm::EcdsaSha256),
        ),
        (
            KeyKind::P384,
            "sha384",
            Some(SignatureAlgorithm::EcdsaSha384),
        ),
        (KeyKind::P384, "sha512", None),
    ] {
        let digest: DigestAlgorithm = digest.parse().unwrap();
        assert_eq!(SignatureAlgorithm::with_digest(kind, digest), expected);
    }
    assert!("sha1".parse::<DigestAlgorithm>().is_err());
}
