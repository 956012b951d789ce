//! Cards of other machines: a user's connection brings them along, and every use goes back over it.
//!
//! What: cards that are listed and used here as their user's own while that connection lives; what a program of
//! that user asks of them goes to the machine where they are, one request of a program at a time.
//! What not: no PIN goes through here, in neither direction; keys, tries and what is verified are there.
//! Never: another user's request, not even an administrator's, except through the reader where this machine's
//! administrator has allowed that, for pcscd does not tell users apart.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cardea_card::{Guest, Verdict};
use cardea_client::ServerEnd;
use cardea_client::frame::{FrameError, exactly};
use cardea_client::message::{
    CardOverview, CardState, Failure, FailureKind, MAX_NAME, MAX_PROGRAMS, MAX_REDIRECTED,
    PowerAction, Reply, Request, SIGN_OF_LIFE, SecretBytes, packed,
};

use crate::audit::{Actor, Door, Kind};
use crate::failure::fail;
use crate::host::{Host, lock};
use crate::hosted::{HostedCard, View};
use crate::permission::Caller;
use crate::prompt::ANSWER_TIME;

/// Redirections of one user, and in all.
const MAX_OF_USER: usize = 4;
const MAX_REDIRECTIONS: usize = 32;

/// Longest answer to reset (ISO/IEC 7816-3 §8.1).
const MAX_ATR: usize = 33;

/// A redirection that says nothing for so long has ended.
const SILENCE: Duration = SIGN_OF_LIFE.saturating_mul(3);

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
    owner: u32,
    /// Whether they may be in the reader.
    pub(crate) in_reader: bool,
    socket: Arc<UnixStream>,
    sending: Mutex<ServerEnd<Arc<UnixStream>>>,
    programs: Mutex<Programs>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Programs {
    closed: bool,
    last: u32,
    waiting: HashMap<u32, Answer>,
}

