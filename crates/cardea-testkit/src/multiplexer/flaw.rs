//! Firmware that takes every authorisation of a PIN index for a correct PIN.
//!
//! The reference code did so until August 2019 (corrected in TCG's errata 1.9 for revision 1.38), and chips with
//! firmware from before may still do: a policy that never compares the index's value, such as the one that lets
//! anybody read the counter, sets the count of failures to 0, also when the index is blocked. PINs can then be
//! guessed without limit.
//!
//! The software TPM has no such flaw, so the multiplexer does by hand what such firmware does by itself:
//!
//! - The owner may write some indices. Before a command whose policy session authorises such an index, the
//!   multiplexer writes a count of 0 into it, and the old count back if the command was refused.
//! - A card's own index can be written by nobody. The multiplexer is told its value, counts the failures itself and
//!   sets the TPM's count back after each by showing the correct value; when its own count has reached the limit it
//!   refuses what compares the value, as the TPM would.

use super::code_of;
use super::message::{plain, refusal};

/// What is wrong with the TPM: policies set the counts of PIN indices back.
pub struct Flaw {
    known: Vec<Watched>,
}

/// A PIN index that the owner cannot write, none of whose failures is counted yet.
#[derive(Clone, Debug)]
pub struct KnownCounter {
    /// NV handle.
    pub index: u32,
    /// The value that it compares with.
    pub value: Vec<u8>,
    /// Failures that block it.
    pub limit: u32,
}

struct Watched {
    counter: KnownCounter,
    failures: u32,
}

/// Sends a command to the TPM.
type Send<'a> = dyn FnMut(&[u8]) -> Option<Vec<u8>> + 'a;

impl Flaw {
    /// Counters are set back by policies: those that the owner may write, with an empty authorisation, and these.
    #[must_use]
    pub fn forgetful_counters(known: Vec<KnownCounter>) -> Self {
        let watched = |counter| Watched {
            counter,
            failures: 0,
        };
        Self {
            known: known.into_iter().map(watched).collect(),
        }
    }

    pub(super) fn transact(&mut self, command: &[u8], tpm: &mut Send<'_>) -> Option<Vec<u8>> {
        let Some(IndexUse { index, session }) = index_use(command) else {
            return tpm(command);
        };
        let by_policy = session >> 24 == POLICY_SESSION;
        let mut known = self.known.iter_mut();
        match known.find(|watched| watched.counter.index == index) {
            Some(watched) if by_policy => watched.by_policy(command, tpm),
            Some(watched) => watched.by_value(command, tpm),
            None if by_policy => owners_index(index, command, tpm),
            None => tpm(command),
        }
    }
}

impl Watched {
    /// The TPM's own count is 0 at all times.
    fn by_policy(&mut self, command: &[u8], tpm: &mut Send<'_>) -> Option<Vec<u8>> {
        let response = tpm(command)?;
        if code_of(&response) == 0 {
            self.failures = 0;
        }
        Some(response)
    }

    fn by_value(&mut self, command: &[u8], tpm: &mut Send<'_>) -> Option<Vec<u8>> {
        if self.failures >= self.counter.limit {
            return Some(refusal(AUTH_UNAVAILABLE));
        }
        let response = tpm(command)?;
        match code_of(&response) {
            code if is_wrong_value(code) => {
                self.failures += 1;
                // The value is compared before the attributes, which then refuse.
                let handles = [self.counter.index; 2];
                tpm(&composed(
                    NV_READ,
                    &handles,
                    &self.counter.value,
                    &[0, 8, 0, 0],
                ))?;
            }
            code if is_past_authorisation(code) => self.failures = 0,
            _ => {}
        }
        Some(response)
    }
}

/// A command under a policy session for an index that may be the owner's to write.
fn owners_index(index: u32, command: &[u8], tpm: &mut Send<'_>) -> Option<Vec<u8>> {
    let Some(counter) = owners_counter(index, tpm) else {
        return tpm(command);
    };
    write(index, &[&[0; 4], &counter[4..]].concat(), tpm)?;
    let response = tpm(command)?;
    if code_of(&response) != 0 {
        write(index, &counter, tpm)?;
    }
    Some(response)
}

/// Count and limit of a PIN index that the owner may read and write.
fn owners_counter(index: u32, tpm: &mut Send<'_>) -> Option<Vec<u8>> {
    let public = tpm(&plain(NV_READ_PUBLIC, index))?;
    // Size of the area, handle, hash; then TPMA_NV.
    let attributes = public.get(18..22)?.try_into().ok()?;
    let attributes = u32::from_be_bytes(attributes);
    let wanted = OWNER_READ | OWNER_WRITE | WRITTEN;
    if attributes & TYPE != PIN_FAIL || attributes & wanted != wanted {
        return None;
    }
    let read = tpm(&composed(NV_READ, &[OWNER, index], &[], &[0, 8, 0, 0]))?;
    // Header, size of the parameters, size of the data.
    (code_of(&read) == 0).then(|| read.get(16..24).map(<[u8]>::to_vec))?
}

