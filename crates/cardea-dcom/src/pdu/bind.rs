//! Bind, alter_context and their answers (C706 §12.6.4.3-5).

use crate::bytes::{Buffer, Cursor};
use crate::pdu::error::PduError;
use crate::pdu::syntax::SyntaxId;

/// How many presentation contexts one packet may offer.
pub const MAX_CONTEXTS: usize = 32;

/// How many encodings a presentation context may offer.
pub const MAX_TRANSFER_SYNTAXES: usize = 8;

/// How many versions a refusal may name.
const MAX_VERSIONS: usize = 8;

/// The longest secondary address, with its NUL.
const MAX_ADDRESS: usize = 256;

/// The body of bind and alter_context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The longest fragment that the client sends.
    pub max_transmit: u16,
    /// The longest fragment that the client receives.
    pub max_receive: u16,
    /// The association group to join; 0: a new one.
    pub group: u32,
    /// What the client wants to talk about.
    pub contexts: Vec<ContextOffer>,
}

/// A presentation context: an interface, and the encodings to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextOffer {
    /// The client's number for it.
    pub id: u16,
    /// The interface.
    pub interface: SyntaxId,
    /// The encodings, the preferred one first.
    pub transfer: Vec<SyntaxId>,
}

impl Bind {
    pub(crate) fn read(content: &[u8]) -> Result<Self, PduError> {
        let mut from = Cursor::new(content);
        let (max_transmit, max_receive, group) = (from.u16()?, from.u16()?, from.u32()?);
        let [count, _, _, _] = from.array()?;
        if usize::from(count) > MAX_CONTEXTS {
            return Err(PduError::TooMany);
        }
        let contexts = (0..count).map(|_| ContextOffer::read(&mut from));
        let contexts = contexts.collect::<Result<_, _>>()?;
        // What follows is padding before the trailer that some clients do not count as such.
        Ok(Self {
            max_transmit,
            max_receive,
            group,
            contexts,
        })
    }

    pub(crate) fn write(&self, out: &mut Buffer) -> Result<(), PduError> {
        out.u16(self.max_transmit);
        out.u16(self.max_receive);
        out.u32(self.group);
        out.bytes(&[count(self.contexts.len(), MAX_CONTEXTS)?, 0, 0, 0]);
        for offer in &self.contexts {
            out.u16(offer.id);
            out.bytes(&[count(offer.transfer.len(), MAX_TRANSFER_SYNTAXES)?, 0]);
            offer.interface.write(out);
            offer.transfer.iter().for_each(|syntax| syntax.write(out));
        }
        Ok(())
    }
}

impl ContextOffer {
    fn read(from: &mut Cursor<'_>) -> Result<Self, PduError> {
        let id = from.u16()?;
        let [count, _] = from.array()?;
        if usize::from(count) > MAX_TRANSFER_SYNTAXES {
            return Err(PduError::TooMany);
        }
        let interface = SyntaxId::read(from)?;
        let transfer = (0..count).map(|_| SyntaxId::read(from));
        Ok(Self {
            id,
            interface,
            transfer: transfer.collect::<Result<_, _>>()?,
        })
    }
}

/// The body of bind_ack and alter_context_resp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAck {
    /// The longest fragment that the server sends.
    pub max_transmit: u16,
    /// The longest fragment that the server receives.
    pub max_receive: u16,
    /// The association group.
    pub group: u32,
    /// The secondary address: the port in decimal; empty in alter_context_resp.
    pub address: String,
    /// One for each context that was offered, in its order.
    pub results: Vec<ContextResult>,
}

/// The answer to a [`ContextOffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextResult {
    /// 0: accepted; 1: refused by the user; 2: refused by the provider; 3: negotiation of features.
    pub result: u16,
    /// Why it is refused, or which features there are.
    pub reason: u16,
    /// The encoding that was chosen.
    pub transfer: SyntaxId,
}

impl ContextResult {
    /// Accepted with an encoding.
    #[must_use]
    pub const fn accepted(transfer: SyntaxId) -> Self {
        Self {
            result: 0,
            reason: 0,
            transfer,
        }
    }

