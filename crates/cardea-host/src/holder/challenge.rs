//! A challenge for the administrator, and what may be done with the correct answer to it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cardea_card::record::CardId;
use cardea_card::token::AdminError;
use cardea_card::{Card, CardError, Connection};
use cardea_client::message::{AdminAnswer, Failure, FailureKind, SecretBytes};

use crate::failure::fail;
use crate::holder::CardVisit;
use crate::holder::pins::{admin_key, authenticate_by_response};
use crate::host::hosted::{Body, HostedCard};
use crate::sync::lock;
use crate::system::unix_time;

/// A challenge is answered within this time: somebody may have to telephone.
const ANSWER_TIME: Duration = Duration::from_secs(600);

/// The time by which something must be answered.
#[derive(Debug)]
pub struct Deadline {
    end: Instant,
    /// Seconds since 1970.
    pub time: u64,
}

impl Deadline {
    /// From now on.
    pub fn begin() -> Self {
        Self {
            end: Instant::now() + ANSWER_TIME,
            time: unix_time() + ANSWER_TIME.as_secs(),
        }
    }

    /// Whether there is time left.
    ///
    /// # Errors
    ///
    /// When it is over.
    pub fn check(&self) -> Result<(), Failure> {
        if Instant::now() < self.end {
            return Ok(());
        }
        Err(fail(
            FailureKind::AdminWrong,
            "the challenge has expired; request another one",
        ))
    }
}

/// What the administrator does once the answer was correct.
#[derive(Debug)]
pub enum AdminTask {
    /// Replaces the admin key.
    ChangeKey(SecretBytes),
    /// Sets the card up: its file system, its id.
    Provision {
        /// Whether the file system is made anew.
        format: bool,
        /// Another id for the card application.
        id: Option<CardId>,
    },
    /// Shows that the answer is correct, and nothing more.
    Verify,
}

/// A challenge, and the connection to the card on which its answer counts.
#[derive(Debug)]
pub struct AdminChallenge {
    pub(crate) card: Arc<HostedCard>,
    /// 8 bytes.
    pub challenge: Vec<u8>,
    /// By when it must be answered.
    pub deadline: Deadline,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Nobody has answered.
    Open(Connection),
    /// The correct answer was given: the connection is the administrator's.
    Answered(Connection),
    /// Answered wrong, or closed.
    Void,
}

impl CardVisit<'_> {
    /// A challenge that is answered later.
    pub(crate) fn begin_challenge(&self) -> Result<AdminChallenge, Failure> {
        let challenge = self.challenge()?;
        let connection = match &mut *self.card.body() {
            Body::Live(live) => live.connect(),
            _ => return Err(self.card.unusable()),
        };
        Ok(AdminChallenge {
            card: Arc::clone(&self.card),
            challenge,
            deadline: Deadline::begin(),
            state: Mutex::new(State::Open(connection)),
        })
    }
}

impl AdminChallenge {
    /// Does something as the administrator. An answer counts once; after the correct one an empty one will do.
    pub(crate) fn answer(
        &self,
        visit: &CardVisit<'_>,
        response: &SecretBytes,
        task: AdminTask,
    ) -> Result<(), Failure> {
        match task {
            AdminTask::ChangeKey(key) => {
                let key = admin_key(&key)?;
                self.work(visit, response, |card, connection| {
                    card.change_admin_key(connection, &key)
                })?;
                log_done!(visit, "admin key changed");
            }
            AdminTask::Provision { format, id } => {
                self.work(visit, response, |card, connection| {
                    card.provision(connection, format, id)
                })?;
                log_done!(visit, "card provisioned");
            }
            AdminTask::Verify => self.work(visit, response, |_, _| Ok(()))?,
        }
        Ok(())
    }

    fn work(
        &self,
        visit: &CardVisit<'_>,
        response: &SecretBytes,
        work: impl FnOnce(&mut Card, &mut Connection) -> Result<(), CardError>,
    ) -> Result<(), Failure> {
        self.deadline.check()?;
        let mut body = self.card.body();
        let Body::Live(live) = &mut *body else {
            return Err(self.card.unusable());
        };
        let mut state = lock(&self.state);
        let (mut connection, answered) = match std::mem::replace(&mut *state, State::Void) {
            State::Open(connection) => (connection, false),
            State::Answered(connection) => (connection, true),
            State::Void => {
                return Err(fail(
                    FailureKind::AdminWrong,
                    "this challenge was answered or closed; request another one",
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
        let wrong = matches!(proof, Err(CardError::Admin(AdminError::Wrong)));
        let proven = match &proof {
            Ok(()) => true,
            // It was not looked at.
            Err(CardError::Admin(AdminError::Delayed { .. })) => answered,
            Err(_) => false,
        };
        let result = proof.and_then(|()| work(live, &mut connection));
        let events = live.take_events();
        if wrong {
            live.disconnect(connection);
        } else if proven {
            *state = State::Answered(connection);
        } else {
            // Asked in the wrong form, too soon, or the TPM was away: nothing was tried.
            *state = State::Open(connection);
        }
        drop(state);
        drop(body);
        let audit = &visit.host.audit;
        audit.card(&self.card, visit.actor, visit.door, &events);
        result.map_err(|error| visit.explained(&error))
    }

    /// Ends it.
    pub fn close(&self) {
        let mut body = self.card.body();
        let state = std::mem::replace(&mut *lock(&self.state), State::Void);
        if let (Body::Live(live), State::Open(connection) | State::Answered(connection)) =
            (&mut *body, state)
        {
            live.disconnect(connection);
        }
    }
}

impl Drop for AdminChallenge {
    fn drop(&mut self) {
        self.close();
    }
}
