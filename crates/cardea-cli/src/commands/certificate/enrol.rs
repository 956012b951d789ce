//! Certificates from an authority: `cardea cert enrol`, `renew`, `pending`, `revoke`.
//!
//! Nobody types a PIN before the network is known to work, and none is asked for while one try is left.

mod card;
mod jobs;
mod orders;

use std::time::Duration;

use cardea_client::message::{CardDetails, CardRequest, KeySummary, Request, Thing, Tries};
use cardea_enrol::{
    CardKey, Credentials, Error, FolderJournal, HttpClient, Identity, Job, Order, Outcome,
    Protocol, Run, SharedCard, State, authority_certificates, renewal_due,
};
use cardea_pki::Certificate;
use zeroize::Zeroizing;

use self::card::{DaemonCard, Pin};
use crate::arguments::{
    CredentialArguments, EnrolArguments, PendingArguments, PinArguments, RenewArguments,
    RevokeArguments, WaitArguments,
};
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::on_card::{must_have_room, now, public_key, read, select, title};
use crate::terminal::clock::local;
use crate::terminal::output::{note, printable};
use crate::terminal::secret::{self, Source};

pub(super) fn enrol(arguments: &EnrolArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let card = usable(&arguments.card.card, daemon)?;
    let key = arguments.key.as_deref();
    let key = key.map(|key| select(&card, key)).transpose()?;
    if key.is_none() {
        must_have_room(&card)?;
    }
    let order = orders::for_enrolment(arguments)?;
    let mut job = Job::new(&card.summary.card_id, order, now()).map_err(told)?;
    if let Some(key) = key {
        job.use_key(&card_key(key)?);
    }
    let work = Work {
        credentials: credentials(&arguments.credentials)?,
        wait: &arguments.wait,
        pin: &arguments.pin,
    };
    work.run(card, job, daemon)
}

pub(super) fn renew(arguments: &RenewArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let card = usable(&arguments.card.card, daemon)?;
    let jobs = jobs::all()?;
    let key = renewable(&card, arguments.key.as_deref(), &jobs)?;
    let old = certificate_of(&card, key, daemon)?;
    let mut order = orders::for_renewal(&arguments.authority, &card, key, &jobs)?;
    order.subject = old.subject().to_string();
    order.algorithm = key.algorithm.word().to_owned();
    order.pin_every_time = key.class == cardea_terms::KeyClass::Always;
    order.key_label = (!key.label.is_empty()).then(|| key.label.clone());
    if now() > old.not_after() {
        return Err(Failure::usage(format!(
            "the certificate of key {} has ended, and an ended one renews nothing: enrol again with `cardea cert enrol`",
            title(key)
        )));
    }
    let due = renewal_due(&old, &card.summary.card_id, order.renew_at);
    if now() < due && !arguments.now {
        note(&format!(
            "the certificate of key {} is to be renewed from {} on; --now renews it today",
            title(key),
            local(due)
        ));
        return Ok(());
    }
    // A renewal that was begun goes on: it has a key already.
    let begun = jobs.into_iter().find(|job| {
        let is_of_key = job
            .renewed
            .as_ref()
            .is_some_and(|old| old.key == key.reference);
        job.card == card.summary.card_id && is_of_key && !job.state.is_over()
    });
    let job = match begun {
        Some(job) => job,
        None => {
            let mut job = Job::new(&card.summary.card_id, order, now()).map_err(told)?;
            job.renewed = Some(cardea_enrol::Renewed {
                key: key.reference,
                certificate: old.der().to_vec(),
            });
            if arguments.same_key {
                job.use_key(&card_key(key)?);
            } else {
                must_have_room(&card)?;
            }
            job
        }
    };
    let work = Work {
        credentials: Credentials::default(),
        wait: &arguments.wait,
        pin: &arguments.pin,
    };
    work.run(card, job, daemon)
}

pub(super) fn pending(arguments: &PendingArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    if let Some(name) = &arguments.cancel {
        return jobs::cancel(name);
    }
    let Some(name) = &arguments.resume else {
        return jobs::list(arguments.all, arguments.output);
    };
    let job = jobs::named(name)?;
    let card = usable(&job.card, daemon)?;
    let work = Work {
        credentials: credentials(&arguments.credentials)?,
        wait: &arguments.wait,
        pin: &arguments.pin,
    };
    work.run(card, job, daemon)
}

