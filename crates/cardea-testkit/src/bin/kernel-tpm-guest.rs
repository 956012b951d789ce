//! What runs in the virtual machine of the test `kernel_tpm`: works with the TPM through the kernel and tells
//! facts, `name=value`. It judges nothing; what fails makes it panic, and then the fact `end` is missing.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for one test tells on standard output and fails by panicking"
)]

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::message::{
    CardDetails, CardRequest, PowerAction, PublicKey, Reply, Request, SlotRequest, TpmRequest,
};
use cardea_testkit::machine::DISK;
use cardea_testkit::rig::{Daemon, PIN};
use cardea_tpm::{NV_RANGE, Service};

/// The kernel's resource manager, and the TPM without it.
const MANAGED: &str = "/dev/tpmrm0";
const BARE: &str = "/dev/tpm0";

const WRONG_PIN: &str = "000000";
const LIMIT: Duration = Duration::from_secs(30);

/// Keys on the first card: more than the resource manager has slots.
const KEYS: u8 = 5;
/// Cards with a key each: more than can have a session beside the daemon's own.
const CARDS: u8 = 3;
/// Signatures of each kind; the median is told.
const ROUNDS: u8 = 24;

fn main() {
    let scenario = std::env::args().nth(1).expect("a scenario");
    match scenario.as_str() {
        "first" => first(),
        "second" => second(),
        other => panic!("no scenario {other}"),
    }
    fact("end", &scenario);
    if scenario == "first" {
        // The power cut comes from outside.
        std::thread::sleep(Duration::from_secs(600));
    }
}

/// Cards are made and used.
fn first() {
    kernel();
    room();

    let mut daemon = start();
    status(&daemon);
    std::fs::write("/tmp/pin", PIN).expect("the PIN is written");
    for number in 0..CARDS {
        let (_, time) = timed(|| create(&daemon, &name(number)));
        fact(&format!("time.create.{number}"), micros(time));
    }
    let mut reader = Reader::new(&daemon, 0);
    reader.verify(PIN);
    for key in 0..KEYS {
        let ((), time) = timed(|| reader.make_key(key));
        fact(&format!("time.key.{key}"), micros(time));
    }
    public_keys(&daemon);
    for key in 0..KEYS {
        let signature = reader.sign(key);
        fact(&format!("signature.made.{key}"), hex(&signature));
    }
    measure(&daemon, &mut reader);
    beside(&mut reader);

    fact("left.fresh", left(&daemon));
    fact("wrong", hex(&reader.verify_status(WRONG_PIN)));
    fact("left.wrong", left(&daemon));
    daemon.kill();
    daemon.restart();
    fact("left.restarted", left(&daemon));
    let mut reader = Reader::new(&daemon, 0);
    fact("unverified", hex(&reader.try_select(0)));
    fact("right", hex(&reader.verify_status(PIN)));
    fact("left.right", left(&daemon));
    fact("signature.restarted.0", hex(&reader.sign(0)));
    reader.verify_status(WRONG_PIN);
    fact("left.before_power_cut", left(&daemon));
    fact("indices", indices());
    status(&daemon);
    // Neither daemon nor disk may tidy up.
    std::mem::forget(daemon);
}

/// After the power cut.
fn second() {
    kernel();
    let mut daemon = start();
    status(&daemon);
    let card = show(&daemon, &name(0));
    fact("state", format!("{:?}", card.summary.state));
    fact("left.after_power_cut", left(&daemon));
    let mut reader = Reader::new(&daemon, 0);
    fact("right", hex(&reader.verify_status(PIN)));
    fact("left.right", left(&daemon));
    for key in 0..KEYS {
        let signature = reader.sign(key);
        fact(&format!("signature.kept.{key}"), hex(&signature));
    }
    for number in 0..CARDS {
        cardea(&daemon, &["card", "destroy", &name(number), "--yes"]);
    }
    daemon.stop();
    fact("indices", indices());
}

