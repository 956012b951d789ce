//! The PKCS#11 module beside tpm2-pkcs11 and the bare TPM command: `cargo xtask bench`.
//!
//! Each of the three has a software TPM of its own, of the same binary; blocks alternate in one run, and their
//! order rotates. The floor is TPM2_Sign with a loaded key and an empty password, timed between sending and
//! receiving. The modules are in processes of their own.
//! `--against FOLDER` compares with another build of ours instead (`against`).
//! Everything is printed as medians and ratios; nothing here passes or fails.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "a benchmark tells on standard output and fails by panicking"
)]

#[path = "pkcs11/against.rs"]
mod against;
#[path = "pkcs11/driver.rs"]
mod driver;
#[path = "pkcs11/floor.rs"]
mod floor;
#[path = "pkcs11/statistics.rs"]
mod statistics;
#[path = "pkcs11/worker.rs"]
mod worker;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, NewContent, NewKey, Reply, Request, SecretBytes,
};
use cardea_terms::KeyAlgorithm;
use cardea_testkit::multiplexer::Multiplexer;
use cardea_testkit::rig::{Daemon, PIN, bin_dir};
use cardea_testkit::swtpm::Swtpm;

use crate::driver::Module;
use crate::floor::Floor;
use crate::statistics::{median, percentiles};
use crate::worker::{Worker, first_signature, timed};

const LABEL: &str = "bench";

const PEER: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--worker") => return worker::serve(&arguments[2], &arguments[3]),
        Some("--once") => return worker::once(&arguments[2], &arguments[3]),
        Some("--make") => return make(&arguments[2]),
        Some("--reader") => return against::serve_reader(&arguments[2..]),
        _ => {}
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let part = if quick { 1 } else { 10 };
    let mut rest = arguments.iter().skip_while(|word| *word != "--against");
    if let Some(folder) = rest.nth(1) {
        return against::run(Path::new(folder), part);
    }
    if !Path::new(PEER).exists() {
        println!("tpm2-pkcs11 is not there and left out: apt-get install libtpm2-pkcs11-1");
        println!();
    }
    let folder = tempfile::tempdir().unwrap();
    let floor = Floor::start(&folder.path().join("floor"));
    let mut cards = Cards::start(&folder.path().join("cards"));
    let peer = Path::new(PEER)
        .exists()
        .then(|| Peer::start(&folder.path().join("peer")));
    // The tables that were asked for, or all.
    let names = ["single", "many", "starts"];
    let wanted = |name: &str| {
        let asked = |name: &str| arguments.iter().any(|argument| argument == name);
        asked(name) || !names.into_iter().any(asked)
    };
    if wanted("single") {
        single(&floor, &cards, peer.as_ref(), part);
    }
    if wanted("many") {
        many(&floor, &cards, peer.as_ref(), part);
    }
    if wanted("starts") {
        starts(&floor, &mut cards, peer.as_ref(), part);
        turns(&cards, part);
        sizes();
    }
}

/// Our daemon.
struct Cards {
    daemon: Daemon,
    _tpm: Swtpm,
    made: usize,
}

impl Cards {
    fn start(folder: &Path) -> Self {
        let tpm = Swtpm::start(&folder.join("tpm"));
        let daemon = Daemon::start(&folder.join("daemon"), &tpm.address(), "");
        let mut cards = Self {
            daemon,
            _tpm: tpm,
            made: 0,
        };
        cards.create(LABEL);
        for (label, algorithm) in [("rsa", KeyAlgorithm::Rsa2048), ("ec", KeyAlgorithm::P256)] {
            cards.generate(LABEL, label, algorithm);
        }
        cards
    }

    fn ask(&self, request: &Request) -> Reply {
        let mut client = Client::new(self.daemon.socket());
        let limit = Duration::from_secs(60);
        let reply = client.call_with_progress(request, limit, &mut |_| {});
        reply.unwrap()
    }

    fn create(&mut self, name: &str) {
        let content = NewContent::with_pin(SecretBytes::new(PIN.into()));
        let reply = self.ask(&Request::Cards(CardsRequest::Create(Box::new(
            CreateCard::new(name, content),
        ))));
        assert!(matches!(reply, Reply::Card(_)), "{reply:?}");
        self.made += 1;
    }

