//! What can go wrong, by whose turn it is then.

/// What the card, the daemon or the person at the PIN prompt says; whoever implements [`Card`](crate::Card) knows the
/// type.
pub type CardError = Box<dyn std::error::Error + Send + Sync>;

/// Why an enrolment did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What came back cannot be used; the authority has to be asked.
    #[error("{0}")]
    Answer(String),
    /// Another program is at work for this card.
    #[error("another enrolment of this card is running; wait until it has ended")]
    Busy,
    /// The card or whoever enters its PIN.
    #[error("{0}")]
    Card(CardError),
    /// The certificate is not what was asked for; a person decides.
    #[error("the certificate differs from what was asked for: {}", .0.join("; "))]
    Changed(Vec<String>),
    /// The job's file.
    #[error("{0}")]
    Job(String),
    /// The authority says no.
    #[error("{0}")]
    Refused(String),
    /// Nobody answers, or not as the protocol wants; it is tried again later.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever answers is not trusted.
    #[error("{0}")]
    Untrusted(String),
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
}

impl From<cardea_pki::Error> for Error {
    fn from(error: cardea_pki::Error) -> Self {
        Self::Answer(error.to_string())
    }
}

/// Text of the other side for people: at most 500 characters, none that a terminal would obey.
pub(crate) fn shown(text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).chars().take(500).collect();
    cardea_terms::tame(text.trim())
}
