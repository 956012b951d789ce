//! Cards against the bare TPM, in one run: `cargo xtask bench`.
//!
//! The engine runs in process; the raw command goes through the same transport, on the same TPM thread, with
//! a key that is loaded and authorised by an empty password. Both alternate, so that the machine's noise
//! meets both. The floor is the time between sending and receiving on the TPM thread; the engine's time is
//! the whole call from outside, the way to that thread included.
//! Everything is printed as medians and ratios; nothing here passes or fails.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark tells on standard output and fails by panicking"
)]

#[path = "pkcs11/statistics.rs"]
#[expect(dead_code, reason = "other benchmarks use all of it")]
mod statistics;

use std::ffi::CString;
use std::time::{Duration, Instant};

use cardea_card::gids::created_card;
use cardea_card::record::{CardId, CardRecord};
use cardea_card::{Card, Connection};
use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, NewContent, Reply, Request, SecretBytes,
};
use cardea_testkit::rig::{PIN, Rig};
use cardea_testkit::software::CARD_ID;
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::tpm_card;
use cardea_tpm::Service;

use crate::statistics::percentiles;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--reader") {
        return reader_side();
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(folder.path());
    let service = Service::start(&tpm.address().parse().unwrap()).unwrap();
    println!("| operation | floor p50 µs (p95) | card p50 µs (p95) | ratio p50 | commands |");
    println!("|---|---|---|---|---|");
    signatures(&service, "RSA-2048", RSA_2048, if quick { 60 } else { 600 });
    signatures(&service, "P-256", P_256, if quick { 200 } else { 2000 });
    verification(&service, if quick { 50 } else { 500 });
    println!();
    attested(&service, if quick { 20 } else { 300 });
    println!();
    creation(&service, if quick { 5 } else { 30 });
    println!();
    pcsc(if quick { 200 } else { 3000 });
}

/// A raw key and the same key on a card.
struct Algorithm {
    /// TPMT_PUBLIC of the raw key.
    template: &'static [u8],
    /// TPMT_SIG_SCHEME of the raw signature.
    scheme: &'static [u8],
    /// Algorithm digit of GIDS.
    digit: u8,
    /// Data of PSO COMPUTE DIGITAL SIGNATURE before the digest, and the high digit of its mechanism.
    prefix: &'static [u8],
    mechanism: u8,
}

const RSA_2048: Algorithm = Algorithm {
    template: &[
        0, 1, 0, 0x0B, 0, 6, 0x04, 0x72, 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0,
    ],
    scheme: &[0, 0x14, 0, 0x0B],
    digit: 0x07,
    prefix: &[
        0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ],
    mechanism: 0x50,
};

const P_256: Algorithm = Algorithm {
    template: &[
        0, 0x23, 0, 0x0B, 0, 6, 0x04, 0x72, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0,
    ],
    scheme: &[0, 0x18, 0, 0x0B],
    digit: 0x0C,
    prefix: &[],
    mechanism: 0x10,
};

const DIGEST: [u8; 32] = [0x5A; 32];
const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

fn command(code: u32, handle: u32, parameters: &[u8]) -> Vec<u8> {
    let mut command = vec![0x80, 0x02, 0, 0, 0, 0];
    command.extend_from_slice(&code.to_be_bytes());
    command.extend_from_slice(&handle.to_be_bytes());
    command.extend_from_slice(&PASSWORD);
    command.extend_from_slice(parameters);
    let length = (command.len() as u32).to_be_bytes();
    command[2..6].copy_from_slice(&length);
    command
}

fn raw(service: &Service, command: &[u8]) -> (Vec<u8>, Duration) {
    let (response, time) = service.raw(command.to_vec()).unwrap();
    assert_eq!(response[6..10], [0; 4], "the raw command fails");
    (response, time)
}

/// Loads a raw key and gives its signing command.
fn raw_sign(service: &Service, algorithm: &Algorithm) -> (u32, Vec<u8>) {
    let mut parameters = vec![0, 4, 0, 0, 0, 0];
    parameters.extend_from_slice(&(algorithm.template.len() as u16).to_be_bytes());
    parameters.extend_from_slice(algorithm.template);
    parameters.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
    let (response, _) = raw(service, &command(0x131, 0x4000_0001, &parameters));
    let handle = u32::from_be_bytes(response[10..14].try_into().unwrap());
    let mut parameters = vec![0, 32];
    parameters.extend_from_slice(&DIGEST);
    parameters.extend_from_slice(algorithm.scheme);
    parameters.extend_from_slice(&[0x80, 0x24, 0x40, 0, 0, 7, 0, 0]);
    (handle, command(0x15D, handle, &parameters))
}

