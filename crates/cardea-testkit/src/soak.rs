//! Many clients for a long time: signatures, PINs right and wrong, sessions begun and broken off, against a
//! daemon of its own on a software TPM. Nothing may fail that should not, and nothing may be left behind.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cardea_card::token::Rng;
use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, FailureKind, KeyClass, NewContent, NewKey, Operation,
    PowerAction, PublicKey, Reference, Reply, Request, SecretBytes, SlotRequest,
};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};

use crate::rig::{Daemon, PIN};
use crate::software::SeededRng;
use crate::swtpm::Swtpm;

/// Clients at once.
const CLIENTS: u64 = 8;

/// Cards; more than the TPM has sessions for.
const CARDS: usize = 4;

/// Tries of the PIN: eight clients may each have a wrong one outstanding.
const TRIES: u32 = 200;

/// Longest time for one request.
const LIMIT: Duration = Duration::from_secs(60);

/// What a run found.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Operations done.
    pub operations: u64,
    /// Signatures among them.
    pub signatures: u64,
    /// Wrong PINs among them.
    pub wrong_pins: u64,
    /// Connections broken off.
    pub disconnects: u64,
    /// Time in all.
    pub time: Duration,
    /// Resident memory of the daemon after a tenth of the run, in KiB.
    pub memory_early: u64,
    /// Resident memory of the daemon at the end, in KiB.
    pub memory_late: u64,
    /// Objects left loaded in the TPM when the daemon stopped.
    pub transient_objects: usize,
    /// Sessions left loaded.
    pub loaded_sessions: usize,
    /// Sessions left saved.
    pub saved_sessions: usize,
}

impl Figures {
    /// What every run must show: no handle left that the daemon does not need, no growth.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn check(&self) {
        // Keys stay loaded for the next use; the channel is the one session that outlives a verification.
        assert!(self.transient_objects <= 3, "{self:?}");
        assert!(self.loaded_sessions <= 1, "{self:?}");
        assert_eq!(self.saved_sessions, 0, "{self:?}");
        assert!(
            self.memory_late <= self.memory_early + GROWTH,
            "the daemon has grown: {self:?}"
        );
    }
}

/// KiB that the daemon's memory may vary by: threads come and go with their stacks.
const GROWTH: u64 = 4096;

struct Target {
    card: String,
    slot: u8,
    /// References and public keys: PIN once, PIN every time.
    session: (u8, VerifyingKey),
    always: (u8, VerifyingKey),
}

#[derive(Default)]
struct Tally {
    operations: AtomicU64,
    signatures: AtomicU64,
    wrong_pins: AtomicU64,
    disconnects: AtomicU64,
}

