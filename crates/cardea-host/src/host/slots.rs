//! The slots of the reader: which card is in which, and who waits for a change.
//!
//! A slot is given at insertion and kept until removal.
//! Each insertion has a number of its own, so that a card that was exchanged between two looks is noticed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most slots: pcscd 1.9 has room for 16 readers over all handlers, two are left for real ones.
pub const MAX_SLOTS: u8 = 14;

/// The reader's name in pcscd's configuration (`FRIENDLYNAME`).
pub const FRIENDLY_NAME: &str = "Cardea Virtual Smart Card";

/// The name that pcscd gives to the reader of a slot: the friendly name, the number of the reader among
/// those of the same handler, and the slot, both as two hexadecimal digits (pcsc-lite, `RFSetReaderName`).
#[must_use]
pub fn reader_name(slot: u8) -> String {
    format!("{FRIENDLY_NAME} 00 {slot:02X}")
}

/// State of all slots at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotStates {
    /// Changes whenever any slot changes; never 0.
    pub generation: u64,
    /// One entry per slot: number of the insertion, 0 = empty.
    pub inserted: Vec<u64>,
}

/// The slots, with a card of type `C` in each.
#[derive(Debug)]
pub struct Slots<C> {
    state: Mutex<State<C>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<C> {
    generation: u64,
    insertions: u64,
    slots: Vec<Option<Inserted<C>>>,
    stopped: bool,
}

#[derive(Debug)]
struct Inserted<C> {
    number: u64,
    card: Arc<C>,
}

impl<C> Slots<C> {
    /// So many empty slots.
    #[must_use]
    pub fn new(count: u8) -> Self {
        Self {
            state: Mutex::new(State {
                generation: 1,
                insertions: 0,
                slots: (0..count).map(|_| None).collect(),
                stopped: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Number of slots.
    #[must_use]
    pub fn count(&self) -> u8 {
        u8::try_from(self.lock().slots.len()).unwrap_or(u8::MAX)
    }

    /// Puts a card into the lowest free slot; `None` when all are taken.
    /// A card that is already in a slot stays there.
    pub fn insert(&self, card: &Arc<C>) -> Option<u8> {
        let mut state = self.lock();
        if let Some(slot) = state.find(card) {
            return Some(slot);
        }
        let number = state.insertions + 1;
        let index = state.slots.iter().position(Option::is_none)?;
        *state.slots.get_mut(index)? = Some(Inserted {
            number,
            card: Arc::clone(card),
        });
        state.insertions = number;
        state.generation += 1;
        drop(state);
        self.changed.notify_all();
        u8::try_from(index).ok()
    }

    /// Takes a card out; false when it was in no slot.
    pub fn remove(&self, card: &Arc<C>) -> bool {
        let mut state = self.lock();
        let Some(slot) = state.find(card) else {
            return false;
        };
        if let Some(entry) = state.slots.get_mut(usize::from(slot)) {
            *entry = None;
        }
        state.generation += 1;
        drop(state);
        self.changed.notify_all();
        true
    }

    /// The slot of a card.
    #[must_use]
    pub fn slot_of(&self, card: &Arc<C>) -> Option<u8> {
        self.lock().find(card)
    }

    /// The card in a slot and the number of its insertion.
    #[must_use]
    pub fn card(&self, slot: u8) -> Option<(u64, Arc<C>)> {
        let state = self.lock();
        let inserted = state.slots.get(usize::from(slot))?.as_ref()?;
        Some((inserted.number, Arc::clone(&inserted.card)))
    }

    /// What is where now.
    #[must_use]
    pub fn states(&self) -> SlotStates {
        self.lock().states()
    }

    /// Waits until the generation differs from the given one, the time is over or the daemon stops.
    #[must_use]
    pub fn wait(&self, generation: u64, timeout: Duration) -> SlotStates {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while state.generation == generation && !state.stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.states()
    }

    /// Ends all waiting, now and later.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Each change under the lock is complete before anything that could panic, so a poisoned lock
    /// still guards a sound state.
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> State<C> {
    fn find(&self, card: &Arc<C>) -> Option<u8> {
        let index = self.slots.iter().position(|slot| {
            slot.as_ref()
                .is_some_and(|inserted| Arc::ptr_eq(&inserted.card, card))
        })?;
        u8::try_from(index).ok()
    }

    fn states(&self) -> SlotStates {
        SlotStates {
            generation: self.generation,
            inserted: self
                .slots
                .iter()
                .map(|slot| slot.as_ref().map_or(0, |inserted| inserted.number))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn card_gets_the_lowest_free_slot_and_keeps_it() {
        let slots = Slots::new(3);
        let cards: Vec<_> = (0..4).map(Arc::new).collect();
        assert_eq!(slots.insert(&cards[0]), Some(0));
        assert_eq!(slots.insert(&cards[1]), Some(1));
        assert_eq!(slots.insert(&cards[2]), Some(2));
        assert_eq!(slots.insert(&cards[3]), None);
        assert!(slots.remove(&cards[1]));
        assert_eq!(slots.slot_of(&cards[2]), Some(2));
        assert_eq!(slots.insert(&cards[2]), Some(2));
        assert_eq!(slots.insert(&cards[3]), Some(1));
        assert!(!slots.remove(&cards[1]));
    }

    #[test]
    fn every_insertion_has_a_new_number_and_every_change_a_new_generation() {
        let slots = Slots::new(2);
        let card = Arc::new(());
        let empty = slots.states();
        assert_eq!(empty.inserted, [0, 0]);
        assert_ne!(empty.generation, 0);
        slots.insert(&card);
        let first = slots.states();
        slots.remove(&card);
        let removed = slots.states();
        slots.insert(&card);
        let second = slots.states();
        assert_ne!(first.inserted, second.inserted);
        let generations = [&empty, &first, &removed, &second].map(|state| state.generation);
        let mut distinct = generations.to_vec();
        distinct.dedup();
        assert_eq!(distinct.len(), 4);
    }

    #[test]
    fn full_reader_does_not_change_generation() {
        let slots = Slots::new(1);
        slots.insert(&Arc::new(1));
        let before = slots.states();
        assert_eq!(slots.insert(&Arc::new(2)), None);
        assert_eq!(slots.states(), before);
    }

    #[test]
    fn waiting_ends_at_a_change_at_once() {
        let slots = Arc::new(Slots::new(1));
        let before = slots.states().generation;
        let (sender, receiver) = mpsc::channel();
        let waiter = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || {
                sender.send(()).unwrap();
                slots.wait(before, Duration::from_secs(60))
            })
        };
        receiver.recv().unwrap();
        let start = Instant::now();
        slots.insert(&Arc::new(()));
        let seen = waiter.join().unwrap();
        assert_eq!(seen.inserted, [1]);
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn waiting_with_an_old_generation_returns_at_once() {
        let slots = Slots::<()>::new(1);
        let start = Instant::now();
        assert_eq!(
            slots.wait(0, Duration::from_secs(60)).generation,
            slots.states().generation
        );
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn stop_ends_all_waiting() {
        let slots = Arc::new(Slots::<()>::new(1));
        let generation = slots.states().generation;
        let waiter = {
            let slots = Arc::clone(&slots);
            thread::spawn(move || slots.wait(generation, Duration::from_secs(60)))
        };
        slots.stop();
        let start = Instant::now();
        waiter.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn reader_names_are_those_of_pcscd() {
        assert_eq!(reader_name(0), "Cardea Virtual Smart Card 00 00");
        assert_eq!(reader_name(13), "Cardea Virtual Smart Card 00 0D");
    }
}
