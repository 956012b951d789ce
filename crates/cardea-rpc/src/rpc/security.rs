//! The security contexts of a connection: each has its own number, its own authentication and its own keys.

use std::collections::BTreeMap;
use std::ops::Range;

use cardea_dcom::pdu::{
    AuthLevel, AuthSlot, AuthTrailer, Body, Built, Flags, Header, Pdu, PduError, PduKind, Spans,
    auth_type, spans,
};

use super::{Services, Token};
use crate::auth::{Acceptor, AuthError, Identity, NtlmAcceptor, Session, SpnegoAcceptor, Step};

/// The most that a connection may have: some clients begin a new one with every interface.
const MAX_CONTEXTS: usize = 32;

/// All security contexts.
#[derive(Default)]
pub(super) struct Contexts {
    all: BTreeMap<u32, Context>,
    /// Whether the caller has offered to sign headers: contexts that begin from then on do so, where that is a choice.
    covers_headers: bool,
}

struct Context {
    auth_type: u8,
    level: AuthLevel,
    state: State,
}

enum State {
    Pending(Box<dyn Acceptor>),
    Ready {
        identity: Identity,
        session: Box<dyn Session>,
    },
    Failed,
}

/// How a packet that came in was protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// Not at all.
    None,
    /// By a context whose authentication has failed, or is not complete.
    Failed,
    /// By this context, at this level.
    Context(u32, AuthLevel),
}

impl Protection {
    /// What a call may rely on.
    pub(super) fn level(self) -> AuthLevel {
        match self {
            Self::None | Self::Failed => AuthLevel::None,
            Self::Context(_, level) => level,
        }
    }
}

/// Why a packet was not opened.
pub(super) enum Broken {
    Packet(PduError),
    Signature,
}

impl Contexts {
    pub(super) fn is_any_ready(&self) -> bool {
        let mut contexts = self.all.values();
        contexts.any(|context| matches!(context.state, State::Ready { .. }))
    }

    /// Whether the caller has offered to sign headers.
    pub(super) fn covers_headers(&self) -> bool {
        self.covers_headers
    }

    /// Opens a request in place and checks its signature. Other packets bring no signatures.
    pub(super) fn open(&mut self, bytes: &mut [u8]) -> Result<Protection, Broken> {
        let header = bytes.first_chunk().map(Header::read);
        if header.and_then(|header| header.kind()) != Some(PduKind::Request) {
            return Ok(Protection::None);
        }
        let Some(spans) = spans(bytes).map_err(Broken::Packet)? else {
            return Ok(Protection::None);
        };
        let trailer = bytes.get(spans.trailer.clone()).unwrap_or_default();
        let [kind, level, _, _, id @ ..] = trailer else {
            return Err(Broken::Packet(PduError::BadTrailer));
        };
        let id = id.try_into().map(u32::from_le_bytes);
        let id = id.map_err(|_| Broken::Packet(PduError::BadTrailer))?;
        let level = AuthLevel::from_wire(*level);
        let Some(context) = self.all.get_mut(&id) else {
            return Ok(Protection::Failed);
        };
        let State::Ready { session, .. } = &mut context.state else {
            return Ok(Protection::Failed);
        };
        // The keys are for the level that was agreed on: a packet cannot ask for less.
        if *kind != context.auth_type || level != Some(context.level) {
            return Err(Broken::Signature);
        }
        let (covered, body) = covered(&**session, &spans);
        let (span, value) = bytes.split_at_mut(spans.value.start);
        let span = span.get_mut(covered).ok_or(Broken::Signature)?;
        let opened = match context.level {
            AuthLevel::Privacy => session.unseal(span, body, value),
            AuthLevel::Integrity | AuthLevel::Packet => session.verify(span, value),
            // Nothing protects the packet, so nothing is believed of it.
            AuthLevel::Connect | AuthLevel::None => return Ok(Protection::None),
        };
        match opened {
            Ok(()) => Ok(Protection::Context(id, context.level)),
            Err(_) => {
                context.state = State::Failed;
                Err(Broken::Signature)
            }
        }
    }

