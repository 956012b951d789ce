//! What is left in the daemon's memory and in its log.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cardea_card::record::{CardRecord, IndexRole, VaultKind};
use cardea_client::Client;
use cardea_client::message::{
    AdminAnswer, Authority, CardRequest, CardsRequest, CreateCard, KeyClass, NewContent, NewKey,
    Operation, PowerAction, PrivateKey, PublicKey, Reference, Reply, Request, SecretBytes,
    SlotRequest,
};
use cardea_store::format::{HostKey, decode};
use cardea_testkit::multiplexer::Multiplexer;
use cardea_testkit::played;
use cardea_testkit::process::Running;
use cardea_testkit::rig::bin_dir;
use cardea_testkit::software::SeededRng;
use cardea_testkit::swtpm::Swtpm;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use crate::bench::{ADMIN_KEY, Outcome, PIN, PUK, SECOND_PIN, THIRD_PIN, WRONG_PIN, succeeds_if};
use crate::needles::Needles;
use crate::raw::cc;
use crate::vault::{HOST, external, mutual, xor};

const PATIENCE: Duration = Duration::from_secs(60);
const NEW_ADMIN_KEY: [u8; 24] = *b"\xA7new-4K\x02-admin-key\x99-of-i";
const SCALAR: [u8; 32] = *b"imported-scalar-Qz8\x81-of-32-byte!";
const PLAIN: &[u8] = b"deciphered plain text Hn5\x8E";

/// A daemon as a process, and everything secret that it is told.
struct Victim {
    client: Client,
    needles: Needles,
    process: Running,
    mux: Multiplexer,
    _tpm: Swtpm,
    folder: tempfile::TempDir,
}

/// Where a daemon finds everything.
pub(crate) struct Places {
    pub(crate) configuration: PathBuf,
    pub(crate) tpm: String,
    pub(crate) state: PathBuf,
    pub(crate) socket: PathBuf,
}

/// How the daemon is started: the product, or one that is weak.
pub(crate) type Program = fn(&Places) -> Command;

pub(crate) fn product(places: &Places) -> Command {
    let mut command = Command::new(bin_dir().join("cardea-daemon"));
    command
        .arg("--config")
        .arg(&places.configuration)
        .args(["--tpm", &places.tpm])
        .arg("--state-dir")
        .arg(&places.state)
        .arg("--socket")
        .arg(&places.socket)
        .env("RUST_LOG", "trace");
    command
}

