//! The daemon at the other end: one request, its progress, one answer.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use cardea_client::message::{
    CardDetails, CardRequest, CardState, CardSummary, CardsRequest, CardsTaken, Part, Reply,
    Request, TpmRequest, Tries, collect,
};
use cardea_client::{Client, ClientError};
use cardea_terms::{CounterMode, KeyAlgorithm};

use crate::exit::{Exit, Failure};
use crate::terminal::output::printable;
use crate::terminal::progress::{Progress, words};

/// Creation takes a minute and a half on slow TPMs, and may wait for another one.
const ANSWER_TIME: Duration = Duration::from_secs(600);

/// Connects at the first request, so that wrong arguments are reported without a daemon.
#[derive(Debug)]
pub(crate) struct Daemon(Client);

impl Daemon {
    pub(crate) fn new(socket: &Path) -> Self {
        Self(Client::new(socket))
    }

    /// A connection of its own to the same daemon.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.0.path())
    }

    /// Sends the request and waits for its answer. `what` is the first step shown.
    pub(crate) fn call(&mut self, request: &Request, what: &str) -> Result<Reply, Failure> {
        let progress = Progress::start(what);
        let reply = self
            .0
            .call_with_progress(request, ANSWER_TIME, &mut |step| {
                progress.step(&words(step))
            });
        drop(progress);
        self.answer(reply)
    }

    /// Like [`Daemon::call`], and sends the descriptor of an open folder along.
    pub(crate) fn call_with_folder(
        &mut self,
        request: &Request,
        folder: BorrowedFd<'_>,
        what: &str,
    ) -> Result<Reply, Failure> {
        let progress = Progress::start(what);
        let mut step = |step| progress.step(&words(step));
        let reply = self
            .0
            .call_with_folder(request, folder, ANSWER_TIME, &mut step);
        drop(progress);
        self.answer(reply)
    }

    fn answer(&self, reply: Result<Reply, ClientError>) -> Result<Reply, Failure> {
        match reply {
            Ok(Reply::Failed(failure)) => Err(Failure::new(failure.kind.into(), failure.message)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.away(&error)),
        }
    }

    fn away(&self, error: &ClientError) -> Failure {
        let hint = match error {
            ClientError::Unreachable { .. } => "; is cardea-daemon running?",
            ClientError::Disconnected(_) | ClientError::TimedOut => {
                "; it may or may not have been done; check with `cardea card list`"
            }
            _ => "",
        };
        Failure::caused(Exit::Away, error, hint)
    }

    /// Like [`Daemon::call`], for a request whose reply carries nothing.
    pub(crate) fn order(&mut self, request: &Request, what: &str) -> Result<(), Failure> {
        match self.call(request, what)? {
            Reply::Done => Ok(()),
            _ => Err(Self::unexpected()),
        }
    }

    /// The key algorithms of the TPM, that of most programs first.
    pub(crate) fn supported_algorithms(&mut self) -> Result<Vec<KeyAlgorithm>, Failure> {
        let supported = match self.call(&Request::Tpm(TpmRequest::Status), "asking the TPM")? {
            Reply::Tpm(status) => status.algorithms,
            _ => return Err(Self::unexpected()),
        };
        let preferred = [
            KeyAlgorithm::Rsa2048,
            KeyAlgorithm::Rsa3072,
            KeyAlgorithm::P256,
            KeyAlgorithm::P384,
        ];
        Ok(preferred
            .into_iter()
            .filter(|algorithm| supported.contains(algorithm))
            .collect())
    }

    /// All cards that the caller may see.
    pub(crate) fn cards(&mut self) -> Result<Vec<CardSummary>, Failure> {
        let (_, cards) = collect(|from| {
            let request = Request::Cards(CardsRequest::List { from });
            match self.call(&request, "reading the cards")? {
                Reply::Cards(page) => Ok::<_, Failure>(page),
                _ => Err(Self::unexpected()),
            }
        })?;
        Ok(cards)
    }

    /// The card that a selector means, its keys in the order of their references.
    pub(crate) fn show(&mut self, card: &str) -> Result<CardDetails, Failure> {
        let request = Request::card(card, CardRequest::Show);
        match self.call(&request, "reading the card")? {
            Reply::Card(mut details) => {
                details.keys.sort_by_key(|key| key.reference);
                Ok(*details)
            }
            _ => Err(Self::unexpected()),
        }
    }

    /// Like [`Daemon::show`], for a card that is about to be used.
    ///
    /// Called before any secret is asked for, so that nobody types one for a card that does not exist or cannot take
    /// it. Every later request uses the card id of this answer: a name may mean another card by then.
    pub(crate) fn usable(&mut self, card: &str) -> Result<CardDetails, Failure> {
        let details = self.show(card)?;
        let exit = match details.summary.state {
            CardState::Ready | CardState::Blocked if details.uninitialised => {
                return Err(Failure::usage(
                    "the card is in initialisation state and has no PIN yet; personalise it first",
                ));
            }
            CardState::Ready | CardState::Blocked => return Ok(details),
            CardState::Foreign | CardState::Lost => Exit::Lost,
            CardState::NotTrusted | CardState::Unreadable | CardState::UnsafeTpm => Exit::Failed,
            CardState::SwitchedOff | CardState::TpmAway => Exit::Away,
            CardState::DriveAway => Exit::NotFound,
        };
        Err(Failure::new(
            exit,
            format!("the card cannot be used: {}", details.summary.reason),
        ))
    }

    /// Like [`Daemon::usable`], for a command that needs the card's PIN: a blocked one is reported before anybody
    /// types it.
    pub(crate) fn usable_by_pin(&mut self, card: &str) -> Result<CardDetails, Failure> {
        let details = self.usable(card)?;
        match details.pin {
            Some(Tries { left: Some(0), .. }) => Err(pin_blocked(&details)),
            _ => Ok(details),
        }
    }

    /// A reply that does not belong to the request.
    pub(crate) fn unexpected() -> Failure {
        Failure::new(Exit::Failed, "unexpected reply from the daemon")
    }
}

