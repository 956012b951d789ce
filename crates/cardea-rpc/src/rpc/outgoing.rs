//! A connection of DCE/RPC from the side of the client.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cardea_dcom::Guid;
use cardea_dcom::pdu::{
    AuthLevel, AuthSlot, AuthTrailer, Bind, BindAck, Body, Built, Call, ContextOffer, ExpectedCall,
    Flags, HEADER_LENGTH, Header, MAX_FRAGMENT, Pdu, PduError, PduKind, Reassembly, SyntaxId,
    auth_type, build, request_fragments, spans,
};
use zeroize::Zeroizing;

use super::security::covered;
use crate::auth::{AuthError, Initiator, NtlmInitiator, Session};
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
    /// The other side does not want the connection.
    #[error("the other side refuses the connection (reason {0})")]
    Nak(u16),
    /// An answer is not one.
    #[error("unexpected answer")]
    Packet(#[from] PduError),
    /// The interface is not there.
    #[error("the other side does not have the interface")]
    Refused,
}

/// A connection, with the interface that was bound last.
pub struct Outgoing {
    stream: TcpStream,
    until: Instant,
    fragment: u16,
    call_id: u32,
    /// The interfaces that were bound; a presentation context has its place here for a number.
    interfaces: Vec<SyntaxId>,
    context: u16,
    security: Option<Security>,
    verifies: bool,
}

