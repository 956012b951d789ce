//! Numbers of the IFD handler interface and of PC/SC, as in pcsc-lite's `ifdhandler.h` and `reader.h`, and
//! the map from errors to response codes. A test compares the numbers with the headers.

use cardea_client::ClientError;
use cardea_client::message::FailureKind;

/// Why a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// There is no card, or no daemon.
    #[error("there is no card")]
    Absent,
    /// The caller's buffer is too small.
    #[error("the buffer is too small")]
    BufferTooSmall,
    /// Anything else.
    #[error("failed")]
    Failed,
    /// A control code that we have not.
    #[error("not supported")]
    NotSupported,
    /// The card did not power up.
    #[error("no power")]
    Power,
    /// A protocol that the card has not.
    #[error("no such protocol")]
    Protocol,
    /// Parameters of the protocol cannot be chosen.
    #[error("no protocol parameters")]
    ProtocolParameters,
    /// A value that cannot be set.
    #[error("read only")]
    ReadOnly,
    /// The daemon or the card took too long.
    #[error("timed out")]
    TimedOut,
    /// A tag that we have not.
    #[error("unknown tag")]
    UnknownTag,
}

impl Error {
    /// The only map from errors to response codes.
    pub(crate) fn code(self) -> ResponseCode {
        match self {
            Self::Absent => IFD_ICC_NOT_PRESENT,
            Self::BufferTooSmall => IFD_ERROR_INSUFFICIENT_BUFFER,
            Self::Failed => IFD_COMMUNICATION_ERROR,
            Self::NotSupported => IFD_ERROR_NOT_SUPPORTED,
            Self::Power => IFD_ERROR_POWER_ACTION,
            Self::Protocol => IFD_PROTOCOL_NOT_SUPPORTED,
            Self::ProtocolParameters => IFD_ERROR_PTS_FAILURE,
            Self::ReadOnly => IFD_ERROR_VALUE_READ_ONLY,
            Self::TimedOut => IFD_RESPONSE_TIMEOUT,
            Self::UnknownTag => IFD_ERROR_TAG,
        }
    }

    /// What a failed exchange with the daemon means to pcscd.
    pub(crate) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Refused(failure) => Self::of_refusal(failure.kind),
            ClientError::TimedOut => Self::TimedOut,
            ClientError::TooLong => Self::Failed,
            // Without a daemon there are no cards.
            _ => Self::Absent,
        }
    }

    /// What a refusal by the daemon means to pcscd.
    pub(crate) fn of_refusal(kind: FailureKind) -> Self {
        match kind {
            FailureKind::NotFound | FailureKind::Removed => Self::Absent,
            FailureKind::AdminDelayed
            | FailureKind::AdminWrong
            | FailureKind::Ambiguous
            | FailureKind::BadData
            | FailureKind::Blocked
            | FailureKind::Broken
            | FailureKind::Busy
            | FailureKind::Cancelled
            | FailureKind::ChangeUnknown
            | FailureKind::Denied
            | FailureKind::Failed
            | FailureKind::Full
            | FailureKind::Invalid
            | FailureKind::KeyUse
            | FailureKind::Lockout
            | FailureKind::Lost
            | FailureKind::NoAgent
            | FailureKind::NoTpm
            | FailureKind::NotLoggedIn
            | FailureKind::NotSupported
            | FailureKind::PinWrong
            | FailureKind::Protocol
            | FailureKind::Rule
            | FailureKind::SwitchedOff
            | FailureKind::UnsafeTpm => Self::Failed,
        }
    }
}

/// `RESPONSECODE`.
pub(crate) type ResponseCode = std::ffi::c_long;

/// `DWORD` of pcsc-lite.
pub(crate) type Dword = std::ffi::c_ulong;

/// Defines constants and, for the test, the list of their names.
macro_rules! constants {
    ($($type:ident { $($name:ident = $value:expr),+ $(,)? })+) => {
        $($(pub(crate) const $name: $type = $value;)+)+

        #[cfg(test)]
        pub(crate) const ALL: &[(&str, u64)] = &[$($((stringify!($name), $name as u64)),+),+];
    };
}

