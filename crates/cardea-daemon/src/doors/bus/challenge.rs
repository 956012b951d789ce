//! A challenge context: a challenge for the administrator, as its client has it.

use std::sync::Arc;

use cardea_client::message::SecretBytes;

use super::error::{BusError, Name};
use super::guid::parse_guid;
use super::link::{Dictionary, entry};
use super::request::{Answer, Request, arguments, one, secret_of};
use crate::doors::bus::Bus;
use cardea_host::Grant;
use cardea_host::{AdminChallenge, AdminTask};

/// A challenge, and by what right it was made.
#[derive(Debug)]
pub(crate) struct ChallengeContext {
    challenge: AdminChallenge,
    grant: Option<Grant>,
}

impl ChallengeContext {
    pub(crate) fn new(challenge: AdminChallenge, grant: Option<Grant>) -> Self {
        Self { challenge, grant }
    }

    pub(crate) fn properties(&self) -> Dictionary {
        [
            entry("Algorithm", "tdea-cbc"),
            entry("Challenge", self.challenge.challenge.clone()),
            entry("Deadline", self.challenge.deadline.time),
        ]
        .into()
    }

    fn answer(
        &self,
        bus: &Bus,
        request: &Request<'_>,
        response: &SecretBytes,
        task: AdminTask,
    ) -> Result<(), BusError> {
        let visitor = request.visitor().with_grant(self.grant);
        let counter = &bus.counter;
        Ok(counter.answer_challenge(&visitor, &self.challenge, response, task)?)
    }
}

pub(super) fn change_administrative_key(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    context: &Arc<ChallengeContext>,
) -> Result<Answer, BusError> {
    let (response, key) = arguments(request.message)?;
    let (response, key) = (secret_of(response)?, secret_of(key)?);
    context.answer(bus, request, &response, AdminTask::ChangeKey(key))?;
    Ok(Answer::Nothing)
}

pub(super) fn close(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    context: &Arc<ChallengeContext>,
) -> Result<Answer, BusError> {
    context.challenge.close();
    bus.forget(request);
    Ok(Answer::Nothing)
}

pub(super) fn provision(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    context: &Arc<ChallengeContext>,
) -> Result<Answer, BusError> {
    let (response, format, id): (_, bool, String) = arguments(request.message)?;
    let id = match id.as_str() {
        "" => None,
        text => Some(parse_guid(text)?),
    };
    let response = secret_of(response)?;
    context.answer(bus, request, &response, AdminTask::Provision { format, id })?;
    Ok(Answer::Nothing)
}

pub(super) fn verify_response(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    context: &Arc<ChallengeContext>,
) -> Result<Answer, BusError> {
    let response = secret_of(arguments(request.message)?)?;
    match context.answer(bus, request, &response, AdminTask::Verify) {
        Ok(()) => one(true),
        Err(BusError::Own(Name::WrongResponse, _)) => one(false),
        Err(error) => Err(error),
    }
}
