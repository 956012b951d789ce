//! How long chips take: `models/*.toml` of this crate, a time for each kind of command.
//!
//! A command takes what its row says, rounded up to the millisecond in which Linux looks for the answer, and more for
//! each session that authenticates or encrypts. There is no jitter: what is measured is compared with sums of rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::code_of;
use super::message::{u16_at, u32_at};

/// The times of a chip.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// For people.
    pub name: String,
    /// Rows that nobody has published a measurement of.
    pub guessed: BTreeSet<String>,
    milliseconds: BTreeMap<String, f64>,
    /// Indices with a counted failure, which the next success writes back.
    #[serde(skip)]
    failed: BTreeSet<u32>,
}

macro_rules! models {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../models/", $name, ".toml")))),*]
    };
}

/// Short name and text of each model.
const FILES: [(&str, &str); 6] = models![
    "npct75x-7.2.1",
    "st33-1.512",
    "slb9670-7.85",
    "ptt-600",
    "amd-3",
    "pluton-6.3",
];

/// What a row must be there for, besides algorithms that not every chip has.
const NEEDED: [&str; 16] = [
    "flush",
    "get_capability",
    "get_random",
    "nv_read",
    "nv_write",
    "object_load",
    "object_save",
    "policy",
    "policy_secret",
    "policy_ticket",
    "session_hmac",
    "session_load",
    "session_save",
    "sign_p256",
    "sign_rsa_2048",
    "start_salted_ecc",
];

impl Latency {
    /// Short names of all models: discrete chips from fast to slow, then firmware.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// The model with a short name.
    ///
    /// # Panics
    ///
    /// When there is none, or its file is malformed.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let file = FILES.iter().find(|(found, _)| *found == name);
        let (_, text) = file.unwrap_or_else(|| panic!("there is no model {name}"));
        let model: Self = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let rows = &model.milliseconds;
        for row in NEEDED
            .into_iter()
            .chain(model.guessed.iter().map(String::as_str))
        {
            assert!(rows.contains_key(row), "{name}: there is no row {row}");
        }
        model
    }

    /// Milliseconds of a row.
    ///
    /// # Panics
    ///
    /// When the chip has no such row.
    #[must_use]
    pub fn row(&self, row: &str) -> f64 {
        let found = self.milliseconds.get(row);
        *found.unwrap_or_else(|| panic!("{}: there is no row {row}", self.name))
    }

    /// What a command takes that was answered so.
    pub(super) fn of(&mut self, command: &[u8], response: &[u8]) -> Duration {
        let code = code_of(command);
        let has_succeeded = code_of(response) == 0;
        let mut time = self.row(&row_of(code, command, response, &self.milliseconds));
        let (authenticated, encrypted) = sessions(command);
        time += self.row("session_hmac") * f64::from(authenticated);
        time += self.milliseconds.get("encryption").copied().unwrap_or(0.0) * f64::from(encrypted);
        if code == POLICY_SECRET
            && let Some(index) = u32_at(command, 10).filter(|handle| handle >> 24 == NV)
        {
            let counts = match has_succeeded {
                true => self.failed.remove(&index),
                false => self.failed.insert(index) || code_of(response) & 0xFF == 0x8E,
            };
            if counts {
                time += self.row("nv_write");
            }
        }
        Duration::from_secs_f64(time.ceil() / 1000.0)
    }

    /// Waits for the rest of a command's time.
    pub(super) fn wait(&mut self, began: Instant, command: &[u8], response: &[u8]) {
        let rest = self.of(command, response).checked_sub(began.elapsed());
        if let Some(rest) = rest {
            std::thread::sleep(rest);
        }
    }
}

