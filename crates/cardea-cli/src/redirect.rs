//! Cards of this machine on another one, over ssh, as long as the connection lives.
//!
//! The daemon there asks, this program answers: what [`guard`] lets pass goes to this machine's daemon, on a
//! connection of its own for each program at the other end. PINs are typed on this side ([`local`]).
//! Everything that comes from there is bounded: frames by length and time, requests by their rate ([`pace`]), one at
//! a time for each program, programs by their number. The redirection ends when the
//! remote machine breaks a rule, and the reason is shown here.

mod accept;
mod guard;
mod local;
mod pace;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cardea_client::frame::{Channel, FRAME_TIME, FrameError, exactly};
use cardea_client::message::{
    CardName, CardOverview, CardRequest, CardsRequest, FailureKind, MAX_NAME, MAX_PROGRAMS,
    MAX_REDIRECTED, RedirectionRequest, Reply, Request, SIGN_OF_LIFE, collect, packed,
};
use cardea_client::{Client, ClientError};
use nix::unistd::{Uid, User, gethostname};

pub(crate) use self::accept::accept;
use self::guard::{Allowed, Refused};
use self::local::{Local, Person, refused};
use self::pace::Pace;
use crate::arguments::RedirectArguments;
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::terminal::output::{note, printable};

/// Signing in at the other end may need a person.
const SIGN_IN_TIME: Duration = Duration::from_secs(600);

/// The daemon there answers the first request within this time.
const ACCEPT_TIME: Duration = Duration::from_secs(60);

/// Between two looks for a daemon that went away.
const RETRY: Duration = Duration::from_secs(2);

/// `cardea redirect`.
pub(crate) fn run(
    arguments: &RedirectArguments,
    socket: &Path,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let host = host_name(&arguments.host)?;
    let choice = Choice::of(&arguments.card, daemon)?;
    let cards = choice.present(daemon)?;
    if cards.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            "you have no card here that could be redirected; `cardea card list` shows yours",
        ));
    }
    let mut ssh = Ssh::start(arguments)?;
    let greeted = greet(&mut ssh.channel, !arguments.no_reader);
    let reader = match greeted {
        Ok(reader) => reader,
        Err(refusal) => return Err(refusal.told(&host, ssh)),
    };
    let shared = Arc::new(Shared {
        person: Person::new(&host, arguments.consent),
        host,
        socket: socket.to_owned(),
        sending: Mutex::new(Channel::new(Arc::clone(ssh.channel.socket()))),
        stream: Arc::clone(ssh.channel.socket()),
        cards: Mutex::default(),
        reader,
        pace: Mutex::new(Pace::new(Instant::now())),
        end: Mutex::default(),
        programs: AtomicUsize::new(0),
    });
    shared.offer(cards);
    tell(&shared);
    let telling = Arc::clone(&shared);
    thread::Builder::new().spawn(move || keep_telling(&telling, &choice))?;
    let broken = listen(&shared, &mut ssh.channel);
    let reason = lock(&shared.end).take().or(broken);
    let ended = reason.is_none();
    let status = ssh.end(ended);
    let host = &shared.host;
    Err(Failure::new(
        Exit::Failed,
        match reason {
            Some(reason) => format!("{reason}; the cards are no longer available at {host}"),
            None => format!(
                "the connection to {host} has ended{status}; the cards are only available here again"
            ),
        },
    ))
}

/// The host's name, which is passed to ssh and shown.
fn host_name(host: &str) -> Result<String, Failure> {
    if host.is_empty() || host.starts_with('-') || printable(host) != host {
        return Err(Failure::usage("HOST must be a name that ssh accepts"));
    }
    if host.len() > MAX_NAME {
        return Err(Failure::usage(format!(
            "HOST must have at most {MAX_NAME} bytes"
        )));
    }
    Ok(host.to_owned())
}

/// Shows which cards are where, and how to end it.
fn tell(shared: &Shared) {
    let host = &shared.host;
    let cards = lock(&shared.cards);
    let names: Vec<String> = cards.values().map(|name| printable(name)).collect();
    let reader = if shared.reader {
        "; its card reader shows them to all its users"
    } else {
        ""
    };
    note(&format!(
        "{host} has {}{reader}; PINs are typed here; press Ctrl-C to take the cards back",
        names.join(", ")
    ));
}

