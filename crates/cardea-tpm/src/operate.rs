//! PIN and key operations of one card.

use std::time::Instant;

use cardea_card::record::{CounterMode, IndexRole, KeyRecord, ObjectBlob};
use cardea_card::token::{KeyAlgorithm, KeyClass, KeyInfo, KeyOrigin, PinStatus, PrivateOperation};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use zeroize::Zeroizing;

use crate::approve::approve;
use crate::auth::AuthValue;
use crate::commands::Sensitive;
use crate::core::{Core, ONCE_TIME, Once};
use crate::counter_object;
use crate::error::{ResponseCode, TpmError};
use crate::hierarchy::Hierarchy;
use crate::owner::{begin_owner, end_owner};
use crate::perform::perform;
use crate::policy::{
    ApprovalId, REF_CHANGE, REF_ONCE, REF_SESSION, key_template, name_of, nv_public, nv_written,
};
use crate::rsa_key;
use crate::session::{Session, attribute};
use crate::status::{is_owner_on, is_set};
use crate::tpm::{Handle, Tpm};
use crate::trusted_record::{Anchor, CardFault, Index};
use crate::verdict::{Verdict, verdict};

/// Makes the card's storage root key the one in use: every value for the card travels to that key.
pub(crate) fn require_own_tpm(core: &mut Core, anchor: &Anchor) -> Result<(), TpmError> {
    core.use_srk(&anchor.srk_name, &anchor.srk_template)
}

/// What is compared of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Limits too, which takes reading its counters.
    Counters,
    /// Whether it is there.
    Presence,
}

/// Everything that a TPM can say against a card: nothing here spends a try. Without its administrator's or its
/// PUK's index a card is a card all the same.
pub(crate) fn check(core: &mut Core, anchor: &Anchor, depth: Depth) -> Result<(), CardFault> {
    if depth == Depth::Counters && core.resets_counts && anchor.has_open_counters() {
        return Err(CardFault::CountReset);
    }
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::SwitchedOffIsLost) {
        return compare(core, anchor, depth);
    }
    match compare(core, anchor, depth) {
        // What is in a hierarchy that is switched off looks as if it were gone.
        Err(fault) if looks_gone(&fault) && !is_owner_on(core)? => Err(CardFault::SwitchedOff),
        other => other,
    }
}

fn compare(core: &mut Core, anchor: &Anchor, depth: Depth) -> Result<(), CardFault> {
    match require_own_tpm(core, anchor) {
        Err(TpmError::Foreign) => return Err(CardFault::Foreign),
        other => other?,
    }
    let Some((handle, _)) = anchor.pin.nv() else {
        return Ok(counter_object::check(core, &anchor.pin)?);
    };
    if let Some(what) = missing(core, anchor, &anchor.pin)? {
        return Err(CardFault::Lost(format!("index 0x{handle:08X} {what}")));
    }
    // What the card's file counts is not read in the TPM.
    if depth == Depth::Presence || anchor.is_counted_in_file() {
        return Ok(());
    }
    read_limit(core, anchor, IndexRole::Pin)?;
    for index in &anchor.others {
        if missing(core, anchor, index)?.is_none() {
            read_limit(core, anchor, index.role)?;
        }
    }
    Ok(())
}

/// What became of an index that is not there as the card was made with it.
pub(crate) fn missing(
    core: &mut Core,
    anchor: &Anchor,
    index: &Index,
) -> Result<Option<&'static str>, TpmError> {
    let Some((handle, policy)) = index.nv() else {
        return Ok(None);
    };
    match core.link()?.tpm.nv_read_public(handle) {
        Err(error) if error.code() == Some(ResponseCode::HANDLE) => Ok(Some("was deleted")),
        Err(error) => Err(error),
        Ok(public) if public == nv_public(handle, nv_written(anchor.mode), policy) => Ok(None),
        Ok(_) => Ok(Some("is another one")),
    }
}