/// The row of a command. A refused one takes as long as the least of its kind.
fn row_of(code: u32, command: &[u8], response: &[u8], rows: &BTreeMap<String, f64>) -> String {
    let algorithm = match code {
        CREATE | CREATE_PRIMARY | LOAD | SIGN | RSA_DECRYPT | ECDH_ZGEN | START_AUTH_SESSION
        | VERIFY_SIGNATURE => algorithm(code, command, response),
        _ => None,
    };
    let name = match (code, algorithm) {
        (SIGN, Some(found)) => format!("sign_{found}"),
        (CREATE, Some(found)) => format!("create_{found}"),
        (CREATE_PRIMARY, Some("p256" | "p384")) => "create_primary_p256".to_owned(),
        (CREATE_PRIMARY, Some(_)) => "create_primary_rsa".to_owned(),
        (LOAD, Some("rsa_2048" | "rsa_3072")) => "load_rsa".to_owned(),
        (LOAD, _) => "load_ecc".to_owned(),
        (RSA_DECRYPT, _) => "rsa_decrypt".to_owned(),
        (ECDH_ZGEN, Some(found)) => format!("ecdh_{found}"),
        (VERIFY_SIGNATURE, Some("rsa_2048" | "rsa_3072")) => "verify_rsa".to_owned(),
        (VERIFY_SIGNATURE, _) => "verify_p256".to_owned(),
        (START_AUTH_SESSION, Some("rsa_2048" | "rsa_3072")) => "start_salted_rsa".to_owned(),
        (START_AUTH_SESSION, Some(_)) => "start_salted_ecc".to_owned(),
        (START_AUTH_SESSION, None) => "start_plain".to_owned(),
        (CONTEXT_LOAD, _) if is_session(command, 18) => "session_load".to_owned(),
        (CONTEXT_LOAD, _) => "object_load".to_owned(),
        (CONTEXT_SAVE, _) if is_session(command, 10) => "session_save".to_owned(),
        (CONTEXT_SAVE, _) => "object_save".to_owned(),
        (FLUSH_CONTEXT, _) => "flush".to_owned(),
        (POLICY_SECRET, _) => "policy_secret".to_owned(),
        (POLICY_TICKET | POLICY_AUTHORIZE | POLICY_SIGNED, _) => "policy_ticket".to_owned(),
        (POLICY_RESTART | POLICY_GET_DIGEST, _) => "policy".to_owned(),
        (code, _) if POLICIES.contains(&code) => "policy".to_owned(),
        (READ_PUBLIC | NV_READ_PUBLIC, _) => "read_public".to_owned(),
        (GET_CAPABILITY, _) => "get_capability".to_owned(),
        (UNSEAL, _) => "unseal".to_owned(),
        (NV_READ, _) => "nv_read".to_owned(),
        (NV_WRITE | NV_CHANGE_AUTH, _) => "nv_write".to_owned(),
        (NV_DEFINE_SPACE, _) => "nv_define".to_owned(),
        (NV_UNDEFINE_SPACE, _) => "nv_undefine".to_owned(),
        (HMAC, _) => "hmac_command".to_owned(),
        (HASH, _) => "hash".to_owned(),
        _ => "get_random".to_owned(),
    };
    match rows.contains_key(&name) {
        true => name,
        false => "get_random".to_owned(),
    }
}

/// Of the key that a command makes or uses, as far as it and the answer say.
fn algorithm(code: u32, command: &[u8], response: &[u8]) -> Option<&'static str> {
    match code {
        START_AUTH_SESSION => match sized(command, skip(command, 18)?)?.len() {
            0 => None,
            1..=200 => Some("p256"),
            _ => Some("rsa_2048"),
        },
        LOAD => {
            let private = parameters(command, 1)?;
            public(sized(command, skip(command, private)?)?)
        }
        CREATE => {
            // Handle-less: size of the parameters, outPrivate, outPublic.
            let private = 14;
            public(sized(response, skip(response, private)?)?)
        }
        CREATE_PRIMARY => public(sized(response, 18)?),
        SIGN => {
            let (kind, at) = (u16_at(response, 14)?, 18);
            match (kind, sized(response, at)?.len()) {
                (0x14 | 0x16, ..=256) => Some("rsa_2048"),
                (0x14 | 0x16, _) => Some("rsa_3072"),
                (0x18, ..=32) => Some("p256"),
                (0x18, _) => Some("p384"),
                _ => None,
            }
        }
        ECDH_ZGEN => match sized(response, 16)?.len() {
            ..=32 => Some("p256"),
            _ => Some("p384"),
        },
        VERIFY_SIGNATURE => {
            let signature = skip(command, 14)?;
            match u16_at(command, signature)? {
                0x14 | 0x16 => Some("rsa_2048"),
                _ => Some("p256"),
            }
        }
        _ => None,
    }
}

/// Algorithm in a TPMT_PUBLIC (TPM 2.0 Part 2 §12.2.4).
fn public(area: &[u8]) -> Option<&'static str> {
    const NULL: u16 = 0x10;
    let kind = u16_at(area, 0)?;
    if kind == 0x08 {
        return Some("symmetric");
    }
    let symmetric = skip(area, 8)?;
    let scheme = match u16_at(area, symmetric)? {
        NULL => symmetric + 2,
        _ => symmetric + 6,
    };
    let last = match u16_at(area, scheme)? {
        NULL => scheme + 2,
        _ => scheme + 4,
    };
    match (kind, u16_at(area, last)?) {
        (0x01, 2048) => Some("rsa_2048"),
        (0x01, _) => Some("rsa_3072"),
        (0x23, 3) => Some("p256"),
        (0x23, _) => Some("p384"),
        _ => None,
    }
}

