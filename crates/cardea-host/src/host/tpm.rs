//! The TPM of a host, which may be away when the daemon starts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cardea_card::token::Clock;
use cardea_tpm::{Chip, DeferIdleWork, TpmError, TpmTime};

use crate::sync::lock;
use crate::system::BootClock;

/// Begins to use a chip.
pub type Connect = Box<dyn Fn() -> Result<Arc<dyn Chip>, TpmError> + Send + Sync>;

/// The TPM, which may be away when the daemon starts.
pub(crate) struct Tpm {
    connect: Connect,
    chip: Mutex<Option<Arc<dyn Chip>>>,
    /// The TPM's time and ours, as they were first known.
    first_times: Mutex<Option<(TpmTime, Duration)>>,
}

impl Tpm {
    pub(crate) fn new(connect: Connect) -> Self {
        Self {
            connect,
            chip: Mutex::default(),
            first_times: Mutex::default(),
        }
    }

    /// Answers a client, and then does what is due at the TPM, if nobody else waits for it.
    pub(crate) fn then_idle_work<R>(&self, answer: impl FnOnce() -> R) -> R {
        // Dropped in this order, whatever becomes of the answer.
        struct IdleWork<'a>(&'a Tpm);
        impl Drop for IdleWork<'_> {
            fn drop(&mut self) {
                let chip = lock(&self.0.chip).clone();
                if let Some(chip) = chip {
                    chip.run_idle_work();
                }
            }
        }
        let _idle_work = IdleWork(self);
        let _deferring = DeferIdleWork::begin();
        answer()
    }

    /// The chip, started at the first use that succeeds; from then on it reconnects by itself.
    pub(crate) fn chip(&self) -> Result<Arc<dyn Chip>, TpmError> {
        let mut chip = lock(&self.chip);
        if let Some(chip) = &*chip {
            return Ok(Arc::clone(chip));
        }
        let started = (self.connect)()?;
        tracing::info!(address = %started.address(), "TPM reached");
        *chip = Some(Arc::clone(&started));
        if let Ok(time) = started.time() {
            self.clock_deviation(time);
        }
        Ok(started)
    }

    /// Whether the chip makes progress, as far as it was reached.
    pub(crate) fn is_served(&self) -> bool {
        // Whoever has the lock is connecting, which has its own time limit.
        let chip = self.chip.try_lock().map(|chip| chip.clone());
        chip.ok().flatten().is_none_or(|chip| chip.is_served())
    }

    /// How much faster the TPM's clock runs than ours, in thousandths. Nobody can tell in the first two seconds.
    pub(crate) fn clock_deviation(&self, time: TpmTime) -> Option<i32> {
        let now = BootClock.now();
        let mut first = lock(&self.first_times);
        match *first {
            Some((known, then)) if known.same_boot_as(time) => {
                let ours = i64::try_from(now.saturating_sub(then).as_millis()).ok()?;
                let theirs =
                    i64::try_from(time.milliseconds.checked_sub(known.milliseconds)?).ok()?;
                let faster = theirs.saturating_sub(ours).saturating_mul(1000);
                (ours >= 2000).then(|| i32::try_from(faster / ours).unwrap_or(i32::MAX))
            }
            _ => {
                *first = Some((time, now));
                None
            }
        }
    }
}
