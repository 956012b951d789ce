//! The owner's authorisation, and the sessions that carry authorisations of hierarchies.

use zeroize::Zeroizing;

use crate::commands::SessionKind;
use crate::core::Core;
use crate::error::TpmError;
use crate::hierarchy::HierarchyAuth;
use crate::policy::{SrkForm, srk_template};
use crate::session::Session;
use crate::srk::Parent;
use crate::tpm::Owner;

/// Shows the owner's authorisation with every command that asks for it, until [`end_owner`].
pub(crate) fn begin_owner(core: &mut Core, value: &HierarchyAuth) -> Result<(), TpmError> {
    let session = private_session(core)?;
    core.link()?.tpm.owner = Some(Owner {
        session,
        value: Zeroizing::new(value.0.clone()),
    });
    Ok(())
}

/// Erases it.
pub(crate) fn end_owner(core: &mut Core) {
    let owner = core.link().ok().and_then(|link| link.tpm.owner.take());
    if let Some(owner) = owner {
        core.flush(owner.session.handle);
    }
}

/// A session for authorisations, salted to a storage root key whose Name some card has recorded: then nobody
/// between us and the TPM has put in a key of his own. Without such a key, and there may be none at all, it is
/// salted to one of the null hierarchy made for it: nobody who only listens learns the salt.
pub(crate) fn private_session(core: &mut Core) -> Result<Session, TpmError> {
    core.unload_all();
    core.room_for_session(u64::MAX);
    let link = core.link()?;
    if let Some(recorded) = link.recorded_srk() {
        return link.tpm.start_session(SessionKind::Hmac, Some(&recorded));
    }
    let tpm = &mut link.tpm;
    let (key, public) = tpm.create_temporary(&srk_template(SrkForm::Ecc))?;
    let parent = Parent::from_public(key, &public).ok_or(TpmError::Protocol {
        command: "CreatePrimary",
        what: "not the template's key",
    });
    let session = parent.and_then(|parent| tpm.start_session(SessionKind::Hmac, Some(&parent)));
    core.flush(key);
    session
}
