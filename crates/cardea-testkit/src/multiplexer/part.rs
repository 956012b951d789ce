//! A TPM part that people have, as its [`Profile`] describes it, played by the software TPM.
//!
//! The software TPM can do more than most parts, so the multiplexer takes away: commands, kinds of indices, key
//! sizes, room. What only grows cannot be played: a part with six slots still has the software TPM's three.

use std::collections::BTreeMap;

use super::message::{refusal, u16_at, u32_at};
use super::profile::Profile;
use super::{Flaw, KnownCounter, code_of};

/// The part, and what it remembers.
pub struct Part {
    profile: Profile,
    flaw: Option<Flaw>,
    /// In failure mode (TPM 2.0 Part 1 §12.3) until the power goes.
    failed: bool,
    /// Session contexts that were saved, and at which count.
    saved: BTreeMap<u32, u64>,
    saves: u64,
}

/// Sends a command to the TPM.
type Send<'a> = dyn FnMut(&[u8]) -> Option<Vec<u8>> + 'a;

impl Part {
    /// A part whose cards have no counters of their own yet.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self::with_counters(profile, Vec::new())
    }

    /// A part with counters that the owner cannot write: where a policy sets counts back, their values must be
    /// known here.
    #[must_use]
    pub fn with_counters(profile: Profile, known: Vec<KnownCounter>) -> Self {
        let flaw = profile
            .resets_counts
            .then(|| Flaw::forgetful_counters(known));
        Self {
            profile,
            flaw,
            failed: false,
            saved: BTreeMap::new(),
            saves: 0,
        }
    }

    /// Sets the lockout up as the part leaves its factory, if the lockout authorisation is empty.
    pub(super) fn set_up(&self, tpm: &mut Send<'_>) {
        let Some(lockout) = self.profile.lockout else {
            return;
        };
        let parameters = [lockout.max_tries, lockout.recovery, lockout.auth_recovery];
        let parameters = parameters.map(u32::to_be_bytes).concat();
        // Started already, or now.
        tpm(&super::startup_type(super::STARTUP, super::CLEAR));
        tpm(&with_empty_password(
            DICTIONARY_ATTACK_PARAMETERS,
            LOCKOUT,
            &parameters,
        ));
    }

    /// The power was away.
    pub(super) fn restart(&mut self) {
        self.recover();
        self.saved.clear();
    }

    /// The power was away, and saved contexts have survived it.
    pub(super) fn recover(&mut self) {
        self.failed = false;
    }

    pub(super) fn transact(&mut self, command: &[u8], tpm: &mut Send<'_>) -> Option<Vec<u8>> {
        if let Some(code) = self.refuses(command, tpm) {
            return Some(refusal(code));
        }
        let response = match code_of(command) {
            GET_CAPABILITY => self.capability(command, tpm)?,
            _ => match &mut self.flaw {
                Some(flaw) => flaw.transact(command, tpm)?,
                None => tpm(command)?,
            },
        };
        if code_of(&response) == 0 {
            self.remember(command, &response);
        }
        Some(response)
    }

    /// The code with which a command is refused that the software TPM would execute.
    fn refuses(&mut self, command: &[u8], tpm: &mut Send<'_>) -> Option<u32> {
        let code = code_of(command);
        if self.profile.fails_on_policy_secret
            && code == POLICY_SECRET
            && u32_at(command, AUTH_AREA + 4).is_some_and(|session| session >> 24 == HMAC_SESSION)
        {
            self.failed = true;
        }
        if self.failed {
            return (code != GET_CAPABILITY && code != GET_TEST_RESULT).then_some(FAILURE);
        }
        if self.profile.lacks(code) {
            return Some(COMMAND_CODE);
        }
        match code {
            NV_DEFINE_SPACE => self.refuses_index(command, tpm),
            EVICT_CONTROL => {
                let made = u32_at(command, 14)? >> 24 == TRANSIENT;
                let room = self.profile.limits?.persistent;
                (made && handles(PERSISTENT_FIRST, tpm)? >= room).then_some(NV_SPACE)
            }
            CONTEXT_SAVE => {
                let gap = u64::from(self.profile.limits?.context_gap);
                let is_session = u32_at(command, 10)? >> 24 != TRANSIENT;
                let oldest = self.saved.values().min()?;
                (is_session && self.saves - oldest >= gap).then_some(CONTEXT_GAP)
            }
            TEST_PARMS if u16_at(command, 10) == Some(ALG_RSA) => {
                let bits = u16_at(command, 16)?;
                (!self.profile.rsa.contains(&bits)).then_some(VALUE_P1)
            }
            CREATE | CREATE_PRIMARY | IMPORT | LOAD_EXTERNAL => {
                self.refuses_key(public_area(command)?)
            }
            _ => None,
        }
    }

    fn refuses_index(&self, command: &[u8], tpm: &mut Send<'_>) -> Option<u32> {
        // After the authorisations, the index's own value and the size of its public area.
        let value = parameters(command)?;
        let public = value + 2 + usize::from(u16_at(command, value)?) + 2;
        let attributes = u32_at(command, public + 6)?;
        if attributes & COUNTS_FAILURES != 0
            && let Some(code) = self.profile.refuses_pin_indices
        {
            return Some(code);
        }
        let room = self.profile.limits?.nv_indices;
        (handles(NV_FIRST, tpm)? >= room).then_some(NV_SPACE)
    }

    /// Of a TPMT_PUBLIC: type, nameAlg, attributes, policy; then the parameters.
    fn refuses_key(&self, public: &[u8]) -> Option<u32> {
        let policy = u16_at(public, 8)?;
        let parameters = 10 + usize::from(policy);
        // A storage key has three fields for its symmetric algorithm, others one.
        let symmetric = match u16_at(public, parameters)? {
            ALG_NULL => 2,
            _ => 6,
        };
        let scheme = parameters + symmetric;
        let after = scheme
            + match u16_at(public, scheme)? {
                ALG_NULL => 2,
                _ => 4,
            };
        let size = u16_at(public, after)?;
        match u16_at(public, 0)? {
            ALG_RSA if !self.profile.rsa.contains(&size) => Some(VALUE_P2),
            ALG_ECC if !self.profile.has_curve(size) => Some(CURVE_P2),
            _ => None,
        }
    }

    fn remember(&mut self, command: &[u8], response: &[u8]) {
        let code = code_of(command);
        let handle = match code {
            CONTEXT_LOAD => u32_at(response, 10),
            CONTEXT_SAVE | FLUSH_CONTEXT => u32_at(command, 10),
            _ => None,
        };
        let Some(handle) = handle.filter(|handle| handle >> 24 != TRANSIENT) else {
            return;
        };
        if code == CONTEXT_SAVE {
            self.saves += 1;
            self.saved.insert(handle, self.saves);
        } else {
            self.saved.remove(&handle);
        }
    }

    /// What the part says of itself (TPM 2.0 Part 3 §30.2).
    fn capability(&self, command: &[u8], tpm: &mut Send<'_>) -> Option<Vec<u8>> {
        let (kind, first, count) = (
            u32_at(command, 10)?,
            u32_at(command, 14)?,
            u32_at(command, 18)?,
        );
        if kind == AUTH_POLICIES && self.profile.revision.is_some_and(|it| it < 138) {
            return Some(refusal(VALUE_P1));
        }
        if ![COMMANDS, PROPERTIES, CURVES].contains(&kind) {
            return tpm(command);
        }
        // All of them, and then what was asked for: nothing that is hidden may shorten the list.
        let response = tpm(&get_capability(kind, first))?;
        if code_of(&response) != 0 {
            return Some(response);
        }
        let persistent_left = match self.profile.limits {
            Some(limits) if kind == PROPERTIES => {
                let used = handles(PERSISTENT_FIRST, tpm)?;
                u32::try_from(limits.persistent.saturating_sub(used)).ok()
            }
            _ => None,
        };
        let mut shown = self.profile.properties();
        shown.extend(persistent_left.map(|left| (PERSISTENT_LEFT, left)));
        let entries = self.entries(kind, &response, &shown);
        let told = entries.len().min(count as usize);
        let more = told < entries.len() || response.get(10) != Some(&0);
        let mut answer = vec![0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, u8::from(more)];
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&u32::try_from(told).ok()?.to_be_bytes());
        answer.extend(entries.into_iter().take(told).flatten());
        let length = u32::try_from(answer.len()).ok()?;
        answer[2..6].copy_from_slice(&length.to_be_bytes());
        Some(answer)
    }

    /// The list of a response to GetCapability, as the part has it; `shown` are properties that it has otherwise.
    fn entries(&self, kind: u32, response: &[u8], shown: &[(u32, u32)]) -> Vec<Vec<u8>> {
        let size = match kind {
            PROPERTIES => 8,
            CURVES => 2,
            _ => 4,
        };
        let list = response.get(19..).unwrap_or_default().chunks_exact(size);
        list.filter(|entry| match kind {
            COMMANDS => !self
                .profile
                .lacks(u32_at(entry, 0).unwrap_or_default() & 0xFFFF),
            CURVES => self.profile.has_curve(u16_at(entry, 0).unwrap_or_default()),
            _ => true,
        })
        .map(|entry| {
            let mut entry = entry.to_vec();
            if kind == PROPERTIES {
                let mut shown = shown.iter();
                if let Some((_, value)) = shown.find(|(it, _)| u32_at(&entry, 0) == Some(*it)) {
                    entry[4..].copy_from_slice(&value.to_be_bytes());
                }
            }
            entry
        })
        .collect()
    }
}