/// Which cards are redirected.
enum Choice {
    /// All of this user's that are this machine's own.
    Own(u32),
    /// These ids.
    These(Vec<String>),
}

impl Choice {
    fn of(selectors: &[String], daemon: &mut Daemon) -> Result<Self, Failure> {
        if selectors.is_empty() {
            return Ok(Self::Own(Uid::effective().as_raw()));
        }
        let mut ids = Vec::new();
        for selector in selectors {
            let card = daemon.usable(selector)?.summary;
            if let Some(from) = card.from {
                let text = format!(
                    "card {} is redirected from {} and cannot be redirected again",
                    printable(&card.name),
                    printable(&from)
                );
                return Err(Failure::usage(text));
            }
            ids.push(card.card_id);
        }
        Ok(Self::These(ids))
    }

    /// Those that are here now.
    fn present(&self, daemon: &mut Daemon) -> Result<Vec<CardOverview>, Failure> {
        let list = daemon.cards()?;
        let (_, states) = collect(|from| {
            let request = Request::Cards(CardsRequest::States { from });
            match daemon.call(&request, "reading the cards")? {
                Reply::Overview(page) => Ok::<_, Failure>(page),
                _ => Err(Daemon::unexpected()),
            }
        })?;
        Ok(self.among(&list, states))
    }

    fn among(
        &self,
        list: &[cardea_client::message::CardSummary],
        states: Vec<CardOverview>,
    ) -> Vec<CardOverview> {
        let chosen = |id: &str| match self {
            Self::Own(uid) => list
                .iter()
                .any(|card| card.card_id == id && card.owner == *uid && card.from.is_none()),
            Self::These(ids) => ids.iter().any(|chosen| chosen == id),
        };
        let mut cards: Vec<_> = states
            .into_iter()
            .filter(|card| chosen(&card.card_id) && card.is_usable())
            .collect();
        cards.truncate(MAX_REDIRECTED);
        cards
    }
}

/// ssh, and our end of what it carries.
struct Ssh {
    child: Child,
    channel: Channel<Arc<UnixStream>>,
}

impl Ssh {
    fn start(arguments: &RedirectArguments) -> Result<Self, Failure> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let mut command = Command::new(&arguments.ssh);
        command
            .args(&arguments.ssh_options)
            // A network that is gone is noticed within a minute; ssh obeys the first setting that it sees.
            .args([
                "-T",
                "-o",
                "ServerAliveInterval=15",
                "-o",
                "ServerAliveCountMax=3",
            ])
            .args(["--", &arguments.host, &arguments.remote_command])
            .stdin(theirs.try_clone()?)
            .stdout(theirs);
        let child = command.spawn().map_err(|error| {
            let text = format!("cannot start {}: {error}", arguments.ssh.display());
            Failure::new(Exit::Failed, text)
        })?;
        // The other end is ssh's alone, so that we see when it goes.
        drop(command);
        Ok(Self {
            child,
            channel: Channel::new(Arc::new(ours)),
        })
    }

    /// Waits for it, or ends it. Returns how it ended, if that is of interest.
    fn end(mut self, by_itself: bool) -> String {
        drop(self.channel);
        if !by_itself {
            // It may have gone already.
            let _ = self.child.kill();
        }
        match self.child.wait().ok().and_then(|status| status.code()) {
            Some(0) | None => String::new(),
            Some(127) => " (cardea was not found there)".to_owned(),
            Some(255) => " (ssh failed)".to_owned(),
            Some(code) => format!(" (status {code})"),
        }
    }
}

/// Why the other machine did not take the cards.
enum Refusal {
    Frame(FrameError),
    /// Refused by its daemon, with a message.
    Said(String),
    Strange,
}

