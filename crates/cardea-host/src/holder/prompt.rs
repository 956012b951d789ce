//! PIN, PUK and consent from the person at the agent of their session.

use cardea_card::token::PinReference;
use cardea_client::message::{Failure, FailureKind, Reference, Reply, SecretBytes};
use cardea_terms::PinPolicy;

use crate::failure::fail;
use crate::holder::CardVisit;
use crate::host::Host;
use crate::host::audit::{Actor, Door};
use crate::host::hosted::{Body, HostedCard};
use crate::host::prompt::{ConsentRequest, NoAnswer, Purpose, Question, UnblockMode, unblock_mode};
use crate::time_limits::ANSWER_TIME;

/// Longest text of what is to be consented to, in bytes.
const MAX_ACTION: usize = 400;

/// Wrong answers to one question of a program, after which it has to ask again.
const ROUNDS: u32 = 3;

/// A question about a card as it is now.
pub(crate) fn question<'a>(
    card: &'a HostedCard,
    purpose: Purpose,
    user: u32,
    actor: &'a Actor,
    door: Door,
) -> Question<'a> {
    let reference = match purpose {
        Purpose::NewPin | Purpose::Pin => PinReference::Pin,
        Purpose::NewPuk | Purpose::Puk => PinReference::Puk,
    };
    let (mut policy, mut status, mut unblock) = (PinPolicy::default(), None, UnblockMode::None);
    if let Body::Live(live) = &mut *card.body() {
        let chosen = live.record().settings.pin_policy;
        policy = match reference {
            PinReference::Pin => chosen.and_then(|bytes| PinPolicy::parse(&bytes).ok()),
            PinReference::Puk => Some(PinPolicy::puk()),
        }
        .unwrap_or_default();
        status = live.pin_status(reference).ok();
        unblock = unblock_mode(live, card.gone());
    }
    Question {
        card: Some(card),
        name: card.name(),
        purpose,
        user,
        actor,
        door,
        policy,
        status,
        unblock,
        error: None,
        limit: ANSWER_TIME,
        gone: None,
    }
}

impl Host {
    /// Asks, if there is anybody who can.
    pub(crate) fn ask(&self, question: &Question<'_>) -> Result<SecretBytes, Failure> {
        self.ask_person(question).map_err(|why| unanswered(&why))
    }

    /// Like [`Host::ask`], and returns why there is no answer.
    pub(crate) fn ask_person(&self, question: &Question<'_>) -> Result<SecretBytes, NoAnswer> {
        let prompter = self.prompter.get().ok_or(NoAnswer::NoAgent);
        prompter.and_then(|prompter| prompter.ask(question))
    }

    /// Asks whether something may be done, if there is anybody who can.
    pub(crate) fn consent(&self, wish: &ConsentRequest<'_>) -> Result<(), Failure> {
        if wish.action.is_empty() || wish.action.len() > MAX_ACTION {
            let text = format!("an action must have 1 to {MAX_ACTION} bytes");
            return Err(fail(FailureKind::Invalid, text));
        }
        let prompter = self.prompter.get().ok_or(NoAnswer::NoAgent);
        let answer = prompter.and_then(|prompter| prompter.consent(wish));
        answer.map_err(|why| unanswered(&why))
    }
}

/// The failure that a program gets.
pub(crate) fn unanswered(why: &NoAnswer) -> Failure {
    match why {
        NoAnswer::Cancelled => fail(FailureKind::Cancelled, "cancelled"),
        NoAnswer::Failed(text) => fail(
            FailureKind::NoAgent,
            format!("the agent could not ask: {text}"),
        ),
        NoAnswer::NoAgent => fail(
            FailureKind::NoAgent,
            "nobody could be asked: this user has no running agent (`cardea-agent`)",
        ),
        NoAnswer::TimedOut => fail(FailureKind::NoAgent, "nobody answered in time"),
    }
}

impl CardVisit<'_> {
    /// As `login`, with the PIN from the caller's agent. A wrong one is reported there, and asked for again.
    pub(crate) fn login_by_agent(&self) -> Result<Reply, Failure> {
        self.by_agent(Reference::Pin, |pin| self.login(pin))
    }

    /// As `change_pin`, with both values from the caller's agent.
    pub(crate) fn change_pin_by_agent(&self, reference: Reference) -> Result<Reply, Failure> {
        self.by_agent(reference, |old| {
            // A new value that is asked for after a wrong old one would be typed for nothing.
            self.verify_pin(reference, old)?;
            let purpose = Purpose::new(reference);
            let mut asked = question(
                &self.card,
                purpose,
                self.caller.uid(),
                self.actor,
                self.door,
            );
            asked.gone = self.gone.cloned();
            let new = self.host.ask(&asked)?;
            self.change_pin(reference, old, &new)
        })
    }

    /// Asks for the present value until it is correct, the person cancels or no tries are left.
    fn by_agent(
        &self,
        reference: Reference,
        mut work: impl FnMut(&SecretBytes) -> Result<Reply, Failure>,
    ) -> Result<Reply, Failure> {
        // Refuses cards that cannot be used before anybody types anything.
        self.with_card(|_, _| Ok(()))?;
        let mut error = None;
        for round in 1.. {
            let purpose = Purpose::present(reference);
            let mut asked = question(
                &self.card,
                purpose,
                self.caller.uid(),
                self.actor,
                self.door,
            );
            asked.error = error.take();
            asked.gone = self.gone.cloned();
            let typed = self.host.ask(&asked)?;
            match work(&typed) {
                Err(failure) if failure.kind == FailureKind::PinWrong && round < ROUNDS => {
                    error = Some(failure.message);
                }
                result => return result,
            }
        }
        Err(fail(FailureKind::Failed, "no answer"))
    }
}
