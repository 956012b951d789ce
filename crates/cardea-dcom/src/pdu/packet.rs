//! Whole packets: read, and made.

use std::fmt;

use zeroize::Zeroizing;

use crate::bytes::{Buffer, padding};
use crate::pdu::auth::{AuthSlot, AuthTrailer, Spans, cut};
use crate::pdu::bind::{Bind, BindAck, BindNak};
use crate::pdu::call::{Fault, Request, Response};
use crate::pdu::error::PduError;
use crate::pdu::header::{Flags, HEADER_LENGTH, Header, MAX_FRAGMENT, PduKind, TRAILER_LENGTH};

/// A packet that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu<'a> {
    /// The header.
    pub header: Header,
    /// What the packet says.
    pub body: Body<'a>,
    /// The security trailer.
    pub auth: Option<AuthTrailer<'a>>,
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// More presentation contexts, or another leg of an authentication.
    AlterContext(Bind),
    /// The answer to it.
    AlterContextResponse(BindAck),
    /// The last leg of an authentication; it is in the trailer.
    Auth3,
    /// Begins a connection.
    Bind(Bind),
    /// The answer to it.
    BindAck(BindAck),
    /// Its refusal.
    BindNak(BindNak),
    /// The client wants its call ended.
    CoCancel,
    /// The failure of a call.
    Fault(Fault),
    /// The client no longer wants the answer.
    Orphaned,
    /// A call.
    Request(Request<'a>),
    /// Its result.
    Response(Response<'a>),
    /// The server is going away.
    Shutdown,
}

impl Body<'_> {
    /// The kind of packet.
    #[must_use]
    pub const fn kind(&self) -> PduKind {
        match self {
            Self::AlterContext(_) => PduKind::AlterContext,
            Self::AlterContextResponse(_) => PduKind::AlterContextResponse,
            Self::Auth3 => PduKind::Auth3,
            Self::Bind(_) => PduKind::Bind,
            Self::BindAck(_) => PduKind::BindAck,
            Self::BindNak(_) => PduKind::BindNak,
            Self::CoCancel => PduKind::CoCancel,
            Self::Fault(_) => PduKind::Fault,
            Self::Orphaned => PduKind::Orphaned,
            Self::Request(_) => PduKind::Request,
            Self::Response(_) => PduKind::Response,
            Self::Shutdown => PduKind::Shutdown,
        }
    }
}

impl<'a> Pdu<'a> {
    /// Reads a packet: `bytes` is exactly one, as long as its header says.
    ///
    /// A sealed packet is opened first, in place: see [`spans`].
    ///
    /// # Errors
    /// What is not acceptable; [`crate::pdu::refusal`] makes the answer.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PduError> {
        let (header, kind) = checked(bytes)?;
        let cut = cut(&header, bytes)?;
        let content = cut.content;
        let body = match kind {
            PduKind::AlterContext => Body::AlterContext(Bind::read(content)?),
            PduKind::AlterContextResponse => Body::AlterContextResponse(BindAck::read(content)?),
            PduKind::Auth3 => Body::Auth3,
            PduKind::Bind => Body::Bind(Bind::read(content)?),
            PduKind::BindAck => Body::BindAck(BindAck::read(content)?),
            PduKind::BindNak => Body::BindNak(BindNak::read(content)?),
            PduKind::CoCancel => Body::CoCancel,
            PduKind::Fault => Body::Fault(Fault::read(content)?),
            PduKind::Orphaned => Body::Orphaned,
            PduKind::Request => {
                Body::Request(Request::read(content, header.flags.has(Flags::OBJECT))?)
            }
            PduKind::Response => Body::Response(Response::read(content)?),
            PduKind::Shutdown => Body::Shutdown,
        };
        Ok(Self {
            header,
            body,
            auth: cut.trailer,
        })
    }
}

/// Where the parts of a received packet are, to open it and to check its signature before [`Pdu::parse`]; `None`: it
/// has no security trailer.
///
/// # Errors
/// The packet is damaged.
pub fn spans(bytes: &[u8]) -> Result<Option<Spans>, PduError> {
    let (header, kind) = checked(bytes)?;
    let cut = cut(&header, bytes)?;
    if cut.trailer.is_none() {
        return Ok(None);
    }
    let body = own_header(kind, header.flags);
    // The padding may be as long as the body, but it does not reach into the header.
    let content_end = HEADER_LENGTH.saturating_add(cut.content.len());
    let (start, end) = (body, cut.padded.end);
    if content_end < start {
        return Err(PduError::BadTrailer);
    }
    let trailer = end..end.saturating_add(TRAILER_LENGTH);
    Ok(Some(Spans {
        header: 0..start,
        body: start..end,
        value: trailer.end..bytes.len(),
        trailer,
    }))
}

/// A packet that was made, with room for what is filled in last.
pub struct Built {
    bytes: Zeroizing<Vec<u8>>,
    spans: Option<Spans>,
}

