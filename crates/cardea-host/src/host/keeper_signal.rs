//! What tells the keeper thread that there is work, and others that it has been done.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::sync::lock;

/// Between whoever finds work for the keeper thread and the thread.
#[derive(Debug, Default)]
pub(crate) struct KeeperSignal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_wanted: bool,
    is_stopped: bool,
    passes: u64,
}

impl KeeperSignal {
    /// Asks for another look at what waits.
    pub(crate) fn wake(&self) {
        lock(&self.state).is_wanted = true;
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        lock(&self.state).is_stopped = true;
        self.changed.notify_all();
    }

    /// Waits for work or the time of another attempt. False = stop.
    pub(crate) fn wait_for_work(&self, limit: Duration) -> bool {
        let mut state = lock(&self.state);
        state.passes += 1;
        self.changed.notify_all();
        state = self
            .changed
            .wait_timeout_while(state, limit, |state| !state.is_wanted && !state.is_stopped)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        state.is_wanted = false;
        !state.is_stopped
    }

    /// Waits until the keeper has looked at everything once, whatever came of it.
    pub(crate) fn await_first_pass(&self, limit: Duration) {
        let state = lock(&self.state);
        drop(
            self.changed
                .wait_timeout_while(state, limit, |state| state.passes == 0 && !state.is_stopped),
        );
    }
}
