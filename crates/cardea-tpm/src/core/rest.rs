//! Sessions while nobody uses the TPM.
//!
//! A saved session keeps all others from being saved once so many have been saved since
//! (TPM_PT_CONTEXT_GAP_MAX, TPM 2.0 Part 1 §30.5), and what other programs save is not seen from here. Behind Linux'
//! resource manager every session of ours is saved between two commands. So sessions that can be begun anew end when the
//! TPM was left alone for a while, and those that take a PIN are loaded and saved again, which makes them young.
//!
//! How many sessions others have saved could be read from the sequence number of a context of ours, but only by saving
//! one; how many there can have been since is known from the time, because no chip is faster than [`FASTEST_SAVE`].

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::{Core, Runtime};
use crate::error::{ResponseCode, TpmError};
use crate::tpm::Tpm;

/// No other program's session is saved in less, on any TPM behind a resource manager: each save takes three commands at
/// least, and the fastest chips take a millisecond and a half for one. The rest is for the time that our thread takes.
const FASTEST_SAVE: Duration = Duration::from_micros(400);
/// Of a TPM that reports no number, or one that cannot be.
const SHORTEST: Duration = Duration::from_millis(20);
/// One that reports a larger number than any.
const LONGEST: Duration = Duration::from_secs(60);

/// How long sessions may be left alone in a TPM with this gap.
pub(super) fn idle_time(gap: u32) -> Duration {
    FASTEST_SAVE.saturating_mul(gap).clamp(SHORTEST, LONGEST)
}

impl Core {
    /// How long the TPM may be left alone before [`rest`](Self::rest) is due. None: nothing of ours is there that could
    /// harm anybody.
    pub(crate) fn rest_after(&self) -> Option<Duration> {
        let link = self.link.as_ref()?;
        let has_session = |runtime: &Runtime| runtime.session.is_some() || runtime.once.is_some();
        let has_any = link.channel.is_some()
            || link.verifier.is_some()
            || !link.key_links.is_empty()
            || !self.grants.is_empty()
            || self.cards.values().any(has_session);
        has_any.then_some(link.idle_time)
    }

    /// Nobody has used the TPM for that time: ends what can be begun anew, without a PIN, and renews the rest.
    pub(crate) fn rest(&mut self) {
        if let Some(link) = &mut self.link {
            link.key_links.close_all();
        }
        self.rest_own();
    }

    /// Behind a resource manager, a connection that is in use does not make the sessions of others young.
    pub(crate) fn rest_others(&mut self) {
        let Some(link) = &mut self.link else { return };
        let (idle_time, now) = (link.idle_time, Instant::now());
        link.key_links.close_idle(now, idle_time);
        if now.saturating_duration_since(link.tpm.last_used()) >= idle_time {
            self.rest_own();
        }
    }

    fn rest_own(&mut self) {
        self.drop_old();
        self.end_sessions();
        self.renew_saved();
        self.touch_loaded();
    }

    /// Behind a resource manager any command makes the sessions young that are loaded for it.
    fn touch_loaded(&mut self) {
        let is_loaded =
            |runtime: &Runtime| runtime.once.as_ref().is_some_and(|it| it.saved.is_none());
        if self.cards.values().any(is_loaded)
            && let Some(link) = &mut self.link
            && let Err(error) = link.tpm.get_random(1)
        {
            tracing::debug!(error = %error, "the TPM does not answer while it is idle");
            if error.breaks_connection() {
                self.disconnect();
            }
        }
    }

    /// Loads and saves each saved session. One that fails is over, unless its slot is taken for the moment.
    fn renew_saved(&mut self) {
        let Some(link) = &mut self.link else { return };
        let tpm = &mut link.tpm;
        let mut lost = Vec::new();
        let mut is_kept = |handle, context: &mut Zeroizing<Vec<u8>>| match renew(tpm, context) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(error = %error, "a saved session could not be renewed");
                let is_kept = error.code().is_some_and(ResponseCode::out_of_slots);
                if !is_kept {
                    lost.push(handle);
                }
                is_kept
            }
        };
        self.grants
            .retain(|grant| is_kept(grant.session.handle, &mut grant.context));
        for runtime in self.cards.values_mut() {
            if let Some(once) = &mut runtime.once
                && let Some(context) = &mut once.saved
                && !is_kept(once.session.handle, context)
            {
                runtime.once = None;
            }
        }
        for handle in lost {
            self.flush(handle);
        }
    }
}

fn renew(tpm: &mut Tpm, context: &mut Zeroizing<Vec<u8>>) -> Result<(), TpmError> {
    let handle = tpm.context_load(context)?;
    *context = tpm.context_save(handle)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_gap_ends_sessions_sooner() {
        assert_eq!(idle_time(255), Duration::from_millis(102));
        assert_eq!(idle_time(65_535), Duration::from_millis(26_214));
        assert_eq!(idle_time(0), SHORTEST);
        assert_eq!(idle_time(u32::MAX), LONGEST);
    }
}