impl Programs {
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
pub(crate) struct Program {
    carrier: Arc<Carrier>,
    number: u32,
    /// Held while something is asked; true once an answer has failed to come.
    lost: Mutex<bool>,
}

/// How many redirections there are: without any, no request looks for one.
#[derive(Debug, Default)]
pub(crate) struct Redirections {
    count: AtomicUsize,
    users: Mutex<HashMap<u32, usize>>,
}

impl Redirections {
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn enter(&self, uid: u32) -> Result<(), Failure> {
        let mut users = lock(&self.users);
        let all: usize = users.values().sum();
        let own = users.entry(uid).or_default();
        if all >= MAX_REDIRECTIONS || *own >= MAX_OF_USER {
            return Err(fail(
                FailureKind::Busy,
                format!("too many redirections to this machine; a user has at most {MAX_OF_USER}"),
            ));
        }
        *own += 1;
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn leave(&self, uid: u32) {
        let mut users = lock(&self.users);
        if let Some(own) = users.get_mut(&uid) {
            *own -= 1;
            if *own == 0 {
                users.remove(&uid);
            }
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Carrier {
    fn is_closed(&self) -> bool {
        lock(&self.programs).closed
    }

    /// A new program's number.
    pub(crate) fn program(self: &Arc<Self>) -> Result<Program, Failure> {
        let mut programs = lock(&self.programs);
        if programs.closed {
            return Err(self.removed());
        }
        if programs.waiting.len() >= MAX_PROGRAMS {
            return Err(fail(
                FailureKind::Busy,
                format!(
                    "{MAX_PROGRAMS} programs use the cards of {} already",
                    self.from
                ),
            ));
        }
        programs.last = programs.last.wrapping_add(1);
        let number = programs.last;
        programs.waiting.insert(number, Answer::Idle);
        Ok(Program {
            carrier: Arc::clone(self),
            number,
            lost: Mutex::new(false),
        })
    }

    fn removed(&self) -> Failure {
        fail(
            FailureKind::Removed,
            format!(
                "the connection to {} has ended, and its card with it",
                self.from
            ),
        )
    }

    fn send(&self, reply: &Reply) -> Result<(), Failure> {
        let sent = lock(&self.sending).reply(reply);
        sent.map_err(|error| {
            tracing::info!(from = self.from, %error, "redirection does not take requests");
            self.close();
            self.removed()
        })
    }

    /// An answer has come; of nobody who waits, it is dropped.
    fn answered(&self, number: u32, reply: Reply) {
        let mut programs = lock(&self.programs);
        if let Some(place @ Answer::Asked) = programs.waiting.get_mut(&number) {
            *place = Answer::There(Box::new(reply));
        }
        drop(programs);
        self.changed.notify_all();
    }

    /// Wakes all who wait: there will be no answers.
    fn close(&self) {
        lock(&self.programs).closed = true;
        self.changed.notify_all();
        // The thread that receives ends with it, and one that sends.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Program {
    pub(crate) fn is_of(&self, carrier: &Arc<Carrier>) -> bool {
        Arc::ptr_eq(&self.carrier, carrier)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.carrier.is_closed()
    }

    /// Asks where the card is. The answer is one to this request, a refusal included.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let carrier = &*self.carrier;
        let mut lost = lock(&self.lost);
        if *lost {
            return Err(carrier.removed());
        }
        let limit = match request {
            Request::LoginByAgent { .. } | Request::EnterPin { .. } => PERSON,
            Request::UseKey { .. } | Request::TransmitCard { .. } => USE,
            _ => SHORT,
        };
        let content =
            packed(request).map_err(|_| fail(FailureKind::Invalid, "the request is too long"))?;
        {
            let mut programs = lock(&carrier.programs);
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
        let mut programs = lock(&carrier.programs);
        loop {
            if programs.closed {
                return Err(carrier.removed());
            }
            if let Some(reply) = programs.take(self.number) {
                drop(programs);
                return match reply {
                    Reply::Failed(failure) => Err(failure),
                    reply if fits(request, &reply) => Ok(reply),
                    _ => {
                        *lost = true;
                        let text = format!("{} gave an answer to something else", carrier.from);
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

impl Drop for Program {
    fn drop(&mut self) {
        let mut programs = lock(&self.carrier.programs);
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

/// Whether a reply is one to the request.
fn fits(request: &Request, reply: &Reply) -> bool {
    match (request, reply) {
        (
            Request::LoginByAgent { .. }
            | Request::Logout { .. }
            | Request::PowerCard {
                action: PowerAction::Down,
                ..
            },
            Reply::Done,
        )
        | (Request::ReadCertificate { .. } | Request::ReadObject { .. }, Reply::Certificate(_))
        | (Request::CardContents { .. }, Reply::Contents { .. })
        | (Request::UseKey { .. }, Reply::Result(_))
        | (Request::TransmitCard { .. }, Reply::Response(_)) => true,
        (Request::EnterPin { .. }, Reply::Response(status)) => status.expose().len() == 2,
        (Request::CardStatus { card }, Reply::Status(status)) => status.overview.card_id == *card,
        (
            Request::PowerCard {
                action: PowerAction::Reset | PowerAction::Up,
                ..
            },
            Reply::Atr(atr),
        ) => (2..=MAX_ATR).contains(&atr.len()),
        _ => false,
    }
}

/// What a user's program asks of a redirected card, over its own way there.
pub(crate) fn elsewhere(
    card: &HostedCard,
    carrier: &Carrier,
    caller: Caller,
    program: impl FnOnce() -> Result<Arc<Program>, Failure>,
    request: Request,
) -> Result<Reply, Failure> {
    if card.owner != Some(caller.uid) {
        return Err(fail(
            FailureKind::Denied,
            "this card is redirected from another machine, for its user alone",
        ));
    }
    let card = card.selector();
    let request = match request {
        Request::CardContents { known, .. } => Request::CardContents { card, known },
        Request::CardStatus { .. } => Request::CardStatus { card },
        Request::LoginByAgent { .. } => Request::LoginByAgent { card },
        Request::Logout { .. } => Request::Logout { card },
        Request::ReadCertificate { reference, .. } => Request::ReadCertificate { card, reference },
        Request::ReadObject { number, .. } => Request::ReadObject { card, number },
        Request::UseKey {
            pin: None,
            reference,
            operation,
            ..
        } => Request::UseKey {
            card,
            pin: None,
            reference,
            operation,
        },
        Request::Login { .. } | Request::UseKey { .. } | Request::VerifyPin { .. } => {
            return Err(fail(
                FailureKind::Denied,
                format!(
                    "the PIN of this card is typed at {}, where it is, and never here",
                    carrier.from
                ),
            ));
        }
        _ => return Err(only_there(carrier)),
    };
    match program()?.ask(&request)? {
        // Whoever logs in leaves the question for the PIN to the other machine.
        Reply::Status(mut status) => {
            status.pin_pad = true;
            Ok(Reply::Status(status))
        }
        reply => Ok(reply),
    }
}

/// What is done where the card is.
pub(crate) fn only_there(carrier: &Carrier) -> Failure {
    fail(
        FailureKind::Denied,
        format!(
            "this card is redirected from {}; that is done there",
            carrier.from
        ),
    )
}

/// A reader connection to one insertion of a redirected card.
#[derive(Debug)]
pub(crate) struct Distant {
    slot: u8,
    insertion: u64,
    card: String,
    program: Program,
    /// Which application the commands are for.
    guest: Guest,
}

impl Distant {
    pub(crate) fn new(
        slot: u8,
        insertion: u64,
        card: &HostedCard,
        carrier: &Arc<Carrier>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            slot,
            insertion,
            card: card.selector(),
            program: carrier.program()?,
            guest: Guest::default(),
        })
    }

    /// Whether it is to this insertion of this slot.
    pub(crate) fn is(&self, slot: u8, insertion: u64) -> bool {
        (self.slot, self.insertion) == (slot, insertion) && !self.program.is_lost()
    }

    pub(crate) fn power(&mut self, action: PowerAction) -> Result<Reply, Failure> {
        self.guest.reset();
        let card = self.card.clone();
        self.program.ask(&Request::PowerCard { card, action })
    }

    /// One APDU. What may not leave this machine, a PIN above all, does not.
    pub(crate) fn transmit(&mut self, apdu: &SecretBytes) -> Result<Reply, Failure> {
        if let Verdict::Refused(status) = self.guest.judge(apdu.expose()) {
            return Ok(Reply::Response(SecretBytes::new(status.to_vec())));
        }
        let reply = self.program.ask(&Request::TransmitCard {
            card: self.card.clone(),
            apdu: apdu.clone(),
        })?;
        if let Reply::Response(response) = &reply {
            self.guest.answered(apdu.expose(), response.expose());
        }
        Ok(reply)
    }

    /// The PIN pad, which is there.
    pub(crate) fn enter_pin(&self, limit: Duration) -> Result<Reply, Failure> {
        self.program.ask(&Request::EnterPin {
            card: self.card.clone(),
            seconds: u32::try_from(limit.as_secs()).unwrap_or(u32::MAX),
        })
    }
}

/// A redirection from its request to the end of the connection.
pub(crate) fn carry(
    host: &Arc<Host>,
    client: &mut ServerEnd<Arc<UnixStream>>,
    caller: Caller,
    actor: &Actor,
    (from, reader): (String, bool),
) -> Result<(), FrameError> {
    let redirection = match Redirection::begin(host, client, caller, actor, (from, reader)) {
        Ok(redirection) => redirection,
        Err(failure) => return client.reply(&Reply::Failed(failure)),
    };
    client.reply(&Reply::Redirected {
        reader: redirection.carrier.in_reader,
    })?;
    while let Some(request) = client.request(Some(SILENCE))? {
        let done = match request {
            Request::Offer { cards } => redirection.offer(&cards),
            Request::Answered { program, reply } => match exactly(reply.expose()) {
                Ok(reply) => {
                    redirection.carrier.answered(program, reply);
                    Ok(())
                }
                Err(error) => Err(fail(FailureKind::Protocol, error.to_string())),
            },
            _ => Err(fail(
                FailureKind::Protocol,
                "a redirection offers cards and answers, nothing else",
            )),
        };
        if let Err(failure) = done {
            tracing::info!(
                from = redirection.carrier.from,
                error = failure.message,
                "redirection refused"
            );
            return redirection.refuse(failure);
        }
    }
    Ok(())
}

/// Ends when dropped, and its cards are gone.
struct Redirection<'a> {
    host: &'a Arc<Host>,
    carrier: Arc<Carrier>,
    actor: &'a Actor,
    /// Until it is refused or ends.
    offers: Cell<bool>,
}

impl<'a> Redirection<'a> {
    fn begin(
        host: &'a Arc<Host>,
        client: &ServerEnd<Arc<UnixStream>>,
        caller: Caller,
        actor: &'a Actor,
        (from, reader): (String, bool),
    ) -> Result<Self, Failure> {
        if !is_name(&from) {
            return Err(fail(
                FailureKind::Invalid,
                "not the name of a machine that could be shown",
            ));
        }
        host.redirections.enter(caller.uid)?;
        let carrier = Arc::new(Carrier {
            from,
            owner: caller.uid,
            in_reader: reader && host.redirect_to_reader,
            socket: Arc::clone(client.socket()),
            sending: Mutex::new(client.sender()),
            programs: Mutex::default(),
            changed: Condvar::new(),
        });
        Ok(Self {
            host,
            carrier,
            actor,
            offers: Cell::new(true),
        })
    }

    /// Its cards are gone before that is told: whoever begins anew finds nothing of them in the way.
    fn refuse(&self, failure: Failure) -> Result<(), FrameError> {
        self.withdraw();
        lock(&self.carrier.sending).reply(&Reply::Failed(failure))
    }

    fn withdraw(&self) {
        if !self.offers.replace(false) {
            return;
        }
        for card in self.own() {
            self.remove(&card);
        }
        self.host.redirections.leave(self.carrier.owner);
        // A card of this machine may have waited for the slot.
        self.host.wake_keeper();
    }

    fn own(&self) -> Vec<Arc<HostedCard>> {
        let cards = self.host.cards().into_iter();
        cards
            .filter(|card| card.is_carried_by(&self.carrier))
            .collect()
    }

    /// Takes over what there is now.
    fn offer(&self, cards: &[CardOverview]) -> Result<(), Failure> {
        if cards.len() > MAX_REDIRECTED {
            let text = format!("at most {MAX_REDIRECTED} cards are redirected at once");
            return Err(fail(FailureKind::Full, text));
        }
        let mut offered = Vec::with_capacity(cards.len());
        for card in cards {
            let id = card
                .card_id
                .parse()
                .map_err(|_| fail(FailureKind::Invalid, "not the id of a card"))?;
            if !is_name(&card.name) {
                return Err(fail(FailureKind::Invalid, "not the name of a card"));
            }
            let usable = matches!(card.state, CardState::Ready | CardState::Blocked);
            if usable && !card.uninitialised {
                offered.push((id, card));
            }
        }
        let own = self.own();
        for card in &own {
            let stays = offered
                .iter()
                .any(|(id, offer)| card.id == Some(*id) && card.name() == offer.name);
            if !stays {
                self.remove(card);
            }
        }
        for (id, offer) in offered {
            let reason = if is_name(&offer.reason) {
                offer.reason.as_str()
            } else {
                ""
            };
            let view = View::new(offer.state, reason);
            let known = own
                .iter()
                .find(|card| card.id == Some(id) && card.name() == offer.name);
            if let Some(card) = known {
                card.set_view(view);
                continue;
            }
            let card = Arc::new(HostedCard::redirected(
                id,
                &offer.name,
                self.carrier.owner,
                &self.carrier,
                view,
            ));
            if !self.host.add_new(&card) {
                return Err(fail(
                    FailureKind::Invalid,
                    format!("card {id} is on this machine already"),
                ));
            }
            tracing::info!(card = %id, from = self.carrier.from, uid = self.carrier.owner, "card redirected to here");
            self.note(&card, Kind::CardRedirected);
            if self.carrier.in_reader {
                // Not here: whoever makes a card has the reader for a minute.
                self.host.wake_keeper();
            }
        }
        self.host.cards_changed();
        Ok(())
    }

    fn remove(&self, card: &Arc<HostedCard>) {
        self.host.slots.remove(card);
        self.host.forget(card);
        tracing::info!(card = %card.selector(), from = self.carrier.from, "redirected card is gone");
        self.note(card, Kind::CardWithdrawn);
    }

    fn note(&self, card: &HostedCard, kind: Kind) {
        let audit = &self.host.audit;
        audit.event(Some(card), self.actor, Door::Socket, kind);
    }
}

impl Drop for Redirection<'_> {
    fn drop(&mut self) {
        self.carrier.close();
        self.withdraw();
    }
}

/// What can be shown in one line.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
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
            programs: Mutex::default(),
            changed: Condvar::new(),
        };
        (Arc::new(carrier), greeted.join().unwrap())
    }

    fn status() -> Request {
        Request::Logout {
            card: "card".into(),
        }
    }

    #[test]
    fn answer_goes_to_its_program_and_late_ones_to_nobody() {
        let (carrier, _peer) = carrier();
        let (one, other) = (carrier.program().unwrap(), carrier.program().unwrap());
        carrier.answered(one.number, Reply::Done);
        let asking = std::thread::spawn(move || one.ask(&status()));
        while !matches!(lock(&carrier.programs).waiting.get(&1), Some(Answer::Asked)) {
            std::thread::yield_now();
        }
        carrier.answered(other.number, Reply::Done);
        carrier.answered(4711, Reply::Done);
        carrier.answered(1, Reply::Done);
        assert!(matches!(asking.join().unwrap(), Ok(Reply::Done)));
        assert_eq!(lock(&carrier.programs).waiting.len(), 1);
    }

    #[test]
    fn end_of_the_connection_is_told_to_who_waits_and_who_comes() {
        let (carrier, peer) = carrier();
        let program = carrier.program().unwrap();
        let (sender, asked) = std::sync::mpsc::channel();
        let asking = std::thread::spawn(move || {
            sender.send(()).unwrap();
            program.ask(&status())
        });
        asked.recv().unwrap();
        carrier.close();
        let refused = asking.join().unwrap().unwrap_err();
        assert_eq!(refused.kind, FailureKind::Removed);
        assert_eq!(carrier.program().unwrap_err().kind, FailureKind::Removed);
        drop(peer);
    }

    #[test]
    fn programs_are_limited() {
        let (carrier, _peer) = carrier();
        let programs: Vec<_> = (0..MAX_PROGRAMS)
            .map(|_| carrier.program().unwrap())
            .collect();
        assert_eq!(carrier.program().unwrap_err().kind, FailureKind::Busy);
        drop(programs);
        assert!(carrier.program().is_ok());
    }

    #[test]
    fn answer_to_something_else_is_none() {
        let card = || String::from("card");
        assert!(fits(&Request::Logout { card: card() }, &Reply::Done));
        for reply in [
            Reply::Certificate(Vec::new()),
            Reply::Reader { slots: 1 },
            Reply::Redirected { reader: true },
        ] {
            assert!(!fits(&Request::Logout { card: card() }, &reply));
        }
        let power = Request::PowerCard {
            card: card(),
            action: PowerAction::Up,
        };
        assert!(fits(&power, &Reply::Atr(vec![0x3B; 33])));
        assert!(!fits(&power, &Reply::Atr(vec![0x3B; 34])));
        assert!(!fits(&power, &Reply::Done));
        let pin = Request::EnterPin {
            card: card(),
            seconds: 1,
        };
        assert!(!fits(&pin, &Reply::Response(SecretBytes::new(vec![0; 3]))));
    }

    #[test]
    fn redirections_of_a_user_are_limited() {
        let redirections = Redirections::default();
        assert!(!redirections.any());
        for _ in 0..MAX_OF_USER {
            redirections.enter(1).unwrap();
        }
        assert_eq!(redirections.enter(1).unwrap_err().kind, FailureKind::Busy);
        redirections.enter(2).unwrap();
        redirections.leave(1);
        redirections.enter(1).unwrap();
        assert!(redirections.any());
    }

    #[test]
    fn names_are_one_line() {
        assert!(is_name("alice at laptop"));
        for wrong in ["", "a\nb", "\u{1b}[2J", &"a".repeat(MAX_NAME + 1)] {
            assert!(!is_name(wrong), "{wrong:?}");
        }
    }
}
