//! What the TPM says of a value that was shown to it.

use crate::error::{ResponseCode, TpmError};

/// How a comparison by the TPM ended.
pub(crate) enum Verdict {
    Blocked,
    Right,
    Wrong,
}

pub(crate) fn verdict(result: Result<(), TpmError>) -> Result<Verdict, TpmError> {
    match result {
        Ok(()) => Ok(Verdict::Right),
        Err(error) => match error.code() {
            // Of an index; of an object, whose failures count towards the lockout.
            Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL) => Ok(Verdict::Wrong),
            Some(ResponseCode::AUTH_UNAVAILABLE) => Ok(Verdict::Blocked),
            Some(ResponseCode::HANDLE) => Err(TpmError::Lost("an index was deleted".into())),
            _ => Err(error),
        },
    }
}