    fn generate(&self, card: &str, label: &str, algorithm: KeyAlgorithm) {
        let reply = self.ask(&Request::card(
            card,
            CardRequest::GenerateKey {
                pin: Some(SecretBytes::new(PIN.into())),
                key: NewKey {
                    label: Some(label.into()),
                    class: cardea_client::message::KeyClass::Session,
                    sign_only: false,
                    id: None,
                },
                algorithm,
            },
        ));
        assert!(matches!(reply, Reply::Key(_)), "{reply:?}");
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("CARDEA_SOCKET", self.daemon.socket().display().to_string())]
    }

    fn worker(&self) -> Worker {
        Worker::start(&self.environment(), &ours(), LABEL)
    }
}

fn ours() -> String {
    bin_dir().join("libcardea_pkcs11.so").display().to_string()
}

/// tpm2-pkcs11 with a token and the same keys.
struct Peer {
    environment: Vec<(&'static str, String)>,
    tpm: Swtpm,
}

impl Peer {
    fn start(folder: &Path) -> Self {
        let tpm = Swtpm::start(&folder.join("tpm"));
        // Firmware sends it before tpm2-pkcs11 comes.
        send(&tpm.socket(), STARTUP);
        std::fs::create_dir_all(folder.join("store")).unwrap();
        let peer = Self {
            environment: environment(folder, &tpm.socket()),
            tpm,
        };
        // One thing in each process: without a resource manager it leaves objects behind until its end.
        for what in ["token", "rsa", "ec"] {
            let own = std::env::current_exe().unwrap();
            let mut child = std::process::Command::new(own);
            let environment = peer.environment.iter().map(|(name, value)| (name, value));
            let status = child.envs(environment).args(["--make", what]).status();
            assert!(status.unwrap().success());
        }
        peer
    }

    fn worker(&self) -> Worker {
        // What earlier processes have left in the TPM goes, as with a resource manager. In order, as the TPM takes
        // anything else for an attack.
        send(&self.tpm.socket(), SHUTDOWN);
        self.tpm.reset();
        send(&self.tpm.socket(), STARTUP);
        Worker::start(&self.environment, PEER, LABEL)
    }
}

/// TPM2_Startup and TPM2_Shutdown (CLEAR).
const STARTUP: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];
const SHUTDOWN: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x45, 0, 0];

fn send(socket: &Path, command: [u8; 12]) {
    let mut tpm = UnixStream::connect(socket).unwrap();
    tpm.write_all(&command).unwrap();
    let mut response = [0; 10];
    tpm.read_exact(&mut response).unwrap();
    assert_eq!(response[6..], [0; 4]);
}

fn environment(folder: &Path, socket: &Path) -> Vec<(&'static str, String)> {
    vec![
        (
            "TPM2_PKCS11_STORE",
            folder.join("store").display().to_string(),
        ),
        (
            "TPM2_PKCS11_TCTI",
            format!("swtpm:path={}", socket.display()),
        ),
        ("TPM2_PKCS11_LOG_LEVEL", "0".into()),
        ("TSS2_LOG", "all+none".into()),
    ]
}

/// Makes the token of tpm2-pkcs11 or one of its keys, in a process that has its environment.
fn make(what: &str) {
    let module = Module::load(PEER);
    module.initialize();
    if what == "token" {
        module.personalise(LABEL, PIN);
    } else {
        let session = module.open(module.slot(LABEL));
        module.login(session, cryptoki_sys::CKU_USER, PIN).unwrap();
        module.generate(session, what, what == "rsa");
    }
    module.finalize();
}

