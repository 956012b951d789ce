//! What Linux does between `/dev/tpmrm0` and the TPM (`drivers/char/tpm/tpm2-space.c`), with the commands that it
//! sends for it.
//!
//! Each client has a space of three objects and three sessions. Before each of its commands all of them are loaded,
//! and afterwards saved, whether the command needs them or not. Objects have handles of their own in it; sessions
//! keep those of the TPM.

use std::collections::BTreeMap;

use super::code_of;
use super::message::{plain, refusal, u32_at};

/// Sends a command to the TPM.
type Send<'a> = dyn FnMut(&[u8]) -> Option<Vec<u8>> + 'a;

/// The spaces of all clients.
#[derive(Default)]
pub(super) struct ResourceManager {
    spaces: BTreeMap<u64, Space>,
    commands: BTreeMap<u32, Handles>,
}

/// Handles of a command (TPM 2.0 Part 2 §8.9).
#[derive(Clone, Copy)]
struct Handles {
    before: usize,
    has_response: bool,
}

#[derive(Default)]
struct Space {
    objects: [Option<Object>; SLOTS],
    sessions: Vec<Session>,
}

/// A transient object: its context between two commands, its handle during one.
struct Object {
    context: Vec<u8>,
    handle: u32,
}

struct Session {
    handle: u32,
    context: Vec<u8>,
}

const SLOTS: usize = 3;

/// Handle of the first object of a space; the next one's is less by 1.
const FIRST: u32 = 0x80FF_FFFF;

impl ResourceManager {
    /// A command of a client's; none where the kernel would not answer, but fail the write.
    pub(super) fn transact(
        &mut self,
        client: u64,
        command: &[u8],
        tpm: &mut Send<'_>,
    ) -> Option<Vec<u8>> {
        if self.commands.is_empty() {
            self.commands = commands(tpm)?;
        }
        let code = code_of(command);
        let handles = self.commands.get(&code).copied().unwrap_or(Handles {
            before: 0,
            has_response: false,
        });
        let space = self.spaces.entry(client).or_default();
        space.load(tpm)?;
        let response = match space.mapped(command, handles.before) {
            Some(mapped) => tpm(&mapped)?,
            None => refusal(REFERENCE_H0),
        };
        let response = match code_of(&response) {
            0 if code == FLUSH_CONTEXT => {
                space.forget(u32_at(command, 10)?);
                response
            }
            0 if handles.has_response => space.enter(response, tpm)?,
            0 if code == GET_CAPABILITY => space.listed(command, response),
            _ => response,
        };
        space.save(tpm)?;
        Some(response)
    }

    /// A client has closed the device.
    pub(super) fn leave(&mut self, client: u64, tpm: &mut Send<'_>) {
        if let Some(space) = self.spaces.remove(&client) {
            for session in space.sessions {
                tpm(&plain(FLUSH_CONTEXT, session.handle));
            }
        }
    }

    /// The power was away.
    pub(super) fn restart(&mut self) {
        self.spaces.clear();
    }
}

impl Space {
    /// An object or session whose context the TPM does not take any more is forgotten.
    fn load(&mut self, tpm: &mut Send<'_>) -> Option<()> {
        for slot in &mut self.objects {
            let Some(object) = slot else { continue };
            let response = tpm(&with_context(&object.context))?;
            match code_of(&response) {
                0 => object.handle = u32_at(&response, 10)?,
                _ => *slot = None,
            }
        }
        let mut kept = Vec::new();
        for session in self.sessions.drain(..) {
            let response = tpm(&with_context(&session.context))?;
            if code_of(&response) == 0 {
                kept.push(session);
            }
        }
        self.sessions = kept;
        Some(())
    }

    /// With the TPM's handles in place of the space's; none if one is not there.
    fn mapped(&self, command: &[u8], handles: usize) -> Option<Vec<u8>> {
        let mut command = command.to_vec();
        for at in (0..handles).map(|number| 10 + 4 * number) {
            let Some(handle) = u32_at(&command, at).filter(|handle| handle >> 24 == TRANSIENT)
            else {
                continue;
            };
            let object = self.objects.get(slot_of(handle)?)?.as_ref()?;
            command[at..at + 4].copy_from_slice(&object.handle.to_be_bytes());
        }
        Some(command)
    }

    /// Takes in what a command has loaded or made. Without room it is flushed again, and the write fails.
    fn enter(&mut self, mut response: Vec<u8>, tpm: &mut Send<'_>) -> Option<Vec<u8>> {
        let handle = u32_at(&response, 10)?;
        if handle >> 24 != TRANSIENT {
            let known = self.sessions.iter().any(|session| session.handle == handle);
            if self.sessions.len() >= SLOTS && !known {
                tpm(&plain(FLUSH_CONTEXT, handle));
                return None;
            }
            if !known {
                let context = Vec::new();
                self.sessions.push(Session { handle, context });
            }
            return Some(response);
        }
        let Some(free) = self.objects.iter().position(Option::is_none) else {
            tpm(&plain(FLUSH_CONTEXT, handle));
            return None;
        };
        self.objects[free] = Some(Object {
            context: Vec::new(),
            handle,
        });
        let own = FIRST - u32::try_from(free).ok()?;
        response[10..14].copy_from_slice(&own.to_be_bytes());
        Some(response)
    }

