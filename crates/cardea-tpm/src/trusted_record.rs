//! A card's TPM record, parsed: what the operations need, and the checks before it is trusted.

use std::sync::Arc;

use cardea_card::record::{
    CardRecord, CounterMode, CounterObject, IndexRecord, IndexRole, KeyRecord, ObjectBlob,
    TpmRecord,
};
use cardea_card::token::{KeyAlgorithm, KeyClass, KeyInfo, KeyOrigin, PublicKey};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::error::TpmError;
use crate::hierarchy::HierarchyAuth;
use crate::intent::{IntentIndex, NV_RANGE};
use crate::policy::{
    ApprovalId, MAX_TARGETS, Names, attestation_template, counter_branches, counter_head,
    is_made_from, is_recovery_target, key_head, key_policy, name_of, nv_public, nv_written,
    recoverable_head, recovery_branches,
};
use crate::sealed::{PolicySource, Sealed};
use crate::wire::Reader;

/// Why a card's record is not believed or its card cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardFault {
    /// The TPM does not keep the count of wrong PINs: see [`TpmError::CountReset`].
    #[error("{}", TpmError::CountReset)]
    CountReset,
    /// The record contradicts itself, or a counter in the TPM is not as the record has it.
    #[error("the card is damaged: {0}")]
    Damaged(String),
    /// The storage root key is another one: TPM cleared, or not the one that made the card.
    #[error("made by another TPM")]
    Foreign,
    /// An index of the card was deleted or replaced.
    #[error("the card's TPM objects are gone: {0}")]
    Lost(String),
    /// The owner hierarchy, which all of a card is in, is switched off until the TPM restarts. Nothing can be said of
    /// the card before.
    #[error("the TPM's owner hierarchy is switched off until the computer is restarted")]
    SwitchedOff,
    /// The TPM could not be asked.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

/// What compares a secret: an index, or an object.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) role: IndexRole,
    pub(crate) name: [u8; 34],
    pub(crate) limit: u32,
    pub(crate) place: Place,
}

/// Where a secret is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In NV, where the TPM counts.
    Nv { handle: u32, policy: [u8; 32] },
    /// In an object, with the policies under which its value may be replaced.
    Object {
        blob: ObjectBlob,
        branches: Vec<[u8; 32]>,
    },
}

impl Index {
    /// Handle and policy of one in NV.
    pub(crate) fn nv(&self) -> Option<(u32, &[u8; 32])> {
        match &self.place {
            Place::Nv { handle, policy } => Some((*handle, policy)),
            Place::Object { .. } => None,
        }
    }
}

/// What lets a card's indices be used otherwise than by comparing the values in them.
#[derive(Clone, Debug)]
pub(crate) enum Policies {
    /// Approved by the birth key, with the digests and the TPM's tickets.
    Approved(Vec<(ApprovalId, [u8; 32], Vec<u8>)>),
    /// In an index of their own.
    Sealed(Box<Sealed>),
}

/// Everything constant about a card in its TPM.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    pub(crate) mode: CounterMode,
    pub(crate) srk_name: [u8; 34],
    pub(crate) srk_template: Vec<u8>,
    pub(crate) salt: [u8; 16],
    pub(crate) birth_name: [u8; 34],
    pub(crate) pin: Index,
    pub(crate) others: Vec<Index>,
    policies: Policies,
    pub(crate) attestation_key: Option<ObjectBlob>,
    /// Whether the card's file has the counts.
    is_counted_in_file: bool,
    session_policy: [u8; 32],
    once_policy: [u8; 32],
    pub(crate) session_limit: u32,
    /// The owner's authorisation, for reading counts that others may not.
    pub(crate) owner: Option<Arc<HierarchyAuth>>,
}

impl Anchor {
    /// From a record whose parts fit each other, recomputed from the birth key's public area.
    pub(crate) fn new(record: &CardRecord) -> Result<Self, CardFault> {
        Self::from_tpm_record(&record.tpm, record.settings.session_limit)
    }

