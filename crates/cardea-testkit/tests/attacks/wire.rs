//! Commands and responses as they cross the bus (TPM 2.0 Part 1 §18).

use crate::raw::{self, Ticket, cc};

/// Tag of a command or response with sessions.
pub(crate) const WITH_SESSIONS: [u8; 2] = [0x80, 2];

/// Code of a command or response.
pub(crate) fn code_of(message: &[u8]) -> u32 {
    message
        .get(6..10)
        .map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap()))
}

/// A response without parameters.
pub(crate) fn refusal(code: u32) -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

/// Corrects the length field.
pub(crate) fn with_length(mut message: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    message[2..6].copy_from_slice(&length.to_be_bytes());
    message
}

/// Reads a message; none at its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn raw(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.raw(4)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.raw(2)?.try_into().ok()?);
        self.raw(length.into())
    }
}

/// Number of handles before the sessions, for the commands that the engine sends.
fn handle_count(code: u32) -> usize {
    match code {
        cc::NV_UNDEFINE_SPACE
        | cc::NV_WRITE
        | cc::NV_READ
        | cc::POLICY_SECRET
        | cc::POLICY_SIGNED
        | cc::START_AUTH_SESSION
        | cc::EVICT_CONTROL => 2,
        cc::FLUSH_CONTEXT
        | cc::LOAD_EXTERNAL
        | cc::CONTEXT_LOAD
        | cc::GET_CAPABILITY
        | cc::GET_RANDOM
        | cc::STARTUP
        | cc::SHUTDOWN
        | cc::GET_TEST_RESULT
        | cc::READ_CLOCK
        | cc::TEST_PARMS => 0,
        _ => 1,
    }
}

/// The handles of a command, the sessions that authorise it, and its parameters.
pub(crate) struct Parts<'a> {
    pub(crate) handles: Vec<u32>,
    pub(crate) sessions: Vec<u32>,
    pub(crate) parameters: &'a [u8],
}

pub(crate) fn parts(command: &[u8]) -> Option<Parts<'_>> {
    let mut reader = Reader(command.get(10..)?);
    let count = handle_count(code_of(command));
    let handles = (0..count).map(|_| reader.u32()).collect::<Option<_>>()?;
    let mut sessions = Vec::new();
    if command[..2] == WITH_SESSIONS {
        let size = reader.u32()?;
        let mut area = Reader(reader.raw(usize::try_from(size).ok()?)?);
        while !area.0.is_empty() {
            sessions.push(area.u32()?);
            area.sized()?;
            area.raw(1)?;
            area.sized()?;
        }
    }
    Some(Parts {
        handles,
        sessions,
        parameters: reader.0,
    })
}

/// The policy session that a policy command names by its handle alone.
pub(crate) fn policy_session(command: &[u8]) -> Option<u32> {
    let parts = parts(command)?;
    match code_of(command) {
        cc::POLICY_SECRET | cc::POLICY_SIGNED => parts.handles.get(1).copied(),
        cc::POLICY_AUTHORIZE
        | cc::POLICY_COMMAND_CODE
        | cc::POLICY_TICKET
        | cc::POLICY_RESTART
        | cc::POLICY_GET_DIGEST => parts.handles.first().copied(),
        _ => None,
    }
}

/// What PolicySecret and PolicySigned have in common.
pub(crate) struct Assertion<'a> {
    /// An index or a key.
    pub(crate) authority: u32,
    pub(crate) session: u32,
    pub(crate) nonce: &'a [u8],
    pub(crate) policy_ref: &'a [u8],
}

impl<'a> Assertion<'a> {
    /// None for other commands.
    pub(crate) fn parse(command: &'a [u8]) -> Option<Self> {
        if ![cc::POLICY_SECRET, cc::POLICY_SIGNED].contains(&code_of(command)) {
            return None;
        }
        let parts = parts(command)?;
        let mut reader = Reader(parts.parameters);
        let nonce = reader.sized()?;
        reader.sized()?;
        Some(Self {
            authority: *parts.handles.first()?,
            session: *parts.handles.get(1)?,
            nonce,
            policy_ref: reader.sized()?,
        })
    }
}

