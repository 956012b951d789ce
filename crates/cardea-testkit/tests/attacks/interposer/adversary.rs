//! The interposer of the walk: it passes everything on unchanged except one command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use cardea_testkit::multiplexer::{Interposer, Multiplexer, Passage};

use super::manipulation::{Manipulation, altered, cut, no_hmac};
use crate::raw::{Answer, Beginning, Entity, Salt, Session, SessionKind, cc, compose};
use crate::wire::{begun, begun_as, code_of, policy_session, refusal};

/// A command of an operation: the n-th one with this code, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) code: u32,
    pub(crate) occurrence: usize,
}

/// A command with its responses.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) place: Place,
    pub(crate) command: Vec<u8>,
    /// The TPM's response; none if the command did not reach the TPM at this time.
    pub(crate) answered: Option<Vec<u8>>,
    /// What the client received; none if its connection was dropped.
    pub(crate) told: Option<Vec<u8>>,
}

/// Everything that was sent during an operation.
#[derive(Clone, Default)]
pub(crate) struct Conversation {
    pub(crate) lines: Vec<Line>,
    /// The interposer's own commands with their responses.
    pub(crate) own: Vec<(Vec<u8>, Vec<u8>)>,
    /// Sessions whose keys the interposer has.
    pub(crate) sessions: Vec<Session>,
}

/// Handle and context of a session that was saved.
pub(crate) type Saved = (u32, Vec<u8>);

impl Conversation {
    /// The sessions that were saved, by the engine or the interposer.
    pub(crate) fn contexts(&self) -> Vec<Saved> {
        let clients = self.lines.iter().filter_map(|line| {
            let answer = line.answered.as_ref()?;
            Some((&line.command, answer))
        });
        let own = self.own.iter().map(|(command, answer)| (command, answer));
        clients
            .chain(own)
            .filter(|(command, answer)| {
                code_of(command) == cc::CONTEXT_SAVE && code_of(answer) == SUCCESS
            })
            .map(|(command, answer)| (first_word(command), answer[10..].to_vec()))
            .collect()
    }

    /// Whether a handle is that of one of the interposer's sessions.
    pub(crate) fn is_own(&self, handle: u32) -> bool {
        self.sessions.iter().any(|own| own.handle == handle)
    }

    /// The TPM's response at a place.
    pub(crate) fn answer_at(&self, place: Place) -> Option<&[u8]> {
        let line = self.lines.iter().find(|line| line.place == place)?;
        line.answered.as_deref()
    }
}

/// Clones share their state.
#[derive(Clone)]
pub(crate) struct Adversary(Arc<Mutex<State>>);

struct State {
    aim: Option<(Place, Manipulation)>,
    /// The operation without interference.
    baseline: Conversation,
    salt: Salt,
    /// How many commands there were with each code.
    seen: HashMap<u32, usize>,
    heard: Conversation,
    /// The response to the next command, and whether that is executed.
    owed: Option<(Vec<u8>, bool)>,
    /// Commands to be executed after the operation.
    held: Vec<Vec<u8>>,
    hit: bool,
}

impl Adversary {
    /// Only listens.
    pub(crate) fn listening(salt: Salt) -> Self {
        Self::new(None, Conversation::default(), salt)
    }

    /// Manipulates one command.
    pub(crate) fn aiming(
        place: Place,
        manipulation: Manipulation,
        baseline: Conversation,
        salt: Salt,
    ) -> Self {
        Self::new(Some((place, manipulation)), baseline, salt)
    }

