//! Cards of other machines: a user's connection brings them along, and every use goes back over it.
//!
//! What: cards that are listed and used here as their user's own while that connection lives; what a program of
//! that user asks of them goes to the machine where they are, one request of a program at a time.
//! What not: no PIN goes through here, in neither direction; keys, tries and what is verified are there.
//! Never: another user's request, not even an administrator's, except through the reader where this machine's
//! administrator has allowed that, for pcscd does not tell users apart.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cardea_client::ServerEnd;
use cardea_client::frame::FrameError;
use cardea_client::message::{
    CardRequest, Failure, FailureKind, MAX_PROGRAMS, PowerAction, Reply, Request, packed,
};

use crate::failure::fail;
use crate::host::permission::Caller;
use crate::sync::lock;
use crate::time_limits::ANSWER_TIME;

/// Redirections of one user, and in all. Each has at most [`MAX_REDIRECTED`](cardea_client::message::MAX_REDIRECTED)
/// cards.
const MAX_OF_USER: usize = 4;
const MAX_REDIRECTIONS: usize = 32;

/// Of [`MAX_REDIRECTIONS`], what only administrators can use.
const KEPT_FOR_ADMINISTRATORS: usize = MAX_OF_USER;

/// Longest answer to reset (ISO/IEC 7816-3 §8.1).
const MAX_ATR: usize = 33;

/// For what asks nobody.
const SHORT: Duration = Duration::from_secs(60);

/// For the use of a key, which somebody may have to consent to.
const USE: Duration = Duration::from_secs(150);

/// For a PIN: three times, as [`ANSWER_TIME`].
const PERSON: Duration = ANSWER_TIME.saturating_mul(3).saturating_add(SHORT);

/// A connection that brings cards along.
#[derive(Debug)]
pub(crate) struct Carrier {
    /// Where they are, for people.
    pub(crate) from: String,
    /// Whose they are.
    pub(crate) owner: u32,
    /// Whether they may be in the reader.
    pub(crate) in_reader: bool,
    socket: Arc<UnixStream>,
    sending: Mutex<ServerEnd<Arc<UnixStream>>>,
    clients: Mutex<Clients>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Clients {
    closed: bool,
    last: u32,
    waiting: HashMap<u32, Answer>,
}

impl Clients {
    /// The answer for a program, if it has come.
    fn take(&mut self, number: u32) -> Option<Reply> {
        let place = self.waiting.get_mut(&number)?;
        match std::mem::replace(place, Answer::Idle) {
            Answer::There(reply) => Some(*reply),
            other => {
                *place = other;
                None
            }
        }
    }
}

#[derive(Debug)]
enum Answer {
    /// Nothing was asked, or it was taken.
    Idle,
    Asked,
    There(Box<Reply>),
}

/// One program's way to the cards of a redirection: what is verified there is for it alone.
#[derive(Debug)]
pub(crate) struct RedirectedClient {
    carrier: Arc<Carrier>,
    number: u32,
    /// Held while something is asked; true once an answer has failed to come.
    lost: Mutex<bool>,
}

/// How many redirections each user has.
#[derive(Debug, Default)]
pub(crate) struct Redirections {
    users: Mutex<HashMap<u32, usize>>,
}

impl Redirections {
    pub(crate) fn enter(&self, account: u32, caller: Caller) -> Result<(), Failure> {
        let kept = match caller.is_administrator() {
            true => 0,
            false => KEPT_FOR_ADMINISTRATORS,
        };
        let mut users = lock(&self.users);
        let all: usize = users.values().sum();
        let own = users.get(&account).copied().unwrap_or(0);
        if all + kept >= MAX_REDIRECTIONS || own >= MAX_OF_USER {
            return Err(fail(
                FailureKind::Busy,
                format!("too many redirections to this machine; a user has at most {MAX_OF_USER}"),
            ));
        }
        users.insert(account, own + 1);
        Ok(())
    }

