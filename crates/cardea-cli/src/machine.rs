//! Another machine, whose card manager is called over MS-TPMVSC: who calls, what is shown meanwhile, how it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cardea_remote::{
    Account, Event, Machine, PlainName, RESOLVER_PORT, RemoteError, Watch, has_tickets,
};
use cardea_terms::tpmvsc::{Hresult, Status};
use signal_hook::consts::SIGINT;
use signal_hook::flag::{register, register_conditional_shutdown};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::terminal::output::{note, printable};
use crate::terminal::secret::{self, Source};

/// Another machine, as it is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) host: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Source<'a>,
}

impl Place<'_> {
    /// The machine, with whom to call it as: whoever the tickets are of, or an account with a password.
    pub(crate) fn reach(&self) -> Result<Machine, Failure> {
        // Before a password is asked for.
        Machine::find(self.host, RESOLVER_PORT).map_err(|error| self.failure(&error))?;
        let is_name = self.host.parse::<IpAddr>().is_err() && !self.host.starts_with('[');
        let by_ticket = self.user.is_none() && !self.password.is_given() && is_name;
        // Tickets that the KDC then does not give are an error: no machine, and nobody on the way, has a password typed
        // for it by that.
        let account = match by_ticket && has_tickets() {
            true => Account::with_tickets(self.host).map_err(|error| {
                let text = format!(
                    "{}; name an account with --user to use a password",
                    printable(&error.to_string())
                );
                Failure::new(Exit::Denied, text)
            })?,
            false => self.account()?,
        };
        Machine::new(self.host, RESOLVER_PORT, account).map_err(|error| self.failure(&error))
    }

    fn account(&self) -> Result<Account, Failure> {
        let own;
        let name = match self.user {
            Some(name) => name,
            None => {
                own = own_name()?;
                &own
            }
        };
        let account: PlainName = name.parse().map_err(Failure::usage)?;
        let what = format!(
            "password of {} at {}",
            printable(name),
            printable(self.host)
        );
        let password = secret::password(&what, &self.password)?;
        Ok(Account::with_password(&account, &password))
    }

    /// What a failure there is here.
    pub(crate) fn failure(&self, error: &RemoteError) -> Failure {
        let exit = match error {
            RemoteError::Aborted => Exit::Cancelled,
            RemoteError::Denied => Exit::Denied,
            RemoteError::NoManager(_) | RemoteError::Unreachable(_) => Exit::Away,
            RemoteError::Refused(result) => Exit::from(*result),
            _ => Exit::Failed,
        };
        Failure::new(exit, self.text(error))
    }

    /// A failure there in words.
    pub(crate) fn text(&self, error: &RemoteError) -> String {
        let doubt = match error {
            RemoteError::Lost(_) => {
                "; it may or may not have been done: check there with `cardea card list`"
            }
            RemoteError::Denied => "; after five failures, wait a minute",
            _ => "",
        };
        format!("{}: {error}{doubt}", printable(self.host))
    }

    /// Hears of the steps, and of control-C: the first one ends the order, the second one the program.
    pub(crate) fn watch(
        &self,
        show: Option<Box<dyn Fn(Status) + Send + Sync>>,
    ) -> Result<Watch, Failure> {
        let abort = Arc::new(AtomicBool::new(false));
        let registered = register_conditional_shutdown(
            SIGINT,
            i32::from(Exit::Cancelled as u8),
            Arc::clone(&abort),
        );
        registered
            .and_then(|_| register(SIGINT, Arc::clone(&abort)))
            .map_err(|error| Failure::new(Exit::Failed, format!("no signals: {error}")))?;
        let host = printable(self.host);
        let hear = show.map(|show| {
            let hear = move |event| match event {
                Event::Aborting => note(&format!(
                    "waiting for {host} to take everything back; control-C again ends this at once"
                )),
                Event::NoReports => note(&format!(
                    "{host} has not reported its progress: it cannot connect to this machine, or does not report"
                )),
                Event::Step(status) => show(status),
                Event::Failed(report) => note(&format!("{host} reports {}", report.name())),
                _ => {}
            };
            Arc::new(hear) as Arc<dyn Fn(Event) + Send + Sync>
        });
        Ok(Watch { abort, hear })
    }
}

