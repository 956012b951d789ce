//! How often events are recorded: what happens often is counted, and nobody fills the log.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cardea_card::record::CardId;

/// Uses of a key by one process, and refusals of one, are recorded once in this time, with their number. A user's
/// records are counted over it.
const INTERVAL: Duration = Duration::from_secs(60);

/// Records of one user in [`INTERVAL`] of what a user can cause without a card of this machine's.
const FREE_RECORDS: u32 = 60;

/// Records of one user in [`INTERVAL`] of everything else.
const CARD_RECORDS: u32 = 600;

/// Entries of each table.
const MAX_ENTRIES: usize = 4096;

/// What may happen often: which event or key, of which card, by which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Repeated {
    pub(super) card: Option<CardId>,
    pub(super) what: u8,
    pub(super) uid: u32,
    pub(super) pid: u32,
    /// When the process started: a later one may have its number.
    pub(super) started: u64,
}

/// What an event costs its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Price {
    /// Nothing: the daemon's own.
    Exempt,
    /// Users can cause it without a card of this machine's, as often as they like.
    Free,
    /// It takes a card, and time of the TPM.
    Card,
}

/// A user's records in the present interval.
#[derive(Clone, Copy, Debug)]
struct Budget {
    since: Instant,
    free: u32,
    card: u32,
    withheld: u64,
    /// Withheld in earlier intervals, and not reported yet.
    earlier: u64,
}

/// What was recorded when, and how often it happened since.
#[derive(Debug)]
struct Recorded {
    at: Instant,
    since: u64,
    /// Whose the user id is.
    account: u32,
}

/// How often everything happens.
#[derive(Debug, Default)]
pub(super) struct Frequency {
    repeated: HashMap<Repeated, Recorded>,
    budgets: HashMap<u32, Budget>,
    /// Of all users for whom the table has no room.
    others: Option<Budget>,
}

/// Of whom records were withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    User(u32),
    /// Users for whom the table had no room.
    Others,
}

impl Frequency {
    /// How many uses are to be recorded now; none while the last record is young. `account`: whose the user id is,
    /// which is asked for a new entry only.
    pub(super) fn due(
        &mut self,
        key: Repeated,
        account: impl FnOnce() -> u32,
        now: Instant,
    ) -> Option<u64> {
        if let Some(recorded) = self.repeated.get_mut(&key) {
            recorded.since += 1;
            if now.duration_since(recorded.at) < INTERVAL {
                return None;
            }
            recorded.at = now;
            return Some(std::mem::take(&mut recorded.since));
        }
        if self.repeated.len() >= MAX_ENTRIES {
            self.make_room(now);
        }
        let recorded = Recorded {
            at: now,
            since: 0,
            account: account(),
        };
        self.repeated.insert(key, recorded);
        Some(1)
    }

    /// Forgets what is old; if that is not enough, everything of the user with most entries.
    fn make_room(&mut self, now: Instant) {
        self.repeated
            .retain(|_, recorded| now.duration_since(recorded.at) < INTERVAL);
        if self.repeated.len() < MAX_ENTRIES {
            return;
        }
        let mut entries: HashMap<u32, usize> = HashMap::new();
        for recorded in self.repeated.values() {
            *entries.entry(recorded.account).or_default() += 1;
        }
        let most = entries.into_iter().max_by_key(|(_, count)| *count);
        if let Some((most, _)) = most {
            self.repeated.retain(|_, recorded| recorded.account != most);
        }
    }

    /// Whether a user may cause one more record now. What may not be recorded is counted.
    pub(super) fn admits(&mut self, uid: u32, price: Price, now: Instant) -> bool {
        if price == Price::Exempt {
            return true;
        }
        if self.budgets.len() >= MAX_ENTRIES && !self.budgets.contains_key(&uid) {
            self.budgets.retain(|_, budget| !budget.is_over(now));
            if self.budgets.len() >= MAX_ENTRIES {
                // Thousands of user ids at once are one user's doing.
                let others = self.others.get_or_insert_with(|| Budget::new(now));
                others.renew(now);
                others.withheld += 1;
                return false;
            }
        }
        let budget = self.budgets.entry(uid);
        let budget = budget.or_insert_with(|| Budget::new(now));
        budget.renew(now);
        let (spent, limit) = match price {
            Price::Free => (&mut budget.free, FREE_RECORDS),
            Price::Card | Price::Exempt => (&mut budget.card, CARD_RECORDS),
        };
        if *spent >= limit {
            budget.withheld += 1;
            return false;
        }
        *spent += 1;
        true
    }

