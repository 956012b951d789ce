//! Bounds that every record keeps, whoever wrote it.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use cardea_card::record::{
    CardId, CardRecord, CounterMode, FileRecord, IndexRole, KeyRecord, ObjectRecord, TpmRecord,
    Vault, VaultEntry, VaultKind,
};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use cardea_terms::{MAX_KEYS, NO_SESSION_LIMIT};

/// NV handles of cards (docs/design/tpm.md section 1): owner space away from the certificates of the maker.
pub(crate) const INDEX_HANDLES: RangeInclusive<u32> = 0x01C2_0000..=0x01C2_FFFF;
/// PIN, ADM, PUK.
pub(crate) const MAX_INDICES: usize = 3;
/// Those and an index for sealed policies.
pub(crate) const MAX_HANDLES: usize = 4;

/// Persistent objects of the owner (TPM 2.0 Part 2 §7.5).
const SRK_HANDLES: RangeInclusive<u32> = 0x8100_0000..=0x81FF_FFFF;
const MAX_NAME: usize = 127;
/// Above the card applications' own bounds: what they accept must be readable again.
const MAX_FILES: usize = 256;
const MAX_OBJECTS: usize = 512;
const MAX_OBJECT: usize = 16 * 1024;
/// Access rules and templates arrive in one command.
const MAX_RULES: usize = 32 * 1024;
const MAX_BLOB: usize = 4096;
const MAX_APPROVALS: usize = 32;
const MAX_ENTRIES: usize = 1024;
/// CKA_LABEL and CKA_ID as clients use them.
const MAX_LABEL: usize = 255;
const MAX_CLIENT_ID: usize = 255;
/// Branches of PolicyOR besides the one for use (TPM 2.0 Part 3 §23.6).
const MAX_TARGETS: usize = 7;
const MAX_TARGET_CERTIFICATE: usize = 8192;
/// Of an attestation key: its own certificate and those of authorities.
const MAX_CHAIN: usize = 8;
const MAX_CHAIN_CERTIFICATE: usize = 8192;
/// Certificates without key and data objects.
const MAX_CLIENT_OBJECTS: usize = 64;
const MAX_CLIENT_OBJECT: usize = 64 * 1024;

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordFault(&'static str);

fn require(holds: bool, otherwise: &'static str) -> Result<(), RecordFault> {
    if holds {
        Ok(())
    } else {
        Err(RecordFault(otherwise))
    }
}

/// Checks counts, sizes and ranges. What only the TPM can tell is not among them.
///
/// # Errors
///
/// [`RecordFault`], the first one found.
pub fn validate(record: &CardRecord) -> Result<(), RecordFault> {
    require(
        (1..=MAX_NAME).contains(&record.name.len()) && !record.name.chars().any(char::is_control),
        "the name is empty, too long or has control characters",
    )?;
    let settings = &record.settings;
    require(
        settings.session_limit <= NO_SESSION_LIMIT && settings.idle_limit <= NO_SESSION_LIMIT,
        "a time limit is impossible",
    )?;
    for lengths in [&record.lengths.pin, &record.lengths.puk] {
        require(
            lengths.len() <= 2 && lengths.iter().all(|length| (1..=127).contains(length)),
            "a PIN length is impossible",
        )?;
    }
    validate_tpm(&record.tpm)?;
    require(record.keys.len() <= MAX_KEYS, "more keys than a card has")?;
    record.keys.iter().try_for_each(validate_key)?;
    require(
        all_different(record.keys.iter().map(|key| key.reference)),
        "two keys have one reference",
    )?;
    require(
        record.gids.files.len() <= MAX_FILES,
        "more files than a card has",
    )?;
    require(
        all_different(record.gids.files.iter().map(|file| file.id)),
        "two files have one identifier",
    )?;
    record.gids.files.iter().try_for_each(validate_file)?;
    let objects = record.objects.as_deref().unwrap_or_default();
    require(
        objects.len() <= MAX_CLIENT_OBJECTS,
        "more objects than a card has",
    )?;
    require(
        all_different(objects.iter().map(|object| object.number)),
        "two objects have one number",
    )?;
    objects.iter().try_for_each(validate_object)
}

fn validate_object(object: &ObjectRecord) -> Result<(), RecordFault> {
    require(
        object.label.len() <= MAX_LABEL
            && object.application.len() <= MAX_LABEL
            && object.id.len() <= MAX_CLIENT_ID,
        "a name of an object is too long",
    )?;
    require(
        object.value.len() <= MAX_CLIENT_OBJECT,
        "an object is too large",
    )
}

fn validate_key(key: &KeyRecord) -> Result<(), RecordFault> {
    require(
        (0x81..=0x9E).contains(&key.reference),
        "a key reference is out of range",
    )?;
    let sizes = [
        key.object.private.len(),
        key.object.public.len(),
        key.creation_hash.len(),
        key.creation_ticket.len(),
        key.creation_data.as_ref().map_or(0, Vec::len),
    ];
    require(
        sizes.iter().all(|size| *size <= MAX_BLOB),
        "a key is too large",
    )?;
    validate_recovery(key)?;
    for label in [&key.label, &key.certificate_label] {
        let label = label.as_deref().unwrap_or("-");
        require(
            (1..=MAX_LABEL).contains(&label.len()) && !label.chars().any(char::is_control),
            "the label of a key is empty, too long or has control characters",
        )?;
    }
    require(
        key.client_id
            .as_ref()
            .is_none_or(|id| id.len() <= MAX_CLIENT_ID),
        "the identifier of a key is too long",
    )
}

fn validate_recovery(key: &KeyRecord) -> Result<(), RecordFault> {
    require(
        key.creation_data.is_some() == key.recovery.is_some(),
        "a recoverable key is not whole",
    )?;
    let Some(targets) = &key.recovery else {
        return Ok(());
    };
    require(
        (1..=MAX_TARGETS).contains(&targets.len()),
        "a key has an impossible number of recovery keys",
    )?;
    require(
        targets.iter().all(|target| {
            let certificate = target.certificate.as_ref().map_or(0, Vec::len);
            let parts = [&target.public, &target.private, &target.seed];
            parts.iter().all(|part| part.len() <= MAX_BLOB) && certificate <= MAX_TARGET_CERTIFICATE
        }),
        "a recovery key is too large",
    )
}

fn validate_tpm(tpm: &TpmRecord) -> Result<(), RecordFault> {
    require(
        SRK_HANDLES.contains(&tpm.srk.handle),
        "the SRK's handle is impossible",
    )?;
    require(is_name(&tpm.srk.name), "the SRK's Name is malformed")?;
    require(
        tpm.srk.template.len() <= MAX_BLOB && tpm.birth_public.len() <= MAX_BLOB,
        "a public area is too large",
    )?;
    let counters = tpm.counter_objects.as_deref().unwrap_or_default();
    let is_pin = |role: Option<IndexRole>| role == Some(IndexRole::Pin);
    let first = tpm.indices.first().map(|index| index.role);
    match tpm.mode {
        CounterMode::Nv | CounterMode::NvOwner => require(
            is_pin(first) && tpm.indices.len() <= MAX_INDICES,
            "the indices are not a card's",
        )?,
        CounterMode::Object => require(
            first.is_none() && is_pin(counters.first().map(|object| object.role)),
            "the counters in objects are not a card's",
        )?,
    }
    require(
        tpm.handles().all(|handle| INDEX_HANDLES.contains(&handle)),
        "an index is out of range",
    )?;
    for index in &tpm.indices {
        require(is_name(&index.name), "the Name of an index is malformed")?;
    }
    require(
        all_different(tpm.indices.iter().map(|index| index.role)) && all_different(tpm.handles()),
        "two indices have one role or handle",
    )?;
    require(
        tpm.approvals.len() <= MAX_APPROVALS,
        "too many approved policies",
    )?;
    require(
        tpm.approvals
            .iter()
            .all(|approval| approval.id.len() <= 8 && approval.ticket.len() <= MAX_BLOB),
        "an approved policy is too large",
    )?;
    let mut vaults = tpm.vault.iter().chain(&tpm.previous_vault);
    vaults.try_for_each(validate_vault)?;
    require(
        counters.len() <= MAX_INDICES && all_different(counters.iter().map(|object| object.role)),
        "the counters in objects are not a card's",
    )?;
    let counters = counters.iter().map(|counter| &counter.object);
    let sealed = tpm.sealed_key.iter().chain(&tpm.previous_sealed_key);
    let witness = tpm.sealed_policies.iter().map(|sealed| &sealed.witness);
    let own = tpm.attestation_key.iter().chain(witness);
    for blob in sealed.chain(own).chain(counters) {
        require(
            blob.private.len() <= MAX_BLOB && blob.public.len() <= MAX_BLOB,
            "a TPM object is too large",
        )?;
    }
    let Some(chain) = &tpm.attestation_chain else {
        return Ok(());
    };
    require(
        tpm.attestation_key.is_some() && (1..=MAX_CHAIN).contains(&chain.len()),
        "the attestation key has an impossible number of certificates",
    )?;
    require(
        chain.iter().all(|it| it.len() <= MAX_CHAIN_CERTIFICATE),
        "a certificate of the attestation key is too large",
    )
}

fn validate_vault(vault: &Vault) -> Result<(), RecordFault> {
    // An answer takes `rounds` of work: a forged file must not make it minutes.
    require(
        (1..=1_000_000).contains(&vault.rounds),
        "the admin vault's rounds are impossible",
    )?;
    require(
        vault.entries.len() <= MAX_ENTRIES && vault.entries.iter().all(is_entry),
        "the admin vault is malformed",
    )
}

/// Sizes of docs/design/tpm.md section 7: what is encrypted follows a public key of 32 bytes.
fn is_entry(entry: &VaultEntry) -> bool {
    let (challenge, mask) = match entry.kind {
        VaultKind::External => (8, 0),
        VaultKind::Mutual => (16, 32 + 24),
    };
    entry.challenge.len() == challenge
        && entry.admin_value.len() == 32 + 32
        && entry.mask.len() == mask
}

fn validate_file(file: &FileRecord) -> Result<(), RecordFault> {
    require(
        file.access.len() <= MAX_RULES && file.templates.len() <= MAX_RULES,
        "a file's rules are too large",
    )?;
    require(
        file.objects.len() <= MAX_OBJECTS,
        "more data objects than a file has",
    )?;
    for object in &file.objects {
        require(
            object.value.len() <= MAX_OBJECT,
            "a data object is too large",
        )?;
        require(object.tag <= 0x00FF_FFFF, "a tag is too long")?;
    }
    require(
        all_different(file.objects.iter().map(|object| object.tag)),
        "two data objects have one tag",
    )
}

fn all_different<T: Ord>(values: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    values.into_iter().all(|value| seen.insert(value))
}

fn is_name(name: &[u8]) -> bool {
    name.len() == 34 && name.starts_with(&[0x00, 0x0B])
}

/// What two cards claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// An NV index.
    Index(u32),
    /// The counter object of one of them.
    Object(IndexRole),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(handle) => write!(f, "index {handle:#010x}"),
            Self::Object(role) => write!(f, "the counter object of `{}`", role.word()),
        }
    }
}

/// Pairs of cards that claim one index, with its handle. Such a pair can be a file that copies another
/// card's handle, Name and birth key, which passes every check of the TPM.
#[must_use]
pub fn conflicts(records: &[&CardRecord]) -> Vec<(CardId, CardId, Claim)> {
    let mut found = Vec::new();
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::ManyClaimants) {
        return found;
    }
    for (position, one) in records.iter().enumerate() {
        for other in records.iter().skip(position + 1) {
            for handle in one.tpm.handles() {
                if other.tpm.handles().any(|claimed| claimed == handle) {
                    found.push((one.id, other.id, Claim::Index(handle)));
                }
            }
            let objects =
                |record: &CardRecord| record.tpm.counter_objects.clone().unwrap_or_default();
            let claimed = objects(other);
            for object in objects(one) {
                if claimed
                    .iter()
                    .any(|it| it.object.public == object.object.public)
                {
                    found.push((one.id, other.id, Claim::Object(object.role)));
                }
            }
        }
    }
    found
}
