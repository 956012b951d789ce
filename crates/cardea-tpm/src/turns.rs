//! Whose turn it is at the TPM: by the time that each user's jobs have taken there, and not by their number.
//!
//! A TPM cannot be interrupted. So whoever comes while a key is made waits until it is; but how often that happens is
//! decided here. Among users who wait, the one whose jobs have taken least is next, and after a key was made none is
//! made for some time, as long as others use the TPM. What was taken is forgotten by and by.
//!
//! Time comes in as an argument: nothing here asks a clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What a user has taken counts half after this time.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// Users whose balances differ by less take turns.
const QUANTUM: Duration = Duration::from_millis(5);

/// After a long job none follows for this many times its duration, while others use the TPM: they find it free two
/// times out of three.
const PAUSE_FACTOR: u32 = 2;

/// The pause after the longest jobs: clients wait for a key for some minutes only.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// A long job that was no longer than this needs no pause.
const NOT_LONG: Duration = Duration::from_millis(100);

/// A user whose last short job is not older than this uses the TPM.
const IN_USE: Duration = Duration::from_secs(60);

/// Balances that are kept of users for whom nothing waits.
const MAX_BALANCES: usize = 256;

/// The user of jobs that are nobody's: the service itself.
pub(crate) const SERVICE_USER: u32 = u32::MAX;

/// A row of jobs that are done one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Number of the card; 0 = the service itself.
    pub(crate) card: u64,
    /// Whose it is.
    pub(crate) user: u32,
}

/// How long a job may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// It makes a key, which takes a TPM as long as it happens to.
    Long,
    Short,
}

/// Jobs that wait, and what users have taken.
pub(crate) struct Turns<J> {
    users: BTreeMap<u32, User<J>>,
    /// Jobs that wait, and the long ones among them.
    waiting: usize,
    waiting_long: usize,
    /// How many jobs were done, in turn or at once.
    served: u64,
    /// No long job begins before, while others use the TPM.
    quiet_until: Option<Instant>,
}

struct User<J> {
    taken: Duration,
    /// When that was last halved.
    halved: Instant,
    /// When the last short job ended.
    used: Option<Instant>,
    /// That count when one of this user's was last done.
    served: u64,
    /// The next one first; each has a job.
    lanes: VecDeque<(u64, VecDeque<(Length, J)>)>,
}

impl<J> User<J> {
    fn new(now: Instant) -> Self {
        Self {
            taken: Duration::ZERO,
            halved: now,
            used: None,
            served: 0,
            lanes: VecDeque::new(),
        }
    }

    /// What it has taken, with what is forgotten until now.
    fn balance(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.halved);
        let halvings =
            u32::try_from(passed.as_millis() / HALF_LIFE.as_millis()).unwrap_or(u32::MAX);
        if halvings > 0 {
            self.taken /= 1_u32.checked_shl(halvings).unwrap_or(u32::MAX);
            self.halved = now;
        }
        self.taken
    }

    fn uses(&self, now: Instant) -> bool {
        let recent = |used| now.saturating_duration_since(used) < IN_USE;
        self.used.is_some_and(recent)
    }

    /// Whether it is one for whom others pause.
    fn is_present(&self, uid: u32, now: Instant) -> bool {
        uid != SERVICE_USER && self.uses(now)
    }

    /// Lane and place in it of the first job that may be done.
    fn first(&self, allows_long: bool) -> Option<(usize, usize)> {
        let mut lanes = self.lanes.iter().enumerate();
        lanes.find_map(|(position, (_, row))| {
            let mut row = row.iter();
            let place = row.position(|(length, _)| *length == Length::Short || allows_long)?;
            Some((position, place))
        })
    }
}

impl<J> Turns<J> {
    pub(crate) fn new() -> Self {
        Self {
            users: BTreeMap::new(),
            waiting: 0,
            waiting_long: 0,
            served: 0,
            quiet_until: None,
        }
    }

    /// Whether no job waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Whether a job waits that may be done now.
    pub(crate) fn has_ready(&self, now: Instant) -> bool {
        if self.waiting == 0 {
            return false;
        }
        self.waiting > self.waiting_long || !self.pauses(now) || {
            let mut users = self.users.iter().filter(|(_, user)| !user.lanes.is_empty());
            users.any(|(uid, _)| !self.is_used_by_others(*uid, now))
        }
    }

