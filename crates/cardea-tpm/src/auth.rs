//! Authorisation values of a card's indices.

use cardea_card::record::IndexRole;
use cardea_card::secret::{Held, erase_stack};
use hmac::digest::FixedOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::policy::role_ref;

/// A 32-byte authorisation value.
pub type AuthValue = Held<32>;

/// HMAC-SHA-256(salt, role ‖ 00 ‖ bytes as typed): the longest value that an index of nameAlg SHA-256
/// takes, whatever the length of the PIN (1 to 127 bytes).
#[must_use]
pub fn auth_value(salt: &[u8; 16], role: IndexRole, typed: &[u8]) -> AuthValue {
    let value = hmac(salt, &[role_ref(role), &[0], typed]);
    // The hash leaves its result there, and whatever is made next would carry it along in its gaps.
    erase_stack();
    value
}

/// HMAC-SHA-256 over the parts, one after the other.
#[must_use]
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> AuthValue {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    let mut value = Held::zeroed();
    mac.finalize_into((&mut *value).into());
    value
}

/// The value as a TPM keeps it: trailing zeros are not part of it (TPM 2.0 Part 1 §19.6.4.3).
#[must_use]
pub fn without_trailing_zeros(value: &[u8]) -> &[u8] {
    let length = value
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    value.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_zeros_are_not_part_of_a_value() {
        assert_eq!(without_trailing_zeros(&[1, 0, 2, 0, 0]), [1, 0, 2]);
        assert_eq!(without_trailing_zeros(&[0, 0]), [0u8; 0]);
    }
}