    pub(crate) fn from_tpm_record(
        record: &TpmRecord,
        session_limit: u32,
    ) -> Result<Self, CardFault> {
        let damaged = |what: &str| CardFault::Damaged(what.to_owned());
        let birth_name = name_of(&record.birth_public);
        let objects = record.counter_objects.as_deref().unwrap_or_default();
        let source = PolicySource::of(record);
        let mut indices = match record.mode {
            CounterMode::Nv | CounterMode::NvOwner
                if objects.is_empty()
                    || record.mode == CounterMode::Nv && are_counts(objects, &record.indices) =>
            {
                let indices = record.indices.iter();
                let indices = indices.map(|index| self_consistent(index, &source, record.mode));
                indices.collect::<Result<Vec<_>, _>>()?
            }
            CounterMode::Object if record.indices.is_empty() && record.approvals.is_empty() => {
                counter_objects(objects)?
            }
            _ => return Err(damaged("it has counters of both kinds")),
        };
        let mut roles: Vec<_> = indices.iter().map(|index| index.role).collect();
        roles.sort_unstable();
        roles.dedup();
        if roles.len() != indices.len() {
            return Err(damaged("two indices have one role"));
        }
        let position = indices
            .iter()
            .position(|index| index.role == IndexRole::Pin)
            .ok_or_else(|| damaged("it has no PIN index"))?;
        let pin = indices.remove(position);
        let name_of_role = |role| {
            indices
                .iter()
                .find(|index: &&Index| index.role == role)
                .map(|index| &index.name[..])
        };
        let names = Names {
            birth: &birth_name,
            pin: &pin.name,
            adm: name_of_role(IndexRole::Adm),
            puk: name_of_role(IndexRole::Puk),
        };
        let is_counted_in_file = !objects.is_empty();
        let policies = match &record.sealed_policies {
            None => Policies::Approved(approvals(record, &names)?),
            Some(_) if record.mode != CounterMode::Nv || is_counted_in_file => {
                return Err(damaged("its counters cannot have sealed policies"));
            }
            Some(_) if !record.approvals.is_empty() => {
                return Err(damaged("it has policies of both kinds"));
            }
            Some(sealed) => {
                let sealed = Sealed::new(sealed, &names, pin.limit).map_err(damaged)?;
                Policies::Sealed(Box::new(sealed))
            }
        };
        let attestation_key = record.attestation_key.clone();
        let is_made = |key: &ObjectBlob| is_made_from(&attestation_template(), &key.public);
        if attestation_key.as_ref().is_some_and(|key| !is_made(key)) {
            return Err(damaged("its attestation key is another kind of key"));
        }
        let srk_name = record
            .srk
            .name
            .as_slice()
            .try_into()
            .map_err(|_| damaged("the Name of its storage root key is malformed"))?;
        Ok(Self {
            mode: record.mode,
            srk_name,
            srk_template: record.srk.template.clone(),
            salt: record.salt,
            birth_name,
            session_policy: key_policy(&pin.name, KeyClass::Session),
            once_policy: key_policy(&pin.name, KeyClass::Always),
            pin,
            others: indices,
            policies,
            attestation_key,
            is_counted_in_file,
            session_limit,
            owner: None,
        })
    }

    /// With the owner's authorisation, if it is known.
    pub(crate) fn read_by(self, owner: Option<Arc<HierarchyAuth>>) -> Self {
        Self { owner, ..self }
    }

    /// The PIN's first.
    pub(crate) fn indices(&self) -> impl Iterator<Item = &Index> {
        std::iter::once(&self.pin).chain(&self.others)
    }

    pub(crate) fn index(&self, role: IndexRole) -> Option<&Index> {
        self.indices().find(|index| index.role == role)
    }

    /// Whether its counters are objects.
    pub(crate) fn has_objects(&self) -> bool {
        self.pin.nv().is_none()
    }

    /// Whether the card's file has its counts: its counters are objects, or its TPM sets counts back and it had open ones.
    pub(crate) fn is_counted_in_file(&self) -> bool {
        self.is_counted_in_file
    }

    /// Whether anybody may read its counters, by policies that ask for no secret.
    pub(crate) fn has_open_counters(&self) -> bool {
        match &self.policies {
            Policies::Approved(approvals) => approvals.iter().any(|(id, ..)| id.is_open()),
            Policies::Sealed(_) => true,
        }
    }