/// A card with one key, verified, and its signing APDU.
fn card_sign(service: &Service, algorithm: &Algorithm) -> (Card, Connection, Vec<u8>) {
    let gids = created_card(CardId::new(CARD_ID));
    let record = tpm_card::new_record(service, gids, PIN.as_bytes(), None, None);
    verified_sign(service, record, algorithm)
}

/// The same with a card that was made already.
fn verified_sign(
    service: &Service,
    record: CardRecord,
    algorithm: &Algorithm,
) -> (Card, Connection, Vec<u8>) {
    let mut card = tpm_card::open(service, record);
    let mut connection = card.connect();
    let digit = algorithm.digit;
    let mechanism = algorithm.mechanism | digit;
    let template = [
        0xB6, 0x09, 0x80, 0x01, mechanism, 0x83, 0x01, 0x81, 0x95, 0x01, 0x40,
    ];
    let mut create = vec![
        0x00, 0xE0, 0, 0, 0x1D, 0x62, 0x1B, 0x82, 0x01, 0x18, 0x83, 0x02, 0xB0, 0x81, 0x8C, 0x05,
        0x8F, 0x10, 0x10, 0x10, 0x00, 0xA5, 0x0B,
    ];
    create.extend_from_slice(&template);
    let mut verify = vec![0x00, 0x20, 0x00, 0x80, PIN.len() as u8];
    verify.extend_from_slice(PIN.as_bytes());
    let mut sign = vec![0x00, 0x2A, 0x9E, 0x9A, (algorithm.prefix.len() + 32) as u8];
    sign.extend_from_slice(algorithm.prefix);
    sign.extend_from_slice(&DIGEST);
    sign.push(0);
    for apdu in [
        &verify[..],
        &create,
        &[0x00, 0x44, 0, 0],
        &[0x00, 0x47, 0, 0, 8, 0xAC, 6, 0x80, 1, digit, 0x83, 1, 0x81],
        &[0x00, 0x22, 0x41, 0xB6, 6, 0x80, 1, mechanism, 0x84, 1, 0x81],
        &sign,
    ] {
        let response = card.transmit(&mut connection, apdu);
        assert_eq!(response[response.len() - 2..], [0x90, 0], "{apdu:02X?}");
    }
    (card, connection, sign)
}

fn timed(action: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    action();
    begin.elapsed()
}

fn signatures(service: &Service, name: &str, algorithm: Algorithm, rounds: usize) {
    let (handle, raw_command) = raw_sign(service, &algorithm);
    let (mut card, mut connection, apdu) = card_sign(service, &algorithm);
    let mut sign = || {
        let response = card.transmit(&mut connection, &apdu);
        assert_eq!(response[response.len() - 2..], [0x90, 0]);
    };
    let count = service.command_count();
    for (how, pause, batch) in [
        ("1 ms apart", Duration::from_millis(1), 1),
        ("back to back", Duration::ZERO, 10),
    ] {
        let (mut floor, mut engine) = (Vec::new(), Vec::new());
        let mut commands = 0;
        for _ in 0..rounds / batch {
            for _ in 0..batch {
                floor.push(raw(service, &raw_command).1);
                std::thread::sleep(pause);
            }
            let before = count.get();
            for _ in 0..batch {
                engine.push(timed(&mut sign));
                std::thread::sleep(pause);
            }
            commands += count.get() - before;
        }
        let per_operation = commands as f64 / engine.len() as f64;
        row(
            &format!("{name} signature, {how}"),
            &mut floor,
            &mut engine,
            per_operation,
        );
    }
    drop(card);
    let mut flush = vec![0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x65];
    flush.extend_from_slice(&handle.to_be_bytes());
    raw(service, &flush);
}

fn verification(service: &Service, rounds: usize) {
    let (mut card, mut connection, _) = card_sign(service, &P_256);
    let mut verify = vec![0x00, 0x20, 0x00, 0x80, PIN.len() as u8];
    verify.extend_from_slice(PIN.as_bytes());
    // GetCapability of one property: a command that does next to nothing.
    let mut null = vec![0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7A];
    null.extend_from_slice(&[0, 0, 0, 6, 0, 0, 1, 2, 0, 0, 0, 1]);
    let count = service.command_count();
    let (mut floor, mut engine) = (Vec::new(), Vec::new());
    let mut commands = 0;
    for _ in 0..rounds {
        floor.push(raw(service, &null).1);
        let before = count.get();
        engine.push(timed(|| {
            let response = card.transmit(&mut connection, &verify);
            assert_eq!(response[..], [0x90, 0]);
        }));
        commands += count.get() - before;
    }
    let per_operation = commands as f64 / rounds as f64;
    row(
        "PIN verification (floor: a null command)",
        &mut floor,
        &mut engine,
        per_operation,
    );
}

