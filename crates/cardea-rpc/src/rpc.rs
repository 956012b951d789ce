//! A connection of DCE/RPC from the side of the server: packets in, packets out, calls in between.
//!
//! It does no I/O: [`Connection::receive`] takes one packet and says what to send.

pub mod outgoing;
mod security;

use cardea_dcom::dcom::{ComVersion, OrpcThis};
use cardea_dcom::pdu::{
    Assembled, AuthLevel, AuthSlot, Bind, BindAck, BindNak, Body, Built, Call, ExpectedCall,
    Features, Flags, Header, MAX_FRAGMENT, Pdu, PduError, PduKind, PresentationContexts,
    Reassembly, SyntaxId, build, check_verification, fault_for, fault_status, nak,
    negotiated_fragment, refusal, response_fragments,
};
use zeroize::Zeroizing;

use self::security::{Contexts, Protection};
use crate::auth::{AuthError, Directory, Fresh, Identity, KerberosAcceptor, ServerNames};

/// What the server behind a connection is able to do.
pub trait Services {
    /// Whether an interface is served on this connection.
    fn serves(&self, interface: &SyntaxId) -> bool;

    /// The protection that a call needs.
    fn needs(&self, interface: &SyntaxId, opnum: u16) -> AuthLevel;

    /// Executes a call; else the status of a fault.
    ///
    /// # Errors
    ///
    /// The status.
    fn call(&self, request: &Request<'_>) -> Result<Answer, u32>;

    /// Who may authenticate.
    fn accounts(&self) -> &dyn Directory;

    /// Chance and time for an authentication.
    ///
    /// # Errors
    ///
    /// Without random numbers.
    fn fresh(&self) -> std::io::Result<Fresh>;

    /// A new acceptor of Kerberos, where the service has a keytab.
    ///
    /// # Errors
    ///
    /// Without random numbers.
    fn kerberos(&self) -> std::io::Result<Option<KerberosAcceptor>> {
        Ok(None)
    }

    /// The names of this machine.
    fn names(&self) -> ServerNames;

    /// Somebody was not let in.
    fn refused(&self, error: AuthError);

    /// Somebody has proven who they are.
    fn authenticated(&self, user: &str);
}

/// A call that has all it needs.
pub struct Request<'a> {
    /// Who calls; `None` where that does not matter.
    pub caller: Option<&'a Identity>,
    /// The interface that the caller bound.
    pub interface: SyntaxId,
    /// Which call.
    pub call: Call,
    /// Its arguments.
    pub stub: &'a [u8],
    /// Whether the caller has offered to sign headers.
    pub offers_header_signing: bool,
}

impl Request<'_> {
    /// Checks what comes after the `used` bytes of the arguments, and the version of an object's caller.
    ///
    /// # Errors
    ///
    /// The status of a fault.
    pub fn check(&self, used: usize, this: Option<&OrpcThis>) -> Result<(), u32> {
        let expected = ExpectedCall {
            interface: self.interface,
            transfer: SyntaxId::NDR,
            call_id: self.call.call_id,
            context_id: self.call.context_id,
            opnum: self.call.opnum,
            offers_header_signing: self.offers_header_signing,
        };
        check_verification(self.stub, used, &expected).map_err(|_| fault_status::ACCESS_DENIED)?;
        this.map_or(Ok(ComVersion::CURRENT), |this| this.version.negotiate())?;
        Ok(())
    }
}

/// The results of a call.
pub struct Answer {
    /// The stub.
    pub stub: Zeroizing<Vec<u8>>,
    /// What to do when the caller does not get them.
    pub undo: Option<Undo>,
}

/// Takes back what a call has done.
pub type Undo = Box<dyn FnOnce() + Send>;

/// What is to be done after a packet.
#[derive(Default)]
pub struct Reaction {
    /// To be sent, in this order.
    pub packets: Vec<Zeroizing<Vec<u8>>>,
    /// Whether the connection ends then.
    pub close: bool,
    /// When the packets cannot be sent.
    pub undo: Option<Undo>,
}

/// The state of a connection.
pub struct Connection<'a> {
    services: &'a dyn Services,
    port: u16,
    group: u32,
    bound: Option<u16>,
    presentation: PresentationContexts,
    security: Contexts,
    reassembly: Reassembly,
}

