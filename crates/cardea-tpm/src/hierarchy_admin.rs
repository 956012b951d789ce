//! Administration of the TPM itself: hierarchy authorisations, the lockout, indices.

use cardea_card::record::{IndexRole, TpmRecord};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::core::Core;
use crate::create::undefine_if;
use crate::error::{ResponseCode, TpmError};
use crate::hierarchy::{Hierarchy, HierarchyAuth};
use crate::intent::NV_RANGE;
use crate::operate::missing;
use crate::owner::private_session;
use crate::policy::is_of_card;
use crate::service::Service;
use crate::session::Session;
use crate::status::{is_owner_on, is_set};
use crate::trusted_record::{Anchor, CardFault};

/// What became of the policy of a hierarchy. Whoever meets a policy that was set before needs no authorisation.
#[derive(Debug)]
#[must_use]
pub enum HierarchyPolicy {
    /// There is none: the authorisation alone opens the hierarchy.
    Emptied,
    /// It is as it was before, and why.
    Left(TpmError),
}

/// When the TPM locks, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockoutParameters {
    /// Failures at which it locks.
    pub max_tries: u32,
    /// Seconds after which one failure is forgotten.
    pub recovery: u32,
    /// Seconds for which a wrong lockout authorisation shuts that authorisation itself.
    pub lockout_recovery: u32,
}

/// An NV index in the range of cards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinedIndex {
    /// Its handle.
    pub handle: u32,
    /// Its policy, if it has the form of a card's index.
    pub policy: Option<[u8; 32]>,
    /// Whether it was written.
    pub written: bool,
}

impl Service {
    /// The same service with the owner's authorisation for everything that is asked of it through this
    /// value; empty or none = the owner has none.
    #[must_use]
    pub fn with_owner(&self, owner: Option<HierarchyAuth>) -> Self {
        self.authorised(owner.filter(|owner| !owner.is_empty()))
    }

