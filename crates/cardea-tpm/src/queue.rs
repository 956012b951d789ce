//! The one TPM thread and its fair queue.
//!
//! A TPM does one command at a time. Each lane (a card, or the service itself) has its own row of jobs, and
//! the thread takes one job from each lane in turn, so that a busy card cannot starve another.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use cardea_card::secret::erase_stack;

use crate::core::Core;
use crate::error::TpmError;

/// Called once, where it lies: what it holds of secrets is erased there. A `FnOnce` would be moved out of its
/// box, and the box freed with a copy.
type Job = Box<dyn FnMut(&mut Core) + Send>;

/// A row of jobs of its own.
pub(crate) type Lane = u64;

#[derive(Default)]
struct State {
    lanes: BTreeMap<Lane, VecDeque<Job>>,
    /// Lanes with jobs, the next one first.
    turns: VecDeque<Lane>,
    stopping: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs never run under the lock, so a poisoned one has whole data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sender of jobs; the last one dropped stops the thread.
pub(crate) struct Queue {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Queue {
    /// Starts the thread. `idle` is called while no job waits; it says whether it found something to do.
    pub(crate) fn start(
        mut core: Core,
        idle: impl Fn(&mut Core) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("tpm".into()).spawn(move || {
            while let Some(mut job) = next(&theirs, &mut core, &idle) {
                if catch_unwind(AssertUnwindSafe(|| job(&mut core))).is_err() {
                    tracing::error!("a TPM job panicked; the TPM's sessions are begun anew");
                    core.disconnect();
                }
                drop(job);
                erase_stack();
            }
        })?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs a job on the TPM thread, in turn, and waits for its result.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        lane: Lane,
        mut job: impl FnMut(&mut Core) -> R + Send + 'static,
    ) -> Result<R, TpmError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.post(lane, Box::new(move |core| drop(sender.send(job(core)))));
        receiver.recv().map_err(|_| TpmError::Stopped)
    }

    /// Runs a job in turn without waiting.
    pub(crate) fn post(&self, lane: Lane, job: Job) {
        let mut state = self.shared.lock();
        if state.stopping {
            return;
        }
        let row = state.lanes.entry(lane).or_default();
        row.push_back(job);
        if row.len() == 1 {
            state.turns.push_back(lane);
        }
        drop(state);
        self.shared.work.notify_one();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
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

/// The next job; none once the queue stops and is empty.
fn next(shared: &Shared, core: &mut Core, idle: &impl Fn(&mut Core) -> bool) -> Option<Job> {
    let mut state = shared.lock();
    loop {
        if let Some(lane) = state.turns.pop_front() {
            let row = state.lanes.get_mut(&lane);
            let (job, more) = row.map_or((None, false), |row| (row.pop_front(), !row.is_empty()));
            if more {
                state.turns.push_back(lane);
            } else {
                state.lanes.remove(&lane);
            }
            if job.is_some() {
                return job;
            }
            continue;
        }
        if state.stopping {
            return None;
        }
        drop(state);
        let worked = catch_unwind(AssertUnwindSafe(|| idle(core))).unwrap_or(false);
        state = shared.lock();
        if !worked && state.turns.is_empty() && !state.stopping {
            state = shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::CommandCount;

    #[test]
    fn lanes_take_turns() {
        let core = Core::new(
            "swtpm:unix=/nonexistent".parse().unwrap(),
            CommandCount::default(),
        );
        let queue = Queue::start(core, |_| false).unwrap();
        let (gate, wait) = mpsc::channel::<()>();
        queue.post(0, Box::new(move |_| wait.recv().unwrap_or_default()));
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
            queue.post(lane, Box::new(move |_| sender.send(name).unwrap()));
        }
        drop((gate, sender));
        let order: Vec<_> = receiver.iter().collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "c2", "a3"]);
    }

    #[test]
    fn panicking_job_ends_itself_only() {
        let core = Core::new(
            "swtpm:unix=/nonexistent".parse().unwrap(),
            CommandCount::default(),
        );
        let queue = Queue::start(core, |_| false).unwrap();
        assert!(queue.run(1, |_| panic!("on purpose")).is_err());
        assert_eq!(queue.run(1, |_| 7).unwrap(), 7);
    }
}