    /// Takes a message of an authentication, if the packet brings one; the answer to send.
    pub(super) fn step(
        &mut self,
        pdu: &Pdu<'_>,
        services: &dyn Services,
    ) -> Result<Option<Token>, AuthError> {
        let Some(trailer) = pdu.auth else {
            return Ok(None);
        };
        let is_bind = matches!(pdu.body, Body::Bind(_) | Body::AlterContext(_));
        // The same bit means something else in other packets.
        self.covers_headers |= is_bind && pdu.header.flags.has(Flags::HEADER_SIGNING);
        let covers_headers = self.covers_headers;
        let context = self.context(&trailer, services)?;
        // Whatever happens next, the context is not as it was.
        let State::Pending(mut acceptor) = std::mem::replace(&mut context.state, State::Failed)
        else {
            return Err(AuthError::Unexpected);
        };
        let value = match acceptor.step(trailer.value, services.accounts())? {
            Step::Continue(token) => {
                context.state = State::Pending(acceptor);
                Some(token)
            }
            Step::Done {
                token,
                identity,
                mut session,
            } => {
                services.authenticated(&identity.user);
                session.agree(context.level == AuthLevel::Privacy, covers_headers);
                context.state = State::Ready { identity, session };
                token
            }
        };
        let Some(value) = value else {
            return Ok(None);
        };
        let value_length = u16::try_from(value.len());
        let slot = AuthSlot {
            auth_type: context.auth_type,
            level: context.level,
            context_id: trailer.context_id,
            value_length: value_length.map_err(|_| AuthError::Malformed("too long"))?,
        };
        Ok(Some(Token { slot, value }))
    }

    /// The context that a message is for; it begins one with a number that is not in use.
    fn context(
        &mut self,
        trailer: &AuthTrailer<'_>,
        services: &dyn Services,
    ) -> Result<&mut Context, AuthError> {
        let level = trailer.level().filter(|level| *level > AuthLevel::None);
        let level = level.ok_or(AuthError::Malformed("unknown level of protection"))?;
        if !self.all.contains_key(&trailer.context_id) {
            if self.all.len() >= MAX_CONTEXTS {
                return Err(AuthError::Unexpected);
            }
            let fresh = services.fresh().map_err(|_| AuthError::Random)?;
            let kerberos = services.kerberos().map_err(|_| AuthError::Random)?;
            let acceptor: Box<dyn Acceptor> = match trailer.auth_type {
                auth_type::SPNEGO => {
                    Box::new(SpnegoAcceptor::new(services.names(), fresh).with_kerberos(kerberos))
                }
                auth_type::KERBEROS => Box::new(kerberos.ok_or(AuthError::NoMechanism)?),
                auth_type::NTLM => Box::new(NtlmAcceptor::new(services.names(), fresh)),
                _ => return Err(AuthError::NoMechanism),
            };
            let context = Context {
                auth_type: trailer.auth_type,
                level,
                state: State::Pending(acceptor),
            };
            self.all.insert(trailer.context_id, context);
        }
        let context = self.all.get_mut(&trailer.context_id);
        context
            .filter(|context| context.auth_type == trailer.auth_type && context.level == level)
            .ok_or(AuthError::Unexpected)
    }

    /// The authentication that a packet was of has failed.
    pub(super) fn fail(&mut self, pdu: &Pdu<'_>) {
        let id = pdu.auth.map(|trailer| trailer.context_id);
        if let Some(context) = id.and_then(|id| self.all.get_mut(&id)) {
            context.state = State::Failed;
        }
    }

    pub(super) fn identity(&self, protection: Protection) -> Option<&Identity> {
        let Protection::Context(id, _) = protection else {
            return None;
        };
        match &self.all.get(&id)?.state {
            State::Ready { identity, .. } => Some(identity),
            State::Pending(_) | State::Failed => None,
        }
    }

    /// Room for the signature of an answer.
    pub(super) fn slot(&self, protection: Protection) -> Option<AuthSlot> {
        let Protection::Context(id, level) = protection else {
            return None;
        };
        let context = self.all.get(&id)?;
        let State::Ready { session, .. } = &context.state else {
            return None;
        };
        Some(AuthSlot {
            auth_type: context.auth_type,
            level,
            context_id: id,
            value_length: u16::try_from(session.signature_length()).ok()?,
        })
    }

    /// Signs an answer, and seals it where the question was sealed.
    pub(super) fn protect(&mut self, protection: Protection, built: &mut Built) {
        let Protection::Context(id, level) = protection else {
            return;
        };
        let context = self.all.get_mut(&id).map(|context| &mut context.state);
        let (Some(State::Ready { session, .. }), Some(spans)) = (context, built.spans().cloned())
        else {
            return;
        };
        let (covered, body) = covered(&**session, &spans);
        let Some(span) = built.bytes_mut().get_mut(covered) else {
            return;
        };
        let signature = match level {
            AuthLevel::Privacy => session.seal(span, body),
            _ => session.sign(span),
        };
        let place = built.value_mut();
        if place.len() == signature.len() {
            place.copy_from_slice(&signature);
        }
    }
}

/// What of a packet a signature is over, and the body in that.
pub(super) fn covered(session: &dyn Session, spans: &Spans) -> (Range<usize>, Range<usize>) {
    match session.covers_headers() {
        true => (spans.signed(), spans.body.clone()),
        false => (spans.body.clone(), 0..spans.body.len()),
    }
}
