//! `cardea --machine HOST card create|destroy`

use std::sync::{Arc, Mutex, PoisonError};

use cardea_client::message::SecretBytes;
use cardea_dcom::tpmvsc::Attestation;
use cardea_remote::NewCard;
use cardea_terms::invalid_card_name;
use cardea_terms::tpmvsc::{DEFAULT_ADMIN_KEY, Status};
use serde_json::json;
use zeroize::Zeroizing;

use super::{create, puk};
use crate::arguments::{AdminKeySource, CreateArguments, OwnerArguments};
use crate::exit::Failure;
use crate::machine::{Place, is_instance_id, random_key, words};
use crate::policy::Policy;
use crate::terminal::output::{note, print, print_json, printable};
use crate::terminal::progress::Progress;
use crate::terminal::prompt::confirm;
use crate::terminal::secret::{self, Source};

pub(super) fn create(arguments: &CreateArguments, place: &Place<'_>) -> Result<(), Failure> {
    for (is_given, option) in not_there(arguments) {
        if is_given {
            return Err(Failure::usage(format!(
                "{option} does not work with --machine: the protocol has no word for it"
            )));
        }
    }
    if let Some(reason) = invalid_card_name(&arguments.name) {
        return Err(Failure::usage(reason));
    }
    let machine = place.reach()?;
    // What would refuse the card is found before anybody types a secret for it.
    machine.probe().map_err(|error| place.failure(&error))?;
    let (admin_key, has_administrator) = admin_key(arguments.admin_key.as_ref())?;
    let offers = !arguments.pin.source().is_given() && !has_administrator;
    let mut choice = puk::Choice::of(arguments, offers);
    create::say_consequence(choice, has_administrator, true)?;
    let policy = match arguments.pin_policy {
        Some(policy) => policy,
        // What other machines want unless they are told otherwise.
        None => "min=8".parse().unwrap_or_default(),
    };
    let pin = secret::new("PIN", &arguments.pin.source(), &policy)?;
    if choice == puk::Choice::Ask {
        choice = puk::ask(None)?;
    }
    let puk = puk::obtain(choice, &create::puk_source(arguments))?;
    let copy = |secret: &SecretBytes| Zeroizing::new(secret.expose().to_vec());
    let card = NewCard {
        name: arguments.name.clone(),
        admin_key,
        puk: puk.as_ref().map(copy),
        pin: copy(&pin),
        policy: arguments.pin_policy.map(Policy::to_bytes),
        attestation: match arguments.attest {
            true => Attestation::AikOnly,
            false => Attestation::None,
        },
        generate: !arguments.blank,
    };
    let steps = Steps::start("creating the card");
    let watch = place.watch(Some(steps.shown()))?;
    let made = machine.create(&card, &watch);
    drop(steps);
    let instance = made.map_err(|error| place.failure(&error))?;
    match arguments.output.json {
        true => print_json(&json!({ "instance_id": instance, "machine": place.host }))?,
        false => print(&format!("instance id: {}\n", printable(&instance)))?,
    }
    Ok(())
}

pub(super) fn destroy(
    instance: &str,
    owner: &OwnerArguments,
    yes: bool,
    place: &Place<'_>,
) -> Result<(), Failure> {
    if !is_instance_id(instance) {
        return Err(Failure::usage(
            "with --machine a card is named by the instance id that create printed, for example \
             ROOT\\SMARTCARDREADER\\0000",
        ));
    }
    if owner.source().is_given() {
        return Err(Failure::usage(
            "the TPM's owner authorisation does not work with --machine: the protocol has no word for it",
        ));
    }
    let host = printable(place.host);
    let shown = printable(instance);
    if !yes {
        let question = format!("destroy card {shown} on {host}? This cannot be undone");
        confirm(&question, "nothing destroyed")?;
    }
    let machine = place.reach()?;
    let steps = Steps::start("destroying the card");
    let watch = place.watch(Some(steps.shown()))?;
    let done = machine.destroy(instance, &watch);
    drop(steps);
    done.map_err(|error| place.failure(&error))?;
    note(&format!("card {shown} on {host} destroyed"));
    Ok(())
}

/// The steps of one order; ends when dropped, whoever still listens to reports.
struct Steps(Arc<Mutex<Option<Progress>>>);

impl Steps {
    fn start(step: &str) -> Self {
        Self(Arc::new(Mutex::new(Some(Progress::start(step)))))
    }

    fn shown(&self) -> Box<dyn Fn(Status) + Send + Sync> {
        let progress = Arc::clone(&self.0);
        Box::new(move |status| {
            let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(progress) = &*progress {
                progress.step(words(status));
            }
        })
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *progress = None;
    }
}

/// Options that the protocol cannot say.
fn not_there(arguments: &CreateArguments) -> [(bool, &'static str); 15] {
    let is_kept = matches!(
        arguments.admin_key,
        Some(AdminKeySource::Derived(_) | AdminKeySource::Escrowed(_))
    );
    [
        (is_kept, "--admin-key derived: or escrowed:"),
        (arguments.owner.is_some(), "--owner"),
        (arguments.pin_tries.is_some(), "--pin-tries"),
        (arguments.puk_tries.is_some(), "--puk-tries"),
        (arguments.session_limit.is_some(), "--session-limit"),
        (arguments.idle_limit.is_some(), "--idle-limit"),
        (arguments.pin_pad, "--pin-pad"),
        (arguments.reader.is_some(), "--reader"),
        (arguments.store.is_some(), "--store"),
        (arguments.counter_mode.is_some(), "--counter-mode"),
        (
            arguments.tpm_owner.source().is_given(),
            "the TPM's owner authorisation",
        ),
        (arguments.uninitialised, "--uninitialised"),
        (arguments.with_puk, "--with-puk"),
        (
            arguments.escrow_passphrase_file.is_some(),
            "--escrow-passphrase-file",
        ),
        (
            arguments.escrow_certificate.is_some(),
            "--escrow-certificate",
        ),
    ]
}

/// The admin key, and whether somebody knows it.
fn admin_key(source: Option<&AdminKeySource>) -> Result<(Zeroizing<[u8; 24]>, bool), Failure> {
    let read = |file| {
        let source = Source {
            file,
            fd: None,
            options: "--admin-key file:PATH",
        };
        Ok((secret::admin_key("admin key", &source)?, true))
    };
    match source {
        Some(AdminKeySource::Default) => Ok((Zeroizing::new(DEFAULT_ADMIN_KEY), true)),
        Some(AdminKeySource::File(path)) => read(Some(path.as_path())),
        Some(AdminKeySource::Prompt) => read(None),
        Some(AdminKeySource::Random) | None => Ok((random_key()?, false)),
        Some(AdminKeySource::Derived(_) | AdminKeySource::Escrowed(_)) => {
            Err(Failure::usage("the other machine chooses the card id"))
        }
    }
}
