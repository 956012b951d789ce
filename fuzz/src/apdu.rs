//! A whole card over the software token: sequences of commands on three connections, with resets, failing
//! stores and tokens, and restarts between them.
//!
//! The first byte of an input chooses the card. Then each step is a byte that says what happens, and what it
//! needs. Steps know the PIN, so that a few bytes reach what lies behind it.

use std::time::Duration;

use cardea_card::secret::Pin;
use cardea_card::token::{KeyAlgorithm, KeyClass, PinReference, TokenErrorKind};
use cardea_card::{Card, Connection, KeyNumber, KeyUsage, NewKey};
use cardea_iso7816::{
    Chaining, Class, CommandApdu, Interindustry, ResponseApdu, SecureMessaging, StatusWord,
};
use cardea_testkit::suite::{SoftwareCard, TRANSCRIPTS};
use cardea_testkit::transcript::{ADMIN_KEY, CardKind, PIN, PUK};
use cardea_tpm::AdminKey;

use crate::Target;
use crate::seeds::{Input, push_part};

/// Steps on a whole card.
pub const TARGET: Target = Target {
    name: "apdu",
    run,
    seeds,
    words: &[
        b"\x00\x00\x05\x00\x20\x00\x80",
        b"\x00\xA4\x04\x00\x09\xA0\x00\x00\x03\x97\x42\x54\x46\x59",
        b"\x00\xA4\x00\x0C\x02\x3F\xFF",
        b"\x00\xA4\x00\x0C\x02\xB0\x81",
        b"\x00\xCB\xA0\x00\x04\x5C\x02\xDF\x1F",
        b"\x00\xCB\x3F\xFF\x04\x5C\x02\x7F\x71",
        b"\x00\xCB\x3F\xFF\x0A\x70\x08\x84\x01\x81\xA5\x03\x7F\x49\x80\x00",
        b"\x10\xDB\xA0\x10",
        b"\x00\xDB\xA0\x10",
        b"\x00\xDB\x3F\xFF",
        b"\x00\x22\x41\xB6\x06\x80\x01\x57\x84\x01\x81",
        b"\x00\x22\x41\xB8\x06\x80\x01\x47\x84\x01\x81",
        b"\x00\x2A\x9E\x9A",
        b"\x10\x2A\x80\x86",
        b"\x00\x2A\x80\x86",
        b"\x00\x47\x00\x00\x08\xAC\x06\x80\x01\x07\x83\x01\x81",
        b"\x00\x44\x00\x00",
        b"\x00\xE4\x00\x00",
        b"\x00\x24\x00\x80",
        b"\x00\x2C\x00\x80",
        b"\x00\x87\x00\x00",
        b"\x8C\x05\x8F\x10\x10\x10\x00",
        b"\xA5\x37\xB8\x09\x80\x01\x07\x83\x01\x81\x95\x01\x40",
        b"123456",
        b"12345678",
    ],
};

/// More steps than the longest transcript.
const STEPS: usize = 300;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A command follows as an input part.
    Command,
    /// The command before once more.
    Again,
    /// A byte follows: the file system fails after so many more saves; 255 = never.
    BreakStore,
    /// A byte follows: the token's next request fails.
    BreakToken,
    /// The PIN is changed to itself through the other door.
    ChangePin,
    /// A byte follows: go on with that connection.
    Connection,
    /// The connection ends, another takes its place.
    Disconnect,
    /// VERIFY with the right PIN.
    RightPin,
    /// RESET RETRY COUNTER with the right PUK and the right PIN.
    RightPuk,
    /// The connection is reset.
    Reset,
    /// The host starts again: the card is opened from its file.
    Restart,
    /// The token forgets its verification, as a TPM that lost its power.
    TokenReset,
    /// A byte follows: so many minutes go by.
    Wait,
    /// VERIFY with a wrong PIN.
    WrongPin,
    /// External authentication with the right admin key.
    Administrator,
    /// Mutual authentication with it.
    MutualAdministrator,
    /// RESET RETRY COUNTER with the right PIN, by whoever is administrator.
    AdminUnblock,
    /// A byte follows: a key made through the other door; what kind, by its bits.
    OwnKey,
    /// A byte follows: the key with that reference is deleted through the other door.
    DeleteOwnKey,
    /// A byte follows: a certificate is stored for the key with that reference through the other door.
    OwnCertificate,
}

