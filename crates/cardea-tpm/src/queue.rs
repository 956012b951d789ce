//! The TPM's fair queue, and the thread that serves it.
//!
//! A TPM does one command at a time: whoever holds the [`Core`] works with it. A caller who finds nobody there
//! takes it and does its job itself, which saves two changes of thread. Else jobs wait: each lane (a card, or
//! the service itself) has its own row, and the thread takes the jobs in the order of [`Turns`], so that a busy user
//! cannot starve another.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cardea_card::secret::erase_stack;

use crate::core::Core;
use crate::error::TpmError;
use crate::promise::promise;
use crate::transport::KEY_TIME;
use crate::turns::{Lane, Length, Turns};

/// Called once, where it lies: what it holds of secrets is erased there. A `FnOnce` would be moved out of its
/// box, and the box freed with a copy.
type Job = Box<dyn FnMut(&mut Core) + Send>;

/// Work for a moment in which nobody waits; says whether it found something to do.
type Idle = Box<dyn Fn(&mut Core) -> bool + Send + Sync>;

/// Nobody has used the TPM for so long: the thread does what is due. Who serves a client does it sooner, by
/// [`Queue::run_idle_work`].
const PAUSE: Duration = Duration::from_micros(150);

/// A job that nobody has taken for so long, while nobody works with the TPM, is no longer taken.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// One job takes at most this: a command that takes longer than [`KEY_TIME`] has failed, and its job with it.
const LONGEST_JOB: Duration = KEY_TIME.saturating_mul(2);

thread_local! {
    static DEFERRED: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread leaves what is due to its own call of `run_idle_work` after it.
///
/// Else the TPM's thread is woken after each use, beside the answer on its way to the client.
#[derive(Debug)]
pub struct DeferIdleWork(PhantomData<*const ()>);

impl DeferIdleWork {
    /// From now on, in this thread.
    #[must_use]
    pub fn begin() -> Self {
        DEFERRED.set(true);
        Self(PhantomData)
    }
}

impl Drop for DeferIdleWork {
    fn drop(&mut self) {
        DEFERRED.set(false);
    }
}

/// While jobs wait, what finished ones have left on the thread's stack is erased this often.
const LONGEST_TRACE: Duration = Duration::from_millis(10);

struct State {
    /// Absent while somebody works with it.
    core: Option<Box<Core>>,
    turns: Turns<Job>,
    /// How often the core was given back, or a job was done.
    uses: u64,
    /// Whether there may be work for an idle moment.
    due: bool,
    /// Whether the thread sleeps until it is called.
    asleep: bool,
    /// Whether it wakes by itself, to look after sessions that are left alone.
    watches: bool,
    /// When sessions have been left alone for too long.
    rest_at: Option<Instant>,
    stopping: bool,
}

impl State {
    /// Somebody has worked with the core.
    fn put(&mut self, core: Box<Core>, due: bool) {
        self.rest_at = core.rest_after().map(|time| Instant::now() + time);
        self.core = Some(core);
        self.uses = self.uses.wrapping_add(1);
        self.due = due;
    }

    /// Whether the thread sleeps although sessions have to be looked after.
    fn is_unwatched(&self) -> bool {
        self.rest_at.is_some() && self.asleep && !self.watches
    }
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    idle: Idle,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs never run under the lock, so a poisoned one has whole data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the core, which nobody else has meanwhile. A panic ends the TPM's sessions and no more.
    fn work<R>(&self, core: &mut Core, job: impl FnOnce(&mut Core) -> R) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(|| job(core)));
        if result.is_err() {
            tracing::error!("a TPM job panicked; the TPM's sessions are begun anew");
            core.disconnect();
        }
        result.ok()
    }

    /// Gives the core back, and calls the thread if somebody waits or nobody looks after what is due. The job, if it
    /// was one, and when it began.
    fn give_back(&self, core: Box<Core>, due: bool, job: Option<(Lane, Length, Instant)>) {
        let mut state = self.lock();
        state.put(core, due);
        let now = Instant::now();
        if let Some((lane, length, began)) = job {
            state.turns.charge(lane, length, began, now);
        }
        let call = state.turns.has_ready(now)
            || state.is_unwatched()
            || (due && state.asleep && !DEFERRED.get());
        drop(state);
        if call {
            self.work.notify_one();
        }
    }
}

/// Sender of jobs; the last one dropped stops the thread.
pub(crate) struct Queue {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The count of uses when [`Queue::is_served`] first found that something waits, and when that was. None while
    /// nothing does.
    seen: Mutex<Option<(u64, Instant)>>,
}