impl Victim {
    fn start(program: Program) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let mux = Multiplexer::start(folder.path(), &tpm);
        let places = Places {
            configuration: folder.path().join("cardea.toml"),
            tpm: mux.address(),
            state: folder.path().join("state"),
            socket: folder.path().join("cardea.sock"),
        };
        std::fs::write(&places.configuration, "log = \"trace\"\n").unwrap();
        let log = folder.path().join("daemon.log");
        let mut process = Running::start(&mut program(&places), &log);
        let socket = places.socket;
        process.wait_ready(|_| UnixStream::connect(&socket).is_ok());
        let mut needles = Needles::default();
        for (name, secret) in [
            ("the PIN", PIN),
            ("the second PIN", SECOND_PIN),
            ("the third PIN", THIRD_PIN),
            ("a wrong PIN", WRONG_PIN),
            ("the PUK", PUK),
            ("the admin key", &ADMIN_KEY),
            ("the new admin key", &NEW_ADMIN_KEY),
            ("the imported key", &SCALAR),
            ("the plain text", PLAIN),
        ] {
            needles.add(name, secret);
        }
        Self {
            client: Client::new(socket),
            needles,
            process,
            mux,
            _tpm: tpm,
            folder,
        }
    }

    fn call(&mut self, request: &Request) -> Reply {
        match self.client.call(request, PATIENCE).unwrap() {
            Reply::Failed(failure) => panic!("{request:?}: {failure:?}"),
            reply => reply,
        }
    }

    fn refused(&mut self, request: &Request) {
        let reply = self.client.call(request, PATIENCE).unwrap();
        assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
    }

    fn create(&mut self, name: &str, puk: Option<&[u8]>, admin_key: Option<&[u8]>) -> u8 {
        let content = NewContent::Personalised {
            pin: secret(PIN),
            puk: puk.map(secret),
            admin_key: admin_key.map(secret),
            blank: false,
        };
        let made = self.call(&Request::Cards(CardsRequest::Create(Box::new(
            CreateCard {
                counter_mode: Some(played::counter_mode()),
                ..CreateCard::new(name, content)
            },
        ))));
        let Reply::Card(card) = made else {
            panic!("{made:?}")
        };
        self.learn(name);
        card.summary.slot.unwrap()
    }

    /// The card's file, as anybody may read it who is root.
    fn record(&self, name: &str) -> CardRecord {
        let cards = self.folder.path().join("state/cards");
        std::fs::read_dir(cards)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "card")
            })
            .map(|path| decode(&HostKey::new([0; 32]), &std::fs::read(path).unwrap()))
            .find_map(|decoded| Some(decoded.unwrap().record).filter(|record| record.name == name))
            .unwrap()
    }

    /// What the card's secrets are to the TPM, at this moment.
    fn learn(&mut self, name: &str) {
        let record = self.record(name);
        for (what, role, typed) in [
            ("PIN", IndexRole::Pin, PIN),
            ("second PIN", IndexRole::Pin, SECOND_PIN),
            ("third PIN", IndexRole::Pin, THIRD_PIN),
            ("wrong PIN", IndexRole::Pin, WRONG_PIN),
            ("PUK", IndexRole::Puk, PUK),
        ] {
            let value = cardea_tpm::auth::auth_value(&record.tpm.salt, role, typed);
            self.needles
                .add(format!("{name}: value of the {what}"), &*value);
        }
        for key in [ADMIN_KEY, NEW_ADMIN_KEY] {
            learn_vault(&mut self.needles, name, &record, &key);
        }
    }

    fn transmit(&mut self, slot: u8, apdu: &[u8]) -> Vec<u8> {
        let apdu = secret(apdu);
        match self.call(&Request::slot(slot, SlotRequest::Transmit { apdu })) {
            Reply::Response(response) => response.expose().to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn accepted(&mut self, slot: u8, apdu: &[u8]) -> Vec<u8> {
        let mut response = self.transmit(slot, apdu);
        let status = response.split_off(response.len() - 2);
        assert_eq!(status, [0x90, 0], "{:02x?}", &apdu[..4]);
        response
    }

    fn answer(&mut self, card: &str) -> AdminAnswer {
        match self.call(&Request::card(card, CardRequest::AdminChallenge)) {
            Reply::Challenge(challenge) => {
                let response = secret(&external(&challenge));
                AdminAnswer {
                    challenge,
                    response,
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// A day in the life of two cards, through both doors.
    fn live(&mut self) {
        let slot = self.create("admin", None, Some(&ADMIN_KEY));
        let puk_slot = self.create("puk", Some(PUK), None);
        self.doors(slot);
        self.keys("admin");
        self.administrator(slot, "admin");
        self.unblock_by_puk(puk_slot, "puk");
        let tickets = self.tickets();
        assert!(tickets.len() > 3, "{} tickets", tickets.len());
        for ticket in tickets {
            self.needles.add("a PIN ticket", &ticket);
        }
    }

    /// PC/SC: VERIFY right and wrong, CHANGE REFERENCE DATA.
    fn doors(&mut self, slot: u8) {
        let action = PowerAction::Up;
        self.call(&Request::slot(slot, SlotRequest::Power { action }));
        self.accepted(slot, &command(&[0, 0x20, 0, 0x80], PIN));
        let wrong = self.transmit(slot, &command(&[0, 0x20, 0, 0x80], WRONG_PIN));
        assert_eq!(wrong, [0x63, 0xC4]);
        let both = [PIN, SECOND_PIN].concat();
        self.accepted(slot, &command(&[0, 0x24, 0, 0x80], &both));
        self.accepted(slot, &command(&[0, 0x20, 0, 0x80], SECOND_PIN));
    }

    /// The socket: keys made, imported and used.
    fn keys(&mut self, card: &str) {
        let key = |class| NewKey {
            label: None,
            class,
            sign_only: false,
            id: None,
        };
        let (card, pin) = (card.to_owned(), || Some(secret(SECOND_PIN)));
        let made = self.call(&Request::card(
            card.clone(),
            CardRequest::GenerateKey {
                pin: pin(),
                key: key(KeyClass::Session),
                algorithm: cardea_terms::KeyAlgorithm::Rsa2048,
            },
        ));
        let Reply::Key(rsa) = made else {
            panic!("{made:?}")
        };
        let cryptogram = encrypt(&rsa.public);
        let plain = self.call(&Request::card(
            card.clone(),
            CardRequest::UseKey {
                pin: pin(),
                reference: rsa.reference,
                operation: Operation::DecryptPkcs1 { cryptogram },
            },
        ));
        assert!(matches!(&plain, Reply::Result(plain) if plain.expose() == PLAIN));
        let scalar = p256::SecretKey::from_slice(&SCALAR).unwrap();
        let point = scalar.public_key().to_sec1_point(false);
        for class in [KeyClass::Session, KeyClass::Always] {
            let made = self.call(&Request::card(
                card.clone(),
                CardRequest::ImportKey {
                    pin: pin(),
                    key: key(class),
                    material: PrivateKey::Ec {
                        scalar: secret(&SCALAR),
                        x: point.x().unwrap().to_vec(),
                        y: point.y().unwrap().to_vec(),
                    },
                },
            ));
            let Reply::Key(imported) = made else {
                panic!("{made:?}")
            };
            self.call(&Request::card(
                card.clone(),
                CardRequest::UseKey {
                    pin: pin(),
                    reference: imported.reference,
                    operation: Operation::SignEcdsa {
                        digest: vec![7; 32],
                    },
                },
            ));
        }
    }

    fn administrator(&mut self, slot: u8, card: &str) {
        // Mutual, by APDU; then RESET RETRY COUNTER.
        self.accepted(slot, &[0, 0x22, 0xC1, 0xA4, 3, 0x83, 1, 0x80]);
        let ask = [&[0x7C, 18, 0x81, 16][..], &HOST].concat();
        let asked = self.accepted(slot, &[&command(&[0, 0x87, 0, 0], &ask)[..], &[0]].concat());
        let said = [&[0x7C, 42, 0x82, 40][..], &mutual(&asked[4..])].concat();
        self.accepted(
            slot,
            &[&command(&[0, 0x87, 0, 0], &said)[..], &[0]].concat(),
        );
        self.learn(card);
        self.accepted(slot, &command(&[0, 0x2C, 2, 0x80], THIRD_PIN));
        self.accepted(slot, &command(&[0, 0x20, 0, 0x80], THIRD_PIN));
        // External, by the socket.
        let answer = self.answer(card);
        self.call(&Request::card(
            card,
            CardRequest::UnblockPin {
                by: Authority::Admin(answer),
                new: secret(PIN),
            },
        ));
        self.learn(card);
        self.refused(&Request::card(
            card,
            CardRequest::VerifyAdmin {
                answer: AdminAnswer {
                    challenge: vec![1; 8],
                    response: secret(b"a guess!"),
                },
            },
        ));
        let answer = self.answer(card);
        self.call(&Request::card(
            card,
            CardRequest::ChangeAdminKey {
                answer,
                new: secret(&NEW_ADMIN_KEY),
            },
        ));
        self.learn(card);
        self.call(&Request::card(
            card,
            CardRequest::ChangePin {
                old: secret(PIN),
                new: secret(SECOND_PIN),
                reference: Reference::Pin,
            },
        ));
    }

    fn unblock_by_puk(&mut self, slot: u8, card: &str) {
        let both = [PUK, SECOND_PIN].concat();
        let action = PowerAction::Up;
        self.call(&Request::slot(slot, SlotRequest::Power { action }));
        self.accepted(slot, &command(&[0, 0x2C, 0, 0x80], &both));
        self.call(&Request::card(
            card,
            CardRequest::UnblockPin {
                by: Authority::Puk(secret(PUK)),
                new: secret(THIRD_PIN),
            },
        ));
        self.accepted(slot, &command(&[0, 0x20, 0, 0x80], THIRD_PIN));
    }

    /// HMACs of the tickets that the TPM has given.
    fn tickets(&self) -> Vec<Vec<u8>> {
        self.mux
            .exchanges()
            .into_iter()
            .filter(|exchange| {
                exchange.code() == cc::POLICY_SECRET && exchange.response_code() == Some(0)
            })
            .filter_map(|exchange| {
                let response = exchange.response?;
                let length = usize::from(u16::from_be_bytes([response[14], response[15]]));
                let ticket = &response[16 + length..];
                let size = usize::from(u16::from_be_bytes([ticket[6], ticket[7]]));
                Some(ticket[8..8 + size].to_vec()).filter(|hmac| !hmac.is_empty())
            })
            .collect()
    }

    /// Secrets in the writable memory, with the kind of place.
    fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (region, bytes) in writable(self.process.pid()) {
            for (secret, at) in self.needles.found_in(&bytes) {
                let from_end = bytes.len() - at;
                found.push(format!(
                    "{secret} in {region}, {from_end:#x} before its end"
                ));
            }
        }
        found
    }

    /// Birth keys: with one of them root could make the card's counter again.
    fn birth_keys(&self) -> usize {
        let areas = ["admin", "puk"].map(|card| self.record(card).tpm.birth_public);
        // A card in object mode is born without one.
        let areas = areas.iter().filter(|area| !area.is_empty());
        let abscissas: Vec<[u8; 32]> = areas
            .map(|area| area[area.len() - 66..area.len() - 34].try_into().unwrap())
            .collect();
        let memory: Vec<_> = writable(self.process.pid())
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        private_keys_in(&memory, &abscissas)
    }
}

fn learn_vault(needles: &mut Needles, name: &str, record: &CardRecord, key: &[u8; 24]) {
    let admin_key = cardea_tpm::AdminKey::new(key).unwrap();
    let Some(vault) = &record.tpm.vault else {
        return;
    };
    for kind in [VaultKind::External, VaultKind::Mutual] {
        let entry = vault.entries.iter().find(|entry| entry.kind == kind);
        let mut answer = entry.unwrap().challenge.clone();
        admin_key.encrypt(&mut answer);
        let value = cardea_tpm::vault::candidate(vault, entry.unwrap(), &answer).unwrap();
        needles.add(format!("{name}: admin value"), &*value);
        if let Some(mask) = cardea_tpm::vault::mask(vault, entry.unwrap(), &answer) {
            needles.add(format!("{name}: mask of the admin key"), &*mask);
            needles.add(format!("{name}: masked admin key"), &xor(key, &*mask));
        }
    }
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

fn command(header: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).unwrap();
    [&header[..], &[length], data].concat()
}

fn encrypt(public: &PublicKey) -> Vec<u8> {
    let PublicKey::Rsa { modulus, exponent } = public else {
        panic!("{public:?}")
    };
    let modulus = rsa::BoxedUint::from_be_slice_vartime(modulus);
    let key = rsa::PublicKey::new(modulus, rsa::BoxedUint::from(*exponent));
    let mut rng = SeededRng::new(3);
    key.unwrap()
        .encrypt(&mut rng, rsa::Pkcs1v15Encrypt, PLAIN)
        .unwrap()
}

/// Everything writable of a process, as root reads it: range, name and content.
fn writable(pid: u32) -> Vec<(String, Vec<u8>)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut regions = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let name = fields.nth(3).unwrap_or("anonymous");
        let (begin, end) = range.split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - begin).unwrap()];
        if rights.starts_with("rw") && memory.read_exact_at(&mut bytes, begin).is_ok() {
            regions.push((format!("{name} {range}"), bytes));
        }
    }
    let read: usize = regions.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(read > 1 << 20, "the memory was read");
    regions
}

