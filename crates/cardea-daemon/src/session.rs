//! One client from its greeting to its end: permission, then the work of each message.

use std::sync::Arc;
use std::time::Duration;

use cardea_card::secret::Pin;
use cardea_card::token::PinReference;
use cardea_client::message::{Failure, FailureKind, PowerAction, Reply, Request, SecretBytes};

use crate::failure::{fail, of_card, of_tpm};
use crate::host::Host;
use crate::hosted::{Binding, Body};
use crate::permission::{Audience, Caller, audience};
use crate::{create, describe, destroy};

/// The longest that one `WaitSlotStates` may keep its thread after the client went away.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What one connection may do and has done.
#[derive(Debug)]
pub(crate) struct Session {
    host: Arc<Host>,
    caller: Caller,
    binding: Option<Binding>,
}

impl Session {
    pub(crate) fn new(host: Arc<Host>, caller: Caller) -> Self {
        Self {
            host,
            caller,
            binding: None,
        }
    }

    /// Answers one message; long work tells its steps to `progress`.
    pub(crate) fn answer(&mut self, request: Request, progress: &mut dyn FnMut(&str)) -> Reply {
        let audience = audience(&request);
        if !self.caller.may_send(audience) {
            tracing::info!(uid = self.caller.uid, ?audience, "denied");
            return Reply::Failed(denied(audience));
        }
        self.work(request, progress).unwrap_or_else(Reply::Failed)
    }

    fn work(&mut self, request: Request, progress: &mut dyn FnMut(&str)) -> Result<Reply, Failure> {
        let host = &self.host;
        match request {
            Request::ListCards => {
                let mut cards = host.cards();
                cards.retain(|card| self.caller.may_see(card.owner));
                Ok(Reply::Cards(describe::summaries(host, &cards)))
            }
            Request::ShowCard { card } => {
                let card = host.find(&card, self.caller)?;
                Ok(Reply::Card(Box::new(describe::details(host, &card))))
            }
            Request::CreateCard(order) => {
                let details = create::create(host, self.caller, order, progress)?;
                Ok(Reply::Card(Box::new(details)))
            }
            Request::DestroyCard { card } => {
                destroy::destroy(host, self.caller, &card, progress)?;
                Ok(Reply::Done)
            }
            Request::ChangePin { card, old, new } => {
                self.change_pin(&card, &old, &new)?;
                Ok(Reply::Done)
            }
            Request::TpmStatus => {
                let service = host.tpm.service().map_err(|error| of_tpm(&error))?;
                let status = service.status().map_err(|error| of_tpm(&error))?;
                let address = service.address().to_string();
                Ok(Reply::Tpm(describe::tpm_status(address, status)))
            }
            Request::ReaderInfo => Ok(Reply::Reader {
                slots: host.slots.count(),
            }),
            Request::SlotStates => Ok(slots(host.slots.states())),
            Request::WaitSlotStates {
                generation,
                timeout_ms,
            } => {
                let limit = Duration::from_millis(timeout_ms.into()).min(LONGEST_WAIT);
                Ok(slots(host.slots.wait(generation, limit)))
            }
            Request::Power { slot, action } => self.power(slot, action),
            Request::Transmit { slot, apdu } => self.transmit(slot, &apdu),
        }
    }

    /// By the engine, so that there is one PIN truth for all doors.
    fn change_pin(
        &self,
        selector: &str,
        old: &SecretBytes,
        new: &SecretBytes,
    ) -> Result<(), Failure> {
        let card = self.host.find(selector, self.caller)?;
        let new = Pin::new(new.expose())
            .ok()
            .filter(|pin| usize::from(pin.len()) >= create::MIN_SECRET)
            .ok_or_else(|| {
                fail(
                    FailureKind::Invalid,
                    format!("a PIN has {} to {} bytes", create::MIN_SECRET, Pin::MAX),
                )
            })?;
        let mut body = card.body();
        let Body::Live(live) = &mut *body else {
            return Err(unusable(&card.view()));
        };
        let old = Pin::new(old.expose())
            .map_err(|error| fail(FailureKind::Invalid, error.to_string()))?;
        let mut connection = live.connect();
        let result = live.change_pin(&mut connection, PinReference::Pin, &old, &new);
        live.disconnect(connection);
        result.map_err(|error| of_card(&error))?;
        tracing::info!(card = %card.selector(), by = self.caller.uid, "PIN changed");
        Ok(())
    }

    fn power(&mut self, slot: u8, action: PowerAction) -> Result<Reply, Failure> {
        let (insertion, card) = self.host.slots.card(slot).ok_or_else(empty_slot)?;
        let bound = self
            .binding
            .as_ref()
            .is_some_and(|binding| binding.is(slot, insertion));
        if !bound {
            // The old one first: what it had verified must end before anything new begins.
            self.binding = None;
            self.binding = Binding::new(slot, insertion, card);
        }
        let atr = self
            .binding
            .as_mut()
            .and_then(Binding::reset)
            .ok_or_else(empty_slot)?;
        tracing::trace!(slot, ?action, "power");
        match action {
            PowerAction::Down => Ok(Reply::Done),
            PowerAction::Reset | PowerAction::Up => Ok(Reply::Atr(atr.to_vec())),
        }
    }

    fn transmit(&mut self, slot: u8, apdu: &SecretBytes) -> Result<Reply, Failure> {
        let (insertion, _) = self.host.slots.card(slot).ok_or_else(empty_slot)?;
        let binding = self
            .binding
            .as_mut()
            .filter(|binding| binding.is(slot, insertion))
            .ok_or_else(|| {
                fail(
                    FailureKind::NotFound,
                    "the card in this slot is not powered",
                )
            })?;
        let response = binding.transmit(apdu.expose()).ok_or_else(empty_slot)?;
        trace(slot, apdu.expose(), &response);
        Ok(Reply::Response(SecretBytes::new(response.to_vec())))
    }
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

fn slots(states: crate::slots::SlotStates) -> Reply {
    Reply::Slots {
        generation: states.generation,
        inserted: states.inserted,
    }
}

fn empty_slot() -> Failure {
    fail(FailureKind::NotFound, "there is no card in this slot")
}

fn unusable(view: &crate::hosted::View) -> Failure {
    use cardea_client::message::CardState;
    let kind = match view.state {
        CardState::TpmAway => FailureKind::NoTpm,
        CardState::Foreign | CardState::Lost => FailureKind::Lost,
        _ => FailureKind::Failed,
    };
    fail(kind, format!("the card cannot be used: {}", view.reason))
}

fn denied(audience: Audience) -> Failure {
    let who = match audience {
        Audience::Administrator => "only root and members of the administrators' group may do this",
        Audience::Reader => "only root and pcscd may do this",
        Audience::Anyone | Audience::Owner => "this is not for you",
    };
    fail(FailureKind::Denied, who)
}
