//! Requests about one card.

use std::sync::Arc;
use std::time::Duration;

use cardea_card::Event;
use cardea_client::message::{CardRequest, Failure, FailureKind, PowerAction, Reply, SecretBytes};
use cardea_terms::Step;
use zeroize::Zeroizing;

use super::{Counter, Visitor, elsewhere};
use crate::failure::fail;
use crate::holder::pin_pad;
use crate::host::audit::{Actor, Kind};
use crate::host::describe;
use crate::host::hosted::HostedCard;
use crate::host::permission::{Caller, Need};
use crate::host::prompt::ConsentRequest;
use crate::host::slot_connection::{CardConnection, empty_slot};
use crate::lifecycle::{destroy, drive};

impl Counter {
    /// Like [`Counter::serve`], about a card that the door has found by other means than its name.
    pub fn serve_card(
        &self,
        visitor: &mut Visitor,
        card: &Arc<HostedCard>,
        request: CardRequest,
        step: &mut dyn FnMut(Step),
    ) -> Result<Reply, Failure> {
        self.require_of(visitor, card, Need::on_card(&request))?;
        let reply = self.about_card(visitor, card, request, step);
        self.noted(visitor, reply)
    }

    pub(super) fn about_card(
        &self,
        visitor: &mut Visitor,
        card: &Arc<HostedCard>,
        request: CardRequest,
        step: &mut dyn FnMut(Step),
    ) -> Result<Reply, Failure> {
        if let Some(carrier) = card.carrier()
            && !matches!(request, CardRequest::Show)
        {
            return elsewhere::ask(visitor, card, carrier, request);
        }
        let visit = self.visit(visitor, card);
        match request {
            CardRequest::AdminChallenge => visit.admin_challenge(),
            CardRequest::Adopt { owner } => {
                let details =
                    drive::adopt(&self.host, visitor.caller, &visitor.actor, card, owner)?;
                Ok(Reply::Card(Box::new(details)))
            }
            CardRequest::AnswerAttestation { challenge } => visit.answer_attestation(&challenge),
            CardRequest::AskConsent { action } => self.ask_consent(visitor, card, &action),
            CardRequest::CertifyKey {
                reference,
                qualifying,
            } => visit.certify_key(reference, qualifying),
            CardRequest::ChangeAdminKey { answer, new } => visit.change_admin_key(&answer, &new),
            CardRequest::ChangePin {
                old,
                new,
                reference,
            } => visit.change_pin(reference, &old, &new),
            CardRequest::ChangePinByAgent { reference } => visit.change_pin_by_agent(reference),
            CardRequest::Configure {
                pin_pad,
                visibility,
            } => visit.configure(pin_pad, visibility),
            CardRequest::Contents { known } => visit.contents(known),
            CardRequest::DeleteCertificate { pin, reference } => {
                visit.delete_certificate(pin.as_ref(), reference)
            }
            CardRequest::DeleteKey { pin, reference } => visit.delete_key(pin.as_ref(), reference),
            CardRequest::DeleteObject { pin, number } => visit.delete_object(pin.as_ref(), number),
            CardRequest::DeleteSessionKey { key } => visit.delete_session_key(key),
            CardRequest::Destroy { owner_auth } => {
                destroy::destroy(&self.host, visitor.caller, card, owner_auth.as_ref(), step)?;
                self.note(visitor, Some(card), Kind::CardDestroyed);
                Ok(Reply::Done)
            }
            CardRequest::DetachDrive => drive::detach(&self.host, visitor.caller, card),
            CardRequest::EnterPin { seconds } => self.enter_pin(visitor, card, seconds),
            CardRequest::Evidence { nonce, keys } => visit.evidence(&nonce, keys.as_deref()),
            CardRequest::GenerateKey {
                pin,
                key,
                algorithm,
            } => visit.generate_key(pin.as_ref(), &key, algorithm),
            CardRequest::GenerateRecoverableKey {
                pin,
                key,
                algorithm,
                certificates,
            } => visit.generate_recoverable_key(pin.as_ref(), &key, algorithm, &certificates),
            CardRequest::ImportKey { pin, key, material } => {
                visit.import_key(pin.as_ref(), &key, &material)
            }
            CardRequest::KeepSessionKey { key, new } => visit.keep_session_key(key, &new),
            CardRequest::Login { pin } => visit.login(&pin),
            CardRequest::LoginByAgent => visit.login_by_agent(),
            CardRequest::Logout => visit.logout(),
            CardRequest::MakeAttestationKey => visit.make_attestation_key(),
            CardRequest::MakeSessionKey { class, material } => {
                visit.make_session_key(class, &material)
            }
            CardRequest::Power { action } => power_own(visitor, card, action),
            CardRequest::ReadCertificate { reference } => visit.read_certificate(reference),
            CardRequest::ReadFile { offset } => visit.read_file(offset),
            CardRequest::ReadObject { number } => visit.read_object(number),
            CardRequest::Rename {
                pin,
                thing,
                label,
                id,
            } => visit.rename(pin.as_ref(), thing, label.as_deref(), id.as_deref()),
            CardRequest::RenameCard { name } => visit.rename_card(&name),
            CardRequest::RequestAttestation => visit.request_attestation(),
            CardRequest::Show => Ok(Reply::Card(Box::new(describe::details(&self.host, card)))),
            CardRequest::Status => visit.status(),
            CardRequest::StoreAttestation { certificates } => visit.store_attestation(certificates),
            CardRequest::StoreCertificate {
                pin,
                reference,
                der,
                label,
            } => visit.store_certificate(pin.as_ref(), reference, &der, label.as_deref()),
            CardRequest::StoreObject { pin, object } => visit.store_object(pin.as_ref(), &object),
            CardRequest::Transmit { apdu } => self.transmit_own(visitor, card, &apdu),
            CardRequest::UnblockPin { by, new } => visit.unblock(&by, &new),
            CardRequest::UseKey {
                pin,
                reference,
                operation,
            } => visit.use_key(pin.as_ref(), reference, &operation),
            CardRequest::UseSessionKey { key, operation } => visit.use_session_key(key, &operation),
            CardRequest::VerifyAdmin { answer } => visit.verify_admin(&answer),
            CardRequest::VerifyAdminKey { key } => visit.verify_admin_key(&key),
            CardRequest::VerifyPin { value, reference } => visit.verify_pin(reference, &value),
        }
    }

