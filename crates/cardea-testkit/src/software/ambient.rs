//! Store, clock and randomness.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardea_card::record::CardRecord;
use cardea_card::token::{CardStore, Clock, Rng, StoreError};
use sha2::{Digest, Sha256};

/// A card file in memory. Clones are the same file.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    saved: Option<Vec<u8>>,
    saves: u32,
    allowed: Option<u32>,
}

impl MemoryStore {
    /// The record as last saved, decoded from its bytes.
    #[must_use]
    pub fn record(&self) -> Option<CardRecord> {
        let contents = self.contents();
        minicbor::decode(contents.saved.as_deref()?).ok()
    }

    /// Number of successful saves.
    #[must_use]
    pub fn saves(&self) -> u32 {
        self.contents().saves
    }

    /// Saves fail after this many more; `None` = never.
    pub fn fail_after(&self, saves: Option<u32>) {
        self.contents().allowed = saves;
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CardStore for MemoryStore {
    fn save(&mut self, record: &CardRecord) -> Result<(), StoreError> {
        let mut contents = self.contents();
        if let Some(allowed) = &mut contents.allowed {
            *allowed = allowed
                .checked_sub(1)
                .ok_or_else(|| StoreError("no more saves are allowed".into()))?;
        }
        contents.saved = Some(minicbor::to_vec(record).map_err(|e| StoreError(Box::new(e)))?);
        contents.saves += 1;
        Ok(())
    }
}

/// Time that passes only when told to. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Times>);

/// In milliseconds.
#[derive(Debug, Default)]
struct Times {
    now: AtomicU64,
    slept: AtomicU64,
}

impl ManualClock {
    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.0.now.fetch_add(millis, Ordering::Relaxed);
    }

    /// The machine sleeps.
    pub fn sleep(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.0.slept.fetch_add(millis, Ordering::Relaxed);
        self.advance(time);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now.load(Ordering::Relaxed))
    }

    fn slept(&self) -> Duration {
        Duration::from_millis(self.0.slept.load(Ordering::Relaxed))
    }
}

/// The same bytes for the same seed: SHA-256 in counter mode.
#[derive(Clone, Debug)]
pub struct SeededRng {
    seed: u64,
    counter: u64,
}

impl SeededRng {
    /// From its seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }
}

impl Rng for SeededRng {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let block = Sha256::new()
                .chain_update(self.seed.to_be_bytes())
                .chain_update(self.counter.to_be_bytes())
                .finalize();
            self.counter += 1;
            for (target, byte) in chunk.iter_mut().zip(block) {
                *target = byte;
            }
        }
    }
}

// The interface that the `rsa` crate takes randomness through.
impl rsa::rand_core::TryRng for SeededRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Infallible> {
        self.fill(buffer);
        Ok(())
    }
}

impl rsa::rand_core::TryCryptoRng for SeededRng {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
        let draw = |seed| {
            let mut bytes = [0; 50];
            SeededRng::new(seed).fill(&mut bytes);
            bytes
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn store_fails_when_told_and_keeps_what_it_had() {
        let mut store = MemoryStore::default();
        let mut record = super::super::card_record(cardea_card::gids::blank_card(), 6, None);
        store.fail_after(Some(1));
        store.save(&record).unwrap();
        "other".clone_into(&mut record.name);
        assert!(store.save(&record).is_err());
        assert_ne!(store.record().unwrap().name, "other");
        store.fail_after(None);
        store.save(&record).unwrap();
        assert_eq!(store.record().unwrap(), record);
    }
}
