//! A card store that keeps a record of every save and fails when told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardea_card::record::CardRecord;
use cardea_card::token::{CardStore, StoreError};

/// Stands before any store: a card file of `cardea-store` or a [`crate::software::MemoryStore`].
///
/// A save that is to fail does not reach the store behind, as [`CardStore::save`] demands.
#[derive(Debug)]
pub struct FaultStore<S> {
    behind: S,
    history: SaveHistory,
}

/// What a [`FaultStore`] was asked to save. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SaveHistory(Arc<Mutex<History>>);

#[derive(Debug, Default)]
struct History {
    saves: Vec<Save>,
    fail_at: Option<usize>,
}

/// An attempt to save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// What was to be saved.
    pub record: CardRecord,
    /// Whether it was.
    pub kept: bool,
}

impl<S: CardStore> FaultStore<S> {
    /// Before this store, which does all the saving until told otherwise; the history stays with the test
    /// when the store goes into a card.
    #[must_use]
    pub fn new(behind: S) -> (Self, SaveHistory) {
        let history = SaveHistory::default();
        let store = Self {
            behind,
            history: history.clone(),
        };
        (store, history)
    }
}

impl SaveHistory {
    /// Every attempt in order.
    #[must_use]
    pub fn saves(&self) -> Vec<Save> {
        self.history().saves.clone()
    }

    /// The last record that was kept.
    #[must_use]
    pub fn kept(&self) -> Option<CardRecord> {
        let history = self.history();
        let kept = history.saves.iter().rev().find(|save| save.kept);
        kept.map(|save| save.record.clone())
    }

    /// The n-th attempt from now on fails, counted from 1, and no other; 0 fails none.
    pub fn fail_at(&self, attempt: usize) {
        let mut history = self.history();
        history.fail_at = (attempt > 0).then(|| history.saves.len() + attempt);
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: CardStore> CardStore for FaultStore<S> {
    fn save(&mut self, record: &CardRecord) -> Result<(), StoreError> {
        let mut history = self.history.history();
        let failing = history.fail_at == Some(history.saves.len() + 1);
        let outcome = if failing {
            Err(StoreError("this save was to fail".into()))
        } else {
            self.behind.save(record)
        };
        history.saves.push(Save {
            record: record.clone(),
            kept: outcome.is_ok(),
        });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::{MemoryStore, card_record};

    fn named(name: &str) -> CardRecord {
        let mut record = card_record(cardea_card::gids::blank_card(), 6, None);
        name.clone_into(&mut record.name);
        record
    }

    #[test]
    fn the_chosen_save_fails_alone_and_leaves_what_was_there() {
        let behind = MemoryStore::default();
        let (mut store, history) = FaultStore::new(behind.clone());
        store.save(&named("first")).unwrap();
        history.fail_at(2);
        store.save(&named("second")).unwrap();
        assert!(store.save(&named("third")).is_err());
        assert_eq!(behind.record(), Some(named("second")));
        assert_eq!(history.kept(), Some(named("second")));
        store.save(&named("fourth")).unwrap();
        assert_eq!(behind.record(), Some(named("fourth")));
        let kept: Vec<_> = history.saves().iter().map(|save| save.kept).collect();
        assert_eq!(kept, [true, true, false, true]);
        assert_eq!(history.saves()[2].record, named("third"));
    }

    #[test]
    fn failure_of_the_store_behind_is_told_and_recorded() {
        let behind = MemoryStore::default();
        behind.fail_after(Some(0));
        let (mut store, history) = FaultStore::new(behind);
        assert!(store.save(&named("first")).is_err());
        assert_eq!(history.kept(), None);
        assert_eq!(history.saves().len(), 1);
    }

    #[test]
    fn failure_can_be_called_off() {
        let (mut store, history) = FaultStore::new(MemoryStore::default());
        history.fail_at(1);
        history.fail_at(0);
        store.save(&named("first")).unwrap();
    }
}