/// How many sessions of a command have an HMAC, and how many parameters are encrypted.
fn sessions(command: &[u8]) -> (u32, u32) {
    const PASSWORD: u32 = 0x4000_0009;
    let handles = handles(code_of(command));
    let mut found = (0, 0);
    if command.first_chunk() != Some(&[0x80, 0x02]) {
        return found;
    }
    let area = 10 + 4 * handles;
    let Some(size) = u32_at(command, area) else {
        return found;
    };
    let end = area + 4 + size as usize;
    let mut at = area + 4;
    while at < end {
        let Some((session, attributes, hmac)) = (|| {
            let session = u32_at(command, at)?;
            let nonce = skip(command, at + 4)?;
            Some((session, *command.get(nonce)?, nonce + 1))
        })() else {
            break;
        };
        let has_hmac = sized(command, hmac).is_some_and(|hmac| !hmac.is_empty());
        found.0 += u32::from(session != PASSWORD && has_hmac);
        found.1 += u32::from(attributes & 0x20 != 0) + u32::from(attributes & 0x40 != 0);
        match skip(command, hmac) {
            Some(next) => at = next,
            None => break,
        }
    }
    found
}

/// Where the parameters of a command with sessions begin.
fn parameters(command: &[u8], handles: usize) -> Option<usize> {
    let area = 10 + 4 * handles;
    Some(area + 4 + u32_at(command, area)? as usize)
}

/// How many handles a command has that takes sessions.
fn handles(code: u32) -> usize {
    match code {
        GET_RANDOM | GET_CAPABILITY | STIR_RANDOM => 0,
        NV_CERTIFY | POLICY_NV | POLICY_AUTHORIZE_NV => 3,
        ACTIVATE_CREDENTIAL | CERTIFY | CERTIFY_CREATION | EVICT_CONTROL | NV_READ
        | NV_UNDEFINE_SPACE | NV_WRITE | OBJECT_CHANGE_AUTH | POLICY_SECRET => 2,
        _ => 1,
    }
}

/// What a TPM2B holds.
fn sized(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16_at(bytes, at)?);
    bytes.get(at + 2..at + 2 + length)
}

/// Behind a TPM2B.
fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    Some(at + 2 + usize::from(u16_at(bytes, at)?))
}

/// Whether the handle at this place is a session's.
fn is_session(bytes: &[u8], at: usize) -> bool {
    u32_at(bytes, at).is_some_and(|handle| matches!(handle >> 24, 0x02 | 0x03))
}

/// Type of an NV index's handle (TPM 2.0 Part 2 §7.2).
const NV: u32 = 0x01;

/// Policy commands that only extend a digest: PolicyAuthValue to PolicyOR, and those of later revisions.
const POLICIES: [u32; 13] = [
    0x16B, 0x16C, 0x16D, 0x16E, 0x16F, 0x170, 0x171, 0x17F, 0x187, 0x188, 0x18C, 0x18F, 0x190,
];

const ACTIVATE_CREDENTIAL: u32 = 0x147;
const CERTIFY: u32 = 0x148;
const CERTIFY_CREATION: u32 = 0x14A;
const CONTEXT_LOAD: u32 = 0x161;
const CONTEXT_SAVE: u32 = 0x162;
const CREATE: u32 = 0x153;
const CREATE_PRIMARY: u32 = 0x131;
const ECDH_ZGEN: u32 = 0x154;
const EVICT_CONTROL: u32 = 0x120;
const FLUSH_CONTEXT: u32 = 0x165;
const GET_CAPABILITY: u32 = 0x17A;
const GET_RANDOM: u32 = 0x17B;
const HASH: u32 = 0x17D;
const HMAC: u32 = 0x155;
const LOAD: u32 = 0x157;
const NV_CERTIFY: u32 = 0x184;
const NV_CHANGE_AUTH: u32 = 0x13B;
const NV_DEFINE_SPACE: u32 = 0x12A;
const NV_READ: u32 = 0x14E;
const NV_READ_PUBLIC: u32 = 0x169;
const NV_UNDEFINE_SPACE: u32 = 0x122;
const NV_WRITE: u32 = 0x137;
const OBJECT_CHANGE_AUTH: u32 = 0x150;
const POLICY_AUTHORIZE: u32 = 0x16A;
const POLICY_AUTHORIZE_NV: u32 = 0x192;
const POLICY_GET_DIGEST: u32 = 0x189;
const POLICY_NV: u32 = 0x149;
const POLICY_RESTART: u32 = 0x180;
const POLICY_SECRET: u32 = 0x151;
const POLICY_SIGNED: u32 = 0x160;
const POLICY_TICKET: u32 = 0x172;
const READ_PUBLIC: u32 = 0x173;
const RSA_DECRYPT: u32 = 0x159;
const SIGN: u32 = 0x15D;
const START_AUTH_SESSION: u32 = 0x176;
const STIR_RANDOM: u32 = 0x146;
const UNSEAL: u32 = 0x15E;
const VERIFY_SIGNATURE: u32 = 0x177;