impl Built {
    /// The packet.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packet, to be sealed and signed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The packet.
    #[must_use]
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.bytes
    }

    /// Where its parts are, if it has a security trailer.
    #[must_use]
    pub fn spans(&self) -> Option<&Spans> {
        self.spans.as_ref()
    }

    /// What is signed: all but the value of the trailer. Empty without a trailer.
    #[must_use]
    pub fn signed(&self) -> &[u8] {
        let span = self.spans.as_ref().map(Spans::signed);
        span.and_then(|span| self.bytes.get(span))
            .unwrap_or_default()
    }

    /// What is sealed: the body with its padding. Empty without a trailer.
    pub fn body_mut(&mut self) -> &mut [u8] {
        let span = self.spans.as_ref().map(|spans| spans.body.clone());
        span.and_then(|span| self.bytes.get_mut(span))
            .unwrap_or_default()
    }

    /// The value of the trailer, to be filled in. Empty without a trailer.
    pub fn value_mut(&mut self) -> &mut [u8] {
        let span = self.spans.as_ref().map(|spans| spans.value.clone());
        span.and_then(|span| self.bytes.get_mut(span))
            .unwrap_or_default()
    }
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Built({} bytes)", self.bytes.len())
    }
}

/// Makes a packet.
///
/// Lengths, and the bit for an object, are filled in; packets that are never fragmented are marked as whole. With an
/// [`AuthSlot`], the body is padded (calls to 16 bytes as Windows does, others to 4) and the value is zeros for now.
///
/// # Errors
/// The packet would be longer than a fragment may be, or has more alternatives than its peer accepts.
pub fn build(
    body: &Body<'_>,
    call_id: u32,
    flags: Flags,
    auth: Option<&AuthSlot>,
) -> Result<Built, PduError> {
    let kind = body.kind();
    let mut flags = match kind.may_be_fragmented() {
        true => flags,
        false => flags.with(Flags::WHOLE),
    };
    if let Body::Request(request) = body {
        flags = match request.object {
            Some(_) => flags.with(Flags::OBJECT),
            None => flags.without(Flags::OBJECT),
        };
    }
    let mut out = Buffer::new();
    Header::new(kind, flags, call_id).write(&mut out);
    match body {
        Body::AlterContext(bind) | Body::Bind(bind) => bind.write(&mut out)?,
        Body::AlterContextResponse(ack) | Body::BindAck(ack) => ack.write(&mut out)?,
        // The trailer of auth3 follows four bytes of no meaning (MS-RPCE §2.2.2.5).
        Body::Auth3 => out.zeros(4),
        Body::BindNak(nak) => nak.write(&mut out)?,
        Body::CoCancel | Body::Orphaned | Body::Shutdown => {}
        Body::Fault(fault) => fault.write(&mut out),
        Body::Request(request) => request.write(&mut out),
        Body::Response(response) => response.write(&mut out),
    }
    let spans = match auth {
        None => None,
        Some(slot) if slot.value_length == 0 => return Err(PduError::BadTrailer),
        Some(slot) => {
            let start = own_header(kind, flags);
            let pad = match kind {
                PduKind::Request | PduKind::Response => {
                    padding(out.len().saturating_sub(start), CALL_ALIGNMENT)
                }
                _ => padding(out.len(), 4),
            };
            out.zeros(pad);
            let end = out.len();
            slot.write(u8::try_from(pad).unwrap_or_default(), &mut out);
            out.set(10, &slot.value_length.to_le_bytes());
            let trailer = end..end.saturating_add(TRAILER_LENGTH);
            Some(Spans {
                header: 0..start,
                body: start..end,
                value: trailer.end..out.len(),
                trailer,
            })
        }
    };
    let length = u16::try_from(out.len())
        .ok()
        .filter(|length| *length <= MAX_FRAGMENT)
        .ok_or(PduError::FragmentLength)?;
    out.set(8, &length.to_le_bytes());
    Ok(Built {
        bytes: out.finish(),
        spans,
    })
}

/// What the stub of a call is padded to when it has a security trailer.
pub(crate) const CALL_ALIGNMENT: usize = 16;

/// Length of the header of a packet together with what its kind adds: what is signed but never sealed.
pub(crate) fn own_header(kind: PduKind, flags: Flags) -> usize {
    match kind {
        PduKind::Request if flags.has(Flags::OBJECT) => 40,
        PduKind::Request | PduKind::Response => 24,
        PduKind::Fault => 32,
        _ => HEADER_LENGTH,
    }
}

fn checked(bytes: &[u8]) -> Result<(Header, PduKind), PduError> {
    let first = bytes.first_chunk().ok_or(PduError::Truncated)?;
    let header = Header::read(first);
    let kind = header.check()?;
    if usize::from(header.fragment_length) != bytes.len() {
        return Err(PduError::FragmentLength);
    }
    Ok((header, kind))
}
