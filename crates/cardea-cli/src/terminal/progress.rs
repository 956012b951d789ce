//! Progress on stderr for operations that take longer than half a second.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cardea_terms::{IndexRole, Step};

use crate::terminal::output::printable;

/// Nothing is shown before.
const PATIENCE: Duration = Duration::from_millis(500);

/// The same step is repeated after this, so that a slow TPM does not look dead.
const REPEAT: Duration = Duration::from_secs(10);

/// Shows the steps of one operation; ends when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    steps: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins with the first step.
    pub(crate) fn start(step: &str) -> Self {
        Self::with(step, PATIENCE, REPEAT, |text| {
            // Progress that nobody reads is not an error.
            let _ = writeln!(io::stderr().lock(), "{} …", printable(text));
        })
    }

    fn with(
        step: &str,
        patience: Duration,
        repeat: Duration,
        show: impl Fn(&str) + Send + 'static,
    ) -> Self {
        let (sender, steps) = channel();
        let first = step.to_owned();
        // Without a thread no progress is shown; everything else works.
        let thread = thread::Builder::new()
            .name("progress".into())
            .spawn(move || report(&steps, first, patience, repeat, &show))
            .ok();
        Self {
            steps: Some(sender),
            thread,
        }
    }

    /// The next step.
    pub(crate) fn step(&self, step: &str) {
        if let Some(steps) = &self.steps {
            let _ = steps.send(step.to_owned());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.steps = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a step is called.
pub(crate) fn words(step: Step) -> String {
    let what = match step {
        Step::ApprovePolicies => "approving what may be done to the counters",
        Step::DefineCounter(role) => {
            let secret = match role {
                IndexRole::Adm => "admin value",
                IndexRole::Pin => "PIN",
                IndexRole::Puk => "PUK",
            };
            return format!("making the counter of the {secret}");
        }
        Step::DeleteObjects => "deleting the card's objects in the TPM",
        Step::LoadBirthKey => "making the card's birth key known to the TPM",
        Step::PrepareCard => "preparing the card",
        Step::RemoveFile => "removing the card file",
        Step::MakeAttestationKey => "making the keys that testify for the card",
        Step::SealAdminKey => "sealing the admin key",
        Step::WaitForCard => "waiting for the card",
        Step::WaitForTurn => "waiting for another card to be made or destroyed",
        Step::WriteFile => "writing the card file",
    };
    what.to_owned()
}

/// Until the sender is gone: shows the current step once patience is over, then each new one, then repeats.
fn report(
    steps: &Receiver<String>,
    first: String,
    patience: Duration,
    repeat: Duration,
    show: &dyn Fn(&str),
) {
    let mut step = first;
    let mut shown = false;
    let mut due = Instant::now() + patience;
    let start = Instant::now();
    loop {
        match steps.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(next) => {
                if next != step {
                    shown = false;
                }
                step = next;
                if start.elapsed() < patience || shown {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        show(&step);
        shown = true;
        due = Instant::now() + repeat;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn recorder() -> (impl Fn(&str) + Send + 'static, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel();
        (
            move |text: &str| sender.send(text.to_owned()).unwrap(),
            receiver,
        )
    }

    #[test]
    fn quick_operations_show_nothing() {
        let (show, shown) = recorder();
        let progress = Progress::with("one", LONG, LONG, show);
        progress.step("two");
        drop(progress);
        assert!(shown.recv().is_err());
    }

    #[test]
    fn slow_operations_show_the_current_step_and_every_new_one() {
        let (show, shown) = recorder();
        let progress = Progress::with("one", Duration::from_millis(1), LONG, show);
        assert_eq!(shown.recv_timeout(LONG).unwrap(), "one");
        progress.step("two");
        assert_eq!(shown.recv_timeout(LONG).unwrap(), "two");
        progress.step("two");
        progress.step("three");
        assert_eq!(shown.recv_timeout(LONG).unwrap(), "three");
    }

    #[test]
    fn step_that_lasts_is_repeated() {
        let (show, shown) = recorder();
        let short = Duration::from_millis(1);
        let _progress = Progress::with("one", short, short, show);
        assert_eq!(shown.recv_timeout(LONG).unwrap(), "one");
        assert_eq!(shown.recv_timeout(LONG).unwrap(), "one");
    }
}