impl Queue {
    /// Starts the thread. `idle` is called while no job waits.
    pub(crate) fn start(
        core: Core,
        idle: impl Fn(&mut Core) -> bool + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                core: Some(Box::new(core)),
                turns: Turns::new(),
                uses: 0,
                due: false,
                asleep: false,
                watches: false,
                rest_at: None,
                stopping: false,
            }),
            work: Condvar::new(),
            idle: Box::new(idle),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("tpm".into())
            .spawn(move || serve(&theirs))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
            seen: Mutex::default(),
        })
    }

    /// Whether jobs are being done, however slowly, or none waits: for a caller who asks again and again.
    pub(crate) fn is_served(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return false;
        }
        let state = self.shared.lock();
        let limit = match (&state.core, state.turns.has_ready(Instant::now())) {
            (Some(_), false) => None,
            (Some(_), true) => Some(LONGEST_WAIT),
            (None, _) => Some(LONGEST_JOB),
        };
        let uses = state.uses;
        drop(state);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = limit else {
            *seen = None;
            return true;
        };
        match *seen {
            Some((before, since)) if before == uses => since.elapsed() < limit,
            _ => {
                *seen = Some((uses, Instant::now()));
                true
            }
        }
    }

    /// Runs a job, at once if nobody is before it, and gives its result.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        (lane, length): (Lane, Length),
        mut job: impl FnMut(&mut Core) -> R + Send + 'static,
    ) -> Result<R, TpmError> {
        let began = Instant::now();
        let mut state = self.shared.lock();
        if state.turns.may_begin(lane, length, began)
            && !state.stopping
            && let Some(mut core) = state.core.take()
        {
            drop(state);
            // What it leaves on the stack is the caller's to erase, who has more of it there.
            let result = self.shared.work(&mut core, &mut job);
            self.shared
                .give_back(core, true, Some((lane, length, began)));
            return result.ok_or(TpmError::Stopped);
        }
        drop(state);
        let (promise, expectation) = promise();
        let job = move |core: &mut Core| {
            let waiter = promise.keep(job(core));
            core.wake().set(waiter);
        };
        self.enqueue((lane, length), Box::new(job));
        expectation.wait().ok_or(TpmError::Stopped)
    }

    /// See [`Turns::booked`].
    #[cfg(test)]
    pub(crate) fn booked(&self) -> Vec<u32> {
        self.shared.lock().turns.booked()
    }

    /// Runs a short job in turn without waiting.
    pub(crate) fn post(&self, lane: Lane, job: Job) {
        self.enqueue((lane, Length::Short), job);
    }

    fn enqueue(&self, (lane, length): (Lane, Length), job: Job) {
        let mut state = self.shared.lock();
        if state.stopping {
            return;
        }
        state.turns.push(lane, length, job, Instant::now());
        drop(state);
        self.shared.work.notify_one();
    }

    /// Does what is due in an idle moment, if this is one. The caller erases its stack.
    pub(crate) fn run_idle_work(&self) {
        let mut state = self.shared.lock();
        while state.due && !state.turns.has_ready(Instant::now()) {
            let Some(mut core) = state.core.take() else {
                return;
            };
            drop(state);
            let worked = self.shared.work(&mut core, &self.shared.idle);
            state = self.shared.lock();
            state.put(core, worked.unwrap_or(false));
        }
        if state.turns.has_ready(Instant::now()) || state.is_unwatched() {
            drop(state);
            self.shared.work.notify_one();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            // Only short jobs are left: whoever waits for a long one holds the queue.
            state.stopping = true;
        }
        self.shared.work.notify_one();
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            drop(thread.join());
        }
    }
}

