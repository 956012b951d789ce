//! Authenticators that were seen: none is accepted twice.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::AuthError;

/// The most that are kept. Only those of accounts that are let in are.
const MAX_SEEN: usize = 16_384;

/// The authenticators of a service that could still be accepted by their time.
#[derive(Default)]
pub(super) struct Seen(Mutex<BTreeMap<[u8; 32], i64>>);

impl Seen {
    /// Takes note of an authenticator, as it came, that is of no use after `until`.
    pub(super) fn note(&self, authenticator: &[u8], until: i64, now: i64) -> Result<(), AuthError> {
        let hash: [u8; 32] = Sha256::digest(authenticator).into();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_SEEN {
            seen.retain(|_, until| *until >= now);
        }
        if seen.contains_key(&hash) {
            return Err(AuthError::Kerberos("an authenticator that came before"));
        }
        // To forget one that may come again would be to accept it again.
        if seen.len() >= MAX_SEEN {
            return Err(AuthError::Kerberos(
                "too many authentications in few minutes",
            ));
        }
        seen.insert(hash, until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_forgotten_before_its_time() {
        let seen = Seen::default();
        for number in 0..MAX_SEEN {
            let until = if number == 0 { 100 } else { 200 };
            seen.note(&number.to_be_bytes(), until, 50).unwrap();
        }
        let full = seen.note(b"one more", 200, 100);
        assert!(matches!(full, Err(AuthError::Kerberos(reason)) if reason.contains("too many")));
        assert!(seen.note(&0_usize.to_be_bytes(), 100, 100).is_err());
        // The first one has become useless: there is one place.
        seen.note(b"one more", 200, 101).unwrap();
        assert!(seen.note(b"another", 200, 101).is_err());
        assert!(seen.note(&5_usize.to_be_bytes(), 200, 101).is_err());
    }
}
