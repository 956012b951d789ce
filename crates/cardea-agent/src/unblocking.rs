//! What the agent itself asks of the service, to unblock a card.

use crate::secret::Secret;

/// Why the service said no.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Something else; asking again does not help.
    Failed(String),
    /// Wrong PUK or response.
    Wrong(String),
}

/// The service, for one card.
pub(crate) trait Unblocking {
    /// Sets a new PIN on the PUK's word.
    fn unblock_by_puk(&self, puk: &Secret, new: &Secret) -> Result<(), Refusal>;

    /// Begins a reset on the administrator's word.
    fn reset(&self) -> Result<Box<dyn Reset + '_>, String>;
}

/// A reset that was begun.
pub(crate) trait Reset {
    /// What the administrator has to answer, 8 bytes.
    fn challenge(&self) -> &[u8];

    /// Sets the new PIN.
    fn complete(&self, response: &Secret, new: &Secret) -> Result<(), Refusal>;
}
