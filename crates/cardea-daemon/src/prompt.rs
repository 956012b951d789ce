//! What a person is asked: PIN, PUK and consent, at the agent of their session and never through the program
//! that wants them.
//!
//! The doors say what they need with a [`Question`]; who asks it is the [`Prompter`], the daemon's end of the bus.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cardea_card::pin_policy::PinPolicy;
use cardea_card::record::IndexRole;
use cardea_card::secret::Pin;
use cardea_card::token::{PinReference, PinStatus};
use cardea_client::message::{Failure, FailureKind, Reference, Reply, SecretBytes};

use crate::audit::{Actor, Door};
use crate::failure::fail;
use crate::host::{Host, lock};
use crate::hosted::{Body, HostedCard};
use crate::partial;
use crate::personal::{Desk, word};

/// A person gets this time for one answer, unless the program wants it sooner.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(120);

/// A person gets this time to say yes or no: programs that want a key wait no longer.
pub(crate) const CONSENT_TIME: Duration = Duration::from_secs(50);

/// Longest text of what is to be consented to, in bytes.
const MAX_ACTION: usize = 400;

/// Wrong answers to one question of a program, after which it has to ask again.
const ROUNDS: u32 = 3;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    NewPin,
    NewPuk,
    Pin,
    Puk,
}

impl Purpose {
    /// Its word on the bus.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NewPin => "new-pin",
            Self::NewPuk => "new-puk",
            Self::Pin => "pin",
            Self::Puk => "puk",
        }
    }

    /// Whether the answer is a new value, which is typed twice.
    pub(crate) fn is_new(self) -> bool {
        matches!(self, Self::NewPin | Self::NewPuk)
    }

    fn present(reference: Reference) -> Self {
        match reference {
            Reference::Pin => Self::Pin,
            Reference::Puk => Self::Puk,
        }
    }

    fn new(reference: Reference) -> Self {
        match reference {
            Reference::Pin => Self::NewPin,
            Reference::Puk => Self::NewPuk,
        }
    }
}

/// One question to a person.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// Absent while it is being made.
    pub(crate) card: Option<&'a HostedCard>,
    /// The card's name.
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
    /// Whose agent asks it.
    pub(crate) user: u32,
    /// The program that wants it.
    pub(crate) actor: &'a Actor,
    pub(crate) door: Door,
    /// What a PIN of this card looks like; of the PUK, where that is asked for.
    pub(crate) policy: PinPolicy,
    /// Of the PIN or PUK that is asked for; absent where the TPM does not say.
    pub(crate) status: Option<PinStatus>,
    pub(crate) unblock: UnblockMode,
    /// What was wrong with the answer before.
    pub(crate) error: Option<String>,
    pub(crate) limit: Duration,
    /// Tells that nobody waits for the answer any more.
    pub(crate) gone: Option<Arc<Gone>>,
}

/// What a person is asked to let a program do.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) card: &'a HostedCard,
    /// Whose agent asks it.
    pub(crate) user: u32,
    /// The program that wants it.
    pub(crate) actor: &'a Actor,
    pub(crate) door: Door,
    /// As in "wants to: …".
    pub(crate) action: &'a str,
}

/// Whether somebody who waited has gone.
#[derive(Debug, Default)]
pub(crate) struct Gone(Mutex<(bool, Vec<Waker>)>);

impl Gone {
    /// Tells everybody.
    pub(crate) fn set(&self) {
        let mut state = lock(&self.0);
        state.0 = true;
        for waker in state.1.drain(..) {
            waker.wake();
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        lock(&self.0).0
    }

    /// For a future that ends with it.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.0 {
            return Poll::Ready(());
        }
        if !state.1.iter().any(|waker| waker.will_wake(context.waker())) {
            state.1.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// How a blocked PIN is set anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnblockMode {
    ChallengeResponse,
    None,
    Puk,
}

impl UnblockMode {
    /// Its word on the bus.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ChallengeResponse => "challenge-response",
            Self::None => "none",
            Self::Puk => "puk",
        }
    }
}

/// Why nothing was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The person said no.
    Cancelled,
    /// The agent's words.
    Failed(String),
    /// Nobody could be asked.
    NoAgent,
    TimedOut,
}

