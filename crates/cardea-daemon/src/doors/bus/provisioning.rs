//! What is done to one card: PIN, PUK, administrator, name.

use std::sync::Arc;

use cardea_client::message::{Authority, CardRequest, FailureKind, Reference};

use super::challenge::ChallengeContext;
use super::error::{BusError, Name, about_puk};
use super::objects::Object;
use super::options::Options;
use super::pin_reset::PinResetRequest;
use super::request::{Answer, Request, arguments, one, secret_of};
use crate::doors::bus::Bus;
use cardea_host::HostedCard;

pub(super) fn change_pin(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    card: &Arc<HostedCard>,
) -> Result<Answer, BusError> {
    let (old, new) = arguments(request.message)?;
    let change = CardRequest::ChangePin {
        old: secret_of(old)?,
        new: secret_of(new)?,
        reference: Reference::Pin,
    };
    bus.counter
        .serve_card(&mut request.visitor(), card, change, &mut |_| {})?;
    Ok(Answer::Nothing)
}

pub(super) fn get_attestation(
    _: &Arc<Bus>,
    _: &Request<'_>,
    _: &Arc<HostedCard>,
) -> Result<Answer, BusError> {
    Err(BusError::new(
        Name::NotSupported,
        "this card has no attestation key",
    ))
}

pub(super) fn get_challenge_context(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    card: &Arc<HostedCard>,
) -> Result<Answer, BusError> {
    let challenge = bus.counter.begin_challenge(&request.visitor(), card)?;
    let context = Arc::new(ChallengeContext::new(challenge, request.grant));
    one(bus.keep(request.client, "challenges", Object::Challenge(context))?)
}

pub(super) fn request_pin_change(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    card: &Arc<HostedCard>,
) -> Result<Answer, BusError> {
    let options: Options = arguments(request.message)?;
    options.nothing_left()?;
    let reference = Reference::Pin;
    let change = CardRequest::ChangePinByAgent { reference };
    let visitor = &mut request.visitor();
    match bus.counter.serve_card(visitor, card, change, &mut |_| {}) {
        Ok(_) => one(true),
        Err(failure) if failure.kind == FailureKind::Cancelled => one(false),
        Err(failure) => Err(failure.into()),
    }
}

pub(super) fn request_pin_reset(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    card: &Arc<HostedCard>,
) -> Result<Answer, BusError> {
    let options: Options = arguments(request.message)?;
    options.nothing_left()?;
    if card.has_puk() {
        return Err(BusError::new(
            Name::NotSupported,
            "this card has a PUK: the PUK unblocks its PIN, not the administrator",
        ));
    }
    let challenge = bus.counter.begin_pin_reset(&request.visitor(), card)?;
    let reset = PinResetRequest::new(Arc::clone(card), challenge, request.grant);
    let reset = Object::PinReset(Arc::new(reset));
    one(bus.keep(request.client, "pinresets", reset)?)
}

pub(super) fn set_friendly_name(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    card: &Arc<HostedCard>,
) -> Result<Answer, BusError> {
    let name: String = arguments(request.message)?;
    bus.counter.rename_card(&request.visitor(), card, &name)?;
    Ok(Answer::Nothing)
}

pub(super) fn unblock_with_puk(
    bus: &Arc<Bus>,
    request: &Request<'_>,
    card: &Arc<HostedCard>,
) -> Result<Answer, BusError> {
    let (puk, new) = arguments(request.message)?;
    let unblock = CardRequest::UnblockPin {
        by: Authority::Puk(secret_of(puk)?),
        new: secret_of(new)?,
    };
    bus.counter
        .serve_card(&mut request.visitor(), card, unblock, &mut |_| {})
        .map_err(about_puk)?;
    Ok(Answer::Nothing)
}
