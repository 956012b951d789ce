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
    /// Wrong answers in a row, by the TPM's count if it shows that; unknown before the first answer.
    pub(crate) failures: Option<u32>,
    /// When the next answer is looked at.
    pub(crate) next: Option<Instant>,
}

impl Administration {
    pub(crate) fn is_fresh(&self) -> bool {
        self.proof.is_some_and(Proof::is_fresh)
    }

    /// The value goes with its proof: it is of no use afterwards, and a secret.
    pub(crate) fn expire(&mut self) {
        if !self.is_fresh() {
            self.proof = None;
            self.value = None;
        }
    }

    /// Failures where the TPM's count is hidden: those that were seen. A restart, before which there may have been any
    /// number, lets one answer pass.
    pub(crate) fn hidden_failures(&self) -> u32 {
        match self.failures {
            None => FREE_FAILURES - 1,
            Some(known) => known.saturating_add(1),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::LIFE;

    #[test]
    fn shown_value_is_kept_as_long_as_its_proof() {
        let shown = |age: Duration| {
            let mut administration = Administration {
                proof: Instant::now().checked_sub(age).map(Proof::new),
                value: Some(AuthValue::zeroed()),
                failures: Some(3),
                next: None,
            };
            assert!(administration.proof.is_some());
            administration.expire();
            administration
        };
        let fresh = shown(Duration::ZERO);
        assert!(fresh.is_fresh() && fresh.value.is_some());
        let over = shown(Duration::from_secs(LIFE.into()));
        assert!(over.proof.is_none() && over.value.is_none());
        assert_eq!(over.failures, Some(3), "the count is public");
    }
}
