//! Why something was not done on another machine.

use std::io;

use cardea_dcom::ndr::NdrError;
use cardea_dcom::pdu::{PduError, fault_status, nak};
use cardea_rpc::auth::AuthError;
use cardea_rpc::rpc::outgoing::OutgoingError;
use cardea_terms::tpmvsc::Hresult;

/// Why something was not done on another machine, or is not known to be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The caller wanted no more of it.
    #[error("aborted")]
    Aborted,
    /// The other machine does not prove who it is, or wants less security.
    #[error("it cannot be trusted: {0}")]
    Auth(#[from] AuthError),
    /// It does not let this account in.
    #[error("access denied: unknown account, wrong password, or not an administrator there")]
    Denied,
    /// It has failed in a way that the protocol has no number for.
    #[error("it reports a failure of the connection (0x{0:08X})")]
    Fault(u32),
    /// The connection failed after the order was sent.
    #[error("the connection was lost before the answer: {0}")]
    Lost(#[source] Box<RemoteError>),
    /// It cannot do what was asked for.
    #[error("it does not support {0}")]
    NotSupported(&'static str),
    /// There is no card manager.
    #[error("it has no manager of virtual smart cards ({0})")]
    NoManager(Hresult),
    /// What it answers does not follow the protocol.
    #[error("it does not follow the protocol: {0}")]
    Protocol(&'static str),
    /// The machine has no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[source] io::Error),
    /// The order was refused.
    #[error("{} ({})", .0.meaning(), .0)]
    Refused(Hresult),
    /// There is no connection.
    #[error("it cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
}

impl RemoteError {
    /// What a failure of a connection means while nothing was ordered yet.
    pub(crate) fn of(error: OutgoingError) -> Self {
        match error {
            OutgoingError::Auth(error) => Self::Auth(error),
            OutgoingError::Fault(fault_status::ACCESS_DENIED) => Self::Denied,
            OutgoingError::Fault(status) => Self::Fault(status),
            OutgoingError::Io(error) => Self::Unreachable(error),
            OutgoingError::Nak(nak::AUTH_TYPE) => Self::NotSupported("this way of authentication"),
            // Whoever is refused by name is refused before the connection is there.
            OutgoingError::Nak(_) => Self::Denied,
            OutgoingError::Packet(error) => error.into(),
            OutgoingError::Refused => Self::NotSupported("the interface"),
            _ => Self::Protocol("unexpected answer"),
        }
    }
}

impl From<NdrError> for RemoteError {
    fn from(_: NdrError) -> Self {
        Self::Protocol("an answer that cannot be decoded")
    }
}

impl From<PduError> for RemoteError {
    fn from(_: PduError) -> Self {
        Self::Protocol("an invalid packet")
    }
}
