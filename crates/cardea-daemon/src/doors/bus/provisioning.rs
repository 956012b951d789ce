//! What is done to one card: PIN, PUK, administrator, name.

use std::sync::Arc;

use cardea_client::message::{Authority, ByteVec, CardRequest, FailureKind, Reference, Reply};

use super::challenge::ChallengeContext;
use super::error::{BusError, Name, about_puk};
use super::link::{Dictionary, entry};
use super::objects::Object;
use super::options::Options;
use super::pin_reset::PinResetRequest;
use super::request::{Answer, Request, arguments, one, secret_of};
use crate::doors::bus::Bus;
use cardea_host::{HostedCard, details};

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
    bus: &Arc<Bus>,
    request: &Request<'_>,
    card: &Arc<HostedCard>,
) -> Result<Answer, BusError> {
    let (nonce, mut options): (Vec<u8>, Options) = arguments(request.message)?;
    let keys = options.take_bytes("keys")?;
    let format = options.take_text("format")?;
    options.nothing_left()?;
    let ask = match (format.as_deref(), keys) {
        (None | Some("bundle"), keys) => CardRequest::Evidence { nonce, keys },
        (Some("statement"), Some(keys)) if keys.len() == 1 => CardRequest::CertifyKey {
            reference: keys.first().copied().unwrap_or_default(),
            qualifying: nonce,
        },
        (Some("statement"), _) => {
            return Err(BusError::invalid("a statement is about one key: `keys`"));
        }
        (Some(other), _) => return Err(BusError::invalid(format!("unknown format {other}"))),
    };
    let attestation = details(bus.host(), card).attestation;
    let attestation = attestation
        .ok_or_else(|| BusError::new(Name::NotSupported, "this card has no attestation key"))?;
    let reply = bus
        .counter
        .serve_card(&mut request.visitor(), card, ask, &mut |_| {})?;
    let told: Dictionary = match reply {
        Reply::Evidence { bundle, level } => {
            [entry("evidence", bundle), entry("level", u32::from(level))].into()
        }
        Reply::Statement {
            attest,
            signature,
            public,
        } => [
            entry("aik-public", attestation.public),
            entry("aik-certificates", certificates(attestation.certificates)),
            entry("attest", attest),
            entry("signature", signature),
            entry("key-public", public),
        ]
        .into(),
        _ => {
            return Err(BusError::new(
                Name::Failed,
                "the daemon gave another answer",
            ));
        }
    };
    one(told)
}

fn certificates(chain: Vec<ByteVec>) -> Vec<Vec<u8>> {
    chain.into_iter().map(Into::into).collect()
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
