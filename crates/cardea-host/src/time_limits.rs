//! How long people get.

use std::time::Duration;

/// A person gets this time for one answer, unless the program wants it sooner.
pub const ANSWER_TIME: Duration = Duration::from_secs(120);

/// A person gets this time to say yes or no: programs that want a key wait no longer.
pub const CONSENT_TIME: Duration = Duration::from_secs(50);
