//! Care of the TPM: its authorisations, its lockout, and whose its indices are.

use cardea_client::message::{
    self, CardState, Failure, FailureKind, IndexSummary, Reply, SecretBytes,
};
use cardea_tpm::{
    Hierarchy, HierarchyAuth, HierarchyPolicy, LockoutParameters, ResponseCode, TpmError,
};

use crate::failure::{chain, fail, of_tpm};
use crate::host::Host;
use crate::lifecycle::intents::indices as intent_indices;
use crate::lifecycle::owner::{Owner, auth, not_set};
use crate::sync::lock;

pub(crate) fn set_hierarchy_auth(
    host: &Host,
    hierarchy: message::Hierarchy,
    old: &SecretBytes,
    new: &SecretBytes,
) -> Result<Reply, Failure> {
    let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
    let (old, new) = (auth(old)?, auth(new)?);
    let which = match hierarchy {
        message::Hierarchy::Lockout => Hierarchy::Lockout,
        message::Hierarchy::Owner => Hierarchy::Owner,
    };
    let policy = chip
        .set_hierarchy_auth(which, &old, &new)
        .map_err(|error| match error {
            TpmError::AuthMissing(_) => fail(
                FailureKind::Denied,
                format!(
                    "the TPM's {which} authorisation is already set and was not given; nothing was tried: pass it with --old-{which}-auth-file"
                ),
            ),
            error => refused(which, &error),
        })?;
    tracing::info!(hierarchy = %which, "authorisation set");
    let policy = match policy {
        HierarchyPolicy::Emptied => None,
        HierarchyPolicy::Left(error) => Some(left(which, &error)),
    };
    let endorsement = HierarchyAuth::new(&[])
        .ok()
        .and_then(|empty| chip.empty_policy(Hierarchy::Endorsement, &empty).err())
        .map(|error| left(Hierarchy::Endorsement, &error));
    Ok(Reply::AuthorisationSet {
        policy,
        endorsement,
    })
}

/// Why a policy was not emptied.
fn left(which: Hierarchy, error: &TpmError) -> String {
    let reason = match error {
        TpmError::AuthMissing(_) => {
            format!(
                "the TPM's {which} authorisation was set by other software, and is needed to empty the policy"
            )
        }
        _ => chain(error),
    };
    tracing::warn!(hierarchy = %which, error = reason, "policy not emptied");
    reason
}

pub(crate) fn reset_lockout(host: &Host, given: &SecretBytes) -> Result<Reply, Failure> {
    let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
    chip.reset_lockout(&auth(given)?)
        .map_err(|error| refused(Hierarchy::Lockout, &error))?;
    tracing::info!("lockout reset");
    Ok(Reply::Done)
}

pub(crate) fn set_lockout_parameters(
    host: &Host,
    given: &SecretBytes,
    (max_tries, recovery, lockout_recovery): (u32, u32, u32),
) -> Result<Reply, Failure> {
    let parameters = LockoutParameters {
        max_tries,
        recovery,
        lockout_recovery,
    };
    let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
    if parameters.max_tries == 0 {
        return Err(fail(
            FailureKind::Invalid,
            "the number of tries must be at least 1; 0 would lock the TPM permanently",
        ));
    }
    chip.set_lockout_parameters(&auth(given)?, parameters)
        .map_err(|error| refused(Hierarchy::Lockout, &error))?;
    tracing::info!(?parameters, "lockout parameters set");
    Ok(Reply::Done)
}

