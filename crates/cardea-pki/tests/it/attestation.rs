//! Certificates of attestation keys, the authority's own, and keys that are written: OpenSSL judges them.

use cardea_pki::{
    AttestationAttribute, AttestationCertificate, AuthorityCertificate, CertificateDraft, Curve,
    EcPrivateKey, Error, Extension, Name, PathCertificate, PrivateKey, PublicKey, RequestBuilder,
    SignatureAlgorithm, octet_string, octet_string_content,
};

use crate::support::{data, openssl, openssl_text, path};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
/// An identifier with a number of 128 bits.
const OWN: &str = "2.25.232547622097553499112779899955585718650.1";

fn public(key: &str) -> PublicKey {
    let key = PrivateKey::parse(&data(&format!("{key}.pkcs8.pem")), None).unwrap();
    key.public_key().clone()
}

fn algorithm(key: &str) -> SignatureAlgorithm {
    SignatureAlgorithm::default_for(public(key).kind())
}

/// What OpenSSL signs with a key, as a certificate.
fn signed(key: &str, body: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, body).unwrap();
    let key_file = path(&format!("{key}.pkcs8.pem"));
    let algorithm = algorithm(key);
    let digest = format!("-{}", algorithm.digest_algorithm());
    let key_file = key_file.to_str().unwrap();
    let signature = openssl(&["dgst", &digest, "-sign", key_file, file.to_str().unwrap()]);
    CertificateDraft::finish(body, algorithm, &signature)
}

fn authority(key: &str) -> Vec<u8> {
    let name: Name = "CN=Attestation authority,O=Example".parse().unwrap();
    let body = AuthorityCertificate {
        serial: &[0x11],
        name: &name,
        not_before: NOW - DAY,
        not_after: NOW + 3650 * DAY,
        key: &public(key),
    };
    signed(key, &body.to_be_signed(algorithm(key)).unwrap())
}

fn attestation_certificate(issuer: &[u8], key: &str) -> Vec<u8> {
    let body = AttestationCertificate {
        serial: &[0x22, 0x33],
        issuer: &PathCertificate::parse(issuer).unwrap(),
        not_before: NOW,
        not_after: NOW + 365 * DAY,
        key: &public("p256"),
        tpm: &[
            ("2.23.133.2.1", "id:00001014"),
            ("2.23.133.2.2", "swtpm"),
            ("2.23.133.2.3", "id:20191023"),
        ],
        policies: &[OWN],
    };
    signed(key, &body.to_be_signed(algorithm(key)).unwrap())
}

