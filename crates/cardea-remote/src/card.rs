//! The card that another machine is to make.

use std::fmt;

use cardea_dcom::tpmvsc::Attestation;
use des::TdesEde3;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

/// The card that another machine is to make.
pub struct NewCard {
    /// The name that people see.
    pub name: String,
    /// The administrator's key.
    pub admin_key: Zeroizing<[u8; 24]>,
    /// The PUK; without one, the administrator unblocks the PIN.
    pub puk: Option<Zeroizing<Vec<u8>>>,
    /// The PIN.
    pub pin: Zeroizing<Vec<u8>>,
    /// Rules for PINs; without them, those of the other machine.
    pub policy: Option<[u8; 32]>,
    /// Whether the card can prove what it is.
    pub attestation: Attestation,
    /// Whether files are written.
    pub generate: bool,
}

impl fmt::Debug for NewCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewCard")
            .field("name", &self.name)
            .field("attestation", &self.attestation)
            .field("generate", &self.generate)
            .finish_non_exhaustive()
    }
}

/// The first three bytes of zeros enciphered by an admin key: by it the other machine finds a key that was damaged.
#[must_use]
pub fn key_check_value(key: &[u8; 24]) -> [u8; 3] {
    let mut block = [0; 8];
    TdesEde3::new(key.into()).encrypt_block((&mut block).into());
    let [first, second, third, ..] = block;
    [first, second, third]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_are_those_of_the_standard() {
        // MS-TPMVSC's example, and SP 800-67's key.
        let usual = cardea_terms::tpmvsc::DEFAULT_ADMIN_KEY;
        assert_eq!(key_check_value(&usual), [0xB0, 0x73, 0xDC]);
        let mut key = [0; 24];
        let digits = "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123";
        base16ct::mixed::decode(digits, &mut key).unwrap();
        assert_eq!(key_check_value(&key), [0x4E, 0xBA, 0x73]);
    }
}