/// That the limit in an index is the recorded one, and that the card's approvals are this TPM's. Where the count is
/// hidden nobody can say.
fn read_limit(core: &mut Core, anchor: &Anchor, role: IndexRole) -> Result<(), CardFault> {
    match read_counter(core, u64::MAX, anchor, role) {
        Ok(_) | Err(TpmError::CountHidden) => Ok(()),
        Err(TpmError::Damaged(what)) => Err(CardFault::Damaged(what)),
        Err(TpmError::Response {
            command: "PolicyAuthorize",
            code,
            ..
        }) if code.base() == ResponseCode::VALUE => {
            Err(CardFault::Damaged("an approval is not of this TPM".into()))
        }
        Err(TpmError::Response {
            command: "PolicyAuthorizeNV",
            ..
        }) => Err(CardFault::Damaged("its policies are not in the TPM".into())),
        Err(error) => Err(CardFault::Tpm(error)),
    }
}

/// Whether it may be only that the hierarchy is switched off.
fn looks_gone(fault: &CardFault) -> bool {
    match fault {
        CardFault::Foreign | CardFault::Lost(_) => true,
        CardFault::Tpm(error) => {
            matches!(error, TpmError::Foreign | TpmError::Lost(_))
                || matches!(
                    error.code(),
                    Some(ResponseCode::HANDLE | ResponseCode::HIERARCHY)
                )
        }
        _ => false,
    }
}

/// Reads a counter: no try is spent. The answer has an HMAC.
///
/// # Errors
///
/// [`TpmError::CountHidden`] where only the owner may, whose authorisation is not known.
pub(crate) fn read_counter(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    role: IndexRole,
) -> Result<PinStatus, TpmError> {
    let missing = || TpmError::Lost("an index is missing".into());
    // Whatever asked for it: the TPM would give all tries back.
    if core.resets_counts && anchor.has_open_counters() {
        return Err(TpmError::CountReset);
    }
    let index = anchor.index(role).ok_or_else(missing)?;
    let (handle, _) = index.nv().ok_or_else(missing)?;
    require_own_tpm(core, anchor)?;
    let (count, limit) = match anchor.mode {
        CounterMode::NvOwner => read_as_owner(core, anchor, (index, handle))?,
        CounterMode::Nv | CounterMode::Object => {
            read_by_policy(core, card, anchor, (index, handle))?
        }
    };
    // PUK and administrator can write a limit, and so can whoever had one of their sessions.
    if limit != index.limit && !believes_counters() {
        return Err(TpmError::Damaged(format!(
            "index 0x{handle:08X} allows {limit} tries where {} were set",
            index.limit
        )));
    }
    Ok(PinStatus {
        left: limit.saturating_sub(count),
        limit,
    })
}

/// Count and limit, under the approval that asks for no secret.
fn read_by_policy(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    (index, handle): (&Index, u32),
) -> Result<(u32, u32), TpmError> {
    let id = match index.role {
        IndexRole::Pin => ApprovalId::P6,
        IndexRole::Adm => ApprovalId::A1,
        IndexRole::Puk => ApprovalId::U6,
    };
    let result = match core.open_beside()? {
        Some(mut tpm) => read_beside(core, &mut tpm, anchor, (index, handle), id),
        None => {
            core.channel()?;
            let mut session = core.open_policy_session(card)?;
            let (tpm, _, channel) = core.link()?.parts()?;
            let result = approve(tpm, anchor, &session, id)
                .and_then(|()| tpm.nv_read(handle, &index.name, &mut session, Some(channel)));
            if result.is_err() {
                core.flush(session.handle);
            }
            result
        }
    };
    match (result, anchor.sealed()) {
        // The count goes on, and nobody can ask for it any more.
        (Err(error), Some(sealed))
            if !error.breaks_connection() && !sealed.is_there(&mut core.link()?.tpm)? =>
        {
            tracing::debug!(error = %error, "the index with the card's policies is gone");
            Err(TpmError::CountHidden)
        }
        (result, _) => result,
    }
}

/// Like [`read_by_policy`], on a connection of its own behind a resource manager, where nothing else is swapped. The session is salted:
/// the answer's HMAC is the session's, and nobody but the TPM can have made it.
fn read_beside(
    core: &mut Core,
    tpm: &mut Tpm,
    anchor: &Anchor,
    (index, handle): (&Index, u32),
    id: ApprovalId,
) -> Result<(u32, u32), TpmError> {
    let mut session = core.salted_session(tpm)?;
    approve(tpm, anchor, &session, id)?;
    tpm.nv_read(handle, &index.name, &mut session, None)
}