    /// Whether the context may be used.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.result == 0
    }
}

impl BindAck {
    pub(crate) fn read(content: &[u8]) -> Result<Self, PduError> {
        let mut from = Cursor::new(content);
        let (max_transmit, max_receive, group) = (from.u16()?, from.u16()?, from.u32()?);
        let length = usize::from(from.u16()?);
        let address = from.take(length)?;
        let address = address.strip_suffix(&[0]).unwrap_or(address);
        if address.len() >= MAX_ADDRESS {
            return Err(PduError::TooMany);
        }
        if !address.iter().all(|byte| byte.is_ascii_graphic()) {
            return Err(PduError::Truncated);
        }
        let address = String::from_utf8_lossy(address).into_owned();
        // The content begins at a multiple of four.
        from.align(4)?;
        let [count, _, _, _] = from.array()?;
        if usize::from(count) > MAX_CONTEXTS {
            return Err(PduError::TooMany);
        }
        let results = (0..count).map(|_| {
            Ok::<_, PduError>(ContextResult {
                result: from.u16()?,
                reason: from.u16()?,
                transfer: SyntaxId::read(&mut from)?,
            })
        });
        let results = results.collect::<Result<_, _>>()?;
        Ok(Self {
            max_transmit,
            max_receive,
            group,
            address,
            results,
        })
    }

    pub(crate) fn write(&self, out: &mut Buffer) -> Result<(), PduError> {
        out.u16(self.max_transmit);
        out.u16(self.max_receive);
        out.u32(self.group);
        if self.address.is_empty() {
            out.u16(0);
        } else {
            let length = self.address.len().saturating_add(1);
            let is_sendable = self.address.bytes().all(|byte| byte.is_ascii_graphic());
            if length > MAX_ADDRESS || !is_sendable {
                return Err(PduError::TooMany);
            }
            out.u16(u16::try_from(length).map_err(|_| PduError::TooMany)?);
            out.bytes(self.address.as_bytes());
            out.u8(0);
        }
        out.align(4);
        out.bytes(&[count(self.results.len(), MAX_CONTEXTS)?, 0, 0, 0]);
        for result in &self.results {
            out.u16(result.result);
            out.u16(result.reason);
            result.transfer.write(out);
        }
        Ok(())
    }
}

/// Reasons of a bind_nak.
pub mod nak {
    /// None of the others.
    pub const NOT_SPECIFIED: u16 = 0;
    /// More than the server takes.
    pub const LOCAL_LIMIT: u16 = 2;
    /// The version of the protocol.
    pub const PROTOCOL_VERSION: u16 = 4;
    /// The mechanism of authentication.
    pub const AUTH_TYPE: u16 = 8;
}

/// The body of bind_nak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindNak {
    /// Why: see [`nak`].
    pub reason: u16,
    /// The versions that the server speaks.
    pub versions: Vec<(u8, u8)>,
}

impl BindNak {
    /// A refusal by a server that speaks version 5.0.
    #[must_use]
    pub fn new(reason: u16) -> Self {
        Self {
            reason,
            versions: vec![(5, 0)],
        }
    }

    pub(crate) fn read(content: &[u8]) -> Result<Self, PduError> {
        let mut from = Cursor::new(content);
        let reason = from.u16()?;
        // Some servers leave the versions out.
        let count = match from.rest() {
            [] => 0,
            _ => from.u8()?,
        };
        if usize::from(count) > MAX_VERSIONS {
            return Err(PduError::TooMany);
        }
        let versions = (0..count).map(|_| from.array().map(|[major, minor]| (major, minor)));
        Ok(Self {
            reason,
            versions: versions.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn write(&self, out: &mut Buffer) -> Result<(), PduError> {
        out.u16(self.reason);
        out.u8(count(self.versions.len(), MAX_VERSIONS)?);
        for (major, minor) in &self.versions {
            out.bytes(&[*major, *minor]);
        }
        Ok(())
    }
}

fn count(number: usize, limit: usize) -> Result<u8, PduError> {
    u8::try_from(number)
        .ok()
        .filter(|_| number <= limit)
        .ok_or(PduError::TooMany)
}