pub(super) fn revoke(arguments: &RevokeArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let card = usable(&arguments.card.card, daemon)?;
    let key = select(&card, &arguments.key)?;
    let certificate = certificate_of(&card, key, daemon)?;
    let order = orders::for_renewal(&arguments.authority, &card, key, &jobs::all()?)?;
    if order.protocol == Protocol::Est {
        return Err(Failure::usage(
            "EST cannot revoke: use --cmp, or tell the authority's administrator",
        ));
    }
    let mut journal = FolderJournal::open(&jobs::folder()?, &card.summary.card_id).map_err(told)?;
    let mut transport = HttpClient::new(order.trust.as_ref(), None).map_err(told)?;
    let pin = Pin::new(&arguments.pin);
    let reference = key.reference;
    let name = title(key);
    let shared = SharedCard::new(Box::new(DaemonCard::new(daemon, card, &order, pin)));
    Run {
        journal: &mut journal,
        card: &shared,
        transport: &mut transport,
        credentials: &Credentials::default(),
        now: &now,
        accept_changes: false,
    }
    .revoke(&order, reference, &certificate, arguments.reason as u8)
    .map_err(told)?;
    note(&format!(
        "the authority has revoked the certificate of key {name}"
    ));
    Ok(())
}

/// What all ways to a certificate have in common.
struct Work<'a> {
    credentials: Credentials,
    wait: &'a WaitArguments,
    pin: &'a PinArguments,
}

impl Work<'_> {
    fn run(&self, card: CardDetails, mut job: Job, daemon: &Daemon) -> Result<(), Failure> {
        let folder = jobs::folder()?;
        let mut journal = FolderJournal::open(&folder, &job.card).map_err(told)?;
        // Another program may have gone on while we waited for nothing.
        if let Ok(current) = jobs::named(&job.id) {
            job = current;
        }
        if job.state == State::Pending && now() < job.not_before && self.wait.wait.is_none() {
            return Err(later(&job));
        }
        let pin = Pin::new(self.pin);
        // A transaction of CMP that waits is asked about first and needs the PIN last.
        let is_waiting = matches!(job.state, State::Requested | State::Pending);
        if !(is_waiting && job.order.protocol == Protocol::Cmp) {
            probe(&job.order)?;
            // Now, and not while a server waits in the middle of TLS.
            pin.get()?;
        }
        let order = job.order.clone();
        let id = card.summary.card_id.clone();
        let card = DaemonCard::new(daemon, card, &order, pin.clone());
        let shared = SharedCard::new(Box::new(card));
        let old = job.old().map_err(told)?;
        let identity = match &old {
            Some((reference, certificate)) => Some(Identity {
                card: shared.clone(),
                reference: *reference,
                public: certificate
                    .public_key()
                    .map_err(|error| Failure::usage(error.to_string()))?
                    .clone(),
                certificate: certificate.der().to_vec(),
            }),
            None => None,
        };
        let mut transport =
            HttpClient::new(order.trust.as_ref(), identity.as_ref()).map_err(told)?;
        let mut run = Run {
            journal: &mut journal,
            card: &shared,
            transport: &mut transport,
            credentials: &self.credentials,
            now: &now,
            accept_changes: self.wait.accept_changes,
        };
        let patience = i64::from(self.wait.wait.map_or(0, |seconds| seconds.0));
        let until = now().saturating_add(patience);
        loop {
            match run.advance(&mut job) {
                Ok(Outcome::Done) => break,
                Ok(Outcome::Pending(at)) if at <= until => {
                    let seconds = u64::try_from(at.saturating_sub(now())).unwrap_or(0);
                    note(&format!("waiting for the authority until {}", local(at)));
                    std::thread::sleep(Duration::from_secs(seconds));
                }
                Ok(Outcome::Pending(_)) => return Err(later(&job)),
                Err(error) => return Err(stopped(error, &job)),
            }
        }
        report(&job)?;
        if let Some((reference, certificate)) = &old
            && Some(*reference) != job.key
            && let Some(label) = &order.key_label
        {
            let until = local(certificate.not_after());
            let label = format!("{label} (until {until})");
            let request = CardRequest::Rename {
                pin: Some(pin.get()?),
                thing: Thing::Key(*reference),
                label: crate::on_card::shortened(&label),
                id: None,
            };
            // Two keys of one label are ambiguous, and no more than that.
            let renamed = daemon
                .another()
                .order(&Request::card(id, request), "renaming the old key");
            if let Err(failure) = renamed {
                note(&format!("warning: the old key keeps its label: {failure}"));
            }
        }
        Ok(())
    }
}

/// Shows that somebody answers, and what the authority wants besides.
fn probe(order: &Order) -> Result<(), Failure> {
    let mut transport = HttpClient::new(order.trust.as_ref(), None).map_err(told)?;
    let (_, attributes) = authority_certificates(order, &mut transport).map_err(told)?;
    if attributes.attestation && !order.attest {
        note("the authority wants requests to prove where their key is; --attest does that");
    }
    if !attributes.others.is_empty() {
        note(&format!(
            "the authority also wants {}, which is left out",
            attributes.others.join(", ")
        ));
    }
    Ok(())
}