constants! {
    ResponseCode {
        IFD_SUCCESS = 0,
        IFD_ERROR_TAG = 600,
        IFD_ERROR_VALUE_READ_ONLY = 602,
        IFD_ERROR_PTS_FAILURE = 605,
        IFD_ERROR_NOT_SUPPORTED = 606,
        IFD_PROTOCOL_NOT_SUPPORTED = 607,
        IFD_ERROR_POWER_ACTION = 608,
        IFD_COMMUNICATION_ERROR = 612,
        IFD_RESPONSE_TIMEOUT = 613,
        IFD_ICC_NOT_PRESENT = 616,
        IFD_ERROR_INSUFFICIENT_BUFFER = 618,
    }
    Dword {
        IFD_POWER_UP = 500,
        IFD_POWER_DOWN = 501,
        IFD_RESET = 502,
        TAG_IFD_ATR = 0x0303,
        TAG_IFD_SLOT_THREAD_SAFE = 0x0FAC,
        TAG_IFD_THREAD_SAFE = 0x0FAD,
        TAG_IFD_SLOTS_NUMBER = 0x0FAE,
        TAG_IFD_SIMULTANEOUS_ACCESS = 0x0FAF,
        TAG_IFD_STOP_POLLING_THREAD = 0x0FB2,
        TAG_IFD_POLLING_THREAD_WITH_TIMEOUT = 0x0FB3,
        SCARD_ATTR_VENDOR_NAME = 0x0001_0100,
        SCARD_ATTR_VENDOR_IFD_TYPE = 0x0001_0101,
        SCARD_ATTR_VENDOR_IFD_VERSION = 0x0001_0102,
        SCARD_ATTR_ICC_PRESENCE = 0x0009_0300,
        SCARD_ATTR_ICC_INTERFACE_STATUS = 0x0009_0301,
        SCARD_ATTR_ATR_STRING = 0x0009_0303,
        SCARD_ATTR_MAXINPUT = 0x0007_A007,
        SCARD_PROTOCOL_T0 = 1,
        SCARD_PROTOCOL_T1 = 2,
        CM_IOCTL_GET_FEATURE_REQUEST = 0x4200_0000 + 3400,
    }
    usize {
        MAX_ATR_SIZE = 33,
        PCSCLITE_MAX_READERS_CONTEXTS = 16,
    }
    u8 {
        FEATURE_GET_TLV_PROPERTIES = 0x12,
    }
}

/// `PCSCv2_PART10_PROPERTY_dwMaxAPDUDataSize`.
pub(crate) const PROPERTY_MAX_APDU_DATA_SIZE: u8 = 10;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// The compiler compares: what is wrong is in its message.
    #[test]
    fn numbers_are_those_of_the_headers() {
        let mut program = String::from(
            "#include <wintypes.h>\n#include <ifdhandler.h>\n#include <reader.h>\n#include <pcsclite.h>\n",
        );
        let alias = (
            "PCSCv2_PART10_PROPERTY_dwMaxAPDUDataSize",
            PROPERTY_MAX_APDU_DATA_SIZE.into(),
        );
        let sizes = [
            ("sizeof(DWORD)", size_of::<Dword>() as u64),
            ("sizeof(RESPONSECODE)", size_of::<ResponseCode>() as u64),
            (
                "sizeof(SCARD_IO_HEADER)",
                size_of::<crate::abi::IoHeader>() as u64,
            ),
        ];
        for (name, number) in ALL.iter().copied().chain([alias]).chain(sizes) {
            writeln!(
                program,
                "_Static_assert({name} == {number}ull, \"{name}\");"
            )
            .unwrap();
        }
        let mut compiler = Command::new("cc")
            .args([
                "-std=gnu11",
                "-fsyntax-only",
                "-I/usr/include/PCSC",
                "-xc",
                "-",
            ])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = compiler.stdin.take().unwrap();
        input.write_all(program.as_bytes()).unwrap();
        drop(input);
        assert!(compiler.wait().unwrap().success(), "needs libpcsclite-dev");
    }

    #[test]
    fn every_error_has_a_code_of_its_own() {
        let errors = [
            Error::Absent,
            Error::BufferTooSmall,
            Error::Failed,
            Error::NotSupported,
            Error::Power,
            Error::Protocol,
            Error::ProtocolParameters,
            Error::ReadOnly,
            Error::TimedOut,
            Error::UnknownTag,
        ];
        let mut codes: Vec<ResponseCode> = errors.iter().map(|error| error.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), errors.len());
        assert!(codes.iter().all(|code| (600..=618).contains(code)));
    }

    #[test]
    fn without_daemon_there_is_no_card() {
        use std::io;

        use cardea_client::frame::FrameError;

        let unreachable = ClientError::Unreachable {
            path: "/x".into(),
            source: io::ErrorKind::NotFound.into(),
        };
        for error in [
            unreachable,
            ClientError::Disconnected(FrameError::Closed),
            ClientError::Protocol(FrameError::TooLong),
        ] {
            assert_eq!(Error::of(&error), Error::Absent);
        }
        assert_eq!(Error::of(&ClientError::TimedOut), Error::TimedOut);
        assert_eq!(Error::of(&ClientError::TooLong), Error::Failed);
        assert_eq!(Error::of_refusal(FailureKind::NotFound), Error::Absent);
        assert_eq!(Error::of_refusal(FailureKind::Denied), Error::Failed);
    }
}
