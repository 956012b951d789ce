//! A job from one state to the next, in the order that survives a power cut: written before anybody else can see it.

use cardea_pki::Certificate;
use cardea_pki::cmp::{Answer, OldCertificate, RequestBody};
use cardea_pki::est::{self, CsrAttributes};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::card::SharedCard;
use crate::check::{can_be_stored, differences, pick};
use crate::cmp::{self, CmpAnswer, Protector};
use crate::error::Error;
use crate::est::{EstAnswer, judge};
use crate::http::{HttpAnswer, HttpClient, HttpRequest, Transport};
use crate::job::{Job, State};
use crate::journal::Journal;
use crate::order::{Order, Protocol, Wanted};
use crate::request::pkcs10;
use crate::trust::Trust;

/// What proves to the authority who asks. In no job's file.
#[derive(Debug, Default)]
pub struct Credentials {
    /// User and password, for HTTP's Basic.
    pub password: Option<(String, Zeroizing<Vec<u8>>)>,
    /// Reference and secret, for CMP.
    pub secret: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

/// How far a job came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The certificate is on the card, and the authority knows.
    Done,
    /// The authority wants to be asked again, not before this second since 1970.
    Pending(i64),
}

/// Everything that a job needs.
pub struct Run<'a> {
    /// Where it is written.
    pub journal: &'a mut dyn Journal,
    /// The card.
    pub card: &'a SharedCard,
    /// The network.
    pub transport: &'a mut dyn Transport,
    /// Who asks.
    pub credentials: &'a Credentials,
    /// Seconds since 1970.
    pub now: &'a dyn Fn() -> i64,
    /// Whether a person has agreed to a certificate that differs from what was asked for.
    pub accept_changes: bool,
}

