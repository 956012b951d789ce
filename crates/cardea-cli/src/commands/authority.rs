//! `cardea attest authority …`: certifies the attestation keys of cards, by files.

mod files;
mod folder;
mod init;
mod pin_list;
mod pins;
mod record;

use std::path::Path;

use cardea_attest::authority::{Decision, Policy, Term};
use cardea_attest::exchange::{Answer, OfferedKey, Request, RequestForm, message_kind};
use cardea_attest::{Code, EkOrigin, EkTrust, EndorsementKey, Refusal};
use cardea_pki::PathCertificate;
use jiff::Timestamp;

use self::files::WholeFile;
use self::folder::Folder;
use self::record::Entry;
use crate::arguments::{AuthorityVerb, ChallengeArguments, IssueArguments};
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex::plain;
use crate::terminal::clock::local;
use crate::terminal::output::note;

const DAY: i64 = 86_400;

pub(super) fn run(verb: &AuthorityVerb) -> Result<(), Failure> {
    match verb {
        AuthorityVerb::Challenge(arguments) => challenge(arguments),
        AuthorityVerb::Init(arguments) => init::run(arguments),
        AuthorityVerb::Issue(arguments) => issue(arguments),
        AuthorityVerb::Pin(verb) => pins::run(verb),
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn challenge(arguments: &ChallengeArguments) -> Result<(), Failure> {
    let folder = Folder::open(&arguments.folder.path)?;
    let trusted = Trusted::read(&folder)?;
    let content = file::read(&arguments.request)?;
    let request = Request::decode(&content)
        .map_err(|refusal| refused(&refusal, &instead(&arguments.request, &content)))?;
    let state_key = folder.state_key()?;
    let policy = Policy {
        trust: EkTrust {
            on_first_use: arguments.trust_on_first_use,
            ..trusted.trust()
        },
        bad_firmware: &trusted.bad_firmware,
        state_key: &state_key,
        challenge_seconds: cardea_attest::authority::CHALLENGE_SECONDS,
    };
    let mut broken = None;
    let made = policy.challenge(&request, now(), &mut |buffer| {
        if let Err(error) = getrandom::fill(buffer) {
            broken.get_or_insert(error);
        }
    });
    if let Some(error) = broken {
        return Err(no_random(&error));
    }
    let made = made.map_err(|refusal| refused(&refusal, &advice(&refusal, &request)))?;
    WholeFile::begin(&arguments.out, &made.challenge.encode())?.finish()?;
    let known = match made.tpm.origin {
        EkOrigin::Certificate => {
            let root = made.tpm.root.unwrap_or_default();
            format!("known by its maker's certificate, of {root}")
        }
        EkOrigin::FirstUse => "not known: it is trusted because this is its first use".to_owned(),
        EkOrigin::Pin => match trusted.asset(&made.tpm.pin) {
            Some(asset) => format!("known by its pin, as {asset}"),
            None => "known by its pin".to_owned(),
        },
    };
    let tpm = made.tpm.identity;
    note(&format!(
        "TPM of {}, {}, version {}: {known}",
        tpm.manufacturer, tpm.model, tpm.version
    ));
    let wrote = arguments.out.display();
    note(&format!(
        "the challenge for the card is in {wrote}; it can be answered for ten minutes"
    ));
    Ok(())
}

/// What somebody can do about a refusal.
fn advice(refusal: &Refusal, request: &Request) -> String {
    let pins = || {
        let pin = |key: &OfferedKey| Some(plain(&EndorsementKey::parse(&key.public).ok()?.pin()));
        let pins = request.endorsement_keys.iter().filter_map(pin);
        pins.collect::<Vec<_>>().join(" or ")
    };
    match refusal.code {
        Code::EkUnknown => format!(
            "; if you know this computer, add its pin with `cardea attest authority pin add {}`",
            pins()
        ),
        Code::EkChain => format!(
            "; put the maker's root certificate into the folder `roots` and those below it into `intermediates`, or, \
             if you know this computer, add its pin with `cardea attest authority pin add {}`",
            pins()
        ),
        Code::EkFirmware => {
            "; update the TPM's firmware, or take it from the file `firmware` of the authority"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// What a file has in place of the message that it was to have.
fn instead(path: &Path, content: &[u8]) -> String {
    let file = path.display();
    match message_kind(content) {
        Some(kind) => format!("; {file} is a message {kind}"),
        None => format!("; the file is {file}"),
    }
}

fn refused(refusal: &Refusal, advice: &str) -> Failure {
    let code = refusal.code;
    Failure::new(Exit::Failed, format!("refused ({code}): {refusal}{advice}"))
}

fn no_random(error: &getrandom::Error) -> Failure {
    Failure::new(Exit::Failed, format!("no random numbers: {error}"))
}

fn issue(arguments: &IssueArguments) -> Result<(), Failure> {
    let folder = Folder::open(&arguments.folder.path)?;
    let signer = folder.signer()?;
    let state_key = folder.state_key()?;
    let content = file::read(&arguments.answer)?;
    let answer = Answer::decode(&content)
        .map_err(|refusal| refused(&refusal, &instead(&arguments.answer, &content)))?;
    let trusted = Trusted::read(&folder)?;
    let policy = Policy {
        trust: trusted.trust(),
        bad_firmware: &trusted.bad_firmware,
        state_key: &state_key,
        challenge_seconds: i64::from(arguments.within) * 60,
    };

    // From here on one at a time: a challenge that is answered twice at once is answered once.
    let locked = folder.lock()?;
    let now = now();
    let decision = policy
        .decide(&answer, now, &|challenge| locked.is_answered(challenge))
        .map_err(|refusal| {
            let advice = match refusal.code {
                Code::AnswerUsed => format!(
                    "; what was issued is in {}",
                    folder.file(folder::RECORD).display()
                ),
                _ => String::new(),
            };
            refused(&refusal, &advice)
        })?;
    let serial = serial()?;
    let term = Term {
        serial: &serial,
        now,
        seconds: i64::from(arguments.days) * DAY,
    };
    let issued = signer
        .issue(&decision, &term)
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let own = issued.certificates.first().map(Vec::as_slice);
    let own = PathCertificate::parse(own.unwrap_or_default())
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    // The order of a power cut: a challenge that was answered is so for good; what was issued is recorded; then it
    // gets its name. What fails before that leaves no certificate that is not in the record.
    let out = WholeFile::begin(&arguments.out, &issued.encode())?;
    locked.mark_answered(&decision.challenge, &serial)?;
    let asset = trusted.asset(&decision.tpm.pin);
    locked.record(&entry(&decision, &own, asset, now))?;
    out.finish()?;
    note(&format!(
        "certificate {} is in {}, valid until {}",
        plain(own.serial()),
        arguments.out.display(),
        local(own.not_after())
    ));
    Ok(())
}

fn entry<'a>(
    decision: &'a Decision,
    certificate: &'a PathCertificate,
    asset: Option<&'a str>,
    now: i64,
) -> Entry<'a> {
    Entry {
        time: now,
        certificate,
        name: &decision.name,
        tpm: &decision.tpm,
        asset,
        is_sealed: matches!(decision.form, RequestForm::Sealed { .. }),
        card: decision.card.as_deref(),
        challenge: &decision.challenge,
    }
}

/// 16 random bytes that are a positive number of full length.
fn serial() -> Result<[u8; 16], Failure> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| no_random(&error))?;
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3F | 0x40;
    }
    Ok(serial)
}

/// What the folder says about whom the authority believes.
struct Trusted {
    roots: Vec<PathCertificate>,
    intermediates: Vec<PathCertificate>,
    pins: Vec<[u8; 32]>,
    assets: Vec<String>,
    bad_firmware: Vec<cardea_attest::BadFirmware>,
}

impl Trusted {
    fn read(folder: &Folder) -> Result<Self, Failure> {
        let (pins, assets) = folder.pins()?.into_iter().unzip();
        Ok(Self {
            roots: folder.certificates(folder::ROOTS)?,
            intermediates: folder.certificates(folder::INTERMEDIATES)?,
            pins,
            assets,
            bad_firmware: folder.bad_firmware()?,
        })
    }

    fn trust(&self) -> EkTrust<'_> {
        EkTrust {
            roots: &self.roots,
            intermediates: &self.intermediates,
            pins: &self.pins,
            ..EkTrust::default()
        }
    }

    /// What the computer with an endorsement key is called.
    fn asset(&self, pin: &[u8; 32]) -> Option<&str> {
        let at = self.pins.iter().position(|one| one == pin)?;
        self.assets.get(at).map(String::as_str)
    }
}