/// One thread of one program.
fn single(floor: &Floor, cards: &Cards, peer: Option<&Peer>, part: usize) {
    println!(
        "| one thread | floor p50 µs (p95) | Cardea p50 µs (p95) | ratio | tpm2-pkcs11 p50 µs (p95) | ratio | at most |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut rsa_floor = 0.0;
    for (label, name, block, pause, limit) in [
        ("rsa", "C_Sign, RSA-2048, 1 ms apart", 4, 1, "1.05"),
        ("rsa", "C_Sign, RSA-2048, back to back", 4, 0, "1.05"),
        ("ec", "C_Sign, P-256, 1 ms apart", 12, 1, "1.15"),
        ("ec", "C_Sign, P-256, back to back", 12, 0, "1.15"),
    ] {
        // A new one each: without a resource manager tpm2-pkcs11 has no room for both keys.
        let mut our = cards.worker();
        let mut their = peer.map(Peer::worker);
        let order = format!("sign {label} {block} {pause}");
        let their_order = format!("sign {label} {} {pause}", block / 4);
        let mut rows = [Blocks::default(), Blocks::default(), Blocks::default()];
        our.ask(&order);
        for round in 0..20 * part {
            for turn in 0..3 {
                let who = (round + turn) % 3;
                rows[who].add(match who {
                    0 => (0..block)
                        .map(|_| {
                            std::thread::sleep(Duration::from_millis(pause));
                            floor.sign(label)
                        })
                        .collect(),
                    1 => our.ask(&order),
                    _ => their
                        .as_mut()
                        .map_or_else(Vec::new, |worker| worker.ask(&their_order)),
                });
            }
        }
        let [bare, ours, theirs] = rows;
        let (p50, p95) = bare.percentiles();
        println!(
            "| {name} | {p50:.0} ({p95:.0}) | {} | {} | {limit} |",
            ours.told(&bare, 3),
            theirs.told(&bare, 2)
        );
        if label == "rsa" {
            rsa_floor = p50;
        }
    }
    let mut our = cards.worker();
    let mut their = peer.map(Peer::worker);
    let cold = our.ask("cold")[0];
    let their_cold = their.as_mut().map(|worker| worker.ask("cold")[0]);
    let order = format!("login {}", 5 * part);
    let (mut ours, mut theirs) = (our.ask(&order), Vec::new());
    theirs.extend(their.iter_mut().flat_map(|worker| worker.ask(&order)));
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "| C_Login, cold (floor: one RSA signature) | {rsa_floor:.0} | {:.0} | {:.2} | {} | 1.5 |",
        micros(cold),
        micros(cold) / rsa_floor,
        told(
            their_cold.map(|time| (micros(time), micros(time))),
            rsa_floor
        )
    );
    let (warm, warm95) = percentiles(&mut ours);
    let theirs = (!theirs.is_empty()).then(|| percentiles(&mut theirs));
    println!(
        "| C_Login, warm | {rsa_floor:.0} | {warm:.0} ({warm95:.0}) | {:.2} | {} | |",
        warm / rsa_floor,
        told(theirs, rsa_floor)
    );
    println!();
    drop((our, their));
    commands();
}

/// What one of those compared has measured, a block in each round.
///
/// A machine's speed changes while they are compared: ratios are between the blocks of one round, which are next
/// to each other in time, and what is told is their median.
#[derive(Default)]
struct Blocks(Vec<Vec<Duration>>);

impl Blocks {
    fn add(&mut self, block: Vec<Duration>) {
        if !block.is_empty() {
            self.0.push(block);
        }
    }

    fn percentiles(&self) -> (f64, f64) {
        percentiles(&mut self.0.concat())
    }

    /// Cells with median and 95th percentile, and the ratio to the floor.
    fn told(&self, floor: &Self, digits: usize) -> String {
        if self.0.is_empty() {
            return "– | –".into();
        }
        let rounds = self.0.iter().zip(&floor.0);
        let ratio = median(
            rounds
                .map(|(ours, bare)| {
                    percentiles(&mut ours.clone()).0 / percentiles(&mut bare.clone()).0
                })
                .collect(),
        );
        let (p50, p95) = self.percentiles();
        format!("{p50:.0} ({p95:.0}) | {ratio:.digits$}")
    }
}

fn told(measured: Option<(f64, f64)>, floor: f64) -> String {
    match measured {
        Some((p50, p95)) => format!("{p50:.0} ({p95:.0}) | {:.2}", p50 / floor),
        None => "– | –".into(),
    }
}

