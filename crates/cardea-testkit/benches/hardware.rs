//! What a person waits for on a chip: `cargo xtask bench --only hardware`.
//!
//! A software TPM whose commands take as long as a model of a chip says (`models/*.toml`), behind an emulation of the
//! kernel's resource manager, whose swapping takes its time too, and without one. Times are therefore the model's, and
//! hardly depend on the machine that this runs on. Nothing here passes or fails.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "a benchmark tells on standard output and fails by panicking"
)]

#[path = "pkcs11/driver.rs"]
mod driver;
#[path = "pkcs11/worker.rs"]
mod worker;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, KeyClass, NewContent, NewKey, Reply, Request,
    SecretBytes,
};
use cardea_terms::KeyAlgorithm;
use cardea_testkit::multiplexer::{Latency, Multiplexer};
use cardea_testkit::rig::{Daemon, PIN, bin_dir};
use cardea_testkit::swtpm::Swtpm;

use crate::driver::Module;
use crate::worker::{Worker, first_signature};

const LABEL: &str = "bench";

const PEER: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so";

/// Longer than any chip takes to prepare the next signature.
const PAUSE: u64 = 700;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("--worker") => return worker::serve(&arguments[2], &arguments[3]),
        Some("--once") => return worker::once(&arguments[2], &arguments[3]),
        Some("--make") => return make(&arguments[2]),
        Some("--pipe") => return pipe(&arguments[2]),
        _ => {}
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let rounds = if quick { 3 } else { 9 };
    let has_peer = Path::new(PEER).exists();
    if !has_peer {
        println!("tpm2-pkcs11 is not there and left out: apt-get install libtpm2-pkcs11-1");
        println!();
    }
    let models = Latency::names().map(Latency::named);
    let measured: Vec<Measured> = models
        .map(|model| Measured::of(model, rounds, has_peer))
        .collect();
    signatures(&measured);
    waits(&measured);
}

/// Milliseconds on one chip.
struct Measured {
    model: Latency,
    managed: Times,
    direct: Times,
    peer: Option<Times>,
    /// A card made, an RSA-2048 key made, PIN included, and from a start of the daemon to the first signature.
    orders: [f64; 3],
}

/// Of one module.
struct Times {
    rsa: f64,
    ec: f64,
    login: f64,
    process: f64,
}

impl Measured {
    fn of(model: Latency, rounds: usize, has_peer: bool) -> Self {
        let mut managed = Cards::start(true);
        let managed_times = managed.measure(&model, rounds);
        let orders = managed.orders(&model);
        drop(managed);
        let direct = Cards::start(false).measure(&model, rounds);
        Self {
            managed: managed_times,
            direct,
            peer: has_peer.then(|| Peer::start().measure(&model, rounds)),
            orders,
            model,
        }
    }
}

/// Warm signatures beside the least that the model takes.
fn signatures(measured: &[Measured]) {
    println!(
        "| warm C_Sign | through | one key and one session, ms | with the session's HMAC | Cardea, ms | ratio | ratio | tpm2-pkcs11, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for it in measured {
        let model = &it.model;
        let row = |row: &str| model.row(row);
        let swaps = row("object_load")
            + row("object_save")
            + row("flush")
            + row("session_load")
            + row("session_save");
        let hmac = row("session_hmac");
        type Pick = fn(&Times) -> f64;
        let keys: [(&str, f64, Pick); 2] = [
            ("RSA-2048", row("sign_rsa_2048"), |times| times.rsa),
            ("P-256", row("sign_p256"), |times| times.ec),
        ];
        for (key, sign, pick) in keys {
            for (through, floor, ours) in [
                ("manager", sign + swaps, pick(&it.managed)),
                ("chip", sign, pick(&it.direct)),
            ] {
                let theirs = match (through, &it.peer) {
                    ("manager", Some(peer)) => format!("{:.0}", pick(peer)),
                    _ => String::new(),
                };
                println!(
                    "| {}, {key} | {through} | {floor:.0} | {:.0} | {ours:.0} | {:.2} | {:.2} | {theirs} |",
                    model.name,
                    floor + hmac,
                    ours / floor,
                    ours / (floor + hmac),
                );
            }
        }
    }
    println!();
}

/// What else is waited for, behind the resource manager.
fn waits(measured: &[Measured]) {
    println!(
        "| ms | C_Login: Cardea, tpm2-pkcs11 | ratio | process to first RSA signature: Cardea, tpm2-pkcs11 | ratio | the same after a start of the daemon | card made | RSA-2048 key made: all, the command |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for it in measured {
        let ours = &it.managed;
        let beside = |ours: f64, theirs: Option<f64>| match theirs {
            Some(theirs) => (
                format!("{ours:.0}, {theirs:.0}"),
                format!("{:.2}", ours / theirs),
            ),
            None => (format!("{ours:.0}"), String::new()),
        };
        let (login, login_ratio) = beside(ours.login, it.peer.as_ref().map(|peer| peer.login));
        let (process, process_ratio) =
            beside(ours.process, it.peer.as_ref().map(|peer| peer.process));
        let [card, key, cold] = it.orders;
        println!(
            "| {} | {login} | {login_ratio} | {process} | {process_ratio} | {cold:.0} | {card:.0} | {key:.0}, {:.0} |",
            it.model.name,
            it.model.row("create_rsa_2048"),
        );
    }
}

