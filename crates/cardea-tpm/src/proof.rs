//! Proofs of PUK and admin value: approved sessions that let the PIN or the admin value be replaced for a minute.

use std::time::Instant;

use cardea_card::record::{IndexRole, ObjectBlob, Provisional};
use cardea_card::secret::Held;
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::approve;
use crate::auth::AuthValue;
use crate::core::Core;
use crate::counter_object;
use crate::error::TpmError;
use crate::grant::{ApprovedSession, LIFE, Purpose};
use crate::operate::{self, age, require_own_tpm};
use crate::policy::{ApprovalId, cc, first_content, name_of};
use crate::random::random;
use crate::session::Session;
use crate::tpm::Handle;
use crate::trusted_record::{Anchor, Index};
use crate::verdict::{Verdict, verdict};

/// An authority whose value the TPM has found right less than a minute ago. What it approved is with the
/// [`Core`], for one use each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    since: Instant,
}

impl Proof {
    /// By a comparison that has begun at this time.
    pub(crate) fn new(since: Instant) -> Self {
        Self { since }
    }

    /// Whether it is worth showing to the TPM, which decides.
    pub(crate) fn is_fresh(self) -> bool {
        self.since.elapsed().as_secs() < u64::from(LIFE)
    }
}

/// Compares a value with an index's, and keeps an approved session for each purpose. The TPM counts a wrong
/// value once.
fn prove(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    index: &Index,
    value: &AuthValue,
    purposes: &[Purpose],
) -> Result<Result<Proof, Verdict>, TpmError> {
    require_own_tpm(core, anchor)?;
    core.channel()?;
    let proof = Proof::new(Instant::now());
    if purposes.is_empty() {
        if !anchor.has_objects() {
            // Nothing would be compared.
            return Err(TpmError::Lost("an approval is missing".into()));
        }
        return Ok(match counter_object::compare(core, card, index, value)? {
            Verdict::Right => Ok(proof),
            refused => Err(refused),
        });
    }
    for purpose in purposes {
        let result = grant(core, card, anchor, index, value, *purpose);
        if !matches!(result, Ok(Verdict::Right)) {
            core.drop_grants(card);
        }
        match result? {
            Verdict::Right => {}
            refused => return Ok(Err(refused)),
        }
    }
    Ok(Ok(proof))
}

/// A session of its own in which the value is compared and one command approved, and which is put aside.
fn grant(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    index: &Index,
    value: &AuthValue,
    purpose: Purpose,
) -> Result<Verdict, TpmError> {
    let session = core.policy_session(card)?;
    let result = counter_object::with_handle(core, index, |core, handle| {
        approve(core, anchor, (index, handle), value, &session, purpose)
    });
    let saved = match result {
        Ok(Verdict::Right) => core.link()?.tpm.context_save(session.handle),
        other => {
            core.flush(session.handle);
            return other;
        }
    };
    match saved {
        Ok(context) => {
            core.grants
                .add(card, ApprovedSession::new(purpose, session, context));
            Ok(Verdict::Right)
        }
        Err(error) => {
            core.flush(session.handle);
            Err(error)
        }
    }
}

fn approve(
    core: &mut Core,
    anchor: &Anchor,
    (index, handle): (&Index, u32),
    value: &AuthValue,
    session: &Session,
    purpose: Purpose,
) -> Result<Verdict, TpmError> {
    let Some((_, policy_ref)) = purpose.secret() else {
        return Err(TpmError::Lost("an approval is missing".into()));
    };
    let (tpm, _, channel) = core.link()?.parts()?;
    let asked = tpm.policy_secret(
        handle,
        &index.name,
        channel,
        &value[..],
        session,
        policy_ref,
        expiration(session),
    );
    match verdict(asked.map(drop))? {
        Verdict::Right => {}
        refused => return Ok(refused),
    }
    if let (Purpose::Approved(_), true) = (purpose, anchor.has_objects()) {
        tpm.policy_command_code(session, cc::OBJECT_CHANGE_AUTH)?;
        counter_object::choose_branch(core, session, &anchor.pin)?;
        return Ok(Verdict::Right);
    }
    match purpose {
        Purpose::Approved(id) => approve::approve(tpm, anchor, session, id)?,
        Purpose::Unseal => tpm.policy_command_code(session, cc::UNSEAL)?,
    }
    Ok(Verdict::Right)
}