    fn forget(&mut self, handle: u32) {
        if handle >> 24 != TRANSIENT {
            self.sessions.retain(|session| session.handle != handle);
        } else if let Some(slot) = slot_of(handle).and_then(|slot| self.objects.get_mut(slot)) {
            *slot = None;
        }
    }

    /// A list of transient handles, with the space's own.
    fn listed(&self, command: &[u8], mut response: Vec<u8>) -> Vec<u8> {
        const HANDLES: u32 = 1;
        let is_list = u32_at(command, 10) == Some(HANDLES)
            && u32_at(command, 14).is_some_and(|first| first >> 24 == TRANSIENT);
        if !is_list {
            return response;
        }
        for at in (19..response.len()).step_by(4) {
            let Some(handle) = u32_at(&response, at) else {
                break;
            };
            let mut objects = self.objects.iter();
            let slot = objects.position(|it| it.as_ref().is_some_and(|it| it.handle == handle));
            if let Some(slot) = slot.and_then(|slot| u32::try_from(slot).ok()) {
                response[at..at + 4].copy_from_slice(&(FIRST - slot).to_be_bytes());
            }
        }
        response
    }

    /// None: a context could not be saved, so the write fails and all of the space is gone.
    fn save(&mut self, tpm: &mut Send<'_>) -> Option<()> {
        let saved = self.save_all(tpm);
        if saved.is_none() {
            for object in self.objects.iter_mut().filter_map(Option::take) {
                tpm(&plain(FLUSH_CONTEXT, object.handle));
            }
            for session in self.sessions.drain(..) {
                tpm(&plain(FLUSH_CONTEXT, session.handle));
            }
        }
        saved
    }

    fn save_all(&mut self, tpm: &mut Send<'_>) -> Option<()> {
        for object in self.objects.iter_mut().flatten() {
            let response = tpm(&plain(CONTEXT_SAVE, object.handle))?;
            if code_of(&response) != 0 {
                return None;
            }
            object.context = response.get(10..)?.to_vec();
            tpm(&plain(FLUSH_CONTEXT, object.handle))?;
        }
        let mut kept = Vec::new();
        for mut session in std::mem::take(&mut self.sessions) {
            let response = tpm(&plain(CONTEXT_SAVE, session.handle))?;
            match code_of(&response) {
                0 => {
                    session.context = response.get(10..)?.to_vec();
                    kept.push(session);
                }
                // It ended with the command.
                code if is_missing(code) => {}
                _ => {
                    kept.push(session);
                    self.sessions = kept;
                    return None;
                }
            }
        }
        self.sessions = kept;
        Some(())
    }
}

fn slot_of(handle: u32) -> Option<usize> {
    usize::try_from(FIRST.checked_sub(handle)?).ok()
}

/// Handles of each command, as the TPM tells them.
fn commands(tpm: &mut Send<'_>) -> Option<BTreeMap<u32, Handles>> {
    let mut ask = vec![0x80, 1, 0, 0, 0, 22];
    for word in [GET_CAPABILITY, 2, 0, 1000u32] {
        ask.extend_from_slice(&word.to_be_bytes());
    }
    let response = tpm(&ask)?;
    let listed = response.get(19..)?.chunks_exact(4);
    let told = listed.filter_map(|attributes| u32_at(attributes, 0));
    let mut commands: BTreeMap<u32, Handles> = told
        .map(|attributes| {
            let handles = Handles {
                before: (attributes >> 25 & 7) as usize,
                has_response: attributes >> 28 & 1 == 1,
            };
            (attributes & 0xFFFF, handles)
        })
        .collect();
    // Its handle is a parameter.
    commands
        .entry(FLUSH_CONTEXT)
        .or_insert(Handles {
            before: 1,
            has_response: false,
        })
        .before = 1;
    (commands.len() > 1).then_some(commands)
}

fn with_context(context: &[u8]) -> Vec<u8> {
    let length = u32::try_from(10 + context.len()).unwrap_or(u32::MAX);
    let header = [
        &[0x80, 1][..],
        &length.to_be_bytes(),
        &CONTEXT_LOAD.to_be_bytes(),
    ]
    .concat();
    [&header[..], context].concat()
}

/// TPM_RC_REFERENCE_H0 or TPM_RC_HANDLE of the only handle.
fn is_missing(code: u32) -> bool {
    [REFERENCE_H0, 0x18B].contains(&code)
}

const CONTEXT_LOAD: u32 = 0x161;
const CONTEXT_SAVE: u32 = 0x162;
const FLUSH_CONTEXT: u32 = 0x165;
const GET_CAPABILITY: u32 = 0x17A;
const REFERENCE_H0: u32 = 0x910;
const TRANSIENT: u32 = 0x80;

#[cfg(test)]
mod tests;