fn kernel() {
    let read = |path: &str| std::fs::read_to_string(path).expect("the kernel tells");
    fact("kernel", read("/proc/sys/kernel/osrelease").trim());
    fact("kernel.build", read("/proc/sys/kernel/version").trim());
    let driver = std::fs::read_link("/sys/class/tpm/tpm0/device/driver").expect("a driver");
    let driver = driver.file_name().unwrap_or_default();
    fact("driver", driver.to_string_lossy());
    let up = read("/proc/uptime");
    fact("uptime", up.split(' ').next().unwrap_or_default());
}

/// How much one client can have in the TPM, and how the next is refused.
fn room() {
    for (door, path) in [("managed", MANAGED), ("bare", BARE)] {
        let tpm = Device::open(path);
        let (objects, error) = fill(&tpm, &create_primary(P_256));
        fact(&format!("room.{door}.objects"), objects.len());
        fact(&format!("refusal.{door}.objects"), error);
        let (sessions, error) = fill(&tpm, &start_session());
        fact(&format!("room.{door}.sessions"), sessions.len());
        fact(&format!("refusal.{door}.sessions"), error);
        for handle in objects.into_iter().chain(sessions) {
            tpm.flush(handle);
        }
    }
}

/// Repeats a command until it is refused; the handles that it gave, and the refusal.
fn fill(tpm: &Device, command: &[u8]) -> (Vec<u32>, String) {
    let mut handles = Vec::new();
    loop {
        assert!(handles.len() < 100, "no end of room");
        match tpm.handle(command) {
            Ok(handle) => handles.push(handle),
            Err(error) => return (handles, error),
        }
    }
}

/// Time of signatures: the TPM alone, through the resource manager, by cards.
fn measure(daemon: &Daemon, reader: &mut Reader) {
    let mut probe = Probe::new();
    let null = get_capability();
    let device = |tpm: &Device, command: &[u8]| drop(tpm.send(command).expect("an answer"));

    let bare = Device::open(BARE);
    let key = bare.handle(&create_primary(RSA_2048)).expect("a key");
    let sign = raw_sign(key);
    probe.compare(&mut [
        ("null.bare", &mut |_| device(&bare, &null)),
        ("sign.bare", &mut |_| device(&bare, &sign)),
    ]);
    bare.flush(key);

    let managed = Device::open(MANAGED);
    let key = managed.handle(&create_primary(RSA_2048)).expect("a key");
    let sign = raw_sign(key);
    // One that has as much loaded as the daemon for one card: another key and two sessions.
    let loaded = Device::open(MANAGED);
    let other = loaded.handle(&create_primary(RSA_2048)).expect("a key");
    let loaded_sign = raw_sign(other);
    loaded.handle(&create_primary(P_256)).expect("a key");
    for _ in 0..2 {
        loaded.handle(&start_session()).expect("a session");
    }
    for key in [0, 1] {
        reader.sign(key);
    }
    probe.compare(&mut [
        ("null.managed", &mut |_| device(&managed, &null)),
        ("sign.managed", &mut |_| device(&managed, &sign)),
        ("sign.managed.loaded", &mut |_| {
            device(&loaded, &loaded_sign);
        }),
        // Time before it lets the daemon prepare it.
        ("sign.card.rested", &mut |_| {
            reader.sign(0);
        }),
    ]);
    probe.compare(&mut [("apdu", &mut |_| reader.read_card_id())]);
    for keys in 1..=KEYS {
        probe.compare(&mut [(&format!("sign.card.keys.{keys}"), &mut |round| {
            reader.sign(round % keys);
        })]);
    }

    let mut readers: Vec<Reader> = (0..CARDS).map(|slot| Reader::new(daemon, slot)).collect();
    for reader in &mut readers {
        reader.verify(PIN);
    }
    for reader in &mut readers[1..] {
        reader.make_key(0);
    }
    for cards in 1..=CARDS {
        probe.compare(&mut [(&format!("sign.cards.{cards}"), &mut |round| {
            readers[usize::from(round % cards)].sign(0);
        })]);
    }
}

/// What is measured, and how it is done in a round.
type Action<'a> = (&'a str, &'a mut dyn FnMut(u8));

/// Counts what the kernel's driver sends to the TPM, the resource manager's own commands among them.
struct Probe;

impl Probe {
    fn new() -> Self {
        let write = |file: &str, text: &str| {
            let file = Path::new(TRACING).join(file);
            std::fs::write(&file, text).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        };
        write("kprobe_events", "p:cardea/sent crb_send");
        write("events/cardea/sent/enable", "1");
        Self
    }

