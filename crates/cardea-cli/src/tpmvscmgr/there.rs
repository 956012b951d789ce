//! `/machine`: cards of another machine.

use cardea_client::message::SecretBytes;
use cardea_dcom::tpmvsc::Attestation as Kind;
use cardea_remote::{NewCard, RemoteError, Watch};
use cardea_terms::tpmvsc::{Hresult, Status};
use zeroize::Zeroizing;

use super::grammar::{AdminKey, Attestation, Create, Destroy, Given, Machine};
use super::{End, Failure, Secrets, secrets};
use crate::exit::{self, Exit};
use crate::machine::{self, Place, is_here, random_key, words};
use crate::policy::Policy;
use crate::terminal::output::{print, printable};
use crate::terminal::secret::Source;

/// The other machine, if it is one.
pub(super) fn place(machine: &Machine) -> Option<Place<'_>> {
    let host = machine.host.as_deref().filter(|host| !is_here(host))?;
    Some(Place {
        host,
        user: machine.user.as_deref(),
        password: Source {
            file: None,
            fd: machine.password_fd,
            options: "/passwordfd",
        },
    })
}

pub(super) fn make(create: &Create, place: &Place<'_>) -> Result<(), Failure> {
    if create.counter_mode.is_some() {
        return Err(Failure::new(
            End::Usage,
            "/countermode does not work with /machine: the protocol has no word for it",
            Hresult::INVALID_ARGUMENT,
        ));
    }
    let machine = place.reach().map_err(ours)?;
    let types = create.admin_key == AdminKey::Prompt
        || create.pin == Given::Prompt
        || create.puk == Some(Given::Prompt);
    if types {
        // What would refuse the card is found before anybody types a secret for it.
        machine.probe().map_err(|error| theirs(&error, place))?;
    }
    let Secrets {
        admin_key,
        pin,
        puk,
        ..
    } = secrets(create)?;
    let copy = |secret: &SecretBytes| Zeroizing::new(secret.expose().to_vec());
    let admin_key = match admin_key.map(|key| key.expose().try_into()) {
        Some(Ok(key)) => Zeroizing::new(key),
        Some(Err(_)) => {
            return Err(Failure::new(
                End::Usage,
                "an administrator key has 24 bytes",
                Hresult::INVALID_ARGUMENT,
            ));
        }
        None => random_key().map_err(ours)?,
    };
    let card = NewCard {
        name: create.name.clone(),
        admin_key,
        puk: puk.as_ref().map(copy),
        pin: copy(&pin),
        policy: create.policy.map(Policy::to_bytes),
        attestation: match create.attestation {
            None => Kind::None,
            Some(Attestation::Key) => Kind::AikOnly,
            Some(Attestation::KeyAndCertificate) => Kind::AikAndCertificate,
        },
        generate: create.generate,
    };
    let made = machine.create(&card, &watch(create.quiet, place)?);
    let instance = made.map_err(|error| theirs(&error, place))?;
    print(&format!(
        "TPM Smart Card created.\nSmart Card Reader Device Instance ID = {}\n",
        printable(&instance)
    ))?;
    Ok(())
}

pub(super) fn unmake(destroy: &Destroy, place: &Place<'_>) -> Result<(), Failure> {
    let machine = place.reach().map_err(ours)?;
    let done = machine.destroy(&destroy.instance, &watch(destroy.quiet, place)?);
    done.map_err(|error| theirs(&error, place))?;
    print("TPM Smart Card destroyed.\n")?;
    Ok(())
}

/// Each step is printed on a line, unless `quiet`.
fn watch(quiet: bool, place: &Place<'_>) -> Result<Watch, Failure> {
    let show: Box<dyn Fn(Status) + Send + Sync> = Box::new(|status| {
        // Said by the line that the tool ends with.
        if ![Status::CardCreated, Status::CardDestroyed].contains(&status) {
            // A closed pipe does not stop the operation.
            let _ = print(&format!("{}...\n", words(status)));
        }
    });
    place.watch((!quiet).then_some(show)).map_err(ours)
}

/// A failure on this machine.
fn ours(failure: exit::Failure) -> Failure {
    let (end, hresult) = match failure.exit {
        Exit::Away => (End::Unreachable, Some(Hresult::UNREACHABLE)),
        Exit::Denied => (End::NotAuthorised, Some(Hresult::ACCESS_DENIED)),
        Exit::Usage => (End::Usage, Some(Hresult::INVALID_ARGUMENT)),
        _ if failure.is_interruption() => (End::Aborted, None),
        _ => (End::Failed, None),
    };
    Failure {
        end,
        text: failure.to_string(),
        hresult,
    }
}

/// A failure on the other machine.
fn theirs(error: &RemoteError, place: &Place<'_>) -> Failure {
    let hresult = machine::hresult(error);
    let end = match (error, hresult) {
        (RemoteError::NoManager(_) | RemoteError::Unreachable(_), _) => End::Unreachable,
        (_, Hresult::ABORT) => End::Aborted,
        (_, Hresult::ACCESS_DENIED) => End::NotAuthorised,
        _ => End::Failed,
    };
    let text = match error {
        // Its words follow on a line of their own.
        RemoteError::Refused(_) => format!("{} refuses", printable(place.host)),
        error => place.text(error),
    };
    Failure::new(end, text, hresult)
}