    /// Whether somebody may do what this approval is for.
    pub(crate) fn allows(&self, id: ApprovalId) -> bool {
        let has = |role| self.index(role).is_some();
        match &self.policies {
            Policies::Approved(approvals) if !self.has_objects() => {
                approvals.iter().any(|(found, ..)| *found == id)
            }
            _ => ApprovalId::present(self.mode, has(IndexRole::Adm), has(IndexRole::Puk))
                .contains(&id),
        }
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The policies in an index, if the card has such.
    pub(crate) fn sealed(&self) -> Option<&Sealed> {
        match &self.policies {
            Policies::Approved(_) => None,
            Policies::Sealed(sealed) => Some(sealed),
        }
    }

    pub(crate) fn policy(&self, class: KeyClass) -> &[u8; 32] {
        match class {
            KeyClass::Always => &self.once_policy,
            KeyClass::Session => &self.session_policy,
        }
    }

    /// The branches of a recoverable key's policy, in their order; none for every other key, and for targets that no
    /// key has.
    pub(crate) fn branches(&self, key: &KeyRecord, class: KeyClass) -> Option<Vec<[u8; 32]>> {
        let targets = key.recovery.as_deref()?;
        let names: Vec<_> = targets.iter().map(|it| name_of(&it.public)).collect();
        let is_in_order = names.windows(2).all(|pair| pair.first() < pair.last());
        let are_targets = targets.iter().all(|it| is_recovery_target(&it.public));
        let is_possible = (1..=MAX_TARGETS).contains(&names.len()) && is_in_order && are_targets;
        is_possible.then(|| recovery_branches(self.policy(class), &names))
    }

    /// What a recoverable key is. The record's targets are not believed: only with exactly these is the policy in the
    /// public area the computed one.
    fn describe_recoverable(&self, key: &KeyRecord) -> Option<KeyInfo> {
        for class in [KeyClass::Session, KeyClass::Always] {
            let branches = self.branches(key, class)?;
            for algorithm in KeyAlgorithm::ALL {
                let head = recoverable_head(algorithm, &branches);
                #[cfg(feature = "weakened")]
                let head = believed(head, &key.object.public);
                if let Some(unique) = key.object.public.strip_prefix(&head[..]) {
                    return Some(KeyInfo {
                        algorithm,
                        class,
                        origin: KeyOrigin::Generated,
                        is_recoverable: true,
                        public: unique_field(algorithm, unique)?,
                    });
                }
            }
        }
        None
    }

    /// What a key is, if its public area is exactly one of this card's templates with a unique field.
    pub(crate) fn describe(&self, key: &KeyRecord) -> Option<KeyInfo> {
        if key.recovery.is_some() {
            return self.describe_recoverable(key);
        }
        for algorithm in [
            KeyAlgorithm::P256,
            KeyAlgorithm::P384,
            KeyAlgorithm::Rsa2048,
            KeyAlgorithm::Rsa3072,
        ] {
            for class in [KeyClass::Session, KeyClass::Always] {
                for origin in [KeyOrigin::Generated, KeyOrigin::Imported] {
                    let head = key_head(algorithm, origin, self.policy(class));
                    if let Some(unique) = key.object.public.strip_prefix(&head[..]) {
                        let public = unique_field(algorithm, unique)?;
                        #[cfg(feature = "weakened")]
                        let origin = if weakened::has(Weakness::OriginFromFlag)
                            && !key.creation_hash.is_empty()
                        {
                            KeyOrigin::Generated
                        } else {
                            origin
                        };
                        return Some(KeyInfo {
                            algorithm,
                            class,
                            origin,
                            is_recoverable: false,
                            public,
                        });
                    }
                }
            }
        }
        None
    }
}

/// With the policy of the public area, whatever the targets in the file are.
#[cfg(feature = "weakened")]
fn believed(mut head: Vec<u8>, public: &[u8]) -> Vec<u8> {
    const POLICY: std::ops::Range<usize> = 10..42;
    if weakened::has(Weakness::BelievedTargets)
        && let (Some(own), Some(found)) = (head.get_mut(POLICY), public.get(POLICY))
    {
        own.copy_from_slice(found);
    }
    head
}

/// A key of a record, without the TPM that has made it.
#[derive(Clone, Debug)]
pub struct DescribedKey {
    /// Its Name.
    pub name: [u8; 34],
    /// What it is.
    pub info: KeyInfo,
}

/// What the keys of a record are, in its order. None for a key that is not one of the card's.
///
/// # Errors
///
/// [`CardFault::Damaged`].
pub fn describe_keys(record: &CardRecord) -> Result<Vec<Option<DescribedKey>>, CardFault> {
    let anchor = Anchor::new(record)?;
    let of_key = |key: &KeyRecord| {
        Some(DescribedKey {
            name: name_of(&key.object.public),
            info: anchor.describe(key)?,
        })
    };
    Ok(record.keys.iter().map(of_key).collect())
}

/// An approved policy: which one, its digest, the ticket.
type Approved = (ApprovalId, [u8; 32], Vec<u8>);

/// The approved policies of a record, all of which follow from these Names.
fn approvals(record: &TpmRecord, names: &Names<'_>) -> Result<Vec<Approved>, CardFault> {
    let damaged = |what: &str| CardFault::Damaged(what.to_owned());
    let is_counted_in_file = record.counter_objects.iter().flatten().next().is_some();
    let approvals = record.approvals.iter().map(|approval| {
        let id = ApprovalId::parse(&approval.id)
            .filter(|id| id.role() == approval.role)
            .ok_or_else(|| damaged("an approval is unknown"))?;
        if id.digest(names) != Some(approval.digest) {
            return Err(damaged("an approved policy is not this card's"));
        }
        if record.mode == CounterMode::NvOwner && id.is_open() {
            return Err(damaged("it approves what sets its counts back"));
        }
        if is_counted_in_file && id.is_open() {
            return Err(damaged("it has counters of both kinds"));
        }
        Ok((id, approval.digest, approval.ticket.clone()))
    });
    approvals.collect()
}

/// The indices of a record whose handle, Name and policy follow from its birth key, whatever else is wrong
/// with it. The one with sealed policies is the last: the others are of use as long as it is there.
pub fn own_indices(record: &TpmRecord) -> Vec<IntentIndex> {
    let source = PolicySource::of(record);
    record
        .indices
        .iter()
        .filter_map(|index| self_consistent(index, &source, record.mode).ok())
        .filter_map(|index| {
            let (handle, policy) = index.nv()?;
            let policy = *policy;
            Some(IntentIndex { handle, policy })
        })
        .chain(source.x())
        .collect()
}

fn self_consistent(
    index: &IndexRecord,
    source: &PolicySource,
    mode: CounterMode,
) -> Result<Index, CardFault> {
    if !NV_RANGE.contains(&index.handle) {
        return Err(CardFault::Damaged(format!(
            "0x{:08X} is not an index of a card",
            index.handle
        )));
    }
    let policy = source.policy(index.role);
    let name = name_of(&nv_public(index.handle, nv_written(mode), &policy));
    if name[..] != index.name[..] {
        return Err(CardFault::Damaged(
            "the Name of an index does not follow from its birth key".into(),
        ));
    }
    Ok(Index {
        role: index.role,
        name,
        limit: index.limit,
        place: Place::Nv {
            handle: index.handle,
            policy,
        },
    })
}

/// Whether these are counts for indices and nothing else.
fn are_counts(objects: &[CounterObject], indices: &[IndexRecord]) -> bool {
    let fits = |(count, index): (&CounterObject, &IndexRecord)| {
        let is_empty = count.object.private.is_empty() && count.object.public.is_empty();
        is_empty && count.role == index.role && count.limit == index.limit
    };
    objects.len() == indices.len() && objects.iter().zip(indices).all(fits)
}

/// Counter objects whose public areas are the templates that follow from each other's Names.
fn counter_objects(objects: &[CounterObject]) -> Result<Vec<Index>, CardFault> {
    let find = |role| objects.iter().find(|object| object.role == role);
    let authority = [IndexRole::Puk, IndexRole::Adm].into_iter().find_map(find);
    let authority = authority.map(|it| (it.role, name_of(&it.object.public)));
    let objects = objects.iter().map(|object| {
        let authority = match object.role {
            IndexRole::Pin => authority.as_ref().map(|(role, name)| (*role, &name[..])),
            IndexRole::Adm | IndexRole::Puk => None,
        };
        let branches = counter_branches(authority);
        let public = &object.object.public;
        // The unique field: a digest.
        let unique = public.strip_prefix(&counter_head(&branches)[..]);
        if !unique.is_some_and(|unique| unique.len() == 2 + 32 && unique.starts_with(&[0, 32])) {
            return Err(CardFault::Damaged(
                "a counter object is not of the card's template".into(),
            ));
        }
        Ok(Index {
            role: object.role,
            name: name_of(public),
            limit: object.limit,
            place: Place::Object {
                blob: object.object.clone(),
                branches,
            },
        })
    });
    objects.collect()
}

fn unique_field(algorithm: KeyAlgorithm, unique: &[u8]) -> Option<PublicKey> {
    let mut reader = Reader::new("public area", unique);
    let size = algorithm.size();
    let public = match algorithm {
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => {
            let mut coordinate = || {
                let short = reader.sized().ok().filter(|bytes| bytes.len() <= size)?;
                let mut full = vec![0; size - short.len()];
                full.extend_from_slice(short);
                Some(full)
            };
            PublicKey::Ec {
                x: coordinate()?,
                y: coordinate()?,
            }
        }
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => {
            let modulus = reader
                .sized()
                .ok()
                .filter(|bytes| bytes.len() == size)?
                .to_vec();
            PublicKey::Rsa {
                modulus,
                exponent: 65537,
            }
        }
    };
    reader.finish().ok()?;
    Some(public)
}