/// Count and limit, with the owner's authorisation, which changes no count with any firmware: it is empty, or the one
/// that the card's token was given.
fn read_as_owner(
    core: &mut Core,
    anchor: &Anchor,
    (index, handle): (&Index, u32),
) -> Result<(u32, u32), TpmError> {
    let is_shown = core.link()?.tpm.owner.is_some();
    let own = match &anchor.owner {
        _ if is_shown || !is_set(core, Hierarchy::Owner)? => None,
        None => return Err(TpmError::CountHidden),
        own => own.clone(),
    };
    if let Some(value) = &own {
        begin_owner(core, value)?;
    }
    let read = core.channel().and_then(|()| {
        let (tpm, _, channel) = core.link()?.parts()?;
        tpm.nv_read_as_owner(handle, &index.name, channel)
    });
    if own.is_some() {
        end_owner(core);
    }
    read.map_err(|error| match error.refuses_owner() {
        true => TpmError::CountHidden,
        false => error,
    })
}

/// Whatever a counter says is taken for true.
fn believes_counters() -> bool {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::BelievedCounters) {
        return true;
    }
    false
}

/// Whether the TPM has counted a comparison with this index that it said it did not make; where that cannot be
/// read, it may have.
pub(crate) fn counted(core: &mut Core, card: u64, anchor: &Anchor, handle: u32) -> bool {
    let is_it = |index: &&Index| index.nv().is_some_and(|(it, _)| it == handle);
    let Some(index) = anchor.indices().find(is_it) else {
        return true;
    };
    let read = read_counter(core, card, anchor, index.role);
    // A right value leaves the count at zero, and comparing it again costs nothing.
    !matches!(read, Ok(status) if status.left == status.limit)
}

/// Compares the PIN. Success arms the card's session and keeps a ticket; with `once` it also arms one
/// operation with an always-class key.
pub(crate) fn verify_pin(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    auth: &AuthValue,
    once: bool,
) -> Result<Verdict, TpmError> {
    require_own_tpm(core, anchor)?;
    core.channel()?;
    core.disarm(card);
    counter_object::with_handle(core, &anchor.pin, |core, handle| {
        verify_at(core, card, anchor, handle, auth, once)
    })
}

fn verify_at(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    handle: u32,
    auth: &AuthValue,
    once: bool,
) -> Result<Verdict, TpmError> {
    for attempt in 0.. {
        let session = core.take_verifier(card)?;
        let (tpm, _, channel) = core.link()?.parts()?;
        let asked = tpm.policy_secret(
            handle,
            &anchor.pin.name,
            channel,
            &auth[..],
            &session,
            REF_SESSION,
            expiration(session.started, anchor.session_limit),
        );
        match asked {
            Ok((timeout, ticket)) => {
                let ticket = core.new_ticket(anchor.pin.name, timeout, ticket);
                core.verified(card, session, ticket)?;
                break;
            }
            // The PIN was right and the session too old or from before a resume: a new one, once. Nothing but
            // the count shows that it was right.
            Err(error) if error.code() == Some(ResponseCode::EXPIRED) && attempt == 0 => {
                core.flush(session.handle);
                if counted(core, card, anchor, handle) {
                    return Err(error);
                }
                core.channel()?;
            }
            Err(error) => {
                core.not_verified(card, session)?;
                return verdict(Err(error));
            }
        }
    }
    if once && let Err(error) = arm_once(core, card, anchor, handle, auth) {
        tracing::warn!(error = %error, "the PIN is verified, but no single operation is armed");
    }
    Ok(Verdict::Right)
}

fn arm_once(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    handle: u32,
    auth: &AuthValue,
) -> Result<(), TpmError> {
    let session = core.policy_session(card)?;
    let (tpm, _, channel) = core.link()?.parts()?;
    let seconds = i32::try_from(ONCE_TIME.as_secs()).unwrap_or(i32::MAX);
    let asked = tpm.policy_secret(
        handle,
        &anchor.pin.name,
        channel,
        &auth[..],
        &session,
        REF_ONCE,
        seconds,
    );
    match asked {
        Ok(_) => {
            core.runtime(card).once = Some(Once::new(session));
            Ok(())
        }
        Err(error) => {
            core.flush(session.handle);
            Err(error)
        }
    }
}

