//! What is done to one card: PIN, PUK, administrator, name.

use std::sync::Arc;

use cardea_client::message::{FailureKind, Reference};
use zbus::Message;

use super::challenge::ChallengeContext;
use super::clients::Client;
use super::error::{BusError, Name, about_puk};
use super::link::{Dictionary, Link};
use super::objects::{Object, has_puk, parse_guid};
use super::pin_reset::PinResetRequest;
use super::polkit::Action;
use super::{Answer, Bus, arguments, one, secret_of};
use crate::holder::CardVisit;
use crate::holder::prompt::question;
use crate::host::audit::Door;
use crate::host::hosted::{Body, HostedCard};
use crate::host::logins::LoginGroup;
use crate::host::permission::Caller;
use crate::host::prompt::Purpose;

/// A call, and who made it.
pub(crate) struct Request<'a> {
    pub(crate) link: &'a Link,
    pub(crate) client: &'a Arc<Client>,
    pub(crate) message: &'a Message,
}

/// The right that a method of the interface needs; none where what it does is itself guarded, or says nothing.
pub(crate) fn action(method: &str) -> Option<Action> {
    Some(match method {
        "ChangePin" | "RequestPinChange" | "UnblockWithPuk" => Action::ChangePin,
        "GetChallengeContext" => Action::Provision,
        "RequestPinReset" => Action::ResetPin,
        "SetFriendlyName" => Action::RenameCard,
        _ => return None,
    })
}

impl Bus {
    /// A method of `Provisioning`, by a caller who may.
    pub(crate) fn provisioning(
        &self,
        request: &Request<'_>,
        caller: Caller,
        card: &Arc<HostedCard>,
        method: &str,
    ) -> Result<Answer, BusError> {
        let logins = LoginGroup::new(caller.uid);
        let visit = self.visit(request.client, caller, card, &logins);
        match method {
            "ChangePin" => {
                let (old, new) = arguments(request.message)?;
                let (old, new) = (secret_of(old)?, secret_of(new)?);
                visit.change_pin(Reference::Pin, &old, &new)?;
                Ok(Answer::Nothing)
            }
            "RequestPinChange" => {
                let options: Dictionary = arguments(request.message)?;
                no_options(&options)?;
                match visit.change_pin_by_agent(Reference::Pin) {
                    Ok(_) => one(true),
                    Err(failure) if failure.kind == FailureKind::Cancelled => one(false),
                    Err(failure) => Err(failure.into()),
                }
            }
            "UnblockWithPuk" => {
                let (puk, new) = arguments(request.message)?;
                let puk = cardea_client::message::Authority::Puk(secret_of(puk)?);
                visit.unblock(&puk, &secret_of(new)?).map_err(about_puk)?;
                Ok(Answer::Nothing)
            }
            "SetFriendlyName" => {
                let name: String = arguments(request.message)?;
                visit.rename_card(&name)?;
                Ok(Answer::Nothing)
            }
            "GetChallengeContext" => {
                let challenge = visit.challenge()?;
                let connection = match &mut *card.body() {
                    Body::Live(live) => live.connect(),
                    _ => return Err(card.unusable().into()),
                };
                let context = ChallengeContext::new(Arc::clone(card), connection, challenge);
                let context = Object::Challenge(Arc::new(context));
                one(self.keep(request.client, "challenges", context)?)
            }
            "RequestPinReset" => {
                let options: Dictionary = arguments(request.message)?;
                no_options(&options)?;
                if has_puk(card) {
                    return Err(BusError::new(
                        Name::NotSupported,
                        "this card has a PUK: the PUK unblocks its PIN, not the administrator",
                    ));
                }
                let reset = PinResetRequest::new(Arc::clone(card), visit.challenge()?);
                one(self.keep(
                    request.client,
                    "pinresets",
                    Object::PinReset(Arc::new(reset)),
                )?)
            }
            "GetAttestation" => Err(BusError::new(
                Name::NotSupported,
                "this card has no attestation key",
            )),
            _ => Err(super::unknown_method(method)),
        }
    }

