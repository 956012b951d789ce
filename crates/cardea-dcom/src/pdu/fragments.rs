//! Calls in several fragments, taken apart and put together.

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

use crate::pdu::auth::AuthSlot;
use crate::pdu::call::{Call, Fault, Request, Response};
use crate::pdu::error::PduError;
use crate::pdu::header::{Flags, MAX_FRAGMENT, MIN_FRAGMENT, PduKind, TRAILER_LENGTH};
use crate::pdu::packet::{Body, Built, CALL_ALIGNMENT, Pdu, build, own_header};

/// The most data that a call may have.
pub const MAX_STUB: usize = 64 * 1024;

/// The fragments of a call that have arrived so far: one call at a time.
#[derive(Default)]
pub struct Reassembly {
    begun: Option<Begun>,
}

struct Begun {
    is_request: bool,
    call: Call,
    security: Option<u32>,
    stub: Zeroizing<Vec<u8>>,
}

/// A complete call or its complete result.
#[derive(Debug)]
pub struct Assembled<'a> {
    /// Which call.
    pub call: Call,
    /// The security context that all its fragments had.
    pub security: Option<u32>,
    /// All its data.
    pub stub: Stub<'a>,
}

/// The data of a call.
pub enum Stub<'a> {
    /// It came in one fragment.
    Single(&'a [u8]),
    /// It came in several, joined here.
    Joined(Zeroizing<Vec<u8>>),
}

impl Deref for Stub<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Single(stub) => stub,
            Self::Joined(stub) => stub,
        }
    }
}

impl fmt::Debug for Stub<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stub({} bytes)", self.len())
    }
}

impl Reassembly {
    /// No fragment yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether fragments of a call are missing.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.begun.is_some()
    }

    /// The call that fragments are missing of.
    #[must_use]
    pub fn pending(&self) -> Option<&Call> {
        self.begun.as_ref().map(|begun| &begun.call)
    }

    /// Forgets and erases what has arrived: the call was abandoned.
    pub fn clear(&mut self) {
        self.begun = None;
    }

    /// Takes a request or response whose signature was checked. `None`: more fragments must follow.
    ///
    /// # Errors
    /// The fragment does not continue the call, or the call has too much data. What was there is erased, and the
    /// connection is of no more use.
    pub fn add<'a>(&mut self, pdu: &Pdu<'a>) -> Result<Option<Assembled<'a>>, PduError> {
        let call_id = pdu.header.call_id;
        let security = pdu.auth.map(|trailer| trailer.context_id);
        let (is_request, call, stub) = match pdu.body {
            Body::Request(request) => (true, request_call(call_id, &request), request.stub),
            Body::Response(response) => (false, response_call(call_id, &response), response.stub),
            _ => return Err(PduError::Fragments),
        };
        let begun = self.begun.take();
        let (is_first, is_last) = (
            pdu.header.flags.has(Flags::FIRST),
            pdu.header.flags.has(Flags::LAST),
        );
        let mut begun = match (is_first, begun) {
            (true, None) if is_last => {
                return Ok(Some(Assembled {
                    call,
                    security,
                    stub: Stub::Single(stub),
                }));
            }
            (true, None) => Begun {
                is_request,
                call,
                security,
                // Room for all that may come: a buffer that grew would leave copies of secrets behind.
                stub: Zeroizing::new(Vec::with_capacity(MAX_STUB)),
            },
            (false, Some(begun))
                if (begun.is_request, begun.call, begun.security)
                    == (is_request, call, security) =>
            {
                begun
            }
            _ => return Err(PduError::Fragments),
        };
        if stub.len() > MAX_STUB.saturating_sub(begun.stub.len()) {
            return Err(PduError::StubTooLong);
        }
        begun.stub.extend_from_slice(stub);
        if is_last {
            return Ok(Some(Assembled {
                call,
                security,
                stub: Stub::Joined(begun.stub),
            }));
        }
        self.begun = Some(begun);
        Ok(None)
    }
}

impl fmt::Debug for Reassembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reassembly")
            .field("pending", &self.pending())
            .finish()
    }
}

fn request_call(call_id: u32, request: &Request<'_>) -> Call {
    Call {
        call_id,
        context_id: request.context_id,
        opnum: request.opnum,
        object: request.object,
    }
}