impl<'a> Connection<'a> {
    /// At its beginning: nothing is agreed on. `port` is the listener's, `group` the number of a new association.
    pub fn new(services: &'a dyn Services, port: u16, group: u32) -> Self {
        Self {
            services,
            port,
            group,
            bound: None,
            presentation: PresentationContexts::new(),
            security: Contexts::default(),
            reassembly: Reassembly::new(),
        }
    }

    /// Whether somebody has proven who they are: until then the connection may be taken away for others.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.security.is_any_ready()
    }

    /// Takes a whole packet, which is opened in place.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Reaction {
        let protection = match self.security.open(bytes) {
            Ok(protection) => protection,
            Err(error) => return broken(bytes, error),
        };
        let pdu = match Pdu::parse(bytes) {
            Ok(pdu) => pdu,
            Err(error) => return unacceptable(bytes, error),
        };
        match &pdu.body {
            Body::Bind(bind) if self.bound.is_none() => self.bind(&pdu, bind),
            Body::AlterContext(bind) if self.bound.is_some() => self.bind(&pdu, bind),
            Body::Auth3 => self.auth3(&pdu),
            Body::Request(_) if self.bound.is_some() => self.request(&pdu, protection),
            // Calls are executed one after the other: what is to be cancelled is over.
            Body::CoCancel => Reaction::default(),
            Body::Orphaned => {
                self.reassembly.clear();
                Reaction::default()
            }
            _ => unacceptable(bytes, PduError::Type(pdu.header.type_number)),
        }
    }

    /// Bind and alter_context: both may bring interfaces and a message of an authentication.
    fn bind(&mut self, pdu: &Pdu<'_>, bind: &Bind) -> Reaction {
        let call_id = pdu.header.call_id;
        let fragment = match negotiated_fragment(bind.max_receive) {
            Ok(fragment) => fragment,
            Err(error) => return refusal(&pdu.header, error).map_or_else(closed, last),
        };
        let token = match self.security.step(pdu, self.services) {
            Ok(token) => token,
            Err(error) => {
                self.services.refused(error);
                return denied(pdu, error);
            }
        };
        let is_first = self.bound.is_none();
        self.bound = Some(fragment);
        if is_first && bind.group != 0 {
            self.group = bind.group;
        }
        let results = self.presentation.negotiate(
            &bind.contexts,
            |interface| self.services.serves(interface),
            Features::SECURITY_CONTEXTS,
        );
        let ack = BindAck {
            max_transmit: fragment,
            max_receive: bind.max_transmit.min(MAX_FRAGMENT),
            group: self.group,
            address: match is_first {
                true => self.port.to_string(),
                false => String::new(),
            },
            results,
        };
        let body = match is_first {
            true => Body::BindAck(ack),
            false => Body::AlterContextResponse(ack),
        };
        let signing = Flags(pdu.header.flags.0 & Flags::HEADER_SIGNING.0);
        match with_token(&body, call_id, Flags::WHOLE.with(signing), token.as_ref()) {
            Some(built) => sent(vec![built.into_bytes()]),
            None => closed(),
        }
    }

    fn auth3(&mut self, pdu: &Pdu<'_>) -> Reaction {
        // It has no answer: a failure shows in the next request.
        if let Err(error) = self.security.step(pdu, self.services) {
            self.services.refused(error);
            self.security.fail(pdu);
        }
        Reaction::default()
    }

    fn request(&mut self, pdu: &Pdu<'_>, protection: Protection) -> Reaction {
        let Body::Request(request) = &pdu.body else {
            return closed();
        };
        if protection == Protection::Failed {
            return fault(pdu, fault_status::ACCESS_DENIED, true);
        }
        let Some(interface) = self.presentation.interface(request.context_id) else {
            return fault(pdu, fault_status::UNKNOWN_INTERFACE, true);
        };
        // Before anything is kept of it: whoever may not call may not fill memory either.
        if self.services.needs(&interface, request.opnum) > protection.level() {
            return fault(pdu, fault_status::ACCESS_DENIED, false);
        }
        let assembled = match self.reassembly.add(pdu) {
            Ok(Some(assembled)) => assembled,
            Ok(None) => return Reaction::default(),
            Err(error) => return refusal(&pdu.header, error).map_or_else(closed, last),
        };
        let call = assembled.call;
        match self.execute(&assembled, interface, protection) {
            Ok(answer) => self.answer(&call, answer, protection),
            Err(status) => fault(pdu, status, false),
        }
    }

    fn execute(
        &self,
        assembled: &Assembled<'_>,
        interface: SyntaxId,
        protection: Protection,
    ) -> Result<Answer, u32> {
        self.services.call(&Request {
            caller: self.security.identity(protection),
            interface,
            call: assembled.call,
            stub: &assembled.stub,
            offers_header_signing: self.security.covers_headers(),
        })
    }

    fn answer(&mut self, call: &Call, answer: Answer, protection: Protection) -> Reaction {
        let fragment = self.bound.unwrap_or(MAX_FRAGMENT);
        let slot = self.security.slot(protection);
        let Ok(mut fragments) = response_fragments(call, &answer.stub, fragment, slot.as_ref())
        else {
            // What cannot be said was not done.
            return Reaction {
                undo: answer.undo,
                ..closed()
            };
        };
        for fragment in &mut fragments {
            self.security.protect(protection, fragment);
        }
        Reaction {
            packets: fragments.into_iter().map(Built::into_bytes).collect(),
            close: false,
            undo: answer.undo,
        }
    }
}

