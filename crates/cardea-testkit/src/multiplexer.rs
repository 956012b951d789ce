//! Several clients on one software TPM, a record of what they said, and faults on the way.
//!
//! swtpm serves one connection at a time, and a daemon holds it for its life.
//! A [`Multiplexer`] holds that connection instead and listens on a socket of its own, on which any number
//! of clients speak raw TPM commands. One whole command with its response goes through at a time, in the
//! order of arrival, so that no client starves.
//!
//! **It is no resource manager** unless it is asked to be one ([`Multiplexer::manage_resources`]). Handles, sessions, persistent objects and the TPM's slots are shared by all
//! clients: one sees what another loaded, may flush it (a daemon does so with leftovers when it connects),
//! and takes room from it. Do not use two programs at once that both keep objects in the TPM, unless that is
//! what the test is about.
//!
//! An [`Interposer`] can be put in the way, which sees and changes all that passes; a [`Flaw`] makes the TPM
//! behave as one with older firmware, and a [`Part`] as a chip that people have.
//!
//! When the TPM goes away, all clients lose their connections, as they would have without the multiplexer; the
//! next one to connect finds the TPM that is there then.

mod client;
mod flaw;
mod interposer;
mod latency;
mod message;
mod part;
mod profile;
mod resource_manager;
mod upstream;

use std::fmt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::client::Clients;
pub use self::flaw::{Flaw, KnownCounter};
pub use self::interposer::{Interposer, Passage};
pub use self::latency::Latency;
pub use self::part::Part;
pub use self::profile::Profile;
use self::resource_manager::ResourceManager;
use self::upstream::Upstream;
use crate::process::Outcome;
use crate::swtpm::{Swtpm, initialise};
use crate::tpm2_tools::tpm2_tools;

/// A socket that many clients share, before the one connection of a software TPM.
pub struct Multiplexer {
    socket: PathBuf,
    jobs: Option<Sender<Job>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A command and what became of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Number of the client's connection, from 1; 0 is [`Multiplexer::transact`].
    pub client: u64,
    /// When it was the command's turn, since the multiplexer started.
    pub at: Duration,
    /// Until the answer was there.
    pub took: Duration,
    /// The whole command.
    pub command: Vec<u8>,
    /// Whether the TPM executed it as it came.
    pub executed: bool,
    /// What the client got; none if its connection was dropped.
    pub response: Option<Vec<u8>>,
}

impl Exchange {
    /// Command code (TPM 2.0 Part 2 §6.5.2).
    #[must_use]
    pub fn code(&self) -> u32 {
        code_of(&self.command)
    }

    /// Response code (TPM 2.0 Part 2 §6.6), if the client got one.
    #[must_use]
    pub fn response_code(&self) -> Option<u32> {
        self.response.as_deref().map(code_of)
    }
}

impl fmt::Debug for Exchange {
    /// Codes only: commands carry what the bus would show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} sent {:#x}", self.client, self.code())?;
        match self.response_code() {
            Some(code) => write!(f, ", got {code:#x}"),
            None => f.write_str(", was dropped"),
        }
    }
}

/// Which command a fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    code: Option<u32>,
    skip: u32,
}

impl Trigger {
    /// The next command of any client.
    #[must_use]
    pub fn next() -> Self {
        Self {
            code: None,
            skip: 0,
        }
    }

    /// The next command with this code.
    #[must_use]
    pub fn command(code: u32) -> Self {
        Self {
            code: Some(code),
            skip: 0,
        }
    }

    /// Not that one, but the one so many later of those that fit.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }
}

/// What happens to a command.
pub enum Fault {
    /// The TPM executes it and the response is changed.
    Change(Box<dyn FnOnce(Vec<u8>) -> Vec<u8> + Send>),
    /// The TPM executes it and the response comes later; the others wait too, as for a slow TPM.
    Delay(Duration),
    /// The client's connection is dropped; the TPM never sees the command.
    DropBefore,
    /// The TPM executes it; instead of the response the client's connection is dropped.
    DropAfter,
    /// The TPM never sees the command; the client gets this.
    Replace(Vec<u8>),
}