    /// Commands since the beginning: `sent HITS MISSES`.
    fn sent(&self) -> u64 {
        let profile = std::fs::read_to_string(Path::new(TRACING).join("kprobe_profile"));
        let profile = profile.expect("the kernel counts");
        let hits = profile.split_whitespace().nth(1).expect("a count");
        hits.parse().expect("a number")
    }

    /// Tells the median time of some actions and how many commands each took, what the daemon does after
    /// it included. In each round every action has its turn, so that noise meets all of them; one that is
    /// alone runs back to back.
    fn compare(&mut self, actions: &mut [Action<'_>]) {
        let rest = actions.len() > 1;
        let mut times = vec![Vec::new(); actions.len()];
        let mut commands = vec![0; actions.len()];
        // The first round may have to load something, and does not count.
        for round in 0..=ROUNDS {
            for (number, (_, action)) in actions.iter_mut().enumerate() {
                let before = self.sent();
                let ((), time) = timed(|| action(round));
                if rest {
                    std::thread::sleep(REST);
                }
                if round > 0 {
                    times[number].push(time);
                    commands[number] += self.sent() - before;
                }
            }
        }
        for (((what, _), times), commands) in actions.iter().zip(&mut times).zip(commands) {
            times.sort_unstable();
            fact(&format!("time.{what}"), micros(times[times.len() / 2]));
            let tenths = commands * 10 / u64::from(ROUNDS);
            let each = format!("{}.{}", tenths / 10, tenths % 10);
            fact(&format!("commands.{what}"), each);
        }
    }
}

const TRACING: &str = "/sys/kernel/tracing";

/// Long enough for the daemon to prepare the next signature.
const REST: Duration = Duration::from_millis(60);

/// Another program has all its slots full, and the card goes on as if it were alone.
fn beside(reader: &mut Reader) {
    let other = Device::open(MANAGED);
    let (objects, _) = fill(&other, &create_primary(P_256));
    let (sessions, _) = fill(&other, &start_session());
    for key in 0..KEYS {
        let signature = reader.sign(key);
        fact(&format!("signature.beside.{key}"), hex(&signature));
    }
    for handle in objects.into_iter().chain(sessions) {
        other.flush(handle);
    }
}

fn start() -> Daemon {
    let folder = Path::new(DISK).join("daemon");
    let (daemon, time) = timed(|| Daemon::start(&folder, &format!("device:{MANAGED}"), ""));
    fact("time.start", micros(time));
    daemon
}

fn status(daemon: &Daemon) {
    let Reply::Tpm(status) = ask(daemon, &Request::Tpm(TpmRequest::Status)) else {
        panic!("no status");
    };
    fact("slots", status.transient_slots);
    fact("lockout.count", status.lockout_count);
    let shown = cardea(daemon, &["tpm", "status"]);
    assert!(shown.contains(MANAGED), "{shown}");
}

fn name(number: u8) -> String {
    format!("Card {number}")
}

fn create(daemon: &Daemon, name: &str) -> String {
    let arguments = ["card", "create", "--name", name, "--pin-file", "/tmp/pin"];
    cardea(daemon, &arguments)
}

fn cardea(daemon: &Daemon, arguments: &[&str]) -> String {
    let outcome = daemon.cardea(arguments);
    assert!(outcome.success, "{arguments:?}: {}", outcome.text);
    outcome.text
}

fn ask(daemon: &Daemon, request: &Request) -> Reply {
    let mut client = Client::connect(&daemon.socket()).expect("the daemon answers");
    client.call(request, LIMIT).expect("an answer")
}

fn show(daemon: &Daemon, card: &str) -> CardDetails {
    let request = Request::card(card, CardRequest::Show);
    match ask(daemon, &request) {
        Reply::Card(card) => *card,
        other => panic!("{card}: {other:?}"),
    }
}

/// PIN tries left on the first card.
fn left(daemon: &Daemon) -> u32 {
    show(daemon, &name(0))
        .pin
        .expect("a counter")
        .left
        .expect("a number")
}

fn public_keys(daemon: &Daemon) {
    for key in show(daemon, &name(0)).keys {
        let PublicKey::Rsa { modulus, exponent } = key.public else {
            panic!("not an RSA key");
        };
        let number = key.reference - FIRST_KEY;
        fact(&format!("modulus.{number}"), hex(&modulus));
        fact(&format!("exponent.{number}"), hex(&exponent.to_be_bytes()));
    }
}

/// NV indices in the cards' range, as another program sees them.
fn indices() -> usize {
    let address = format!("device:{MANAGED}").parse().expect("an address");
    let service = Service::start(&address).expect("a thread");
    let indices = service.defined_indices().expect("the TPM tells");
    let cards = indices.iter().filter(|index| NV_RANGE.contains(index));
    cards.count()
}

/// Key reference of GIDS.
const FIRST_KEY: u8 = 0x81;

/// A card at its slot, over the same socket as pcscd.
struct Reader {
    client: Client,
    slot: u8,
}

impl Reader {
    fn new(daemon: &Daemon, slot: u8) -> Self {
        let mut client = Client::connect(&daemon.socket()).expect("the daemon answers");
        let action = PowerAction::Up;
        let reply = client
            .call(&Request::slot(slot, SlotRequest::Power { action }), LIMIT)
            .expect("an answer");
        assert!(matches!(reply, Reply::Atr(_)), "{reply:?}");
        Self { client, slot }
    }