    /// How long it is until one may be done, where all that wait are to pause.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        let until = self.quiet_until.unwrap_or(now);
        until.saturating_duration_since(now)
    }

    /// Whether a job that comes now may be done at once, by whoever brings it.
    pub(crate) fn may_begin(&self, lane: Lane, length: Length, now: Instant) -> bool {
        !self.has_ready(now) && self.is_allowed(lane.user, length, now)
    }

    /// Those who have jobs on their balance.
    #[cfg(test)]
    pub(crate) fn booked(&self) -> Vec<u32> {
        self.users.keys().copied().collect()
    }

    /// A job waits for its turn.
    pub(crate) fn push(&mut self, lane: Lane, length: Length, job: J, now: Instant) {
        let user = self.user(lane.user, now);
        match user.lanes.iter_mut().find(|(card, _)| *card == lane.card) {
            Some((_, row)) => row.push_back((length, job)),
            None => user
                .lanes
                .push_back((lane.card, VecDeque::from([(length, job)]))),
        }
        self.waiting += 1;
        self.waiting_long += usize::from(length == Length::Long);
    }

    /// The next job: of the user who has taken least, lane by lane. In a lane, jobs that may be done go before those
    /// that are to pause: there is one whenever [`Turns::has_ready`] says so.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Lane, Length, J)> {
        if self.waiting == 0 {
            return None;
        }
        let pauses = self.pauses(now);
        let present = self.users.iter();
        let present = present.filter(|(uid, user)| user.is_present(**uid, now));
        let present = present.count();
        let ready = self.users.iter_mut().filter_map(|(uid, user)| {
            let others = present - usize::from(user.is_present(*uid, now));
            let place = user.first(!pauses || others == 0)?;
            let balance = user.balance(now).as_micros() / QUANTUM.as_micros();
            Some((balance, user.served, *uid, place))
        });
        let best = ready.min_by_key(|(balance, served, ..)| (*balance, *served));
        let (.., uid, (position, place)) = best?;
        let user = self.users.get_mut(&uid)?;
        let (card, mut row) = user.lanes.remove(position)?;
        let (length, job) = row.remove(place)?;
        if !row.is_empty() {
            user.lanes.push_back((card, row));
        }
        self.waiting -= 1;
        self.waiting_long -= usize::from(length == Length::Long);
        Some((Lane { card, user: uid }, length, job))
    }

    /// A job has been done.
    pub(crate) fn charge(&mut self, lane: Lane, length: Length, began: Instant, now: Instant) {
        let time = now.saturating_duration_since(began);
        self.served += 1;
        let served = self.served;
        let user = self.user(lane.user, now);
        user.served = served;
        user.balance(now);
        user.taken += time;
        match length {
            Length::Short => user.used = Some(now),
            Length::Long if time > NOT_LONG => {
                self.quiet_until = now.checked_add((time * PAUSE_FACTOR).min(LONGEST_PAUSE));
            }
            Length::Long => {}
        }
    }

    fn is_allowed(&self, uid: u32, length: Length, now: Instant) -> bool {
        length == Length::Short || !self.pauses(now) || !self.is_used_by_others(uid, now)
    }

    /// Whether a long job has to wait, where others use the TPM.
    fn pauses(&self, now: Instant) -> bool {
        self.quiet_until.is_some_and(|until| until > now)
    }

    /// Whether somebody else is there for whom a pause is made.
    fn is_used_by_others(&self, uid: u32, now: Instant) -> bool {
        let mut others = self.users.iter().filter(|(other, _)| **other != uid);
        others.any(|(other, user)| user.is_present(*other, now))
    }

    /// The user of a job. A new one takes the place of some for whom nothing is to be kept, where there are many.
    fn user(&mut self, uid: u32, now: Instant) -> &mut User<J> {
        if self.users.len() >= MAX_BALANCES && !self.users.contains_key(&uid) {
            self.users.retain(|_, user| {
                !user.lanes.is_empty() || user.uses(now) || user.balance(now) >= QUANTUM
            });
        }
        let user = self.users.entry(uid);
        user.or_insert_with(|| User::new(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACKER: u32 = 1000;
    const VICTIM: u32 = 1001;
    const SIGNATURE: Duration = Duration::from_millis(20);
    const KEY: Duration = Duration::from_secs(4);

    fn lane(user: u32) -> Lane {
        Lane {
            card: user.into(),
            user,
        }
    }

    /// A TPM whose time is made up.
    struct Tpm {
        turns: Turns<(u32, Duration)>,
        now: Instant,
        done: Vec<u32>,
    }

    impl Tpm {
        fn new() -> Self {
            Self {
                turns: Turns::new(),
                now: Instant::now(),
                done: Vec::new(),
            }
        }

        fn push(&mut self, user: u32, length: Length, time: Duration) {
            self.turns.push(lane(user), length, (user, time), self.now);
        }

        /// Does one job, or waits for the end of a pause.
        fn step(&mut self) {
            assert!(!self.turns.is_empty());
            match self.turns.next(self.now) {
                Some((lane, length, (user, time))) => {
                    let began = self.now;
                    self.now += time;
                    self.turns.charge(lane, length, began, self.now);
                    self.done.push(user);
                }
                None => {
                    assert!(!self.turns.has_ready(self.now));
                    self.now += self.turns.pause(self.now).max(Duration::from_millis(1));
                }
            }
        }
    }

    #[test]
    fn users_have_the_same_time_and_not_the_same_number_of_jobs() {
        let mut tpm = Tpm::new();
        for _ in 0..8 {
            tpm.push(ATTACKER, Length::Short, 10 * SIGNATURE);
        }
        for _ in 0..80 {
            tpm.push(VICTIM, Length::Short, SIGNATURE);
        }
        for _ in 0..44 {
            tpm.step();
        }
        let attacks = tpm.done.iter().filter(|user| **user == ATTACKER).count();
        assert_eq!(attacks, 4, "{:?}", tpm.done);
    }

    #[test]
    fn cards_of_one_user_and_users_alike_take_turns() {
        let mut turns = Turns::new();
        let now = Instant::now();
        let cards = [(1, 7), (1, 7), (2, 7), (3, 8), (3, 8)];
        for (card, user) in cards {
            turns.push(Lane { card, user }, Length::Short, card, now);
        }
        let mut order = Vec::new();
        while let Some((lane, length, card)) = turns.next(now) {
            turns.charge(lane, length, now, now);
            order.push(card);
        }
        assert_eq!(order, [1, 3, 2, 3, 1]);
    }

    #[test]
    fn victim_of_a_user_who_makes_key_after_key_rarely_waits_for_one() {
        let mut tpm = Tpm::new();
        let mut waited = Vec::new();
        // One after the other, each with a pause as a program has it.
        for _ in 0..400 {
            if tpm.turns.waiting_long == 0 {
                tpm.push(ATTACKER, Length::Long, KEY);
            }
            let came = tpm.now;
            // The attacker's jobs begin as soon as they may.
            if tpm.turns.has_ready(tpm.now) {
                tpm.step();
            }
            tpm.push(VICTIM, Length::Short, SIGNATURE);
            while tpm.done.last() != Some(&VICTIM) || tpm.turns.waiting > tpm.turns.waiting_long {
                tpm.step();
            }
            waited.push(tpm.now - came);
            tpm.done.clear();
            tpm.now += Duration::from_millis(200);
        }
        waited.sort_unstable();
        assert_eq!(waited[waited.len() / 2], SIGNATURE, "half of them");
        assert!(waited[waited.len() * 9 / 10] <= KEY + SIGNATURE);
        assert!(*waited.last().unwrap() <= KEY + SIGNATURE, "never for two");
        let keys = waited.iter().filter(|time| **time > KEY).count();
        assert!(keys > 5, "and the keys are made: {keys}");
    }

    #[test]
    fn pause_is_in_proportion_and_only_for_keys_while_others_are_there() {
        let mut tpm = Tpm::new();
        let start = tpm.now;
        tpm.push(ATTACKER, Length::Long, KEY);
        tpm.push(ATTACKER, Length::Long, KEY);
        tpm.step();
        tpm.step();
        assert_eq!(tpm.now - start, 2 * KEY, "nobody else is there");
        tpm.push(VICTIM, Length::Short, SIGNATURE);
        tpm.step();
        let key_end = tpm.now - SIGNATURE;
        tpm.push(ATTACKER, Length::Long, KEY);
        tpm.push(VICTIM, Length::Short, SIGNATURE);
        tpm.step();
        assert_eq!(tpm.done.last(), Some(&VICTIM));
        assert!(!tpm.turns.has_ready(tpm.now), "the key waits");
        assert!(tpm.turns.may_begin(lane(VICTIM), Length::Short, tpm.now));
        assert!(tpm.turns.may_begin(lane(ATTACKER), Length::Short, tpm.now));
        assert!(!tpm.turns.may_begin(lane(7), Length::Long, tpm.now));
        tpm.step();
        assert_eq!(tpm.now - key_end, KEY * PAUSE_FACTOR);
        tpm.step();
        assert_eq!(tpm.done.last(), Some(&ATTACKER));

        // The longest key is no reason to wait for minutes.
        tpm.push(ATTACKER, Length::Long, 100 * KEY);
        tpm.push(VICTIM, Length::Short, SIGNATURE);
        tpm.step();
        tpm.step();
        tpm.step();
        tpm.push(ATTACKER, Length::Long, KEY);
        let pause = tpm.turns.pause(tpm.now);
        assert!(pause <= LONGEST_PAUSE && !pause.is_zero(), "{pause:?}");
    }

    #[test]
    fn short_job_behind_one_that_pauses_is_done_at_once() {
        let mut tpm = Tpm::new();
        tpm.push(VICTIM, Length::Short, SIGNATURE);
        tpm.push(ATTACKER, Length::Long, KEY);
        tpm.step();
        tpm.step();
        // Of one lane.
        for (length, time) in [(Length::Long, KEY), (Length::Short, SIGNATURE)] {
            tpm.push(ATTACKER, length, time);
        }
        let key_end = tpm.now - SIGNATURE;
        assert!(tpm.turns.has_ready(tpm.now));
        tpm.step();
        assert_eq!(tpm.now - key_end, 2 * SIGNATURE, "the short one");
        assert!(!tpm.turns.has_ready(tpm.now), "the key pauses");
        tpm.step();
        tpm.step();
        assert_eq!(tpm.now - key_end, KEY * PAUSE_FACTOR + KEY);
        assert!(tpm.turns.is_empty());
    }

    #[test]
    fn jobs_done_at_once_count_in_turns_and_in_the_bound() {
        let mut turns = Turns::new();
        let mut now = Instant::now();
        for user in [ATTACKER, VICTIM] {
            turns.push(lane(user), Length::Short, user, now);
        }
        // Without waiting, on another card.
        let other = Lane {
            card: 1,
            user: ATTACKER,
        };
        turns.charge(other, Length::Short, now, now);
        let next = turns.next(now).map(|(.., user)| user);
        assert_eq!(next, Some(VICTIM), "the other was there last");
        for user in 0..2000 {
            turns.charge(lane(user), Length::Short, now, now);
            now += IN_USE;
        }
        assert!(turns.users.len() <= MAX_BALANCES);
    }

    #[test]
    fn what_was_taken_is_forgotten_and_balances_are_bounded() {
        let mut tpm = Tpm::new();
        tpm.push(ATTACKER, Length::Short, KEY);
        tpm.step();
        for halvings in 1..=3 {
            tpm.now += HALF_LIFE;
            let user = tpm.turns.users.get_mut(&ATTACKER).unwrap();
            assert_eq!(user.balance(tpm.now), KEY / (1 << halvings));
        }
        tpm.now += 1000 * HALF_LIFE;
        for user in 0..2000 {
            tpm.push(user, Length::Short, Duration::ZERO);
            tpm.step();
            tpm.now += IN_USE;
        }
        assert!(tpm.turns.users.len() <= MAX_BALANCES);
    }
}
