//! One connection to a TPM: commands out, verified responses back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use tpm2_protocol::data::TpmCc;
use tpm2_protocol::frame::{TpmCommand, TpmResponse};
use zeroize::Zeroizing;

use crate::code;
use crate::error::{ResponseCode, TpmError};
use crate::policy::{cc, hash};
use crate::promise::Wake;
use crate::random::random;
use crate::session::{Session, Use, attribute};
use crate::transport::{COMMAND_TIME, KEY_TIME, MAX_RESPONSE, Transport};
use crate::wire::{Erased, Reader, Writer};

/// Longest time that warnings asking for a retry are followed.
const RETRY_TIME: Duration = Duration::from_secs(20);

const TAG_NO_SESSIONS: u16 = 0x8001;
const TAG_SESSIONS: u16 = 0x8002;

/// Number of commands sent, for benchmarks and tests.
#[derive(Clone, Debug, Default)]
pub struct CommandCount(Arc<AtomicU64>);

impl CommandCount {
    /// Commands sent since the start of the service, retries included.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How far an operation has gone in what must not be done twice.
///
/// An error has no HMAC: whoever is on the way can put one in place of the TPM's answer, and so have a wrong
/// value counted twice, or a change repeated that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It can be done again.
    Harmless,
    /// A value was compared with that of this index.
    Compared(u32),
    /// Something was changed, or signed that allows a change.
    Changed,
}

/// The progress of the operation at work; outlives its connection.
#[derive(Clone, Default)]
pub(crate) struct ProgressMark(Arc<AtomicU32>);

impl ProgressMark {
    /// No index and no object has it (TPM 2.0 Part 2 §7.4).
    const CHANGED: u32 = u32::MAX;

    pub(crate) fn get(&self) -> Progress {
        match self.0.load(Ordering::Relaxed) {
            0 => Progress::Harmless,
            Self::CHANGED => Progress::Changed,
            index => Progress::Compared(index),
        }
    }

    /// An operation begins.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// It has come to what may not be repeated.
    pub(crate) fn changed(&self) {
        self.0.store(Self::CHANGED, Ordering::Relaxed);
    }

    fn compared(&self, index: u32) {
        if self.get() != Progress::Changed {
            self.0.store(index, Ordering::Relaxed);
        }
    }

    /// A command is about to be sent.
    fn sends(&self, code: u32, handles: &[Handle<'_>]) {
        match code {
            cc::POLICY_SECRET => self.compared(handles.first().map_or(0, |index| index.value)),
            cc::NV_CHANGE_AUTH
            | cc::NV_WRITE
            | code::HIERARCHY_CHANGE_AUTH
            | code::LOCK_RESET
            | code::LOCK_PARAMETERS => self.changed(),
            _ => {}
        }
    }
}

/// A handle in a command, with the Name that its authorisation covers.
#[derive(Clone, Copy)]
pub(crate) struct Handle<'a> {
    pub(crate) value: u32,
    name: Option<&'a [u8]>,
}

impl<'a> Handle<'a> {
    /// An object or NV index.
    pub(crate) fn named(value: u32, name: &'a [u8]) -> Self {
        Self {
            value,
            name: Some(name),
        }
    }

    /// A hierarchy, session or PCR: its Name is its handle (TPM 2.0 Part 1 §16).
    pub(crate) fn plain(value: u32) -> Self {
        Self { value, name: None }
    }
}

/// A command before its sessions.
pub(crate) struct Command<'a> {
    pub(crate) name: &'static str,
    pub(crate) code: u32,
    pub(crate) handles: &'a [Handle<'a>],
    pub(crate) parameters: Writer,
}

/// Handle and parameters of a successful response, erased on drop.
pub(crate) struct Response {
    command: &'static str,
    pub(crate) handle: u32,
    parameters: Zeroizing<Vec<u8>>,
}

impl Response {
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(self.command, &self.parameters)
    }
}

/// The owner's authorisation value and a salted session to show it in.
pub(crate) struct Owner {
    pub(crate) session: Session,
    pub(crate) value: Zeroizing<Vec<u8>>,
}