impl Run<'_> {
    /// Goes on until the job is over or has to wait.
    ///
    /// # Errors
    /// After [`Error::Refused`] and [`Error::Answer`] the job has failed; after all others it can go on later, from
    /// where it is.
    pub fn advance(&mut self, job: &mut Job) -> Result<Outcome, Error> {
        loop {
            let step = match job.state {
                State::Begun => self.make_key(job),
                State::Keyed => self.make_request(job),
                State::Requested | State::Pending => match self.ask(job) {
                    Ok(Some(pending)) => return Ok(pending),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
                State::Issued => self.store(job),
                State::Stored => self.confirm(job),
                State::Done => return Ok(Outcome::Done),
                State::Failed => {
                    let reason = job.reason.as_deref().unwrap_or("it has failed");
                    return Err(Error::Refused(format!("the job is over: {reason}")));
                }
            };
            match step {
                Ok(()) => {}
                Err(error @ (Error::Refused(_) | Error::Answer(_))) => {
                    job.state = State::Failed;
                    job.reason = Some(error.to_string());
                    self.journal.save(job)?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The key is looked for by the identifier that the job has given it, so that one whose making was not recorded is
    /// found again.
    fn make_key(&mut self, job: &mut Job) -> Result<(), Error> {
        // The identifier is in the file before the key is on the card.
        self.journal.save(job)?;
        let key = self.card.with(|card| match card.find_key(&job.key_id)? {
            Some(key) => Ok(key),
            None => card.generate(&job.key_id),
        })?;
        job.use_key(&key);
        self.journal.save(job)
    }

    fn make_request(&mut self, job: &mut Job) -> Result<(), Error> {
        let wanted = wanted(job)?;
        match job.order.protocol {
            Protocol::Est => job.request = Some(pkcs10(job, &wanted, self.card)?),
            Protocol::Cmp => {
                let mut transaction = cmp::begin()?;
                let old = job.old()?;
                let protector = self.protector(old.as_ref())?;
                let message = cmp::first(
                    job,
                    &wanted,
                    self.card,
                    &protector,
                    &mut transaction,
                    (self.now)(),
                )?;
                job.request = Some(message);
                job.cmp = Some(transaction);
            }
        }
        job.state = State::Requested;
        self.journal.save(job)
    }

    /// Sends the request, or asks again.
    fn ask(&mut self, job: &mut Job) -> Result<Option<Outcome>, Error> {
        let now = (self.now)();
        if job.state == State::Pending && now < job.not_before {
            return Ok(Some(Outcome::Pending(job.not_before)));
        }
        let found = match job.order.protocol {
            Protocol::Est => self.ask_est(job, now)?,
            Protocol::Cmp => self.ask_cmp(job, now)?,
        };
        let Some((certificates, mut changes)) = found else {
            self.journal.save(job)?;
            return Ok(Some(Outcome::Pending(job.not_before)));
        };
        let found = pick(&certificates, &job.public()?)?;
        can_be_stored(&found, job.order.trust.as_ref(), now)?;
        changes.extend(differences(&found.certificate, &wanted(job)?));
        job.certificate = Some(found.certificate.der().to_vec());
        job.chain = found.chain;
        job.reason = (!changes.is_empty()).then(|| changes.join("; "));
        job.state = State::Issued;
        self.journal.save(job)?;
        Ok(None)
    }

    /// Certificates, or none yet.
    fn ask_est(&mut self, job: &mut Job, now: i64) -> Result<Option<Issued>, Error> {
        let operation = match job.renewed {
            Some(_) => "simplereenroll",
            None => "simpleenroll",
        };
        let mut request = HttpRequest {
            url: job.order.est_url(operation),
            body: Some((
                "application/pkcs10",
                est::encode_body(job.request()?).into_bytes(),
            )),
            with_identity: job.renewed.is_some(),
            password: None,
        };
        let answer = self.transport.exchange(&request)?;
        let judged = match judge(&answer, now)? {
            EstAnswer::PasswordNeeded => {
                let Some(password) = &self.credentials.password else {
                    return Err(Error::Usage(
                        "the authority wants a user and a password: pass --user and --password-file".to_owned(),
                    ));
                };
                // Once: a second refusal of the same password is the answer.
                request.password = Some(password.clone());
                judge(&self.transport.exchange(&request)?, now)?
            }
            judged => judged,
        };
        match judged {
            EstAnswer::Issued(certificates) => Ok(Some((certificates, Vec::new()))),
            EstAnswer::Later(seconds) => {
                pend(job, now.saturating_add(seconds));
                Ok(None)
            }
            EstAnswer::PasswordNeeded => Err(Error::Usage(
                "the authority refused user and password; correct them and resume the job"
                    .to_owned(),
            )),
        }
    }

    fn ask_cmp(&mut self, job: &mut Job, now: i64) -> Result<Option<Issued>, Error> {
        let was_pending = job.state == State::Pending;
        let message = match was_pending {
            false => job.request()?.to_vec(),
            true => {
                let request = transaction(job)?.request;
                self.next_message(job, RequestBody::Poll { request })?
            }
        };
        match self.exchange_cmp(job, message)? {
            CmpAnswer::Issued(certificate, mut others, changes) => {
                transaction(job)?.must_confirm = true;
                others.push(*certificate);
                Ok(Some((others, changes)))
            }
            CmpAnswer::Later(seconds) => {
                pend(job, now.saturating_add(seconds));
                Ok(None)
            }
            CmpAnswer::Confirmed | CmpAnswer::Revoked => Err(Error::Answer(
                "the authority answered something else than what was asked".to_owned(),
            )),
        }
    }

    /// The next message of the transaction, with a nonce of its own that is in the file before it is sent.
    fn next_message(&mut self, job: &mut Job, body: RequestBody<'_>) -> Result<Vec<u8>, Error> {
        transaction(job)?.nonce = crate::job::random::<16>()?.to_vec();
        self.journal.save(job)?;
        let old = job.old()?;
        let protector = self.protector(old.as_ref())?;
        protector.message(body, transaction(job)?, (self.now)())
    }

    fn exchange_cmp(&mut self, job: &mut Job, message: Vec<u8>) -> Result<CmpAnswer, Error> {
        let request = HttpRequest {
            url: job.order.url.clone(),
            body: Some((CMP_TYPE, message)),
            with_identity: false,
            password: None,
        };
        let answered = self.transport.exchange(&request)?;
        let answer = cmp_answer(&answered)?;
        let old = job.old()?;
        let (trust, sha1) = (job.order.trust.clone(), job.order.allow_sha1_mac);
        let protector = self.protector(old.as_ref())?;
        let transaction = transaction(job)?;
        let now = (self.now)();
        protector.check(&answer, transaction, trust.as_ref(), sha1, now)?;
        let implicit = answer.implicit_confirm();
        let judged = cmp::judge(&answer, transaction)?;
        if implicit {
            transaction.must_confirm = false;
        }
        Ok(judged)
    }

    fn protector<'b>(&'b self, old: Option<&'b (u8, Certificate)>) -> Result<Protector<'b>, Error> {
        match (old, &self.credentials.secret) {
            (Some((reference, certificate)), _) => {
                Ok(Protector::Key(self.card, *reference, certificate))
            }
            (None, Some((reference, secret))) => Ok(Protector::Secret(reference, secret)),
            (None, None) => Err(Error::Usage(
                "the authority needs to know who asks: pass --reference and --secret-file"
                    .to_owned(),
            )),
        }
    }

    fn store(&mut self, job: &mut Job) -> Result<(), Error> {
        if let (Some(changes), false) = (&job.reason, self.accept_changes) {
            return Err(Error::Changed(vec![changes.clone()]));
        }
        let (reference, certificate) = (job.reference()?, job.issued()?);
        // A job that was kept for long may have a certificate whose time is over.
        let found = pick(&[certificate], &job.public()?)?;
        can_be_stored(&found, None, (self.now)())?;
        self.card
            .with(|card| card.store(reference, found.certificate.der()))?;
        job.reason = None;
        job.state = State::Stored;
        self.journal.save(job)
    }

    fn confirm(&mut self, job: &mut Job) -> Result<(), Error> {
        if job.cmp.as_ref().is_some_and(|cmp| cmp.must_confirm) {
            let certificate = job.issued()?;
            let hash = certificate.confirmation_hash().ok_or_else(|| {
                Error::Answer(
                    "the certificate's signature algorithm is not known, so it cannot be confirmed"
                        .to_owned(),
                )
            })?;
            let request = transaction(job)?.request;
            let body = RequestBody::Confirm {
                hash: &hash,
                request,
                accepted: true,
            };
            let message = self.next_message(job, body)?;
            match self.exchange_cmp(job, message) {
                Ok(CmpAnswer::Confirmed) => {}
                Ok(_) => {
                    return Err(Error::Answer(
                        "the authority answered a confirmation with something else".to_owned(),
                    ));
                }
                // The authority has given up: it revokes or forgets what was not confirmed in time.
                Err(error @ Error::Refused(_)) => {
                    let reference = job.reference()?;
                    self.card
                        .with(|card| card.withdraw(reference, certificate.der()))?;
                    // It had the place of the one that it was to replace.
                    if let Some((key, old)) = job.old()?
                        && key == reference
                    {
                        self.card.with(|card| card.store(key, old.der()))?;
                    }
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        job.state = State::Done;
        self.journal.save(job)
    }

    /// Tells the authority of CMP that a certificate is to be revoked, by the key of that certificate.
    ///
    /// # Errors
    /// As [`Run::advance`]; no job is kept, because asking twice does no harm.
    pub fn revoke(
        &mut self,
        order: &Order,
        reference: u8,
        certificate: &Certificate,
        reason: u8,
    ) -> Result<(), Error> {
        let mut transaction = cmp::begin()?;
        let protector = Protector::Key(self.card, reference, certificate);
        let old = OldCertificate::new(certificate);
        let body = RequestBody::Revoke {
            certificate: &old,
            reason,
        };
        let message = protector.message(body, &transaction, (self.now)())?;
        let answered = self.transport.exchange(&HttpRequest {
            url: order.url.clone(),
            body: Some((CMP_TYPE, message)),
            with_identity: false,
            password: None,
        })?;
        let answer = cmp_answer(&answered)?;
        let trust = order.trust.as_ref();
        let now = (self.now)();
        protector.check(&answer, &mut transaction, trust, order.allow_sha1_mac, now)?;
        match cmp::judge(&answer, &transaction)? {
            CmpAnswer::Revoked => Ok(()),
            _ => Err(Error::Answer(
                "the authority answered a revocation with something else".to_owned(),
            )),
        }
    }
}

/// Certificates, and what the authority says about changes.
type Issued = (Vec<Certificate>, Vec<String>);

const CMP_TYPE: &str = "application/pkixcmp";

fn pend(job: &mut Job, not_before: i64) {
    job.state = State::Pending;
    job.not_before = not_before;
    job.attempts = job.attempts.saturating_add(1);
}

fn transaction(job: &mut Job) -> Result<&mut crate::job::Transaction, Error> {
    job.cmp.as_mut().ok_or_else(crate::job::damaged)
}

fn wanted(job: &Job) -> Result<Wanted, Error> {
    let old = job.old()?;
    job.order.wanted(old.as_ref().map(|(_, old)| old))
}

fn cmp_answer(answered: &HttpAnswer) -> Result<Answer, Error> {
    let kind = answered.header("content-type").unwrap_or_default();
    if !kind.starts_with(CMP_TYPE) {
        // Nothing here is protected: it says only that nobody spoke CMP.
        return Err(Error::Unreachable(format!(
            "the server answered with the status {} and no message of CMP; check the address",
            answered.status
        )));
    }
    Answer::parse(&answered.body)
        .map_err(|error| Error::Unreachable(format!("the server's answer cannot be read: {error}")))
}

/// Shows that the network works before anybody is asked for a PIN: fetches what EST gives to everybody, and what it
/// wants in requests. Of CMP, that somebody listens.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Untrusted`]; [`Error::Usage`] for what an authority wants and nobody can give it.
pub fn authority_certificates(
    order: &Order,
    transport: &mut dyn Transport,
) -> Result<(Vec<Certificate>, CsrAttributes), Error> {
    let get = |url: String| HttpRequest {
        url,
        body: None,
        with_identity: false,
        password: None,
    };
    if order.protocol == Protocol::Cmp {
        // A request that is none: whatever is answered, somebody is there.
        transport.exchange(&get(order.url.clone()))?;
        return Ok((Vec::new(), CsrAttributes::default()));
    }
    let answer = transport.exchange(&get(order.est_url("cacerts")))?;
    let EstAnswer::Issued(certificates) = judge(&answer, 0)? else {
        return Err(Error::Unreachable(
            "the authority does not hand out its certificates; check the address".to_owned(),
        ));
    };
    let answer = transport.exchange(&get(order.est_url("csrattrs")))?;
    let attributes = match answer.status {
        200 if !answer.body.is_empty() => CsrAttributes::parse(&est::decode_body(&answer.body)?)?,
        _ => CsrAttributes::default(),
    };
    if attributes.challenge_password {
        return Err(Error::Usage(
            "the authority wants requests bound to the TLS connection by tls-unique, which TLS 1.3 does not have and \
             cardea does not support"
                .to_owned(),
        ));
    }
    Ok((certificates, attributes))
}

/// The authority's root by its fingerprint, which a person has from elsewhere: nothing is trusted on first use.
///
/// # Errors
/// [`Error::Untrusted`] if the authority has no certificate with it.
pub fn bootstrap(order: &Order, fingerprint: [u8; 32]) -> Result<Trust, Error> {
    let mut client = HttpClient::unverified();
    let answer = client.exchange(&HttpRequest {
        url: order.est_url("cacerts"),
        body: None,
        with_identity: false,
        password: None,
    })?;
    let EstAnswer::Issued(certificates) = judge(&answer, 0)? else {
        return Err(Error::Unreachable(
            "the authority does not hand out its certificates; check the address".to_owned(),
        ));
    };
    let mut found = certificates.iter();
    match found.find(|one| one.fingerprint() == fingerprint) {
        Some(root) => Trust::new(vec![root.der().to_vec()]),
        None => Err(Error::Untrusted(
            "no certificate of the authority has this fingerprint; compare it with what the authority's administrator \
             has published"
                .to_owned(),
        )),
    }
}

/// When a certificate is to be renewed, seconds since 1970: the later of two thirds of its validity and some days before
/// its end, and up to a tenth of the rest later, by the card and its serial number, so that not all come at once.
#[must_use]
pub fn renewal_due(certificate: &Certificate, card: &str, days: Option<u32>) -> i64 {
    let (from, until) = (certificate.not_before(), certificate.not_after());
    let validity = until.saturating_sub(from).max(0);
    let due = match days {
        Some(days) => until.saturating_sub(i64::from(days).saturating_mul(DAY)),
        None => {
            let two_thirds = from.saturating_add(validity / 3 * 2);
            two_thirds.max(until.saturating_sub(30 * DAY))
        }
    };
    let mut hash = Sha256::new();
    hash.update(card.as_bytes());
    hash.update(certificate.serial());
    let [first, second, ..] = <[u8; 32]>::from(hash.finalize());
    let rest = until.saturating_sub(due).max(0);
    let jitter =
        (rest / 10).saturating_mul(i64::from(u16::from_be_bytes([first, second]))) / 65_536;
    due.saturating_add(jitter)
}

const DAY: i64 = 86_400;