/// TPM commands of a warm login, counted before the TPM: in another daemon, as counting takes time.
fn commands() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let recorder = Multiplexer::start(&folder.path().join("recorder"), &tpm);
    let daemon = Daemon::start(&folder.path().join("daemon"), &recorder.address(), "");
    let mut counted = Cards {
        daemon,
        _tpm: tpm,
        made: 0,
    };
    counted.create(LABEL);
    counted.generate(LABEL, "ec", KeyAlgorithm::P256);
    let mut worker = counted.worker();
    worker.ask("sign ec 3 0");
    recorder.forget_exchanges();
    worker.ask("login 10");
    let logins = recorder.exchanges().len() as f64 / 10.0;
    recorder.forget_exchanges();
    worker.ask("sign ec 10 0");
    let signatures = recorder.exchanges().len() as f64 / 10.0;
    println!("| TPM commands | Cardea | at most |");
    println!("|---|---|---|");
    println!("| C_Logout and C_Login, warm (3 for C_Login alone) | {logins:.1} | |");
    println!("| C_Sign, back to back | {signatures:.1} | 2 |");
    println!();
}

/// Threads and processes at once.
fn many(floor: &Floor, cards: &Cards, peer: Option<&Peer>, part: usize) {
    println!(
        "| at once | floor 1/s | Cardea 1/s | share | p95 over 8 (4) × single p50 | failed | tpm2-pkcs11 share | failed | at least, at most |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (label, name, each, limit) in [
        ("rsa", "RSA-2048", 5_usize, "95 %, 1.3"),
        ("ec", "P-256", 25, "90 %, 1.3"),
    ] {
        let mut single = cards.worker();
        let mut threads = cards.worker();
        let mut processes: Vec<Worker> = (0..4).map(|_| cards.worker()).collect();
        let mut their = peer.map(Peer::worker);
        let alone = format!("sign {label} {} 0", 2 * each);
        let eight = format!("threads {label} 8 {each}");
        let four = format!("sign {label} {} 0", 2 * each);
        let their_eight = format!("threads {label} 8 {}", each.div_ceil(8));
        let mut crowds = [const { Vec::new() }; 3];
        for round in 0..4 * part {
            for turn in 0..3 {
                let who = (round + turn) % 3;
                let before = rate(floor, label, 2 * each);
                let crowd = match who {
                    0 => Crowd::of(&threads.ask(&eight)),
                    1 => together(&mut processes, &four),
                    _ => match &mut their {
                        Some(worker) => Crowd::of(&worker.ask(&their_eight)),
                        None => continue,
                    },
                };
                crowds[who].push(Measured {
                    crowd,
                    floor: (before + rate(floor, label, 2 * each)) / 2.0,
                    single: percentiles(&mut single.ask(&alone)).0,
                });
            }
        }
        let [threads, processes, theirs] = crowds;
        print_crowd(&format!("8 threads, {name}"), 8.0, &threads, &theirs, limit);
        print_crowd(&format!("4 processes, {name}"), 4.0, &processes, &[], limit);
    }
    println!();
}

/// The bare TPM's signatures in a second.
fn rate(floor: &Floor, label: &str, count: usize) -> f64 {
    let whole = timed(|| {
        (0..count).for_each(|_| {
            floor.sign(label);
        });
    });
    count as f64 / whole.as_secs_f64()
}

/// Several processes at once.
fn together(workers: &mut [Worker], order: &str) -> Crowd {
    let mut times = vec![Duration::ZERO];
    times[0] = timed(|| {
        workers.iter_mut().for_each(|worker| worker.send(order));
        for worker in workers {
            times.extend(worker.receive());
        }
    });
    Crowd::of(&times)
}

/// A crowd, and between what it was measured: the floor before and after it, and one thread alone.
struct Measured {
    crowd: Crowd,
    /// Signatures in a second.
    floor: f64,
    /// Median in microseconds.
    single: f64,
}

impl Measured {
    fn share(&self) -> f64 {
        100.0 * self.crowd.rate / self.floor
    }
}

/// What several did at once.
struct Crowd {
    rate: f64,
    p95: f64,
    failed: usize,
}