    fn ask_consent(
        &self,
        visitor: &Visitor,
        card: &HostedCard,
        action: &str,
    ) -> Result<Reply, Failure> {
        self.host.consent(&ConsentRequest {
            card,
            user: visitor.caller.uid(),
            actor: &visitor.actor,
            door: visitor.door,
            action,
        })?;
        Ok(Reply::Done)
    }

    /// An APDU to a card of the caller that has power.
    fn transmit_own(
        &self,
        visitor: &mut Visitor,
        card: &Arc<HostedCard>,
        apdu: &SecretBytes,
    ) -> Result<Reply, Failure> {
        self.with_own(visitor, card, |_, _, connection| {
            connection.transmit(apdu.expose()).ok_or_else(empty_slot)
        })
    }

    /// VERIFY with a PIN from the caller's agent, to a card of the caller that has power.
    fn enter_pin(
        &self,
        visitor: &mut Visitor,
        card: &Arc<HostedCard>,
        seconds: u32,
    ) -> Result<Reply, Failure> {
        let limit = Duration::from_secs(seconds.into());
        self.with_own(visitor, card, |caller, actor, connection| {
            let asked = (caller.uid(), actor);
            pin_pad::enter_at(&self.host, connection, asked, limit)
        })
    }

    /// A command to a powered card that the caller owns.
    fn with_own(
        &self,
        visitor: &mut Visitor,
        card: &Arc<HostedCard>,
        work: impl FnOnce(Caller, &Actor, &mut CardConnection) -> Result<Answer, Failure>,
    ) -> Result<Reply, Failure> {
        let own = visitor.own.take().filter(|own| own.is_to(card));
        let mut own = own.ok_or_else(|| {
            fail(
                FailureKind::NotFound,
                "the card is not powered on this connection",
            )
        })?;
        let answer = work(visitor.caller, &visitor.actor, &mut own);
        visitor.own = Some(own);
        let (response, events) = answer?;
        let audit = &self.host.audit;
        audit.card(card, &visitor.actor, visitor.door, &events);
        self.host.look_into(card, &response);
        Ok(Reply::Response(SecretBytes::new(response.to_vec())))
    }
}

/// A response, and what happened to the card.
type Answer = (Zeroizing<Vec<u8>>, Vec<Event>);

/// Power for a card that the caller owns.
fn power_own(
    visitor: &mut Visitor,
    card: &Arc<HostedCard>,
    action: PowerAction,
) -> Result<Reply, Failure> {
    if !visitor.own.as_ref().is_some_and(|own| own.is_to(card)) {
        visitor.own = None;
        visitor.own = CardConnection::new(Arc::clone(card));
    }
    let atr = visitor.own.as_mut().and_then(CardConnection::reset);
    let atr = atr.ok_or_else(|| card.unusable())?;
    match action {
        PowerAction::Down => {
            visitor.own = None;
            Ok(Reply::Done)
        }
        PowerAction::Reset | PowerAction::Up => Ok(Reply::Atr(atr.to_vec())),
    }
}
