//! Recoverable keys: made with a copy for each recovery key, which is the only time that copies are made.

use cardea_card::record::{KeyRecord, ObjectBlob, RecoveryTarget};
use cardea_card::token::{KeyAlgorithm, KeyClass, RecoveryKey};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::code;
use crate::commands::Sensitive;
use crate::core::Core;
use crate::error::{ResponseCode, TpmError};
use crate::operate::{check_generated, require_own_tpm};
use crate::policy::{
    MAX_TARGETS, cc, name_of, recoverable_template, recovery_branches, recovery_target,
};
use crate::tpm::Handle;
use crate::trusted_record::Anchor;

/// Length of a point on P-256 at the end of a public area: both coordinates with their lengths.
const POINT: usize = 2 * 34;

/// A key that is to be made.
pub(crate) struct Wanted {
    pub(crate) reference: u8,
    pub(crate) algorithm: KeyAlgorithm,
    pub(crate) class: KeyClass,
    /// In rising order of their Names.
    targets: Vec<([u8; 34], RecoveryTarget)>,
}

impl Wanted {
    /// None with no recovery keys, too many, or one twice.
    pub(crate) fn new(
        reference: u8,
        algorithm: KeyAlgorithm,
        class: KeyClass,
        keys: &[RecoveryKey],
    ) -> Option<Self> {
        let mut targets: Vec<_> = keys.iter().map(target).collect();
        targets.sort_by_key(|(name, _)| *name);
        targets.dedup_by_key(|(name, _)| *name);
        let is_possible = (1..=MAX_TARGETS).contains(&targets.len()) && targets.len() == keys.len();
        is_possible.then_some(Self {
            reference,
            algorithm,
            class,
            targets,
        })
    }
}

/// Still without its copy.
fn target(key: &RecoveryKey) -> ([u8; 34], RecoveryTarget) {
    let public = recovery_target(&key.x, &key.y);
    let target = RecoveryTarget {
        private: Vec::new(),
        seed: Vec::new(),
        certificate: Some(key.certificate.clone()),
        public,
    };
    (name_of(&target.public), target)
}

/// Makes a key below the SRK, and its copies.
pub(crate) fn generate(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    wanted: &Wanted,
) -> Result<KeyRecord, TpmError> {
    require_own_tpm(core, anchor)?;
    require_commands(core)?;
    core.channel()?;
    require_other_root(core, wanted)?;
    // The key and a recovery key are loaded at once, and the storage root key takes a slot as well.
    core.unload_all();
    let names: Vec<_> = wanted.targets.iter().map(|(name, _)| *name).collect();
    let branches = recovery_branches(anchor.policy(wanted.class), &names);
    let template = recoverable_template(wanted.algorithm, &branches);
    let (tpm, srk, channel) = core.link()?.parts()?;
    let made = match tpm.create(srk, channel, &Sensitive::default(), &template) {
        Err(error) if error.code() == Some(ResponseCode::VALUE) => {
            return Err(TpmError::Unfit("it does not know this key size".into()));
        }
        other => other?,
    };
    let mut targets = Vec::new();
    for (name, target) in &wanted.targets {
        let (private, seed) = copy(
            core,
            card,
            (&made.private, &made.public),
            (name, target),
            &branches,
        )?;
        targets.push(RecoveryTarget {
            private,
            seed,
            ..target.clone()
        });
    }
    let key = KeyRecord {
        reference: wanted.reference,
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
        creation_data: Some(made.creation_data),
        recovery: Some(targets),
    };
    check_generated(anchor.describe(&key), wanted.algorithm, wanted.class)?;
    Ok(key)
}

/// The key's copy for one recovery key, and its encrypted seed.
fn copy(
    core: &mut Core,
    card: u64,
    (private, public): (&[u8], &[u8]),
    (target, parts): (&[u8; 34], &RecoveryTarget),
    branches: &[[u8; 32]],
) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
    let key = core.load(private, public)?;
    let key_name = name_of(public);
    let mut session = core.policy_session(card)?;
    let parent = match core.link()?.tpm.load_external(&parts.public) {
        Ok(parent) => parent,
        Err(error) => {
            core.flush(session.handle);
            return Err(error);
        }
    };
    let tpm = &mut core.link()?.tpm;
    let made = tpm
        .policy_duplication_select(&session, &key_name, target)
        .and_then(|()| tpm.policy_or(&session, branches))
        .and_then(|()| {
            let key = Handle::named(key, &key_name);
            tpm.duplicate(key, Handle::named(parent, target), &mut session)
        });
    if made.is_err() {
        core.flush(session.handle);
    }
    core.flush(parent);
    made
}

/// No recovery key may be the storage root key: its authorisation is empty, and with it TPM2_Rewrap yields what is in a
/// copy in the clear (TPM 2.0 Part 3 §13.2). The wrap covers nothing of the parent but its point, so that another public
/// area with the same point does not help.
fn require_other_root(core: &mut Core, wanted: &Wanted) -> Result<(), TpmError> {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::RootAsTarget) {
        return Ok(());
    }
    let (tpm, srk, _) = core.link()?.parts()?;
    let public = tpm.read_public(srk.handle)?;
    if name_of(&public) != srk.name {
        return Err(TpmError::Protocol {
            command: "ReadPublic",
            what: "it is not the storage root key's",
        });
    }
    let is_root = |target: &RecoveryTarget| {
        let point = target.public.last_chunk::<POINT>();
        point.is_some_and(|point| public.ends_with(point))
    };
    match wanted.targets.iter().any(|(_, target)| is_root(target)) {
        true => Err(TpmError::RootAsTarget),
        false => Ok(()),
    }
}

fn require_commands(core: &mut Core) -> Result<(), TpmError> {
    for (command, name) in [
        (cc::POLICY_OR, "PolicyOR"),
        (cc::POLICY_DUPLICATION_SELECT, "PolicyDuplicationSelect"),
        (code::DUPLICATE, "Duplicate"),
    ] {
        if !core.link()?.tpm.implements(command)? {
            return Err(TpmError::Unfit(format!("it has no {name}")));
        }
    }
    Ok(())
}
