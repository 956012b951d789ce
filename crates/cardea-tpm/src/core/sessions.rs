//! The channel, the sessions of cards, and room for them in the TPM's slots.

#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use super::{Core, LOADED_SESSIONS, Once, Runtime};
use crate::commands::SessionKind;
use crate::error::TpmError;
use crate::grant::Purpose;
use crate::session::Session;

impl Core {
    /// The card's token is gone.
    pub(crate) fn remove(&mut self, card: u64) {
        self.drop_grants(card);
        if let Some(runtime) = self.cards.remove(&card) {
            self.flush_sessions(runtime);
        }
    }

    /// Erases everything that would allow the card another operation.
    pub(crate) fn logout(&mut self, card: u64) {
        let runtime = std::mem::take(self.runtime(card));
        self.flush_sessions(runtime);
    }

    /// Drops the one operation with an always-class key.
    pub(crate) fn disarm(&mut self, card: u64) {
        if let Some(once) = self.runtime(card).once.take() {
            self.flush(once.session.handle);
        }
    }

    /// The card's session for one operation, loaded; the caller gives it back or flushes it.
    pub(crate) fn take_once(&mut self, card: u64) -> Result<Option<Once>, TpmError> {
        let Some(mut once) = self.runtime(card).once.take() else {
            return Ok(None);
        };
        if once.is_over() {
            self.flush(once.session.handle);
            return Ok(None);
        }
        if let Some(context) = once.saved.take() {
            self.room_for_session(card);
            let loaded = self.link()?.tpm.context_load(&context);
            if loaded? != once.session.handle {
                return Err(TpmError::Protocol {
                    command: "ContextLoad",
                    what: "another session was loaded",
                });
            }
        }
        Ok(Some(once))
    }

    /// The session in which this was approved, loaded; the caller ends it. None: nobody has approved it, or
    /// too long ago.
    pub(crate) fn take_grant(
        &mut self,
        card: u64,
        purpose: Purpose,
    ) -> Result<Option<Session>, TpmError> {
        let Some(grant) = self.grants.take(card, purpose) else {
            return Ok(None);
        };
        if grant.is_over() {
            self.flush(grant.session.handle);
            return Ok(None);
        }
        self.room_for_session(card);
        let loaded = self.link()?.tpm.context_load(&grant.context);
        if loaded? != grant.session.handle {
            return Err(TpmError::Protocol {
                command: "ContextLoad",
                what: "another session was loaded",
            });
        }
        Ok(Some(grant.session))
    }

    /// Ends what authorities have approved for a card.
    pub(crate) fn drop_grants(&mut self, card: u64) {
        for handle in self.grants.take_all(card) {
            self.flush(handle);
        }
    }

    /// Takes a card's session for one operation out of the TPM's slots.
    fn park(&mut self, card: u64) {
        let Some(mut once) = self
            .cards
            .get_mut(&card)
            .and_then(|runtime| runtime.once.take())
        else {
            return;
        };
        let Some(link) = &mut self.link else { return };
        match link.tpm.context_save(once.session.handle) {
            Ok(context) => {
                once.saved = Some(context);
                self.runtime(card).once = Some(once);
            }
            Err(error) => {
                tracing::debug!(error = %error, "a session could not be saved");
                self.flush(once.session.handle);
            }
        }
    }

    /// Flushes the sessions for one operation, and those of authorities, whose time is over.
    pub(super) fn drop_old(&mut self) {
        for handle in self.grants.take_old() {
            self.flush(handle);
        }
        let over: Vec<u64> = self
            .cards
            .iter()
            .filter(|(_, runtime)| runtime.once.as_ref().is_some_and(Once::is_over))
            .map(|(card, _)| *card)
            .collect();
        for card in over {
            self.disarm(card);
        }
    }

    fn flush_sessions(&mut self, runtime: Runtime) {
        let handles = runtime.session.iter().map(|session| session.handle);
        let once = runtime.once.iter().map(|once| once.session.handle);
        let handles: Vec<u32> = handles.chain(once).collect();
        for handle in handles {
            self.flush(handle);
        }
    }

    /// Flushes what need not be there for correctness; a failure shows at the next use.
    pub(crate) fn flush(&mut self, handle: u32) {
        if let Some(link) = &mut self.link
            && let Err(error) = link.tpm.flush(handle)
        {
            tracing::debug!(error = %error, "a flush failed");
            if error.breaks_connection() {
                self.disconnect();
            }
        }
    }

