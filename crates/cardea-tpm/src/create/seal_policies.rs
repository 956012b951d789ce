//! The policies of a card in one more index, which nobody can write after the boot that made the card.

use cardea_card::record::IndexRecord;

use super::{PreparedCard, birth_key_signs, define, in_session, require_public};
use crate::core::Core;
use crate::error::TpmError;
use crate::policy::{
    Branches, Comparison, Names, REF_INIT, X_DEFINED, X_WRITTEN, cc, first_content, has_gate,
    name_of, sealed_init_policy, signed_hash, x_public,
};
use crate::session::Session;

/// The index X of a card that is being made.
struct X {
    handle: u32,
    made_at_reset: u32,
    init: [u8; 32],
}

impl X {
    fn of(prepared: &PreparedCard) -> Result<Self, TpmError> {
        let made_at_reset = prepared.made_at_reset.ok_or(TpmError::Stopped)?;
        let birth_name = name_of(&prepared.birth_public);
        Ok(Self {
            handle: prepared.base + super::X_OFFSET,
            made_at_reset,
            init: sealed_init_policy(&birth_name, made_at_reset),
        })
    }

    fn public(&self, attributes: u32) -> Vec<u8> {
        x_public(self.handle, attributes, &self.init)
    }
}

/// Defines X: its Name goes into the policies of the other indices, and theirs into what is written to it.
pub(super) fn define_x(core: &mut Core, prepared: &PreparedCard) -> Result<(), TpmError> {
    define(core, &[], &X::of(prepared)?.public(X_DEFINED))
}

/// Writes X, and the first values of the indices under what it says.
pub(super) fn write(
    core: &mut Core,
    card: u64,
    (prepared, birth): (&PreparedCard, u32),
    names: &Names<'_>,
    indices: &[IndexRecord],
) -> Result<(), TpmError> {
    let x = X::of(prepared)?;
    let branches = Branches::new(names, x.made_at_reset, prepared.new.pin_limit);
    in_session(core, card, |core, session| {
        satisfy(core, (prepared, birth), &x, session)?;
        let name = name_of(&x.public(X_DEFINED));
        let content = branches.content();
        let tpm = &mut core.link()?.tpm;
        tpm.nv_write(x.handle, &name, session, 0, &content)
    })?;
    let text = "a written index has another public area than expected";
    require_public(core, &x.public(X_WRITTEN), text)?;
    for index in indices {
        in_session(core, card, |core, session| {
            satisfy(core, (prepared, birth), &x, session)?;
            let tpm = &mut core.link()?.tpm;
            tpm.policy_or(session, branches.all())?;
            tpm.policy_authorize_nv(session, x.handle)?;
            let name = prepared.defined_name(index.role);
            tpm.nv_write(index.handle, &name, session, 0, &first_content(index.limit))
        })?;
    }
    Ok(())
}

/// Satisfies the policy of a first write: by a fresh signature of the birth key, and in this boot.
fn satisfy(
    core: &mut Core,
    (prepared, birth): (&PreparedCard, u32),
    x: &X,
    session: &Session,
) -> Result<(), TpmError> {
    let birth_name = name_of(&prepared.birth_public);
    // Whatever becomes of this signature: the same birth key signs for no second creation.
    core.commit();
    let signature = prepared.sign(&signed_hash(&session.nonce_tpm, REF_INIT))?;
    let tpm = &mut core.link()?.tpm;
    if birth_key_signs() {
        tpm.policy_signed(birth, &birth_name, session, REF_INIT, &signature)?;
    }
    if has_gate() {
        tpm.policy_resets(session, Comparison::Equal, x.made_at_reset)?;
    }
    tpm.policy_command_code(session, cc::NV_WRITE)?;
    match tpm.policy_digest(session)? == x.init {
        true => Ok(()),
        false => Err(TpmError::Unfit(
            "the TPM computes policies in another way".into(),
        )),
    }
}
