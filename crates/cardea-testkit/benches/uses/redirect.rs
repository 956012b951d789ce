//! Round trips to a card: here, and through `cardea redirect` over a loopback ssh, with and without a network's delay.
//!
//! The delay is `tc netem`'s on the loopback interface of a network namespace where the kernel has it; else that of a
//! relay between ssh and sshd, which holds back every byte for as long in each direction.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardsRequest, Operation, Page, PowerAction, ReaderRequest, Reply, Request,
    SecretBytes, SlotRequest,
};
use cardea_testkit::namespace::Namespace;
use cardea_testkit::process::wait_for;
use cardea_testkit::redirection::Redirection;
use cardea_testkit::rig::PIN;

/// Added to each round trip, half of it in each direction.
const DELAY: Duration = Duration::from_millis(50);

/// SELECT of the application: no work for the TPM.
const SELECT: &[u8] = &[
    0x00, 0xA4, 0x04, 0x00, 0x0B, 0xA0, 0x00, 0x00, 0x03, 0x97, 0x42, 0x54, 0x46, 0x59, 0x02, 0x01,
    0x00,
];

/// Prints the tables.
pub(crate) fn run(quick: bool) {
    let rounds = if quick { 20 } else { 200 };
    let machines = Redirection::new("redirect_to_reader = true\n");
    println!("| round trip | APDU p50 ms (p95) | signature P-256 p50 ms (p95) |");
    println!("|---|---|---|");
    let here = machines.here.daemon.socket();
    let mut local = Meter::new(&here, Login::Pin);
    local.print("card here", rounds);
    drop(local);

    let redirect = machines.start(&[]);
    measure(&machines, "loopback ssh", rounds);
    let mut redirect = redirect;
    redirect.terminate();
    wait_for("the card has left", || !machines.is_there());

    if has_netem() {
        drop(machines);
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "tc qdisc add dev lo root netem delay {}ms",
            DELAY.as_millis() / 2
        );
        let network = Namespace::new(folder.path(), &script);
        let machines = Redirection::over("redirect_to_reader = true\n", Some(network));
        let mut redirect = machines.start(&[]);
        measure(&machines, "50 ms of delay added (tc netem)", rounds.min(60));
        redirect.terminate();
        return;
    }
    let port = relay(machines.sshd.port(), DELAY / 2).to_string();
    let known = format!("HostKeyAlias=[127.0.0.1]:{}", machines.sshd.port());
    let mut redirect = machines.start(&["--", "-p", &port, "-o", &known]);
    measure(
        &machines,
        "50 ms of delay added (relay: this kernel has no netem)",
        rounds.min(60),
    );
    redirect.terminate();
}

fn measure(machines: &Redirection, name: &str, rounds: usize) {
    let there = machines.there.daemon.socket();
    wait_for("the card is in a slot", || {
        let states = Client::new(&there).call(
            &Request::Reader(ReaderRequest::States),
            Duration::from_secs(10),
        );
        matches!(states, Ok(Reply::Slots { inserted, .. }) if inserted[0] != 0)
    });
    Meter::new(&there, Login::Agent).print(name, rounds);
}

enum Login {
    Agent,
    Pin,
}

/// A reader and a program at one daemon.
struct Meter {
    reader: Client,
    program: Client,
    card: String,
    key: u8,
}

const LIMIT: Duration = Duration::from_secs(60);

impl Meter {
    fn new(socket: &std::path::Path, login: Login) -> Self {
        let mut reader = Client::new(socket);
        let up = Request::slot(
            0,
            SlotRequest::Power {
                action: PowerAction::Up,
            },
        );
        assert!(matches!(reader.call(&up, LIMIT), Ok(Reply::Atr(_))));
        let mut program = Client::new(socket);
        let Ok(Reply::Overview(Page { entries: cards, .. })) =
            program.call(&Request::Cards(CardsRequest::States { from: None }), LIMIT)
        else {
            panic!("no cards");
        };
        let card = cards[0].card_id.clone();
        let request = match login {
            Login::Agent => Request::card(card.clone(), CardRequest::LoginByAgent),
            Login::Pin => Request::card(
                card.clone(),
                CardRequest::Login {
                    pin: SecretBytes::new(PIN.into()),
                },
            ),
        };
        let done = program.call(&request, LIMIT);
        assert!(matches!(done, Ok(Reply::Done)), "{done:?}");
        let contents = Request::card(card.clone(), CardRequest::Contents { known: 0 });
        let Ok(Reply::Contents {
            contents: Some(contents),
            ..
        }) = program.call(&contents, LIMIT)
        else {
            panic!("no contents");
        };
        let key = contents
            .keys
            .iter()
            .find(|key| key.algorithm == cardea_terms::KeyAlgorithm::P256);
        let key = key.unwrap().reference;
        Self {
            reader,
            program,
            card,
            key,
        }
    }

    fn print(&mut self, name: &str, rounds: usize) {
        let apdu = |meter: &mut Self| {
            let answer = meter.reader.transmit(0, SELECT, LIMIT, <[u8]>::to_vec);
            assert!(answer.unwrap().ends_with(&[0x90, 0x00]));
        };
        let sign = |meter: &mut Self| {
            let request = Request::card(
                meter.card.clone(),
                CardRequest::UseKey {
                    pin: None,
                    reference: meter.key,
                    operation: Operation::SignEcdsa {
                        digest: vec![7; 32],
                    },
                },
            );
            let answer = meter.program.call(&request, LIMIT);
            assert!(matches!(answer, Ok(Reply::Result(_))), "{answer:?}");
        };
        let (a50, a95) = self.times(rounds, apdu);
        let (s50, s95) = self.times(rounds, sign);
        println!("| {name} | {a50:.2} ({a95:.2}) | {s50:.2} ({s95:.2}) |");
    }

    fn times(&mut self, rounds: usize, mut once: impl FnMut(&mut Self)) -> (f64, f64) {
        for _ in 0..5 {
            once(self);
        }
        let mut times: Vec<Duration> = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                once(self);
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
        (at(50).as_secs_f64() * 1e3, at(95).as_secs_f64() * 1e3)
    }
}

/// A way to the server that takes its time: its port.
fn relay(server: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
            for (from, to) in [(&client, &server), (&server, &client)] {
                from.set_nodelay(true).unwrap();
                pass(from.try_clone().unwrap(), to.try_clone().unwrap(), delay);
            }
        }
    });
    port
}

/// Whether the kernel has it; a namespace for itself is tried.
fn has_netem() -> bool {
    let line = "ip link set lo up && tc qdisc add dev lo root netem delay 1ms";
    let tried = Command::new("unshare")
        .args(["--net", "sh", "-c", line])
        .output();
    tried.is_ok_and(|output| output.status.success())
}

/// Everything goes on as it came, so much later.
fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (pieces, due) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let sent = pieces.send((Instant::now() + delay, piece[..count].to_vec()));
            if sent.is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (at, piece) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