    fn new(aim: Option<(Place, Manipulation)>, baseline: Conversation, salt: Salt) -> Self {
        Self(Arc::new(Mutex::new(State {
            aim,
            baseline,
            salt,
            seen: HashMap::new(),
            heard: Conversation::default(),
            owed: None,
            held: Vec::new(),
            hit: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Whether the command has been manipulated.
    pub(crate) fn has_hit(&self) -> bool {
        self.state().hit
    }

    /// Sends what was held back; returns what was sent and received in all.
    pub(crate) fn conclude(&self, mux: &Multiplexer) -> Conversation {
        let held = std::mem::take(&mut self.state().held);
        for command in held {
            let answer = mux.transact(&command).unwrap();
            self.state().heard.own.push((command, answer));
        }
        self.state().heard.clone()
    }
}

impl Interposer for Adversary {
    fn exchange(&mut self, client: u64, command: &[u8], tpm: &mut Passage<'_>) -> Option<Vec<u8>> {
        if client == 0 {
            return tpm.transact(command);
        }
        self.state().exchange(command, tpm)
    }
}

const SUCCESS: u32 = 0;
const TRY_AGAIN: u32 = 0x922;

impl State {
    fn exchange(&mut self, command: &[u8], tpm: &mut Passage<'_>) -> Option<Vec<u8>> {
        let code = code_of(command);
        let occurrence = self.seen.entry(code).or_default();
        let place = Place {
            code,
            occurrence: *occurrence,
        };
        *occurrence += 1;
        let mut answered = None;
        let told = self.answer(place, command, tpm, &mut answered);
        self.heard.lines.push(Line {
            place,
            command: command.to_vec(),
            answered,
            told: told.clone(),
        });
        told
    }

    fn answer(
        &mut self,
        place: Place,
        command: &[u8],
        tpm: &mut Passage<'_>,
        answered: &mut Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        if self.protects(command) {
            return Some(refusal(SUCCESS));
        }
        let mut pass = |answered: &mut Option<Vec<u8>>| {
            *answered = tpm.transact(command);
            answered.clone()
        };
        if let Some((owed, executed)) = self.owed.take() {
            if executed {
                pass(answered)?;
            }
            return Some(owed);
        }
        match self.aim {
            Some((aim, manipulation)) if aim == place && !self.hit => {
                self.hit = true;
                self.manipulate(manipulation, place, command, tpm, answered)
            }
            _ => pass(answered),
        }
    }

    /// Whether the command would flush what the interposer wants to keep: its own sessions, those that the engine has
    /// saved, and everything while a command is held back.
    fn protects(&self, command: &[u8]) -> bool {
        if code_of(command) != cc::FLUSH_CONTEXT {
            return false;
        }
        let flushed = first_word(command);
        let contexts = self.heard.contexts();
        !self.held.is_empty()
            || self.heard.is_own(flushed)
            || contexts.iter().any(|(saved, _)| *saved == flushed)
    }

    fn manipulate(
        &mut self,
        manipulation: Manipulation,
        place: Place,
        command: &[u8],
        tpm: &mut Passage<'_>,
        answered: &mut Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let mut pass = |answered: &mut Option<Vec<u8>>| {
            *answered = tpm.transact(command);
            answered.clone()
        };
        match manipulation {
            Manipulation::Altered { spot } => pass(answered).map(|got| altered(&got, spot)),
            Manipulation::CommandAltered { spot } => {
                *answered = tpm.transact(&altered(command, spot));
                answered.clone()
            }
            Manipulation::Cut => pass(answered).map(cut),
            Manipulation::Delayed => {
                self.owed = Some((pass(answered)?, false));
                Some(refusal(TRY_AGAIN))
            }
            Manipulation::ErrorAfter(code) => pass(answered).map(|_| refusal(code)),
            Manipulation::Exchanged => {
                let before = self.heard.lines.last().and_then(|line| line.told.clone());
                self.owed = Some((pass(answered)?, true));
                Some(before.unwrap_or_else(|| refusal(SUCCESS)))
            }
            Manipulation::HeldBack(code) => {
                self.held.push(command.to_vec());
                Some(refusal(code))
            }
            Manipulation::Lost => pass(answered).and(None),
            Manipulation::NoHmac => {
                let got = pass(answered)?;
                no_hmac(&got).or(Some(got))
            }
            Manipulation::NotExecuted => self.baseline.answer_at(place).map(<[u8]>::to_vec),
            Manipulation::OtherSession {
                handle,
                nonce,
                salted,
            } => self.other_session((handle, nonce, salted), command, tpm, answered),
            Manipulation::Repeated { executed } => {
                if executed {
                    pass(answered)?;
                }
                let earlier = self.heard.lines.iter().rev();
                earlier
                    .filter(|line| line.place.code == place.code)
                    .find_map(|line| line.answered.clone())
                    .or_else(|| self.baseline.answer_at(place).map(<[u8]>::to_vec))
            }
            Manipulation::ReplacedSession { salted } => {
                let named = policy_session(command)?;
                let flush = compose(cc::FLUSH_CONTEXT, &[Entity::plain(named)], &[], &[]);
                self.send(&flush, tpm)?;
                self.begin(salted, tpm)?;
                *answered = tpm.transact(command);
                answered.clone()
            }
            Manipulation::Success => pass(answered).map(|mut got| {
                got[6..10].fill(0);
                got
            }),
            Manipulation::Twice { second } => {
                let first = pass(answered)?;
                let again = self.send(command, tpm)?;
                Some(if second { again } else { first })
            }
        }
    }

    /// A command of the interposer's own.
    fn send(&mut self, command: &[u8], tpm: &mut Passage<'_>) -> Option<Vec<u8>> {
        let answer = tpm.transact(command)?;
        self.heard.own.push((command.to_vec(), answer.clone()));
        Some(answer)
    }

    /// Starts a policy session of the interposer's own.
    fn begin(&mut self, salted: bool, tpm: &mut Passage<'_>) -> Option<Session> {
        let beginning = Beginning::new(SessionKind::Policy, salted.then_some(&self.salt), None);
        let answer = self.send(&beginning.command, tpm)?;
        let session = beginning.session(&Answer::of(&answer));
        self.heard.sessions.push(session.clone());
        Some(session)
    }

    fn other_session(
        &mut self,
        (handle, nonce, salted): (bool, bool, bool),
        command: &[u8],
        tpm: &mut Passage<'_>,
        answered: &mut Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        if handle && nonce {
            // The client's session is not even started.
            let own = self.begin(salted, tpm)?;
            return Some(begun_as(own.handle, &own.nonce_tpm));
        }
        let real = tpm.transact(command)?;
        *answered = Some(real.clone());
        let (real_handle, real_nonce) = begun(&real)?;
        // The TPM has few slots: one of the two sessions has to be saved.
        let saved = self.send(&save(real_handle), tpm)?;
        let own = self.begin(salted, tpm)?;
        if handle {
            return Some(begun_as(own.handle, real_nonce));
        }
        self.send(&save(own.handle), tpm)?;
        let load = compose(cc::CONTEXT_LOAD, &[], &[], &saved[10..]);
        self.send(&load, tpm)?;
        Some(begun_as(real_handle, &own.nonce_tpm))
    }
}

fn save(session: u32) -> Vec<u8> {
    compose(cc::CONTEXT_SAVE, &[Entity::plain(session)], &[], &[])
}

/// The first word after a command's header.
fn first_word(command: &[u8]) -> u32 {
    command[10..14].try_into().map(u32::from_be_bytes).unwrap()
}
