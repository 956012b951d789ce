//! Packets of connection-oriented DCE/RPC, version 5 (C706 §12.6, MS-RPCE §2.2.2).

mod auth;
mod bind;
mod call;
mod error;
mod fragments;
mod header;
mod negotiation;
mod packet;
mod syntax;
mod verification;

pub use auth::{AuthLevel, AuthSlot, AuthTrailer, Spans, auth_type};
pub use bind::{
    Bind, BindAck, BindNak, ContextOffer, ContextResult, MAX_CONTEXTS, MAX_TRANSFER_SYNTAXES, nak,
};
pub use call::{Call, Fault, Request, Response, fault_status};
pub use error::PduError;
pub use fragments::{
    Assembled, MAX_STUB, Reassembly, Stub, fault_for, request_fragments, response_fragments,
};
pub use header::{Flags, HEADER_LENGTH, Header, MAX_FRAGMENT, MIN_FRAGMENT, PduKind};
pub use negotiation::{
    MAX_CONNECTION_CONTEXTS, PresentationContexts, Rejection, negotiated_fragment, refusal,
};
pub use packet::{Body, Built, Pdu, build, spans};
pub use syntax::{Features, SyntaxId};
pub use verification::{ExpectedCall, SIGNS_HEADERS, VerificationTrailer, check_verification};
