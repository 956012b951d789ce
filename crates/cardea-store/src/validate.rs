//! Bounds that every record keeps, whoever wrote it.

use cardea_card::record::{CardId, CardRecord, FileRecord, IndexRole, TpmRecord};

const MAX_NAME: usize = 127;
const MAX_KEYS: usize = 30;
const MAX_FILES: usize = 64;
const MAX_OBJECTS: usize = 512;
const MAX_OBJECT: usize = 16 * 1024;
const MAX_BLOB: usize = 4096;
const MAX_ENTRIES: usize = 1024;

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
    for lengths in [&record.lengths.pin, &record.lengths.puk] {
        require(
            lengths.len() <= 2 && lengths.iter().all(|length| (1..=127).contains(length)),
            "a PIN length is impossible",
        )?;
    }
    validate_tpm(&record.tpm)?;
    require(record.keys.len() <= MAX_KEYS, "more keys than a card has")?;
    for (position, key) in record.keys.iter().enumerate() {
        require(
            (0x81..=0x9E).contains(&key.reference),
            "a key reference is out of range",
        )?;
        require(
            record
                .keys
                .iter()
                .skip(position + 1)
                .all(|other| other.reference != key.reference),
            "two keys have one reference",
        )?;
        let sizes = [
            key.object.private.len(),
            key.object.public.len(),
            key.creation_hash.len(),
            key.creation_ticket.len(),
        ];
        require(
            sizes.iter().all(|size| *size <= MAX_BLOB),
            "a key is too large",
        )?;
    }
    require(
        record.gids.files.len() <= MAX_FILES,
        "more files than a card has",
    )?;
    for (position, file) in record.gids.files.iter().enumerate() {
        require(
            record
                .gids
                .files
                .iter()
                .skip(position + 1)
                .all(|other| other.id != file.id),
            "two files have one identifier",
        )?;
        validate_file(file)?;
    }
    Ok(())
}

fn validate_tpm(tpm: &TpmRecord) -> Result<(), RecordFault> {
    require(
        (0x8100_0000..=0x81FF_FFFF).contains(&tpm.srk.handle),
        "the SRK's handle is impossible",
    )?;
    require(is_name(&tpm.srk.name), "the SRK's Name is malformed")?;
    require(
        tpm.srk.template.len() <= MAX_BLOB && tpm.birth_public.len() <= MAX_BLOB,
        "a public area is too large",
    )?;
    require(
        tpm.indices
            .first()
            .is_some_and(|index| index.role == IndexRole::Pin)
            && tpm.indices.len() <= 3,
        "the indices are not a card's",
    )?;
    for (position, index) in tpm.indices.iter().enumerate() {
        require(
            (0x01C2_0000..=0x01C2_FFFF).contains(&index.handle),
            "an index is out of range",
        )?;
        require(is_name(&index.name), "the Name of an index is malformed")?;
        require(
            tpm.indices
                .iter()
                .skip(position + 1)
                .all(|other| other.role != index.role && other.handle != index.handle),
            "two indices have one role or handle",
        )?;
    }
    require(tpm.approvals.len() <= 32, "too many approvals")?;
    require(
        tpm.approvals
            .iter()
            .all(|approval| approval.id.len() <= 8 && approval.ticket.len() <= MAX_BLOB),
        "an approval is too large",
    )?;
    for vault in tpm.vault.iter().chain(&tpm.previous_vault) {
        require(
            vault.entries.len() <= MAX_ENTRIES,
            "the admin vault is too large",
        )?;
        // An answer takes `rounds` of work: a forged file must not make it minutes.
        require(
            (1..=1_000_000).contains(&vault.rounds),
            "the admin vault's rounds are impossible",
        )?;
        require(
            vault.entries.iter().all(|entry| {
                entry.challenge.len() <= 64
                    && entry.admin_value.len() <= 256
                    && entry.mask.len() <= 256
            }),
            "an entry of the admin vault is too large",
        )?;
    }
    for blob in tpm.sealed_key.iter().chain(&tpm.attestation_key) {
        require(
            blob.private.len() <= MAX_BLOB && blob.public.len() <= MAX_BLOB,
            "a TPM object is too large",
        )?;
    }
    Ok(())
}

fn validate_file(file: &FileRecord) -> Result<(), RecordFault> {
    require(
        file.access.len() <= 256 && file.templates.len() <= 1024,
        "a file's rules are too large",
    )?;
    require(
        file.objects.len() <= MAX_OBJECTS,
        "more data objects than a file has",
    )?;
    for (position, object) in file.objects.iter().enumerate() {
        require(
            object.value.len() <= MAX_OBJECT,
            "a data object is too large",
        )?;
        require(object.tag <= 0x00FF_FFFF, "a tag is too long")?;
        require(
            file.objects
                .iter()
                .skip(position + 1)
                .all(|other| other.tag != object.tag),
            "two data objects have one tag",
        )?;
    }
    Ok(())
}

fn is_name(name: &[u8]) -> bool {
    name.len() == 34 && name.starts_with(&[0x00, 0x0B])
}

/// Pairs of cards that claim one index, with its handle. Such a pair can be a file that copies another
/// card's handle, Name and birth key, which passes every check of the TPM.
#[must_use]
pub fn conflicts(records: &[&CardRecord]) -> Vec<(CardId, CardId, u32)> {
    let mut found = Vec::new();
    for (position, one) in records.iter().enumerate() {
        for other in records.iter().skip(position + 1) {
            for index in &one.tpm.indices {
                if other
                    .tpm
                    .indices
                    .iter()
                    .any(|claimed| claimed.handle == index.handle)
                {
                    found.push((one.id, other.id, index.handle));
                }
            }
        }
    }
    found
}