impl Crowd {
    fn of(times: &[Duration]) -> Self {
        let (whole, each) = times.split_first().unwrap();
        let mut done: Vec<Duration> = each
            .iter()
            .copied()
            .filter(|time| !time.is_zero())
            .collect();
        let failed = each.len() - done.len();
        let rate = done.len() as f64 / whole.as_secs_f64();
        let p95 = if done.is_empty() {
            0.0
        } else {
            percentiles(&mut done).1
        };
        Self { rate, p95, failed }
    }
}

fn print_crowd(name: &str, size: f64, ours: &[Measured], peer: &[Measured], limit: &str) {
    let failed = |all: &[Measured]| all.iter().map(|one| one.crowd.failed).sum::<usize>();
    let middle = |value: fn(&Measured) -> f64| median(ours.iter().map(value).collect());
    let peer = if peer.is_empty() {
        "– | –".into()
    } else {
        let share = median(peer.iter().map(Measured::share).collect());
        format!("{share:.0} % | {}", failed(peer))
    };
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} % | {:.2} | {} | {peer} | {limit} |",
        middle(|one| one.floor),
        middle(|one| one.crowd.rate),
        middle(Measured::share),
        middle(|one| one.crowd.p95 / one.single) / size,
        failed(ours)
    );
}

/// From the start of a process to its first signature.
fn starts(floor: &Floor, cards: &mut Cards, peer: Option<&Peer>, part: usize) {
    println!(
        "| process start to first RSA signature | p50 ms (p95) | over the floor ms | at most |"
    );
    println!("|---|---|---|---|");
    let mut bare: Vec<Duration> = (0..3 * part).map(|_| floor.sign("rsa")).collect();
    let bare = percentiles(&mut bare).0;
    let print = |name: &str, mut times: Vec<Duration>| {
        let (p50, p95) = percentiles(&mut times);
        println!(
            "| {name} | {:.1} ({:.1}) | {:.1} | 8 |",
            p50 / 1000.0,
            p95 / 1000.0,
            (p50 - bare) / 1000.0
        );
    };
    let measure = |cards: &Cards| {
        let environment = cards.environment();
        (0..3 * part)
            .map(|_| first_signature(&environment, &ours(), LABEL))
            .collect::<Vec<_>>()
    };
    if let Some(peer) = peer {
        let times = (0..3 * part)
            .map(|_| first_signature(&peer.environment, PEER, LABEL))
            .collect();
        print("tpm2-pkcs11", times);
    }
    print("1 card, 2 keys", measure(cards));
    for number in 0..28 {
        cards.generate(LABEL, &format!("key-{number}"), KeyAlgorithm::P256);
    }
    print("1 card, 30 keys", measure(cards));
    let one = cards.daemon.resident_memory();
    for total in [10, 100] {
        while cards.made < total {
            let name = format!("card {}", cards.made);
            cards.create(&name);
        }
        print(&format!("{total} cards, 30 keys"), measure(cards));
    }
    let hundred = cards.daemon.resident_memory();
    println!();
    println!(
        "The daemon has {one} KiB in memory with 1 card of 30 keys, {hundred} KiB with 100 cards."
    );
    println!();
}

/// More keys than the TPM holds, in turn.
fn turns(cards: &Cards, part: usize) {
    let mut worker = cards.worker();
    worker.ask("turn 28 1");
    let mut times = worker.ask(&format!("turn 28 {part}"));
    let (p50, p95) = percentiles(&mut times);
    println!(
        "28 P-256 keys of a card in turn: {p50:.0} µs (p95 {p95:.0}), none of {} failed.",
        times.len()
    );
    println!();
}

/// What the module costs before it does anything.
fn sizes() {
    let size = std::fs::metadata(ours()).unwrap().len();
    let mut loads: Vec<Duration> = (0..50)
        .map(|_| timed(|| drop(Module::load(&ours()))))
        .collect();
    let (load, load95) = percentiles(&mut loads);
    println!(
        "The module has {} KiB and is loaded and unloaded in {load:.0} µs (p95 {load95:.0}).",
        size / 1024
    );
}