/// What the power does, with the commands that the platform sends around it
/// (TPM 2.0 Part 1 §12.2.3, startup types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerEvent {
    /// Cut without a warning, then Startup(CLEAR).
    Cut,
    /// Shutdown(CLEAR), Startup(CLEAR).
    Reset,
    /// Shutdown(STATE), Startup(CLEAR).
    Restart,
    /// Shutdown(STATE), Startup(STATE).
    Resume,
}

impl Multiplexer {
    /// Takes the TPM's one connection when the first client comes, and listens in `folder`, which is made. The TPM
    /// plays the part of this run, if there is one.
    ///
    /// # Panics
    ///
    /// When its sockets cannot be made.
    #[must_use]
    pub fn start(folder: &Path, tpm: &Swtpm) -> Self {
        let started = Self::start_bare(folder, tpm);
        if let Some(profile) = Profile::of_run() {
            started.play(Part::new(profile));
        }
        started
    }

    fn start_bare(folder: &Path, tpm: &Swtpm) -> Self {
        std::fs::create_dir_all(folder).expect("the folder is made");
        let socket = folder.join("mux");
        let control = control_of(&socket);
        let shared = Arc::new(Shared::new());
        let (jobs, queue) = channel();
        let dispatcher = Dispatcher {
            tpm: tpm.socket(),
            upstream: None,
            nature: Nature::Itself,
            latency: None,
            resources: None,
            shared: Arc::clone(&shared),
        };
        let listener = UnixListener::bind(&socket).expect("the socket is made");
        let control_listener = UnixListener::bind(&control).expect("the control socket is made");
        let threads = vec![
            std::thread::spawn(move || dispatcher.run(&queue)),
            std::thread::spawn({
                let (shared, jobs) = (Arc::clone(&shared), jobs.clone());
                move || client::accept(&listener, &shared, &jobs)
            }),
            std::thread::spawn({
                let (shared, upstream) = (Arc::clone(&shared), control_of(&tpm.socket()));
                move || client::relay_control(&control_listener, &upstream, &shared)
            }),
        ];
        Self {
            socket,
            jobs: Some(jobs),
            shared,
            threads,
        }
    }

    /// The socket of its clients; a control socket for TCTIs that want one is beside it with `.ctrl`.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its address for `--tpm`, from now on: as a software TPM's or as a resource manager's.
    #[must_use]
    pub fn address(&self) -> String {
        let kind = match self.shared.is_managed.load(Ordering::SeqCst) {
            true => "manager",
            false => "swtpm",
        };
        format!("{kind}:unix={}", self.socket.display())
    }

    /// Runs a program of tpm2-tools beside the other clients.
    #[must_use]
    pub fn tpm2(&self, program: &str, arguments: &[&str]) -> Outcome {
        tpm2_tools(&self.socket, program, arguments)
    }

    /// A command of the test's own; none when the TPM is away or a fault drops it.
    #[must_use]
    pub fn transact(&self, command: &[u8]) -> Option<Vec<u8>> {
        self.ask(|answer| Job::Command {
            client: 0,
            command: command.to_vec(),
            answer,
        })
        .flatten()
    }

    /// Power goes and comes, between two commands, and nobody's connection is dropped.
    ///
    /// # Panics
    ///
    /// When the TPM is away or refuses Shutdown or Startup.
    pub fn power(&self, event: PowerEvent) {
        self.ask(|done| Job::Power { event, done })
            .expect("the dispatcher runs")
            .unwrap_or_else(|problem| panic!("{event:?}: {problem}"));
    }

    /// Has a fault happen once. Several wait side by side; each command meets the first that fits.
    pub fn inject(&self, trigger: Trigger, fault: Fault) {
        self.shared.log().faults.push((trigger, fault));
    }

