//! Ping sets: which clients still need which objects (MS-DCOM §3.1.2.5.1).
//!
//! Times are seconds of any clock that does not go back.

use std::collections::{BTreeMap, BTreeSet};

use crate::dcom::ids::resolver_status::{INVALID_OID, INVALID_SET, OK, OUT_OF_RESOURCES};
use crate::dcom::{ComplexPing, ComplexPingReply, MAX_OIDS, SimplePing, Status};

/// How many sets there may be.
pub const MAX_SETS: usize = 256;

/// How often a client pings.
pub const PING_SECONDS: u64 = 120;

/// How many pings may be missing.
const MISSING: u64 = 3;

/// The ping sets of a resolver.
#[derive(Clone, Debug, Default)]
pub struct PingSets {
    sets: BTreeMap<u64, Set>,
}

#[derive(Clone, Debug)]
struct Set {
    sequence: u16,
    oids: BTreeSet<u64>,
    pinged: u64,
}

impl PingSets {
    /// No sets yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a client is still there.
    pub fn simple_ping(&mut self, ping: &SimplePing, now: u64) -> Status {
        let status = match self.sets.get_mut(&ping.set) {
            Some(set) => {
                set.pinged = now;
                OK
            }
            None => INVALID_SET,
        };
        Status { status }
    }

    /// Changes a set, or makes one. `random` draws numbers for sets that nobody can guess; `is_object` says which
    /// objects there are.
    pub fn complex_ping(
        &mut self,
        ping: &ComplexPing,
        now: u64,
        random: &mut dyn FnMut() -> u64,
        is_object: impl Fn(u64) -> bool,
    ) -> ComplexPingReply {
        let answer = |set, status| ComplexPingReply {
            set,
            backoff: 0,
            status,
        };
        let number = match ping.set {
            0 => {
                let mut draws = (0..DRAWS).map(|_| random());
                let free = draws.find(|number| *number != 0 && !self.sets.contains_key(number));
                match free.filter(|_| self.sets.len() < MAX_SETS) {
                    Some(number) => number,
                    None => return answer(0, OUT_OF_RESOURCES),
                }
            }
            number if self.sets.contains_key(&number) => number,
            number => return answer(number, INVALID_SET),
        };
        let set = self.sets.entry(number).or_insert_with(|| Set {
            sequence: ping.sequence,
            oids: BTreeSet::new(),
            pinged: now,
        });
        set.pinged = now;
        // A ping that was overtaken by a later one. Numbers begin anew after 65535.
        if ping.sequence.wrapping_sub(set.sequence) > u16::MAX / 2 {
            return answer(number, OK);
        }
        set.sequence = ping.sequence;
        let mut status = OK;
        for oid in &ping.add {
            if set.oids.len() >= MAX_OIDS {
                status = OUT_OF_RESOURCES;
            } else if is_object(*oid) {
                set.oids.insert(*oid);
            } else {
                status = INVALID_OID;
            }
        }
        for oid in &ping.remove {
            set.oids.remove(oid);
        }
        answer(number, status)
    }

    /// Drops the sets that were silent for too long. Gives the objects that were in one of them and are in none now.
    pub fn expire(&mut self, now: u64) -> Vec<u64> {
        let mut dropped = BTreeSet::new();
        self.sets.retain(|_, set| {
            let is_alive = now.saturating_sub(set.pinged) <= MISSING * PING_SECONDS;
            if !is_alive {
                dropped.append(&mut set.oids);
            }
            is_alive
        });
        dropped.retain(|oid| !self.is_pinged(*oid));
        dropped.into_iter().collect()
    }

    /// Whether an object is in a set.
    #[must_use]
    pub fn is_pinged(&self, oid: u64) -> bool {
        self.sets.values().any(|set| set.oids.contains(&oid))
    }
}

/// How often a number for a set is drawn.
const DRAWS: usize = 4;

/// The other side: what a client pings for the objects that it holds at one resolver.
#[derive(Clone, Debug, Default)]
pub struct Pinger {
    set: u64,
    sequence: u16,
    pinged: Option<u64>,
}

impl Pinger {
    /// Has pinged nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a ping must be sent.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.pinged
            .is_none_or(|pinged| now.saturating_sub(pinged) >= PING_SECONDS)
    }

    /// The ping that keeps the set; `None`: there is no set yet.
    #[must_use]
    pub fn simple_ping(&self) -> Option<SimplePing> {
        (self.set != 0).then_some(SimplePing { set: self.set })
    }

    /// A ping that changes the set, or makes it.
    #[must_use]
    pub fn complex_ping(&mut self, add: Vec<u64>, remove: Vec<u64>) -> ComplexPing {
        self.sequence = self.sequence.wrapping_add(1);
        ComplexPing {
            set: self.set,
            sequence: self.sequence,
            add,
            remove,
        }
    }

    /// Notes the answer to a ping that changes the set.
    pub fn changed(&mut self, reply: &ComplexPingReply, now: u64) {
        match reply.status {
            // The set is gone: the next ping makes another one.
            INVALID_SET => *self = Self::default(),
            _ => {
                self.set = reply.set;
                self.pinged = Some(now);
            }
        }
    }

    /// Notes the answer to a ping that keeps the set.
    pub fn kept(&mut self, reply: &Status, now: u64) {
        match reply.status {
            OK => self.pinged = Some(now),
            _ => *self = Self::default(),
        }
    }
}
