//! CMP (RFC 9810, RFC 9483): which message is next, and what an answer means. No I/O.

use cardea_pki::cmp::{
    Answer, AnswerBody, CertificateTemplate, Mac, OldCertificate, Protection, RequestBody,
    RequestHeader, RequestMessage, SecretProtection, Status, StatusInfo,
};
use cardea_pki::{Certificate, Name, PathCertificate, SignatureAlgorithm};

use crate::card::{Scheme, SharedCard};
use crate::error::Error;
use crate::job::{Job, Transaction, random};
use crate::order::Wanted;
use crate::request::pkcs10;
use crate::trust::Trust;

/// What OpenSSL 3.0 does 500 times.
const ITERATIONS: u64 = 10_000;
/// The longest wait that an authority can order.
const LONGEST_WAIT: u64 = 86_400;

/// What protects our messages and, with a secret, the authority's.
pub(crate) enum Protector<'a> {
    /// A reference and the secret that belongs to it.
    Secret(&'a [u8], &'a [u8]),
    /// The key of a certificate that the card has.
    Key(&'a SharedCard, u8, &'a Certificate),
}

/// What the authority said.
#[derive(Debug)]
pub(crate) enum CmpAnswer {
    /// Certificates: ours, and others that came along.
    Issued(Box<Certificate>, Vec<Certificate>, Vec<String>),
    /// Not yet: ask again in so many seconds.
    Later(i64),
    /// It knows what became of the certificate.
    Confirmed,
    /// It is revoked.
    Revoked,
}

impl Protector<'_> {
    fn header(&self, transaction: &Transaction, now: i64) -> Result<RequestHeader, Error> {
        let nobody: Name = ""
            .parse()
            .map_err(|error: cardea_pki::Error| Error::Usage(error.to_string()))?;
        let (sender, sender_key, recipient) = match self {
            Self::Secret(reference, _) => (nobody.der().to_vec(), Some(reference.to_vec()), nobody),
            Self::Key(_, _, certificate) => (
                certificate.subject().der().to_vec(),
                certificate.key_identifier().map(<[u8]>::to_vec),
                certificate.issuer().clone(),
            ),
        };
        Ok(RequestHeader {
            sender,
            sender_key,
            recipient,
            time: now,
            transaction: transaction.id.clone(),
            nonce: transaction.nonce.clone(),
            answered_nonce: transaction.peer_nonce.clone(),
            implicit_confirm: false,
        })
    }

    /// A message, protected: with a key, the card signs once.
    pub(crate) fn message(
        &self,
        body: RequestBody<'_>,
        transaction: &Transaction,
        now: i64,
    ) -> Result<Vec<u8>, Error> {
        let header = self.header(transaction, now)?;
        match self {
            Self::Secret(_, secret) => {
                let by = SecretProtection {
                    salt: random::<16>()?.to_vec(),
                    iterations: ITERATIONS,
                    mac: Mac::HmacSha256,
                };
                let message = RequestMessage::new(&header, body, Protection::Secret(by.clone()))?;
                let mac = by.protect(secret, &message.protected_part());
                Ok(message.finish(&mac, &[])?)
            }
            Self::Key(card, reference, certificate) => {
                let key = certificate.public_key()?.clone();
                let algorithm = SignatureAlgorithm::default_for(key.kind());
                let protection = Protection::Signature { key, algorithm };
                let message = RequestMessage::new(&header, body, protection)?;
                let signature = card.with(|card| {
                    let scheme = Scheme::Certificate(algorithm);
                    card.sign(*reference, scheme, &message.protected_part())
                })?;
                Ok(message.finish(&signature, &[certificate.der()])?)
            }
        }
    }

    /// Whether an answer can be believed. Nothing of an unprotected one is.
    fn believe(
        &self,
        answer: &Answer,
        trust: Option<&Trust>,
        allow_sha1: bool,
        now: i64,
    ) -> Result<(), Error> {
        if !answer.has_protection() {
            let said = match answer.body() {
                AnswerBody::Error(info) => format!(": {}", words(info)),
                _ => String::new(),
            };
            return Err(Error::Untrusted(format!(
                "the answer is not protected and proves nothing{said}; if reference and secret are correct, ask the \
                 authority's administrator"
            )));
        }
        if let Self::Secret(_, secret) = self
            && answer.secret_protection()?.is_some()
        {
            return match answer.is_protected_by_secret(secret, allow_sha1)? {
                true => Ok(()),
                false => Err(Error::Untrusted(
                    "the answer was not protected with the shared secret: the secret is another, or somebody else answers"
                        .to_owned(),
                )),
            };
        }
        let Some(trust) = trust else {
            return Err(Error::Usage(
                "the authority signs its answers, and nobody is trusted for that; name the authority with --trust"
                    .to_owned(),
            ));
        };
        let certificates = answer.certificates();
        let signers = certificates.iter().chain(trust.anchors());
        let mut signers = signers.filter(|der| {
            let signer = PathCertificate::parse(der);
            signer.is_ok_and(|signer| answer.is_signed_by(&signer))
        });
        match signers.any(|der| trust.may_speak(der, certificates, now)) {
            true => Ok(()),
            false => Err(Error::Untrusted(
                "the answer was not signed by the trusted authority or by somebody who may speak for it".to_owned(),
            )),
        }
    }

    /// Checks an answer against what was sent, and notes the authority's nonce.
    pub(crate) fn check(
        &self,
        answer: &Answer,
        transaction: &mut Transaction,
        trust: Option<&Trust>,
        allow_sha1: bool,
        now: i64,
    ) -> Result<(), Error> {
        self.believe(answer, trust, allow_sha1, now)?;
        let wrong = |what: &str| {
            Err(Error::Untrusted(format!(
                "the answer is to another message: {what} is not ours"
            )))
        };
        if answer.transaction() != Some(transaction.id.as_slice()) {
            return wrong("the transaction");
        }
        if answer.answered_nonce() != Some(transaction.nonce.as_slice()) {
            return wrong("the nonce");
        }
        if !matches!(answer.version(), 2 | 3) {
            return Err(Error::Answer(format!(
                "the authority speaks version {} of CMP, which is not supported",
                answer.version()
            )));
        }
        transaction.peer_nonce = answer.nonce().map(<[u8]>::to_vec);
        Ok(())
    }
}

