//! A connection to a card at one insertion, here or on the machine that it is redirected from.

use std::sync::Arc;
use std::time::Duration;

use cardea_card::{Connection, Event, Guest, Verdict};
use cardea_client::message::{CardRequest, Failure, FailureKind, PowerAction, Reply, SecretBytes};
use zeroize::Zeroizing;

use crate::failure::fail;
use crate::host::hosted::{Body, HostedCard};
use crate::host::redirected::{Carrier, RedirectedClient};

/// A reader's connection to the card at one insertion.
#[derive(Debug)]
pub(crate) struct SlotConnection {
    slot: u8,
    insertion: u64,
    pub(crate) way: Way,
}

/// Where the card of a slot is.
#[derive(Debug)]
pub(crate) enum Way {
    Here(CardConnection),
    Redirected(RedirectedConnection),
}

impl SlotConnection {
    /// Connects to the card of a slot.
    pub(crate) fn new(slot: u8, insertion: u64, card: Arc<HostedCard>) -> Result<Self, Failure> {
        let way = match card.carrier() {
            Some(carrier) => Way::Redirected(RedirectedConnection::new(&card, carrier)?),
            None => Way::Here(CardConnection::new(card).ok_or_else(empty_slot)?),
        };
        Ok(Self {
            slot,
            insertion,
            way,
        })
    }

    /// Whether it is to this insertion of this slot.
    pub(crate) fn is(&self, slot: u8, insertion: u64) -> bool {
        let is_lost = match &self.way {
            Way::Here(_) => false,
            Way::Redirected(connection) => connection.client.is_lost(),
        };
        (self.slot, self.insertion) == (slot, insertion) && !is_lost
    }
}

/// What is answered for a slot without a card.
pub(crate) fn empty_slot() -> Failure {
    fail(FailureKind::NotFound, "there is no card in this slot")
}

/// One connection to a card of this machine.
#[derive(Debug)]
pub(crate) struct CardConnection {
    card: Arc<HostedCard>,
    connection: Option<Connection>,
}

impl CardConnection {
    /// Connects; `None` when the card is no longer in use.
    pub(crate) fn new(card: Arc<HostedCard>) -> Option<Self> {
        let connection = match &mut *card.body() {
            Body::Live(live) => live.connect(),
            _ => return None,
        };
        Some(Self {
            card,
            connection: Some(connection),
        })
    }

    /// Whether it is to this card.
    pub(crate) fn is_to(&self, card: &Arc<HostedCard>) -> bool {
        Arc::ptr_eq(&self.card, card)
    }

    /// Power up, down or warm reset: the connection forgets what was verified. Gives the ATR.
    pub(crate) fn reset(&mut self) -> Option<&'static [u8]> {
        match (&mut *self.card.body(), &mut self.connection) {
            (Body::Live(live), Some(connection)) => {
                live.reset(connection);
                Some(live.atr())
            }
            _ => None,
        }
    }

    /// One APDU: the response, and what it did to the card.
    pub(crate) fn transmit(&mut self, apdu: &[u8]) -> Option<(Zeroizing<Vec<u8>>, Vec<Event>)> {
        match (&mut *self.card.body(), &mut self.connection) {
            (Body::Live(live), Some(connection)) => {
                let response = live.transmit(connection, apdu);
                Some((response, live.take_events()))
            }
            _ => None,
        }
    }

    pub(crate) fn card(&self) -> &HostedCard {
        &self.card
    }
}

impl Drop for CardConnection {
    fn drop(&mut self) {
        if let (Body::Live(live), Some(connection)) =
            (&mut *self.card.body(), self.connection.take())
        {
            live.disconnect(connection);
        }
    }
}

/// A reader's connection to a card that is redirected to here.
#[derive(Debug)]
pub(crate) struct RedirectedConnection {
    card: String,
    client: RedirectedClient,
    /// Which application the commands are for.
    guest: Guest,
}

impl RedirectedConnection {
    fn new(card: &HostedCard, carrier: &Arc<Carrier>) -> Result<Self, Failure> {
        Ok(Self {
            card: card.selector(),
            client: carrier.client()?,
            guest: Guest::default(),
        })
    }

    pub(crate) fn power(&mut self, action: PowerAction) -> Result<Reply, Failure> {
        self.guest.reset();
        let card = self.card.clone();
        self.client.ask(card, CardRequest::Power { action })
    }

    /// One APDU. What may not leave this machine, a PIN above all, does not.
    pub(crate) fn transmit(&mut self, apdu: &SecretBytes) -> Result<Reply, Failure> {
        if let Verdict::Refused(status) = self.guest.judge(apdu.expose()) {
            return Ok(Reply::Response(SecretBytes::new(status.to_vec())));
        }
        let reply = self.client.ask(
            self.card.clone(),
            CardRequest::Transmit { apdu: apdu.clone() },
        )?;
        if let Reply::Response(response) = &reply {
            self.guest.answered(apdu.expose(), response.expose());
        }
        Ok(reply)
    }

    /// The PIN pad, which is there.
    pub(crate) fn enter_pin(&self, limit: Duration) -> Result<Reply, Failure> {
        let seconds = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        self.client
            .ask(self.card.clone(), CardRequest::EnterPin { seconds })
    }
}