const ALL_STEPS: [Step; 20] = [
    Step::Command,
    Step::Again,
    Step::BreakStore,
    Step::BreakToken,
    Step::ChangePin,
    Step::Connection,
    Step::Disconnect,
    Step::RightPin,
    Step::RightPuk,
    Step::Reset,
    Step::Restart,
    Step::TokenReset,
    Step::Wait,
    Step::WrongPin,
    Step::Administrator,
    Step::MutualAdministrator,
    Step::AdminUnblock,
    Step::OwnKey,
    Step::DeleteOwnKey,
    Step::OwnCertificate,
];

/// The first three are what the transcripts' seeds say by number.
const KINDS: [CardKind; 7] = [
    CardKind::Created,
    CardKind::Blank,
    CardKind::WithPuk,
    CardKind::Admin,
    CardKind::AdminAndPuk,
    CardKind::Uninitialised,
    CardKind::UninitialisedWithPuk,
];

const FAULTS: [TokenErrorKind; 7] = [
    TokenErrorKind::Busy,
    TokenErrorKind::Full,
    TokenErrorKind::Internal,
    TokenErrorKind::Lockout,
    TokenErrorKind::Lost,
    TokenErrorKind::NotAuthenticated,
    TokenErrorKind::Unavailable,
];

struct Host {
    card: Card,
    parts: SoftwareCard,
    connections: Vec<Connection>,
    current: usize,
    last: Vec<u8>,
    saves: u32,
    /// Whether the next saves may fail.
    store_may_fail: bool,
    /// Whether a connection may have been the administrator's since its last reset.
    administers: [bool; 3],
}

fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let Some(kind) = input.byte() else { return };
    let mut host = Host::new(KINDS[usize::from(kind) % KINDS.len()]);
    for _ in 0..STEPS {
        let Some(step) = input.byte() else { break };
        let step = ALL_STEPS[usize::from(step) % ALL_STEPS.len()];
        if host.step(step, &mut input).is_none() {
            break;
        }
        host.check();
    }
    host.parts.store.fail_after(None);
    host.restart();
}

impl Host {
    fn new(kind: CardKind) -> Self {
        let (mut card, parts) = SoftwareCard::new(kind);
        let connections = (0..3).map(|_| card.connect()).collect();
        Self {
            card,
            parts,
            connections,
            current: 0,
            last: Vec::new(),
            saves: 0,
            store_may_fail: false,
            administers: [false; 3],
        }
    }