/// A message of an authentication to send, and its place.
pub(crate) struct Token {
    slot: AuthSlot,
    value: Vec<u8>,
}

fn with_token(body: &Body<'_>, call_id: u32, flags: Flags, token: Option<&Token>) -> Option<Built> {
    let mut built = build(body, call_id, flags, token.map(|token| &token.slot)).ok()?;
    if let Some(token) = token {
        let place = built.value_mut();
        if place.len() != token.value.len() {
            return None;
        }
        place.copy_from_slice(&token.value);
    }
    Some(built)
}

fn sent(packets: Vec<Zeroizing<Vec<u8>>>) -> Reaction {
    Reaction {
        packets,
        ..Reaction::default()
    }
}

fn closed() -> Reaction {
    Reaction {
        close: true,
        ..Reaction::default()
    }
}

fn last(built: Built) -> Reaction {
    Reaction {
        packets: vec![built.into_bytes()],
        ..closed()
    }
}

/// A fault is never protected: it says nothing that is not known, and Windows and Samba take it so.
fn fault(pdu: &Pdu<'_>, status: u32, close: bool) -> Reaction {
    let call = Call {
        call_id: pdu.header.call_id,
        context_id: match &pdu.body {
            Body::Request(request) => request.context_id,
            _ => 0,
        },
        opnum: 0,
        object: None,
    };
    let built = fault_for(&call, status, None);
    let packets = built.into_iter().map(Built::into_bytes).collect();
    Reaction {
        packets,
        close,
        undo: None,
    }
}

/// The answer to a message of an authentication that fails.
fn denied(pdu: &Pdu<'_>, error: AuthError) -> Reaction {
    if !matches!(pdu.body, Body::Bind(_)) {
        return fault(pdu, fault_status::ACCESS_DENIED, true);
    }
    let reason = match error {
        AuthError::NoMechanism => nak::AUTH_TYPE,
        _ => nak::NOT_SPECIFIED,
    };
    let nak = Body::BindNak(BindNak::new(reason));
    build(&nak, pdu.header.call_id, Flags::WHOLE, None).map_or_else(|_| closed(), last)
}

/// The answer to a packet that does not follow the protocol.
fn unacceptable(bytes: &[u8], error: PduError) -> Reaction {
    let Some(header) = bytes.first_chunk().map(Header::read) else {
        return closed();
    };
    refusal(&header, error).map_or_else(closed, last)
}

/// The answer to a packet whose signature is invalid.
fn broken(bytes: &[u8], error: security::Broken) -> Reaction {
    let header = bytes.first_chunk().map(Header::read);
    let call_id = match (error, header) {
        (security::Broken::Packet(error), _) => return unacceptable(bytes, error),
        (_, Some(header)) if header.kind() == Some(PduKind::Request) => header.call_id,
        _ => return closed(),
    };
    let call = Call {
        call_id,
        context_id: 0,
        opnum: 0,
        object: None,
    };
    fault_for(&call, fault_status::SECURITY_PACKAGE, None).map_or_else(|_| closed(), last)
}
