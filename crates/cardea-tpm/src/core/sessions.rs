//! The channel, the sessions of cards, and room for them in the TPM's slots.

#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use super::{Core, LOADED_SESSIONS, Once, Runtime, Ticket};
use crate::code;
use crate::commands::SessionKind;
use crate::error::TpmError;
use crate::grant::Purpose;
use crate::session::Session;
use crate::srk::Parent;
use crate::tpm::Tpm;

impl Core {
    /// The card's token is gone.
    pub(crate) fn remove(&mut self, card: u64) {
        self.drop_grants(card);
        if let Some(link) = &mut self.link {
            link.key_links.close_those_of_card(card);
        }
        if let Some(runtime) = self.cards.remove(&card) {
            self.flush_sessions(runtime);
        }
    }

    /// Erases everything that would allow the card another operation.
    pub(crate) fn logout(&mut self, card: u64) {
        let runtime = std::mem::take(self.runtime(card));
        self.flush_sessions(runtime);
        if let Some(link) = &mut self.link {
            link.key_links.disarm(card);
        }
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
            let verifier = self
                .link
                .as_ref()
                .is_some_and(|link| link.verifier.is_some());
            let has_once =
                |runtime: &Runtime| runtime.once.as_ref().is_some_and(|o| o.saved.is_none());
            let loaded: usize = self
                .cards
                .values()
                .map(|runtime| {
                    usize::from(runtime.session.is_some()) + usize::from(has_once(runtime))
                })
                .sum();
            let own = usize::from(channel) + usize::from(owner) + usize::from(verifier);
            if own + loaded < LOADED_SESSIONS {
                return;
            }
            if verifier {
                self.end_verifier();
                continue;
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
        let mut session = start_policy_session(&mut link.tpm, &srk)?;
        match prove(&mut link.tpm, &mut session) {
            Ok(()) => Ok(session),
            Err(error) => {
                self.flush(session.handle);
                Err(error)
            }
        }
    }

    /// A session to compare a card's PIN in, whose policy is empty or serves nothing; the caller gives it back by
    /// [`Core::verified`] or [`Core::not_verified`], or flushes it.
    pub(crate) fn take_verifier(&mut self, card: u64) -> Result<Session, TpmError> {
        if self.uses_key_links()? {
            if let Some(verifier) = self.link()?.verifier.take() {
                return Ok(verifier);
            }
            let session = self.policy_session(card)?;
            // With another policy than any key's from the beginning, it can be used again and again, by all cards:
            // a ticket does not depend on what else the session was told (TPM 2.0 Part 3 §23.2.5).
            let spoilt = self
                .link()?
                .tpm
                .policy_command_code(&session, code::GET_RANDOM);
            if spoilt.is_err() {
                self.flush(session.handle);
            }
            return spoilt.map(|()| session);
        }
        let (link, runtime) = self.split(card)?;
        if let Some(session) = &runtime.session
            && std::mem::take(&mut runtime.armed)
        {
            link.tpm.policy_restart(session)?;
        }
        match runtime.session.take() {
            Some(session) => Ok(session),
            None => self.policy_session(card),
        }
    }

    /// Before many commands that it would be swapped around; it is begun anew when a PIN is compared.
    pub(crate) fn end_verifier(&mut self) {
        if let Some(verifier) = self.link.as_mut().and_then(|link| link.verifier.take()) {
            self.flush(verifier.handle);
        }
    }

    /// The PIN is correct: this is the ticket, and the session in which it was asked for.
    pub(crate) fn verified(
        &mut self,
        card: u64,
        session: Session,
        ticket: Ticket,
    ) -> Result<(), TpmError> {
        let is_apart = self.uses_key_links()?;
        let (link, runtime) = self.split(card)?;
        runtime.ticket = Some(ticket);
        if is_apart {
            link.verifier = Some(session);
            link.key_links.expect_use(card);
        } else {
            runtime.session = Some(session);
            runtime.armed = true;
            runtime.rearm = false;
        }
        Ok(())
    }

    /// The PIN was not compared, or did not match; an earlier verification still holds.
    pub(crate) fn not_verified(&mut self, card: u64, session: Session) -> Result<(), TpmError> {
        if self.uses_key_links()? {
            self.link()?.verifier = Some(session);
        } else {
            let runtime = self.runtime(card);
            runtime.session = Some(session);
            runtime.rearm = runtime.ticket.is_some();
        }
        Ok(())
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
        if let Some(link) = &mut self.link {
            link.key_links.close_all();
        }
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
            .chain(self.link.as_mut().into_iter().flat_map(|link| {
                let channel = link.channel.take();
                channel.into_iter().chain(link.verifier.take())
            }))
            .collect();
        for session in sessions {
            self.flush(session.handle);
        }
    }
}

/// Starts a policy session salted to a storage root key, which is nobody's until it is proven.
pub(super) fn start_policy_session(tpm: &mut Tpm, srk: &Parent) -> Result<Session, TpmError> {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::UnsaltedSessions) {
        return tpm.start_session(SessionKind::Policy, None);
    }
    tpm.start_session(SessionKind::Policy, Some(srk))
}

/// Proves it.
pub(super) fn prove(tpm: &mut Tpm, session: &mut Session) -> Result<(), TpmError> {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::UnsaltedSessions)
        || weakened::has(Weakness::UnprovenSessions)
        || weakened::has(Weakness::BirthKeyUsedAgain)
    {
        return Ok(());
    }
    tpm.prove_session(session)
}
