//! A user beside another one who uses the daemon as hard as it lets him: `cargo xtask bench --only neighbours`.
//!
//! The victim is a program with the PKCS#11 module and a P-256 key; a login is that of a program that starts.
//! Each attacker is another user, in processes that run while a processor has nothing else to do (SCHED_IDLE) and are
//! stopped and continued: a block alone and a block beside it alternate in one run.
//! Everything is printed as medians and ratios; nothing here passes or fails. Needs root.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "a benchmark tells on standard output and fails by panicking"
)]

#[path = "neighbours/attackers.rs"]
mod attackers;
#[path = "pkcs11/driver.rs"]
#[expect(dead_code, reason = "the other benchmark uses all of it")]
mod driver;
#[path = "pkcs11/statistics.rs"]
mod statistics;
#[path = "pkcs11/worker.rs"]
#[expect(dead_code, reason = "the other benchmark uses all of it")]
mod worker;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, KeyClass, NewContent, NewKey, Reply, Request,
    SecretBytes, TpmRequest,
};
use cardea_terms::KeyAlgorithm;
use cardea_testkit::bus::SystemBus;
use cardea_testkit::process::wait_for;
use cardea_testkit::rig::{Daemon, PIN, bin_dir};
use cardea_testkit::swtpm::Swtpm;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::attackers::ATTACKERS;
use crate::driver::Module;
use crate::statistics::{median, percentiles};
use crate::worker::{Worker, timed};

/// Users that every Debian has.
const VICTIM: u32 = 33;
const ATTACKER: u32 = 34;

const LABEL: &str = "victim";

/// Logins and signatures of a block.
const LOGINS: usize = 4;
const SIGNATURES: usize = 40;

/// An attacker that is continued is at work again in this time.
const CHANGE: Duration = Duration::from_millis(300);

/// From its start an attacker is at work in this time: longer than any RSA-3072 key takes.
const START: Duration = Duration::from_secs(180);

/// The TPM and the list of cards are free if the daemon answers about both in this time.
const AT_ONCE: Duration = Duration::from_millis(20);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--victim") => return serve(&arguments[2]),
        Some("--attacker") => return attackers::attack(&arguments[2..]),
        Some("--denied") => return attackers::be_denied(Path::new(&arguments[2])),
        _ => {}
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let rounds = if quick { 4 } else { 24 };
    let place = Place::start();
    println!("One RSA-3072 key takes {}.", place.longest_command(5));
    println!();
    println!(
        "| beside | signature alone p50 µs (p95) | beside p50 µs (p95) | ratio p50 | ratio p95 | login alone p50 µs (p95) | beside p50 µs (p95) | ratio p50 | ratio p95 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, text) in ATTACKERS {
        let named = |argument: &String| ATTACKERS.iter().any(|(name, _)| name == argument);
        if arguments.iter().any(named) && !arguments.iter().any(|argument| argument == name) {
            continue;
        }
        println!("| {text} | {} |", place.compare(name, rounds));
    }
}

/// A bus, a TPM, a daemon and a card for each of the two.
struct Place {
    daemon: Daemon,
    bus: SystemBus,
    programs: PathBuf,
    _tpm: Swtpm,
    folder: tempfile::TempDir,
}

