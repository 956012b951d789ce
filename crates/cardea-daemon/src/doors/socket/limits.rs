//! How many clients at once: of one user, and in all; and who has to go when there are more.
//!
//! A user is an [account](cardea_host::Accounts): its subordinate user ids count with it.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cardea_host::lock;

/// Connections of all users together but those who have [seats kept](Limits::new).
pub(crate) const MAX_CLIENTS: usize = 256;

/// Connections of one user. As many are kept for each of root, pcscd's user and the daemon's own.
pub(crate) const MAX_CLIENTS_OF_USER: usize = 64;

/// Connections of one user that were closed to make room and whose threads have not ended yet: one may be in a
/// request that waits for a change of the slots.
pub(crate) const MAX_LEAVING_OF_USER: usize = 16;

/// Those of all users together, but for users with seats kept.
pub(crate) const MAX_LEAVING: usize = 256;

/// A connection at work on a request.
const AT_WORK: u64 = 0;
/// Idle, with a login or something else that ends with it.
const HOLDING: u64 = 1;
/// Closed to make room.
const CLOSED: u64 = 2;
/// Idle with nothing that ends with it: since so many milliseconds, and this many more.
const IDLE: u64 = 3;

/// The clients.
#[derive(Debug)]
pub(crate) struct Limits {
    /// User ids that nobody else can take the seats of.
    kept: Vec<u32>,
    start: Instant,
    clients: Mutex<Clients>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Clients {
    next: u64,
    seated: HashMap<u64, Arc<Place>>,
}

/// One connection.
#[derive(Debug)]
struct Place {
    uid: u32,
    stream: Arc<UnixStream>,
    /// [`AT_WORK`], [`HOLDING`], [`CLOSED`] or since when it is [`IDLE`].
    state: AtomicU64,
}

/// A place among the clients, given back on drop.
#[derive(Debug)]
pub(crate) struct Seat {
    limits: Arc<Limits>,
    number: u64,
    place: Arc<Place>,
}

impl Limits {
    /// `kept`: user ids that have seats of their own.
    pub(crate) fn new(kept: Vec<u32>) -> Self {
        Self {
            kept,
            start: Instant::now(),
            clients: Mutex::default(),
            left: Condvar::new(),
        }
    }

    /// Whether this user id has seats of its own.
    pub(crate) fn is_kept(&self, uid: u32) -> bool {
        self.kept.contains(&uid)
    }

    /// A place for a connection of this user id; `None` when there is none at the moment. If the user or all
    /// together have too many, a connection that nothing hangs on is closed: the one that is idle for the longest
    /// time, of the user with most.
    ///
    /// `account`: whose a user id is.
    pub(crate) fn enter(
        self: &Arc<Self>,
        uid: u32,
        stream: Arc<UnixStream>,
        account: impl Fn(u32) -> u32,
    ) -> Option<Seat> {
        let account = |uid| match self.kept.contains(&uid) {
            true => uid,
            false => account(uid),
        };
        let mut clients = lock(&self.clients);
        let users = clients.users(account);
        let user = account(uid);
        let own = users.get(&user).map_or(0, |user| user.seated);
        let is_kept = self.kept.contains(&user);
        let others = users.iter().filter(|(user, _)| !self.kept.contains(user));
        let (all, leaving) = others.fold((0, 0), |(all, leaving), (_, user)| {
            (all + user.seated, leaving + user.leaving)
        });
        let may_leave = is_kept || leaving < MAX_LEAVING;
        if own >= MAX_CLIENTS_OF_USER {
            let user = users.get(&user).filter(|_| may_leave);
            user.filter(|user| user.make_room())?;
        } else if all >= MAX_CLIENTS && !is_kept {
            if !may_leave {
                return None;
            }
            let mut others: Vec<_> = users
                .iter()
                .filter(|(other, _)| !self.kept.contains(other))
                .map(|(_, other)| other)
                // Not of those who have fewer than this one then has.
                .filter(|other| other.seated > own + 1)
                .collect();
            others.sort_by_key(|other| std::cmp::Reverse(other.seated));
            others.into_iter().find(|other| other.make_room())?;
        }
        let place = Arc::new(Place {
            uid,
            stream,
            state: AtomicU64::new(self.idle_now()),
        });
        let number = clients.next;
        clients.next += 1;
        clients.seated.insert(number, Arc::clone(&place));
        Some(Seat {
            limits: Arc::clone(self),
            number,
            place,
        })
    }

    fn idle_now(&self) -> u64 {
        let milliseconds = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        milliseconds.saturating_add(IDLE)
    }

    /// Ends all connections.
    pub(crate) fn close_all(&self) {
        for place in lock(&self.clients).seated.values() {
            place.close();
        }
    }

