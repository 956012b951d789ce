//! What a person is asked: PIN, PUK and consent, at the agent of their session and never through the program
//! that wants them.
//!
//! The doors say what they need with a [`Question`]; the [`Prompter`], the daemon's end of the bus, asks it.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cardea_card::record::IndexRole;
use cardea_card::secret::Pin;
use cardea_card::token::PinStatus;
use cardea_client::message::{Reference, SecretBytes};
use cardea_terms::PinPolicy;

use crate::host::audit::{Actor, Door};
use crate::host::hosted::HostedCard;
use crate::host::partial::GoneParts;
use crate::sync::lock;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A new PIN.
    NewPin,
    /// A new PUK.
    NewPuk,
    /// The PIN.
    Pin,
    /// The PUK.
    Puk,
}

impl Purpose {
    /// Its word on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Self::NewPin => "new-pin",
            Self::NewPuk => "new-puk",
            Self::Pin => "pin",
            Self::Puk => "puk",
        }
    }

    /// Whether the answer is a new value, which is typed twice.
    pub fn is_new(self) -> bool {
        matches!(self, Self::NewPin | Self::NewPuk)
    }

    pub(crate) fn present(reference: Reference) -> Self {
        match reference {
            Reference::Pin => Self::Pin,
            Reference::Puk => Self::Puk,
        }
    }

    pub(crate) fn new(reference: Reference) -> Self {
        match reference {
            Reference::Pin => Self::NewPin,
            Reference::Puk => Self::NewPuk,
        }
    }
}

/// One question to a person.
#[derive(Debug)]
pub struct Question<'a> {
    /// Absent while it is being made.
    pub card: Option<&'a HostedCard>,
    /// The card's name.
    pub name: String,
    /// What is asked for.
    pub purpose: Purpose,
    /// Whose agent asks it.
    pub user: u32,
    /// The program that wants it.
    pub actor: &'a Actor,
    /// By which door it wants it.
    pub door: Door,
    /// What a PIN of this card looks like; of the PUK, where that is asked for.
    pub policy: PinPolicy,
    /// Of the PIN or PUK that is asked for; absent where the TPM does not say.
    pub status: Option<PinStatus>,
    /// How a blocked PIN of this card is set anew.
    pub unblock: UnblockMode,
    /// What was wrong with the answer before.
    pub error: Option<String>,
    /// A person gets this time.
    pub limit: Duration,
    /// Says that the answer is no longer needed.
    pub gone: Option<Arc<CallerGone>>,
}

/// What a person is asked to let a program do.
#[derive(Debug)]
pub struct ConsentRequest<'a> {
    /// The card that it is about.
    pub card: &'a HostedCard,
    /// Whose agent asks it.
    pub user: u32,
    /// The program that wants it.
    pub actor: &'a Actor,
    /// By which door it wants it.
    pub door: Door,
    /// As in "wants to: …".
    pub action: &'a str,
}

/// Whether somebody who waited has gone.
#[derive(Debug, Default)]
pub struct CallerGone(Mutex<(bool, Vec<Waker>)>);

impl CallerGone {
    /// Tells everybody.
    pub fn set(&self) {
        let mut state = lock(&self.0);
        state.0 = true;
        for waker in state.1.drain(..) {
            waker.wake();
        }
    }

    /// Whether somebody has told.
    pub fn is_set(&self) -> bool {
        lock(&self.0).0
    }

    /// For a future that ends with it.
    pub fn poll(&self, context: &Context<'_>) -> Poll<()> {
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
pub enum UnblockMode {
    /// By the administrator's answer.
    ChallengeResponse,
    /// By nobody.
    None,
    /// By the PUK.
    Puk,
}

impl UnblockMode {
    /// Its word on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Self::ChallengeResponse => "challenge-response",
            Self::None => "none",
            Self::Puk => "puk",
        }
    }
}

/// Why nothing was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The person said no.
    Cancelled,
    /// The agent's words.
    Failed(String),
    /// Nobody could be asked.
    NoAgent,
    /// The person did not answer in time.
    TimedOut,
}

/// Who asks.
pub trait Prompter: Send + Sync {
    /// Asks for a PIN or PUK.
    fn ask(&self, question: &Question<'_>) -> Result<SecretBytes, NoAnswer>;

    /// Asks for yes or no; no is [`NoAnswer::Cancelled`].
    fn consent(&self, wish: &ConsentRequest<'_>) -> Result<(), NoAnswer>;
}

/// How this card's PIN is unblocked.
pub(crate) fn unblock_mode(card: &cardea_card::Card, gone: &GoneParts) -> UnblockMode {
    match (card.has_puk(), card.has_administrator()) {
        // Without its PUK nobody unblocks the PIN of such a card.
        (true, _) if gone.has(IndexRole::Puk) => UnblockMode::None,
        (true, _) => UnblockMode::Puk,
        (false, true) if !gone.has(IndexRole::Adm) => UnblockMode::ChallengeResponse,
        (false, _) => UnblockMode::None,
    }
}

/// Whether what was typed can be right at all: a PIN that its policy has never allowed costs no try.
pub fn plausible(question: &Question<'_>, typed: &SecretBytes) -> Result<(), String> {
    let pin = Pin::new(typed.expose()).map_err(|error| error.to_string())?;
    question.policy.check(pin.expose()).map_err(|error| {
        let what = match question.purpose {
            Purpose::NewPin | Purpose::Pin => "PIN",
            Purpose::NewPuk | Purpose::Puk => "PUK",
        };
        format!("{what}: {error}")
    })
}
