//! CMP with an authority in memory: cut at each step, and answered by others.

use cardea_enrol::{
    Credentials, Error, HttpAnswer, HttpRequest, Job, Order, Outcome, Protocol, Run, SharedCard,
    State, Transport,
};
use cardea_pki::CertificateRequest;
use cardea_pki::cmp::{Answer, AnswerBody, Mac, SecretProtection};

use crate::authority::{CA, Disk, Fuse, Issue, NOW, SoftCard, SoftKey, answer, issue, order};

const SECRET: &[u8] = b"sesame";

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(u8::try_from(short).unwrap()),
        middle @ 0x80..=0xff => out.extend([0x81, u8::try_from(middle).unwrap()]),
        long => {
            let length = u16::try_from(long).unwrap().to_be_bytes();
            out.extend([0x82, length[0], length[1]]);
        }
    }
    out.extend_from_slice(content);
    out
}

/// The value of an element and what follows it.
fn open(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (start, length) = match bytes[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(bytes[2])),
        _ => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
    };
    (&bytes[start..start + length], &bytes[start + length..])
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    AnotherNonce,
    AnotherSecret,
    AnotherTransaction,
    UnprotectedCertificate,
    UnprotectedError,
}

struct CmpNet {
    fuse: Fuse,
    lie: Lie,
    /// How often the authority asks for patience.
    waits: usize,
    /// Whether it has forgotten the transaction when it is confirmed.
    forgets: bool,
    certificate: Option<Vec<u8>>,
    issued: usize,
    confirmed: usize,
}

impl CmpNet {
    fn new(fuse: &Fuse) -> Self {
        Self {
            fuse: fuse.clone(),
            lie: Lie::None,
            waits: 0,
            forgets: false,
            certificate: None,
            issued: 0,
            confirmed: 0,
        }
    }

    /// The body that answers a request.
    fn body(&mut self, number: u8, request: &[u8]) -> Vec<u8> {
        let minus_one = [2, 1, 0xff];
        let waiting = [&minus_one[..], &element(0x30, &[2, 1, 3])].concat();
        if self.lie == Lie::UnprotectedError {
            return element(0xb7, &element(0x30, &element(0x30, &[2, 1, 2])));
        }
        match number {
            // p10cr, which may come a second time after a cut.
            4 => {
                let (message, _) = open(request);
                let (_, body) = open(message);
                let (csr, _) = open(body);
                let csr = CertificateRequest::parse(csr).unwrap();
                let certificate = issue(
                    &SoftKey::new(CA),
                    &Issue {
                        issuer: "CN=Root",
                        subject: csr.subject().clone(),
                        key: csr.public_key(),
                        from: NOW - 60,
                        until: NOW + 90 * 86_400,
                        extensions: Vec::new(),
                    },
                );
                if self.certificate.replace(certificate).is_none() {
                    self.issued += 1;
                }
                match self.waits {
                    0 => self.granted(),
                    _ => element(
                        0xa3,
                        &element(0x30, &element(0x30, &element(0x30, &waiting))),
                    ),
                }
            }
            25 if self.waits > 0 => {
                self.waits -= 1;
                let reply = [&minus_one[..], &[2, 1, 60]].concat();
                element(0xba, &element(0x30, &element(0x30, &reply)))
            }
            25 => self.granted(),
            24 if self.forgets => element(0xb7, &element(0x30, &element(0x30, &[2, 1, 2]))),
            24 => {
                self.confirmed += 1;
                element(0xb3, &[5, 0])
            }
            other => panic!("body {other}"),
        }
    }

    fn granted(&self) -> Vec<u8> {
        let certificate = element(0xa0, self.certificate.as_ref().unwrap());
        let response = [
            vec![2, 1, 0xff],
            element(0x30, &[2, 1, 0]),
            element(0x30, &certificate),
        ];
        element(
            0xa3,
            &element(0x30, &element(0x30, &element(0x30, &response.concat()))),
        )
    }
}