/// Whether a name is this machine's.
pub(crate) fn is_here(machine: &str) -> bool {
    let own = nix::unistd::gethostname().unwrap_or_default();
    let own = own.to_string_lossy().to_lowercase();
    let here = [".", "localhost", "127.0.0.1", "::1", &own];
    here.contains(&machine.to_lowercase().as_str())
}

/// Whoever runs this program.
fn own_name() -> Result<String, Failure> {
    let uid = nix::unistd::getuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => Ok(user.name),
        _ => Err(Failure::usage("name the account there with --user")),
    }
}

/// What a step on another machine is called, alike to those on this one.
pub(crate) fn words(status: Status) -> &'static str {
    match status {
        Status::CardInitializing => "preparing the card",
        Status::CardCreating => "making the card's objects in the TPM",
        Status::CardDestroying => "deleting the card's objects in the TPM",
        Status::SimulatorInitializing => "preparing the card's content",
        Status::SimulatorCreating => "making the card's content",
        Status::SimulatorDestroying => "removing the card file",
        Status::ReaderInitializing => "preparing the reader",
        Status::ReaderCreating => "putting the card into its reader",
        Status::ReaderDestroying => "taking the card out of its reader",
        Status::GenerateWaiting => "waiting for the card",
        Status::GenerateAuthenticating => "authenticating to the card",
        Status::GenerateRunning => "writing the card file",
        Status::CardCreated => "the card is made",
        Status::CardDestroyed => "the card is destroyed",
    }
}

/// What every instance id begins with: on another machine, cards have no other names.
pub(crate) fn is_instance_id(text: &str) -> bool {
    const BEGINNING: &str = "ROOT\\SMARTCARDREADER\\";
    let split = text.split_at_checked(BEGINNING.len());
    split.is_some_and(|(first, rest)| first.eq_ignore_ascii_case(BEGINNING) && !rest.is_empty())
}

/// The error number of Windows' tool for a failure there.
pub(crate) fn hresult(error: &RemoteError) -> Hresult {
    match error {
        RemoteError::Aborted => Hresult::ABORT,
        RemoteError::Denied => Hresult::ACCESS_DENIED,
        RemoteError::NoManager(result) | RemoteError::Refused(result) => *result,
        RemoteError::NotSupported(_) => Hresult::NOT_SUPPORTED,
        RemoteError::Unreachable(_) => Hresult::UNREACHABLE,
        _ => Hresult::FAIL,
    }
}

/// An admin key that nobody will know.
pub(crate) fn random_key() -> Result<Zeroizing<[u8; 24]>, Failure> {
    let mut key = Zeroizing::new([0; 24]);
    getrandom::fill(&mut *key)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place {
        host: "target",
        user: None,
        password: Source {
            file: None,
            fd: None,
            options: "",
        },
    };

    #[test]
    fn failures_have_the_codes_of_the_one_table() {
        let exit = |error| PLACE.failure(&error).exit;
        assert_eq!(exit(RemoteError::Aborted), Exit::Cancelled);
        assert_eq!(exit(RemoteError::Denied), Exit::Denied);
        assert_eq!(exit(RemoteError::Refused(Hresult::FULL)), Exit::Full);
        let away = RemoteError::Unreachable(std::io::ErrorKind::TimedOut.into());
        assert_eq!(exit(away), Exit::Away);
        let lost = RemoteError::Lost(Box::new(RemoteError::Protocol("odd")));
        let failure = PLACE.failure(&lost);
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.to_string().contains("may or may not"), "{failure}");
    }

    #[test]
    fn instance_ids_are_told_from_names() {
        assert!(is_instance_id("root\\smartcardreader\\0000"));
        for other in [
            "work",
            "ROOT\\SMARTCARDREADER\\",
            "ROOT\\SMARTCARDREADERS\\0",
        ] {
            assert!(!is_instance_id(other), "{other}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_here() {
        for name in ["localhost", ".", "LOCALHOST"] {
            assert!(is_here(name), "{name}");
        }
        assert!(!is_here("server.example"));
    }
}