/// Not negative: no ticket is asked for, and the TPM itself ends the session's approval.
fn expiration(session: &Session) -> i32 {
    let seconds = age(session.started, LIFE);
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::ProofTickets) {
        return -seconds;
    }
    seconds
}

/// The PUK's proof, for a new PIN and its tries.
pub(crate) fn prove_puk(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    value: &AuthValue,
) -> Result<Result<Proof, Verdict>, TpmError> {
    let index = anchor
        .index(IndexRole::Puk)
        .ok_or_else(|| TpmError::Lost("the card has no PUK".into()))?;
    let purposes = present(anchor, &[ApprovalId::P5, ApprovalId::P4]);
    prove(core, card, anchor, index, value, &purposes)
}

/// What an administrator may want within the next minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminWork {
    /// A new admin value, which follows every answer; afterwards a new admin key or a new PIN.
    Answer,
    /// The same, and the sealed admin key first.
    MutualAnswer,
    /// One new admin value.
    Replacement,
}

/// The administrator's proof.
pub(crate) fn prove_admin(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    value: &AuthValue,
    work: AdminWork,
) -> Result<Result<Proof, Verdict>, TpmError> {
    use ApprovalId::{A0, P1, P2};
    let index = anchor
        .index(IndexRole::Adm)
        .ok_or_else(|| TpmError::Lost("the card has no administrator".into()))?;
    let mut purposes = match work {
        // An object's value is replaced by whoever knows it, without an approval.
        AdminWork::Replacement if anchor.has_objects() => Vec::new(),
        AdminWork::Replacement => present(anchor, &[A0]),
        AdminWork::Answer | AdminWork::MutualAnswer => present(anchor, &[A0, A0, P2, P1]),
    };
    if work == AdminWork::MutualAnswer {
        purposes.push(Purpose::Unseal);
    }
    prove(core, card, anchor, index, value, &purposes)
}

/// Those of the policies that the card has. Of an object no more than its value is replaced; its tries are in the file.
fn present(anchor: &Anchor, ids: &[ApprovalId]) -> Vec<Purpose> {
    let in_objects = [ApprovalId::P2, ApprovalId::P5];
    ids.iter()
        .filter(|id| anchor.allows(**id) && (!anchor.has_objects() || in_objects.contains(id)))
        .map(|id| Purpose::Approved(*id))
        .collect()
}

/// The session in which this was approved; [`TpmError::NotApproved`] when it was not, or too long ago.
fn approved_session(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    purpose: Purpose,
) -> Result<Session, TpmError> {
    require_own_tpm(core, anchor)?;
    // The channel comes first: no session may be begun while this one is in nobody's books.
    core.channel()?;
    core.take_grant(card, purpose)?.ok_or(TpmError::NotApproved)
}

/// Gives what compares a secret a new value, under an approved policy. A counter object comes back in its new form,
/// which the card's file has to have before it counts.
///
/// # Errors
///
/// [`TpmError::ChangeUnknown`] when the TPM was asked for it and did not say that it is done.
pub(crate) fn replace_value(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    id: ApprovalId,
    new: &AuthValue,
) -> Result<Option<ObjectBlob>, TpmError> {
    let index = anchor
        .index(id.role())
        .ok_or_else(|| TpmError::Lost("an index is missing".into()))?;
    let mut session = approved_session(core, card, anchor, Purpose::Approved(id))?;
    let Some((handle, _)) = index.nv() else {
        let changed = counter_object::change_approved(core, index, &mut session, new);
        if changed.is_err() {
            core.flush(session.handle);
        }
        return changed.map(Some);
    };
    let (tpm, _, channel) = core.link()?.parts()?;
    let changed = tpm.nv_change_auth(handle, &index.name, &mut session, channel, new);
    changed.map(|()| None).map_err(|error| {
        core.flush(session.handle);
        TpmError::ChangeUnknown(Box::new(error))
    })
}