/// A ticket in a response of PolicySecret.
pub(crate) struct HeardTicket {
    pub(crate) index: u32,
    pub(crate) policy_ref: Vec<u8>,
    pub(crate) ticket: Ticket,
}

impl HeardTicket {
    /// None for other commands, and if no ticket was returned.
    pub(crate) fn parse(command: &[u8], answer: &[u8]) -> Option<Self> {
        const WITHOUT_DIGEST: usize = 8;
        if code_of(command) != cc::POLICY_SECRET || code_of(answer) != 0 {
            return None;
        }
        let asked = Assertion::parse(command)?;
        // Header, size of the parameters.
        let ticket = Ticket::read(&mut raw::Reader(answer.get(14..)?));
        (ticket.ticket.len() > WITHOUT_DIGEST).then(|| Self {
            index: asked.authority,
            policy_ref: asked.policy_ref.to_vec(),
            ticket,
        })
    }
}

/// Handle and nonce in a response of StartAuthSession.
pub(crate) fn begun(answer: &[u8]) -> Option<(u32, &[u8])> {
    let mut reader = Reader(answer.get(10..)?);
    Some((reader.u32()?, reader.sized()?))
}

/// Such a response with this handle and nonce.
pub(crate) fn begun_as(handle: u32, nonce: &[u8]) -> Vec<u8> {
    let length = u16::try_from(nonce.len()).unwrap().to_be_bytes();
    let success = [0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    with_length([&success[..], &handle.to_be_bytes(), &length, nonce].concat())
}

/// Nonces of the sessions in a response, in their order.
pub(crate) fn nonces(command: &[u8], answer: &[u8]) -> Vec<Vec<u8>> {
    let with_handle = [cc::LOAD, cc::CREATE_PRIMARY, cc::CONTEXT_LOAD];
    let read = || {
        let mut reader = Reader(answer.get(10..)?);
        if with_handle.contains(&code_of(command)) {
            reader.u32()?;
        }
        let size = reader.u32()?;
        reader.raw(usize::try_from(size).ok()?)?;
        let mut nonces = Vec::new();
        while !reader.0.is_empty() {
            nonces.push(reader.sized()?.to_vec());
            reader.raw(1)?;
            reader.sized()?;
        }
        Some(nonces)
    };
    if answer.get(..2) != Some(&WITH_SESSIONS) || code_of(answer) != 0 {
        return Vec::new();
    }
    read().unwrap_or_default()
}

#[test]
fn assertion_ticket_and_nonces_are_parsed() {
    let command = with_length(
        [
            &[0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x51][..],
            &[1, 0xC2, 0, 0, 3, 0, 0, 1],
            &[0, 0, 0, 9, 2, 0, 0, 0, 0, 0, 1, 0, 0],
            &[0, 2, 0xAA, 0xBB, 0, 0, 0, 3, b'p', b'u', b'k', 0, 0, 0, 0],
        ]
        .concat(),
    );
    let asked = Assertion::parse(&command).unwrap();
    assert_eq!((asked.authority, asked.session), (0x01C2_0000, 0x0300_0001));
    assert_eq!(
        (asked.nonce, asked.policy_ref),
        (&[0xAA, 0xBB][..], &b"puk"[..])
    );
    let heard = |digest: &[u8]| {
        let length = u16::try_from(digest.len()).unwrap().to_be_bytes();
        let ticket = [&[0x80, 0x23, 0x40, 0, 0, 1][..], &length, digest].concat();
        let parameters = [&[0, 1, 7][..], &ticket].concat();
        let size = u32::try_from(parameters.len()).unwrap().to_be_bytes();
        let head = [0x80, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        let answer = with_length([&head[..], &size, &parameters, &[0, 1, 5, 1, 0, 0]].concat());
        assert_eq!(nonces(&command, &answer), [[5]]);
        HeardTicket::parse(&command, &answer)
    };
    assert!(heard(&[]).is_none());
    let ticket = heard(&[1, 2, 3]).unwrap();
    assert_eq!(
        (&ticket.ticket.timeout[..], &ticket.policy_ref[..]),
        (&[7][..], &b"puk"[..])
    );
    assert_eq!(ticket.ticket.ticket.len(), 11);
}