/// The PIN has no tries left: who can unblock it.
fn pin_blocked(card: &CardDetails) -> Failure {
    let name = printable(&card.summary.name);
    let way = match (&card.puk, card.administrator) {
        (Some(_), _) => format!("unblock it with the PUK: `cardea pin unblock {name}`"),
        (None, true) => {
            format!("the card's administrator can unblock it: `cardea pin unblock {name}`")
        }
        (None, false) => {
            "it cannot be unblocked, because the card has neither PUK nor administrator".to_owned()
        }
    };
    Failure::new(Exit::Blocked, format!("the PIN is blocked; {way}"))
}

/// Refuses an operation that needs a part that the card has lost, before anybody types a secret for it.
pub(crate) fn require_part(card: &CardDetails, part: Part) -> Result<(), Failure> {
    match card.summary.gone.contains(&part) {
        true => Err(Failure::new(Exit::Failed, part_gone(part))),
        false => Ok(()),
    }
}

/// What is shown of a card that was made before it was known that its TPM sets counts back.
pub(crate) const COUNTED_HERE: &str = "this TPM's firmware sets the count of wrong PINs back whenever a counter is \
     read, so they are counted in the card's file; whoever has an older copy of that file and this TPM can guess the \
     PIN without limit: create a new card, and replace this one while its keys can still be used";

/// What cards a TPM takes, and why none that promise more.
pub(crate) fn cards_text(cards: &CardsTaken) -> String {
    let taken = match cards.mode {
        Some(CounterMode::Nv) => "with counters in the TPM (nv)",
        Some(CounterMode::NvOwner) => {
            "with counters in the TPM that only its owner can read (nv-owner)"
        }
        Some(CounterMode::Object) => {
            "in object mode only, which promises less (`card create --counter-mode object`)"
        }
        None => "none",
    };
    match cards.reason.as_str() {
        "" => taken.to_owned(),
        reason => format!("{taken}: {}", printable(reason)),
    }
}

/// The consequence of a missing part of a usable card.
pub(crate) fn part_gone(part: Part) -> &'static str {
    match part {
        Part::Administrator => {
            "the card's administrator is gone: its index in the TPM was deleted or replaced; PIN and keys still work; create \
             a new card while they do"
        }
        Part::Puk => {
            "the card's PUK is gone: its index in the TPM was deleted or replaced; PIN and keys still work, but a blocked \
             PIN can no longer be unblocked; create a new card while they do"
        }
    }
}
