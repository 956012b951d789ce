//! Messages of OpenSSL's client and mock server: what they send is read, and what we send has their bytes.

use cardea_pki::cmp::{
    Answer, AnswerBody, CertificateTemplate, Mac, OldCertificate, Protection, RequestBody,
    RequestHeader, RequestMessage, SecretProtection, Status,
};
use cardea_pki::{
    Certificate, CertificateRequest, Error, ExtendedKeyUsage, Name, PathCertificate,
    SignatureAlgorithm,
};

use crate::support::data;

fn message(name: &str) -> Vec<u8> {
    data(&format!("../cmp/{name}.der"))
}

fn answer(name: &str) -> Answer {
    Answer::parse(&message(name)).unwrap()
}

fn certificate(name: &str) -> Certificate {
    Certificate::parse(&message(&format!("{name}.crt"))).unwrap()
}

fn signer(name: &str) -> PathCertificate {
    PathCertificate::parse(certificate(name).der()).unwrap()
}

const SECRET: &[u8] = b"sesame";

/// The header that OpenSSL wrote, from its values.
fn header(read: &Answer, sender: &[u8], key: &[u8]) -> RequestHeader {
    RequestHeader {
        sender: sender.to_vec(),
        sender_key: Some(key.to_vec()),
        recipient: certificate("ca").subject().clone(),
        time: read.time().unwrap(),
        transaction: read.transaction().unwrap().to_vec(),
        nonce: read.nonce().unwrap().to_vec(),
        answered_nonce: read.answered_nonce().map(<[u8]>::to_vec),
        implicit_confirm: false,
    }
}

/// Builds the message anew; returns it and OpenSSL's.
fn rebuilt(name: &str, body: RequestBody<'_>, recipient: Name) -> (Vec<u8>, Vec<u8>) {
    let theirs = message(name);
    let read = Answer::parse(&theirs).unwrap();
    assert!(read.is_protected_by_secret(SECRET, true).unwrap());
    let by = read.secret_protection().unwrap().unwrap();
    let header = RequestHeader {
        recipient,
        ..header(&read, &[0x30, 0], b"123")
    };
    let request = RequestMessage::new(&header, body, Protection::Secret(by.clone())).unwrap();
    let mac = by.protect(SECRET, &request.protected_part());
    (request.finish(&mac, &[]).unwrap(), theirs)
}

fn nobody() -> Name {
    "".parse().unwrap()
}

#[test]
fn requests_by_secret_have_the_bytes_of_openssl() {
    let csr = message("ee.csr");
    let (ours, theirs) = rebuilt("p10cr.req1", RequestBody::Pkcs10(&csr), nobody());
    assert_eq!(ours, theirs);
    let hash = certificate("ee").confirmation_hash().unwrap();
    let confirm = RequestBody::Confirm {
        hash: &hash,
        request: -1,
        accepted: true,
    };
    let (ours, theirs) = rebuilt("p10cr.req2", confirm, nobody());
    assert_eq!(ours, theirs);
    let poll = RequestBody::Poll { request: -1 };
    let (ours, theirs) = rebuilt("poll.req2", poll, nobody());
    assert_eq!(ours, theirs);
}

#[test]
fn signed_requests_have_the_bodies_of_openssl() {
    let (ca, ee) = (certificate("ca"), certificate("ee"));
    let old = OldCertificate::new(&ee);
    let read = answer("rr.req1");
    assert!(read.is_signed_by(&signer("ee")));
    let protection = Protection::Signature {
        key: ee.public_key().unwrap().clone(),
        algorithm: SignatureAlgorithm::RsaSha256,
    };
    let header = header(&read, ee.subject().der(), ee.key_identifier().unwrap());
    let revoke = RequestBody::Revoke {
        certificate: &old,
        reason: 4,
    };
    let request = RequestMessage::new(&header, revoke, protection.clone()).unwrap();
    // OpenSSL 3.0 writes RSA's algorithm without NULL there, RFC 4055 with it.
    let ours = without_null(&request.protected_part());
    let theirs = message("rr.req1");
    assert!(contains(&theirs, &ours[4..]), "the whole protected part");

    let template = CertificateTemplate::new(
        ee.subject(),
        ee.public_key().unwrap(),
        &[],
        &[],
        &["clientAuth".parse::<ExtendedKeyUsage>().unwrap()],
        Some(&old),
    )
    .unwrap();
    let theirs = message("kur.req1");
    // The template with OpenSSL's further extensions is another one; names, key and control are the same bytes.
    let spki = &ee.spki()[4..];
    for part in [ca.subject().der(), spki, old_control(template.bytes())] {
        assert!(contains(template.bytes(), part) && contains(&theirs, part));
    }
    assert!(
        template.finish(&[0; 256]).is_err(),
        "a signature is checked"
    );
}