impl Refusal {
    fn told(self, host: &str, ssh: Ssh) -> Failure {
        let gone = matches!(
            self,
            Self::Frame(FrameError::Closed | FrameError::Truncated | FrameError::Io(_))
        );
        let status = ssh.end(gone);
        let text = match self {
            Self::Said(text) => format!("{host} refused the cards: {}", printable(&text)),
            Self::Frame(FrameError::Stranger {
                version: Some(version),
            }) => format!("{host} has another version of Cardea (protocol {version})"),
            Self::Frame(FrameError::TimedOut) => format!("{host} did not answer in time"),
            Self::Frame(_) if gone => format!("{host} did not take the cards{status}"),
            Self::Frame(_) | Self::Strange => format!(
                "unexpected output from {host}; does its shell print anything when it starts?"
            ),
        };
        Failure::new(Exit::Failed, text)
    }
}

/// Greets the daemon there and asks it to take cards; whether they will be in its reader.
fn greet(channel: &mut Channel<Arc<UnixStream>>, reader: bool) -> Result<bool, Refusal> {
    channel.greet(SIGN_IN_TIME).map_err(Refusal::Frame)?;
    let request = Request::Redirection(RedirectionRequest::Begin {
        from: own_name(),
        reader,
    });
    channel.send(&request).map_err(Refusal::Frame)?;
    match channel.receive(Some(ACCEPT_TIME), FRAME_TIME) {
        // What was not offered is not there, whatever the reply says.
        Ok(Reply::Redirected { reader: there }) => Ok(there && reader),
        Ok(Reply::Failed(failure)) => Err(Refusal::Said(failure.message)),
        Ok(_) => Err(Refusal::Strange),
        Err(error) => Err(Refusal::Frame(error)),
    }
}

/// `alice at laptop`.
fn own_name() -> String {
    let user = User::from_uid(Uid::current()).ok().flatten();
    let user = user.map_or_else(|| Uid::current().to_string(), |user| user.name);
    let host = gethostname().unwrap_or_default();
    let name = printable(&format!("{user} at {}", host.to_string_lossy()));
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default().to_owned()
}

/// What the threads of a redirection share.
struct Shared {
    host: String,
    /// This machine's daemon.
    socket: PathBuf,
    sending: Mutex<Channel<Arc<UnixStream>>>,
    stream: Arc<UnixStream>,
    /// Names of the cards that are redirected now, by their ids.
    cards: Mutex<HashMap<String, String>>,
    reader: bool,
    person: Person,
    pace: Mutex<Pace>,
    /// Why we have ended it.
    end: Mutex<Option<String>>,
    programs: AtomicUsize,
}

impl Shared {
    /// Ends the redirection; the first reason is reported.
    fn end(&self, why: String) {
        lock(&self.end).get_or_insert(why);
        // Threads that wait for the other machine wake up.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn send(&self, request: &Request) {
        if let Err(error) = lock(&self.sending).send(request) {
            match error {
                FrameError::Closed | FrameError::Io(_) => {}
                error => self.end(format!("{} does not accept replies: {error}", self.host)),
            }
        }
    }

    fn offer(&self, cards: Vec<CardOverview>) {
        let known = cards
            .iter()
            .map(|card| (card.card_id.clone(), card.name.clone()));
        *lock(&self.cards) = known.collect();
        self.send(&Request::Redirection(RedirectionRequest::Offer { cards }));
    }

    fn name(&self, card: &str) -> String {
        lock(&self.cards).get(card).cloned().unwrap_or_default()
    }
}

/// Sends the list of cards, when it changes and as a sign of life.
fn keep_telling(shared: &Shared, choice: &Choice) {
    let mut client = Client::new(&shared.socket);
    let mut generation = 0;
    let mut offered = Vec::new();
    while lock(&shared.end).is_none() {
        let wait = Request::Cards(CardsRequest::WaitStates {
            generation,
            timeout_ms: u32::try_from(SIGN_OF_LIFE.as_millis()).unwrap_or(u32::MAX),
        });
        let states = client.call(&wait, 2 * SIGN_OF_LIFE);
        let states = match states {
            Ok(Reply::Overview(page)) if !page.more => Ok((page.generation, page.entries)),
            _ => client.card_states(SIGN_OF_LIFE),
        };
        let listed = states.and_then(|states| Ok((states, client.cards(SIGN_OF_LIFE)?)));
        generation = match &listed {
            Ok(((now, _), _)) => *now,
            Err(_) => 0,
        };
        let failed = listed.is_err();
        let listed = listed.map(|((_, cards), list)| choice.among(&list, cards));
        offered = next_offer(offered, listed);
        shared.offer(offered.clone());
        if failed {
            thread::sleep(RETRY);
        }
    }
}

