//! General purpose functions (PKCS#11 3.1 §5.4).

use cryptoki_sys::{
    CK_INFO, CK_VERSION, CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED,
};

use crate::module;
use crate::rv::{Result, Rv};

/// Version of the interface that C_GetFunctionList returns.
pub(crate) const CRYPTOKI_2: CK_VERSION = CK_VERSION {
    major: 2,
    minor: 40,
};

/// Version of the newest interface that C_GetInterface returns.
pub(crate) const CRYPTOKI_3: CK_VERSION = CK_VERSION { major: 3, minor: 1 };

/// Version of this module.
pub(crate) const LIBRARY: CK_VERSION = CK_VERSION { major: 0, minor: 1 };

pub(crate) const MANUFACTURER: &str = "Cardea";

/// C_Initialize. A child process starts afresh, because the connections belong to its parent.
pub(crate) fn initialize() -> Result {
    if module::begin() {
        Ok(())
    } else {
        Err(Rv(CKR_CRYPTOKI_ALREADY_INITIALIZED))
    }
}

/// C_Finalize. The daemon ends the logins when the connections close.
pub(crate) fn finalize() -> Result {
    let old = module::end().ok_or(Rv(CKR_CRYPTOKI_NOT_INITIALIZED))?;
    old.state().ended = true;
    old.ending.notify_all();
    Ok(())
}

/// C_GetInfo.
pub(crate) fn info(version: CK_VERSION) -> CK_INFO {
    CK_INFO {
        cryptokiVersion: version,
        manufacturerID: padded(MANUFACTURER),
        flags: 0,
        libraryDescription: padded("Cardea virtual smart cards"),
        libraryVersion: LIBRARY,
    }
}

/// A blank-padded field. Text that is too long is cut at a character boundary.
pub(crate) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (target, _) = field.split_at_mut(end);
    target.copy_from_slice(text.as_bytes().get(..end).unwrap_or_default());
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_padded_or_cut_at_a_character_boundary() {
        assert_eq!(&padded::<6>("abc"), b"abc   ");
        assert_eq!(&padded::<4>("abcdef"), b"abcd");
        assert_eq!(&padded::<4>("abcä"), b"abc ");
    }
}