/// Medians of what a module's workers say.
fn times(environment: &[(&'static str, String)], module: &str, rounds: usize) -> Times {
    let mut worker = Worker::start(environment, module, LABEL);
    let mut sign = |key: &str| {
        worker.ask(&format!("sign {key} 1 0"));
        median(worker.ask(&format!("sign {key} {rounds} {PAUSE}")))
    };
    let (rsa, ec) = (sign("rsa"), sign("ec"));
    let login = median(worker.ask(&format!("login {rounds}")));
    drop(worker);
    let process = (0..rounds.min(5))
        .map(|_| {
            // What the last one has left to do is done.
            std::thread::sleep(Duration::from_millis(2 * PAUSE));
            first_signature(environment, module, LABEL)
        })
        .collect();
    Times {
        rsa,
        ec,
        login,
        process: median(process),
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Our daemon, with a card that has two keys.
struct Cards {
    daemon: Daemon,
    tpm: Multiplexer,
    _chip: Swtpm,
    _folder: tempfile::TempDir,
}

impl Cards {
    fn start(managed: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chip = Swtpm::start(&folder.path().join("tpm"));
        let tpm = Multiplexer::start(&folder.path().join("mux"), &chip);
        if managed {
            tpm.manage_resources();
        }
        let daemon = Daemon::start(&folder.path().join("daemon"), &tpm.address(), "");
        let cards = Self {
            daemon,
            tpm,
            _chip: chip,
            _folder: folder,
        };
        cards.create(LABEL);
        cards.generate("rsa", KeyAlgorithm::Rsa2048);
        cards.generate("ec", KeyAlgorithm::P256);
        cards
    }

    fn measure(&mut self, model: &Latency, rounds: usize) -> Times {
        self.tpm.delay(Some(model.clone()));
        let module = bin_dir().join("libcardea_pkcs11.so").display().to_string();
        let times = times(&self.environment(), &module, rounds);
        self.tpm.delay(None);
        times
    }

    fn orders(&mut self, model: &Latency) -> [f64; 3] {
        self.tpm.delay(Some(model.clone()));
        let timed = |work: &dyn Fn()| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64() * 1e3
        };
        let card = timed(&|| self.create("another"));
        let key = timed(&|| self.generate("more", KeyAlgorithm::Rsa2048));
        self.daemon.kill();
        let begin = Instant::now();
        self.daemon.restart();
        let module = bin_dir().join("libcardea_pkcs11.so").display().to_string();
        first_signature(&self.environment(), &module, LABEL);
        let cold = begin.elapsed().as_secs_f64() * 1e3;
        self.tpm.delay(None);
        [card, key, cold]
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("CARDEA_SOCKET", self.daemon.socket().display().to_string())]
    }

    fn ask(&self, request: &Request) -> Reply {
        let mut client = Client::new(self.daemon.socket());
        let limit = Duration::from_secs(120);
        let reply = client.call_with_progress(request, limit, &mut |_| {});
        reply.unwrap()
    }

    fn create(&self, name: &str) {
        let content = NewContent::with_pin(SecretBytes::new(PIN.into()));
        let order = CreateCard::new(name, content);
        let reply = self.ask(&Request::Cards(CardsRequest::Create(Box::new(order))));
        assert!(matches!(reply, Reply::Card(_)), "{reply:?}");
    }

    fn generate(&self, label: &str, algorithm: KeyAlgorithm) {
        let request = CardRequest::GenerateKey {
            pin: Some(SecretBytes::new(PIN.into())),
            key: NewKey {
                label: Some(label.into()),
                class: KeyClass::Session,
                sign_only: false,
                id: None,
            },
            algorithm,
        };
        let reply = self.ask(&Request::card(LABEL, request));
        assert!(matches!(reply, Reply::Key(_)), "{reply:?}");
    }
}

/// tpm2-pkcs11 with a token and the same keys.
struct Peer {
    environment: Vec<(&'static str, String)>,
    tpm: Multiplexer,
    _chip: Swtpm,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chip = Swtpm::start(&folder.path().join("tpm"));
        let tpm = Multiplexer::start(&folder.path().join("mux"), &chip);
        tpm.manage_resources();
        let store = folder.path().join("store");
        std::fs::create_dir_all(&store).unwrap();
        let own = std::env::current_exe().unwrap();
        let environment = vec![
            ("TPM2_PKCS11_STORE", store.display().to_string()),
            (
                "TPM2_PKCS11_TCTI",
                format!("cmd:{} --pipe {}", own.display(), tpm.socket().display()),
            ),
            ("TPM2_PKCS11_LOG_LEVEL", "0".into()),
            ("TSS2_LOG", "all+none".into()),
        ];
        for what in ["token", "rsa", "ec"] {
            let mut child = std::process::Command::new(&own);
            let named = environment.iter().map(|(name, value)| (name, value));
            let status = child.envs(named).args(["--make", what]).status();
            assert!(status.unwrap().success());
        }
        Self {
            environment,
            tpm,
            _chip: chip,
            _folder: folder,
        }
    }

    fn measure(&self, model: &Latency, rounds: usize) -> Times {
        self.tpm.delay(Some(model.clone()));
        times(&self.environment, PEER, rounds)
    }
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

/// Standard input and output as one connection. The TCTI for software TPMs connects for each command, which leaves
/// nothing loaded behind a resource manager.
fn pipe(socket: &str) {
    let mut tpm = UnixStream::connect(socket).unwrap();
    let mut commands = tpm.try_clone().unwrap();
    std::thread::spawn(move || {
        std::io::copy(&mut std::io::stdin(), &mut commands).ok();
        commands.shutdown(Shutdown::Both).ok();
    });
    let mut output = std::io::stdout();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = tpm.read(&mut buffer) {
        output.write_all(&buffer[..length]).unwrap();
        output.flush().unwrap();
    }
}
