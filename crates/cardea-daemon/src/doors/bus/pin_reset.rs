//! A PIN that is set anew by the administrator's answer: the challenge goes to the help desk, the answer comes
//! back, the person chooses the PIN.

use std::sync::{Arc, Mutex};

use cardea_client::message::{AdminAnswer, Authority, SecretBytes};

use super::challenge::Deadline;
use super::error::{BusError, Name};
use super::link::{Dictionary, entry};
use crate::holder::CardVisit;
use crate::host::hosted::HostedCard;
use crate::sync::lock;

/// One reset, until it is completed or cancelled.
#[derive(Debug)]
pub(crate) struct PinResetRequest {
    pub(crate) card: Arc<HostedCard>,
    challenge: Vec<u8>,
    deadline: Deadline,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    response: Option<SecretBytes>,
    new_pin: Option<SecretBytes>,
}

impl PinResetRequest {
    pub(crate) fn new(card: Arc<HostedCard>, challenge: Vec<u8>) -> Self {
        Self {
            card,
            challenge,
            deadline: Deadline::new(),
            given: Mutex::default(),
        }
    }

    pub(crate) fn properties(&self) -> Dictionary {
        [
            entry("Challenge", self.challenge.clone()),
            entry("Deadline", self.deadline.time),
        ]
        .into()
    }

    pub(crate) fn set_response(&self, response: SecretBytes) -> Result<(), BusError> {
        self.deadline.check()?;
        if response.expose().len() != self.challenge.len() {
            return Err(BusError::invalid(format!(
                "a response has {} bytes",
                self.challenge.len()
            )));
        }
        lock(&self.given).response = Some(response);
        Ok(())
    }

    pub(crate) fn set_new_pin(&self, new_pin: SecretBytes) -> Result<(), BusError> {
        self.deadline.check()?;
        lock(&self.given).new_pin = Some(new_pin);
        Ok(())
    }

    /// Sets the new PIN, which is asked for with `ask` where nobody gave it. False: there is no response, which
    /// refuses the reset.
    pub(crate) fn complete(
        &self,
        visit: &CardVisit<'_>,
        ask: impl FnOnce() -> Result<SecretBytes, BusError>,
    ) -> Result<bool, BusError> {
        self.deadline.check()?;
        let given = std::mem::take(&mut *lock(&self.given));
        let Some(response) = given.response else {
            return Ok(false);
        };
        let new_pin = match given.new_pin {
            Some(new_pin) => new_pin,
            None => match ask() {
                Ok(new_pin) => new_pin,
                Err(BusError::Own(Name::Cancelled, _)) => return Ok(false),
                Err(error) => return Err(error),
            },
        };
        let authority = Authority::Admin(AdminAnswer {
            challenge: self.challenge.clone(),
            response,
        });
        visit.unblock(&authority, &new_pin)?;
        Ok(true)
    }
}