    pub(crate) fn leave(&self, uid: u32) {
        let mut users = lock(&self.users);
        if let Some(own) = users.get_mut(&uid) {
            *own -= 1;
            if *own == 0 {
                users.remove(&uid);
            }
        }
    }
}

impl Carrier {
    /// A connection that asks its client from now on.
    pub(crate) fn new(
        from: String,
        owner: u32,
        in_reader: bool,
        client: &ServerEnd<Arc<UnixStream>>,
    ) -> Self {
        Self {
            from,
            owner,
            in_reader,
            socket: Arc::clone(client.socket()),
            sending: Mutex::new(client.sender()),
            clients: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Answers the client itself, as the last thing that it hears.
    pub(crate) fn refuse(&self, failure: Failure) -> Result<(), FrameError> {
        lock(&self.sending).reply(&Reply::Failed(failure))
    }

    fn is_closed(&self) -> bool {
        lock(&self.clients).closed
    }

    /// A new program's number.
    pub(crate) fn client(self: &Arc<Self>) -> Result<RedirectedClient, Failure> {
        let mut programs = lock(&self.clients);
        if programs.closed {
            return Err(self.removed());
        }
        if programs.waiting.len() >= MAX_PROGRAMS {
            return Err(fail(
                FailureKind::Busy,
                format!(
                    "{MAX_PROGRAMS} programs already use the cards of {}",
                    self.from
                ),
            ));
        }
        programs.last = programs.last.wrapping_add(1);
        let number = programs.last;
        programs.waiting.insert(number, Answer::Idle);
        Ok(RedirectedClient {
            carrier: Arc::clone(self),
            number,
            lost: Mutex::new(false),
        })
    }

    fn removed(&self) -> Failure {
        fail(
            FailureKind::Removed,
            format!(
                "the connection to {} has ended; its cards are no longer available",
                self.from
            ),
        )
    }

    fn send(&self, reply: &Reply) -> Result<(), Failure> {
        let sent = lock(&self.sending).reply(reply);
        sent.map_err(|error| {
            tracing::info!(from = self.from, %error, "redirection does not accept requests");
            self.close();
            self.removed()
        })
    }

    /// An answer has come; of nobody who waits, it is dropped.
    pub(crate) fn answered(&self, number: u32, reply: Reply) {
        let mut programs = lock(&self.clients);
        if let Some(place @ Answer::Asked) = programs.waiting.get_mut(&number) {
            *place = Answer::There(Box::new(reply));
        }
        drop(programs);
        self.changed.notify_all();
    }

    /// Wakes all who wait: there will be no answers.
    pub(crate) fn close(&self) {
        lock(&self.clients).closed = true;
        self.changed.notify_all();
        // The thread that receives ends with it, and one that sends.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl RedirectedClient {
    pub(crate) fn is_of(&self, carrier: &Arc<Carrier>) -> bool {
        Arc::ptr_eq(&self.carrier, carrier)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.carrier.is_closed()
    }

    /// Asks where the card is. The answer is one to this request, a refusal included.
    pub(crate) fn ask(&self, card: String, request: CardRequest) -> Result<Reply, Failure> {
        let carrier = &*self.carrier;
        let mut lost = lock(&self.lost);
        if *lost {
            return Err(carrier.removed());
        }
        let limit = match request {
            CardRequest::LoginByAgent | CardRequest::EnterPin { .. } => PERSON,
            CardRequest::UseKey { .. } | CardRequest::Transmit { .. } => USE,
            _ => SHORT,
        };
        let expected = Expected::by(&card, &request);
        let request = Request::card(card, request);
        let content =
            packed(&request).map_err(|_| fail(FailureKind::Invalid, "the request is too long"))?;
        {
            let mut programs = lock(&carrier.clients);
            if programs.closed {
                return Err(carrier.removed());
            }
            programs.waiting.insert(self.number, Answer::Asked);
        }
        carrier.send(&Reply::Wanted {
            program: self.number,
            request: content,
        })?;
        let deadline = Instant::now() + limit;
        let mut programs = lock(&carrier.clients);
        loop {
            if programs.closed {
                return Err(carrier.removed());
            }
            if let Some(reply) = programs.take(self.number) {
                drop(programs);
                return match reply {
                    Reply::Failed(failure) => Err(failure),
                    reply if expected.fits(&reply) => Ok(reply),
                    _ => {
                        *lost = true;
                        let text = format!("unexpected reply from {}", carrier.from);
                        Err(fail(FailureKind::Failed, text))
                    }
                };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // A late answer must not be taken for the next one.
                *lost = true;
                let text = format!("{} did not answer in time", carrier.from);
                return Err(fail(FailureKind::Removed, text));
            }
            programs = carrier
                .changed
                .wait_timeout(programs, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for RedirectedClient {
    fn drop(&mut self) {
        let mut programs = lock(&self.carrier.clients);
        programs.waiting.remove(&self.number);
        let closed = programs.closed;
        drop(programs);
        if !closed {
            let program = self.number;
            // What was verified for it ends with the connection at the latest.
            let _ = self.carrier.send(&Reply::Released { program });
        }
    }
}

/// The reply that a request must have.
#[derive(Debug)]
enum Expected {
    Atr,
    Certificate,
    Contents,
    Done,
    Nothing,
    Response,
    Result,
    /// Of the card with this id.
    Status(String),
    StatusWord,
}

impl Expected {
    fn by(card: &str, request: &CardRequest) -> Self {
        match request {
            CardRequest::Contents { .. } => Self::Contents,
            CardRequest::EnterPin { .. } => Self::StatusWord,
            CardRequest::LoginByAgent | CardRequest::Logout => Self::Done,
            CardRequest::Power { action } => match action {
                PowerAction::Down => Self::Done,
                PowerAction::Reset | PowerAction::Up => Self::Atr,
            },
            CardRequest::ReadCertificate { .. } | CardRequest::ReadObject { .. } => {
                Self::Certificate
            }
            CardRequest::Status => Self::Status(card.to_owned()),
            CardRequest::Transmit { .. } => Self::Response,
            CardRequest::UseKey { .. } => Self::Result,
            _ => Self::Nothing,
        }
    }

    fn fits(&self, reply: &Reply) -> bool {
        match (self, reply) {
            (Self::Certificate, Reply::Certificate(_))
            | (Self::Contents, Reply::Contents { .. })
            | (Self::Done, Reply::Done)
            | (Self::Response, Reply::Response(_))
            | (Self::Result, Reply::Result(_)) => true,
            (Self::Atr, Reply::Atr(atr)) => (2..=MAX_ATR).contains(&atr.len()),
            (Self::Status(card), Reply::Status(status)) => status.overview.card_id == *card,
            (Self::StatusWord, Reply::Response(status)) => status.expose().len() == 2,
            _ => false,
        }
    }
}

/// What is done where the card is.
pub(crate) fn only_there(carrier: &Carrier) -> Failure {
    fail(
        FailureKind::Denied,
        format!(
            "this card is redirected from {}; do this there",
            carrier.from
        ),
    )
}

#[cfg(test)]
mod tests {
    use cardea_client::message::SecretBytes;

    use super::*;

    fn carrier() -> (Arc<Carrier>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let greeted = std::thread::spawn(move || {
            let mut channel = cardea_client::frame::Channel::new(theirs);
            channel.greet(SHORT).unwrap();
            channel.into_socket()
        });
        let end = ServerEnd::accept(Arc::new(ours), SHORT).unwrap();
        let carrier = Carrier {
            from: "laptop".into(),
            owner: 1000,
            in_reader: false,
            socket: Arc::clone(end.socket()),
            sending: Mutex::new(end),
            clients: Mutex::default(),
            changed: Condvar::new(),
        };
        (Arc::new(carrier), greeted.join().unwrap())
    }

    fn log_out(client: &RedirectedClient) -> Result<Reply, Failure> {
        client.ask("card".to_owned(), CardRequest::Logout)
    }

    #[test]
    fn answer_goes_to_its_program_and_late_ones_to_nobody() {
        let (carrier, _peer) = carrier();
        let (one, other) = (carrier.client().unwrap(), carrier.client().unwrap());
        carrier.answered(one.number, Reply::Done);
        let asking = std::thread::spawn(move || log_out(&one));
        while !matches!(lock(&carrier.clients).waiting.get(&1), Some(Answer::Asked)) {
            std::thread::yield_now();
        }
        carrier.answered(other.number, Reply::Done);
        carrier.answered(4711, Reply::Done);
        carrier.answered(1, Reply::Done);
        assert!(matches!(asking.join().unwrap(), Ok(Reply::Done)));
        assert_eq!(lock(&carrier.clients).waiting.len(), 1);
    }

    #[test]
    fn end_of_the_connection_is_told_to_who_waits_and_who_comes() {
        let (carrier, peer) = carrier();
        let program = carrier.client().unwrap();
        let (sender, asked) = std::sync::mpsc::channel();
        let asking = std::thread::spawn(move || {
            sender.send(()).unwrap();
            log_out(&program)
        });
        asked.recv().unwrap();
        carrier.close();
        let refused = asking.join().unwrap().unwrap_err();
        assert_eq!(refused.kind, FailureKind::Removed);
        assert_eq!(carrier.client().unwrap_err().kind, FailureKind::Removed);
        drop(peer);
    }

    #[test]
    fn programs_are_limited() {
        let (carrier, _peer) = carrier();
        let programs: Vec<_> = (0..MAX_PROGRAMS)
            .map(|_| carrier.client().unwrap())
            .collect();
        assert_eq!(carrier.client().unwrap_err().kind, FailureKind::Busy);
        drop(programs);
        assert!(carrier.client().is_ok());
    }

    #[test]
    fn answer_to_something_else_is_none() {
        let expected = |request| Expected::by("card", &request);
        let done = expected(CardRequest::Logout);
        assert!(done.fits(&Reply::Done));
        for reply in [
            Reply::Certificate(Vec::new()),
            Reply::Reader { slots: 1 },
            Reply::Redirected { reader: true },
        ] {
            assert!(!done.fits(&reply));
        }
        let power = expected(CardRequest::Power {
            action: PowerAction::Up,
        });
        assert!(power.fits(&Reply::Atr(vec![0x3B; 33])));
        assert!(!power.fits(&Reply::Atr(vec![0x3B; 34])));
        assert!(!power.fits(&Reply::Done));
        let pin = expected(CardRequest::EnterPin { seconds: 1 });
        assert!(!pin.fits(&Reply::Response(SecretBytes::new(vec![0; 3]))));
    }

    #[test]
    fn redirections_of_a_user_are_limited() {
        let redirections = Redirections::default();
        let user = |uid| Caller::for_test(uid, false, false);
        for _ in 0..MAX_OF_USER {
            redirections.enter(1, user(1)).unwrap();
        }
        let refused = redirections.enter(1, user(1)).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Busy);
        redirections.enter(2, user(2)).unwrap();
        redirections.leave(1);
        redirections.enter(1, user(1)).unwrap();
    }

    #[test]
    fn redirections_of_many_users_leave_some_to_administrators() {
        let redirections = Redirections::default();
        let entered = (1..=u32::try_from(MAX_REDIRECTIONS).unwrap())
            .filter(|uid| {
                let user = Caller::for_test(*uid, false, false);
                redirections.enter(*uid, user).is_ok()
            })
            .count();
        assert_eq!(entered, MAX_REDIRECTIONS - KEPT_FOR_ADMINISTRATORS);
        let root = Caller::for_test(0, true, true);
        for _ in 0..MAX_OF_USER {
            redirections.enter(0, root).unwrap();
        }
    }
}