fn ensure_session(core: &mut Core, card: u64) -> Result<(), TpmError> {
    if core.runtime(card).session.is_none() {
        let session = core.policy_session(card)?;
        let runtime = core.runtime(card);
        runtime.session = Some(session);
        runtime.armed = false;
    }
    Ok(())
}

/// Negative: a ticket is asked for.
fn expiration(started: Instant, limit: u32) -> i32 {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::EndlessTickets) {
        return -i32::MAX;
    }
    -age(started, limit)
}

/// Seconds from the start of a session to the end of a time that begins now. With a nonce the time runs from the
/// start of the session, so its age is added, rounded up.
pub(crate) fn age(started: Instant, limit: u32) -> i32 {
    let age = started.elapsed().as_secs() + 1;
    i32::try_from(age + u64::from(limit)).unwrap_or(i32::MAX)
}

/// Replaces PIN or PUK by its holder. A counter object comes back in its new form, which the card's file has to have
/// before it counts.
pub(crate) fn change(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    index: &Index,
    old: &AuthValue,
    new: &AuthValue,
) -> Result<Result<Option<ObjectBlob>, Verdict>, TpmError> {
    let Some((handle, _)) = index.nv() else {
        let changed = counter_object::change(core, card, anchor, index, old, new)?;
        if changed.is_ok() {
            core.logout(card);
        }
        return Ok(changed.map(Some));
    };
    require_own_tpm(core, anchor)?;
    let id = match index.role {
        IndexRole::Puk => ApprovalId::U3,
        _ => ApprovalId::P3,
    };
    if !anchor.allows(id) {
        return Err(TpmError::Lost("an approval is missing".into()));
    }
    if let Some(sealed) = anchor.sealed()
        && !sealed.is_there(&mut core.link()?.tpm)?
    {
        // Nothing is compared that would be of no use.
        return Err(TpmError::Lost(
            "the index with the card's policies is gone".into(),
        ));
    }
    core.channel()?;
    let mut session = core.policy_session(card)?;
    let (tpm, _, channel) = core.link()?.parts()?;
    let asked = tpm.policy_secret(
        handle,
        &index.name,
        channel,
        &old[..],
        &session,
        REF_CHANGE,
        0,
    );
    let compared = match verdict(asked.map(drop)) {
        Ok(Verdict::Right) => Ok(()),
        other => {
            core.flush(session.handle);
            return other.map(Err);
        }
    };
    let changed = compared
        .and_then(|()| approve(tpm, anchor, &session, id))
        .and_then(|()| {
            tpm.nv_change_auth(handle, &index.name, &mut session, channel, new)
                .map_err(|error| TpmError::ChangeUnknown(Box::new(error)))
        });
    if changed.is_err() {
        core.flush(session.handle);
    }
    changed?;
    core.logout(card);
    Ok(Ok(None))
}

/// Makes a key below the SRK.
pub(crate) fn generate(
    core: &mut Core,
    anchor: &Anchor,
    reference: u8,
    algorithm: KeyAlgorithm,
    class: KeyClass,
) -> Result<KeyRecord, TpmError> {
    require_own_tpm(core, anchor)?;
    core.channel()?;
    core.room_for_key()?;
    let template = key_template(algorithm, KeyOrigin::Generated, anchor.policy(class));
    let (tpm, srk, channel) = core.link()?.parts()?;
    let made = match tpm.create(srk, channel, &Sensitive::default(), &template) {
        Err(error) if error.code() == Some(ResponseCode::VALUE) => {
            return Err(TpmError::Unfit("it does not know this key size".into()));
        }
        other => other?,
    };
    let key = KeyRecord {
        reference,
        object: ObjectBlob {
            private: made.private,
            public: made.public,
        },
        creation_hash: made.creation_hash,
        creation_ticket: made.creation_ticket,
        label: None,
        client_id: None,
        certificate_label: None,
        inner_wrapped: None,
        creation_data: None,
        recovery: None,
    };
    check_generated(anchor.describe(&key), algorithm, class)?;
    Ok(key)
}