#[test]
fn openssl_reads_and_verifies_what_an_authority_issues() {
    for key in ["p384", "p256", "rsa2048"] {
        let own = authority(key);
        let issued = attestation_certificate(&own, key);
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, der: &[u8]| {
            let path = folder.path().join(name);
            let pem = cardea_pki::Certificate::parse(der).unwrap().to_pem();
            std::fs::write(&path, pem).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (own, issued) = (file("own.pem", &own), file("issued.pem", &issued));
        let at = NOW.to_string();
        let said = openssl_text(&[
            "verify",
            "-x509_strict",
            "-purpose",
            "any",
            "-attime",
            &at,
            "-CAfile",
            &own,
            &issued,
        ]);
        assert!(said.ends_with(": OK\n"), "{said}");
        let text = openssl_text(&["x509", "-noout", "-text", "-in", &issued]);
        for expected in [
            "Version: 3",
            "Subject: \n",
            "X509v3 Subject Alternative Name: critical",
            "DirName:/2.23.133.2.1=id:00001014/2.23.133.2.2=swtpm/2.23.133.2.3=id:20191023",
            "X509v3 Basic Constraints: critical\n                CA:FALSE",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "Policy: 2.23.133.11.1.1",
            "Policy: 2.23.133.11.1.3",
            "X509v3 Authority Key Identifier",
            &format!("Policy: {OWN}"),
        ] {
            let text = text.replace("Subject:\n", "Subject: \n");
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let text = openssl_text(&["x509", "-noout", "-ext", "extendedKeyUsage", "-in", &issued]);
        let usages: Vec<_> = text.lines().skip(1).map(str::trim).collect();
        assert!(
            matches!(
                usages[..],
                ["2.23.133.8.3" | "Attestation Identity Key Certificate"]
            ),
            "{text}"
        );
    }
}

#[test]
fn issued_certificate_is_read_again() {
    let own = authority("p256");
    let issued = attestation_certificate(&own, "p256");
    let issued = PathCertificate::parse(&issued).unwrap();
    let own = PathCertificate::parse(&own).unwrap();
    assert!(own.is_authority() && !issued.is_authority());
    assert!(issued.is_for(&public("p256")) && !issued.is_for(&public("p384")));
    assert_eq!(
        issued.policies(),
        ["2.23.133.11.1.1", "2.23.133.11.1.2", "2.23.133.11.1.3", OWN]
    );
    // Without an identifier in the certificate it is computed, in the same way.
    let plain = CertificateDraft {
        serial: &[1],
        issuer: own.subject().der(),
        subject: own.subject().der(),
        not_before: NOW,
        not_after: NOW + DAY,
        spki: own.spki(),
        extensions: &[Extension::basic_constraints(true, None)],
    };
    let plain = signed("p256", &plain.to_be_signed(algorithm("p256")).unwrap());
    let plain = PathCertificate::parse(&plain).unwrap();
    assert_eq!(plain.key_identifier(), own.key_identifier());
    assert_eq!(plain.key_identifier().unwrap().len(), 20);
    let refused = AuthorityCertificate {
        serial: &[1],
        name: &"".parse().unwrap(),
        not_before: NOW,
        not_after: NOW + DAY,
        key: &public("p256"),
    };
    let refused = refused.to_be_signed(algorithm("p256"));
    assert!(matches!(refused, Err(Error::InvalidText { .. })));
}

#[test]
fn written_private_key_is_read_by_openssl_and_again() {
    for (curve, name) in [(Curve::P256, "P-256"), (Curve::P384, "P-384")] {
        let scalar = vec![0x21; curve.field_len()];
        let key = EcPrivateKey::new(curve, &scalar).unwrap();
        let pem = key.to_pkcs8_pem();
        let again = PrivateKey::parse(pem.as_bytes(), None).unwrap();
        let PrivateKey::Ec(again) = again else {
            panic!("it is on a curve")
        };
        assert_eq!(again.d(), scalar);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        std::fs::write(&file, pem.as_bytes()).unwrap();
        let said = openssl_text(&[
            "pkey",
            "-check",
            "-noout",
            "-text",
            "-in",
            file.to_str().unwrap(),
        ]);
        assert!(said.contains("Key is valid"), "{said}");
        assert!(said.contains(name), "{said}");
        for bad in [
            vec![0; curve.field_len()],
            vec![0xFF; curve.field_len()],
            vec![1; 100],
        ] {
            assert!(matches!(
                EcPrivateKey::new(curve, &bad),
                Err(Error::InconsistentKey(_))
            ));
        }
    }
}

#[test]
fn attestation_attribute_goes_into_a_request_that_openssl_reads() {
    let attribute = AttestationAttribute {
        statements: vec![
            ("2.23.133.20.1".to_owned(), vec![0x30, 0x00]),
            (OWN.to_owned(), octet_string(b"evidence")),
        ],
        certificates: vec![data("p256.cert.der")],
    };
    let der = attribute.to_der().unwrap();
    assert_eq!(AttestationAttribute::parse(&der).unwrap(), attribute);
    assert_eq!(
        octet_string_content(&attribute.statements[1].1).unwrap(),
        b"evidence"
    );
    assert!(octet_string_content(&[4, 1, 0, 0]).is_err());
    for length in 0..der.len() {
        assert!(AttestationAttribute::parse(&der[..length]).is_err());
    }
    let request = RequestBuilder::new("CN=Ada".parse().unwrap(), public("p256"))
        .key_usage("digitalSignature".parse().unwrap())
        .attestation(der)
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, request.bytes()).unwrap();
    let key = path("p256.pkcs8.pem");
    let signature = openssl(&[
        "dgst",
        "-sha256",
        "-sign",
        key.to_str().unwrap(),
        file.to_str().unwrap(),
    ]);
    let signed = request.finish(&signature).unwrap();
    let read = cardea_pki::CertificateRequest::parse(signed.der()).unwrap();
    assert_eq!(read.attestation().unwrap().unwrap(), attribute);
    assert_eq!(read.public_key(), &public("p256"));
    std::fs::write(&file, signed.to_pem()).unwrap();
    let text = openssl_text(&[
        "req",
        "-verify",
        "-noout",
        "-text",
        "-in",
        file.to_str().unwrap(),
    ]);
    assert!(text.contains("Digital Signature"), "{text}");
    assert!(text.contains("1.2.840.113549.1.9.16.2.59"), "{text}");

    let nothing = AttestationAttribute::default();
    assert!(nothing.to_der().is_err());
    let many = AttestationAttribute {
        statements: vec![("2.23.133.20.1".to_owned(), vec![0x05, 0x00]); 17],
        certificates: Vec::new(),
    };
    assert!(AttestationAttribute::parse(&many.to_der().unwrap()).is_err());
    let bad = AttestationAttribute {
        statements: vec![("2.23.x".to_owned(), vec![0x05, 0x00])],
        certificates: Vec::new(),
    };
    assert!(matches!(bad.to_der(), Err(Error::InvalidText { .. })));
}
