//! Cards on a TPM without counters of its own: PIN, PUK and administrator are objects, as those of Microsoft's virtual
//! smart cards are.
//!
//! The TPM compares, and counts failures of all objects together: its lockout. What is the card's own count is in the
//! card's file and put there before the TPM is asked. A new value makes a new object of the same Name, which is in the
//! file alone: whoever has kept an older file has the older value too, and nothing in the TPM knows better.

use cardea_card::record::{Approval, CounterMode, CounterObject, IndexRole, ObjectBlob, TpmRecord};
use cardea_card::token::TokenRecord;

use crate::auth::AuthValue;
use crate::code;
use crate::commands::Sensitive;
use crate::core::Core;
use crate::error::TpmError;
use crate::examination::{Obstacle, OptionalCommand};
use crate::policy::{ApprovalId, cc, counter_branches, counter_template, name_of};
use crate::session::Session;
use crate::status::Lockout;
use crate::tpm::Handle;
use crate::trusted_record::{Anchor, Index, Place};
use crate::verdict::{Verdict, verdict};

/// Failures that are left to others: a card is refused before the TPM would lock.
const KEPT_FAILURES: u32 = 2;

/// Whether the TPM has what such cards need.
pub(crate) fn require_commands(core: &mut Core) -> Result<(), TpmError> {
    for (command, name) in [
        (code::POLICY_TICKET, "PolicyTicket"),
        (cc::POLICY_AUTH_VALUE, "PolicyAuthValue"),
        (cc::POLICY_OR, "PolicyOR"),
        (cc::OBJECT_CHANGE_AUTH, "ObjectChangeAuth"),
    ] {
        if !core.link()?.tpm.implements(command)? {
            return Err(TpmError::Unfit(match command {
                code::POLICY_TICKET => Obstacle::Lacks(OptionalCommand::PolicyTicket).to_string(),
                _ => format!("it has no {name}"),
            }));
        }
    }
    let lockout = Lockout::read(core)?;
    if lockout.max <= KEPT_FAILURES {
        return Err(TpmError::Unfit(format!(
            "it locks itself after {} wrong PINs of all cards together; `cardea tpm provision --max-tries 32` sets another number",
            lockout.max
        )));
    }
    Ok(())
}

/// Makes the object of one role with its first value.
pub(crate) fn make(
    core: &mut Core,
    role: IndexRole,
    value: &AuthValue,
    limit: u32,
    authority: Option<(IndexRole, &[u8])>,
) -> Result<CounterObject, TpmError> {
    let template = counter_template(&counter_branches(authority));
    core.channel()?;
    core.room_for_key()?;
    let (tpm, srk, channel) = core.link()?.parts()?;
    let sensitive = Sensitive {
        auth: &value[..],
        ..Sensitive::default()
    };
    let made = tpm.create(srk, channel, &sensitive, &template)?;
    Ok(CounterObject {
        role,
        object: ObjectBlob {
            private: made.private,
            public: made.public,
        },
        limit,
        count: 0,
    })
}

/// Wrong values that the TPM can still be shown before cards with counter objects have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockoutRoom {
    /// So many now, of all such cards and other programs together.
    pub left: u32,
    /// So many while the TPM counts no failure.
    pub limit: u32,
    /// Where none is left: at most so many seconds until one is; none if that does not come by itself.
    pub wait: Option<u32>,
}

impl LockoutRoom {
    pub(crate) fn read(core: &mut Core) -> Result<Self, TpmError> {
        let lockout = Lockout::read(core)?;
        let limit = lockout.max.saturating_sub(KEPT_FAILURES);
        let left = limit.saturating_sub(lockout.count);
        Ok(Self {
            left,
            limit,
            wait: match left {
                0 => lockout.seconds_until_below(limit),
                _ => None,
            },
        })
    }
}

/// Refuses a comparison that could bring the TPM near its lockout, which would lock out every card and other programs.
pub(crate) fn keep_from_lockout(core: &mut Core) -> Result<(), TpmError> {
    match LockoutRoom::read(core)? {
        LockoutRoom { left: 0, wait, .. } => Err(TpmError::NearLockout { seconds: wait }),
        _ => Ok(()),
    }
}

/// Runs something with the handle of what compares a secret. An object is loaded for that time only: it takes a slot.
pub(crate) fn with_handle<R>(
    core: &mut Core,
    index: &Index,
    work: impl FnOnce(&mut Core, u32) -> Result<R, TpmError>,
) -> Result<R, TpmError> {
    match &index.place {
        Place::Nv { handle, .. } => work(core, *handle),
        Place::Object { blob, .. } => {
            let handle = core.load(&blob.private, &blob.public)?;
            let result = work(core, handle);
            core.unload(&blob.public);
            result
        }
    }
}

/// The value is compared, and nothing follows.
pub(crate) fn compare(
    core: &mut Core,
    card: u64,
    index: &Index,
    value: &AuthValue,
) -> Result<Verdict, TpmError> {
    with_handle(core, index, |core, handle| {
        let session = core.policy_session(card)?;
        let (tpm, _, channel) = core.link()?.parts()?;
        let asked = tpm.policy_secret(handle, &index.name, channel, &value[..], &session, b"", 0);
        core.flush(session.handle);
        verdict(asked.map(drop))
    })
}