/// Runs until so many operations are done.
///
/// # Panics
///
/// When an operation fails that should succeed, or succeeds that should fail.
#[must_use]
pub fn run(operations: u64) -> Figures {
    let folder = tempfile::tempdir().expect("a folder");
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let mut daemon = Daemon::start(&folder.path().join("daemon"), &tpm.address(), "slots = 8\n");
    let socket = daemon.socket();
    let targets: Vec<Target> = (0..CARDS).map(|number| prepare(&socket, number)).collect();
    let tally = Tally::default();
    let begin = Instant::now();
    let mut memory_early = 0;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (socket, targets, tally) = (&socket, &targets, &tally);
                scope.spawn(move || client(number, socket, targets, tally, operations))
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            if memory_early == 0 && tally.operations.load(Ordering::Relaxed) * 10 >= operations {
                memory_early = daemon.resident_memory();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for client in clients {
            if let Err(panic) = client.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let time = begin.elapsed();
    let memory_late = daemon.resident_memory();
    daemon.stop();
    let handles = |kind: &str| {
        let listed = tpm.tpm2("tpm2_getcap", &[kind]);
        assert!(listed.success, "{}", listed.text);
        listed.text.matches("0x").count()
    };
    Figures {
        operations: tally.operations.into_inner(),
        signatures: tally.signatures.into_inner(),
        wrong_pins: tally.wrong_pins.into_inner(),
        disconnects: tally.disconnects.into_inner(),
        time,
        memory_early,
        memory_late,
        transient_objects: handles("handles-transient"),
        loaded_sessions: handles("handles-loaded-session"),
        saved_sessions: handles("handles-saved-session"),
    }
}

fn prepare(socket: &Path, number: usize) -> Target {
    let mut client = Client::connect(socket).expect("the daemon answers");
    let order = CreateCard {
        pin_tries: Some(TRIES),
        ..CreateCard::new(format!("soak {number}"), NewContent::with_pin(pin()))
    };
    let Reply::Card(card) = call(
        &mut client,
        &Request::Cards(CardsRequest::Create(Box::new(order))),
    ) else {
        panic!("no card was made");
    };
    let card_id = card.summary.card_id;
    let mut key = |class| {
        let request = Request::card(
            card_id.clone(),
            CardRequest::GenerateKey {
                pin: Some(pin()),
                key: NewKey {
                    label: None,
                    class,
                    sign_only: true,
                    id: None,
                },
                algorithm: cardea_terms::KeyAlgorithm::P256,
            },
        );
        let Reply::Key(key) = call(&mut client, &request) else {
            panic!("no key was made");
        };
        let PublicKey::Ec { x, y } = &key.public else {
            panic!("another kind of key");
        };
        let point = [&[4][..], x, y].concat();
        let public = VerifyingKey::from_sec1_bytes(&point).expect("a point");
        (key.reference, public)
    };
    Target {
        session: key(KeyClass::Session),
        always: key(KeyClass::Always),
        slot: card.summary.slot.expect("the card has a reader"),
        card: card_id,
    }
}

fn pin() -> SecretBytes {
    SecretBytes::new(PIN.as_bytes().to_vec())
}

fn call(client: &mut Client, request: &Request) -> Reply {
    match client.call_with_progress(request, LIMIT, &mut |_| {}) {
        Ok(Reply::Failed(failure)) => panic!("{request:?}: {failure:?}"),
        Ok(reply) => reply,
        Err(error) => panic!("{request:?}: {error}"),
    }
}

fn client(number: u64, socket: &Path, targets: &[Target], tally: &Tally, operations: u64) {
    let mut rng = SeededRng::new(number);
    let mut draw = move || {
        let mut bytes = [0; 4];
        rng.fill(&mut bytes);
        bytes
    };
    let mut client = Client::connect(socket).expect("the daemon answers");
    while tally.operations.fetch_add(1, Ordering::Relaxed) < operations {
        let [what, which, byte, chance] = draw();
        let target = &targets[usize::from(which) % targets.len()];
        match what % 16 {
            0 => wrong_pin(&mut client, target, tally),
            1 | 2 => verify_pin(&mut client, target),
            3 | 4 => drop(call(
                &mut client,
                &Request::card(target.card.clone(), CardRequest::Show),
            )),
            5..=7 => over_the_reader(&mut client, target, byte, tally),
            8 | 9 => sign(&mut client, target, &target.always, byte, tally),
            _ => sign(&mut client, target, &target.session, byte, tally),
        }
        if chance < 8 {
            break_off(socket, target);
            client = Client::connect(socket).expect("the daemon answers");
            tally.disconnects.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn wrong_pin(client: &mut Client, target: &Target, tally: &Tally) {
    let request = Request::card(
        target.card.clone(),
        CardRequest::VerifyPin {
            value: SecretBytes::new(b"000000".to_vec()),
            reference: Reference::Pin,
        },
    );
    match client.call(&request, LIMIT).expect("an answer") {
        Reply::Failed(failure) if failure.kind == FailureKind::PinWrong => {}
        other => panic!("a wrong PIN: {other:?}"),
    }
    tally.wrong_pins.fetch_add(1, Ordering::Relaxed);
    verify_pin(client, target);
}

fn verify_pin(client: &mut Client, target: &Target) {
    let request = Request::card(
        target.card.clone(),
        CardRequest::VerifyPin {
            value: pin(),
            reference: Reference::Pin,
        },
    );
    call(client, &request);
}

fn sign(
    client: &mut Client,
    target: &Target,
    (reference, public): &(u8, VerifyingKey),
    byte: u8,
    tally: &Tally,
) {
    let digest = [byte; 32];
    let request = Request::card(
        target.card.clone(),
        CardRequest::UseKey {
            pin: Some(pin()),
            reference: *reference,
            operation: Operation::SignEcdsa {
                digest: digest.to_vec(),
            },
        },
    );
    let Reply::Result(signature) = call(client, &request) else {
        panic!("no signature");
    };
    tally.signatures.fetch_add(1, Ordering::Relaxed);
    // Every signature is looked at as such, one in sixteen as to whether it is right.
    let signature = Signature::from_slice(signature.expose()).expect("r and s");
    if byte.is_multiple_of(16) {
        public
            .verify_prehash(&digest, &signature)
            .expect("the signature is right");
    }
}

/// VERIFY, MSE, PSO as a PC/SC client sends them, on a connection of its own to the card.
fn over_the_reader(client: &mut Client, target: &Target, byte: u8, tally: &Tally) {
    let slot = target.slot;
    let power = |client: &mut Client, action| {
        call(client, &Request::slot(slot, SlotRequest::Power { action }));
    };
    power(client, PowerAction::Up);
    let mut send = |command: &[u8]| {
        let request = Request::slot(
            slot,
            SlotRequest::Transmit {
                apdu: SecretBytes::new(command.to_vec()),
            },
        );
        match call(client, &request) {
            Reply::Response(response) => response.expose().to_vec(),
            other => panic!("no response: {other:?}"),
        }
    };
    let verify = [&[0, 0x20, 0, 0x80, 6], PIN.as_bytes()].concat();
    assert_eq!(send(&verify), [0x90, 0x00]);
    let (reference, public) = if byte.is_multiple_of(2) {
        &target.session
    } else {
        &target.always
    };
    let choose = [0, 0x22, 0x41, 0xB6, 6, 0x80, 1, 0x1C, 0x84, 1, *reference];
    assert_eq!(send(&choose), [0x90, 0x00]);
    let sign = [&[0, 0x2A, 0x9E, 0x9A, 32][..], &[byte; 32], &[0]].concat();
    let response = send(&sign);
    let (signature, status) = response.split_last_chunk::<2>().expect("a status word");
    // Another client may have ended the verification: a wrong PIN ends only its own connection's, so it may
    // not; but the one operation with an always-class key belongs to whoever verified last.
    if *status == [0x69, 0x82] && byte % 2 == 1 {
        return;
    }
    assert_eq!(*status, [0x90, 0x00]);
    let signature = Signature::from_der(signature).expect("a signature");
    public
        .verify_prehash(&[byte; 32], &signature)
        .expect("the signature is right");
    tally.signatures.fetch_add(1, Ordering::Relaxed);
    if byte.is_multiple_of(4) {
        call(
            client,
            &Request::slot(
                slot,
                SlotRequest::Power {
                    action: PowerAction::Down,
                },
            ),
        );
    }
}

/// A client that goes away: after its greeting, in the middle of a frame, or with its answer unread.
fn break_off(socket: &Path, target: &Target) {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    let part = target.card.as_bytes().first().copied().unwrap_or(0) % 3;
    let bytes: &[u8] = match part {
        0 => &[],
        1 => &[0, 0, 0, 40, 0xA2],
        _ => &[0xFF; 64],
    };
    // A daemon that has hung up already is no error here.
    let _ = stream.write_all(bytes);
}