/// The failure for a wrong or missing authorisation.
fn refused(which: Hierarchy, error: &TpmError) -> Failure {
    match (error, error.code(), which) {
        (TpmError::AuthNotSet(which), ..) => not_set(*which),
        (TpmError::AuthMissing(_), ..) => fail(
            FailureKind::Denied,
            "the TPM's lockout authorisation is set and was not given; nothing was tried: pass it with --lockout-auth-file or --lockout-auth-fd",
        ),
        (_, Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL), Hierarchy::Lockout) => fail(
            FailureKind::Denied,
            "wrong lockout authorisation; the TPM now refuses even the correct one, for the time that `cardea tpm status` shows",
        ),
        (_, Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL), Hierarchy::Owner) => fail(
            FailureKind::Denied,
            "wrong owner authorisation; nothing was changed and no attempt was counted: pass the present one with --old-owner-auth-file",
        ),
        (_, Some(ResponseCode::LOCKOUT), Hierarchy::Lockout) => fail(
            FailureKind::Lockout,
            "the TPM refuses the lockout authorisation after a wrong one; wait for the time that \
             `cardea tpm status` shows, or restart the machine if that is 0",
        ),
        _ => of_tpm(error),
    }
}

/// Every index in the cards' range, and whose it is.
pub(crate) fn indices(host: &Host) -> Result<Vec<IndexSummary>, Failure> {
    let chip = host.tpm.chip().map_err(|error| of_tpm(&error))?;
    let defined = chip.indices().map_err(|error| of_tpm(&error))?;
    let cards = host.cards();
    let intents = lock(&host.intents).clone();
    let summary = |index: &cardea_tpm::DefinedIndex| {
        let claimant = cards.iter().find(|card| card.claims(index.handle));
        IndexSummary {
            handle: index.handle,
            written: index.written,
            card: claimant.map(|card| card.selector()),
            name: claimant.map(|card| card.name()),
            role: claimant.and_then(|card| card.role_of(index.handle)),
            card_form: index.policy.is_some(),
            unfinished: intents
                .iter()
                .flat_map(intent_indices)
                .any(|named| named.handle == index.handle),
        }
    };
    Ok(defined.iter().map(summary).collect())
}

/// Whether one more card has room in the TPM.
pub(crate) fn try_room(host: &Host) -> Result<Reply, Failure> {
    let _guard = host.provision(&mut |_| {});
    let owner = Owner::new(host, None)?;
    owner.require()?;
    // Whoever asks for room wants to know what cards this TPM can have, too.
    host.counters.examine(host, &owner.chip);
    let tried = owner.chip.room_for_card(&host.claimed_handles());
    tried.map_err(|error| owner.failure(&error))?;
    Ok(Reply::Done)
}

/// Removes an index that nobody here claims. It may be that of a card on a drive that is away: the caller has
/// named it.
pub(crate) fn remove_index(
    host: &Host,
    handle: u32,
    owner_auth: Option<&SecretBytes>,
) -> Result<Reply, Failure> {
    let _guard = host.provision(&mut |_| {});
    let owner = Owner::new(host, owner_auth)?;
    owner.require()?;
    owner.finish_pending(host);
    let listed = indices(host)?;
    let name = format!("0x{handle:08X}");
    let Some(index) = listed.iter().find(|index| index.handle == handle) else {
        return Err(fail(
            FailureKind::NotFound,
            format!("there is no index {name}; `cardea tpm indices` lists them"),
        ));
    };
    if let Some(card) = &index.card {
        return Err(fail(
            FailureKind::Denied,
            format!(
                "{name} belongs to card {card}; `cardea card destroy` removes it with its card, which cannot be \
                 undone"
            ),
        ));
    }
    if index.unfinished {
        return Err(fail(
            FailureKind::Denied,
            format!(
                "{name} belongs to an unfinished operation, which the daemon finishes by itself"
            ),
        ));
    }
    // Such a file does not tell which indices are its card's; a newer version may read it.
    if let Some(card) = host
        .cards()
        .iter()
        .find(|card| card.view().state == CardState::Unreadable && card.handles.is_empty())
    {
        return Err(fail(
            FailureKind::Denied,
            format!(
                "{name} may belong to card {}, whose file cannot be read; restore that file from a backup, or install the version that wrote it; only if that fails remove the card with `cardea card destroy`, which cannot be undone",
                card.selector()
            ),
        ));
    }
    owner
        .chip
        .undefine_index(handle)
        .map_err(|error| owner.failure(&error))?;
    tracing::warn!(handle = name, "unknown index removed");
    Ok(Reply::Done)
}
