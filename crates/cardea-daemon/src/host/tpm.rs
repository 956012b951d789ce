//! The TPM of a host, which may be away when the daemon starts.

use std::sync::Mutex;
use std::time::Duration;

use cardea_card::token::Clock;
use cardea_tpm::{Address, Resting, Service, TpmError, TpmTime};

use crate::sync::lock;
use crate::system::BootClock;

/// The TPM, which may be away when the daemon starts.
pub(crate) struct Tpm {
    address: Address,
    service: Mutex<Option<Service>>,
    /// The TPM's time and ours, as they were first known.
    first_times: Mutex<Option<(TpmTime, Duration)>>,
}

impl Tpm {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            service: Mutex::default(),
            first_times: Mutex::default(),
        }
    }

    /// Answers a client, and then does what is due at the TPM, if nobody else waits for it.
    pub(crate) fn then_idle_work<R>(&self, answer: impl FnOnce() -> R) -> R {
        // Dropped in this order, whatever becomes of the answer.
        struct Rest<'a>(&'a Tpm);
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                let service = lock(&self.0.service).clone();
                if let Some(service) = service {
                    service.rest();
                }
            }
        }
        let _rest = Rest(self);
        let _resting = Resting::begin();
        answer()
    }

    /// The service, started at the first use that succeeds; from then on it reconnects by itself.
    pub(crate) fn service(&self) -> Result<Service, TpmError> {
        let mut service = lock(&self.service);
        if let Some(service) = &*service {
            return Ok(service.clone());
        }
        let started = Service::start(&self.address)?;
        tracing::info!(address = %self.address, "TPM reached");
        *service = Some(started.clone());
        if let Ok(time) = started.time() {
            self.clock_deviation(time);
        }
        Ok(started)
    }

    /// How much faster the TPM's clock runs than ours, in thousandths. Nobody can tell in the first two seconds.
    pub(crate) fn clock_deviation(&self, time: TpmTime) -> Option<i32> {
        let now = BootClock.now();
        let mut first = lock(&self.first_times);
        match *first {
            Some((known, then)) if known.is_of_the_same_run(time) => {
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