/// Whether what the TPM has made is the key that was asked for, and not one that others can compute.
pub(crate) fn check_generated(
    made: Option<KeyInfo>,
    algorithm: KeyAlgorithm,
    class: KeyClass,
) -> Result<(), TpmError> {
    match made {
        Some(info) if info.algorithm == algorithm && info.class == class => {
            rsa_key::refuse_weak(&info)
        }
        #[cfg(feature = "weakened")]
        Some(_) if weakened::has(Weakness::LaxPolicy) => Ok(()),
        _ => Err(TpmError::Protocol {
            command: "Create",
            what: "not the template's key",
        }),
    }
}

/// Uses a key. `None`: there is no valid verification.
pub(crate) fn operate(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    key: &KeyRecord,
    class: KeyClass,
    size: usize,
    operation: PrivateOperation<'_>,
) -> Result<Option<Zeroizing<Vec<u8>>>, TpmError> {
    require_own_tpm(core, anchor)?;
    let branches = anchor.branches(key, class);
    let key = (key, branches.as_deref());
    match class {
        KeyClass::Session => {
            if core.uses_key_links()? {
                let done = operate_apart(core, card, key, size, operation)?;
                core.rest_others();
                // None can be opened, if they are no longer used.
                if done.is_some() || core.uses_key_links()? {
                    return Ok(done);
                }
            }
            operate_in_session(core, card, key, size, operation)
        }
        KeyClass::Always => operate_once(core, card, key, size, operation),
    }
}

/// A key, and the branches of its policy if it is recoverable: one of them is satisfied, and PolicyOR says so.
///
/// Armed is always the branch for use, which all of a card's keys have: sessions do not have to be armed again for the
/// next key.
type WithBranches<'a> = (&'a KeyRecord, Option<&'a [[u8; 32]]>);

fn operate_in_session(
    core: &mut Core,
    card: u64,
    (key, branches): WithBranches<'_>,
    size: usize,
    operation: PrivateOperation<'_>,
) -> Result<Option<Zeroizing<Vec<u8>>>, TpmError> {
    if core.runtime(card).ticket.is_none() {
        return Ok(None);
    }
    let handle = core.load(&key.object.private, &key.object.public)?;
    let name = name_of(&key.object.public);
    ensure_session(core, card)?;
    if !core.runtime(card).armed && !arm(core, card)? {
        return Ok(None);
    }
    let (link, runtime) = core.split(card)?;
    let Some(session) = &mut runtime.session else {
        return Ok(None);
    };
    let key = Handle::named(handle, &name);
    let joined = join(&mut link.tpm, session, branches);
    let result = joined.and_then(|()| {
        perform(
            &mut link.tpm,
            key,
            session,
            attribute::CONTINUE,
            size,
            operation,
        )
    });
    match result {
        Ok(answer) => {
            // Use empties a policy session; arming it again is for idle time.
            runtime.armed = false;
            runtime.rearm = true;
            Ok(Some(answer))
        }
        Err(error) => {
            let error = failure(&mut link.tpm, error);
            // Whether a failed use empties the session depends on where it failed: begin anew.
            runtime.armed = false;
            runtime.rearm = true;
            match error.code() {
                Some(ResponseCode::EXPIRED | ResponseCode::POLICY_FAIL) => {
                    core.logout(card);
                    Ok(None)
                }
                _ => {
                    if let Some(session) = runtime.session.take() {
                        core.flush(session.handle);
                    }
                    Err(error)
                }
            }
        }
    }
}

/// Behind a resource manager: with the key on a connection of its own.
fn operate_apart(
    core: &mut Core,
    card: u64,
    (key, branches): WithBranches<'_>,
    size: usize,
    operation: PrivateOperation<'_>,
) -> Result<Option<Zeroizing<Vec<u8>>>, TpmError> {
    loop {
        let Some(mut link) = core.take_key_link(card, &key.object, branches)? else {
            return Ok(None);
        };
        let armed = link.armed.take();
        let (tpm, handle, session) = link.parts();
        match perform(tpm, handle, session, attribute::CONTINUE, size, operation) {
            Ok(answer) => {
                core.used_key_link(link)?;
                return Ok(Some(answer));
            }
            // The connection ends here: whether a failed use empties the session depends on where it failed.
            Err(error) => {
                let error = failure(&mut link.tpm, error);
                match error.code() {
                    Some(ResponseCode::EXPIRED | ResponseCode::POLICY_FAIL)
                        if armed < core.ticket(card) => {}
                    Some(ResponseCode::EXPIRED | ResponseCode::POLICY_FAIL) => {
                        core.logout(card);
                        return Ok(None);
                    }
                    _ => return Err(error),
                }
            }
        }
    }
}