/// P-256 private keys in memory of which only the abscissas of the public keys are known.
fn private_keys_in(memory: &[Vec<u8>], abscissas: &[[u8; 32]]) -> usize {
    let mut candidates = HashSet::new();
    for window in memory.iter().flat_map(|bytes| bytes.windows(32).step_by(8)) {
        let mut candidate: [u8; 32] = window.try_into().unwrap();
        // Random numbers have no pointers and no small numbers among them.
        let random = |limb: &[u8]| limb.iter().filter(|byte| **byte == 0).count() < 2;
        if candidate.chunks_exact(8).all(random) {
            candidates.insert(candidate);
            // As the library has it in memory.
            candidate.reverse();
            candidates.insert(candidate);
        }
    }
    let known = |candidate: &&[u8; 32]| {
        p256::SecretKey::from_slice(&candidate[..]).is_ok_and(|key| {
            let point = key.public_key().to_sec1_point(false);
            abscissas.iter().any(|x| point.x().unwrap()[..] == *x)
        })
    };
    candidates.iter().filter(known).count()
}

/// What the daemon's memory has after everybody has gone.
pub(crate) fn memory_after_logout(program: Program) -> Outcome {
    let mut victim = Victim::start(program);
    victim.live();
    // The harness is right: the daemon holds a ticket while the card is verified.
    assert!(
        victim
            .remains()
            .iter()
            .any(|place| place.contains("ticket")),
        "a verified card has a ticket in memory"
    );
    victim.client.disconnect();
    // Connections end by themselves after the client went away.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let remains = victim.remains();
        if remains.is_empty() {
            break;
        }
        succeeds_if!(Instant::now() > deadline, "{}", remains.join("\n"));
        std::thread::sleep(Duration::from_millis(100));
    }
    succeeds_if!(victim.birth_keys() > 0, "a birth key is in memory");
    Ok(())
}