    /// Whether a hierarchy has an authorisation.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn is_set(&self, hierarchy: Hierarchy) -> Result<bool, TpmError> {
        self.run(move |core| is_set(core, hierarchy))
    }

    /// Sets the authorisation of a hierarchy, and empties its policy in the same session: one that was set before
    /// would open the hierarchy without the authorisation.
    ///
    /// # Errors
    ///
    /// [`TpmError::AuthMissing`] and [`TpmError::AuthNotSet`], where nothing was tried; [`TpmError::Response`]
    /// for a wrong old value; a wrong value for the lockout shuts it for a while. What goes wrong once the value is
    /// set is in [`HierarchyPolicy`].
    pub fn set_hierarchy_auth(
        &self,
        hierarchy: Hierarchy,
        old: &HierarchyAuth,
        new: &HierarchyAuth,
    ) -> Result<HierarchyPolicy, TpmError> {
        let (old, new) = (old.clone(), new.clone());
        self.run(move |core| {
            may_try(core, hierarchy, &old)?;
            in_session(core, |core, session| {
                core.link()?.tpm.hierarchy_change_auth(
                    hierarchy.handle(),
                    session,
                    &old.0,
                    &new.0,
                )?;
                Ok(match empty_policy(core, hierarchy, session, &new) {
                    Ok(()) => HierarchyPolicy::Emptied,
                    Err(error) => {
                        if error.breaks_connection() {
                            core.disconnect();
                        }
                        HierarchyPolicy::Left(error)
                    }
                })
            })
        })
    }

    /// Empties the policy of a hierarchy whose authorisation stays as it is.
    ///
    /// # Errors
    ///
    /// As [`set_hierarchy_auth`](Self::set_hierarchy_auth).
    pub fn empty_policy(&self, hierarchy: Hierarchy, auth: &HierarchyAuth) -> Result<(), TpmError> {
        let auth = auth.clone();
        self.run(move |core| {
            may_try(core, hierarchy, &auth)?;
            in_session(core, |core, session| {
                empty_policy(core, hierarchy, session, &auth)
            })
        })
    }

    /// Forgets all failures and ends a lockout.
    ///
    /// # Errors
    ///
    /// As [`set_hierarchy_auth`](Self::set_hierarchy_auth).
    pub fn reset_lockout(&self, auth: &HierarchyAuth) -> Result<(), TpmError> {
        let auth = auth.clone();
        self.run(move |core| {
            may_try(core, Hierarchy::Lockout, &auth)?;
            in_session(core, |core, session| {
                core.link()?.tpm.lock_reset(session, &auth.0)
            })
        })
    }

    /// Sets when the TPM locks, and for how long.
    ///
    /// # Errors
    ///
    /// As [`set_hierarchy_auth`](Self::set_hierarchy_auth).
    pub fn set_lockout_parameters(
        &self,
        auth: &HierarchyAuth,
        parameters: LockoutParameters,
    ) -> Result<(), TpmError> {
        let auth = auth.clone();
        let values = [
            parameters.max_tries,
            parameters.recovery,
            parameters.lockout_recovery,
        ];
        self.run(move |core| {
            may_try(core, Hierarchy::Lockout, &auth)?;
            in_session(core, |core, session| {
                core.link()?.tpm.lock_parameters(session, &auth.0, values)
            })
        })
    }

    /// Whether the owner hierarchy, which everything of cards is in, is switched on. Whoever has switched it off has
    /// done so until the TPM restarts.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn is_owner_on(&self) -> Result<bool, TpmError> {
        self.run(is_owner_on)
    }

    /// Administrator and PUK of a card, as far as their indices are not there as the card was made with them.
    /// Spends no try.
    ///
    /// # Errors
    ///
    /// [`CardFault::SwitchedOff`] where nothing can be said; [`CardFault`].
    pub fn lost_parts(&self, record: &TpmRecord) -> Result<Vec<IndexRole>, CardFault> {
        let anchor = Anchor::from_tpm_record(record, 0)?;
        let (lost, on) = self.run(move |core| {
            let mut lost = Vec::new();
            let has_policies = match anchor.sealed() {
                Some(sealed) => sealed.is_there(&mut core.link()?.tpm)?,
                None => true,
            };
            for index in &anchor.others {
                // Without its policies an index is compared with and allows nothing.
                if !has_policies || missing(core, &anchor, index)?.is_some() {
                    lost.push(index.role);
                }
            }
            let on = lost.is_empty() || is_owner_on(core)?;
            Ok((lost, on))
        })?;
        match on {
            true => Ok(lost),
            false => Err(CardFault::SwitchedOff),
        }
    }

    /// Every NV index in the cards' range, whoever made it.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn indices(&self) -> Result<Vec<DefinedIndex>, TpmError> {
        self.run(|core| {
            let tpm = &mut core.link()?.tpm;
            let mut indices = Vec::new();
            for handle in tpm.handles(*NV_RANGE.start())? {
                if !NV_RANGE.contains(&handle) {
                    continue;
                }
                let public = tpm.nv_read_public(handle)?;
                let policy = policy_of(handle, &public);
                indices.push(DefinedIndex {
                    handle,
                    written: public.get(6).is_some_and(|byte| byte & 0x20 != 0),
                    policy,
                });
            }
            Ok(indices)
        })
    }

    /// Undefines an index in the cards' range by its handle, whatever it is. False: it is not there.
    ///
    /// # Errors
    ///
    /// [`TpmError::Unfit`] outside the range; [`TpmError`].
    pub fn undefine_index(&self, handle: u32) -> Result<bool, TpmError> {
        if !NV_RANGE.contains(&handle) {
            return Err(TpmError::Unfit(format!(
                "0x{handle:08X} is not in the range of cards' indices"
            )));
        }
        self.run(move |core| undefine_if(core, handle, |_| true))
    }
}

/// The policy of a public area of a card's form.
fn policy_of(handle: u32, public: &[u8]) -> Option<[u8; 32]> {
    let policy: [u8; 32] = public.get(12..44)?.try_into().ok()?;
    is_of_card(handle, &policy, public).then_some(policy)
}

/// A TPM that has no such command has no such policies.
fn empty_policy(
    core: &mut Core,
    hierarchy: Hierarchy,
    session: &mut Session,
    auth: &HierarchyAuth,
) -> Result<(), TpmError> {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::OpenHierarchies) {
        return Ok(());
    }
    match core
        .link()?
        .tpm
        .empty_policy(hierarchy.handle(), session, &auth.0)
    {
        Err(error) if error.code() == Some(ResponseCode::COMMAND_CODE) => Ok(()),
        other => other,
    }
}

/// Refuses what can only be wrong. A wrong lockout authorisation, and an empty one is one, makes the TPM refuse
/// the right one too, for a day where nobody has changed that.
fn may_try(core: &mut Core, hierarchy: Hierarchy, auth: &HierarchyAuth) -> Result<(), TpmError> {
    match (is_set(core, hierarchy)?, auth.is_empty()) {
        (true, true) => Err(TpmError::AuthMissing(hierarchy)),
        (false, false) => Err(TpmError::AuthNotSet(hierarchy)),
        _ => Ok(()),
    }
}

/// Works in a salted HMAC session of its own.
fn in_session<R>(
    core: &mut Core,
    work: impl FnOnce(&mut Core, &mut Session) -> Result<R, TpmError>,
) -> Result<R, TpmError> {
    let mut session = private_session(core)?;
    let result = work(core, &mut session);
    core.flush(session.handle);
    result
}