impl Transport for CmpNet {
    fn exchange(&mut self, request: &HttpRequest) -> Result<HttpAnswer, Error> {
        if self.fuse.is_burnt() {
            return Err(Error::Unreachable("power cut before sending".to_owned()));
        }
        let (_, message) = request.body.as_ref().expect("a request");
        let asked = Answer::parse(message).unwrap();
        assert!(asked.is_protected_by_secret(SECRET, false).unwrap());
        let AnswerBody::Other(number) = asked.body() else {
            panic!("{:?}", asked.body());
        };
        let body = self.body(*number, message);
        let by = SecretProtection {
            salt: vec![7; 16],
            iterations: 2,
            mac: Mac::HmacSha256,
        };
        let octets = |bytes: &[u8]| element(0x04, bytes);
        let algorithm = [
            b"\x06\x09\x2a\x86\x48\x86\xf6\x7d\x07\x42\x0d".to_vec(),
            element(
                0x30,
                &[
                    octets(&by.salt),
                    element(0x30, b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01"),
                    vec![2, 1, 2],
                    element(0x30, b"\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x09"),
                ]
                .concat(),
            ),
        ];
        let transaction = match self.lie {
            Lie::AnotherTransaction => vec![9; 16],
            _ => asked.transaction().unwrap().to_vec(),
        };
        let nonce = match self.lie {
            Lie::AnotherNonce => vec![9; 16],
            _ => asked.nonce().unwrap().to_vec(),
        };
        let header = element(
            0x30,
            &[
                vec![2, 1, 2, 0xa4, 2, 0x30, 0, 0xa4, 2, 0x30, 0],
                element(0xa1, &element(0x30, &algorithm.concat())),
                element(0xa4, &octets(&transaction)),
                element(0xa5, &octets(&[3; 16])),
                element(0xa6, &octets(&nonce)),
            ]
            .concat(),
        );
        let part = element(0x30, &[header.clone(), body.clone()].concat());
        let secret: &[u8] = match self.lie {
            Lie::AnotherSecret => b"other",
            _ => SECRET,
        };
        let mac = by.protect(secret, &part);
        let protection = element(0xa0, &element(0x03, &[&[0], &mac[..]].concat()));
        let message = match self.lie {
            Lie::UnprotectedError | Lie::UnprotectedCertificate => {
                element(0x30, &[header, body].concat())
            }
            _ => element(0x30, &[header, body, protection].concat()),
        };
        if self.fuse.is_burnt() {
            return Err(Error::Unreachable("power cut before the answer".to_owned()));
        }
        Ok(answer(
            200,
            &[("content-type", "application/pkixcmp")],
            message,
        ))
    }
}

fn setting() -> (Job, Disk, SoftCard, CmpNet) {
    let order = Order {
        protocol: Protocol::Cmp,
        url: "http://ca.example.org/pkix/".to_owned(),
        ..order()
    };
    let fuse = Fuse::default();
    let net = CmpNet::new(&fuse);
    let disk = Disk { fuse, job: None };
    (
        Job::new("abcd", order, NOW).unwrap(),
        disk,
        SoftCard::default(),
        net,
    )
}

fn advance(
    job: &mut Job,
    disk: &mut Disk,
    card: &SoftCard,
    net: &mut CmpNet,
    now: i64,
) -> Result<Outcome, Error> {
    let shared = SharedCard::new(Box::new(card.clone()));
    let credentials = Credentials {
        password: None,
        secret: Some((b"123".to_vec(), SECRET.to_vec().into())),
    };
    Run {
        journal: disk,
        card: &shared,
        transport: net,
        credentials: &credentials,
        now: &|| now,
        accept_changes: false,
    }
    .advance(job)
}

/// Until it is over.
fn finish(job: &mut Job, disk: &mut Disk, card: &SoftCard, net: &mut CmpNet) -> Result<(), Error> {
    let mut now = NOW;
    for _ in 0..9 {
        match advance(job, disk, card, net, now)? {
            Outcome::Done => return Ok(()),
            Outcome::Pending(until) => now = now.max(until),
        }
    }
    panic!("not over: {:?}", job.state);
}

#[test]
fn every_write_and_every_message_cut_ends_confirmed_with_one_key() {
    for waits in [0, 2] {
        let (mut job, mut disk, card, mut net) = setting();
        net.waits = waits;
        disk.fuse.burn_after(usize::MAX);
        finish(&mut job, &mut disk, &card, &mut net).unwrap();
        let steps = disk.fuse.steps();
        assert_eq!(net.confirmed, 1);
        for cut in 0..steps {
            let (mut job, mut disk, card, mut net) = setting();
            net.waits = waits;
            let begun = job.clone();
            disk.fuse.burn_after(cut);
            assert!(
                finish(&mut job, &mut disk, &card, &mut net).is_err(),
                "{cut}"
            );
            disk.fuse.mend();
            let mut job = disk.job.clone().unwrap_or(begun);
            finish(&mut job, &mut disk, &card, &mut net).unwrap();
            assert_eq!(disk.job.as_ref().unwrap().state, State::Done, "{cut}");
            assert!(net.confirmed >= 1, "{cut}: the authority knows");
            let content = card.content.lock().unwrap();
            assert_eq!(
                (content.keys.len(), content.certificates.len()),
                (1, 1),
                "{cut}"
            );
        }
    }
}

#[test]
fn certificate_that_the_authority_has_given_up_is_removed_again() {
    let (mut job, mut disk, card, mut net) = setting();
    net.forgets = true;
    let error = finish(&mut job, &mut disk, &card, &mut net).unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(disk.job.unwrap().state, State::Failed);
    let content = card.content.lock().unwrap();
    assert_eq!((content.keys.len(), content.certificates.len()), (1, 0));
}

#[test]
fn answers_of_others_are_never_believed_and_the_job_goes_on() {
    for lie in [
        Lie::AnotherNonce,
        Lie::AnotherSecret,
        Lie::AnotherTransaction,
        Lie::UnprotectedCertificate,
        Lie::UnprotectedError,
    ] {
        let (mut job, mut disk, card, mut net) = setting();
        net.lie = lie;
        let error = finish(&mut job, &mut disk, &card, &mut net).unwrap_err();
        assert!(matches!(error, Error::Untrusted(_)), "{lie:?}: {error}");
        assert_eq!(
            disk.job.as_ref().unwrap().state,
            State::Requested,
            "{lie:?}"
        );
        assert!(card.content.lock().unwrap().certificates.is_empty());
        // The same message, answered honestly.
        net.lie = Lie::None;
        finish(&mut job, &mut disk, &card, &mut net).unwrap();
        assert_eq!(card.content.lock().unwrap().keys.len(), 1, "{lie:?}");
    }
}
