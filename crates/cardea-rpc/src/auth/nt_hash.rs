//! The secret of an account: MD4 of its password in UTF-16 (MS-NLMP 3.3.2).

use std::fmt;

use md4::{Digest, Md4};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::crypt::{Block, hmac_md5};

/// An NT hash: as good as the password itself for whoever has it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NtHash([u8; 16]);

impl NtHash {
    /// From a password.
    #[must_use]
    pub fn of_password(password: &str) -> Self {
        // The capacity suffices, so that nothing is left behind by growing: UTF-16 is at most twice as long as UTF-8.
        let mut wide = Zeroizing::new(Vec::with_capacity(2 * password.len()));
        for unit in password.encode_utf16() {
            wide.extend_from_slice(&unit.to_le_bytes());
        }
        Self(Md4::digest(&*wide).into())
    }

    /// From the 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From 32 hexadecimal digits, of either case.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let decoded = base16ct::mixed::decode(digits, &mut bytes).ok()?;
        (decoded.len() == 16).then(|| Self(bytes))
    }

    /// As 32 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(base16ct::lower::encode_string(&self.0))
    }

    /// The key that answers are made with: NTOWFv2 of MS-NLMP 3.3.2.
    pub(super) fn response_key(&self, user: &str, domain: &str) -> Block {
        let mut name = Vec::new();
        for letter in user.chars().map(upper).chain(domain.chars()) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                name.extend_from_slice(&unit.to_le_bytes());
            }
        }
        hmac_md5(&self.0, &[&name])
    }
}

impl fmt::Debug for NtHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NtHash")
    }
}

/// Upper case as Windows has it: one letter becomes one letter, so ß stays what it is.
pub fn upper(letter: char) -> char {
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => one,
        _ => letter,
    }
}
