//! What certification authorities answer.

use cardea_pki::cmp::Answer;
use cardea_pki::est::{self, CsrAttributes};
use cardea_pki::{CertificateRequest, PathCertificate};

use crate::Target;

/// A message of CMP; a body of EST, with its base64 or without; a list of attributes; a request.
pub const TARGET: Target = Target {
    name: "enrolment",
    run,
    seeds,
    words: &[
        b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x07\x02",
        b"\x06\x09\x2A\x86\x48\x86\xF6\x7D\x07\x42\x0D",
        b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x09\x0E",
        b"\x06\x0A\x2B\x06\x01\x04\x01\x82\x37\x14\x02\x03",
        b"\x06\x06\x2B\x06\x01\x05\x02\x02",
        b"\x06\x09\x2B\x06\x01\x04\x01\x82\x37\x19\x02",
        b"\x30\x80",
        b"\x00\x00",
        b"\xA1\x03\x02\x01",
    ],
};

const ANSWERS: &[&[u8]] = &[
    include_bytes!("../../crates/cardea-pki/tests/cmp/ir.rsp1.der"),
    include_bytes!("../../crates/cardea-pki/tests/cmp/kur.rsp1.der"),
    include_bytes!("../../crates/cardea-pki/tests/cmp/poll.rsp1.der"),
    include_bytes!("../../crates/cardea-pki/tests/cmp/refused.rsp1.der"),
    include_bytes!("../../crates/cardea-pki/tests/cmp/error.rsp1.der"),
    include_bytes!("../../crates/cardea-pki/tests/cmp/rr.rsp1.der"),
];
const REQUEST: &[u8] = include_bytes!("../../crates/cardea-pki/tests/cmp/ee.csr.der");
const CERTIFICATE: &[u8] = include_bytes!("../../crates/cardea-pki/tests/cmp/srv.crt.der");

fn run(input: &[u8]) {
    if let Ok(answer) = Answer::parse(input) {
        let server = PathCertificate::parse(CERTIFICATE).expect("a certificate");
        let mut originals = ANSWERS.iter();
        let is_original = originals.any(|original| protected(original) == protected(input));
        assert!(
            is_original || !answer.is_signed_by(&server),
            "nobody else signs for the server"
        );
        // The rounds are the input's choice, and a million of them are allowed: not for each input of a fuzzer.
        if let Ok(Some(by)) = answer.secret_protection()
            && by.iterations < 1000
        {
            let protected = answer.is_protected_by_secret(b"another secret", true);
            assert!(!matches!(protected, Ok(true)));
        }
    }
    if let Ok(der) = est::decode_body(input) {
        assert!(est::decode_body(est::encode_body(&der).as_bytes()).as_deref() == Ok(&der));
        content(&der);
    }
    content(input);
}

/// Header and body, which is what a signature is over; certificates that come along are not (RFC 9810 §5.1.3).
fn protected(message: &[u8]) -> Option<&[u8]> {
    let (head, _) = element(message)?;
    let content = message.get(head..)?;
    let (header_head, header) = element(content)?;
    let (body_head, body) = element(content.get(header_head + header..)?)?;
    content.get(..header_head + header + body_head + body)
}

/// How long the tag and length of the first element are, and its content.
fn element(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        short if short < 0x80 => Some((2, usize::from(short))),
        0x81 => Some((3, usize::from(*bytes.get(2)?))),
        0x82 => {
            let long = bytes.get(2..4)?.try_into().ok()?;
            Some((4, usize::from(u16::from_be_bytes(long))))
        }
        _ => None,
    }
}

fn content(der: &[u8]) {
    if let Ok(certificates) = est::certificates(der) {
        assert!(!certificates.is_empty());
        for certificate in &certificates {
            let names = certificate.alternative_names();
            assert!(names.iter().all(|name| !name.to_string().is_empty()));
            let _ = (
                certificate.is_strongly_mapped(),
                certificate.confirmation_hash(),
            );
        }
    }
    let _ = CsrAttributes::parse(der);
    let _ = CertificateRequest::parse(der);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = ANSWERS.iter().map(|answer| answer.to_vec()).collect();
    seeds.push(REQUEST.to_vec());
    seeds.push(est::encode_body(REQUEST).into_bytes());
    seeds.push(CERTIFICATE.to_vec());
    // A list of attributes: challengePassword, and a key on P-384.
    seeds.push(b"MB8GCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAi".to_vec());
    seeds
}