impl Place {
    fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("cardea-neighbours")
            .tempdir()
            .unwrap();
        let open = || std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open()).unwrap();
        let programs = folder.path().join("bin");
        std::fs::create_dir(&programs).unwrap();
        // Where every user reaches them.
        let own = std::env::current_exe().unwrap();
        for (from, to) in [
            (own, "neighbours"),
            (bin_dir().join("libcardea_pkcs11.so"), "module.so"),
        ] {
            std::fs::copy(from, programs.join(to)).unwrap();
            std::fs::set_permissions(programs.join(to), open()).unwrap();
        }
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let bus = SystemBus::start(&folder.path().join("bus"), "");
        let place = folder.path().join("daemon");
        let daemon = Daemon::start_on_bus(&place, &tpm.address(), "", &bus.address());
        bus.await_service();
        let place = Self {
            daemon,
            bus,
            programs,
            _tpm: tpm,
            folder,
        };
        for (name, owner) in [(LABEL, VICTIM), (attackers::LABEL, ATTACKER)] {
            let content = NewContent::with_pin(SecretBytes::new(PIN.into()));
            let mut order = CreateCard::new(name, content);
            order.owner = Some(owner);
            place.ask(&Request::Cards(CardsRequest::Create(Box::new(order))));
            let key = CardRequest::GenerateKey {
                pin: Some(SecretBytes::new(PIN.into())),
                key: NewKey {
                    label: Some("ec".into()),
                    class: KeyClass::Session,
                    sign_only: false,
                    id: None,
                },
                algorithm: KeyAlgorithm::P256,
            };
            place.ask(&Request::card(name, key));
        }
        place
    }

    fn ask(&self, request: &Request) -> Reply {
        let mut client = Client::new(self.daemon.socket());
        let reply = client.call_with_progress(request, Duration::from_secs(120), &mut |_| {});
        match reply.unwrap() {
            Reply::Failed(failure) => panic!("{failure:?}"),
            reply => reply,
        }
    }

    /// What the TPM does in one piece at most.
    fn longest_command(&self, count: usize) -> String {
        let mut times: Vec<f64> = (0..count)
            .map(|_| {
                let time = timed(|| {
                    let made = self.ask(&attackers::large_key());
                    let Reply::Key(key) = made else {
                        panic!("{made:?}")
                    };
                    self.ask(&attackers::no_key(key.reference));
                });
                time.as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        format!(
            "{:.1} s (median of {count}; longest {:.1} s)",
            times[count / 2],
            times[count - 1]
        )
    }

    fn program(&self, uid: u32) -> Command {
        self.user(uid, Command::new(self.programs.join("neighbours")))
    }

    /// Which process has a processor is the scheduler's decision and not the daemon's.
    fn idle_program(&self, uid: u32) -> Command {
        let mut command = Command::new("chrt");
        command
            .args(["--idle", "0"])
            .arg(self.programs.join("neighbours"));
        self.user(uid, command)
    }

    fn user(&self, uid: u32, mut command: Command) -> Command {
        command
            .uid(uid)
            .gid(uid)
            .current_dir("/")
            .env("CARDEA_SOCKET", self.daemon.socket());
        command
    }

    /// Waits until nothing that an attacker has begun is left in the daemon, which makes an RSA-3072 key to its end.
    fn await_freedom(&self) {
        wait_for("the daemon is free again", || {
            let requests = [
                Request::Cards(CardsRequest::List { from: None }),
                Request::Tpm(TpmRequest::Status),
            ];
            requests
                .iter()
                .all(|request| timed(|| drop(self.ask(request))) < AT_ONCE)
        });
    }

    /// Blocks of the victim alone and beside an attacker.
    fn compare(&self, name: &str, rounds: usize) -> String {
        let module = self.programs.join("module.so");
        let mut victim = Worker::of(self.program(VICTIM).arg("--victim").arg(module));
        let order = format!("block {LOGINS} {SIGNATURES}");
        victim.ask(&order);
        let attacker = Attacker::start(self, name);
        let mut rows = [Row::default(), Row::default()];
        for round in 0..rounds {
            for turn in 0..2 {
                let beside = (round + turn) % 2;
                if beside == 1 {
                    attacker.signal(Signal::CONT);
                    std::thread::sleep(CHANGE);
                } else {
                    attacker.signal(Signal::STOP);
                    self.await_freedom();
                }
                rows[beside].add(victim.ask(&order));
            }
        }
        attacker.end(self);
        drop(victim);
        let [alone, beside] = &rows;
        let cells = |part: fn(&Row) -> &Vec<Vec<Duration>>| {
            let (alone, beside) = (part(alone), part(beside));
            let ((p50, p95), (p50_beside, p95_beside)) = (
                percentiles(&mut alone.concat()),
                percentiles(&mut beside.concat()),
            );
            let middle = |block: &Vec<Duration>| percentiles(&mut block.clone()).0;
            let ratios = alone.iter().zip(beside);
            let ratios = ratios.map(|(alone, beside)| middle(beside) / middle(alone));
            format!(
                "{p50:.0} ({p95:.0}) | {p50_beside:.0} ({p95_beside:.0}) | {:.2} | {:.2}",
                median(ratios.collect()),
                p95_beside / p95
            )
        };
        format!(
            "{} | {}",
            cells(|row| &row.signatures),
            cells(|row| &row.logins)
        )
    }
}

#[derive(Default)]
struct Row {
    logins: Vec<Vec<Duration>>,
    signatures: Vec<Vec<Duration>>,
}

impl Row {
    fn add(&mut self, mut block: Vec<Duration>) {
        self.signatures.push(block.split_off(LOGINS));
        self.logins.push(block);
    }
}

/// The attacker's processes.
struct Attacker {
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Attacker {
    /// Starts them, and waits until they are at work.
    fn start(place: &Place, name: &str) -> Self {
        let files = place.folder.path().join("files");
        attackers::prepare(name, &files, ATTACKER);
        let log = place.folder.path().join(format!("{name}.log"));
        let mut command = match name {
            "busy" => place.program(ATTACKER),
            _ => place.idle_program(ATTACKER),
        };
        let mut child = command
            .process_group(0)
            .arg("--attacker")
            .arg(name)
            .arg(place.daemon.socket())
            .arg(place.bus.address())
            .arg(&files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let attacker = Self {
            group: Pid::from_child(&child),
            child,
            log,
        };
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || sender.send(output.lines().next()));
        match said.recv_timeout(START) {
            Ok(Some(Ok(line))) if line == attackers::AT_WORK => attacker,
            other => panic!("{name} is not at work: {other:?}\n{}", attacker.log()),
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// It must have been at work until now. Waits until nothing of it is left in the daemon.
    fn end(mut self, place: &Place) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "it has ended: {ended:?}\n{}", self.log());
        drop(self);
        place.await_freedom();
    }

    fn signal(&self, signal: Signal) {
        kill_process_group(self.group, signal).unwrap();
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill_process_group(self.group, Signal::KILL);
        drop(self.child.wait());
    }
}

/// The victim: `block LOGINS SIGNATURES`.
fn serve(path: &str) {
    let module = Module::load(path);
    let mut session = None;
    worker::answer(|words| {
        let count = |at: usize| words[at].parse::<usize>().unwrap();
        let mut times = Vec::new();
        for _ in 0..count(1) {
            if session.take().is_some() {
                module.finalize();
            }
            times.push(timed(|| {
                module.initialize();
                let opened = module.open(module.slot(LABEL));
                module.login(opened, cryptoki_sys::CKU_USER, PIN).unwrap();
                session = Some(opened);
            }));
        }
        let session = session.unwrap();
        let key = module.key(session, "ec").unwrap();
        times.extend((0..count(2)).map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            timed(|| module.sign(session, key, false).unwrap())
        }));
        times
    });
    module.finalize();
}