    /// Waits until nobody is left; false when the time is over first.
    pub(crate) fn await_nobody(&self, limit: Duration) -> bool {
        let clients = lock(&self.clients);
        let (clients, _) = self
            .left
            .wait_timeout_while(clients, limit, |clients| !clients.seated.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        clients.seated.is_empty()
    }
}

/// A user's connections.
#[derive(Default)]
struct OfUser {
    /// Those that count.
    seated: usize,
    /// Those that were closed to make room.
    leaving: usize,
    /// Since when, which connection.
    idle: Vec<(u64, u64, Arc<Place>)>,
}

impl Clients {
    fn users(&self, account: impl Fn(u32) -> u32) -> HashMap<u32, OfUser> {
        let mut users: HashMap<u32, OfUser> = HashMap::new();
        for (number, place) in &self.seated {
            let user = users.entry(account(place.uid)).or_default();
            match place.state.load(Ordering::Relaxed) {
                CLOSED => user.leaving += 1,
                state => {
                    user.seated += 1;
                    if state >= IDLE {
                        user.idle.push((state, *number, Arc::clone(place)));
                    }
                }
            }
        }
        for user in users.values_mut() {
            // Those of one millisecond in the order in which they came.
            user.idle
                .sort_by_key(|(since, number, _)| (*since, *number));
        }
        users
    }
}

impl OfUser {
    /// Closes what is idle for the longest time, if anything is and not too many have yet to leave.
    fn make_room(&self) -> bool {
        let mut idle = self.idle.iter();
        self.leaving < MAX_LEAVING_OF_USER && idle.any(|(since, _, place)| place.leave(*since))
    }
}

impl Place {
    /// Closes it, unless it has begun to work meanwhile.
    fn leave(&self, since: u64) -> bool {
        let order = Ordering::Relaxed;
        let idle = self.state.compare_exchange(since, CLOSED, order, order);
        if idle.is_ok() {
            self.close();
        }
        idle.is_ok()
    }

