//! Requests of the reader: which cards are in it, and commands to a card in a slot.
//!
//! They come over the socket, from pcscd's handler, and are the reader's door all the same.

use std::time::Duration;

use cardea_client::message::{
    Failure, FailureKind, PowerAction, ReaderRequest, Reply, SecretBytes, SlotRequest,
};

use super::cards::LONGEST_WAIT;
use super::{Counter, Visitor};
use crate::failure::fail;
use crate::holder::pin_pad;
use crate::host::Host;
use crate::host::audit::Door;
use crate::host::slot_connection::{SlotConnection, Way, empty_slot};
use crate::host::slots::SlotStates;

impl Counter {
    pub(super) fn about_slot(
        &self,
        visitor: &mut Visitor,
        slot: u8,
        request: SlotRequest,
    ) -> Result<Reply, Failure> {
        match request {
            SlotRequest::Power { action } => self.power_slot(visitor, slot, action),
            SlotRequest::Transmit { apdu } => self.transmit(visitor, slot, &apdu),
            SlotRequest::Control { code, data } => self.control(visitor, slot, code, &data),
        }
    }

    pub(super) fn about_reader(&self, request: ReaderRequest) -> Reply {
        let slots = &self.host.slots;
        match request {
            ReaderRequest::Info => Reply::Reader {
                slots: slots.count(),
            },
            ReaderRequest::States => slot_states(slots.states()),
            ReaderRequest::WaitStates {
                generation,
                timeout_ms,
            } => {
                let limit = Duration::from_millis(timeout_ms.into()).min(LONGEST_WAIT);
                slot_states(slots.wait(generation, limit))
            }
        }
    }

    fn power_slot(
        &self,
        visitor: &mut Visitor,
        slot: u8,
        action: PowerAction,
    ) -> Result<Reply, Failure> {
        let (insertion, card) = self.host.slots.card(slot).ok_or_else(empty_slot)?;
        let connected = visitor.slot.as_ref();
        if !connected.is_some_and(|connection| connection.is(slot, insertion)) {
            // The old one first: what it had verified must end before anything new begins.
            visitor.slot = None;
            visitor.slot = Some(SlotConnection::new(slot, insertion, card)?);
        }
        let connection = visitor.slot.as_mut().ok_or_else(empty_slot)?;
        let atr = match &mut connection.way {
            Way::Here(connection) => connection.reset().ok_or_else(empty_slot)?,
            Way::Redirected(connection) => return connection.power(action),
        };
        tracing::trace!(slot, ?action, "power");
        match action {
            PowerAction::Down => Ok(Reply::Done),
            PowerAction::Reset | PowerAction::Up => Ok(Reply::Atr(atr.to_vec())),
        }
    }

    /// A control code of the reader.
    fn control(
        &self,
        visitor: &mut Visitor,
        slot: u8,
        code: u32,
        data: &[u8],
    ) -> Result<Reply, Failure> {
        let (_, card) = self.host.slots.card(slot).ok_or_else(empty_slot)?;
        if code == pin_pad::GET_FEATURES {
            let features = pin_pad::features(&card);
            return Ok(Reply::Response(SecretBytes::new(features)));
        }
        let connection = match powered(&mut visitor.slot, &self.host, slot)? {
            Way::Here(connection) => connection,
            Way::Redirected(connection) => {
                return match pin_pad::time_for_pin(code, data) {
                    Some(limit) => connection.enter_pin(limit),
                    None => Err(fail(
                        FailureKind::Invalid,
                        "the PIN of a redirected card is entered on its own machine, and the card is changed there",
                    )),
                };
            }
        };
        let (response, events) =
            pin_pad::enter(&self.host, connection, &visitor.actor, code, data)?;
        let audit = &self.host.audit;
        audit.card(connection.card(), &visitor.actor, Door::Reader, &events);
        self.host.look_into(connection.card(), &response);
        Ok(Reply::Response(SecretBytes::new(response.to_vec())))
    }

    fn transmit(
        &self,
        visitor: &mut Visitor,
        slot: u8,
        apdu: &SecretBytes,
    ) -> Result<Reply, Failure> {
        let connection = match powered(&mut visitor.slot, &self.host, slot)? {
            Way::Here(connection) => connection,
            Way::Redirected(connection) => return connection.transmit(apdu),
        };
        let (response, events) = connection.transmit(apdu.expose()).ok_or_else(empty_slot)?;
        let audit = &self.host.audit;
        audit.card(connection.card(), &visitor.actor, Door::Reader, &events);
        self.host.look_into(connection.card(), &response);
        trace(slot, apdu.expose(), &response);
        Ok(Reply::Response(SecretBytes::new(response.to_vec())))
    }
}

/// The card in a slot, as the connection has powered it.
fn powered<'a>(
    connection: &'a mut Option<SlotConnection>,
    host: &Host,
    slot: u8,
) -> Result<&'a mut Way, Failure> {
    let (insertion, _) = host.slots.card(slot).ok_or_else(empty_slot)?;
    connection
        .as_mut()
        .filter(|connection| connection.is(slot, insertion))
        .map(|connection| &mut connection.way)
        .ok_or_else(|| {
            fail(
                FailureKind::NotFound,
                "the card in this slot is not powered",
            )
        })
}

/// Never more than the header's public part, lengths and the status word: data may be a PIN.
fn trace(slot: u8, apdu: &[u8], response: &[u8]) {
    let header = apdu.get(1..4).unwrap_or_default();
    let status = response
        .split_last_chunk::<2>()
        .map(|(_, status)| u16::from_be_bytes(*status));
    tracing::trace!(
        slot,
        ins_p1_p2 = format_args!("{header:02X?}"),
        command_length = apdu.len(),
        response_length = response.len(),
        sw = format_args!("{:04X}", status.unwrap_or_default()),
        "APDU"
    );
}

fn slot_states(states: SlotStates) -> Reply {
    Reply::Slots {
        generation: states.generation,
        inserted: states.inserted,
    }
}
