//! What a failure is called on the bus, and as an HRESULT: one map, for every kind.

use cardea_client::message::{Failure, FailureKind};
use cardea_terms::tpmvsc::Hresult;

/// The errors of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Busy,
    Cancelled,
    ChangeUnknown,
    Failed,
    InvalidArgument,
    LimitReached,
    NoAgent,
    NotAuthorized,
    NotFound,
    NotSupported,
    PinBlocked,
    PinPolicy,
    ResponseTooSoon,
    TpmFailure,
    TpmLockout,
    TpmNotFound,
    WrongPin,
    WrongPuk,
    WrongResponse,
}

impl Name {
    fn word(self) -> &'static str {
        match self {
            Self::Busy => "Busy",
            Self::Cancelled => "Cancelled",
            Self::ChangeUnknown => "ChangeUnknown",
            Self::Failed => "Failed",
            Self::InvalidArgument => "InvalidArgument",
            Self::LimitReached => "LimitReached",
            Self::NoAgent => "NoAgent",
            Self::NotAuthorized => "NotAuthorized",
            Self::NotFound => "NotFound",
            Self::NotSupported => "NotSupported",
            Self::PinBlocked => "PinBlocked",
            Self::PinPolicy => "PinPolicy",
            Self::ResponseTooSoon => "ResponseTooSoon",
            Self::TpmFailure => "TpmFailure",
            Self::TpmLockout => "TpmLockout",
            Self::TpmNotFound => "TpmNotFound",
            Self::WrongPin => "WrongPin",
            Self::WrongPuk => "WrongPuk",
            Self::WrongResponse => "WrongResponse",
        }
    }

    /// The number that MS-TPMVSC has for it, or the nearest of Windows.
    pub(crate) fn hresult(self) -> Hresult {
        match self {
            Self::Busy | Self::ResponseTooSoon => Hresult::BUSY,
            Self::Cancelled => Hresult::ABORT,
            Self::ChangeUnknown | Self::Failed => Hresult::FAIL,
            Self::InvalidArgument => Hresult::INVALID_ARGUMENT,
            Self::LimitReached => Hresult::FULL,
            Self::NoAgent => Hresult::NO_PERSON,
            Self::NotAuthorized => Hresult::ACCESS_DENIED,
            Self::NotFound => Hresult::NOT_FOUND,
            Self::NotSupported => Hresult::NOT_SUPPORTED,
            Self::PinBlocked => Hresult::PIN_BLOCKED,
            Self::PinPolicy => Hresult::PIN_POLICY,
            Self::TpmFailure => Hresult::TPM_FAILURE,
            Self::TpmLockout => Hresult::TPM_LOCKOUT,
            Self::TpmNotFound => Hresult::TPM_NOT_FOUND,
            Self::WrongPin | Self::WrongPuk | Self::WrongResponse => Hresult::WRONG_PIN,
        }
    }
}

/// A refusal or failure, as it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BusError {
    /// Ours.
    Own(Name, String),
    /// One of D-Bus itself, like `UnknownMethod`.
    Standard(&'static str, String),
}

impl BusError {
    pub(crate) fn new(name: Name, text: impl Into<String>) -> Self {
        Self::Own(name, text.into())
    }

    pub(crate) fn standard(name: &'static str, text: impl Into<String>) -> Self {
        Self::Standard(name, text.into())
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(Name::InvalidArgument, text)
    }

    /// The whole name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Own(name, _) => format!("org.cardea.VirtualSmartCard1.Error.{}", name.word()),
            Self::Standard(name, _) => format!("org.freedesktop.DBus.Error.{name}"),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Own(_, text) | Self::Standard(_, text) => text,
        }
    }

    pub(crate) fn hresult(&self) -> Hresult {
        match self {
            Self::Own(name, _) => name.hresult(),
            Self::Standard(..) => Name::Failed.hresult(),
        }
    }
}

impl From<Failure> for BusError {
    fn from(failure: Failure) -> Self {
        let name = match failure.kind {
            FailureKind::AdminWrong => Name::WrongResponse,
            FailureKind::Ambiguous | FailureKind::Invalid => Name::InvalidArgument,
            FailureKind::Blocked => Name::PinBlocked,
            FailureKind::AdminDelayed => Name::ResponseTooSoon,
            FailureKind::Busy => Name::Busy,
            FailureKind::Cancelled => Name::Cancelled,
            FailureKind::ChangeUnknown => Name::ChangeUnknown,
            FailureKind::Denied => Name::NotAuthorized,
            FailureKind::BadData
            | FailureKind::Failed
            | FailureKind::KeyUse
            | FailureKind::NotLoggedIn
            | FailureKind::Protocol => Name::Failed,
            FailureKind::Full => Name::LimitReached,
            FailureKind::Lockout => Name::TpmLockout,
            FailureKind::Broken
            | FailureKind::Lost
            | FailureKind::SwitchedOff
            | FailureKind::UnsafeTpm => Name::TpmFailure,
            FailureKind::NoAgent => Name::NoAgent,
            FailureKind::NoTpm => Name::TpmNotFound,
            FailureKind::NotFound | FailureKind::Removed => Name::NotFound,
            FailureKind::PinWrong => Name::WrongPin,
            FailureKind::NotSupported => Name::NotSupported,
            FailureKind::Rule => Name::PinPolicy,
        };
        Self::new(name, failure.message)
    }
}

/// As above, where a wrong value is the PUK's.
pub(crate) fn about_puk(failure: Failure) -> BusError {
    match (failure.kind, BusError::from(failure)) {
        (FailureKind::PinWrong, BusError::Own(_, text)) => BusError::new(Name::WrongPuk, text),
        (_, error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cardea_host::fail;

    #[test]
    fn what_can_become_of_a_card_has_its_names() {
        for (kind, name) in [
            (FailureKind::AdminDelayed, "ResponseTooSoon"),
            (FailureKind::Broken, "TpmFailure"),
            (FailureKind::ChangeUnknown, "ChangeUnknown"),
            (FailureKind::Lost, "TpmFailure"),
            (FailureKind::NotSupported, "NotSupported"),
            (FailureKind::SwitchedOff, "TpmFailure"),
            (FailureKind::UnsafeTpm, "TpmFailure"),
        ] {
            let error = BusError::from(fail(kind, "text"));
            let whole = format!("org.cardea.VirtualSmartCard1.Error.{name}");
            assert_eq!((error.name(), error.text()), (whole, "text"), "{kind:?}");
        }
        let puk = about_puk(fail(FailureKind::ChangeUnknown, "text"));
        assert!(puk.name().ends_with(".ChangeUnknown"), "{puk:?}");
    }
}