#[cfg(test)]
mod tests {
    use super::*;

    fn command(code: u32, parameters: &[u8]) -> Vec<u8> {
        let head = [&[0x80, 1, 0, 0, 0, 0][..], &code.to_be_bytes()].concat();
        [&head, parameters].concat()
    }

    const DONE: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0];

    #[test]
    fn models_are_whole() {
        for name in Latency::names() {
            let model = Latency::named(name);
            assert!(
                model.row("sign_rsa_2048") > model.row("session_load"),
                "{name}"
            );
        }
    }

    #[test]
    fn commands_take_what_their_rows_say() {
        let mut model = Latency::named("st33-1.512");
        let mut time = |command: &[u8], answer: &[u8]| model.of(command, answer).as_millis();
        let context = [[0; 8], [0x80, 0, 0, 0, 0x40, 0, 0, 1]].concat();
        assert_eq!(time(&command(CONTEXT_LOAD, &context), &DONE), 32);
        let context = [[0; 8], [3, 0, 0, 0, 0x40, 0, 0, 1]].concat();
        assert_eq!(time(&command(CONTEXT_LOAD, &context), &DONE), 10);
        assert_eq!(time(&command(CONTEXT_SAVE, &[0x80, 0, 0, 0]), &DONE), 38);
        assert_eq!(time(&command(CONTEXT_SAVE, &[2, 0, 0, 0]), &DONE), 12);
        assert_eq!(time(&command(FLUSH_CONTEXT, &[0x80, 0, 0, 0]), &DONE), 5);
        // A nonce of 16 bytes, no salt; then one of a point.
        let plain = [&[0; 8][..], &[0, 16], &[7; 16], &[0, 0]].concat();
        assert_eq!(time(&command(START_AUTH_SESSION, &plain), &DONE), 6);
        let salted = [&[0; 8][..], &[0, 16], &[7; 16], &[0, 68], &[1; 68]].concat();
        assert_eq!(time(&command(START_AUTH_SESSION, &salted), &DONE), 88);
        // A signature with an HMAC in a session, and one with a password.
        let mut sign = |session: u8, hmac: &[u8], kind: u8, length: u8| {
            let area = [
                &[session, 0, 0, 9, 0, 0, 1, 0][..],
                &[u8::try_from(hmac.len()).unwrap()],
                hmac,
            ]
            .concat();
            let parameters = [
                &[0x80, 0, 0, 0, 0, 0, 0, u8::try_from(area.len()).unwrap()][..],
                &area,
            ]
            .concat();
            let mut asked = command(SIGN, &parameters);
            asked[1] = 2;
            let mut answer = [&DONE[..], &[0; 4], &[0, kind, 0, 0x0B, length, 0]].concat();
            if length == 0 {
                answer[19] = 32;
            }
            answer.resize(answer.len() + 256, 1);
            time(&asked, &answer)
        };
        assert_eq!(sign(3, &[1; 32], 0x14, 1), 240);
        assert_eq!(sign(0x40, &[], 0x14, 1), 232);
        assert_eq!(sign(0x40, &[], 0x18, 0), 51);
    }

    #[test]
    fn wrong_value_and_the_next_right_one_write() {
        let mut model = Latency::named("st33-1.512");
        let secret = command(POLICY_SECRET, &[1, 0x80, 0, 1, 3, 0, 0, 0]);
        let wrong = [0x80, 1, 0, 0, 0, 10, 0, 0, 0x09, 0x8E];
        let mut time = |answer: &[u8]| model.of(&secret, answer).as_millis();
        assert_eq!(time(&DONE), 15);
        assert_eq!(time(&wrong), 35);
        assert_eq!(time(&wrong), 35);
        assert_eq!(time(&DONE), 35);
        assert_eq!(time(&DONE), 15);
    }
}
