//! An authority in memory that speaks EST, and a card in memory, both of which can be cut off.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use cardea_enrol::{
    Card, CardError, CardKey, Credentials, Error, HttpAnswer, HttpRequest, Job, Journal, Order,
    Outcome, Protocol, Run, Scheme, SharedCard, Transport, Trust,
};
use cardea_pki::{
    CertificateDraft, CertificateRequest, Curve, Extension, Name, PublicKey, SignatureAlgorithm,
    est,
};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;

pub(crate) const NOW: i64 = 1_800_000_000;
const ALGORITHM: SignatureAlgorithm = SignatureAlgorithm::EcdsaSha256;

/// A key in software.
pub(crate) struct SoftKey(SigningKey);

impl SoftKey {
    pub(crate) fn new(number: u8) -> Self {
        Self(SigningKey::from_slice(&[number; 32]).unwrap())
    }

    pub(crate) fn public(&self) -> PublicKey {
        let point = self.0.verifying_key().to_sec1_point(false);
        PublicKey::from_ec_point(Curve::P256, point.as_bytes()).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: p256::ecdsa::Signature = self.0.sign(message);
        signature.to_bytes().to_vec()
    }
}

/// A certificate for a key.
pub(crate) struct Issue<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) subject: Name,
    pub(crate) key: &'a PublicKey,
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) extensions: Vec<Extension>,
}

pub(crate) fn issue(by: &SoftKey, issue: &Issue<'_>) -> Vec<u8> {
    let issuer: Name = issue.issuer.parse().unwrap();
    let spki = issue.key.to_spki_der();
    let body = CertificateDraft {
        serial: &[7],
        issuer: issuer.der(),
        subject: issue.subject.der(),
        not_before: issue.from,
        not_after: issue.until,
        spki: &spki,
        extensions: &issue.extensions,
    }
    .to_be_signed(ALGORITHM)
    .unwrap();
    let key = by.public();
    let signature = key.encoded_signature(ALGORITHM, &body, &by.sign(&body));
    CertificateDraft::finish(&body, ALGORITHM, &signature.unwrap())
}

/// A degenerate CMS.
pub(crate) fn certs_only(certificates: &[Vec<u8>]) -> Vec<u8> {
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], content].concat()
    }
    let data = element(0x30, b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01");
    let signed = [
        b"\x02\x01\x01\x31\x00".to_vec(),
        data,
        element(0xa0, &certificates.concat()),
        b"\x31\x00".to_vec(),
    ];
    let signed = element(0xa0, &element(0x30, &signed.concat()));
    let kind = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02".to_vec();
    element(0x30, &[kind, signed].concat())
}

/// What happens next to whoever writes or sends: everything fails from the step of this number on.
#[derive(Clone, Default)]
pub(crate) struct Fuse(Rc<RefCell<FuseState>>);

#[derive(Default)]
struct FuseState {
    left: Option<usize>,
    steps: usize,
}

impl Fuse {
    pub(crate) fn burn_after(&self, steps: usize) {
        *self.0.borrow_mut() = FuseState {
            left: Some(steps),
            steps: 0,
        };
    }

    pub(crate) fn mend(&self) {
        self.0.borrow_mut().left = None;
    }

    pub(crate) fn steps(&self) -> usize {
        self.0.borrow().steps
    }

    /// Like [`Fuse::lives`], the other way round.
    pub(crate) fn is_burnt(&self) -> bool {
        !self.lives()
    }