    /// Puts somebody between all clients and the TPM, in the place of whoever was there. Commands that meet a
    /// fault which keeps them from the TPM do not get that far; [`Self::transact`]'s do, as client 0's.
    pub fn interpose(&self, interposer: impl Interposer + 'static) {
        *self.shared.interposer() = Some(Box::new(interposer));
    }

    /// Ends that, after the command that is on its way.
    pub fn withdraw(&self) {
        *self.shared.interposer() = None;
    }

    /// Has the TPM behave as one with a flaw, or as itself again.
    ///
    /// # Panics
    ///
    /// When the multiplexer has ended.
    pub fn emulate(&self, flaw: Option<Flaw>) {
        self.become_another(flaw.map_or(Nature::Itself, Nature::Flawed));
    }

    /// Has the TPM behave as a part that people have, from now on and in whatever it does next. Its lockout is set up
    /// as that part's is, if nobody has set its authorisation.
    ///
    /// # Panics
    ///
    /// When the multiplexer has ended.
    pub fn play(&self, part: Part) {
        self.become_another(Nature::Part(Box::new(part)));
    }

    /// Has each command take as long as on a chip from now on, those of a resource manager too; or as long as it takes.
    ///
    /// # Panics
    ///
    /// When the multiplexer has ended.
    pub fn delay(&self, latency: Option<Latency>) {
        self.ask(|done| Job::Delay { latency, done })
            .expect("the dispatcher runs");
    }

    /// Keeps the objects and sessions of its clients apart from now on, as Linux does for those of `/dev/tpmrm0`.
    ///
    /// # Panics
    ///
    /// When the multiplexer has ended.
    pub fn manage_resources(&self) {
        self.ask(|done| Job::Manage { done })
            .expect("the dispatcher runs");
        self.shared.is_managed.store(true, Ordering::SeqCst);
    }

    fn become_another(&self, nature: Nature) {
        self.ask(|done| Job::Become { nature, done })
            .expect("the dispatcher runs");
    }

    /// Faults that have not happened yet.
    #[must_use]
    pub fn waiting_faults(&self) -> usize {
        self.shared.log().faults.len()
    }

    /// Every command since the start or since [`Self::forget_exchanges`].
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.log().exchanges.clone()
    }

    /// Begins the record anew.
    pub fn forget_exchanges(&self) {
        self.shared.log().exchanges.clear();
    }

    fn ask<T>(&self, job: impl FnOnce(Sender<T>) -> Job) -> Option<T> {
        let (sender, receiver) = channel();
        self.jobs.as_ref()?.send(job(sender)).ok()?;
        receiver.recv().ok()
    }
}

impl Drop for Multiplexer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.jobs = None;
        self.shared.clients.drop_all();
        // Wakes the two listeners, which then see the flag.
        drop(UnixStream::connect(&self.socket));
        drop(UnixStream::connect(control_of(&self.socket)));
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        // A program that another test is just starting may hold a copy of the listeners for a moment.
        drop(std::fs::remove_file(&self.socket));
        drop(std::fs::remove_file(control_of(&self.socket)));
    }
}

/// What a fault or a client asks of the thread that owns the TPM's connection.
enum Job {
    /// A client came: true if there is a TPM for it.
    Admit {
        admitted: Sender<bool>,
    },
    Command {
        client: u64,
        command: Vec<u8>,
        answer: Sender<Option<Vec<u8>>>,
    },
    Become {
        nature: Nature,
        done: Sender<()>,
    },
    Delay {
        latency: Option<Latency>,
        done: Sender<()>,
    },
    /// A client has gone.
    Leave {
        client: u64,
    },
    Manage {
        done: Sender<()>,
    },
    Power {
        event: PowerEvent,
        done: Sender<Result<(), String>>,
    },
}

struct Shared {
    started: Instant,
    stopping: AtomicBool,
    is_managed: AtomicBool,
    clients: Arc<Clients>,
    log: Mutex<Log>,
    /// Locked while it deals with a command.
    interposer: Mutex<Option<Box<dyn Interposer>>>,
}

