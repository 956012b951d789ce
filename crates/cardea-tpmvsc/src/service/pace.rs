//! Failed authentications: addresses with many of them have to wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of each address since its last success.
#[derive(Default)]
pub(super) struct Pace(Mutex<HashMap<IpAddr, Failures>>);

struct Failures {
    count: u32,
    last: Instant,
}

impl Pace {
    /// Whether an address may try now.
    pub(super) fn is_welcome(&self, address: IpAddr, now: Instant) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(&address)
            .is_none_or(|failures| now.duration_since(failures.last) >= wait(failures.count))
    }

    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, failures| now.duration_since(failures.last) < FORGET);
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&address) {
            // Whoever has that many addresses is not held up by waiting; the others must not be forgotten for it.
            return;
        }
        let entry = failures.entry(address);
        let entry = entry.or_insert(Failures {
            count: 0,
            last: now,
        });
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
    }

    pub(super) fn succeeded(&self, address: IpAddr) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&address);
    }
}

/// How long an address waits after so many failures: not for the first few, for people mistype passwords.
fn wait(count: u32) -> Duration {
    match count {
        ..=FREE => Duration::ZERO,
        _ => Duration::from_secs(1 << (count - FREE).min(6)),
    }
}

/// Failures that cost nothing.
const FREE: u32 = 5;

/// After which time an address begins anew.
const FORGET: Duration = Duration::from_secs(3600);

/// How many addresses are remembered.
const MAX_ADDRESSES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_waits_longer_with_each_failure_and_begins_anew_after_a_success() {
        let pace = Pace::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = Instant::now();
        for _ in 0..FREE {
            pace.failed(one, now);
            assert!(pace.is_welcome(one, now));
        }
        pace.failed(one, now);
        assert!(!pace.is_welcome(one, now));
        assert!(pace.is_welcome(other, now));
        assert!(pace.is_welcome(one, now + Duration::from_secs(2)));
        for _ in 0..100 {
            pace.failed(one, now);
        }
        assert!(!pace.is_welcome(one, now + Duration::from_secs(63)));
        assert!(pace.is_welcome(one, now + Duration::from_secs(64)));
        pace.succeeded(one);
        assert!(pace.is_welcome(one, now));
    }
}
