//! Cards with sealed policies: their part of a record, checked.
//!
//! The digests are those of [`crate::policy`]; docs/design/attestation.md section 3 says what they are for.

use cardea_card::record::{IndexRole, ObjectBlob, SealedPolicies, TpmRecord};

use crate::error::{ResponseCode, TpmError};
use crate::examination::{Obstacle, OptionalCommand};
use crate::intent::{IntentIndex, NV_RANGE};
use crate::policy::{
    Branches, Names, X_WRITTEN, cc, index_policy, is_made_from, name_of, sealed_index_policy,
    sealed_init_policy, witness_template, x_public,
};
use crate::session::Session;
use crate::tpm::Tpm;

/// What the policies of a card's indices follow from.
pub(crate) enum PolicySource {
    /// The birth key, by its Name.
    Birth([u8; 34]),
    /// The index X, whose policy the birth key and a boot of the TPM make.
    Sealed { x: IntentIndex, name: [u8; 34] },
}

impl PolicySource {
    /// Of a card with this birth key, and with this index X if it has sealed policies.
    pub(crate) fn new(birth_name: [u8; 34], sealed: Option<(u32, u32)>) -> Self {
        let Some((handle, made_at_reset)) = sealed else {
            return Self::Birth(birth_name);
        };
        let policy = sealed_init_policy(&birth_name, made_at_reset);
        Self::Sealed {
            x: IntentIndex { handle, policy },
            name: name_of(&x_public(handle, X_WRITTEN, &policy)),
        }
    }

    pub(crate) fn of(record: &TpmRecord) -> Self {
        let sealed = record.sealed_policies.as_ref();
        Self::new(
            name_of(&record.birth_public),
            sealed.map(|sealed| (sealed.handle, sealed.made_at_reset)),
        )
    }

    /// authPolicy of an index.
    pub(crate) fn policy(&self, role: IndexRole) -> [u8; 32] {
        match self {
            Self::Birth(name) => index_policy(name, role),
            Self::Sealed { name, .. } => sealed_index_policy(name),
        }
    }

    /// The index X, if there is one in the cards' range.
    pub(crate) fn x(&self) -> Option<IntentIndex> {
        match self {
            Self::Sealed { x, .. } if NV_RANGE.contains(&x.handle) => Some(*x),
            _ => None,
        }
    }
}

/// Sealed policies that do not contradict themselves.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) handle: u32,
    /// TPMS_NV_PUBLIC of X.
    pub(crate) public: Vec<u8>,
    pub(crate) name: [u8; 34],
    pub(crate) made_at_reset: u32,
    pub(crate) branches: Branches,
    pub(crate) witness: ObjectBlob,
}

impl Sealed {
    /// Of a record, or what is wrong with it.
    pub(crate) fn new(
        record: &SealedPolicies,
        names: &Names<'_>,
        pin_limit: u32,
    ) -> Result<Self, &'static str> {
        let (handle, made_at_reset) = (record.handle, record.made_at_reset);
        if !NV_RANGE.contains(&handle) {
            return Err("its policies are not in an index of a card");
        }
        if !is_made_from(&witness_template(made_at_reset), &record.witness.public) {
            return Err("its witness is another kind of key");
        }
        let init = sealed_init_policy(names.birth, made_at_reset);
        let public = x_public(handle, X_WRITTEN, &init);
        Ok(Self {
            handle,
            name: name_of(&public),
            public,
            made_at_reset,
            branches: Branches::new(names, made_at_reset, pin_limit),
            witness: record.witness.clone(),
        })
    }

    /// Whether X is in the TPM as the card was made with it.
    pub(crate) fn is_there(&self, tpm: &mut Tpm) -> Result<bool, TpmError> {
        match tpm.nv_read_public(self.handle) {
            Ok(public) => Ok(public == self.public),
            Err(error) if error.code() == Some(ResponseCode::HANDLE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Of a session that has satisfied one of the branches, makes the policy of the card's indices.
    pub(crate) fn authorize(&self, tpm: &mut Tpm, session: &Session) -> Result<(), TpmError> {
        tpm.policy_or(session, self.branches.all())?;
        tpm.policy_authorize_nv(session, self.handle)
    }
}

/// Whether everything that sealed policies and their evidence take is in this TPM.
pub(crate) fn require_commands(tpm: &mut Tpm) -> Result<(), TpmError> {
    for command in [
        OptionalCommand::PolicyAuthorizeNv,
        OptionalCommand::PolicyCounterTimer,
        OptionalCommand::NvCertify,
    ] {
        if !tpm.has(command)? {
            return Err(TpmError::NoEvidence(Obstacle::Lacks(command).to_string()));
        }
    }
    for (code, name) in [
        (cc::POLICY_OR, "PolicyOR"),
        (crate::code::POLICY_NAME_HASH, "PolicyNameHash"),
        (crate::code::POLICY_CP_HASH, "PolicyCpHash"),
        (crate::code::CERTIFY, "Certify"),
    ] {
        if !tpm.implements(code)? {
            return Err(TpmError::NoEvidence(format!("it has no {name}")));
        }
    }
    Ok(())
}