/// What is offered from now on. Without a daemon here there are no cards there; a list that could not be read is not an
/// empty one.
fn next_offer(
    offered: Vec<CardOverview>,
    listed: Result<Vec<CardOverview>, ClientError>,
) -> Vec<CardOverview> {
    match listed {
        Ok(cards) => cards,
        Err(error) if error.is_absent() => Vec::new(),
        Err(_) => offered,
    }
}

/// A program at the other end, and the thread that serves it.
struct Worker {
    requests: SyncSender<Request>,
    busy: Arc<AtomicBool>,
}

/// Serves until the end. The rule that the other machine has broken, if it has.
fn listen(shared: &Arc<Shared>, channel: &mut Channel<Arc<UnixStream>>) -> Option<String> {
    let host = &shared.host;
    let mut workers: HashMap<u32, Worker> = HashMap::new();
    loop {
        match channel.receive(None, FRAME_TIME) {
            Ok(Reply::Wanted { program, request }) => {
                let Ok(request) = exactly::<Request>(request.expose()) else {
                    return Some(format!("{host} sent an invalid request"));
                };
                if let Err(why) = wanted(shared, &mut workers, program, request) {
                    return Some(why);
                }
            }
            Ok(Reply::Released { program }) => drop(workers.remove(&program)),
            Ok(Reply::Failed(failure)) => {
                return Some(format!("{host} reports: {}", printable(&failure.message)));
            }
            Ok(_) => return Some(format!("{host} sent an unexpected reply")),
            Err(FrameError::Malformed(_) | FrameError::TooLong) => {
                return Some(format!("{host} sent an invalid message"));
            }
            Err(FrameError::TimedOut) => return Some(format!("{host} sent an incomplete message")),
            // The cause is another one, or the end of ssh.
            Err(_) => return None,
        }
    }
}

/// Passes a request to its program's worker.
fn wanted(
    shared: &Arc<Shared>,
    workers: &mut HashMap<u32, Worker>,
    program: u32,
    request: Request,
) -> Result<(), String> {
    let host = &shared.host;
    if let std::collections::hash_map::Entry::Vacant(place) = workers.entry(program) {
        if shared.programs.fetch_add(1, Ordering::Relaxed) >= 2 * MAX_PROGRAMS {
            return Err(format!(
                "{host} asked for more than {MAX_PROGRAMS} programs at once"
            ));
        }
        let (requests, queue) = sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let (own, flag) = (Arc::clone(shared), Arc::clone(&busy));
        let spawned = thread::Builder::new().spawn(move || {
            serve(&own, program, &queue, &flag);
            own.programs.fetch_sub(1, Ordering::Relaxed);
        });
        spawned
            .map_err(|error| format!("cannot start a thread for a program of {host}: {error}"))?;
        place.insert(Worker { requests, busy });
    }
    let count = workers.len();
    let worker = workers.get(&program);
    let worker = worker.ok_or_else(|| format!("{host} has no program {program}"))?;
    if count > MAX_PROGRAMS {
        return Err(format!(
            "{host} asked for more than {MAX_PROGRAMS} programs at once"
        ));
    }
    let early = worker.busy.swap(true, Ordering::AcqRel);
    match worker.requests.try_send(request) {
        Ok(()) if !early => Ok(()),
        Ok(()) | Err(TrySendError::Full(_)) => Err(format!(
            "{host} sent a request before the previous one was answered"
        )),
        Err(TrySendError::Disconnected(_)) => Err(format!("no thread for a program of {host}")),
    }
}

