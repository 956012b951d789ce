//! The person at the terminal: text, questions, secrets, progress.

pub(crate) mod clock;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod secret;
pub(crate) mod width;