/// Cards that can prove what they promise beside cards that cannot: what a signature and their creation cost.
fn attested(service: &Service, rounds: usize) {
    println!("| | plain p50 µs (p95) | attested p50 µs (p95) | ratio | commands of each |");
    println!("|---|---|---|---|---|");
    let new = |attests: bool| {
        let gids = created_card(CardId::new(CARD_ID));
        match attests {
            true => tpm_card::new_attested_record(service, gids, PIN.as_bytes(), None, None),
            false => tpm_card::new_record(service, gids, PIN.as_bytes(), None, None),
        }
    };
    let count = service.command_count();
    for (name, algorithm) in [("RSA-2048", &RSA_2048), ("P-256", &P_256)] {
        let mut cards =
            [false, true].map(|attests| verified_sign(service, new(attests), algorithm));
        let mut times = [Vec::new(), Vec::new()];
        let mut commands = [0; 2];
        for _ in 0..rounds {
            // In blocks: what changes from one card to the other is not a signature's.
            for (form, (card, connection, apdu)) in cards.iter_mut().enumerate() {
                let mut sign = || {
                    let response = card.transmit(connection, apdu);
                    assert_eq!(response[response.len() - 2..], [0x90, 0]);
                };
                sign();
                let before = count.get();
                for _ in 0..10 {
                    times[form].push(timed(&mut sign));
                }
                commands[form] += count.get() - before;
            }
        }
        let signed = 10.0 * rounds as f64;
        beside(
            &format!("{name} signature, back to back"),
            &mut times,
            commands.map(|all| all as f64 / signed),
        );
    }
    let mut times = [Vec::new(), Vec::new()];
    let mut commands = [0; 2];
    for _ in 0..rounds / 10 {
        for (form, attests) in [false, true].into_iter().enumerate() {
            let before = count.get();
            let mut made = None;
            times[form].push(timed(|| made = Some(new(attests))));
            commands[form] += count.get() - before;
            service.destroy_card(&made.unwrap().tpm).unwrap();
        }
    }
    let made = (rounds / 10) as f64;
    beside(
        "card creation, no administrator",
        &mut times,
        commands.map(|all| all as f64 / made),
    );
}

fn beside(name: &str, [plain, attested]: &mut [Vec<Duration>; 2], commands: [f64; 2]) {
    let ((plain, plain95), (attested, attested95)) = (percentiles(plain), percentiles(attested));
    println!(
        "| {name} | {plain:.0} ({plain95:.0}) | {attested:.0} ({attested95:.0}) | {:.3} | {:.2}, {:.2} |",
        attested / plain,
        commands[0],
        commands[1],
    );
}

fn creation(service: &Service, rounds: usize) {
    println!("| card creation | p50 ms (p95) | commands |");
    println!("|---|---|---|");
    let key = [7; 24];
    let count = service.command_count();
    for (name, puk, admin) in [
        ("no administrator", None, None),
        ("administrator", None, Some(&key)),
        ("administrator and PUK", Some(&b"87654321"[..]), Some(&key)),
    ] {
        let mut times = Vec::new();
        let before = count.get();
        for _ in 0..rounds {
            let gids = created_card(CardId::new(CARD_ID));
            let mut made = None;
            times.push(timed(|| {
                made = Some(tpm_card::new_record(
                    service,
                    gids,
                    PIN.as_bytes(),
                    puk,
                    admin,
                ));
            }));
            service.destroy_card(&made.unwrap().tpm).unwrap();
        }
        let commands = (count.get() - before) as f64 / rounds as f64;
        let (p50, p95) = percentiles(&mut times);
        println!(
            "| {name} | {:.1} ({:.1}) | {commands:.0} with destruction |",
            p50 / 1000.0,
            p95 / 1000.0
        );
    }
}

/// Over pcscd, in a child that has pcscd's socket in its environment.
fn pcsc(rounds: usize) {
    let mut rig = Rig::new();
    rig.create("Bench", &[]);
    let socket = rig.daemon.socket().display().to_string();
    let own = std::env::current_exe().unwrap();
    let child = rig
        .client(&own.display().to_string())
        .args(["--reader", &socket, &rounds.to_string()])
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    print!("{}", String::from_utf8_lossy(&child.stdout));
}

