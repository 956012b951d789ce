//! The admin key that a card is made with.

use cardea_client::message::{Failure, FailureKind, SecretBytes};
use cardea_tpm::AdminKey;

use crate::failure::fail;

/// A key that was given, with a warning about one that should not be used.
pub(super) fn admin_key(
    bytes: &SecretBytes,
    warnings: &mut Vec<String>,
) -> Result<AdminKey, Failure> {
    let key = AdminKey::new(bytes.expose())
        .map_err(|error| fail(FailureKind::Invalid, error.to_string()))?;
    warnings.extend(weakness(bytes.expose()).map(str::to_owned));
    Ok(key)
}

/// Why a key should not be used: known to all, or no more than single DES.
fn weakness(key: &[u8]) -> Option<&'static str> {
    // DES ignores the lowest bit of each byte (FIPS 46-3).
    let same = |one: Option<&[u8]>, other: Option<&[u8]>| {
        one.zip(other)
            .is_some_and(|(one, other)| one.iter().zip(other).all(|(a, b)| a & 0xFE == b & 0xFE))
    };
    let part = |number: usize| key.get(8 * number..8 * number + 8);
    let default: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
    if (0..3).all(|number| same(part(number), Some(default))) {
        Some("the admin key is the default one, which is publicly known")
    } else if same(part(0), part(1)) || same(part(1), part(2)) {
        Some("the admin key is weak: two adjacent parts are equal, which reduces it to single DES")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_and_weak_admin_keys_are_named() {
        let mut key = [1, 2, 3, 4, 5, 6, 7, 8].repeat(3);
        assert!(weakness(&key).unwrap().contains("default"));
        key[0] ^= 1;
        assert!(weakness(&key).unwrap().contains("default"), "parity bit");
        key[0] ^= 2;
        assert!(weakness(&key).unwrap().contains("single DES"));
        key[16] ^= 2;
        assert_eq!(weakness(&key), None);
        let short = admin_key(&SecretBytes::new(vec![1; 16]), &mut Vec::new());
        assert_eq!(short.unwrap_err().kind, FailureKind::Invalid);
    }
}
