//! General purpose functions (PKCS#11 2.40 §5.4).

use cryptoki_sys::{
    CK_INFO, CK_VERSION, CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED,
};

use crate::module::{Module, lock};
use crate::rv::{Result, Rv};

/// Version of the interface.
pub(crate) const CRYPTOKI: CK_VERSION = CK_VERSION {
    major: 2,
    minor: 40,
};

/// Version of this module.
pub(crate) const LIBRARY: CK_VERSION = CK_VERSION { major: 0, minor: 1 };

pub(crate) const MANUFACTURER: &str = "Cardea";

/// C_Initialize. A child begins anew: its parent's connection is not its own.
pub(crate) fn initialize() -> Result {
    let mut module = lock();
    match &*module {
        Some(module) if module.is_ours() => Err(Rv(CKR_CRYPTOKI_ALREADY_INITIALIZED)),
        _ => {
            *module = Some(Module::new());
            Ok(())
        }
    }
}

/// C_Finalize. The daemon ends what was verified when the connection closes.
pub(crate) fn finalize() -> Result {
    let mut module = lock();
    match module.take() {
        Some(old) if old.is_ours() => Ok(()),
        _ => Err(Rv(CKR_CRYPTOKI_NOT_INITIALIZED)),
    }
}

/// C_GetInfo.
pub(crate) fn info() -> CK_INFO {
    CK_INFO {
        cryptokiVersion: CRYPTOKI,
        manufacturerID: padded(MANUFACTURER),
        flags: 0,
        libraryDescription: padded("Cardea virtual smart cards"),
        libraryVersion: LIBRARY,
    }
}

/// Blank-padded, cut at a character.
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
    fn texts_are_padded_and_cut_at_a_character() {
        assert_eq!(&padded::<6>("abc"), b"abc   ");
        assert_eq!(&padded::<4>("abcdef"), b"abcd");
        assert_eq!(&padded::<4>("abcä"), b"abc ");
    }
}
