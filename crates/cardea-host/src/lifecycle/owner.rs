//! The TPM's owner: work that takes its authorisation where one is set.

use std::sync::Arc;

use cardea_client::message::{Failure, FailureKind, SecretBytes};
use cardea_tpm::{Chip, Hierarchy, HierarchyAuth, TpmError};

use crate::failure::{OWNER_MISSING, SWITCHED_OFF, chain, fail, of_tpm};
use crate::host::Host;
use crate::host::credential::credential;
use crate::lifecycle::intents::finish_intents;

/// The TPM for work that takes the owner's authorisation where one is set.
pub(crate) struct Owner {
    /// With the given authorisation, if there is one.
    pub(crate) chip: Arc<dyn Chip>,
    at_hand: AtHand,
}

/// Where the authorisation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtHand {
    Credential,
    Given,
    Nothing,
}

impl Owner {
    /// The authorisation that was given, else that of the service's credential where the TPM has one, else none.
    pub(crate) fn new(host: &Host, given: Option<&SecretBytes>) -> Result<Self, Failure> {
        let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
        let set = || {
            chip.is_set(Hierarchy::Owner)
                .map_err(|error| of_tpm(&error))
        };
        let (owner, at_hand) = match given {
            Some(given) if !set()? => {
                drop(auth(given)?);
                return Err(not_set(Hierarchy::Owner));
            }
            Some(given) => (Some(auth(given)?), AtHand::Given),
            None => match credential() {
                Some(credential) if set()? => (Some(credential), AtHand::Credential),
                _ => (None, AtHand::Nothing),
            },
        };
        Ok(Self {
            chip: chip.with_owner(owner),
            at_hand,
        })
    }

    /// Refuses before anything is begun where the owner hierarchy is switched off.
    pub(crate) fn require_on(&self) -> Result<(), Failure> {
        match self.chip.is_owner_on() {
            Ok(true) => Ok(()),
            Ok(false) => Err(fail(FailureKind::SwitchedOff, SWITCHED_OFF)),
            Err(error) => Err(of_tpm(&error)),
        }
    }

    /// Like [`Self::require_on`], and fails if an authorisation is set and none is given.
    pub(crate) fn require(&self) -> Result<(), Failure> {
        self.require_on()?;
        let missing = self.at_hand == AtHand::Nothing
            && self
                .chip
                .is_set(Hierarchy::Owner)
                .map_err(|error| of_tpm(&error))?;
        if missing {
            return Err(self.failure(&TpmError::AuthMissing(Hierarchy::Owner)));
        }
        Ok(())
    }

    /// The failure for an error of its work.
    pub(crate) fn failure(&self, error: &TpmError) -> Failure {
        if !error.refuses_owner() {
            return of_tpm(error);
        }
        tracing::warn!(error = chain(error), at_hand = ?self.at_hand, "owner authorisation refused");
        let text = match self.at_hand {
            AtHand::Credential => {
                "the owner authorisation in the daemon's service credential `owner-auth` is not the TPM's; \
                 correct the credential and restart the daemon, or pass the correct one with --owner-auth-file"
            }
            AtHand::Given => {
                "the owner authorisation that was given is not the TPM's; nothing was changed and no attempt was counted: pass the correct one with --owner-auth-file or --owner-auth-fd"
            }
            AtHand::Nothing => OWNER_MISSING,
        };
        fail(FailureKind::Denied, text)
    }

    /// Ends what waited for this authorisation. The caller holds the provisioning lock.
    pub(crate) fn finish_pending(&self, host: &Host) {
        if self.at_hand == AtHand::Given {
            finish_intents(host, &self.chip);
            host.counters.catch_up(host, &self.chip);
            host.seat_cards();
        }
    }
}

pub(crate) fn auth(bytes: &SecretBytes) -> Result<HierarchyAuth, Failure> {
    HierarchyAuth::new(bytes.expose())
        .map_err(|error| fail(FailureKind::Invalid, error.to_string()))
}

pub(crate) fn not_set(which: Hierarchy) -> Failure {
    fail(
        FailureKind::Invalid,
        format!(
            "the TPM has no {which} authorisation, and the given one was not tried; omit it, or, if one \
             was set before, the TPM has probably been cleared"
        ),
    )
}
