//! What is remembered of an administrator, and how long the next answer has to wait.

use std::time::{Duration, Instant};

use crate::auth::AuthValue;
use crate::proof::Proof;

/// Wrong answers after which further ones have to wait.
const FREE_FAILURES: u32 = 5;
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is remembered of an administrator between two requests.
#[derive(Default)]
pub(crate) struct Administration {
    pub(crate) proof: Option<Proof>,
    /// The admin value that was shown, where its holder alone can replace it: on a card with counter objects.
    pub(crate) value: Option<AuthValue>,
    /// Wrong answers in a row, by the TPM's count; unknown before the first answer.
    pub(crate) failures: Option<u32>,
    /// When the next answer is looked at.
    pub(crate) next: Option<Instant>,
}

impl Administration {
    pub(crate) fn is_fresh(&self) -> bool {
        self.proof.is_some_and(Proof::is_fresh)
    }

    /// The TPM's count is known: how long the next answer has to wait.
    pub(crate) fn count(&mut self, failures: u32) {
        self.failures = Some(failures);
        self.next = failures.checked_sub(FREE_FAILURES).map(|beyond| {
            let wait = Duration::from_secs(1 << beyond.min(10));
            Instant::now() + wait.min(LONGEST_WAIT)
        });
    }
}