/// The TPMT_PUBLIC of a command that makes or loads an object, if it has one.
fn public_area(command: &[u8]) -> Option<&[u8]> {
    // Whatever is before it, the sensitive part or the key of an inner wrap, has a size too.
    let before = parameters(command)?;
    let size = before + 2 + usize::from(u16_at(command, before)?);
    let length = usize::from(u16_at(command, size)?);
    command.get(size + 2..size + 2 + length)
}

/// Where the parameters of a command with at most one handle begin.
fn parameters(command: &[u8]) -> Option<usize> {
    let handles = match code_of(command) {
        LOAD_EXTERNAL => 0,
        _ => 1,
    };
    let area = 10 + 4 * handles;
    match u16_at(command, 0)? {
        WITH_SESSIONS => Some(area + 4 + u32_at(command, area)? as usize),
        _ => Some(area),
    }
}

/// How many handles of a kind there are.
fn handles(first: u32, tpm: &mut Send<'_>) -> Option<usize> {
    let response = tpm(&get_capability(HANDLES, first))?;
    let listed = response.get(19..)?.chunks_exact(4);
    let of_the_kind =
        listed.filter(|handle| u32_at(handle, 0).is_some_and(|handle| handle >> 24 == first >> 24));
    Some(of_the_kind.count())
}

