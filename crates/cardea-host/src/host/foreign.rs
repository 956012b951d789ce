//! How much room there is for cards that are not this host's, which any user can bring along as many as they like.
//!
//! Each user has a limit, and all of them together; of the latter a part is kept for administrators, so that whatever
//! users do leaves room for the drive of somebody who has to look at it.

use cardea_client::message::{Failure, FailureKind};

use crate::failure::fail;
use crate::host::Host;
use crate::host::permission::Caller;

/// Cards of other hosts on the drives that one user has attached: two full drives.
pub(crate) const MAX_OF_USER: usize = 32;

/// Of all users together.
pub(crate) const MAX_IN_ALL: usize = 128;

/// Of [`MAX_IN_ALL`], what only administrators can use.
pub(crate) const KEPT_FOR_ADMINISTRATORS: usize = 32;

/// Whether there is room for one more. The caller holds the provisioning lock until it is listed.
pub(crate) fn require_room(host: &Host, caller: Caller) -> Result<(), Failure> {
    let account = host.accounts().of(caller.uid());
    let (mut own, mut all) = (0, 0);
    for card in host.cards() {
        if let Some(by) = card.brought_by() {
            all += 1;
            own += usize::from(by == account);
        }
    }
    if own >= MAX_OF_USER {
        let text = format!(
            "you have already attached {MAX_OF_USER} cards of other computers; detach a drive first"
        );
        return Err(fail(FailureKind::Busy, text));
    }
    let kept = match caller.is_administrator() {
        true => 0,
        false => KEPT_FOR_ADMINISTRATORS,
    };
    if all + kept >= MAX_IN_ALL {
        let text = "too many cards of other computers are attached to this one; try again when some are gone";
        return Err(fail(FailureKind::Busy, text));
    }
    Ok(())
}
