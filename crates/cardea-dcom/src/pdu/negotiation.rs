//! What the two sides of a connection agree on, and how a packet is refused.

use std::collections::BTreeMap;

use crate::pdu::bind::{BindNak, ContextOffer, ContextResult, nak};
use crate::pdu::call::{Fault, fault_status};
use crate::pdu::error::PduError;
use crate::pdu::header::{Flags, Header, MAX_FRAGMENT, MIN_FRAGMENT, PduKind};
use crate::pdu::packet::{Body, Built, build};
use crate::pdu::syntax::{Features, SyntaxId};

/// How many presentation contexts a connection may have.
pub const MAX_CONNECTION_CONTEXTS: usize = 64;

/// Why a presentation context is refused by the provider (C706 §12.6, p_provider_reason_t).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// None of the others: its number is in use for something else.
    NotSpecified = 0,
    /// The interface is not served here.
    Interface = 1,
    /// None of the encodings is spoken here.
    Transfer = 2,
    /// The connection has too many contexts.
    LocalLimit = 3,
}

impl Rejection {
    const fn result(self) -> ContextResult {
        ContextResult {
            result: PROVIDER_REJECTION,
            reason: self as u16,
            transfer: SyntaxId::NONE,
        }
    }
}

const PROVIDER_REJECTION: u16 = 2;
const NEGOTIATE_ACK: u16 = 3;

/// The presentation contexts of a connection, on the side of the server.
#[derive(Clone, Debug, Default)]
pub struct PresentationContexts {
    accepted: BTreeMap<u16, SyntaxId>,
}

impl PresentationContexts {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers all offers of a bind or alter_context, in their order, and remembers what was accepted.
    ///
    /// `is_served` says which interfaces there are; `features` what the server is able to do.
    pub fn negotiate(
        &mut self,
        offers: &[ContextOffer],
        is_served: impl Fn(&SyntaxId) -> bool,
        features: Features,
    ) -> Vec<ContextResult> {
        let answer = |offer| self.answer(offer, &is_served, features);
        offers.iter().map(answer).collect()
    }

    fn answer(
        &mut self,
        offer: &ContextOffer,
        is_served: &impl Fn(&SyntaxId) -> bool,
        features: Features,
    ) -> ContextResult {
        // It comes in a context of its own, for an interface that need not be served.
        if let Some(offered) = offer.transfer.iter().find_map(SyntaxId::features) {
            return ContextResult {
                result: NEGOTIATE_ACK,
                reason: u16::from(offered.0 & features.0),
                transfer: SyntaxId::NONE,
            };
        }
        if !is_served(&offer.interface) {
            return Rejection::Interface.result();
        }
        if !offer.transfer.contains(&SyntaxId::NDR) {
            return Rejection::Transfer.result();
        }
        match self.accepted.get(&offer.id) {
            Some(interface) if *interface == offer.interface => {}
            Some(_) => return Rejection::NotSpecified.result(),
            None if self.accepted.len() >= MAX_CONNECTION_CONTEXTS => {
                return Rejection::LocalLimit.result();
            }
            None => {
                self.accepted.insert(offer.id, offer.interface);
            }
        }
        ContextResult::accepted(SyntaxId::NDR)
    }

    /// The interface of a context that was accepted.
    #[must_use]
    pub fn interface(&self, context_id: u16) -> Option<SyntaxId> {
        self.accepted.get(&context_id).copied()
    }
}

/// The longest fragment that both sides take.
///
/// # Errors
/// [`PduError::FragmentSize`]: the peer takes less than it must.
pub fn negotiated_fragment(offered: u16) -> Result<u16, PduError> {
    match offered {
        ..MIN_FRAGMENT => Err(PduError::FragmentSize),
        _ => Ok(offered.min(MAX_FRAGMENT)),
    }
}

/// The answer to a packet that is not acceptable, after which the connection is closed; `None`: it has no answer.
#[must_use]
pub fn refusal(header: &Header, error: PduError) -> Option<Built> {
    let (body, flags) = match header.kind()? {
        PduKind::Bind => {
            let reason = match error {
                PduError::Version { .. } => nak::PROTOCOL_VERSION,
                PduError::FragmentLength | PduError::FragmentSize | PduError::TooMany => {
                    nak::LOCAL_LIMIT
                }
                _ => nak::NOT_SPECIFIED,
            };
            (Body::BindNak(BindNak::new(reason)), Flags::WHOLE)
        }
        PduKind::AlterContext | PduKind::Request => {
            let fault = Fault {
                context_id: 0,
                cancel_count: 0,
                status: fault_status::PROTOCOL_ERROR,
            };
            (
                Body::Fault(fault),
                Flags::WHOLE.with(Flags::DID_NOT_EXECUTE),
            )
        }
        _ => return None,
    };
    build(&body, header.call_id, flags, None).ok()
}