    fn transmit(&mut self, apdu: &[u8]) -> Vec<u8> {
        self.client
            .transmit(self.slot, apdu, LIMIT, <[u8]>::to_vec)
            .expect("a response")
    }

    fn ok(&mut self, apdu: &[u8]) -> Vec<u8> {
        let mut response = self.transmit(apdu);
        let status = response.split_off(response.len() - 2);
        assert_eq!(status, [0x90, 0x00], "{apdu:02X?}");
        response
    }

    fn verify_status(&mut self, pin: &str) -> Vec<u8> {
        let mut apdu = vec![0x00, 0x20, 0x00, 0x80, length(pin.as_bytes())];
        apdu.extend_from_slice(pin.as_bytes());
        self.transmit(&apdu)
    }

    fn verify(&mut self, pin: &str) {
        assert_eq!(self.verify_status(pin), [0x90, 0x00]);
    }

    /// CREATE FILE, ACTIVATE FILE, GENERATE: a signature key, RSA-2048.
    fn make_key(&mut self, number: u8) {
        let key = FIRST_KEY + number;
        let mut create = vec![
            0x00, 0xE0, 0, 0, 0x1D, 0x62, 0x1B, 0x82, 0x01, 0x18, 0x83, 0x02, 0xB0, key,
        ];
        create.extend_from_slice(&[0x8C, 0x05, 0x8F, 0x10, 0x10, 0x10, 0x00, 0xA5, 0x0B]);
        create.extend_from_slice(&[
            0xB6, 0x09, 0x80, 0x01, 0x57, 0x83, 0x01, key, 0x95, 0x01, 0x40,
        ]);
        self.ok(&create);
        self.ok(&[0x00, 0x44, 0, 0]);
        self.ok(&[0x00, 0x47, 0, 0, 8, 0xAC, 6, 0x80, 1, 0x07, 0x83, 1, key]);
    }

    /// MANAGE SECURITY ENVIRONMENT: the key, RSA with PKCS#1 padding. Without a verified PIN it is refused.
    fn try_select(&mut self, number: u8) -> Vec<u8> {
        let key = FIRST_KEY + number;
        self.transmit(&[0x00, 0x22, 0x41, 0xB6, 6, 0x80, 1, 0x57, 0x84, 1, key])
    }

    /// PSO COMPUTE DIGITAL SIGNATURE, with extended length so that the signature comes in one piece.
    fn sign(&mut self, number: u8) -> Vec<u8> {
        assert_eq!(self.try_select(number), [0x90, 0x00]);
        let data = digest_info(number);
        let mut sign = vec![0x00, 0x2A, 0x9E, 0x9A, 0, 0, length(&data)];
        sign.extend_from_slice(&data);
        sign.extend_from_slice(&[0, 0]);
        self.ok(&sign)
    }