/// The thread: jobs that wait, then what is due after a pause, until the queue stops and is empty.
fn serve(shared: &Shared) {
    let mut state = shared.lock();
    let mut seen = state.uses;
    loop {
        let is_ready = state.turns.has_ready(Instant::now());
        if is_ready && state.core.is_some() {
            state = serve_jobs(shared, state);
            continue;
        }
        if state.stopping && state.turns.is_empty() {
            // Whoever works with the core holds the queue, so it is here.
            return;
        }
        if state.due && state.core.is_some() && !is_ready {
            if state.uses != seen {
                seen = state.uses;
                state = shared
                    .work
                    .wait_timeout(state, PAUSE)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            }
            if let Some(mut core) = state.core.take() {
                drop(state);
                let worked = shared.work(&mut core, &shared.idle);
                erase_stack();
                shared.give_back(core, worked.unwrap_or(false), None);
                state = shared.lock();
                // Its own use is no reason to wait again.
                seen = state.uses;
            }
            continue;
        }
        let now = Instant::now();
        // Whoever works with the core says anew when it may rest.
        let rest_at = state.rest_at.filter(|_| state.core.is_some());
        if rest_at.is_some_and(|at| at <= now)
            && !is_ready
            && let Some(mut core) = state.core.take()
        {
            drop(state);
            shared.work(&mut core, Core::rest);
            erase_stack();
            shared.give_back(core, false, None);
            state = shared.lock();
            seen = state.uses;
            continue;
        }
        let rest = rest_at.map(|at| at.saturating_duration_since(now));
        // All that waits is to pause. Whoever else used the TPM may be gone before its end.
        let pause = (!state.turns.is_empty() && !is_ready)
            .then(|| state.turns.pause(now).max(PAUSE).min(LONGEST_WAIT));
        state.asleep = true;
        state.watches = rest.is_some();
        state = match rest.into_iter().chain(pause).min() {
            None => shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                let waited = shared.work.wait_timeout(state, time);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.asleep = false;
        state.watches = false;
    }
}

/// Does the jobs that wait, and keeps the core until none does.
fn serve_jobs<'a>(shared: &'a Shared, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    let Some(mut core) = state.core.take() else {
        return state;
    };
    let mut erased = Instant::now();
    let mut rested = true;
    loop {
        let began = Instant::now();
        let next = state.turns.next(began);
        let taken = next.as_ref().map(|(lane, length, _)| (*lane, *length));
        if let Some((.., mut job)) = next {
            drop(state);
            shared.work(&mut core, &mut job);
            drop(job);
            if erased.elapsed() > LONGEST_TRACE {
                erase_stack();
                erased = Instant::now();
            }
            rested = false;
        } else if rested {
            break;
        } else {
            drop(state);
            core.wake().wake();
            erase_stack();
            rested = true;
        }
        state = shared.lock();
        state.uses = state.uses.wrapping_add(1);
        if let Some((lane, length)) = taken {
            state.turns.charge(lane, length, began, Instant::now());
        }
    }
    state.put(core, true);
    state
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::tpm::CommandCount;

    /// Of one user's card.
    fn turn(card: u64) -> (Lane, Length) {
        (Lane { card, user: 1 }, Length::Short)
    }

    #[test]
    fn lanes_take_turns() {
        let core = Core::new(
            "swtpm:unix=/nonexistent".parse().unwrap(),
            CommandCount::default(),
        );
        let queue = Queue::start(core, |_| false).unwrap();
        let (gate, wait) = mpsc::channel::<()>();
        queue.post(
            turn(0).0,
            Box::new(move |_| wait.recv().unwrap_or_default()),
        );
        let (sender, receiver) = mpsc::channel();
        for (lane, name) in [
            (1, "a1"),
            (1, "a2"),
            (1, "a3"),
            (2, "b1"),
            (3, "c1"),
            (3, "c2"),
        ] {
            let sender = sender.clone();
            queue.post(turn(lane).0, Box::new(move |_| sender.send(name).unwrap()));
        }
        drop((gate, sender));
        let order: Vec<_> = receiver.iter().collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "c2", "a3"]);
    }

    #[test]
    fn who_rests_does_what_is_due_itself() {
        let core = Core::new(
            "swtpm:unix=/nonexistent".parse().unwrap(),
            CommandCount::default(),
        );
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(sender);
        let queue = Queue::start(core, move |_| {
            let name = thread::current().name().map(str::to_owned);
            sender.lock().unwrap().send(name).unwrap();
            false
        })
        .unwrap();
        queue.run(turn(1), |_| ()).unwrap();
        assert_eq!(receiver.recv().unwrap().as_deref(), Some("tpm"));
        while !queue.shared.lock().asleep {
            thread::yield_now();
        }
        let deferring = DeferIdleWork::begin();
        queue.run(turn(1), |_| ()).unwrap();
        assert!(receiver.recv_timeout(200 * PAUSE).is_err());
        drop(deferring);
        queue.run_idle_work();
        assert_eq!(
            receiver.try_recv().unwrap().as_deref(),
            thread::current().name()
        );
    }

    #[test]
    fn queue_is_served_while_it_moves() {
        let core = Core::new(
            "swtpm:unix=/nonexistent".parse().unwrap(),
            CommandCount::default(),
        );
        let queue = Queue::start(core, |_| false).unwrap();
        let back = |time| Instant::now().checked_sub(time).unwrap();
        let since = |time| {
            if let Some((_, since)) = &mut *queue.seen.lock().unwrap() {
                *since = back(time);
            }
        };
        assert!(queue.is_served(), "idle");
        let (gate, wait) = mpsc::channel::<()>();
        let (sender, receiver) = mpsc::channel();
        queue.post(
            turn(0).0,
            Box::new(move |_| {
                sender.send(()).unwrap();
                wait.recv().unwrap_or_default();
            }),
        );
        receiver.recv().unwrap();
        queue.post(turn(1).0, Box::new(|_| {}));
        assert!(queue.is_served());
        since(LONGEST_WAIT * 2);
        assert!(queue.is_served(), "a long job");
        since(LONGEST_JOB);
        assert!(!queue.is_served(), "a job that does not end");
        drop(gate);
        while !queue.shared.lock().asleep {
            thread::yield_now();
        }
        assert!(queue.is_served(), "done meanwhile");
        // However long ago that was, what comes now does not wait since then.
        since(LONGEST_JOB);
        let job: Job = Box::new(|_| {});
        let (lane, length) = turn(7);
        let now = Instant::now();
        queue.shared.lock().turns.push(lane, length, job, now);
        assert!(queue.is_served());
        since(LONGEST_WAIT);
        assert!(!queue.is_served(), "nobody takes it");
    }

    #[test]
    fn panicking_job_ends_itself_only() {
        let core = Core::new(
            "swtpm:unix=/nonexistent".parse().unwrap(),
            CommandCount::default(),
        );
        let queue = Queue::start(core, |_| false).unwrap();
        assert!(queue.run(turn(1), |_| panic!("on purpose")).is_err());
        assert_eq!(queue.run(turn(1), |_| 7).unwrap(), 7);
    }
}