#[test]
fn private_key_is_found_by_its_public_half() {
    let key = p256::SecretKey::from_slice(&SCALAR).unwrap();
    let point = key.public_key().to_sec1_point(false);
    let x: [u8; 32] = point.x().unwrap()[..].try_into().unwrap();
    let mut memory = vec![0; 96];
    memory[40..72].copy_from_slice(&SCALAR);
    assert_eq!(private_keys_in(&[memory.clone()], &[x]), 1);
    memory[40..72].reverse();
    assert_eq!(private_keys_in(&[memory.clone()], &[x]), 1);
    assert_eq!(private_keys_in(&[memory[8..64].to_vec()], &[x]), 0);
}

/// What is in the log and in every file of the daemon, with everything logged.
pub(crate) fn log_and_files(program: Program) -> Outcome {
    let mut victim = Victim::start(program);
    victim.live();
    victim.client.disconnect();
    let log = victim.process.log();
    assert!(log.contains("TRACE"), "everything is logged: {log}");
    for line in log.lines() {
        let found = victim.needles.found_in(line.as_bytes());
        succeeds_if!(!found.is_empty(), "{found:?} in the log: {line}");
        // Also as Debug output shows bytes.
        for (name, secret) in [("PIN", PIN), ("PUK", PUK), ("admin key", &ADMIN_KEY)] {
            for shown in [
                format!("{:?}", &secret[..6]),
                format!("{:02x?}", &secret[..6]),
                secret[..6]
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            ] {
                let shown = shown.trim_matches(['[', ']']);
                let found = line.to_lowercase().contains(shown);
                succeeds_if!(found, "{name} in the log: {line}");
            }
        }
    }
    for path in files(&victim.folder.path().join("state")) {
        let found = victim.needles.found_in(&std::fs::read(&path).unwrap());
        let found: Vec<_> = found.iter().map(|(name, _)| name).collect();
        succeeds_if!(!found.is_empty(), "{found:?} in {}", path.display());
    }
    Ok(())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