    fn close(&self) {
        // One that the client has closed is as closed as it can be.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Seat {
    /// The connection begins to work on a request. False: it was closed to make room, and nothing may be done.
    pub(crate) fn work(&self) -> bool {
        self.change(AT_WORK)
    }

    /// The connection waits for its next request. `holding`: something ends with it, as a login does.
    pub(crate) fn rest(&self, holding: bool) {
        let state = match holding {
            true => HOLDING,
            false => self.limits.idle_now(),
        };
        self.change(state);
    }

    fn change(&self, state: u64) -> bool {
        let order = Ordering::Relaxed;
        let changed = self
            .place
            .state
            .fetch_update(order, order, |before| (before != CLOSED).then_some(state));
        changed.is_ok()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut clients = lock(&self.limits.clients);
        clients.seated.remove(&self.number);
        drop(clients);
        self.limits.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const ROOT: u32 = 0;
    const PCSCD: u32 = 101;

    /// Limits, and connections whose clients' ends are kept.
    struct Room {
        limits: Arc<Limits>,
        clients: Vec<UnixStream>,
        seats: Vec<Seat>,
    }

    impl Room {
        fn new() -> Self {
            Self {
                limits: Arc::new(Limits::new(vec![ROOT, PCSCD])),
                clients: Vec::new(),
                seats: Vec::new(),
            }
        }

        /// Whether one more of this user id has a place.
        fn enter(&mut self, uid: u32) -> bool {
            let (client, stream) = UnixStream::pair().unwrap();
            // 100,000 to 100,999 are subordinate to 1000.
            let account = |uid| if uid / 1000 == 100 { 1000 } else { uid };
            let seat = self.limits.enter(uid, Arc::new(stream), account);
            let entered = seat.is_some();
            self.seats.extend(seat);
            self.clients.extend(entered.then_some(client));
            entered
        }

        fn fill(&mut self, uid: u32, count: usize, state: impl Fn(&Seat)) {
            for _ in 0..count {
                assert!(self.enter(uid));
                state(self.seats.last().unwrap());
            }
        }

        /// Positions of the connections that were closed.
        fn closed(&mut self) -> Vec<usize> {
            let places = self.clients.iter().enumerate();
            let closed = places.filter(|(_, client)| {
                client.set_nonblocking(true).unwrap();
                let mut client: &UnixStream = client;
                matches!(client.read(&mut [0]), Ok(0))
            });
            closed.map(|(position, _)| position).collect()
        }
    }

    fn work(seat: &Seat) {
        assert!(seat.work());
    }

    fn hold(seat: &Seat) {
        seat.rest(true);
    }

    #[test]
    fn one_user_cannot_take_all_places() {
        let mut room = Room::new();
        room.fill(1000, MAX_CLIENTS_OF_USER, work);
        assert!(!room.enter(1000), "all are at work");
        assert!(room.enter(1001));
        room.seats.remove(0);
        assert!(room.enter(1000));
    }

    #[test]
    fn subordinate_ids_have_no_places_of_their_own() {
        let mut room = Room::new();
        for uid in 100_000..100_064 {
            room.fill(uid, 1, hold);
        }
        assert!(!room.enter(100_100));
        assert!(!room.enter(1000));
        assert!(room.enter(1001));
    }

    #[test]
    fn root_and_pcscd_have_places_when_all_are_taken() {
        let mut room = Room::new();
        for uid in 1000..1064 {
            room.fill(uid, 4, work);
        }
        assert!(!room.enter(2000), "all are taken, and at work");
        for uid in [ROOT, PCSCD] {
            room.fill(uid, MAX_CLIENTS_OF_USER, work);
            assert!(!room.enter(uid));
        }
        assert!(room.closed().is_empty());
    }

    #[test]
    fn longest_idle_one_of_the_user_with_most_makes_room() {
        let mut room = Room::new();
        for uid in 1000..1003 {
            room.fill(uid, 60, |_| {});
        }
        room.fill(1003, 62, work);
        // The first ones have a login or work, so the third is the longest idle.
        hold(&room.seats[60]);
        work(&room.seats[61]);
        room.fill(1001, 2, hold);
        room.fill(1004, 12, hold);
        assert_eq!(room.clients.len(), MAX_CLIENTS);
        for seat in &room.seats {
            // All within one millisecond perhaps: an order that does not depend on that.
            let place = &seat.place.state;
            if place.load(Ordering::Relaxed) >= IDLE {
                place.store(IDLE + seat.number, Ordering::Relaxed);
            }
        }
        assert!(room.enter(2000));
        // 1003 has as many, and all of them are at work.
        assert_eq!(room.closed(), [62]);
        assert!(!room.seats[62].work(), "what was on its way is not done");
        assert!(room.seats[63].work());
    }

    #[test]
    fn user_with_most_does_not_displace_others() {
        let mut room = Room::new();
        for uid in 1000..1064 {
            room.fill(uid, 4, |_| {});
        }
        assert!(!room.enter(1000), "all others have as many");
        assert!(room.closed().is_empty());
        assert!(room.enter(2000));
        assert_eq!(room.closed().len(), 1);
    }

    #[test]
    fn those_who_have_yet_to_leave_are_limited() {
        let mut room = Room::new();
        room.fill(1000, MAX_CLIENTS_OF_USER, |_| {});
        for _ in 0..MAX_LEAVING_OF_USER {
            assert!(room.enter(1000));
        }
        assert!(!room.enter(1000));
        assert_eq!(room.closed().len(), MAX_LEAVING_OF_USER);
        let gone = room
            .seats
            .iter()
            .position(|seat| seat.place.state.load(Ordering::Relaxed) == CLOSED);
        room.seats.remove(gone.unwrap());
        assert!(room.enter(1000));
    }

    #[test]
    fn all_who_have_yet_to_leave_are_limited_too() {
        let is_leaving = |seat: &Seat| seat.place.state.load(Ordering::Relaxed) == CLOSED;
        let mut room = Room::new();
        let users = u32::try_from(MAX_LEAVING / MAX_LEAVING_OF_USER).unwrap();
        for user in 1000..1000 + users {
            room.fill(user, MAX_CLIENTS_OF_USER, |_| {});
            room.fill(user, MAX_LEAVING_OF_USER, |_| {});
            room.seats.retain(is_leaving);
        }
        assert_eq!(room.seats.len(), MAX_LEAVING);
        for user in 2000..2004 {
            room.fill(user, MAX_CLIENTS_OF_USER, |_| {});
        }
        let all = room.seats.len();
        assert_eq!(all, MAX_LEAVING + MAX_CLIENTS);
        // All are idle, and nobody has others leaving; yet nobody more has to go for now.
        assert!(!room.enter(3000));
        assert!(!room.enter(2000));
        // Those who have seats kept do not wait for others.
        room.fill(ROOT, MAX_CLIENTS_OF_USER + 1, |_| {});
        room.seats.remove(0);
        assert!(room.enter(3000));
    }

    #[test]
    fn leaving_is_noticed() {
        let mut room = Room::new();
        assert!(room.limits.await_nobody(Duration::ZERO));
        assert!(room.enter(1));
        assert!(!room.limits.await_nobody(Duration::from_millis(1)));
        let other = Arc::clone(&room.limits);
        let waiter = std::thread::spawn(move || other.await_nobody(Duration::from_secs(60)));
        room.seats.clear();
        assert!(waiter.join().unwrap());
    }
}
