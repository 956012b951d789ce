//! Whoever waits for an order: hears of its steps, and may end it. Pings, while it lasts.

use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use cardea_dcom::tpmvsc::ErrorReport;
use cardea_terms::tpmvsc::Status;

/// What is heard of an order while it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Nobody waits for the order, and the other machine has to learn that.
    Aborting,
    /// A step has failed.
    Failed(ErrorReport),
    /// The other machine has not reported anything.
    NoReports,
    /// A step begins.
    Step(Status),
}

/// Whoever waits for an order.
#[derive(Clone)]
pub struct Watch {
    /// Becomes true when nobody waits for the order.
    pub abort: Arc<AtomicBool>,
    /// Hears of every step; `None`: the other machine is not asked to report.
    pub hear: Option<Arc<dyn Fn(Event) + Send + Sync>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    pub(crate) fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::SeqCst)
    }

    /// Does something that waits for the other end of a connection, which is closed when nobody wants it any more and
    /// the other machine does not learn that by a report: `was_heard` says whether it sends any. `ping` is called every now and then.
    pub(crate) fn over<T>(
        &self,
        connection: &TcpStream,
        was_heard: impl Fn() -> bool + Send,
        mut ping: impl FnMut() + Send,
        work: impl FnOnce() -> T,
    ) -> T {
        let (done, waits) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let watch = move || {
                let mut until = None;
                while waits.recv_timeout(SLICE) == Err(RecvTimeoutError::Timeout) {
                    ping();
                    if !self.is_aborted() {
                        continue;
                    }
                    if until.is_none()
                        && let Some(hear) = &self.hear
                    {
                        hear(Event::Aborting);
                    }
                    let patience = match was_heard() {
                        true => ROLL_BACK_TIME,
                        false => Duration::ZERO,
                    };
                    if *until.get_or_insert_with(|| Instant::now() + patience) <= Instant::now() {
                        // Fails only when it is closed already.
                        let _ = connection.shutdown(Shutdown::Both);
                        return;
                    }
                }
            };
            // Without a thread there are no pings, and whoever wants to end the order ends the program.
            let started = thread::Builder::new()
                .name("watch".to_owned())
                .spawn_scoped(scope, watch);
            let result = work();
            drop(done);
            drop(started);
            result
        })
    }
}

/// How often is looked whether somebody wants to end the order.
const SLICE: Duration = Duration::from_millis(100);

/// What a machine that reports may take to hear that nobody wants the card, and to take it away again.
const ROLL_BACK_TIME: Duration = Duration::from_secs(120);