    /// Makes sure that one more session can be started for this card.
    ///
    /// Cards' sessions give way before sessions for one operation do: a ticket arms another of the former.
    pub(crate) fn room_for_session(&mut self, card: u64) {
        self.drop_old();
        let channel = self
            .link
            .as_ref()
            .is_some_and(|link| link.channel.is_some());
        let owner = self
            .link
            .as_ref()
            .is_some_and(|link| link.tpm.owner.is_some());
        loop {
            let has_once =
                |runtime: &Runtime| runtime.once.as_ref().is_some_and(|o| o.saved.is_none());
            let loaded: usize = self
                .cards
                .values()
                .map(|runtime| {
                    usize::from(runtime.session.is_some()) + usize::from(has_once(runtime))
                })
                .sum();
            if usize::from(channel) + usize::from(owner) + loaded < LOADED_SESSIONS {
                return;
            }
            let others = self.cards.iter().filter(|(id, _)| **id != card);
            let oldest = |wanted: &dyn Fn(&Runtime) -> bool| {
                others
                    .clone()
                    .filter(|(_, runtime)| wanted(runtime))
                    .min_by_key(|(_, runtime)| runtime.used)
                    .map(|(id, _)| *id)
            };
            let own = self.cards.get(&card).filter(|runtime| has_once(runtime));
            let session = oldest(&|runtime| runtime.session.is_some());
            let once = oldest(&has_once).or(own.map(|_| card));
            if let Some(oldest) = session {
                let Some(runtime) = self.cards.get_mut(&oldest) else {
                    return;
                };
                runtime.armed = false;
                runtime.rearm = false;
                let session = runtime.session.take();
                session
                    .into_iter()
                    .for_each(|session| self.flush(session.handle));
            } else if let Some(oldest) = once {
                self.park(oldest);
            } else {
                return;
            }
        }
    }

    /// The channel: a salted HMAC session that carries values and authorises with them.
    pub(crate) fn channel(&mut self) -> Result<(), TpmError> {
        let link = self.link()?;
        if let Some(channel) = &mut link.channel
            && channel.doubtful
            && let Err(error) = link.tpm.prove_session(channel)
        {
            tracing::debug!(error = %error, "the channel is begun anew");
            let old = link.channel.take().map(|channel| channel.handle);
            old.into_iter().for_each(|handle| self.flush(handle));
        }
        if self.link()?.channel.is_none() {
            self.room_for_session(u64::MAX);
            let link = self.link()?;
            let srk = link.srk()?.clone();
            link.channel = Some(link.tpm.start_session(SessionKind::Hmac, Some(&srk))?);
        }
        Ok(())
    }

    /// A policy session salted to the SRK, and proven: nothing is armed or signed for a session that is only
    /// said to be ours.
    pub(crate) fn policy_session(&mut self, card: u64) -> Result<Session, TpmError> {
        self.room_for_session(card);
        let link = self.link()?;
        let srk = link.srk()?.clone();
        #[cfg(feature = "weakened")]
        if weakened::has(Weakness::UnsaltedSessions) {
            return link.tpm.start_session(SessionKind::Policy, None);
        }
        let mut session = link.tpm.start_session(SessionKind::Policy, Some(&srk))?;
        #[cfg(feature = "weakened")]
        if weakened::has(Weakness::UnprovenSessions) || weakened::has(Weakness::BirthKeyUsedAgain) {
            return Ok(session);
        }
        match link.tpm.prove_session(&mut session) {
            Ok(()) => Ok(session),
            Err(error) => {
                self.flush(session.handle);
                Err(error)
            }
        }
    }

    /// A policy session that anybody on the way could use or read: for what anybody may do.
    pub(crate) fn open_policy_session(&mut self, card: u64) -> Result<Session, TpmError> {
        self.room_for_session(card);
        self.link()?.tpm.start_session(SessionKind::Policy, None)
    }

    /// Frees every slot that we hold; tickets stay, so cards stay verified.
    pub(crate) fn make_room(&mut self) {
        self.unload_all();
        self.park_all();
        self.end_sessions();
    }

    /// Takes every session for one operation out of the TPM's slots.
    pub(super) fn park_all(&mut self) {
        let armed: Vec<u64> = self
            .cards
            .iter()
            .filter(|(_, runtime)| runtime.once.as_ref().is_some_and(|o| o.saved.is_none()))
            .map(|(card, _)| *card)
            .collect();
        for card in armed {
            self.park(card);
        }
    }

    /// Ends the sessions that can be begun anew: the channel, and those that a ticket arms.
    pub(super) fn end_sessions(&mut self) {
        let sessions: Vec<Session> = self
            .cards
            .values_mut()
            .flat_map(|runtime| {
                runtime.armed = false;
                runtime.rearm = false;
                runtime.session.take()
            })
            .chain(self.link.as_mut().and_then(|link| link.channel.take()))
            .collect();
        for session in sessions {
            self.flush(session.handle);
        }
    }
}
