//! Messages between a card and an authority, and requests for certificates with what they prove.

use cardea_attest::authority::{CHALLENGE_SECONDS, Policy};
use cardea_attest::csr::{attestation_of_request, evidence_of_request};
use cardea_attest::exchange::{
    Answer, Challenge, Issued, OfferedKey, Request, RequestForm, TpmDescription,
};
use cardea_attest::{AttestationTrust, EkTrust, Nonce, Requirements, Statement, Verifier};
use cardea_pki::{AttestationAttribute, CertificateRequest, PathCertificate};

use crate::Target;

/// A message of any of the four kinds, or a request for a certificate.
pub const TARGET: Target = Target {
    name: "exchange",
    run,
    seeds,
    words: &[
        b"\x73cardea-ak-request-1",
        b"\x75cardea-ak-challenge-1",
        b"\x72cardea-ak-answer-1",
        b"\x77cardea-ak-certificate-1",
        b"\xFF\x54\x43\x47\x80\x17",
        b"\x00\x23\x00\x0B\x00\x05\x04\x72",
        b"\x00\x23\x00\x0B\x00\x05\x04\x32",
        b"\x00\x23\x00\x0B\x00\x03\x00\xB2",
        b"\x06\x05\x67\x81\x05\x14\x01",
        b"\x9F\xFF",
    ],
};

const REQUEST: &[u8] = include_bytes!("../../crates/cardea-attest/src/tests/data/attested.csr");
const AUTHORITY: &[u8] = include_bytes!("../../crates/cardea-attest/src/tests/data/authority.der");

/// 2026-12-01: the request's certificate is valid then.
const NOW: i64 = 1_796_083_200;

fn run(input: &[u8]) {
    message(input);
    certificate_request(input);
}

fn message(input: &[u8]) {
    let policy = Policy {
        trust: EkTrust {
            on_first_use: true,
            ..EkTrust::default()
        },
        bad_firmware: &[],
        state_key: &[7; 32],
        challenge_seconds: CHALLENGE_SECONDS,
    };
    if let Ok(request) = Request::decode(input) {
        assert!(request.encode() == input, "there is one encoding");
        let mut next = 0u8;
        let mut random = |buffer: &mut [u8]| {
            buffer.fill_with(|| {
                next = next.wrapping_mul(5).wrapping_add(3);
                next
            });
        };
        if let Ok(made) = policy.challenge(&request, NOW, &mut random) {
            let challenge = made.challenge.encode();
            assert!(Challenge::decode(&challenge).is_ok(), "it can be sent");
            // The authority's own state is what it takes for its own; the secret is not known.
            let answer = Answer {
                secret: vec![0; 32],
                state: made.challenge.state,
                attestation_key: statement(),
                witness: None,
            };
            assert!(policy.decide(&answer, NOW, &|_| false).is_err());
        }
    }
    if let Ok(challenge) = Challenge::decode(input) {
        assert!(challenge.encode() == input, "there is one encoding");
    }
    if let Ok(answer) = Answer::decode(input) {
        assert!(answer.encode() == input, "there is one encoding");
        assert!(policy.decide(&answer, NOW, &|_| false).is_err());
    }
    if let Ok(issued) = Issued::decode(input) {
        assert!(issued.encode() == input, "there is one encoding");
    }
}

fn certificate_request(input: &[u8]) {
    if let Ok(attribute) = AttestationAttribute::parse(input) {
        assert!(!attribute.statements.is_empty());
    }
    let Ok(request) = CertificateRequest::parse(input) else {
        return;
    };
    let authorities = [PathCertificate::parse(AUTHORITY).expect("a certificate")];
    let trust = AttestationTrust {
        authorities: &authorities,
        ..AttestationTrust::default()
    };
    let nonce: Vec<u8> = (0..32).collect();
    drop(attestation_of_request(&request, &trust, Some(&nonce), NOW));
    let verifier = Verifier {
        trust,
        nonce: Nonce::Any,
        now: NOW,
        requirements: Requirements::default(),
    };
    drop(evidence_of_request(&request, &verifier));
}

fn statement() -> Statement {
    Statement {
        attest: vec![0xFF, 0x54, 0x43, 0x47, 0x80, 0x17],
        signature: vec![0, 0x18, 0, 0x0B],
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let parsed = CertificateRequest::parse(REQUEST).expect("a request");
    let attribute = parsed.attestation().ok().flatten().expect("an attribute");
    // A key on P-256 with the attributes of an attestation key, an endorsement key and a storage root key.
    let area = |attributes: &[u8; 4], parameters: &[u8]| {
        let point = parsed.public_key().to_spki_der();
        let (x, y) = point[point.len() - 64..].split_at(32);
        [
            &[0, 0x23, 0, 0x0B],
            &attributes[..],
            &[0, 0],
            parameters,
            &[0, 32],
            x,
            &[0, 32],
            y,
        ]
        .concat()
    };
    let signing = [0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10];
    let storage = [0, 6, 0, 0x80, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10];
    let request = Request {
        attestation_key: area(&[0, 5, 4, 0x72], &signing),
        endorsement_keys: vec![OfferedKey {
            public: area(&[0, 3, 0, 0xB2], &storage),
            certificates: Vec::new(),
        }],
        storage_root_key: area(&[0, 3, 4, 0x72], &storage),
        tpm: TpmDescription {
            manufacturer: *b"IBM\0",
            model: "SW".to_owned(),
            firmware: 1,
            revision: 164,
        },
        form: RequestForm::Sealed {
            made_at_reset: 7,
            witness: area(&[0, 5, 4, 0x32], &signing),
        },
        name: Some("Ada".to_owned()),
    };
    let challenge = Challenge {
        endorsement_key: 0,
        blob: vec![1; 68],
        seed: vec![2; 68],
        state: vec![3; 64],
    };
    let answer = Answer {
        secret: vec![1; 32],
        state: vec![3; 64],
        attestation_key: statement(),
        witness: Some(statement()),
    };
    let issued = Issued {
        certificates: attribute.certificates.clone(),
    };
    vec![
        request.encode(),
        challenge.encode(),
        answer.encode(),
        issued.encode(),
        REQUEST.to_vec(),
        attribute.to_der().expect("it was read"),
    ]
}