#[derive(Default)]
struct Log {
    exchanges: Vec<Exchange>,
    faults: Vec<(Trigger, Fault)>,
}

impl Shared {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            is_managed: AtomicBool::new(false),
            clients: Arc::default(),
            log: Mutex::default(),
            interposer: Mutex::new(None),
        }
    }

    fn interposer(&self) -> MutexGuard<'_, Option<Box<dyn Interposer>>> {
        self.interposer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

impl Log {
    /// The fault that this command meets.
    fn fault_for(&mut self, command: &[u8]) -> Option<Fault> {
        let code = code_of(command);
        let mut met = None;
        for (at, (trigger, _)) in self.faults.iter_mut().enumerate() {
            if trigger.code.is_some_and(|wanted| wanted != code) {
                continue;
            }
            if trigger.skip > 0 {
                trigger.skip -= 1;
            } else if met.is_none() {
                met = Some(at);
            }
        }
        met.map(|at| self.faults.remove(at).1)
    }
}

/// As what the TPM behaves.
enum Nature {
    Itself,
    Flawed(Flaw),
    Part(Box<Part>),
}

struct Dispatcher {
    tpm: PathBuf,
    upstream: Option<Upstream>,
    nature: Nature,
    latency: Option<Latency>,
    resources: Option<ResourceManager>,
    shared: Arc<Shared>,
}

impl Dispatcher {
    fn run(mut self, queue: &Receiver<Job>) {
        for job in queue {
            match job {
                Job::Admit { admitted } => drop(admitted.send(self.upstream().is_some())),
                Job::Command {
                    client,
                    command,
                    answer,
                } => {
                    let response = self.execute(client, command);
                    drop(answer.send(response));
                }
                Job::Become { nature, done } => {
                    if let (Nature::Part(part), Some(tpm)) = (&nature, self.upstream()) {
                        part.set_up(&mut |command| tpm.transact(command));
                    }
                    self.nature = nature;
                    done.send(()).ok();
                }
                Job::Delay { latency, done } => {
                    self.latency = latency;
                    done.send(()).ok();
                }
                Job::Leave { client } => {
                    if let Some(mut resources) = self.resources.take() {
                        resources.leave(client, &mut |command| self.pass(client, command).1);
                        self.resources = Some(resources);
                    }
                }
                Job::Manage { done } => {
                    // Linux has done it before it has a device. A TPM that runs already refuses.
                    self.transact(&startup_type(STARTUP, CLEAR));
                    self.resources.get_or_insert_default();
                    done.send(()).ok();
                }
                Job::Power { event, done } => drop(done.send(self.power(event))),
            }
        }
    }

    /// The TPM's connection; a new one where the old one is over, whose clients are then gone already.
    fn upstream(&mut self) -> Option<&mut Upstream> {
        if self.upstream.as_ref().is_some_and(Upstream::over) {
            self.upstream = None;
        }
        if self.upstream.is_none() {
            self.upstream = Upstream::connect(&self.tpm, &self.shared.clients).ok();
            self.forget_contexts();
        }
        self.upstream.as_mut()
    }

    /// A command on its way to the TPM, whatever that behaves as.
    fn transact(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        let began = Instant::now();
        let mut nature = std::mem::replace(&mut self.nature, Nature::Itself);
        let response = self.upstream().and_then(|tpm| {
            let mut tpm = |command: &[u8]| tpm.transact(command);
            match &mut nature {
                Nature::Itself => tpm(command),
                Nature::Flawed(flaw) => flaw.transact(command, &mut tpm),
                Nature::Part(part) => part.transact(command, &mut tpm),
            }
        });
        self.nature = nature;
        if let (Some(latency), Some(response)) = (&mut self.latency, &response) {
            latency.wait(began, command, response);
        }
        response
    }

