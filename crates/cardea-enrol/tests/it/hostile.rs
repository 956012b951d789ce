//! Answers that must not end on the card.

use cardea_enrol::{Error, HttpAnswer, HttpRequest, State};
use cardea_pki::{CertificateRequest, PublicKey, est};

use crate::authority::{
    CA, Issue, NOW, SoftKey, advance, answer, certs_only, foreign_key, honest, issue, root, setting,
};

/// An authority that issues something else.
fn issuing(
    by: u8,
    key: Option<PublicKey>,
    subject: &'static str,
    (from, until): (i64, i64),
) -> impl FnMut(&HttpRequest, &[u8]) -> HttpAnswer {
    move |_, der| {
        let csr = CertificateRequest::parse(der).unwrap();
        let key = key.clone().unwrap_or_else(|| csr.public_key().clone());
        let certificate = issue(
            &SoftKey::new(by),
            &Issue {
                issuer: "CN=Root",
                subject: subject.parse().unwrap(),
                key: &key,
                from,
                until,
                extensions: Vec::new(),
            },
        );
        let body = est::encode_body(&certs_only(&[certificate, root()]));
        answer(200, &[], body.into_bytes())
    }
}

const VALID: (i64, i64) = (NOW - 60, NOW + 86_400);
const YEAR: i64 = 365 * 86_400;

#[test]
fn certificates_that_are_wrong_are_never_stored() {
    type Case = (
        &'static str,
        crate::authority::Answering,
        fn(&Error) -> bool,
    );
    let cases: Vec<Case> = vec![
        (
            "another key",
            Box::new(issuing(CA, Some(foreign_key()), "CN=Ada", VALID)),
            |error| matches!(error, Error::Answer(text) if text.contains("another key")),
        ),
        (
            "another name",
            Box::new(issuing(CA, None, "CN=Eve", VALID)),
            |error| matches!(error, Error::Changed(list) if list[0].contains("CN=Eve")),
        ),
        (
            "another authority",
            Box::new(issuing(0x33, None, "CN=Ada", VALID)),
            |error| matches!(error, Error::Untrusted(_)),
        ),
        (
            "a clock that is a year behind",
            Box::new(issuing(CA, None, "CN=Ada", (NOW + YEAR, NOW + 2 * YEAR))),
            |error| matches!(error, Error::Answer(text) if text.contains("clock")),
        ),
        (
            "a clock that is a year ahead",
            Box::new(issuing(CA, None, "CN=Ada", (NOW - 2 * YEAR, NOW - YEAR))),
            |error| matches!(error, Error::Answer(text) if text.contains("clock")),
        ),
        (
            "no CMS",
            Box::new(|_, _| answer(200, &[], b"MAA=".to_vec())),
            |error| matches!(error, Error::Answer(_)),
        ),
    ];
    for (what, answering, is_expected) in cases {
        let (mut job, mut disk, card, mut net) = setting(answering);
        let error = advance(&mut job, &mut disk, &card, &mut net, NOW).unwrap_err();
        assert!(is_expected(&error), "{what}: {error}");
        let content = card.content.lock().unwrap();
        assert!(content.certificates.is_empty(), "{what}");
        assert_eq!(content.keys.len(), 1, "{what}");
    }
}

#[test]
fn password_is_sent_once_and_a_refusal_ends_the_turn() {
    let (mut job, mut disk, card, mut net) = setting(Box::new(|_, _| {
        answer(401, &[("www-authenticate", "Basic realm=x")], Vec::new())
    }));
    let error = advance(&mut job, &mut disk, &card, &mut net, NOW).unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error}");
    assert_eq!(net.requests.len(), 2, "without, with, and never again");
    assert_eq!(job.state, State::Requested, "it can be resumed");
}

#[test]
fn refusals_end_the_job_and_outages_do_not() {
    for (status, is_over) in [
        (400, true),
        (403, true),
        (503, false),
        (502, false),
        (302, false),
    ] {
        let (mut job, mut disk, card, mut net) =
            setting(Box::new(move |_, _| answer(status, &[], b"why".to_vec())));
        let error = advance(&mut job, &mut disk, &card, &mut net, NOW).unwrap_err();
        assert_eq!(job.state.is_over(), is_over, "{status}: {error}");
        assert_eq!(disk.job.unwrap().state, job.state);
        // What is over stays over.
        net.answering = Box::new(honest);
        let again = advance(
            &mut job,
            &mut crate::authority::Disk {
                fuse: net.fuse.clone(),
                job: None,
            },
            &card,
            &mut net,
            NOW,
        );
        assert_eq!(again.is_err(), is_over, "{status}");
    }
}

#[test]
fn wrong_pin_is_tried_once() {
    let (mut job, mut disk, card, mut net) = setting(Box::new(honest));
    card.content.lock().unwrap().wrong_pin = true;
    let error = advance(&mut job, &mut disk, &card, &mut net, NOW).unwrap_err();
    assert!(matches!(error, Error::Card(_)), "{error}");
    assert_eq!(card.content.lock().unwrap().signatures, 1);
    assert!(net.requests.is_empty());
}
