//! What doors other than the socket offer about a card: its name, the administrator's challenge, creation with a
//! PIN that is asked for.

use std::sync::Arc;

use cardea_client::message::{
    CardDetails, CreateCard, Failure, FailureKind, SecretBytes, TpmStatus,
};
use cardea_terms::PinPolicy;
use cardea_terms::Step;

use super::{Counter, Visitor};
use crate::failure::fail;
use crate::holder::challenge::{AdminChallenge, AdminTask};
use crate::holder::prompt::question;
use crate::host::audit::Kind;
use crate::host::describe;
use crate::host::hosted::HostedCard;
use crate::host::permission::{About, Audience, Need, Right};
use crate::host::prompt::{Purpose, Question, UnblockMode};
use crate::lifecycle::destroy;
use crate::time_limits::ANSWER_TIME;

/// What making a card needs.
const CREATION: Need = Need {
    audience: Audience::Administrator,
    right: Some(Right::CreateCard),
};

/// What setting a new PIN by the administrator's answer needs.
const PIN_RESET: Need = Need {
    audience: Audience::Owner,
    right: Some(Right::ResetPin),
};

impl Counter {
    /// Makes a card, which can prove all that it promises if it `attests`.
    pub fn create_card(
        &self,
        visitor: &Visitor,
        order: CreateCard,
        attests: bool,
        step: &mut dyn FnMut(Step),
    ) -> Result<(Arc<HostedCard>, CardDetails), Failure> {
        let about = About::new_card(&order, visitor.caller);
        self.require(visitor, about, CREATION)?;
        let made = self.create(visitor, order, attests, None, step);
        self.noted(visitor, made)
    }

    /// Takes a card away again that the visitor has just made.
    pub fn undo_creation(
        &self,
        visitor: &Visitor,
        card: &Arc<HostedCard>,
        owner_auth: Option<&SecretBytes>,
    ) -> Result<(), Failure> {
        self.require(visitor, About::NewCard(card.owner), CREATION)?;
        destroy::destroy(&self.host, visitor.caller, card, owner_auth, &mut |_| {})?;
        self.note(visitor, Some(card), Kind::CardDestroyed);
        Ok(())
    }

    /// The first PIN of a card that is going to be made for this user, from the caller's agent.
    pub fn ask_first_pin(
        &self,
        visitor: &Visitor,
        owner: u32,
        name: &str,
        policy: &[u8; 32],
    ) -> Result<SecretBytes, Failure> {
        self.require(visitor, About::NewCard(Some(owner)), CREATION)?;
        let policy = PinPolicy::parse(policy)
            .map_err(|error| fail(FailureKind::Invalid, error.to_string()))?;
        self.host.ask(&Question {
            card: None,
            name: name.to_owned(),
            purpose: Purpose::NewPin,
            user: visitor.caller.uid(),
            actor: &visitor.actor,
            door: visitor.door,
            policy,
            status: None,
            unblock: UnblockMode::None,
            error: None,
            limit: ANSWER_TIME,
            gone: visitor.gone.clone(),
        })
    }

    /// Gives a card another name.
    pub fn rename_card(
        &self,
        visitor: &Visitor,
        card: &Arc<HostedCard>,
        name: &str,
    ) -> Result<(), Failure> {
        self.require_of(visitor, card, Need::administration(Right::RenameCard))?;
        let renamed = self.visit(visitor, card).rename_card(name);
        self.noted(visitor, renamed).map(drop)
    }

    /// A challenge for the administrator, who may do anything to the card with its answer.
    pub fn begin_challenge(
        &self,
        visitor: &Visitor,
        card: &Arc<HostedCard>,
    ) -> Result<AdminChallenge, Failure> {
        self.require_of(visitor, card, Need::administration(Right::Provision))?;
        let begun = self.visit(visitor, card).begin_challenge();
        self.noted(visitor, begun)
    }

    /// The administrator answers.
    pub fn answer_challenge(
        &self,
        visitor: &Visitor,
        challenge: &AdminChallenge,
        response: &SecretBytes,
        task: AdminTask,
    ) -> Result<(), Failure> {
        let card = &challenge.card;
        self.require_of(visitor, card, Need::administration(Right::Provision))?;
        let visit = self.visit(visitor, card);
        self.noted(visitor, challenge.answer(&visit, response, task))
    }

    /// A challenge whose answer lets the PIN be set anew, and nothing else.
    pub fn begin_pin_reset(
        &self,
        visitor: &Visitor,
        card: &Arc<HostedCard>,
    ) -> Result<Vec<u8>, Failure> {
        self.require_of(visitor, card, PIN_RESET)?;
        let challenge = self.visit(visitor, card).challenge();
        self.noted(visitor, challenge)
    }

    /// A new PIN for such a card, from the caller's agent.
    pub fn ask_new_pin(
        &self,
        visitor: &Visitor,
        card: &HostedCard,
    ) -> Result<SecretBytes, Failure> {
        self.require_of(visitor, card, PIN_RESET)?;
        let (uid, actor) = (visitor.caller.uid(), &visitor.actor);
        let mut new = question(card, Purpose::NewPin, uid, actor, visitor.door);
        new.gone = visitor.gone.clone();
        self.host.ask(&new)
    }

    /// The TPM's state; absent while it is away.
    pub fn tpm_status(&self) -> Option<TpmStatus> {
        describe::tpm(&self.host).ok()
    }
}