    /// What becomes of a command that no fault keeps from the TPM: whether the TPM executed it, and the answer.
    fn manage(&mut self, client: u64, command: &[u8]) -> (bool, Option<Vec<u8>>) {
        let Some(mut resources) = self.resources.take() else {
            return self.pass(client, command);
        };
        let response =
            resources.transact(client, command, &mut |command| self.pass(client, command).1);
        self.resources = Some(resources);
        (response.is_some(), response)
    }

    /// The same of a command on the bus.
    fn pass(&mut self, client: u64, command: &[u8]) -> (bool, Option<Vec<u8>>) {
        let shared = Arc::clone(&self.shared);
        let mut interposer = shared.interposer();
        let Some(interposer) = interposer.as_mut() else {
            let response = self.transact(command);
            return (response.is_some(), response);
        };
        let mut passage = Passage::new(self, command);
        let response = interposer.exchange(client, command, &mut passage);
        (passage.passed(), response)
    }

    fn execute(&mut self, client: u64, command: Vec<u8>) -> Option<Vec<u8>> {
        let begin = Instant::now();
        let fault = self.shared.log().fault_for(&command);
        let (executed, response) = match fault {
            Some(Fault::DropBefore) => (false, None),
            Some(Fault::Replace(response)) => (false, Some(response)),
            fault => {
                let (executed, response) = self.manage(client, &command);
                let response = match fault {
                    Some(Fault::Change(change)) => response.map(change),
                    Some(Fault::Delay(time)) => {
                        std::thread::sleep(time);
                        response
                    }
                    Some(Fault::DropAfter) => None,
                    _ => response,
                };
                (executed, response)
            }
        };
        self.shared.log().exchanges.push(Exchange {
            client,
            at: begin.duration_since(self.shared.started),
            took: begin.elapsed(),
            command,
            executed,
            response: response.clone(),
        });
        response
    }

    /// The TPM has lost its sessions.
    fn forget_contexts(&mut self) {
        if let Some(resources) = &mut self.resources {
            resources.restart();
        }
        if let Nature::Part(part) = &mut self.nature {
            part.restart();
        }
    }

    fn power(&mut self, event: PowerEvent) -> Result<(), String> {
        let (shutdown, startup) = match event {
            PowerEvent::Cut => (None, CLEAR),
            PowerEvent::Reset => (Some(CLEAR), CLEAR),
            PowerEvent::Restart => (Some(STATE), CLEAR),
            PowerEvent::Resume => (Some(STATE), STATE),
        };
        let control = control_of(&self.tpm);
        let tpm = self.upstream().ok_or("the TPM is away")?;
        if let Some(shutdown) = shutdown {
            tpm.succeed("Shutdown", &startup_type(SHUTDOWN, shutdown))?;
        }
        initialise(&control).map_err(|error| format!("initialisation: {error}"))?;
        tpm.succeed("Startup", &startup_type(STARTUP, startup))?;
        if shutdown != Some(STATE) {
            self.forget_contexts();
        } else if let Nature::Part(part) = &mut self.nature {
            part.recover();
        }
        Ok(())
    }
}

const STARTUP: u32 = 0x144;
const SHUTDOWN: u32 = 0x145;
const CLEAR: u16 = 0;
const STATE: u16 = 1;

/// Startup or Shutdown (TPM 2.0 Part 3 §9.3, §9.4).
fn startup_type(code: u32, kind: u16) -> Vec<u8> {
    let mut command = vec![0x80, 0x01, 0, 0, 0, 12];
    command.extend_from_slice(&code.to_be_bytes());
    command.extend_from_slice(&kind.to_be_bytes());
    command
}

/// Code of a command or response.
fn code_of(message: &[u8]) -> u32 {
    message
        .get(6..10)
        .and_then(|code| code.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

/// The control socket's place as the swtpm TCTI computes it.
fn control_of(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".ctrl");
    path.into()
}

#[cfg(test)]
mod tests;