    /// A method of a challenge context.
    pub(crate) fn challenge(
        &self,
        request: &Request<'_>,
        context: &Arc<ChallengeContext>,
        method: &str,
    ) -> Result<Answer, BusError> {
        // Whoever has the context was let in when it was made, and is proven by the response.
        let caller = Caller {
            administrator: true,
            ..request.client.caller
        };
        let logins = LoginGroup::new(caller.uid);
        let visit = self.visit(request.client, caller, &context.card, &logins);
        match method {
            "VerifyResponse" => {
                let response = secret_of(arguments(request.message)?)?;
                match context.answer(&visit, &response, |_, _| Ok(())) {
                    Ok(()) => one(true),
                    Err(BusError::Own(Name::WrongResponse, _)) => one(false),
                    Err(error) => Err(error),
                }
            }
            "Provision" => {
                let (response, format, id): (_, bool, String) = arguments(request.message)?;
                let id = match id.as_str() {
                    "" => None,
                    text => Some(parse_guid(text)?),
                };
                context.answer(&visit, &secret_of(response)?, |card, connection| {
                    card.provision(connection, format, id)
                })?;
                visit.log("card provisioned");
                Ok(Answer::Nothing)
            }
            "ChangeAdministrativeKey" => {
                let (response, key) = arguments(request.message)?;
                let (response, key) = (secret_of(response)?, secret_of(key)?);
                let key = crate::holder::pins::admin_key(&key)?;
                context.answer(&visit, &response, |card, connection| {
                    card.change_admin_key(connection, &key)
                })?;
                visit.log("admin key changed");
                Ok(Answer::Nothing)
            }
            "Close" => {
                context.close();
                self.forget(request);
                Ok(Answer::Nothing)
            }
            _ => Err(super::unknown_method(method)),
        }
    }

    /// A method of a PIN reset.
    pub(crate) fn pin_reset(
        &self,
        request: &Request<'_>,
        reset: &Arc<PinResetRequest>,
        method: &str,
    ) -> Result<Answer, BusError> {
        match method {
            "SetResponse" => {
                reset.set_response(secret_of(arguments(request.message)?)?)?;
                Ok(Answer::Nothing)
            }
            "SetNewPin" => {
                reset.set_new_pin(secret_of(arguments(request.message)?)?)?;
                Ok(Answer::Nothing)
            }
            "Complete" => {
                let caller = Caller {
                    administrator: true,
                    ..request.client.caller
                };
                let logins = LoginGroup::new(caller.uid);
                let visit = self.visit(request.client, caller, &reset.card, &logins);
                let done = reset.complete(&visit, || {
                    let client = request.client;
                    let (uid, actor) = (client.caller.uid, &client.actor);
                    let mut new = question(&reset.card, Purpose::NewPin, uid, actor, Door::Bus);
                    new.gone = Some(Arc::clone(&client.gone));
                    Ok(self.host.ask(&new)?)
                });
                self.forget(request);
                one(done?)
            }
            "Cancel" => {
                self.forget(request);
                Ok(Answer::Nothing)
            }
            _ => Err(super::unknown_method(method)),
        }
    }

    pub(crate) fn visit<'a>(
        &'a self,
        client: &'a Client,
        caller: Caller,
        card: &Arc<HostedCard>,
        logins: &'a LoginGroup,
    ) -> CardVisit<'a> {
        CardVisit {
            host: &self.host,
            caller,
            actor: &client.actor,
            door: Door::Bus,
            card: Arc::clone(card),
            logins,
            gone: Some(&client.gone),
        }
    }
}

fn no_options(options: &Dictionary) -> Result<(), BusError> {
    match options.keys().next() {
        None => Ok(()),
        Some(key) => Err(BusError::invalid(format!("{key} is not known here"))),
    }
}
