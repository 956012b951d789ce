//! What the engine asks of a card application, and what an application is given.
//!
//! The engine knows keys, PINs, connections and the transport of APDUs. What a command means, which files and rules
//! there are and what a record must look like for them is the application's.
//!
//! Two traits, because an application is asked in two situations. [`Application`] is what a card *has*: one object
//! without state for all connections, asked where there is no connection (its name, the answer to reset, the check
//! of a record, the judgement of a guest's command). [`SelectedApplication`] is what a connection *talks to*: the
//! selection, the security environment and the pending challenge of that connection. A reset or the selection of
//! another application throws it away and begins a new one, so nothing can be forgotten in a reset, and what one
//! connection has chosen cannot reach another.
//!
//! An application reaches the token only through [`Card`]'s methods: who may use a key is not decided here.

use std::fmt;

use cardea_iso7816::Chaining;

use super::catalogue::Catalogue;
use super::command::{Command, Reply};
use super::error::CardError;
use super::failure::Failure;
use super::{Card, Connection};
use crate::record::CardRecord;

/// An application that a card has.
pub trait Application: fmt::Debug + Send + Sync {
    /// Its application identifier: a registered provider of 5 bytes and what the provider has added.
    fn aid(&self) -> &'static [u8];

    /// Whether SELECT means it by this name: the identifier, which may be cut after the provider.
    fn is_named(&self, name: &[u8]) -> bool {
        name.len() >= PROVIDER && self.aid().starts_with(name)
    }

    /// The answer to reset of a reader in which it is current after a reset.
    fn answer_to_reset(&self) -> &'static [u8];

    /// Checks its part of a record that was read from a file.
    ///
    /// # Errors
    ///
    /// [`CardError::Damaged`] names what it cannot have written.
    fn check(&self, record: &CardRecord) -> Result<(), CardError>;

    /// Whether a command may come in parts (ISO 7816-4 §5.3.3). SELECT may not, and nobody asks.
    ///
    /// # Errors
    ///
    /// Why it may not.
    fn may_chain(&self, instruction: u8) -> Result<(), Failure>;

    /// What becomes of a command, or of a part of one, that comes from a machine which the card is redirected to:
    /// its holder uses the keys there, nothing is changed, and no try is spent from there.
    ///
    /// The same instruction may mean different things to two applications: `87` authenticates the administrator
    /// in GIDS and signs in PIV.
    fn judge_guest(&self, command: &Command<'_>, chaining: Chaining) -> Verdict;

    /// Its state on a connection that has just selected it or was just reset.
    fn select(&self) -> Box<dyn SelectedApplication>;
}

/// An application on the connection that has selected it.
pub trait SelectedApplication: fmt::Debug + Send {
    /// Executes a command whose class byte was accepted and whose parts were joined.
    ///
    /// SELECT by name comes here too. A new state is asked to execute the SELECT that has chosen it; if it refuses,
    /// the connection stays with the application that was selected before.
    ///
    /// # Errors
    ///
    /// Why the command is refused.
    fn execute(
        &mut self,
        card: &mut Card,
        connection: &mut Connection,
        command: &Command<'_>,
    ) -> Result<Reply, Failure>;
}

/// What becomes of a guest's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It reads, selects or prepares.
    Passes,
    /// It does not reach the card, and this is the answer.
    Refused([u8; 2]),
    /// It uses a private key, if the PIN is verified.
    UsesKey,
}

impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure.status().value().to_be_bytes())
    }
}

/// The applications of a card.
#[derive(Clone, Debug)]
pub struct Applications {
    first: &'static dyn Application,
    others: Vec<&'static dyn Application>,
    catalogue: &'static dyn Catalogue,
}

impl Applications {
    /// One, which is current after a reset; and where the names and certificates of keys are kept.
    #[must_use]
    pub fn new(first: &'static dyn Application, catalogue: &'static dyn Catalogue) -> Self {
        Self {
            first,
            others: Vec::new(),
            catalogue,
        }
    }

    /// And one more, to be selected by name.
    #[must_use]
    pub fn and(mut self, other: &'static dyn Application) -> Self {
        self.others.push(other);
        self
    }

    /// The one that is current after a reset.
    pub(crate) fn first(&self) -> &'static dyn Application {
        self.first
    }

    pub(crate) fn catalogue(&self) -> &'static dyn Catalogue {
        self.catalogue
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static dyn Application> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

/// Length of the registered application provider identifier.
const PROVIDER: usize = 5;

/// The application that a connection talks to.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) application: &'static dyn Application,
    pub(crate) state: Box<dyn SelectedApplication>,
}

impl Selected {
    pub(crate) fn new(application: &'static dyn Application) -> Self {
        Self {
            application,
            state: application.select(),
        }
    }
}