    /// `None` when the input ends.
    fn step(&mut self, step: Step, input: &mut Input<'_>) -> Option<()> {
        match step {
            Step::Command => {
                self.last = input.part()?.to_vec();
                self.transmit(&self.last.clone());
            }
            Step::Again => self.transmit(&self.last.clone()),
            Step::BreakStore => {
                let saves = input.byte()?;
                let saves = (saves != 0xFF).then_some(u32::from(saves % 4));
                self.store_may_fail = saves.is_some();
                self.parts.store.fail_after(saves);
            }
            Step::BreakToken => {
                let fault = FAULTS[usize::from(input.byte()?) % FAULTS.len()];
                self.parts.token.fail_next(fault);
            }
            Step::ChangePin => {
                let pin = Pin::new(PIN).expect("the test PIN is one");
                let (card, connection) = self.connection();
                // Blocked, changed before or a token that was told to fail: all of them are answers.
                let _ = card.change_pin(connection, PinReference::Pin, &pin, &pin);
            }
            Step::Connection => {
                self.current = usize::from(input.byte()?) % self.connections.len();
            }
            Step::Disconnect => {
                let new = self.card.connect();
                let old = std::mem::replace(&mut self.connections[self.current], new);
                self.card.disconnect(old);
                self.administers[self.current] = false;
            }
            Step::RightPin => self.transmit(&[&[0, 0x20, 0, 0x80, 6], PIN].concat()),
            Step::RightPuk => self.transmit(&[&[0, 0x2C, 0, 0x80, 14], PUK, PIN].concat()),
            Step::Reset => {
                let (card, connection) = self.connection();
                card.reset(connection);
                self.administers[self.current] = false;
                assert!(!self.card.is_verified(&self.connections[self.current]));
            }
            Step::Restart => self.restart(),
            Step::TokenReset => self.parts.token.lose_verification(),
            Step::Wait => {
                let minutes = u64::from(input.byte()?);
                self.parts.clock.advance(Duration::from_secs(60 * minutes));
            }
            Step::WrongPin => self.transmit(b"\x00\x20\x00\x80\x06654321"),
            Step::Administrator => self.administrator(None),
            Step::MutualAdministrator => self.administrator(Some([0x73; 16])),
            Step::AdminUnblock => self.transmit(&[&[0, 0x2C, 2, 0x80, 6], PIN].concat()),
            Step::OwnKey => {
                let bits = input.byte()?;
                let new = NewKey {
                    label: (bits & 4 != 0).then(|| "own".to_owned()),
                    usage: KeyUsage::Exchange,
                    class: if bits & 2 == 0 {
                        KeyClass::Session
                    } else {
                        KeyClass::Always
                    },
                    id: (bits & 8 != 0).then(|| vec![bits >> 4]),
                };
                let algorithm = if bits & 1 == 0 {
                    KeyAlgorithm::P256
                } else {
                    KeyAlgorithm::Rsa2048
                };
                let (card, connection) = self.connection();
                let verified = card.is_verified(connection);
                let made = card.generate_key(connection, algorithm, &new);
                assert!(verified || made.is_err(), "a key without the PIN");
            }
            Step::DeleteOwnKey => {
                let number = KeyNumber::new(input.byte()?);
                let (card, connection) = self.connection();
                let verified = card.is_verified(connection);
                let gone = card.delete_key(connection, number);
                assert!(verified || gone.is_err(), "deleted without the PIN");
            }
            Step::OwnCertificate => {
                let number = KeyNumber::new(input.byte()?);
                let (card, connection) = self.connection();
                let certificate = vec![number.get(); 300];
                if card
                    .store_certificate(connection, number, &certificate, None)
                    .is_ok()
                {
                    assert_eq!(card.certificate(number), Some(certificate));
                }
            }
        }
        Some(())
    }

    /// Both steps of GENERAL AUTHENTICATE, as somebody who has the key.
    fn administrator(&mut self, host: Option<[u8; 16]>) {
        let key = AdminKey::new(ADMIN_KEY).expect("24 bytes");
        self.transmit(b"\x00\x22\xC1\xA4\x03\x83\x01\x80");
        let asked = match host {
            None => b"\x00\x87\x00\x00\x04\x7C\x02\x81\x00\x00".to_vec(),
            Some(host) => [b"\x00\x87\x00\x00\x14\x7C\x12\x81\x10", &host[..]].concat(),
        };
        let (card, connection) = self.connection();
        let response = card.transmit(connection, &asked);
        let Some(challenge) = response.get(4..response.len().saturating_sub(2)) else {
            return;
        };
        let mut answer = match host {
            None => challenge.to_vec(),
            Some(host) => [challenge, &host, &[0; 7], &[0x80]].concat(),
        };
        key.encrypt(&mut answer);
        let length = u8::try_from(answer.len()).expect("8 or 40 bytes");
        let head = [0, 0x87, 0, 0, length + 4, 0x7C, length + 2, 0x82, length];
        self.transmit(&[&head, &answer[..]].concat());
    }