/// The owner's part in a command.
pub(crate) fn owner_use(owner: &mut Option<Owner>) -> Use<'_> {
    match owner {
        None => Use::empty_password(),
        Some(Owner { session, value }) => Use::session(session, value, attribute::CONTINUE),
    }
}

/// A connection.
pub(crate) struct Tpm {
    /// How the owner is authorised while an authorisation is given; else by an empty password.
    pub(crate) owner: Option<Owner>,
    transport: Box<dyn Transport>,
    /// Behind a resource manager: a connection with nothing loaded, for what needs nothing of this one's.
    empty: Option<Box<dyn Transport>>,
    count: CommandCount,
    progress: ProgressMark,
    wake: Wake,
    /// When the last command was sent.
    used: Instant,
    command: Erased,
    response: Erased,
}

impl Tpm {
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        count: CommandCount,
        progress: ProgressMark,
        wake: Wake,
    ) -> Self {
        Self {
            owner: None,
            transport,
            empty: None,
            count,
            progress,
            wake,
            used: Instant::now(),
            command: Erased::with_capacity(MAX_RESPONSE),
            response: Erased::with_capacity(MAX_RESPONSE),
        }
    }

    pub(crate) fn alive(&self) -> bool {
        self.transport.alive()
    }

    /// Whether a resource manager is between us and the TPM.
    pub(crate) fn is_managed(&self) -> bool {
        self.transport.is_managed()
    }

    /// Sends what only asks something of the TPM by another connection from now on, on which nothing is to be loaded and
    /// so nothing swapped.
    pub(crate) fn ask_by(&mut self, empty: Box<dyn Transport>) {
        self.empty = Some(empty);
    }

    /// When the last command was sent that makes the sessions here young.
    pub(crate) fn last_used(&self) -> Instant {
        self.used
    }

    /// Sends bytes as they are, counted like any command.
    pub(crate) fn raw(&mut self, command: &[u8], response: &mut Vec<u8>) -> io::Result<()> {
        self.count.add();
        let sent = || self.wake.wake();
        self.transport.transact(command, response, KEY_TIME, &sent)
    }

    /// A command whose first handle is the owner hierarchy, with further sessions.
    pub(crate) fn as_owner(
        &mut self,
        command: Command<'_>,
        further: Option<Use<'_>>,
        has_handle: bool,
    ) -> Result<Response, TpmError> {
        let mut owner = self.owner.take();
        let result = match further {
            None => self.run(command, &mut [owner_use(&mut owner)], has_handle),
            Some(further) => self.run(command, &mut [owner_use(&mut owner), further], has_handle),
        };
        self.owner = owner;
        result
    }

    /// A command without sessions.
    pub(crate) fn plain(&mut self, command: Command<'_>) -> Result<Response, TpmError> {
        self.run(command, &mut [], false)
    }

    /// A command without sessions whose response has a handle.
    pub(crate) fn plain_handle(&mut self, command: Command<'_>) -> Result<Response, TpmError> {
        self.run(command, &mut [], true)
    }

    /// A command with sessions, the first ones authorising its first handles.
    pub(crate) fn with(
        &mut self,
        command: Command<'_>,
        sessions: &mut [Use<'_>],
    ) -> Result<Response, TpmError> {
        self.run(command, sessions, false)
    }

    /// A command with sessions whose response has a handle.
    pub(crate) fn with_handle(
        &mut self,
        command: Command<'_>,
        sessions: &mut [Use<'_>],
    ) -> Result<Response, TpmError> {
        self.run(command, sessions, true)
    }

    fn run(
        &mut self,
        command: Command<'_>,
        sessions: &mut [Use<'_>],
        has_handle: bool,
    ) -> Result<Response, TpmError> {
        let Command {
            name,
            code,
            handles,
            parameters,
        } = command;
        let parameters = parameters.finish();
        let limit = match code {
            code::CREATE | code::CREATE_PRIMARY | code::STARTUP => KEY_TIME,
            _ => COMMAND_TIME,
        };
        let deadline = Instant::now() + RETRY_TIME;
        let mut pause = Duration::from_millis(1);
        self.progress.sends(code, handles);
        loop {
            self.compose(code, handles, &parameters, sessions);
            self.count.add();
            self.response.erase();
            let sent = || {
                // The operation that follows a ticket takes long enough for everybody who is woken; during the
                // ticket they would only delay it.
                if code != code::POLICY_TICKET {
                    self.wake.wake();
                }
            };
            let response = self.response.as_mut();
            let answered = match &mut self.empty {
                Some(empty) if sessions.is_empty() && only_asks(code, handles) => {
                    empty.transact(&self.command, response, limit, &sent)
                }
                _ => {
                    self.used = Instant::now();
                    self.transport
                        .transact(&self.command, response, limit, &sent)
                }
            };
            self.command.erase();
            answered.map_err(|source| TpmError::Transport {
                command: name,
                source,
            })?;
            let (tag, code_word) = header(name, &self.response)?;
            if code_word == ResponseCode::SUCCESS {
                let expected = if sessions.is_empty() {
                    TAG_NO_SESSIONS
                } else {
                    TAG_SESSIONS
                };
                if tag != expected {
                    return Err(TpmError::Protocol {
                        command: name,
                        what: "the wrong kind of response",
                    });
                }
                well_formed(code, &self.response).map_err(|_| TpmError::Protocol {
                    command: name,
                    what: "the response is malformed",
                })?;
                return take_response(name, code, &self.response, sessions, has_handle);
            }
            // The HMAC of a retried command is made anew: the TPM keeps its nonces, ours are fresh.
            if code_word.asks_for_retry()
                && may_be_sent_again(code, handles)
                && Instant::now() + pause < deadline
            {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(1));
                continue;
            }
            sessions.iter_mut().for_each(Use::doubt);
            return Err(TpmError::Response {
                command: name,
                handle: handles.first().map(|handle| handle.value),
                code: code_word,
            });
        }
    }

    fn compose(
        &mut self,
        code: u32,
        handles: &[Handle<'_>],
        parameters: &[u8],
        sessions: &mut [Use<'_>],
    ) {
        self.command.erase();
        let out = self.command.as_mut();
        let tag = if sessions.is_empty() {
            TAG_NO_SESSIONS
        } else {
            TAG_SESSIONS
        };
        out.extend_from_slice(&tag.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&code.to_be_bytes());
        for handle in handles {
            out.extend_from_slice(&handle.value.to_be_bytes());
        }
        if sessions.is_empty() {
            out.extend_from_slice(parameters);
        } else {
            let mut parameters = Zeroizing::new(parameters.to_vec());
            for session in &mut *sessions {
                session.refresh(&mut random);
            }
            if let Some(encrypting) = sessions
                .iter()
                .find(|session| session.has(attribute::DECRYPT))
                && let Some(first) = first_parameter(&mut parameters)
            {
                encrypting.encrypt(first);
            }
            let cp_hash = command_hash(code, handles, &parameters);
            let extra = encryption_nonces(sessions);
            let mut area = Vec::with_capacity(256);
            for (index, session) in sessions.iter().enumerate() {
                session.authorise(&cp_hash, if index == 0 { &extra } else { &[] }, &mut area);
            }
            let length = u32::try_from(area.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&area);
            out.extend_from_slice(&parameters);
        }
        let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
        if let Some(field) = out.get_mut(2..6) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        debug_assert!(
            TpmCommand::cast(out).is_ok_and(|command| command.validate().is_ok()),
            "command 0x{code:03X} is malformed"
        );
    }
}

/// Whether a command needs nothing that is loaded and loads nothing.
fn only_asks(code: u32, handles: &[Handle<'_>]) -> bool {
    const PERSISTENT: u32 = 0x81;
    match code {
        code::GET_CAPABILITY | code::NV_READ_PUBLIC | code::READ_CLOCK | code::TEST_PARMS => true,
        code::READ_PUBLIC => handles
            .first()
            .is_some_and(|object| object.value >> 24 == PERSISTENT),
        _ => false,
    }
}

/// Whether a warning in place of the answer may be followed blindly. What compares a value with an index's may have
/// been executed, and counted, all the same. Of an object the card's file counts one try, whatever the TPM does; and
/// after each start the TPM answers the first comparison with such a warning (TPM 2.0 Part 1 §19.8.5).
fn may_be_sent_again(code: u32, handles: &[Handle<'_>]) -> bool {
    const TRANSIENT: u32 = 0x80;
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::RepeatedSecrets) {
        return true;
    }
    let first = handles.first().map(|handle| handle.value >> 24);
    code != cc::POLICY_SECRET || first == Some(TRANSIENT)
}

/// Whether areas, sessions and sizes of a successful response fit its command.
fn well_formed(code: u32, response: &[u8]) -> tpm2_protocol::TpmResult<()> {
    TpmResponse::cast(response)?.validate(TpmCc::try_from(code)?)
}

/// cpHash (TPM 2.0 Part 1 §18.7).
fn command_hash(code: u32, handles: &[Handle<'_>], parameters: &[u8]) -> [u8; 32] {
    let mut covered = code.to_be_bytes().to_vec();
    for handle in handles {
        match handle.name {
            Some(name) => covered.extend_from_slice(name),
            None => covered.extend_from_slice(&handle.value.to_be_bytes()),
        }
    }
    hash(&[&covered, parameters])
}

/// Nonces of encryption sessions other than the first (TPM 2.0 Part 1 §19.6.5).
fn encryption_nonces(sessions: &[Use<'_>]) -> Vec<u8> {
    let position = |wanted| sessions.iter().position(|session| session.has(wanted));
    let decrypting = position(attribute::DECRYPT).filter(|&index| index != 0);
    let encrypting =
        position(attribute::ENCRYPT).filter(|&index| index != 0 && Some(index) != decrypting);
    [decrypting, encrypting]
        .into_iter()
        .flatten()
        .filter_map(|index| sessions.get(index)?.nonce_tpm())
        .flatten()
        .copied()
        .collect()
}

/// Contents of the TPM2B at the start of the parameters.
fn first_parameter(parameters: &mut [u8]) -> Option<&mut [u8]> {
    let (length, rest) = parameters.split_first_chunk_mut::<2>()?;
    rest.get_mut(..usize::from(u16::from_be_bytes(*length)))
}

fn header(command: &'static str, response: &[u8]) -> Result<(u16, ResponseCode), TpmError> {
    let mut reader = Reader::new(command, response);
    let tag = reader.u16()?;
    let length = reader.u32()?;
    if usize::try_from(length) != Ok(response.len()) {
        return Err(TpmError::Protocol {
            command,
            what: "the response's length field is invalid",
        });
    }
    Ok((tag, ResponseCode(reader.u32()?)))
}

fn take_response(
    command: &'static str,
    code: u32,
    response: &[u8],
    sessions: &mut [Use<'_>],
    has_handle: bool,
) -> Result<Response, TpmError> {
    let mut reader = Reader::new(command, response);
    reader.raw(10)?;
    let handle = if has_handle { reader.u32()? } else { 0 };
    if sessions.is_empty() {
        return Ok(Response {
            command,
            handle,
            parameters: Zeroizing::new(reader.rest().to_vec()),
        });
    }
    let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    let mut parameters = Zeroizing::new(reader.raw(length)?.to_vec());
    let rp_hash = hash(&[&0u32.to_be_bytes(), &code.to_be_bytes(), &parameters]);
    for session in &mut *sessions {
        let nonce = reader.sized()?;
        let attributes = reader.u8()?;
        let mac = reader.sized()?;
        session.verify(command, &rp_hash, nonce, attributes, mac)?;
    }
    reader.finish()?;
    if let Some(decrypting) = sessions
        .iter()
        .find(|session| session.has(attribute::ENCRYPT))
        && let Some(first) = first_parameter(&mut parameters)
    {
        decrypting.decrypt(first);
    }
    Ok(Response {
        command,
        handle,
        parameters,
    })
}