/// One program at the other end, until it is released. Its logins end with its connection.
fn serve(shared: &Shared, program: u32, requests: &Receiver<Request>, busy: &AtomicBool) {
    let mut local = Local::new(&shared.socket, &shared.host);
    for request in requests {
        let pause = lock(&shared.pace).next(Instant::now());
        thread::sleep(pause);
        let Some(reply) = answer(shared, &mut local, &request) else {
            return;
        };
        let content = packed(&reply)
            .or_else(|_| packed(&refused(FailureKind::Failed, "the reply is too long")));
        let Ok(reply) = content else { return };
        busy.store(false, Ordering::Release);
        shared.send(&Request::Redirection(RedirectionRequest::Answered {
            program,
            reply,
        }));
    }
}

/// `None`: the redirection has ended.
fn answer(shared: &Shared, local: &mut Local<'_>, request: &Request) -> Option<Reply> {
    let host = &shared.host;
    let offered = |id: &str| lock(&shared.cards).contains_key(id);
    let card = request.named_card().map_or("", CardName::as_str);
    let name = shared.name(card);
    let person = &shared.person;
    let answer = match guard::judge(request, local.guest(), offered, shared.reader) {
        Ok(Allowed::Asks) => Ok(local.ask(request)),
        Ok(Allowed::UsesKey) => match person.consents(local, (card, &name), request) {
            Ok(None) => Ok(local.ask(request)),
            Ok(Some(refusal)) => Ok(for_program(request, refusal)),
            Err(annoyed) => Err(annoyed),
        },
        Ok(Allowed::Login) => person.login(local, card, &name),
        Ok(Allowed::EnterPin) => {
            let seconds = match request {
                Request::Card {
                    request: CardRequest::EnterPin { seconds, .. },
                    ..
                } => *seconds,
                _ => 0,
            };
            person.enter_pin(local, (card, seconds), &name)
        }
        Err(Refused::Absent) => Ok(refused(
            FailureKind::Removed,
            "the card is no longer redirected",
        )),
        Err(Refused::Never(what)) => {
            shared.end(format!(
                "{host} asked for {what}, which redirected cards do not offer"
            ));
            return None;
        }
    };
    match answer {
        Ok(reply) => Some(reply),
        Err(_) => {
            shared.end(format!("{host} was refused several times in a row"));
            None
        }
    }
}

/// A program at the reader understands status words only: "conditions of use not met". After "security status not
/// satisfied" OpenSC 0.23 would take the PIN for what is missing, and ask again and again.
fn for_program(request: &Request, refusal: Reply) -> Reply {
    match request {
        Request::Card {
            request: CardRequest::Transmit { .. },
            ..
        } => Reply::Response(cardea_client::message::SecretBytes::new(vec![0x69, 0x85])),
        _ => refusal,
    }
}

/// Each change under these locks is complete at each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn hosts_are_names_and_never_options() {
        for host in ["dev1", "alice@dev1.example.org", "2001:db8::1"] {
            assert_eq!(host_name(host).unwrap(), host);
        }
        for wrong in ["", "-oProxyCommand=x", "a\nb", &"a".repeat(200)] {
            assert!(host_name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn cards_stay_offered_unless_there_is_no_daemon() {
        let card = CardOverview {
            card_id: "11".repeat(16),
            name: "work".to_owned(),
            state: cardea_client::message::CardState::Ready,
            reason: String::new(),
            uninitialised: false,
        };
        let offered = || vec![card.clone()];
        let unreachable = |kind: io::ErrorKind| ClientError::Unreachable {
            path: PathBuf::from("/run/cardea/cardea.sock"),
            source: kind.into(),
        };
        for (error, stays) in [
            (unreachable(io::ErrorKind::ConnectionRefused), false),
            (unreachable(io::ErrorKind::NotFound), false),
            // Too many open files, for example.
            (unreachable(io::ErrorKind::Other), true),
            (unreachable(io::ErrorKind::TimedOut), true),
            (ClientError::TimedOut, true),
        ] {
            let next = next_offer(offered(), Err(error));
            assert_eq!(!next.is_empty(), stays);
        }
        assert!(next_offer(offered(), Ok(Vec::new())).is_empty());
    }

    #[test]
    fn own_name_can_be_shown() {
        let name = own_name();
        assert!(name.contains(" at ") && name.len() <= MAX_NAME);
    }
}