struct Security {
    session: Box<dyn Session>,
    slot: AuthSlot,
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
        let account = account.map(|account| Box::new(account) as Box<dyn Initiator>);
        let stream = TcpStream::connect_timeout(&address, left(until)?)?;
        // NTLM signs headers in any case.
        Self::begin(stream, interface, account, Flags::WHOLE, until)
    }

    /// Like [`Outgoing::bind`], with any mechanism, on a connection that is there, and with the wish that headers be
    /// signed.
    ///
    /// # Errors
    ///
    /// [`OutgoingError`].
    pub fn bind_with(
        stream: TcpStream,
        interface: SyntaxId,
        account: Box<dyn Initiator>,
        until: Instant,
    ) -> Result<Self, OutgoingError> {
        let flags = Flags::WHOLE.with(Flags::HEADER_SIGNING);
        Self::begin(stream, interface, Some(account), flags, until)
    }

    fn begin(
        stream: TcpStream,
        interface: SyntaxId,
        mut account: Option<Box<dyn Initiator>>,
        flags: Flags,
        until: Instant,
    ) -> Result<Self, OutgoingError> {
        stream.set_nodelay(true)?;
        let mut outgoing = Self {
            stream,
            until,
            fragment: MAX_FRAGMENT,
            call_id: 1,
            interfaces: vec![interface],
            context: 0,
            security: None,
            verifies: false,
        };
        let slot = account.as_ref().map(|account| AuthSlot {
            auth_type: account.auth_type(),
            level: AuthLevel::Privacy,
            context_id: 1,
            value_length: 0,
        });
        let first = account
            .as_mut()
            .map(|account| account.begin())
            .transpose()?;
        let offer = outgoing.offer(Body::Bind);
        outgoing.send(with_token(&offer, flags, slot, first.as_deref())?)?;
        let answer = outgoing.receive()?;
        let pdu = Pdu::parse(&answer)?;
        let ack = match &pdu.body {
            Body::BindAck(ack) => ack,
            Body::BindNak(nak) => return Err(OutgoingError::Nak(nak.reason)),
            _ => return Err(OutgoingError::Refused),
        };
        outgoing.accepted(ack)?;
        outgoing.fragment = ack.max_receive.min(MAX_FRAGMENT);
        if let (Some(account), Some(slot)) = (account, slot) {
            let challenge = pdu.auth.ok_or(AuthError::Unexpected)?;
            check(&challenge, &slot)?;
            let (token, mut session) = account.finish(challenge.value)?;
            session.agree(true, true);
            // Without it only the body would be signed, and anybody on the way could change what is called.
            if !pdu.header.flags.has(Flags::HEADER_SIGNING) && !signs_headers_anyway(&slot) {
                return Err(AuthError::NotOffered("signatures over headers").into());
            }
            let slot = AuthSlot {
                value_length: u16::try_from(session.signature_length()).unwrap_or_default(),
                ..slot
            };
            let last = with_token(&Body::Auth3, Flags::WHOLE, Some(slot), Some(&token))?;
            outgoing.send(last)?;
            outgoing.security = Some(Security { session, slot });
        }
        Ok(outgoing)
    }

    /// Lets requests say once more, sealed, which interface and method they are for: the packets in which interfaces
    /// are bound have no signature.
    pub fn verify_calls(&mut self) {
        self.verifies = true;
    }

    /// Calls go to another interface from here on.
    ///
    /// # Errors
    ///
    /// [`OutgoingError::Refused`] if it is not there; the connection can still be used then.
    pub fn change(&mut self, interface: SyntaxId) -> Result<(), OutgoingError> {
        let known = self.interfaces.iter().position(|known| *known == interface);
        if let Some(known) = known {
            self.context = u16::try_from(known).map_err(|_| PduError::TooMany)?;
            return Ok(());
        }
        let before = self.context;
        self.context = u16::try_from(self.interfaces.len()).map_err(|_| PduError::TooMany)?;
        self.interfaces.push(interface);
        self.call_id = self.call_id.wrapping_add(1);
        let offer = self.offer(Body::AlterContext);
        self.send(build(&offer, self.call_id, Flags::WHOLE, None)?)?;
        let answer = self.receive()?;
        let pdu = Pdu::parse(&answer)?;
        let accepted = match &pdu.body {
            Body::AlterContextResponse(ack) => self.accepted(ack),
            Body::Fault(fault) => Err(OutgoingError::Fault(fault.status)),
            _ => Err(OutgoingError::Refused),
        };
        if accepted.is_err() {
            self.interfaces.pop();
            self.context = before;
        }
        accepted
    }

    /// The connection itself, for whoever wants to end it while a call waits for its answer.
    ///
    /// # Errors
    ///
    /// Without descriptors.
    pub fn stream(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    fn offer(&self, body: impl FnOnce(Bind) -> Body<'static>) -> Body<'static> {
        body(Bind {
            max_transmit: MAX_FRAGMENT,
            max_receive: MAX_FRAGMENT,
            group: 0,
            contexts: vec![ContextOffer {
                id: self.context,
                interface: self.interface(),
                transfer: vec![SyntaxId::NDR],
            }],
        })
    }

    fn accepted(&self, ack: &BindAck) -> Result<(), OutgoingError> {
        let result = ack.results.first();
        match result.is_some_and(|result| result.is_accepted()) {
            true => Ok(()),
            false => Err(OutgoingError::Refused),
        }
    }

    fn interface(&self) -> SyntaxId {
        let interface = self.interfaces.get(usize::from(self.context));
        interface.copied().unwrap_or(SyntaxId::NONE)
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
            context_id: self.context,
            opnum,
            object,
        };
        let slot = self.security.as_ref().map(|security| security.slot);
        let verified;
        let stub = match self.verifies && slot.is_some() {
            true => {
                verified = self.verified(&call, stub);
                &verified
            }
            false => stub,
        };
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

    /// The arguments with a verification trailer behind them.
    fn verified(&self, call: &Call, stub: &[u8]) -> Zeroizing<Vec<u8>> {
        let expected = ExpectedCall {
            interface: self.interface(),
            transfer: SyntaxId::NDR,
            call_id: call.call_id,
            context_id: call.context_id,
            opnum: call.opnum,
            // With every authenticated bind.
            offers_header_signing: true,
        };
        let trailer = expected.verification(stub.len(), SIGNS_HEADERS);
        // Not grown, so that no copy of a secret stays behind.
        let mut whole = Zeroizing::new(Vec::with_capacity(stub.len() + trailer.len()));
        whole.extend_from_slice(stub);
        whole.extend_from_slice(&trailer);
        whole
    }

    fn seal(&mut self, built: &mut Built) {
        let (Some(security), Some(spans)) = (&mut self.security, built.spans().cloned()) else {
            return;
        };
        let (covered, body) = covered(&*security.session, &spans);
        let Some(span) = built.bytes_mut().get_mut(covered) else {
            return;
        };
        let signature = security.session.seal(span, body);
        let place = built.value_mut();
        if place.len() == signature.len() {
            place.copy_from_slice(&signature);
        }
    }

    /// Opens an answer. Faults come unprotected: they end the call either way.
    fn open(&mut self, answer: &mut [u8]) -> Result<(), OutgoingError> {
        let Some(security) = &mut self.security else {
            return Ok(());
        };
        let header = answer.first_chunk().map(Header::read);
        let kind = header.and_then(|header| header.kind());
        let Some(spans) = spans(answer)? else {
            return match kind {
                Some(PduKind::Fault) => Ok(()),
                _ => Err(AuthError::Signature.into()),
            };
        };
        let [kind, level, _, _, id @ ..] = answer.get(spans.trailer.clone()).unwrap_or_default()
        else {
            return Err(AuthError::Signature.into());
        };
        let slot = &security.slot;
        if (*kind, *level, id)
            != (
                slot.auth_type,
                slot.level as u8,
                &slot.context_id.to_le_bytes(),
            )
        {
            return Err(AuthError::NotOffered("the protection that was agreed on").into());
        }
        let (covered, body) = covered(&*security.session, &spans);
        let (span, value) = answer.split_at_mut(spans.trailer.end);
        let span = span.get_mut(covered).ok_or(AuthError::Signature)?;
        security.session.unseal(span, body, value)?;
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

fn with_token(
    body: &Body<'_>,
    flags: Flags,
    slot: Option<AuthSlot>,
    token: Option<&[u8]>,
) -> Result<Built, OutgoingError> {
    let slot = match (slot, token) {
        (Some(slot), Some(token)) => Some(AuthSlot {
            value_length: u16::try_from(token.len()).map_err(|_| PduError::BadTrailer)?,
            ..slot
        }),
        _ => None,
    };
    let mut built = build(body, 1, flags, slot.as_ref())?;
    if let Some(token) = token {
        let place = built.value_mut();
        if place.len() == token.len() {
            place.copy_from_slice(token);
        }
    }
    Ok(built)
}

/// The other side must keep to what it was asked for.
fn check(answer: &AuthTrailer<'_>, slot: &AuthSlot) -> Result<(), AuthError> {
    let is_same = answer.auth_type == slot.auth_type
        && answer.level() == Some(slot.level)
        && answer.context_id == slot.context_id;
    match is_same {
        true => Ok(()),
        false => Err(AuthError::NotOffered("the protection that was asked for")),
    }
}

/// NTLM signs headers whether that was agreed on or not.
fn signs_headers_anyway(slot: &AuthSlot) -> bool {
    slot.auth_type == auth_type::NTLM
}

fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// In a verification trailer: the sender signs headers.
const SIGNS_HEADERS: u32 = 1;