/// From the object identifier of the control on.
fn old_control(template: &[u8]) -> &[u8] {
    let oid = [0x2b, 6, 1, 5, 5, 7, 5, 1, 5];
    let at = template.windows(oid.len()).position(|part| part == oid);
    &template[at.unwrap()..]
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// The first RSA algorithm without its NULL: three lengths change.
fn without_null(protected: &[u8]) -> Vec<u8> {
    let long = [
        0xa1, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b,
        0x05, 0x00,
    ];
    let at = protected
        .windows(long.len())
        .position(|part| part == long)
        .unwrap();
    let mut out = protected.to_vec();
    out.drain(at + 15..at + 17);
    out[at + 1] -= 2;
    out[at + 3] -= 2;
    // The header's length, in the form 81 xx, and the outer one, which the caller leaves out.
    assert_eq!(out[3..5], [0x30, 0x81]);
    out[5] -= 2;
    out.splice(0..3, [0, 0, 0, 0]);
    out
}

#[test]
fn certificates_are_in_the_answers() {
    let ee = certificate("ee");
    for (name, request) in [("p10cr.rsp1", -1), ("ir.rsp1", 0), ("poll.rsp2", -1)] {
        let answer = answer(name);
        assert!(
            answer.is_protected_by_secret(SECRET, true).unwrap(),
            "{name}"
        );
        assert!(!answer.is_protected_by_secret(b"wrong", true).unwrap());
        assert!(answer.is_protected_by_secret(SECRET, false).is_err());
        let AnswerBody::Certificates {
            authorities,
            responses,
        } = answer.body()
        else {
            panic!("{name}: {:?}", answer.body());
        };
        assert_eq!(responses[0].request, request);
        assert_eq!(responses[0].status.status, Status::Accepted);
        assert_eq!(responses[0].certificate.as_ref(), Some(&ee));
        if name == "ir.rsp1" {
            assert_eq!(authorities, &[certificate("ca")]);
        }
    }
    let signed = answer("kur.rsp1");
    let server = certificate("srv");
    assert!(signed.is_signed_by(&signer("srv")));
    assert!(!signed.is_signed_by(&signer("ee")));
    assert!(!signed.is_protected_by_secret(SECRET, true).unwrap());
    assert_eq!(signed.certificates()[0], server.der());
    let request = answer("kur.req1");
    assert_eq!(signed.answered_nonce(), request.nonce());
    assert_eq!(signed.transaction(), request.transaction());
}

#[test]
fn other_answers_are_read() {
    assert_eq!(answer("p10cr.rsp2").body(), &AnswerBody::Confirmed);
    let AnswerBody::Revocation(found) = answer("rr.rsp1").body().clone() else {
        panic!("no revocation");
    };
    assert_eq!(found[0].status, Status::Accepted);
    let AnswerBody::Certificates { responses, .. } = answer("poll.rsp1").body().clone() else {
        let AnswerBody::Poll(found) = answer("poll.rsp1").body().clone() else {
            panic!("neither waiting nor a time");
        };
        assert_eq!(found[0].check_after, 1);
        return;
    };
    assert_eq!(responses[0].status.status, Status::Waiting);
}

#[test]
fn refusals_have_their_reasons() {
    let AnswerBody::Certificates { responses, .. } = answer("refused.rsp1").body().clone() else {
        panic!("no certificate response");
    };
    assert_eq!(responses[0].status.status, Status::Rejected);
    assert_eq!(responses[0].status.failures, ["badPOP"]);
    assert_eq!(responses[0].status.text, "no");
    for name in ["error.rsp1", "wrong.rsp1"] {
        let AnswerBody::Error(info) = answer(name).body().clone() else {
            panic!("{name}: no error");
        };
        assert_eq!(info.status, Status::Rejected, "{name}: {info:?}");
    }
}

#[test]
fn work_that_a_peer_asks_for_is_bounded() {
    let by = SecretProtection {
        salt: vec![7; 16],
        iterations: 1_000_001,
        mac: Mac::HmacSha256,
    };
    let header = header(&answer("p10cr.req1"), &[0x30, 0], b"123");
    let body = RequestBody::Poll { request: 0 };
    let request = RequestMessage::new(&header, body, Protection::Secret(by)).unwrap();
    let der = request.finish(&[0; 32], &[]).unwrap();
    let read = Answer::parse(&der).unwrap();
    assert!(matches!(
        read.is_protected_by_secret(SECRET, true),
        Err(Error::CostTooHigh { .. })
    ));
}

#[test]
fn damaged_messages_are_refused_or_read_and_nothing_panics() {
    let server = signer("srv");
    for name in [
        "ir.rsp1",
        "kur.rsp1",
        "refused.rsp1",
        "rr.rsp1",
        "poll.rsp1",
    ] {
        let whole = message(name);
        for at in 0..whole.len() {
            assert!(Answer::parse(&whole[..at]).is_err());
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                if let Ok(read) = Answer::parse(&damaged) {
                    let _ = read.is_signed_by(&server);
                    assert_ne!(read, Answer::parse(&whole).unwrap());
                }
            }
        }
    }
}

#[test]
fn request_is_read_with_what_it_wishes() {
    let request = CertificateRequest::parse(&message("ee.csr")).unwrap();
    assert_eq!(request.subject().to_string(), "CN=Ada");
    assert!(request.alternative_names().is_empty());
    assert!(request.extended_key_usages().is_empty());
}
