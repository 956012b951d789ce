//! A challenge for the administrator, and what may be done with the right answer to it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cardea_card::{Card, CardError, Connection};
use cardea_client::message::{AdminAnswer, SecretBytes};

use super::error::{BusError, Name};
use super::link::{Dictionary, entry};
use crate::holder::{CardVisit, pins::authenticate_by_response};
use crate::host::hosted::{Body, HostedCard};
use crate::sync::lock;
use crate::system::unix_time;

/// A challenge is answered within this time: somebody may have to telephone.
pub(crate) const DEADLINE: Duration = Duration::from_secs(600);

/// The time by which something must be answered.
#[derive(Debug)]
pub(crate) struct Deadline {
    end: Instant,
    /// Seconds since 1970.
    pub(crate) time: u64,
}

impl Deadline {
    pub(crate) fn new() -> Self {
        Self {
            end: Instant::now() + DEADLINE,
            time: unix_time() + DEADLINE.as_secs(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), BusError> {
        if Instant::now() < self.end {
            return Ok(());
        }
        Err(BusError::new(
            Name::WrongResponse,
            "the challenge's time is over; ask for another one",
        ))
    }
}

/// A challenge, and the connection to the card on which its answer counts.
#[derive(Debug)]
pub(crate) struct ChallengeContext {
    pub(crate) card: Arc<HostedCard>,
    pub(crate) challenge: Vec<u8>,
    pub(crate) deadline: Deadline,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Nobody has answered.
    Open(Connection),
    /// The right answer was given: the connection is the administrator's.
    Answered(Connection),
    /// Answered wrong, or closed.
    Void,
}

impl ChallengeContext {
    pub(crate) fn new(card: Arc<HostedCard>, connection: Connection, challenge: Vec<u8>) -> Self {
        Self {
            card,
            challenge,
            deadline: Deadline::new(),
            state: Mutex::new(State::Open(connection)),
        }
    }

    pub(crate) fn properties(&self) -> Dictionary {
        [
            entry("Algorithm", "tdea-cbc"),
            entry("Challenge", self.challenge.clone()),
            entry("Deadline", self.deadline.time),
        ]
        .into()
    }

    /// Does something as the administrator. An answer counts once; after the right one an empty one will do.
    pub(crate) fn answer(
        &self,
        visit: &CardVisit<'_>,
        response: &SecretBytes,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<(), CardError>,
    ) -> Result<(), BusError> {
        self.deadline.check()?;
        let mut body = self.card.body();
        let Body::Live(live) = &mut *body else {
            return Err(self.card.unusable().into());
        };
        let mut state = lock(&self.state);
        let (mut connection, answered) = match std::mem::replace(&mut *state, State::Void) {
            State::Open(connection) => (connection, false),
            State::Answered(connection) => (connection, true),
            State::Void => {
                return Err(BusError::new(
                    Name::WrongResponse,
                    "this challenge was answered or closed; ask for another one",
                ));
            }
        };
        let proof = if answered && response.expose().is_empty() {
            Ok(())
        } else {
            let answer = AdminAnswer {
                challenge: self.challenge.clone(),
                response: response.clone(),
            };
            authenticate_by_response(live, &mut connection, &answer)
        };
        let wrong = matches!(proof, Err(CardError::Admin(_)));
        let proven = proof.is_ok();
        let result = proof.and_then(|()| work(live, &mut connection));
        let events = live.take_events();
        if wrong {
            live.disconnect(connection);
        } else if proven {
            *state = State::Answered(connection);
        } else {
            // Asked in the wrong form, or the TPM was away: nothing was tried.
            *state = State::Open(connection);
        }
        drop(state);
        drop(body);
        let audit = &visit.host.audit;
        audit.card(&self.card, visit.actor, visit.door, &events);
        result.map_err(|error| visit.explained(&error).into())
    }

    /// Ends it.
    pub(crate) fn close(&self) {
        let mut body = self.card.body();
        let state = std::mem::replace(&mut *lock(&self.state), State::Void);
        if let (Body::Live(live), State::Open(connection) | State::Answered(connection)) =
            (&mut *body, state)
        {
            live.disconnect(connection);
        }
    }
}

impl Drop for ChallengeContext {
    fn drop(&mut self) {
        self.close();
    }
}
