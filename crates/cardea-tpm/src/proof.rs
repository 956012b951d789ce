//! Proofs of PUK and admin value: tickets that let the PIN or the admin value be replaced for a minute.

use std::time::{Duration, Instant};

use cardea_card::record::{IndexRole, ObjectBlob, Provisional};
use cardea_card::secret::Held;
use zeroize::Zeroizing;

use crate::anchor::{Anchor, Index};
use crate::auth::AuthValue;
use crate::core::Core;
use crate::error::TpmError;
use crate::operate::{Verdict, expiration, require_own_tpm, verdict};
use crate::policy::{ApprovalId, REF_ADMIN, REF_ADMIN_KEY, REF_PUK, cc, name_of, role_ref};
use crate::session::Session;
use crate::tpm::{Handle, random};

/// Seconds that a proof is good for.
const LIFE: u32 = 60;

/// What a PolicySecret of less than a minute ago has shown, for one policyRef.
#[derive(Clone)]
pub(crate) struct Proof {
    name: [u8; 34],
    policy_ref: &'static [u8],
    timeout: Vec<u8>,
    ticket: Zeroizing<Vec<u8>>,
    until: Instant,
}

impl Proof {
    /// Whether it is worth showing to the TPM, which decides.
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

/// What the administrator's value has shown: for the PIN and the sealed key, and for a new admin value.
#[derive(Clone)]
pub(crate) struct AdminProof {
    pub(crate) admin: Proof,
    pub(crate) admin_key: Proof,
}

/// Compares a value with an index's, and keeps a ticket for each policyRef. The TPM counts a wrong value
/// once.
pub(crate) fn prove(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    index: &Index,
    value: &AuthValue,
    policy_refs: &[&'static [u8]],
) -> Result<Result<Vec<Proof>, Verdict>, TpmError> {
    require_own_tpm(core, anchor)?;
    core.channel()?;
    let session = core.policy_session(card)?;
    let result = tickets(core, index, value, &session, policy_refs);
    core.flush(session.handle);
    result
}

fn tickets(
    core: &mut Core,
    index: &Index,
    value: &AuthValue,
    session: &Session,
    policy_refs: &[&'static [u8]],
) -> Result<Result<Vec<Proof>, Verdict>, TpmError> {
    let mut proofs = Vec::new();
    for policy_ref in policy_refs {
        let until = Instant::now() + Duration::from_secs(LIFE.into());
        let (tpm, _, channel) = core.link()?.parts()?;
        let asked = tpm.policy_secret(
            index.handle,
            &index.name,
            channel,
            &value[..],
            session,
            policy_ref,
            expiration(session.started, LIFE),
        );
        match asked {
            Ok((timeout, ticket)) => proofs.push(Proof {
                name: index.name,
                policy_ref,
                timeout,
                ticket,
                until,
            }),
            Err(error) => match verdict(Err(error))? {
                // A comparison that failed is never right.
                Verdict::Right => break,
                other => return Ok(Err(other)),
            },
        }
    }
    Ok(Ok(proofs))
}

/// The PUK's proof.
pub(crate) fn prove_puk(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    value: &AuthValue,
) -> Result<Result<Proof, Verdict>, TpmError> {
    let index = anchor
        .index(IndexRole::Puk)
        .ok_or_else(|| TpmError::Lost("the card has no PUK".into()))?;
    let proved = prove(core, card, anchor, index, value, &[REF_PUK])?;
    one(proved)
}

/// The administrator's proof.
pub(crate) fn prove_admin(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    value: &AuthValue,
) -> Result<Result<AdminProof, Verdict>, TpmError> {
    let index = anchor
        .index(IndexRole::Adm)
        .ok_or_else(|| TpmError::Lost("the card has no administrator".into()))?;
    let refs = &[REF_ADMIN, REF_ADMIN_KEY];
    match prove(core, card, anchor, index, value, refs)? {
        Err(verdict) => Ok(Err(verdict)),
        Ok(proofs) => match <[Proof; 2]>::try_from(proofs) {
            Ok([admin, admin_key]) => Ok(Ok(AdminProof { admin, admin_key })),
            Err(_) => Err(no_ticket()),
        },
    }
}

fn one(proved: Result<Vec<Proof>, Verdict>) -> Result<Result<Proof, Verdict>, TpmError> {
    match proved {
        Err(verdict) => Ok(Err(verdict)),
        Ok(proofs) => match proofs.into_iter().next() {
            Some(proof) => Ok(Ok(proof)),
            None => Err(no_ticket()),
        },
    }
}

fn no_ticket() -> TpmError {
    TpmError::Protocol {
        command: "PolicySecret",
        what: "no ticket was given",
    }
}

/// A policy session in which an approved policy is satisfied by a proof.
fn approved_session(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    proof: &Proof,
    id: ApprovalId,
) -> Result<Session, TpmError> {
    let (digest, approval) = anchor
        .approval(id)
        .ok_or_else(|| TpmError::Lost("an approval is missing".into()))?;
    let session = core.policy_session(card)?;
    let tpm = &mut core.link()?.tpm;
    let (_, command) = id.policy();
    let satisfied = tpm
        .policy_ticket(
            &session,
            &proof.timeout,
            proof.policy_ref,
            &proof.name,
            &proof.ticket,
        )
        .and_then(|()| tpm.policy_command_code(&session, command))
        .and_then(|()| {
            tpm.policy_authorize(
                &session,
                digest,
                role_ref(id.role()),
                &anchor.birth_name,
                approval,
            )
        });
    match satisfied {
        Ok(()) => Ok(session),
        Err(error) => {
            core.flush(session.handle);
            Err(error)
        }
    }
}

/// Gives an index a new value under an approved policy for NV_ChangeAuth.
pub(crate) fn replace_value(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    proof: &Proof,
    id: ApprovalId,
    new: &AuthValue,
) -> Result<(), TpmError> {
    require_own_tpm(core, anchor)?;
    core.channel()?;
    let index = anchor
        .index(id.role())
        .ok_or_else(|| TpmError::Lost("an index is missing".into()))?;
    let mut session = approved_session(core, card, anchor, proof, id)?;
    let (tpm, _, channel) = core.link()?.parts()?;
    let changed = tpm.nv_change_auth(index.handle, &index.name, &mut session, channel, new);
    if changed.is_err() {
        core.flush(session.handle);
    }
    changed
}

/// A new PIN, then its tries: in this order, an interruption leaves the card blocked with the new PIN,
/// never open with the old one.
pub(crate) fn unblock(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    proof: &Proof,
    by: IndexRole,
    new: &AuthValue,
) -> Result<(), TpmError> {
    let (value, tries) = match by {
        IndexRole::Puk => (ApprovalId::P5, ApprovalId::P4),
        IndexRole::Adm | IndexRole::Pin => (ApprovalId::P2, ApprovalId::P1),
    };
    replace_value(core, card, anchor, proof, value, new)?;
    core.logout(card);
    let mut session = approved_session(core, card, anchor, proof, tries)?;
    let mut data = [0; 8];
    let (_, limit) = data.split_at_mut(4);
    limit.copy_from_slice(&anchor.pin.limit.to_be_bytes());
    let tpm = &mut core.link()?.tpm;
    let written = tpm.nv_write(anchor.pin.handle, &anchor.pin.name, &mut session, 0, &data);
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
    proof: &Proof,
    sealed: &ObjectBlob,
) -> Result<Held<24>, TpmError> {
    require_own_tpm(core, anchor)?;
    let handle = core.load(&sealed.private, &sealed.public)?;
    let session = core.policy_session(card)?;
    let result = unseal_loaded(core, handle, &name_of(&sealed.public), proof, session);
    core.unload(&sealed.public);
    result
}

fn unseal_loaded(
    core: &mut Core,
    handle: u32,
    name: &[u8; 34],
    proof: &Proof,
    mut session: Session,
) -> Result<Held<24>, TpmError> {
    let tpm = &mut core.link()?.tpm;
    let unsealed = tpm
        .policy_ticket(
            &session,
            &proof.timeout,
            proof.policy_ref,
            &proof.name,
            &proof.ticket,
        )
        .and_then(|()| tpm.policy_command_code(&session, cc::UNSEAL))
        .and_then(|()| tpm.unseal(Handle::named(handle, name), &mut session));
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
) -> Result<(), TpmError> {
    let mut random_value = AuthValue::zeroed();
    random(&mut *random_value);
    let target = new.unwrap_or(&random_value);
    let has_puk = anchor.index(IndexRole::Puk).is_some();
    let adm = provisional.adm.filter(|_| !has_puk);
    let others = [
        (IndexRole::Adm, adm, REF_ADMIN),
        (IndexRole::Puk, provisional.puk, REF_PUK),
    ];
    if role == IndexRole::Pin && new.is_some() {
        for (authority, first, policy_ref) in others {
            let (Some(first), Some(index)) = (first, anchor.index(authority)) else {
                continue;
            };
            let first = AuthValue::copy_of(&first);
            let proved = prove(core, card, anchor, index, &first, &[policy_ref])?;
            if let Ok(proof) = one(proved)? {
                return unblock(core, card, anchor, &proof, authority, target);
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
    match crate::operate::change(core, card, anchor, index, &first, target)? {
        Verdict::Right => Ok(()),
        Verdict::Blocked | Verdict::Wrong => Err(TpmError::FirstValueGone),
    }
}
