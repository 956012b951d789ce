//! A PIN that is set anew by the administrator's answer: the challenge goes to the help desk, the answer comes
//! back, the person chooses the PIN.

use std::sync::{Arc, Mutex};

use cardea_client::message::{AdminAnswer, Authority, CardRequest, FailureKind, SecretBytes};

use super::error::BusError;
use super::link::{Dictionary, entry};
use super::request::{Answer, Request, arguments, one, secret_of};
use crate::doors::bus::Bus;
use cardea_host::Deadline;
use cardea_host::Grant;
use cardea_host::HostedCard;
use cardea_host::lock;

/// One reset, until it is completed or cancelled.
#[derive(Debug)]
pub(crate) struct PinResetRequest {
    pub(crate) card: Arc<HostedCard>,
    challenge: Vec<u8>,
    deadline: Deadline,
    /// By what right it was made.
    grant: Option<Grant>,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    response: Option<SecretBytes>,
    new_pin: Option<SecretBytes>,
}

impl PinResetRequest {
    pub(crate) fn new(card: Arc<HostedCard>, challenge: Vec<u8>, grant: Option<Grant>) -> Self {
        Self {
            card,
            challenge,
            deadline: Deadline::begin(),
            grant,
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

    fn set_response(&self, response: SecretBytes) -> Result<(), BusError> {
        self.deadline.check()?;
        if response.expose().len() != self.challenge.len() {
            return Err(BusError::invalid(format!(
                "a response must have {} bytes",
                self.challenge.len()
            )));
        }
        lock(&self.given).response = Some(response);
        Ok(())
    }

    fn set_new_pin(&self, new_pin: SecretBytes) -> Result<(), BusError> {
        self.deadline.check()?;
        lock(&self.given).new_pin = Some(new_pin);
        Ok(())
    }
}

pub(super) fn set_response(
    _: &Arc<Bus>,
    request: &Request<'_>,
    reset: &Arc<PinResetRequest>,
) -> Result<Answer, BusError> {
    reset.set_response(secret_of(arguments(request.message)?)?)?;
    Ok(Answer::Nothing)
}

pub(super) fn set_new_pin(
    _: &Arc<Bus>,
    request: &Request<'_>,
    reset: &Arc<PinResetRequest>,
) -> Result<Answer, BusError> {
    reset.set_new_pin(secret_of(arguments(request.message)?)?)?;
    Ok(Answer::Nothing)
}

pub(super) fn complete(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    reset: &Arc<PinResetRequest>,
) -> Result<Answer, BusError> {
    let done = reset.complete(bus, request);
    bus.forget(request);
    one(done?)
}

pub(super) fn cancel(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    _: &Arc<PinResetRequest>,
) -> Result<Answer, BusError> {
    bus.forget(request);
    Ok(Answer::Nothing)
}

impl PinResetRequest {
    /// Sets the new PIN, which the person is asked for where nobody gave it. False: there is no response, or the
    /// person has refused.
    fn complete(&self, bus: &Bus, request: &Request<'_>) -> Result<bool, BusError> {
        self.deadline.check()?;
        let given = std::mem::take(&mut *lock(&self.given));
        let Some(response) = given.response else {
            return Ok(false);
        };
        let mut visitor = request.visitor().with_grant(self.grant);
        let new = match given.new_pin {
            Some(new_pin) => new_pin,
            None => match bus.counter.ask_new_pin(&visitor, &self.card) {
                Ok(new_pin) => new_pin,
                Err(failure) if failure.kind == FailureKind::Cancelled => return Ok(false),
                Err(failure) => return Err(failure.into()),
            },
        };
        let by = Authority::Admin(AdminAnswer {
            challenge: self.challenge.clone(),
            response,
        });
        let unblock = CardRequest::UnblockPin { by, new };
        bus.counter
            .serve_card(&mut visitor, &self.card, unblock, &mut |_| {})?;
        Ok(true)
    }
}
