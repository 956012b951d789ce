//! A connection of DCE/RPC from the side of the client: for calls back to a caller's machine.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cardea_dcom::Guid;
use cardea_dcom::pdu::{
    AuthLevel, AuthSlot, Bind, Body, Built, Call, ContextOffer, Flags, HEADER_LENGTH, Header,
    MAX_FRAGMENT, Pdu, PduError, Reassembly, SyntaxId, auth_type, build, request_fragments, spans,
};
use zeroize::Zeroizing;

use crate::auth::{AuthError, NtlmInitiator, NtlmSession, Session};
use crate::stream::read_exact;

/// Why a call outwards has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutgoingError {
    /// The other side does not prove to know the keys, or wants less security.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The call failed.
    #[error("the call failed (0x{0:08X})")]
    Fault(u32),
    /// The connection failed, or there was no answer in time.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An answer is not one.
    #[error("unexpected answer")]
    Packet(#[from] PduError),
    /// The interface is not there.
    #[error("the other side does not have the interface")]
    Refused,
}

/// A connection with one interface.
pub struct Outgoing {
    stream: TcpStream,
    until: Instant,
    fragment: u16,
    call_id: u32,
    session: Option<NtlmSession>,
}

impl Outgoing {
    /// Connects and binds an interface, with an account or as nobody; all of it and all calls end at `until`.
    ///
    /// # Errors
    ///
    /// [`OutgoingError`].
    pub fn bind(
        address: SocketAddr,
        interface: SyntaxId,
        account: Option<NtlmInitiator>,
        until: Instant,
    ) -> Result<Self, OutgoingError> {
        let stream = TcpStream::connect_timeout(&address, left(until)?)?;
        stream.set_nodelay(true)?;
        let mut outgoing = Self {
            stream,
            until,
            fragment: MAX_FRAGMENT,
            call_id: 1,
            session: None,
        };
        let offer = Body::Bind(Bind {
            max_transmit: MAX_FRAGMENT,
            max_receive: MAX_FRAGMENT,
            group: 0,
            contexts: vec![ContextOffer {
                id: CONTEXT,
                interface,
                transfer: vec![SyntaxId::NDR],
            }],
        });
        let first = account.as_ref().map(NtlmInitiator::negotiate);
        outgoing.send(with_token(&offer, first)?)?;
        let answer = outgoing.receive()?;
        let pdu = Pdu::parse(&answer)?;
        let Body::BindAck(ack) = &pdu.body else {
            return Err(OutgoingError::Refused);
        };
        if !ack
            .results
            .first()
            .is_some_and(|result| result.is_accepted())
        {
            return Err(OutgoingError::Refused);
        }
        outgoing.fragment = ack.max_receive.min(MAX_FRAGMENT);
        if let Some(account) = account {
            let challenge = pdu.auth.ok_or(AuthError::Unexpected)?;
            let (token, session) = account.authenticate(challenge.value)?;
            outgoing.send(with_token(&Body::Auth3, Some(&token))?)?;
            outgoing.session = Some(session);
        }
        Ok(outgoing)
    }

    /// Calls end at another moment from here on.
    pub fn set_end(&mut self, until: Instant) {
        self.until = until;
    }

    /// Calls a method of an object, or of the interface itself.
    ///
    /// # Errors
    ///
    /// [`OutgoingError`].
    pub fn call(
        &mut self,
        opnum: u16,
        object: Option<Guid>,
        stub: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OutgoingError> {
        self.call_id = self.call_id.wrapping_add(1);
        let call = Call {
            call_id: self.call_id,
            context_id: CONTEXT,
            opnum,
            object,
        };
        let slot = self.session.as_ref().map(|session| AuthSlot {
            value_length: u16::try_from(session.signature_length()).unwrap_or_default(),
            ..SLOT
        });
        for mut built in request_fragments(&call, stub, self.fragment, slot.as_ref())? {
            self.seal(&mut built);
            self.send(built)?;
        }
        let mut reassembly = Reassembly::new();
        loop {
            let mut answer = self.receive()?;
            self.open(&mut answer)?;
            let pdu = Pdu::parse(&answer)?;
            if pdu.header.call_id != call.call_id {
                return Err(PduError::Fragments.into());
            }
            if let Body::Fault(fault) = &pdu.body {
                return Err(OutgoingError::Fault(fault.status));
            }
            if let Some(assembled) = reassembly.add(&pdu)? {
                return Ok(Zeroizing::new(assembled.stub.to_vec()));
            }
        }
    }

    fn seal(&mut self, built: &mut Built) {
        let (Some(session), Some(spans)) = (&mut self.session, built.spans().cloned()) else {
            return;
        };
        let Some(span) = built.bytes_mut().get_mut(spans.signed()) else {
            return;
        };
        let signature = session.seal(span, spans.body);
        let place = built.value_mut();
        if place.len() == signature.len() {
            place.copy_from_slice(&signature);
        }
    }

    /// Opens an answer. Faults come unprotected: they end the call either way.
    fn open(&mut self, answer: &mut [u8]) -> Result<(), OutgoingError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let header = answer.first_chunk().map(Header::read);
        let kind = header.and_then(|header| header.kind());
        let Some(spans) = spans(answer)? else {
            return match kind {
                Some(cardea_dcom::pdu::PduKind::Fault) => Ok(()),
                _ => Err(AuthError::Signature.into()),
            };
        };
        let (span, value) = answer.split_at_mut(spans.trailer.end);
        session.unseal(span, spans.body, value)?;
        Ok(())
    }

    fn send(&mut self, built: Built) -> Result<(), OutgoingError> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write_all(built.bytes())?;
        Ok(())
    }

    fn receive(&mut self) -> Result<Zeroizing<Vec<u8>>, OutgoingError> {
        let mut header = [0; HEADER_LENGTH];
        read_exact(&self.stream, &mut header, self.until)?;
        let about = Header::read(&header);
        about.check()?;
        let mut packet = Zeroizing::new(vec![0; usize::from(about.fragment_length)]);
        if let Some((place, rest)) = packet.split_at_mut_checked(HEADER_LENGTH) {
            place.copy_from_slice(&header);
            read_exact(&self.stream, rest, self.until)?;
        }
        Ok(packet)
    }
}

fn with_token(body: &Body<'_>, token: Option<&[u8]>) -> Result<Built, OutgoingError> {
    let slot = match token {
        None => None,
        Some(token) => Some(AuthSlot {
            value_length: u16::try_from(token.len()).map_err(|_| PduError::BadTrailer)?,
            ..SLOT
        }),
    };
    let mut built = build(body, 1, Flags::WHOLE, slot.as_ref())?;
    if let Some(token) = token {
        let place = built.value_mut();
        if place.len() == token.len() {
            place.copy_from_slice(token);
        }
    }
    Ok(built)
}

fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// The one presentation context.
const CONTEXT: u16 = 0;

/// The one security context; the length of its value is filled in.
const SLOT: AuthSlot = AuthSlot {
    auth_type: auth_type::NTLM,
    level: AuthLevel::Privacy,
    context_id: 1,
    value_length: 0,
};