    /// Users of whom something was withheld in intervals that are over, with how much: also while they go on.
    pub(super) fn withheld(&mut self, now: Instant) -> Vec<(Whose, u64)> {
        let users = self.budgets.iter_mut();
        let users = users.map(|(uid, budget)| (Whose::User(*uid), budget));
        let others = self.others.iter_mut().map(|budget| (Whose::Others, budget));
        let mut found: Vec<_> = users
            .chain(others)
            .map(|(whose, budget)| (whose, budget.take_earlier(now)))
            .filter(|(_, count)| *count > 0)
            .collect();
        found.sort_unstable();
        found
    }
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            free: 0,
            card: 0,
            withheld: 0,
            earlier: 0,
        }
    }

    /// Begins the next interval when this one is over.
    fn renew(&mut self, now: Instant) {
        if now.duration_since(self.since) >= INTERVAL {
            (self.since, self.free, self.card) = (now, 0, 0);
            self.earlier += std::mem::take(&mut self.withheld);
        }
    }

    /// What was withheld in intervals that are over.
    fn take_earlier(&mut self, now: Instant) -> u64 {
        if now.duration_since(self.since) >= INTERVAL {
            self.earlier += std::mem::take(&mut self.withheld);
        }
        std::mem::take(&mut self.earlier)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.withheld == 0 && self.earlier == 0 && now.duration_since(self.since) >= INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(uid: u32, pid: u32) -> Repeated {
        Repeated {
            card: None,
            what: 0x81,
            uid,
            pid,
            started: 1,
        }
    }

    #[test]
    fn repetitions_are_counted_until_the_interval_is_over() {
        let mut frequency = Frequency::default();
        let start = Instant::now();
        let mut due = |key, now| frequency.due(key, || 1000, now);
        let key = by(1000, 7);
        assert_eq!(due(key, start), Some(1));
        for _ in 0..99 {
            assert_eq!(due(key, start), None);
        }
        let other = Repeated { what: 0x82, ..key };
        assert_eq!(due(other, start), Some(1));
        let later = Repeated { started: 2, ..key };
        assert_eq!(due(later, start), Some(1), "another process");
        assert_eq!(due(key, start + INTERVAL), Some(100));
        assert_eq!(due(key, start + INTERVAL), None);
    }

    #[test]
    fn full_table_costs_the_user_who_fills_it() {
        let mut frequency = Frequency::default();
        let now = Instant::now();
        let mut due = |account, key| frequency.due(key, || account, now);
        let victim = [by(1, 7), by(1, 8)];
        for process in victim {
            assert_eq!(due(1, process), Some(1));
        }
        for pid in 0..20_000 {
            assert_eq!(due(2, by(2, pid)), Some(1));
        }
        // One process of each of many user ids that are one user's.
        for uid in 100_000..120_000 {
            assert_eq!(due(2, by(uid, 7)), Some(1));
        }
        for process in victim {
            assert_eq!(due(1, process), None);
        }
        assert!(frequency.repeated.len() <= MAX_ENTRIES);
    }

    #[test]
    fn budget_is_per_user_and_what_exceeds_it_is_counted() {
        let mut frequency = Frequency::default();
        let start = Instant::now();
        let mut admitted = |uid, price, at| frequency.admits(uid, price, at);
        let flood = (0..1000).filter(|_| admitted(1, Price::Free, start));
        assert_eq!(flood.count(), FREE_RECORDS as usize);
        assert!(admitted(2, Price::Free, start), "another user");
        assert!(admitted(1, Price::Card, start), "what takes a card");
        assert!(admitted(1, Price::Exempt, start));
        let later = start + INTERVAL;
        assert_eq!(frequency.withheld(start), []);
        assert_eq!(frequency.withheld(later), [(Whose::User(1), 940)]);
        assert_eq!(frequency.withheld(later), []);
        assert!(frequency.admits(1, Price::Free, later));
    }

    #[test]
    fn flood_that_goes_on_is_reported_all_the_same() {
        let mut frequency = Frequency::default();
        let start = Instant::now();
        let mut reported = 0;
        // Five minutes, ten events in a second; the keeper looks every half minute.
        for tick in 0..3000 {
            let now = start + Duration::from_millis(100 * tick);
            frequency.admits(1, Price::Free, now);
            if tick % 300 == 299 {
                let found = frequency.withheld(now);
                reported += found.iter().map(|(_, count)| count).sum::<u64>();
            }
        }
        assert_eq!(reported, 4 * (600 - u64::from(FREE_RECORDS)));
    }

    #[test]
    fn thousands_of_user_ids_do_not_grow_the_table() {
        let mut frequency = Frequency::default();
        let now = Instant::now();
        assert!(frequency.admits(0, Price::Card, now));
        for uid in 1..20_000 {
            frequency.admits(uid, Price::Free, now);
        }
        assert!(frequency.budgets.len() <= MAX_ENTRIES);
        assert!(
            frequency.admits(0, Price::Card, now),
            "who was there before"
        );
        // All others are counted together.
        let withheld = 20_000 - MAX_ENTRIES as u64;
        let later = now + INTERVAL;
        assert_eq!(frequency.withheld(later), [(Whose::Others, withheld)]);
        assert_eq!(frequency.withheld(later), []);
        assert!(frequency.admits(30_000, Price::Free, later));
    }
}