/// A transaction that begins.
pub(crate) fn begin() -> Result<Transaction, Error> {
    Ok(Transaction {
        id: random::<16>()?.to_vec(),
        nonce: random::<16>()?.to_vec(),
        peer_nonce: None,
        request: 0,
        must_confirm: false,
    })
}

/// The request for a certificate: kur for a renewal, else p10cr, which also carries what proves where the key is.
pub(crate) fn first(
    job: &Job,
    wanted: &Wanted,
    card: &SharedCard,
    protector: &Protector<'_>,
    transaction: &mut Transaction,
    now: i64,
) -> Result<Vec<u8>, Error> {
    let (key, reference) = (job.public()?, job.reference()?);
    let algorithm = SignatureAlgorithm::default_for(key.kind());
    let scheme = Scheme::Certificate(algorithm);
    if let (Some((_, old)), false) = (job.old()?, job.order.attest) {
        let template = CertificateTemplate::new(
            &wanted.subject,
            &key,
            &wanted.san,
            &wanted.key_usage,
            &wanted.eku,
            Some(&OldCertificate::new(&old)),
        )?;
        let proof = card.with(|card| card.sign(reference, scheme, template.bytes()))?;
        let messages = template.finish(&proof)?;
        transaction.request = 0;
        return protector.message(RequestBody::Update(&messages), transaction, now);
    }
    let request = pkcs10(job, wanted, card)?;
    // RFC 9483, section 4.1.4.
    transaction.request = -1;
    protector.message(RequestBody::Pkcs10(&request), transaction, now)
}

/// What an answer that is believed means.
pub(crate) fn judge(answer: &Answer, transaction: &Transaction) -> Result<CmpAnswer, Error> {
    match answer.body() {
        AnswerBody::Certificates {
            authorities,
            responses,
        } => {
            let [response] = responses.as_slice() else {
                return Err(Error::Answer(format!(
                    "the authority answered {} requests instead of one",
                    responses.len()
                )));
            };
            if response.request != transaction.request {
                return Err(Error::Answer(
                    "the authority answered another request than ours".to_owned(),
                ));
            }
            match (response.status.status, &response.certificate) {
                (Status::Waiting, _) => Ok(CmpAnswer::Later(0)),
                (
                    Status::Accepted | Status::GrantedWithChanges | Status::RevocationWarning,
                    Some(certificate),
                ) => {
                    let along = answer
                        .certificates()
                        .iter()
                        .filter_map(|der| Certificate::parse(der).ok());
                    let others = authorities.iter().cloned().chain(along).collect();
                    let changes = match response.status.status {
                        Status::Accepted => Vec::new(),
                        _ => vec![format!("the authority says: {}", words(&response.status))],
                    };
                    Ok(CmpAnswer::Issued(
                        Box::new(certificate.clone()),
                        others,
                        changes,
                    ))
                }
                _ => Err(refused(&response.status)),
            }
        }
        AnswerBody::Confirmed => Ok(CmpAnswer::Confirmed),
        AnswerBody::Error(info) => Err(refused(info)),
        AnswerBody::Poll(replies) => {
            let ours = replies
                .iter()
                .find(|reply| reply.request == transaction.request)
                .ok_or_else(damaged_answer)?;
            let seconds = ours.check_after.clamp(1, LONGEST_WAIT);
            Ok(CmpAnswer::Later(i64::try_from(seconds).unwrap_or(i64::MAX)))
        }
        AnswerBody::Revocation(list) => match list.as_slice() {
            [info] if info.status == Status::Accepted => Ok(CmpAnswer::Revoked),
            [info] if info.status == Status::RevocationNotification => Ok(CmpAnswer::Revoked),
            [info] => Err(refused(info)),
            _ => Err(damaged_answer()),
        },
        AnswerBody::General(_) | AnswerBody::Other(_) => Err(damaged_answer()),
    }
}

fn damaged_answer() -> Error {
    Error::Answer("the authority answered something else than what was asked".to_owned())
}

fn refused(info: &StatusInfo) -> Error {
    Error::Refused(format!("the authority refused: {}", words(info)))
}

fn words(info: &StatusInfo) -> String {
    let mut parts = Vec::new();
    if !info.text.is_empty() {
        parts.push(info.text.clone());
    }
    if !info.failures.is_empty() {
        parts.push(info.failures.join(", "));
    }
    match parts.is_empty() {
        true => "no reason given".to_owned(),
        false => parts.join("; "),
    }
}