    /// GET DATA of the card id, which takes no TPM.
    fn read_card_id(&mut self) {
        self.ok(&[0x00, 0xCB, 0xA0, 0x12, 4, 0x5C, 2, 0xDF, 0x20, 0]);
    }
}

/// DigestInfo of SHA-256 with a digest of the key's own.
fn digest_info(number: u8) -> Vec<u8> {
    let mut data = vec![
        0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    data.extend_from_slice(&[number; 32]);
    data
}

/// A device of the kernel: a command is written, its response read.
struct Device(File);

impl Device {
    fn open(path: &str) -> Self {
        let file = File::options().read(true).write(true).open(path);
        Self(file.unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// The response, or how it was refused: by the TPM's code or by the kernel.
    fn send(&self, command: &[u8]) -> Result<Vec<u8>, String> {
        let mut response = vec![0; 4096];
        let count = (&self.0)
            .write_all(command)
            .and_then(|()| (&self.0).read(&mut response))
            .map_err(|error| error.to_string())?;
        response.truncate(count);
        match word(&response, 6) {
            0 => Ok(response),
            code => Err(format!("response code 0x{code:X}")),
        }
    }

    /// The handle in a response.
    fn handle(&self, command: &[u8]) -> Result<u32, String> {
        self.send(command).map(|response| word(&response, 10))
    }

    fn flush(&self, handle: u32) {
        let mut command = vec![0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x65];
        command.extend_from_slice(&handle.to_be_bytes());
        self.send(&command).expect("the flush is done");
    }
}

/// TPMT_PUBLIC of a signature key.
const RSA_2048: &[u8] = &[
    0, 1, 0, 0x0B, 0, 6, 0x04, 0x72, 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0,
];
const P_256: &[u8] = &[
    0, 0x23, 0, 0x0B, 0, 6, 0x04, 0x72, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0,
];
const OWNER: u32 = 0x4000_0001;

fn create_primary(template: &[u8]) -> Vec<u8> {
    let mut parameters = vec![0, 4, 0, 0, 0, 0, 0, length(template)];
    parameters.extend_from_slice(template);
    parameters.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
    authorised(0x131, OWNER, &parameters)
}

/// PKCS#1 signature of a digest.
fn raw_sign(key: u32) -> Vec<u8> {
    let mut parameters = vec![0, 32];
    parameters.extend_from_slice(&[0x5A; 32]);
    parameters.extend_from_slice(&[0, 0x14, 0, 0x0B, 0x80, 0x24, 0x40, 0, 0, 7, 0, 0]);
    authorised(0x15D, key, &parameters)
}

/// A policy session, bound to nothing.
fn start_session() -> Vec<u8> {
    let mut command = vec![0x80, 0x01, 0, 0, 0, 43, 0, 0, 0x01, 0x76];
    command.extend_from_slice(&[0x40, 0, 0, 7, 0x40, 0, 0, 7, 0, 16]);
    command.extend_from_slice(&[0x5A; 16]);
    command.extend_from_slice(&[0, 0, 1, 0, 0x10, 0, 0x0B]);
    command
}

/// A command that does next to nothing: one property.
fn get_capability() -> Vec<u8> {
    let mut command = vec![0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7A];
    command.extend_from_slice(&[0, 0, 0, 6, 0, 0, 1, 2, 0, 0, 0, 1]);
    command
}

/// A command on one handle with an empty password.
fn authorised(code: u32, handle: u32, parameters: &[u8]) -> Vec<u8> {
    let mut command = vec![0x80, 0x02, 0, 0, 0, 0];
    command.extend_from_slice(&code.to_be_bytes());
    command.extend_from_slice(&handle.to_be_bytes());
    command.extend_from_slice(&[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
    command.extend_from_slice(parameters);
    let size = u32::try_from(command.len()).expect("a short command");
    command[2..6].copy_from_slice(&size.to_be_bytes());
    command
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).expect("a whole response");
    u32::from_be_bytes(word.try_into().expect("four bytes"))
}

fn length(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).expect("less than 256 bytes")
}

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

fn timed<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let value = action();
    (value, begin.elapsed())
}

fn micros(time: Duration) -> u128 {
    time.as_micros()
}

fn fact(name: &str, value: impl Display) {
    println!("{name}={value}");
}