    fn transmit(&mut self, command: &[u8]) {
        let verified = self.card.is_verified(&self.connections[self.current]);
        let operational = self.card.is_operational();
        let (card, connection) = self.connection();
        let response = card.transmit(connection, command);
        let response = ResponseApdu::parse(&response).expect("a status word at least");
        let sw1 = response.status.sw1();
        assert!(
            matches!(sw1, 0x61..=0x6F) || response.status == StatusWord::SUCCESS,
            "{}",
            response.status
        );
        let Ok(command) = CommandApdu::parse(command) else {
            assert_eq!(response, ResponseApdu::status(StatusWord::WRONG_LENGTH));
            return;
        };
        if !matches!(sw1, 0x61 | 0x62 | 0x90) {
            assert!(response.data.is_empty(), "data with {}", response.status);
        }
        assert!(
            response.data.len() <= command.ne.unwrap_or(256),
            "longer than asked for"
        );
        let complete = Class::Interindustry(Interindustry {
            chaining: Chaining::Last,
            secure_messaging: SecureMessaging::None,
            channel: 0,
        });
        if command.ins == 0x87 && response.status == StatusWord::SUCCESS {
            self.administers[self.current] = true;
        }
        if verified || Class::from_byte(command.cla) != complete {
            return;
        }
        // Nobody who has not shown the PIN on this connection uses a key, or, but for the administrator, makes or
        // deletes files. (A key file that is not activated yet is free for all, and so is a card in
        // initialisation state.)
        let files = operational && !self.administers[self.current];
        if command.ins == 0x2A || files && matches!(command.ins, 0xE0 | 0xE4) {
            assert!(
                !matches!(sw1, 0x61 | 0x90),
                "without the PIN: {command:?}: {}",
                response.status
            );
        }
    }

    /// What holds after every step.
    fn check(&mut self) {
        let saves = self.parts.store.saves();
        if saves != self.saves {
            self.saves = saves;
            let mut saved = self.parts.store.record().expect("it was saved");
            if self.store_may_fail && saved.provisional.is_some() {
                // That a first value is gone is noted after the token has replaced it: the note may be unsaved.
                saved.provisional = self.card.record().provisional.clone();
            }
            assert!(saved == *self.card.record(), "memory and file differ");
        }
    }

    fn restart(&mut self) {
        self.parts.token.lose_verification();
        let record = self.parts.store.record();
        let record = record.unwrap_or_else(|| self.card.record().clone());
        let card = self.parts.open(record);
        self.card = card.expect("what was saved can be opened");
        self.connections = (0..3).map(|_| self.card.connect()).collect();
        self.administers = [false; 3];
    }

    fn connection(&mut self) -> (&mut Card, &mut Connection) {
        (&mut self.card, &mut self.connections[self.current])
    }
}

