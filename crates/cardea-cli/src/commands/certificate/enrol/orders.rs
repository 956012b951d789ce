//! What is ordered: from a profile, from options, or as the last time.

use std::path::PathBuf;

use cardea_client::message::{CardDetails, KeySummary};
use cardea_enrol::{Job, Order, Profile, Protocol, State, Trust, bootstrap};
use cardea_terms::KeyAlgorithm;

use super::told;
use crate::arguments::{AuthorityArguments, EnrolArguments};
use crate::exit::Failure;
use crate::file;

/// The administrator's profiles.
const SYSTEM_PROFILES: &str = "/etc/cardea/enrol.d";

pub(super) fn for_enrolment(arguments: &EnrolArguments) -> Result<Order, Failure> {
    let mut order = from_authority(&arguments.authority)?.ok_or_else(|| {
        Failure::usage("which authority? pass --profile NAME, --est URL or --cmp URL")
    })?;
    if let Some(subject) = &arguments.subject {
        order.subject = subject.to_string();
    }
    let texts = |names: &[String], more: Vec<String>| match more.is_empty() {
        true => names.to_vec(),
        false => more,
    };
    order.san = texts(&order.san, strings(&arguments.san));
    order.eku = texts(&order.eku, strings(&arguments.eku));
    order.key_usage = texts(&order.key_usage, strings(&arguments.key_usage));
    order.attest |= arguments.attest;
    order.pin_every_time |= arguments.pin_every_time;
    order.key_label.clone_from(&arguments.label);
    if let Some(algorithm) = arguments.algorithm {
        order.algorithm = KeyAlgorithm::from(algorithm).word().to_owned();
    }
    Ok(order)
}

fn strings<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// Of the options, else of the enrolment that the certificate came from.
pub(super) fn for_renewal(
    authority: &AuthorityArguments,
    card: &CardDetails,
    key: &KeySummary,
    jobs: &[Job],
) -> Result<Order, Failure> {
    if let Some(order) = from_authority(authority)? {
        return Ok(order);
    }
    let mut done = jobs.iter().rev().filter(|job| {
        job.state == State::Done
            && job.card == card.summary.card_id
            && job.key == Some(key.reference)
    });
    match done.next() {
        Some(job) => Ok(job.order.clone()),
        None => Err(Failure::usage(
            "it is not known which authority has issued the certificate: pass --profile NAME, --est URL or --cmp URL",
        )),
    }
}

fn from_authority(authority: &AuthorityArguments) -> Result<Option<Order>, Failure> {
    let (protocol, url) = match (&authority.profile, &authority.est, &authority.cmp) {
        (Some(name), _, _) => {
            let profile = Profile::find(name, &profile_folders()).map_err(told)?;
            let user = std::env::var("USER").unwrap_or_default();
            let fqdn = nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .unwrap_or_default();
            return Ok(Some(profile.order(name, &user, &fqdn).map_err(told)?));
        }
        (None, Some(url), _) if !url.starts_with("https://") => {
            return Err(Failure::usage(
                "the address of an EST authority begins with https://",
            ));
        }
        (None, Some(url), _) => (Protocol::Est, url),
        (None, None, Some(url)) => (Protocol::Cmp, url),
        (None, None, None) => return Ok(None),
    };
    let trust = match &authority.trust {
        Some(path) => Some(Trust::from_file_content(&file::read(path)?).map_err(told)?),
        None => None,
    };
    let mut order = Order {
        protocol,
        url: url.clone(),
        label: authority.est_label.clone(),
        profile: None,
        trust,
        subject: String::new(),
        san: Vec::new(),
        eku: Vec::new(),
        key_usage: Vec::new(),
        attest: false,
        algorithm: KeyAlgorithm::Rsa2048.word().to_owned(),
        key_label: None,
        pin_every_time: false,
        renew_at: None,
        allow_sha1_mac: authority.allow_sha1_mac,
    };
    if let Some(digits) = &authority.bootstrap {
        let fingerprint = <[u8; 32]>::try_from(&digits.0[..])
            .map_err(|_| Failure::usage("a SHA-256 fingerprint has 64 hexadecimal digits"))?;
        order.trust = Some(bootstrap(&order, fingerprint).map_err(told)?);
    }
    Ok(Some(order))
}

/// The user's own, then the administrator's.
fn profile_folders() -> Vec<PathBuf> {
    let of = |name| std::env::var_os(name).map(PathBuf::from);
    let own = of("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| of("HOME").map(|home| home.join(".config")));
    let own = own.map(|folder| folder.join("cardea/enrol.d"));
    own.into_iter().chain([SYSTEM_PROFILES.into()]).collect()
}