fn reader_side() {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments
        .iter()
        .position(|argument| argument == "--reader")
        .unwrap();
    let (socket, rounds) = (
        &arguments[at + 1],
        arguments[at + 2].parse::<usize>().unwrap(),
    );
    let context = pcsc::Context::establish(pcsc::Scope::System).unwrap();
    let readers = context.list_readers_owned().unwrap();
    let card = context
        .connect(&readers[0], pcsc::ShareMode::Shared, pcsc::Protocols::ANY)
        .unwrap();
    let read_card_id = [0x00, 0xCB, 0xA0, 0x12, 0x04, 0x5C, 0x02, 0xDF, 0x20, 0x00];
    let (mut status, mut transmit) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        status.push(timed(|| drop(card.status2_owned().unwrap())));
        transmit.push(timed(|| {
            let mut buffer = [0; 258];
            let response = card.transmit(&read_card_id, &mut buffer).unwrap();
            assert_eq!(response[response.len() - 2..], [0x90, 0]);
        }));
    }
    println!("| over pcscd | SCardStatus p50 µs (p95) | SCardTransmit p50 µs (p95) | ratio p50 |");
    println!("|---|---|---|---|");
    let ((status, status95), (transmit, transmit95)) =
        (percentiles(&mut status), percentiles(&mut transmit));
    println!(
        "| GET DATA of the card id | {status:.0} ({status95:.0}) | {transmit:.0} ({transmit95:.0}) | {:.2} |",
        transmit / status
    );
    println!();
    println!("| card seen by SCardGetStatusChange | p50 ms (p95) |");
    println!("|---|---|");
    let mut times: Vec<Duration> = (0..20)
        .map(|round| appearance(&context, &readers[1], socket, round))
        .collect();
    let (p50, p95) = percentiles(&mut times);
    println!(
        "| after the daemon has acknowledged its creation | {:.1} ({:.1}) |",
        p50 / 1000.0,
        p95 / 1000.0
    );
}

/// From the acknowledgement of a creation to the event; then the card is destroyed.
fn appearance(context: &pcsc::Context, reader: &CString, socket: &str, round: usize) -> Duration {
    let empty = wait_state(context, reader, pcsc::State::EMPTY);
    let socket = socket.to_owned();
    let creator = std::thread::spawn(move || {
        let mut client = Client::connect(socket.as_ref()).unwrap();
        let request = Request::Cards(CardsRequest::Create(Box::new(CreateCard::new(
            format!("appearing {round}"),
            NewContent::with_pin(SecretBytes::new(PIN.into())),
        ))));
        let reply = client
            .call_with_progress(&request, Duration::from_secs(60), &mut |_| {})
            .unwrap();
        let acknowledged = Instant::now();
        let Reply::Card(card) = reply else {
            panic!("{reply:?}")
        };
        (client, card.summary.card_id, acknowledged)
    });
    let mut states = [pcsc::ReaderState::new(reader.clone(), empty)];
    while !states[0].event_state().contains(pcsc::State::PRESENT) {
        context
            .get_status_change(Duration::from_secs(60), &mut states)
            .unwrap();
        states[0].sync_current_state();
    }
    let seen = Instant::now();
    let (mut client, card, acknowledged) = creator.join().unwrap();
    let reply = client
        .call(
            &Request::card(card, CardRequest::Destroy { owner_auth: None }),
            Duration::from_secs(60),
        )
        .unwrap();
    assert!(matches!(reply, Reply::Done), "{reply:?}");
    seen.saturating_duration_since(acknowledged)
}

fn wait_state(context: &pcsc::Context, reader: &CString, wanted: pcsc::State) -> pcsc::State {
    let mut states = [pcsc::ReaderState::new(reader.clone(), pcsc::State::UNAWARE)];
    while !states[0].event_state().contains(wanted) {
        context
            .get_status_change(Duration::from_secs(60), &mut states)
            .unwrap();
        states[0].sync_current_state();
    }
    states[0].event_state()
}

fn row(name: &str, floor: &mut [Duration], engine: &mut [Duration], commands: f64) {
    let ((floor, floor95), (engine, engine95)) = (percentiles(floor), percentiles(engine));
    println!(
        "| {name} | {floor:.0} ({floor95:.0}) | {engine:.0} ({engine95:.0}) | {:.3} | {commands:.2} |",
        engine / floor
    );
}