/// Who asks.
pub(crate) trait Prompter: Send + Sync {
    /// Asks for a PIN or PUK.
    fn ask(&self, question: &Question<'_>) -> Result<SecretBytes, Unanswered>;

    /// Asks for yes or no; no is [`Unanswered::Cancelled`].
    fn consent(&self, wish: &Wish<'_>) -> Result<(), Unanswered>;
}

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

/// How this card's PIN is unblocked.
pub(crate) fn unblock_mode(card: &cardea_card::Card, gone: &partial::Gone) -> UnblockMode {
    match (card.has_puk(), card.has_administrator()) {
        // Without its PUK nobody unblocks the PIN of such a card.
        (true, _) if gone.has(IndexRole::Puk) => UnblockMode::None,
        (true, _) => UnblockMode::Puk,
        (false, true) if !gone.has(IndexRole::Adm) => UnblockMode::ChallengeResponse,
        (false, _) => UnblockMode::None,
    }
}

impl Host {
    /// Asks, if there is anybody who can.
    pub(crate) fn ask(&self, question: &Question<'_>) -> Result<SecretBytes, Failure> {
        let prompter = self.prompter.get().ok_or(Unanswered::NoAgent);
        let answer = prompter.and_then(|prompter| prompter.ask(question));
        answer.map_err(|why| unanswered(&why))
    }
}

impl Host {
    /// Asks whether something may be done, if there is anybody who can.
    pub(crate) fn consent(&self, wish: &Wish<'_>) -> Result<(), Failure> {
        if wish.action.is_empty() || wish.action.len() > MAX_ACTION {
            let text = format!("an action has 1 to {MAX_ACTION} bytes");
            return Err(fail(FailureKind::Invalid, text));
        }
        let prompter = self.prompter.get().ok_or(Unanswered::NoAgent);
        let answer = prompter.and_then(|prompter| prompter.consent(wish));
        answer.map_err(|why| unanswered(&why))
    }
}

/// What a program is told.
pub(crate) fn unanswered(why: &Unanswered) -> Failure {
    match why {
        Unanswered::Cancelled => fail(FailureKind::Cancelled, "cancelled"),
        Unanswered::Failed(text) => fail(
            FailureKind::NoAgent,
            format!("the agent could not ask: {text}"),
        ),
        Unanswered::NoAgent => fail(
            FailureKind::NoAgent,
            "nobody could be asked: no agent of this user runs (`cardea-agent`)",
        ),
        Unanswered::TimedOut => fail(FailureKind::NoAgent, "nobody answered in time"),
    }
}

impl Desk<'_> {
    /// As `login`, with the PIN from the caller's agent. A wrong one is told there, and asked again.
    pub(crate) fn login_by_agent(&self) -> Result<Reply, Failure> {
        self.by_agent(Reference::Pin, |pin| self.login(pin))
    }

    /// As `change_pin`, with both values from the caller's agent.
    pub(crate) fn change_pin_by_agent(&self, reference: Reference) -> Result<Reply, Failure> {
        self.by_agent(reference, |old| {
            // A new value that is asked for after a wrong old one would be typed for nothing.
            self.verify_pin(reference, old)?;
            let card = self.host.find(self.selector, self.caller)?;
            let purpose = Purpose::new(reference);
            let mut asked = question(&card, purpose, self.caller.uid, self.actor, self.door);
            asked.gone = self.gone.cloned();
            let new = self.host.ask(&asked)?;
            self.change_pin(reference, old, &new)
        })
    }

    /// Asks for the present value until it is right, the person gives up or the tries are gone.
    fn by_agent(
        &self,
        reference: Reference,
        mut work: impl FnMut(&SecretBytes) -> Result<Reply, Failure>,
    ) -> Result<Reply, Failure> {
        let card = self.host.find(self.selector, self.caller)?;
        // Refuses cards that cannot be used before anybody types anything.
        self.with_card(|_, _| Ok(()))?;
        let mut error = None;
        for round in 1.. {
            let purpose = Purpose::present(reference);
            let mut asked = question(&card, purpose, self.caller.uid, self.actor, self.door);
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

/// Whether what was typed can be right at all: a PIN that its policy has never allowed costs no try.
pub(crate) fn plausible(question: &Question<'_>, typed: &SecretBytes) -> Result<(), String> {
    let pin = Pin::new(typed.expose()).map_err(|error| error.to_string())?;
    question.policy.check(&pin).map_err(|error| {
        let what = match question.purpose {
            Purpose::NewPin | Purpose::Pin => word(Reference::Pin),
            Purpose::NewPuk | Purpose::Puk => word(Reference::Puk),
        };
        format!("{what}: {error}")
    })
}