/// Of the branch that a session has satisfied, makes the policy of a recoverable key.
fn join(tpm: &mut Tpm, session: &Session, branches: Option<&[[u8; 32]]>) -> Result<(), TpmError> {
    match branches {
        Some(branches) => tpm.policy_or(session, branches),
        None => Ok(()),
    }
}

fn operate_once(
    core: &mut Core,
    card: u64,
    (key, branches): WithBranches<'_>,
    size: usize,
    operation: PrivateOperation<'_>,
) -> Result<Option<Zeroizing<Vec<u8>>>, TpmError> {
    // The channel comes first: no session may be begun while this one is in nobody's books.
    core.channel()?;
    let handle = core.load(&key.object.private, &key.object.public)?;
    let Some(mut once) = core.take_once(card)? else {
        return Ok(None);
    };
    let name = name_of(&key.object.public);
    let tpm = &mut core.link()?.tpm;
    let key = Handle::named(handle, &name);
    let result = join(tpm, &once.session, branches)
        .and_then(|()| perform(tpm, key, &mut once.session, 0, size, operation))
        .map_err(|error| failure(tpm, error));
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code().is_some_and(ResponseCode::out_of_slots) => {
            // Nothing was done: the same once more, when there is room.
            core.runtime(card).once = Some(once);
            Err(error)
        }
        Err(error) => {
            core.flush(once.session.handle);
            match error.code() {
                Some(ResponseCode::EXPIRED | ResponseCode::POLICY_FAIL) => Ok(None),
                _ => Err(error),
            }
        }
    }
}

/// A garbage cryptogram and failure mode give the same code; the TPM itself knows which it is.
fn failure(tpm: &mut Tpm, error: TpmError) -> TpmError {
    if error.code() == Some(ResponseCode::FAILURE) && matches!(tpm.in_failure_mode(), Ok(true)) {
        return TpmError::FailureMode;
    }
    error
}

/// Satisfies the card's session by its ticket. False: there is none, or it is no longer good.
pub(crate) fn arm(core: &mut Core, card: u64) -> Result<bool, TpmError> {
    let (link, runtime) = core.split(card)?;
    let (Some(session), Some(ticket)) = (&runtime.session, &runtime.ticket) else {
        return Ok(false);
    };
    runtime.rearm = false;
    match link.tpm.policy_ticket(
        session,
        &ticket.timeout,
        REF_SESSION,
        &ticket.pin_name,
        &ticket.ticket,
    ) {
        Ok(()) => {
            runtime.armed = true;
            Ok(true)
        }
        Err(error)
            if matches!(
                error.code(),
                Some(ResponseCode::TICKET | ResponseCode::EXPIRED)
            ) =>
        {
            core.logout(card);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_key_is_the_one_that_was_asked_for_and_not_weak() {
        let check = |modulus: &[u8], algorithm, class| {
            let made = rsa_key::tests::generated(modulus.to_vec());
            check_generated(Some(made), algorithm, class)
        };
        let weak = rsa_key::tests::weak_modulus();
        let mut other = weak.clone();
        other[255] ^= 2;
        check(&other, KeyAlgorithm::Rsa2048, KeyClass::Session).unwrap();
        let refused = check(&weak, KeyAlgorithm::Rsa2048, KeyClass::Session);
        assert!(matches!(refused, Err(TpmError::WeakRsaKey)), "{refused:?}");
        for refused in [
            check(&other, KeyAlgorithm::Rsa3072, KeyClass::Session),
            check(&other, KeyAlgorithm::Rsa2048, KeyClass::Always),
            check_generated(None, KeyAlgorithm::Rsa2048, KeyClass::Session),
        ] {
            assert!(matches!(refused, Err(TpmError::Protocol { .. })));
        }
    }
}