fn write(index: u32, counter: &[u8], tpm: &mut Send<'_>) -> Option<()> {
    let parameters = [&[0, 8][..], counter, &[0, 0]].concat();
    let response = tpm(&composed(NV_WRITE, &[OWNER, index], &[], &parameters))?;
    (code_of(&response) == 0).then_some(())
}

/// An index that a command authorises, and by which session.
struct IndexUse {
    index: u32,
    session: u32,
}

fn index_use(command: &[u8]) -> Option<IndexUse> {
    const SESSIONS: [u8; 2] = [0x80, 2];
    if command.get(..2)? != SESSIONS {
        return None;
    }
    let code = code_of(command);
    let (handles, position) = HANDLES
        .iter()
        .find(|(known, ..)| *known == code)
        .map(|(_, handles, position)| (*handles, *position))?;
    let word = |at: usize| {
        Some(u32::from_be_bytes(
            command.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    let index = word(10 + 4 * position)?;
    if index >> 24 != NV_INDEX {
        return None;
    }
    // TPMS_AUTH_COMMAND: handle, nonce, attributes, HMAC.
    let mut at = 10 + 4 * handles + 4;
    for _ in 0..position {
        at += 4;
        at += 2 + usize::from(size(command, at)?) + 1;
        at += 2 + usize::from(size(command, at)?);
    }
    let session = word(at)?;
    Some(IndexUse { index, session })
}

fn size(command: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(
        command.get(at..at + 2)?.try_into().ok()?,
    ))
}

/// Commands that authorise an index: code, number of handles, and which of them is authorised
/// (TPM 2.0 Part 3 §23.4, §23.9, §31).
const HANDLES: [(u32, usize, usize); 11] = [
    (0x134, 2, 0),
    (0x135, 2, 0),
    (0x136, 2, 0),
    (NV_WRITE, 2, 0),
    (0x138, 2, 0),
    (0x13B, 1, 0),
    (0x149, 3, 0),
    (NV_READ, 2, 0),
    (0x14F, 2, 0),
    (0x151, 2, 0),
    (0x184, 3, 1),
];

const NV_WRITE: u32 = 0x137;
const NV_READ: u32 = 0x14E;
const NV_READ_PUBLIC: u32 = 0x169;
const OWNER: u32 = 0x4000_0001;
const PASSWORD: u32 = 0x4000_0009;
const NV_INDEX: u32 = 0x01;
const POLICY_SESSION: u32 = 0x03;
const AUTH_UNAVAILABLE: u32 = 0x12F;
const NV_AUTHORIZATION: u32 = 0x149;

/// TPMA_NV (TPM 2.0 Part 2 §13.4).
const TYPE: u32 = 0xF0;
const PIN_FAIL: u32 = 0x80;
const OWNER_WRITE: u32 = 1 << 1;
const OWNER_READ: u32 = 1 << 17;
const WRITTEN: u32 = 1 << 29;

/// TPM_RC_AUTH_FAIL or TPM_RC_BAD_AUTH, without the number of the session.
fn is_wrong_value(code: u32) -> bool {
    [0x08E, 0x0A2].contains(&(code & 0xBF)) && code & 0x80 != 0
}

/// Success, or what the TPM finds only after it has checked the authorisation: the parameters, or that the index's
/// attributes do not allow the command.
fn is_past_authorisation(code: u32) -> bool {
    const OF_A_PARAMETER: u32 = 0xC0;
    code == 0 || code == NV_AUTHORIZATION || code & OF_A_PARAMETER == OF_A_PARAMETER
}

/// A command whose first handle a password authorises.
fn composed(code: u32, handles: &[u32], password: &[u8], parameters: &[u8]) -> Vec<u8> {
    let length = u16::try_from(password.len()).unwrap_or(u16::MAX);
    let area = [
        &PASSWORD.to_be_bytes()[..],
        &[0, 0, 1],
        &length.to_be_bytes(),
        password,
    ]
    .concat();
    let size = u32::try_from(area.len()).unwrap_or(u32::MAX);
    let mut command = vec![0x80, 2, 0, 0, 0, 0];
    command.extend_from_slice(&code.to_be_bytes());
    for handle in handles {
        command.extend_from_slice(&handle.to_be_bytes());
    }
    command.extend_from_slice(&size.to_be_bytes());
    command.extend_from_slice(&area);
    command.extend_from_slice(parameters);
    let length = u32::try_from(command.len()).unwrap_or(u32::MAX);
    command[2..6].copy_from_slice(&length.to_be_bytes());
    command
}

#[cfg(test)]
mod tests;