fn get_capability(kind: u32, first: u32) -> Vec<u8> {
    const ALL: u32 = 1000;
    let mut command = vec![0x80, 1, 0, 0, 0, 22];
    for word in [GET_CAPABILITY, kind, first, ALL] {
        command.extend_from_slice(&word.to_be_bytes());
    }
    command
}

/// A command with one handle, which an empty password authorises.
fn with_empty_password(code: u32, handle: u32, parameters: &[u8]) -> Vec<u8> {
    const PASSWORD: u32 = 0x4000_0009;
    const AREA: u32 = 9;
    let mut command = vec![0x80, 2, 0, 0, 0, 0];
    for word in [code, handle, AREA, PASSWORD] {
        command.extend_from_slice(&word.to_be_bytes());
    }
    // No nonce, no attributes, no password.
    command.extend_from_slice(&[0; 5]);
    command.extend_from_slice(parameters);
    let length = u32::try_from(command.len()).unwrap_or(u32::MAX);
    command[2..6].copy_from_slice(&length.to_be_bytes());
    command
}

// TPM_CC (TPM 2.0 Part 2 §6.5.2).
const EVICT_CONTROL: u32 = 0x120;
const NV_DEFINE_SPACE: u32 = 0x12A;
const CREATE_PRIMARY: u32 = 0x131;
const DICTIONARY_ATTACK_PARAMETERS: u32 = 0x13A;
const POLICY_SECRET: u32 = 0x151;
const CREATE: u32 = 0x153;
const IMPORT: u32 = 0x156;
const CONTEXT_LOAD: u32 = 0x161;
const CONTEXT_SAVE: u32 = 0x162;
const FLUSH_CONTEXT: u32 = 0x165;
const LOAD_EXTERNAL: u32 = 0x167;
const GET_CAPABILITY: u32 = 0x17A;
const GET_TEST_RESULT: u32 = 0x17C;
const TEST_PARMS: u32 = 0x18A;

// TPM_CAP (TPM 2.0 Part 2 §6.12).
const HANDLES: u32 = 1;
const COMMANDS: u32 = 2;
const PROPERTIES: u32 = 6;
const CURVES: u32 = 8;
const AUTH_POLICIES: u32 = 9;

/// TPM_PT_HR_PERSISTENT_AVAIL (TPM 2.0 Part 2 §6.13).
const PERSISTENT_LEFT: u32 = 0x209;

// TPM_RC (TPM 2.0 Part 2 §6.6), some with the number of the parameter.
const FAILURE: u32 = 0x101;
const COMMAND_CODE: u32 = 0x143;
const NV_SPACE: u32 = 0x14B;
const VALUE_P1: u32 = 0x1C4;
const VALUE_P2: u32 = 0x2C4;
const CURVE_P2: u32 = 0x2E6;
const CONTEXT_GAP: u32 = 0x901;

const ALG_RSA: u16 = 0x0001;
const ALG_NULL: u16 = 0x0010;
const ALG_ECC: u16 = 0x0023;

/// TPM_ST_SESSIONS.
const WITH_SESSIONS: u16 = 0x8002;
/// Handles of PolicySecret: the entity, the session.
const AUTH_AREA: usize = 10 + 8;
const LOCKOUT: u32 = 0x4000_000A;
const HMAC_SESSION: u32 = 0x02;
const TRANSIENT: u32 = 0x80;
const NV_FIRST: u32 = 0x0100_0000;
const PERSISTENT_FIRST: u32 = 0x8100_0000;
/// Bit 3 of TPM_NT, in place 7 of TPMA_NV: PIN_FAIL and PIN_PASS.
const COUNTS_FAILURES: u32 = 1 << 7;

#[cfg(test)]
mod tests;