/// The object with another value, which its present value allows.
pub(crate) fn change(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    index: &Index,
    present: &AuthValue,
    new: &AuthValue,
) -> Result<Result<ObjectBlob, Verdict>, TpmError> {
    core.use_srk(&anchor.srk_name, &anchor.srk_template)?;
    core.channel()?;
    with_handle(core, index, |core, handle| {
        let mut session = core.policy_session(card)?;
        let tpm = &mut core.link()?.tpm;
        let approved = tpm
            .policy_auth_value(&session)
            .and_then(|()| tpm.policy_command_code(&session, cc::OBJECT_CHANGE_AUTH))
            .and_then(|()| choose_branch(core, &session, index));
        let changed =
            approved.and_then(|()| replace(core, index, handle, (&mut session, &present[..]), new));
        if changed.is_err() {
            core.flush(session.handle);
        }
        match changed {
            Ok(blob) => Ok(Ok(blob)),
            Err(error) => match verdict(Err(error))? {
                // Not of an error.
                Verdict::Right => Err(TpmError::Stopped),
                refused => Ok(Err(refused)),
            },
        }
    })
}

/// The object with another value, in a session that was approved for it.
pub(crate) fn change_approved(
    core: &mut Core,
    index: &Index,
    session: &mut Session,
    new: &AuthValue,
) -> Result<ObjectBlob, TpmError> {
    with_handle(core, index, |core, handle| {
        replace(core, index, handle, (session, &[]), new)
    })
}

/// After one of the policies was fulfilled: the object asks for one of them, if there are several.
pub(crate) fn choose_branch(
    core: &mut Core,
    session: &Session,
    index: &Index,
) -> Result<(), TpmError> {
    match &index.place {
        Place::Object { branches, .. } if branches.len() > 1 => {
            core.link()?.tpm.policy_or(session, branches)
        }
        _ => Ok(()),
    }
}

fn replace(
    core: &mut Core,
    index: &Index,
    handle: u32,
    session: (&mut Session, &[u8]),
    new: &AuthValue,
) -> Result<ObjectBlob, TpmError> {
    let Place::Object { blob, .. } = &index.place else {
        return Err(TpmError::Lost("a counter object is missing".into()));
    };
    let (tpm, srk, channel) = core.link()?.parts()?;
    let object = Handle::named(handle, &index.name);
    let private = tpm.object_change_auth(object, srk, session, channel, new)?;
    Ok(ObjectBlob {
        private,
        public: blob.public.clone(),
    })
}

/// Whether an object can be loaded: it is this TPM's.
pub(crate) fn check(core: &mut Core, index: &Index) -> Result<(), TpmError> {
    with_handle(core, index, |_, _| Ok(()))
}

/// The counter of a role in a card's file.
pub(crate) fn counter(record: &TpmRecord, role: IndexRole) -> Option<&CounterObject> {
    let objects = record.counter_objects.as_deref().unwrap_or_default();
    objects.iter().find(|object| object.role == role)
}

/// The record with another counter of a role: its count, and its object if that is another.
pub(crate) fn with_counter(
    record: &TpmRecord,
    role: IndexRole,
    count: u32,
    object: Option<ObjectBlob>,
) -> TpmRecord {
    let mut record = record.clone();
    let objects = record.counter_objects.as_deref_mut().unwrap_or_default();
    if let Some(counter) = objects.iter_mut().find(|counter| counter.role == role) {
        counter.count = count;
        if let Some(object) = object {
            counter.object = object;
        }
    }
    record
}

/// The record of a card that can be used on a TPM which sets counts back: without the approvals that anybody can use,
/// and with counts in its file. None: it has no such approvals.
///
/// What the TPM has counted is not known, and cannot be read without being set back: the counts begin at 0, and the
/// TPM blocks the card sooner if others came before.
#[must_use]
pub fn without_open_approvals(record: &TpmRecord) -> Option<TpmRecord> {
    let is_open =
        |approval: &Approval| ApprovalId::parse(&approval.id).is_some_and(ApprovalId::is_open);
    if record.mode != CounterMode::Nv || !record.approvals.iter().any(is_open) {
        return None;
    }
    let mut record = record.clone();
    record.approvals.retain(|approval| !is_open(approval));
    let counts = record.indices.iter().map(|index| CounterObject {
        role: index.role,
        object: ObjectBlob {
            private: Vec::new(),
            public: Vec::new(),
        },
        limit: index.limit,
        count: 0,
    });
    record.counter_objects = Some(counts.collect());
    Some(record)
}

/// Saves a count.
pub(crate) fn save_count(
    record: &mut dyn TokenRecord,
    role: IndexRole,
    count: u32,
) -> Result<(), cardea_card::token::StoreError> {
    let changed = with_counter(record.current(), role, count, None);
    record.save(changed)
}

/// Names of the objects that are made so far decide what the PIN's allows.
pub(crate) fn make_all(
    core: &mut Core,
    values: &[(IndexRole, AuthValue, u32)],
    progress: &mut dyn FnMut(cardea_terms::Step),
) -> Result<Vec<CounterObject>, TpmError> {
    let mut made: Vec<CounterObject> = Vec::new();
    // The PIN's comes last, and stands first.
    let others = values.iter().filter(|(role, ..)| *role != IndexRole::Pin);
    let pin = values.iter().filter(|(role, ..)| *role == IndexRole::Pin);
    for (role, value, limit) in others.chain(pin) {
        progress(cardea_terms::Step::DefineCounter(*role));
        let find = |role| made.iter().find(|object| object.role == role);
        let authority = [IndexRole::Puk, IndexRole::Adm].into_iter().find_map(find);
        let authority = authority.map(|it| (it.role, name_of(&it.object.public)));
        let authority = match role {
            IndexRole::Pin => authority.as_ref().map(|(role, name)| (*role, &name[..])),
            IndexRole::Adm | IndexRole::Puk => None,
        };
        made.push(make(core, *role, value, *limit, authority)?);
    }
    made.rotate_right(1);
    Ok(made)
}