    /// Whether the power is still there, before or after the step.
    fn lives(&self) -> bool {
        let mut state = self.0.borrow_mut();
        state.steps += 1;
        match &mut state.left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// What is on the disk.
pub(crate) struct Disk {
    pub(crate) fuse: Fuse,
    pub(crate) job: Option<Job>,
}

impl Journal for Disk {
    fn save(&mut self, job: &Job) -> Result<(), Error> {
        if !self.fuse.lives() {
            return Err(Error::Job("power cut before the write".to_owned()));
        }
        self.job = Some(job.clone());
        match self.fuse.lives() {
            true => Ok(()),
            false => Err(Error::Job("power cut after the write".to_owned())),
        }
    }
}

/// What is on the card, which stays when the power goes.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) keys: Vec<(Vec<u8>, u8)>,
    pub(crate) certificates: HashMap<u8, Vec<u8>>,
    pub(crate) signatures: usize,
    pub(crate) wrong_pin: bool,
}

#[derive(Clone, Default)]
pub(crate) struct SoftCard {
    pub(crate) content: Arc<Mutex<Content>>,
    /// Steps that are left until it is pulled.
    pub(crate) left: Arc<Mutex<Option<usize>>>,
}

impl SoftCard {
    fn step(&self) -> Result<(), CardError> {
        let mut left = self.left.lock().unwrap();
        match &mut *left {
            None => Ok(()),
            Some(0) => Err("the card is away".into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Card for SoftCard {
    fn find_key(&mut self, id: &[u8]) -> Result<Option<CardKey>, CardError> {
        self.step()?;
        let content = self.content.lock().unwrap();
        let found = content.keys.iter().find(|(one, _)| one == id);
        Ok(found.map(|(_, reference)| CardKey {
            reference: *reference,
            public: SoftKey::new(*reference).public(),
        }))
    }

    fn generate(&mut self, id: &[u8]) -> Result<CardKey, CardError> {
        self.step()?;
        let mut content = self.content.lock().unwrap();
        let reference = 0x81 + u8::try_from(content.keys.len()).unwrap();
        content.keys.push((id.to_vec(), reference));
        drop(content);
        // The key is there, and the answer is lost.
        self.step()?;
        Ok(CardKey {
            reference,
            public: SoftKey::new(reference).public(),
        })
    }

    fn sign(&mut self, reference: u8, _: Scheme, message: &[u8]) -> Result<Vec<u8>, CardError> {
        self.step()?;
        let mut content = self.content.lock().unwrap();
        content.signatures += 1;
        match content.wrong_pin {
            true => Err("wrong PIN".into()),
            false => Ok(SoftKey::new(reference).sign(message)),
        }
    }

    fn attestation(&mut self, _: u8) -> Result<Vec<u8>, CardError> {
        Err("no attestation key".into())
    }

    fn store(&mut self, reference: u8, der: &[u8]) -> Result<(), CardError> {
        self.step()?;
        self.content
            .lock()
            .unwrap()
            .certificates
            .insert(reference, der.to_vec());
        self.step()
    }

    fn withdraw(&mut self, reference: u8, der: &[u8]) -> Result<(), CardError> {
        self.step()?;
        let mut content = self.content.lock().unwrap();
        if content
            .certificates
            .get(&reference)
            .is_some_and(|one| one == der)
        {
            content.certificates.remove(&reference);
        }
        Ok(())
    }
}

/// How an authority answers.
pub(crate) type Answering = Box<dyn FnMut(&HttpRequest, &[u8]) -> HttpAnswer>;

/// The network: what is sent and what was asked for.
pub(crate) struct Net {
    pub(crate) fuse: Fuse,
    pub(crate) answering: Answering,
    pub(crate) requests: Vec<Vec<u8>>,
}

impl Transport for Net {
    fn exchange(&mut self, request: &HttpRequest) -> Result<HttpAnswer, Error> {
        if !self.fuse.lives() {
            return Err(Error::Unreachable("power cut before sending".to_owned()));
        }
        let (_, body) = request.body.as_ref().expect("a request");
        self.requests.push(body.clone());
        let der = est::decode_body(body).unwrap();
        let answer = (self.answering)(request, &der);
        match self.fuse.lives() {
            true => Ok(answer),
            false => Err(Error::Unreachable("power cut before the answer".to_owned())),
        }
    }
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> HttpAnswer {
    let headers = headers.iter();
    HttpAnswer {
        status,
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body,
    }
}

pub(crate) const CA: u8 = 0x11;

pub(crate) fn root() -> Vec<u8> {
    let key = SoftKey::new(CA);
    let wanted = Issue {
        issuer: "CN=Root",
        subject: "CN=Root".parse().unwrap(),
        key: &key.public(),
        from: NOW - 1000,
        until: NOW + 400 * 86_400,
        extensions: vec![
            Extension::basic_constraints(true, None),
            Extension::key_usage(&[
                cardea_pki::KeyUsage::KeyCertSign,
                cardea_pki::KeyUsage::DigitalSignature,
            ]),
        ],
    };
    issue(&key, &wanted)
}

/// Issues what is asked for, as long as the password is known.
pub(crate) fn honest(request: &HttpRequest, der: &[u8]) -> HttpAnswer {
    if request.password.is_none() && !request.with_identity {
        return answer(
            401,
            &[("www-authenticate", "Basic realm=\"est\"")],
            Vec::new(),
        );
    }
    let csr = CertificateRequest::parse(der).unwrap();
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
    let body = est::encode_body(&certs_only(&[root(), certificate]));
    answer(200, &[], body.into_bytes())
}

pub(crate) fn order() -> Order {
    Order {
        protocol: Protocol::Est,
        url: "https://ca.example.org".to_owned(),
        label: None,
        profile: None,
        trust: Some(Trust::new(vec![root()]).unwrap()),
        subject: "CN=Ada".to_owned(),
        san: Vec::new(),
        eku: Vec::new(),
        key_usage: Vec::new(),
        attest: false,
        algorithm: "p-256".to_owned(),
        key_label: None,
        pin_every_time: false,
        renew_at: None,
        allow_sha1_mac: false,
    }
}

pub(crate) fn password() -> Credentials {
    Credentials {
        password: Some(("ada".to_owned(), b"sesame".to_vec().into())),
        secret: None,
    }
}

/// One run of a job, at a time.
pub(crate) fn advance(
    job: &mut Job,
    disk: &mut Disk,
    card: &SoftCard,
    net: &mut Net,
    now: i64,
) -> Result<Outcome, Error> {
    let shared = SharedCard::new(Box::new(card.clone()));
    Run {
        journal: disk,
        card: &shared,
        transport: net,
        credentials: &password(),
        now: &|| now,
        accept_changes: false,
    }
    .advance(job)
}

/// A fresh set.
pub(crate) fn setting(answering: Answering) -> (Job, Disk, SoftCard, Net) {
    let fuse = Fuse::default();
    (
        Job::new("abcd", order(), NOW).unwrap(),
        Disk {
            fuse: fuse.clone(),
            job: None,
        },
        SoftCard::default(),
        Net {
            fuse,
            answering,
            requests: Vec::new(),
        },
    )
}

/// A request that somebody else has made.
pub(crate) fn foreign_key() -> PublicKey {
    SoftKey::new(0x22).public()
}