fn report(job: &Job) -> Result<(), Failure> {
    let certificate = job.issued().map_err(told)?;
    crate::on_card::note_weak_mapping(&certificate);
    note(&format!(
        "certificate of {} stored with key {:02X}, valid until {}",
        printable(&certificate.subject().to_string()),
        job.key.unwrap_or_default(),
        local(certificate.not_after())
    ));
    if let Some(renewed) = &job.renewed
        && Some(renewed.key) != job.key
    {
        note(&format!(
            "key {:02X} and its certificate stay, for what was encrypted to it; `cardea key delete` removes them",
            renewed.key
        ));
    }
    Ok(())
}

fn later(job: &Job) -> Failure {
    Failure::new(
        Exit::Pending,
        format!(
            "the authority has not decided yet; go on from {} with `cardea cert pending --resume {}`",
            local(job.not_before),
            job.id
        ),
    )
}

/// An error after which the job is over, or can go on.
fn stopped(error: Error, job: &Job) -> Failure {
    let is_changed = matches!(error, Error::Changed(_));
    let failure = told(error);
    match (job.state.is_over(), is_changed) {
        (true, _) => match job.key {
            Some(key) => failure.and(&format!(
                "its key stays on the card and can be used again with --key {key:02X}"
            )),
            None => failure,
        },
        (false, true) => failure.and(&format!(
            "nothing was stored; accept it with `cardea cert pending --resume {} --accept-changes`",
            job.id
        )),
        (false, false) => failure.and(&format!(
            "the enrolment can go on with `cardea cert pending --resume {}`",
            job.id
        )),
    }
}

/// The one table from errors of an enrolment to exit codes.
fn told(error: Error) -> Failure {
    let exit = match &error {
        Error::Busy => Exit::Busy,
        Error::Refused(_) => Exit::Refused,
        Error::Unreachable(_) | Error::Untrusted(_) => Exit::NoAuthority,
        Error::Usage(_) => Exit::Usage,
        _ => Exit::Failed,
    };
    match error {
        Error::Card(cause) => match cause.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(other) => Failure::new(Exit::Failed, other.to_string()),
        },
        other => Failure::new(exit, other.to_string()),
    }
}

/// A card whose PIN can be asked for: not with one try left, because an enrolment can wait and a blocked card cannot.
fn usable(card: &str, daemon: &mut Daemon) -> Result<CardDetails, Failure> {
    let card = daemon.usable_by_pin(card)?;
    match card.pin {
        Some(Tries { left: Some(1), .. }) => Err(Failure::new(
            Exit::Failed,
            "one try of the PIN is left, which is not used up for this; restore the tries with `cardea pin verify` first",
        )),
        _ => Ok(card),
    }
}

fn card_key(key: &KeySummary) -> Result<CardKey, Failure> {
    Ok(CardKey {
        reference: key.reference,
        public: public_key(key)?,
    })
}

fn certificate_of(
    card: &CardDetails,
    key: &KeySummary,
    daemon: &mut Daemon,
) -> Result<Certificate, Failure> {
    if !key.certificate {
        return Err(Failure::new(
            Exit::NotFound,
            format!("key {} has no certificate", title(key)),
        ));
    }
    let der = read(card, key, daemon)?;
    Certificate::parse(&der).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// The key that is meant: the one that is named, else the only one whose certificate came from an enrolment and was not
/// renewed.
fn renewable<'a>(
    card: &'a CardDetails,
    named: Option<&str>,
    jobs: &[Job],
) -> Result<&'a KeySummary, Failure> {
    if let Some(name) = named {
        return select(card, name);
    }
    let is_enrolled = |key: &&KeySummary| {
        let done = jobs
            .iter()
            .filter(|job| job.card == card.summary.card_id && job.state == State::Done);
        let (mut issued, mut renewed) = (false, false);
        for job in done {
            issued |= job.key == Some(key.reference);
            let old = job.renewed.as_ref();
            renewed |=
                old.is_some_and(|old| old.key == key.reference) && job.key != Some(key.reference);
        }
        key.certificate && issued && !renewed
    };
    let mut found = card.keys.iter().filter(is_enrolled);
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(Failure::new(
            Exit::Ambiguous,
            "more than one certificate can be renewed: name its key",
        )),
        (None, _) => Err(Failure::new(
            Exit::NotFound,
            "no certificate of this card came from an enrolment here: name its key and the authority",
        )),
    }
}

fn credentials(arguments: &CredentialArguments) -> Result<Credentials, Failure> {
    let read = |what, file: &Option<std::path::PathBuf>, options| {
        let source = Source {
            file: file.as_deref(),
            fd: None,
            options,
        };
        let secret = secret::present(what, &source)?;
        Ok::<_, Failure>(Zeroizing::new(secret.expose().to_vec()))
    };
    let password = match &arguments.user {
        Some(user) => {
            let password = read("password", &arguments.password_file, "--password-file")?;
            Some((user.clone(), password))
        }
        None => None,
    };
    let secret = match &arguments.reference {
        Some(reference) => {
            let secret = read("shared secret", &arguments.secret_file, "--secret-file")?;
            Some((reference.clone().into_bytes(), secret))
        }
        None => None,
    };
    Ok(Credentials { password, secret })
}
