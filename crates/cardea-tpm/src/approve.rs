//! Approval of what a card's indices are used for, by the birth key's tickets or by the policies in an index.

use crate::error::TpmError;
use crate::policy::{ApprovalId, Bound, role_ref};
use crate::session::Session;
use crate::tpm::Tpm;
use crate::trusted_record::{Anchor, Policies};

/// Binds a session, which has satisfied what an approved use asks for, to that use, and has it approved.
pub(crate) fn approve(
    tpm: &mut Tpm,
    anchor: &Anchor,
    session: &Session,
    id: ApprovalId,
) -> Result<(), TpmError> {
    let missing = || TpmError::Lost("an approval is missing".into());
    match anchor.policies() {
        Policies::Approved(approvals) => {
            let mut approvals = approvals.iter();
            let (_, digest, ticket) = approvals
                .find(|(found, ..)| *found == id)
                .ok_or_else(missing)?;
            let (_, command) = id.policy();
            tpm.policy_command_code(session, command)?;
            let policy_ref = role_ref(id.role());
            tpm.policy_authorize(session, digest, policy_ref, &anchor.birth_name, ticket)
        }
        Policies::Sealed(sealed) => {
            match sealed.branches.bound(id).ok_or_else(missing)? {
                Bound::Command(command) => tpm.policy_command_code(session, *command)?,
                Bound::CommandOn(command, index) => {
                    tpm.policy_command_code(session, *command)?;
                    tpm.policy_name_hash(session, index)?;
                }
                Bound::Whole(command) => tpm.policy_cp_hash(session, command)?,
            }
            sealed.authorize(tpm, session)
        }
    }
}