fn response_call(call_id: u32, response: &Response<'_>) -> Call {
    Call {
        call_id,
        context_id: response.context_id,
        opnum: 0,
        object: None,
    }
}

/// A call, in as many fragments as the peer's limit asks for. Each is signed and sealed by itself, in this order.
///
/// # Errors
/// The stub is longer than accepted, or the limit is below [`MIN_FRAGMENT`].
pub fn request_fragments(
    call: &Call,
    stub: &[u8],
    max_fragment: u16,
    auth: Option<&AuthSlot>,
) -> Result<Vec<Built>, PduError> {
    let flags = match call.object {
        Some(_) => Flags::OBJECT,
        None => Flags::default(),
    };
    let header = own_header(PduKind::Request, flags);
    let parts = Parts::new(stub, header, max_fragment, auth)?;
    let made = parts.map(|(flags, alloc_hint, stub)| {
        let request = Request {
            alloc_hint,
            context_id: call.context_id,
            opnum: call.opnum,
            object: call.object,
            stub,
        };
        build(&Body::Request(request), call.call_id, flags, auth)
    });
    made.collect()
}

/// The result of a call, in as many fragments as the peer's limit asks for.
///
/// # Errors
/// The stub is longer than accepted, or the limit is below [`MIN_FRAGMENT`].
pub fn response_fragments(
    call: &Call,
    stub: &[u8],
    max_fragment: u16,
    auth: Option<&AuthSlot>,
) -> Result<Vec<Built>, PduError> {
    let header = own_header(PduKind::Response, Flags::default());
    let parts = Parts::new(stub, header, max_fragment, auth)?;
    let made = parts.map(|(flags, alloc_hint, stub)| {
        let response = Response {
            alloc_hint,
            context_id: call.context_id,
            cancel_count: 0,
            stub,
        };
        build(&Body::Response(response), call.call_id, flags, auth)
    });
    made.collect()
}

/// The failure of a call that was not executed.
///
/// # Errors
/// The value of the security trailer is too long.
pub fn fault_for(call: &Call, status: u32, auth: Option<&AuthSlot>) -> Result<Built, PduError> {
    let fault = Fault {
        context_id: call.context_id,
        cancel_count: 0,
        status,
    };
    let flags = Flags::WHOLE.with(Flags::DID_NOT_EXECUTE);
    build(&Body::Fault(fault), call.call_id, flags, auth)
}

/// The parts of a stub: bits of the header, bytes that are still to come, the part. An empty stub has one part.
struct Parts<'a> {
    rest: &'a [u8],
    size: usize,
    is_first: bool,
    is_done: bool,
}

impl<'a> Parts<'a> {
    fn new(
        stub: &'a [u8],
        header: usize,
        max_fragment: u16,
        auth: Option<&AuthSlot>,
    ) -> Result<Self, PduError> {
        if stub.len() > MAX_STUB {
            return Err(PduError::StubTooLong);
        }
        if max_fragment < MIN_FRAGMENT {
            return Err(PduError::FragmentSize);
        }
        let trailer = auth.map_or(0, |slot| {
            usize::from(slot.value_length).saturating_add(TRAILER_LENGTH)
        });
        let room = usize::from(max_fragment.min(MAX_FRAGMENT))
            .checked_sub(header.saturating_add(trailer))
            .ok_or(PduError::BadTrailer)?;
        // Whole units: no part but the last is padded.
        let size = room - room % CALL_ALIGNMENT;
        if size == 0 {
            return Err(PduError::BadTrailer);
        }
        Ok(Self {
            rest: stub,
            size,
            is_first: true,
            is_done: false,
        })
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = (Flags, u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let to_come = u32::try_from(self.rest.len()).unwrap_or_default();
        let (part, rest) = self.rest.split_at(self.size.min(self.rest.len()));
        let mut flags = Flags::default();
        if std::mem::take(&mut self.is_first) {
            flags = flags.with(Flags::FIRST);
        }
        if rest.is_empty() {
            flags = flags.with(Flags::LAST);
            self.is_done = true;
        }
        self.rest = rest;
        Some((flags, to_come, part))
    }
}
