//! Calls by DCOM beside what they are made of: `cargo xtask bench --only remote`.
//!
//! A call that the service answers by itself beside a bare round trip by TCP and the daemon's least request, and a
//! creation beside the daemon's own by its private socket. Rounds alternate; everything is printed as medians and
//! ratios, and nothing passes or fails.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark tells on standard output and fails by panicking"
)]

#[path = "pkcs11/statistics.rs"]
#[expect(clippy::indexing_slicing, reason = "a benchmark fails by panicking")]
mod statistics;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, NewContent, Reply, Request, SecretBytes,
};
use cardea_testkit::remote::{ADMIN_KEY, Administrator, CARD_PIN, Refused, Service};
use cardea_testkit::rig::Daemon;
use cardea_testkit::swtpm::Swtpm;

use crate::statistics::{median, percentiles};

/// Longest time for one request.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of a sealed call without much in it, and of its answer.
const CALL: usize = 192;
const ANSWER: usize = 80;

/// 8 to 127 characters of any kind.
const POLICY: [u8; 32] = {
    let mut policy = [0; 32];
    policy[0] = 1;
    policy[4] = 8;
    policy[8] = 127;
    policy
};

/// Not an instance id: the service does not ask the daemon about it.
const NOTHING: &str = "nothing";

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, calls, cards) = if quick { (3, 100, 2) } else { (30, 100, 5) };
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let daemon = Daemon::start(&folder.path().join("daemon"), &tpm.address(), "slots = 8\n");
    let service = Service::start(&folder.path().join("service"), &daemon.socket());
    let mut administrator = Administrator::sign_in(service.address())
        .unwrap_or_else(|refused| panic!("not signed in: {refused:?}"));
    let mut client = Client::connect(&daemon.socket()).unwrap();
    let mut bare = bare();

    let mut rows = [Row::default(), Row::default(), Row::default()];
    for _ in 0..rounds {
        rows[0].round(calls, || {
            bare.write_all(&[7; CALL]).unwrap();
            bare.read_exact(&mut [0; ANSWER]).unwrap();
        });
        rows[1].round(calls, || {
            let request = Request::Cards(CardsRequest::Defaults);
            match client.call(&request, LIMIT).unwrap() {
                Reply::Defaults { .. } => {}
                other => panic!("not the defaults: {other:?}"),
            }
        });
        rows[2].round(calls, || {
            let refused = administrator.destroy(NOTHING);
            assert_eq!(refused, Err(Refused::Result(0x8007_0490)));
        });
    }
    let [bare, least, call] = &mut rows;
    println!("| round trip | p50 µs (p95) | ratio to TCP | ratio to the daemon's |");
    println!("|---|---|---|---|");
    println!("| bare TCP, as many bytes | {} | 1 | |", bare.shown(1.0));
    println!(
        "| the daemon's least request | {} | | 1 |",
        least.shown(1.0)
    );
    let (to_bare, to_least) = (call.ratio(bare), call.ratio(least));
    println!(
        "| sealed call of the object by DCOM | {} | {to_bare:.2} | {to_least:.2} |",
        call.shown(1.0)
    );

    let mut rows = [Row::default(), Row::default()];
    for _ in 0..rounds {
        for _ in 0..cards {
            // On a connection of its own, as the service and every program of the command line have it.
            let mut client = Client::new(daemon.socket());
            let begin = Instant::now();
            let card = create(&mut client);
            rows[0].times.push(begin.elapsed());
            destroy(&mut client, card);
            let begin = Instant::now();
            let instance = administrator.create("bench").unwrap();
            rows[1].times.push(begin.elapsed());
            administrator.destroy(&instance).unwrap();
        }
        rows.iter_mut().for_each(|row| row.end_round(cards));
    }
    let [own, remote] = &mut rows;
    println!();
    println!("| creation of a card | p50 ms (p95) | ratio |");
    println!("|---|---|---|");
    println!("| by the private socket | {} | 1 |", own.shown(1000.0));
    let ratio = remote.ratio(own);
    println!("| by DCOM | {} | {ratio:.3} |", remote.shown(1000.0));
}

/// What was measured of one thing.
#[derive(Default)]
struct Row {
    times: Vec<Duration>,
    /// The median of each round, in microseconds.
    medians: Vec<f64>,
}

impl Row {
    fn round(&mut self, calls: usize, mut call: impl FnMut()) {
        for _ in 0..calls {
            let begin = Instant::now();
            call();
            self.times.push(begin.elapsed());
        }
        self.end_round(calls);
    }

    fn end_round(&mut self, calls: usize) {
        let from = self.times.len().saturating_sub(calls);
        let round = self.times.iter().skip(from);
        self.medians
            .push(median(round.map(|time| time.as_secs_f64() * 1e6).collect()));
    }

    fn shown(&mut self, unit: f64) -> String {
        let (p50, p95) = percentiles(&mut self.times);
        format!("{:.1} ({:.1})", p50 / unit, p95 / unit)
    }

    /// The median of the rounds' ratios.
    fn ratio(&self, floor: &Self) -> f64 {
        let rounds = self.medians.iter().zip(&floor.medians);
        median(rounds.map(|(one, floor)| one / floor).collect())
    }
}

/// A connection whose other end answers so many bytes with others, and does nothing else.
fn bare() -> TcpStream {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        while stream.read_exact(&mut [0; CALL]).is_ok() {
            stream.write_all(&[9; ANSWER]).unwrap();
        }
    });
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What the service orders for the same call.
fn create(client: &mut Client) -> String {
    let secret = |bytes: &[u8]| SecretBytes::new(bytes.to_vec());
    let content = NewContent::Personalised {
        pin: secret(CARD_PIN),
        puk: None,
        admin_key: Some(secret(&ADMIN_KEY)),
        blank: false,
    };
    let order = CreateCard {
        pin_policy: Some(POLICY),
        card_id: Some(cardea_rpc::random::bytes().unwrap()),
        ..CreateCard::new("bench", content)
    };
    let request = Request::Cards(CardsRequest::Create(Box::new(order)));
    match client.call_with_progress(&request, LIMIT, &mut |_| {}) {
        Ok(Reply::Card(card)) => card.summary.card_id,
        other => panic!("no card: {other:?}"),
    }
}

fn destroy(client: &mut Client, card: String) {
    let request = Request::card(card, CardRequest::Destroy { owner_auth: None });
    match client.call_with_progress(&request, LIMIT, &mut |_| {}) {
        Ok(Reply::Done) => {}
        other => panic!("not destroyed: {other:?}"),
    }
}
