//! Which applications a card has, and which of them a connection talks to.
//!
//! The one file that knows the applications by name. A connection talks to the first of them until it selects
//! another; which is selected is state of the connection, as everything that the application keeps about it.

use cardea_iso7816::Chaining;
use zeroize::Zeroizing;

use crate::engine::{
    Application, Applications, Card, CardError, Command, Connection, Failure, KeyUsage, Reply,
    SELECT, Selected, Transport, Verdict, guest,
};
use crate::gids::Gids;
use crate::key_number::KeyNumber;
use crate::record::CardRecord;
use crate::token::{CardStore, Clock, Rng, Token};

impl Applications {
    /// Those of a card as the product makes it: GIDS, whose Windows tables are the catalogue.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(&Gids, &Gids)
    }
}

/// What a record tells of a key, without the token that has it: for the copy of a card file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKey {
    /// Name shown to people.
    pub label: Option<String>,
    /// Identifier that the catalogue gives to a key of this number.
    pub catalogue_id: Option<Vec<u8>>,
    /// Identifier that a client chose for it.
    pub client_id: Option<Vec<u8>>,
    /// What it is offered for.
    pub usage: KeyUsage,
    /// Its certificate, DER.
    pub certificate: Option<Vec<u8>>,
    /// Name of the certificate, where that is not the key's.
    pub certificate_label: Option<String>,
}

impl KeptKey {
    /// Of a key of the record; none if it has no such key.
    #[must_use]
    pub fn of(record: &CardRecord, number: KeyNumber) -> Option<Self> {
        let applications = Applications::standard();
        let catalogue = applications.catalogue();
        let key = record.key(number)?;
        let label = key.label.clone();
        Some(Self {
            label: label.or_else(|| catalogue.name(record, number)),
            catalogue_id: catalogue.id(number),
            client_id: key.client_id.clone(),
            usage: catalogue
                .usage(record, number)
                .unwrap_or(KeyUsage::Exchange),
            certificate: catalogue.certificate(record, number),
            certificate_label: key.certificate_label.clone(),
        })
    }
}

impl Card {
    /// Takes a card into service. Checks that the record is consistent and that the token accepts the
    /// description of every key; does not touch the TPM.
    ///
    /// # Errors
    ///
    /// [`CardError::Damaged`] names what is wrong with the record; [`CardError::Token`] when the token
    /// does not accept a key.
    pub fn open(
        record: CardRecord,
        token: Box<dyn Token>,
        store: Box<dyn CardStore>,
        clock: Box<dyn Clock>,
        rng: Box<dyn Rng>,
    ) -> Result<Self, CardError> {
        Self::open_with(Applications::standard(), record, token, store, clock, rng)
    }

    /// Answer to reset.
    #[must_use]
    pub fn atr(&self) -> &'static [u8] {
        self.applications().first().answer_to_reset()
    }

    /// A new connection, in the state after a reset: the first application is current, nothing is verified.
    pub fn connect(&mut self) -> Connection {
        Connection::new()
    }

    /// Executes a command APDU. Never fails: what is wrong is said by the status word.
    pub fn transmit(&mut self, connection: &mut Connection, apdu: &[u8]) -> Zeroizing<Vec<u8>> {
        self.expire();
        let mut transport = std::mem::take(&mut connection.transport);
        let mut selected = match connection.selected.take() {
            Some(selected) => selected,
            None => Selected::new(self.applications().first()),
        };
        let application = selected.application;
        let response = transport.exchange(apdu, application, |command| {
            execute(self, connection, &mut selected, command)
                .inspect_err(|failure| failure.log(command.ins))
        });
        connection.transport = transport;
        connection.selected = Some(selected);
        response
    }

    /// What becomes of a command of a machine which the card is redirected to, were it sent on this connection.
    #[must_use]
    pub fn judge_guest(&self, connection: &Connection, apdu: &[u8]) -> Verdict {
        let application = match &connection.selected {
            Some(selected) => selected.application,
            None => self.applications().first(),
        };
        guest::judge(application, apdu)
    }

    /// Power up or warm reset: everything of the connection ends, the first application is current again.
    pub fn reset(&mut self, connection: &mut Connection) {
        self.deauthenticate(connection);
        connection.transport = Transport::default();
        connection.selected = None;
    }

    /// The client has gone.
    pub fn disconnect(&mut self, connection: Connection) {
        self.deauthenticate(&connection);
    }
}

/// Follows which application is selected on a connection to a card that is elsewhere, so that commands for it can be
/// judged without it.
#[derive(Clone, Debug)]
pub struct Guest {
    applications: Applications,
    selected: &'static dyn Application,
}

impl Default for Guest {
    fn default() -> Self {
        Self::new(Applications::standard())
    }
}

impl Guest {
    /// A connection in the state after a reset to a card with these applications.
    #[must_use]
    pub fn new(applications: Applications) -> Self {
        Self {
            selected: applications.first(),
            applications,
        }
    }

    /// What becomes of a command that is about to be sent.
    #[must_use]
    pub fn judge(&self, apdu: &[u8]) -> Verdict {
        guest::judge(self.selected, apdu)
    }

    /// A command was sent, and this is the answer.
    pub fn answered(&mut self, apdu: &[u8], response: &[u8]) {
        let succeeded = matches!(response, [.., 0x90, 0x00] | [.., 0x61, _]);
        let Some((command, Chaining::Last)) = guest::parse(apdu).ok().filter(|_| succeeded) else {
            return;
        };
        if let Some(other) = selects_other(&self.applications, self.selected, &command) {
            self.selected = other;
        }
    }

    /// The card was reset, or powered.
    pub fn reset(&mut self) {
        self.selected = self.applications.first();
    }
}

/// Executes a command by the application that is selected, or by the one that it selects.
fn execute(
    card: &mut Card,
    connection: &mut Connection,
    selected: &mut Selected,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    if let Some(other) = selects_other(card.applications(), selected.application, command) {
        let mut next = Selected::new(other);
        if let Ok(reply) = next.state.execute(card, connection, command) {
            // What was verified was verified for the application that is left (ISO 7816-4, security status).
            card.deauthenticate(connection);
            *selected = next;
            return Ok(reply);
        }
        // One that does not let itself be selected is as if it were not there.
    }
    selected.state.execute(card, connection, command)
}

/// The application that a command selects by name, if it is not the one that is selected anyway.
fn selects_other(
    applications: &Applications,
    selected: &dyn Application,
    command: &Command<'_>,
) -> Option<&'static dyn Application> {
    if (command.ins, command.p1) != (SELECT, BY_NAME) || selected.is_named(command.data) {
        return None;
    }
    applications
        .iter()
        .find(|application| application.is_named(command.data))
}

/// P1 of SELECT: by the name of the DF, which an application identifier is.
const BY_NAME: u8 = 0x04;