/// The golden transcripts, and what they do not have: failures and several connections.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = TRANSCRIPTS
        .iter()
        .map(|(_, text)| transcript(text))
        .collect();
    let key = enrolment();
    let sign = b"\x00\x2A\x9E\x9A\x33\x30\x31\x30\x0D\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20ABCDEFGHABCDEFGHABCDEFGHABCDEFGH\x00";
    let environment = b"\x00\x22\x41\xB6\x06\x80\x01\x57\x84\x01\x81";
    let with = |tail: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut seed = key.clone();
        tail(&mut seed);
        seed
    };
    seeds.push(with(&mut |seed| {
        command(seed, environment);
        command(seed, sign);
        step(seed, Step::Reset);
        command(seed, environment);
        command(seed, sign);
    }));
    seeds.push(with(&mut |seed| {
        step(seed, Step::Connection);
        seed.push(1);
        command(seed, environment);
        command(seed, sign);
        step(seed, Step::RightPin);
        step(seed, Step::TokenReset);
        step(seed, Step::Again);
    }));
    seeds.push(with(&mut |seed| {
        step(seed, Step::Restart);
        step(seed, Step::RightPin);
        step(seed, Step::BreakToken);
        seed.push(0);
        command(seed, environment);
        command(seed, sign);
        step(seed, Step::Wait);
        seed.push(255);
        step(seed, Step::Wait);
        seed.push(255);
        command(seed, sign);
    }));
    seeds.push(with(&mut |seed| {
        step(seed, Step::BreakStore);
        seed.push(0);
        command(seed, b"\x00\xDB\xA0\x10\x05\xDF\x24\x02\x01\x02");
        command(seed, b"\x00\xE4\x00\x00");
        step(seed, Step::BreakStore);
        seed.push(255);
        step(seed, Step::Again);
    }));
    let mut blocked = vec![2];
    for _ in 0..5 {
        step(&mut blocked, Step::WrongPin);
    }
    step(&mut blocked, Step::RightPin);
    step(&mut blocked, Step::RightPuk);
    step(&mut blocked, Step::RightPin);
    step(&mut blocked, Step::ChangePin);
    seeds.push(blocked);
    let mut administrator = vec![3];
    for _ in 0..5 {
        step(&mut administrator, Step::WrongPin);
    }
    step(&mut administrator, Step::Administrator);
    step(&mut administrator, Step::AdminUnblock);
    step(&mut administrator, Step::RightPin);
    for (kind, reference) in [(1, 0x81), (2, 0x9E), (7, 0x82)] {
        step(&mut administrator, Step::OwnKey);
        administrator.push(kind);
        step(&mut administrator, Step::OwnCertificate);
        administrator.push(reference);
    }
    command(&mut administrator, environment);
    step(&mut administrator, Step::RightPin);
    command(&mut administrator, sign);
    step(&mut administrator, Step::DeleteOwnKey);
    administrator.push(0x81);
    step(&mut administrator, Step::MutualAdministrator);
    command(
        &mut administrator,
        b"\x00\xDB\x3F\xFF\x26\x70\x24\x84\x01\x80\xA5\x1F\x87\x180123456789abcdefFEDCBA98\x88\x03\xB0\x73\xDC",
    );
    step(&mut administrator, Step::Restart);
    step(&mut administrator, Step::Administrator);
    seeds.push(administrator);
    seeds
}

/// A created card with an RSA key under reference 81.
fn enrolment() -> Vec<u8> {
    let mut seed = vec![0];
    step(&mut seed, Step::RightPin);
    let file = b"\x00\xE0\x00\x00\x28\x62\x26\x82\x01\x18\x83\x02\xB0\x81\x8C\x05\x8F\x10\x10\x10\x00\xA5\x16\
        \xB6\x09\x80\x01\x17\x83\x01\x81\x95\x01\x40\xB6\x09\x80\x01\x57\x83\x01\x81\x95\x01\x40";
    command(&mut seed, file);
    command(&mut seed, b"\x00\x44\x00\x00");
    command(
        &mut seed,
        b"\x00\x47\x00\x00\x08\xAC\x06\x80\x01\x07\x83\x01\x81",
    );
    seed
}

fn step(seed: &mut Vec<u8>, step: Step) {
    let number = ALL_STEPS.iter().position(|other| *other == step);
    seed.extend(number.and_then(|number| u8::try_from(number).ok()));
}

fn command(seed: &mut Vec<u8>, command: &[u8]) {
    step(seed, Step::Command);
    push_part(seed, command);
}

/// The commands of a transcript, without those that need a variable that the transcript captures.
fn transcript(text: &str) -> Vec<u8> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match (line.starts_with(' '), lines.last_mut()) {
            (true, Some(last)) => last.push_str(line),
            _ => lines.push(line.to_owned()),
        }
    }
    let mut seed = vec![0];
    for line in lines {
        if let Some(kind) = line.strip_prefix("card ") {
            seed[0] = match kind.trim() {
                "blank" => 1,
                "puk" => 2,
                "admin" => 3,
                "admin+puk" => 4,
                "uninitialised" => 5,
                "uninitialised+puk" => 6,
                _ => 0,
            };
        } else if line.starts_with("reset") {
            step(&mut seed, Step::Reset);
        } else if let Some(bytes) = line.strip_prefix('>').and_then(hexadecimal) {
            command(&mut seed, &bytes);
        }
    }
    seed
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let known = |secret: &[u8]| {
        secret
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<String>()
    };
    let digits: Vec<u8> = text
        .replace("{pin}", &known(PIN))
        .replace("{puk}", &known(PUK))
        .replace("{adminkey}", &known(ADMIN_KEY))
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