/// A new PIN, then its tries: in this order, an interruption leaves the card blocked with the new PIN,
/// never open with the old one.
pub(crate) fn unblock(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    by: IndexRole,
    new: &AuthValue,
) -> Result<Option<ObjectBlob>, TpmError> {
    let (value, tries) = match by {
        IndexRole::Puk => (ApprovalId::P5, ApprovalId::P4),
        IndexRole::Adm | IndexRole::Pin => (ApprovalId::P2, ApprovalId::P1),
    };
    let object = replace_value(core, card, anchor, value, new)?;
    core.logout(card);
    let Some((pin, _)) = anchor.pin.nv() else {
        return Ok(object);
    };
    // The new value holds; whoever is told no more than of a failure would go on with the old one.
    give_tries(core, card, anchor, pin, tries).map_err(|error| match error {
        TpmError::ChangeUnknown(_) => error,
        error => TpmError::ChangeUnknown(Box::new(error)),
    })?;
    Ok(None)
}

fn give_tries(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    pin: u32,
    tries: ApprovalId,
) -> Result<(), TpmError> {
    let mut session = approved_session(core, card, anchor, Purpose::Approved(tries))?;
    let data = first_content(anchor.pin.limit);
    let tpm = &mut core.link()?.tpm;
    let written = tpm.nv_write(pin, &anchor.pin.name, &mut session, 0, &data);
    if written.is_err() {
        core.flush(session.handle);
    }
    written
}

/// Unseals K ⊕ m.
pub(crate) fn unseal(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    key: &ObjectBlob,
) -> Result<Held<24>, TpmError> {
    require_own_tpm(core, anchor)?;
    let handle = core.load(&key.private, &key.public)?;
    let result = approved_session(core, card, anchor, Purpose::Unseal)
        .and_then(|session| unseal_loaded(core, handle, &name_of(&key.public), session));
    core.unload(&key.public);
    result
}

fn unseal_loaded(
    core: &mut Core,
    handle: u32,
    name: &[u8; 34],
    mut session: Session,
) -> Result<Held<24>, TpmError> {
    let unsealed = core
        .link()?
        .tpm
        .unseal(Handle::named(handle, name), &mut session);
    if unsealed.is_err() {
        core.flush(session.handle);
    }
    let response = unsealed?;
    let mut reader = response.reader();
    let content = reader.sized()?;
    let key = <&[u8; 24]>::try_from(content).map_err(|_| TpmError::Protocol {
        command: "Unseal",
        what: "not an admin key",
    })?;
    Ok(Held::copy_of(key))
}

/// Replaces the random first value of PIN or PUK.
///
/// The index's own first value is tried last: where another authority can set the PIN, a PIN that was set
/// already costs no try.
pub(crate) fn initialise(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    role: IndexRole,
    provisional: &Provisional,
    new: Option<&AuthValue>,
) -> Result<Option<ObjectBlob>, TpmError> {
    use ApprovalId::{P1, P2, P4, P5};
    let mut random_value = AuthValue::zeroed();
    random(&mut *random_value);
    let target = new.unwrap_or(&random_value);
    let has_puk = anchor.index(IndexRole::Puk).is_some();
    let adm = provisional.adm.filter(|_| !has_puk);
    let others = [
        (IndexRole::Adm, adm, [P2, P1]),
        (IndexRole::Puk, provisional.puk, [P5, P4]),
    ];
    if role == IndexRole::Pin && new.is_some() {
        for (authority, first, approvals) in others {
            let (Some(first), Some(index)) = (first, anchor.index(authority)) else {
                continue;
            };
            let first = AuthValue::copy_of(&first);
            let purposes = present(anchor, &approvals);
            if prove(core, card, anchor, index, &first, &purposes)?.is_ok() {
                let done = unblock(core, card, anchor, authority, target);
                core.drop_grants(card);
                return done;
            }
        }
    }
    let first = match role {
        IndexRole::Puk => provisional.puk,
        IndexRole::Adm | IndexRole::Pin => provisional.pin,
    };
    let (Some(first), Some(index)) = (
        first.map(|first| AuthValue::copy_of(&first)),
        anchor.index(role),
    ) else {
        return Err(TpmError::FirstValueGone);
    };
    operate::change(core, card, anchor, index, &first, target)?
        .map_err(|_| TpmError::FirstValueGone)
}
