//! The Windows file system of a card (Microsoft minidriver specification, appendix C): directory table,
//! container map, key map and certificate files, as the product's own tools read and write them.
//!
//! The card's commands never look into these files; clients write them. So nothing here trusts them:
//! what is not understood is left as it is and reported as absent. Numbers inside are little-endian.

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::content::{Freshness, bump_freshness};
use super::files::{CONTENT_FILE, DIRECTORY_FILE, MAX_VALUE};
use crate::engine::KeyUsage;
use crate::record::{DataObject, GidsRecord};
use crate::token::KeyAlgorithm;

const DIRECTORY_TABLE: u32 = 0xDF1F;
const KEY_MAP: u32 = 0xDF20;
const CONTAINER_MAP: u32 = 0xDF23;

const DIRECTORY_ENTRY: usize = 28;
const CONTAINER_RECORD: usize = 86;
const KEY_RECORD: usize = 12;

/// Longest container name, in UTF-16 code units without the final zero.
const MAX_CONTAINER_NAME: usize = 39;

/// First byte of the ids of keys' files.
const KEY_FILES: u16 = 0xB0;

/// First tag that new files get: those below have fixed meanings.
const FIRST_FREE_TAG: u32 = 0xDF24;
const LAST_FREE_TAG: u32 = 0xDF7F;

/// Longest certificate, in bytes: its length has two.
const MAX_DER: usize = 0xFFFF;

/// Why the file system does not take a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileSystemError {
    /// A blank card, or tables of another form.
    #[error("the card has no file system; personalise it first")]
    Absent,
    /// No tag is free.
    #[error("the card has no room for it")]
    Full,
    /// The certificate is too long, as it is or compressed.
    #[error(
        "the certificate has {length} bytes, and {packed} when it is compressed; a card holds at most {MAX_DER} with a \
         key, and {MAX_VALUE} compressed: ask the certification authority for one with fewer names or extensions, or \
         with a shorter signature"
    )]
    TooLong {
        /// Bytes of the DER.
        length: usize,
        /// Bytes of the data object, which has the compressed DER.
        packed: usize,
    },
}

/// A container as its record in the map tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// Its name, which OpenSC shows as label.
    pub(crate) name: String,
    /// Whether programs that name no container get this one.
    pub(crate) is_default: bool,
}

/// The container with this index, if its record is valid.
pub(crate) fn container(record: &GidsRecord, index: u8) -> Option<Container> {
    let map = object(record, CONTENT_FILE, CONTAINER_MAP)?;
    let entry = map.chunks_exact(CONTAINER_RECORD).nth(index.into())?;
    let (name, rest) = entry.split_first_chunk::<80>()?;
    let flags = *rest.first()?;
    if flags & 1 == 0 {
        return None;
    }
    let (pairs, _) = name.as_chunks::<2>();
    let units = pairs
        .iter()
        .map(|pair| u16::from_le_bytes(*pair))
        .take_while(|unit| *unit != 0);
    let name = char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Some(Container {
        name,
        is_default: flags & 2 != 0,
    })
}

/// What the container's sizes offer its key for.
pub(crate) fn usage(record: &GidsRecord, index: u8) -> Option<KeyUsage> {
    let map = object(record, CONTENT_FILE, CONTAINER_MAP)?;
    let entry = map.chunks_exact(CONTAINER_RECORD).nth(index.into())?;
    match entry.get(80..)? {
        [flags, _, _, _, 0, 0] if flags & 1 != 0 => Some(KeyUsage::Signature),
        [flags, ..] if flags & 1 != 0 => Some(KeyUsage::Exchange),
        _ => None,
    }
}

/// Gives a container another name, cut to what the map has room for.
pub(crate) fn rename_container(
    record: &mut GidsRecord,
    index: u8,
    name: &str,
) -> Result<(), FileSystemError> {
    let map = object_mut(record, CONTENT_FILE, CONTAINER_MAP).ok_or(FileSystemError::Absent)?;
    let entry = map
        .chunks_exact_mut(CONTAINER_RECORD)
        .nth(index.into())
        .and_then(|entry| entry.first_chunk_mut::<80>())
        .ok_or(FileSystemError::Absent)?;
    entry.fill(0);
    for (place, unit) in entry
        .as_chunks_mut::<2>()
        .0
        .iter_mut()
        .zip(container_name(name))
    {
        *place = unit.to_le_bytes();
    }
    bump_freshness(record, Freshness::Containers);
    bump_freshness(record, Freshness::Files);
    Ok(())
}

/// Whether any valid container is the default one.
pub(crate) fn has_default(record: &GidsRecord) -> bool {
    let Some(map) = object(record, CONTENT_FILE, CONTAINER_MAP) else {
        return false;
    };
    map.chunks_exact(CONTAINER_RECORD)
        .any(|entry| entry.get(80).is_some_and(|flags| flags & 3 == 3))
}

/// Number of records in the container map, valid or not.
pub(crate) fn containers(record: &GidsRecord) -> usize {
    object(record, CONTENT_FILE, CONTAINER_MAP).map_or(0, |map| map.len() / CONTAINER_RECORD)
}

/// Writes a container's records in both maps. RSA keys only: no client can use others through GIDS.
pub(crate) fn set_container(
    record: &mut GidsRecord,
    index: u8,
    name: &str,
    algorithm: KeyAlgorithm,
    usage: KeyUsage,
) -> Result<(), FileSystemError> {
    let default = !has_default(record);
    let bits = u16::try_from(algorithm.size() * 8).unwrap_or(u16::MAX);
    let (signature, exchange) = match usage {
        KeyUsage::Exchange => (0, bits),
        KeyUsage::Signature => (bits, 0),
    };
    let mut entry = Vec::with_capacity(CONTAINER_RECORD);
    for unit in container_name(name) {
        entry.extend_from_slice(&unit.to_le_bytes());
    }
    entry.resize(80, 0);
    entry.extend_from_slice(&[if default { 3 } else { 1 }, 0]);
    entry.extend_from_slice(&signature.to_le_bytes());
    entry.extend_from_slice(&exchange.to_le_bytes());
    let size = match algorithm {
        KeyAlgorithm::Rsa3072 => 0x08,
        _ => 0x07,
    };
    let kind = match usage {
        KeyUsage::Exchange => 0x9A,
        KeyUsage::Signature => 0x9C,
    };
    let key = [
        1,
        0,
        0,
        0,
        size,
        kind,
        0x81u8.wrapping_add(index),
        0xB0,
        0xFF,
        0xFF,
        0,
        0,
    ];
    set_records(record, index, &entry, &key)
}

/// Clears a container's records as OpenSC does; the tables are never packed.
pub(crate) fn clear_container(record: &mut GidsRecord, index: u8) -> Result<(), FileSystemError> {
    if usize::from(index) >= containers(record) {
        return Ok(());
    }
    let key = [0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0];
    set_records(record, index, &[0; CONTAINER_RECORD], &key)
}

/// Both maps keep the same number of records: OpenSC insists on it.
fn set_records(
    record: &mut GidsRecord,
    index: u8,
    container: &[u8],
    key: &[u8; KEY_RECORD],
) -> Result<(), FileSystemError> {
    let index = usize::from(index);
    let map = object_mut(record, CONTENT_FILE, CONTAINER_MAP).ok_or(FileSystemError::Absent)?;
    replace_record(map, 0, index, container)?;
    let records = map.len() / CONTAINER_RECORD;
    let directory = record
        .files
        .iter_mut()
        .find(|file| file.id == DIRECTORY_FILE)
        .ok_or(FileSystemError::Absent)?;
    if !directory.objects.iter().any(|object| object.tag == KEY_MAP) {
        directory.objects.push(DataObject {
            tag: KEY_MAP,
            value: vec![1],
        });
    }
    let map = object_mut(record, DIRECTORY_FILE, KEY_MAP).ok_or(FileSystemError::Absent)?;
    if map.is_empty() {
        map.push(1);
    }
    replace_record(map, 1, index, key)?;
    map.resize(1 + records * KEY_RECORD, 0);
    bump_freshness(record, Freshness::Containers);
    bump_freshness(record, Freshness::Files);
    Ok(())
}

fn replace_record(
    table: &mut Vec<u8>,
    header: usize,
    index: usize,
    entry: &[u8],
) -> Result<(), FileSystemError> {
    let start = header + index * entry.len();
    let end = start + entry.len();
    if table.len() < end {
        table.resize(end, 0);
    }
    table
        .get_mut(start..end)
        .ok_or(FileSystemError::Full)?
        .copy_from_slice(entry);
    Ok(())
}

/// Whether the map has room for the whole name.
pub(crate) fn fits_container(name: &str) -> bool {
    name.encode_utf16().count() <= MAX_CONTAINER_NAME
}

/// The name as the map has it, cut at a character.
fn container_name(name: &str) -> Vec<u16> {
    let mut units = Vec::new();
    for character in name.chars() {
        let mut buffer = [0; 2];
        let encoded = character.encode_utf16(&mut buffer);
        if units.len() + encoded.len() > MAX_CONTAINER_NAME {
            break;
        }
        units.extend_from_slice(encoded);
    }
    units
}

/// The certificate of a container, DER.
pub(crate) fn certificate(record: &GidsRecord, index: u8) -> Option<Vec<u8>> {
    let (file, tag) = certificate_files(index).find_map(|name| locate(record, &name))?;
    unpack(object(record, file, tag)?)
}

/// Stores the certificate of a container: compressed, in a file of its own that the directory names.
pub(crate) fn store_certificate(
    record: &mut GidsRecord,
    index: u8,
    der: &[u8],
) -> Result<(), FileSystemError> {
    let value = pack(der)?;
    let known = certificate_files(index).find_map(|name| locate(record, &name));
    let (file, tag) = match known {
        Some(place) => place,
        None => {
            let name = certificate_files(index)
                .next()
                .ok_or(FileSystemError::Absent)?;
            let place = free_place(record)?;
            // Entries of this name that are there are of something else, and would be found first.
            for name in certificate_files(index) {
                remove_entries(record, &name);
            }
            add_entry(record, &name, place)?;
            place
        }
    };
    match object_mut(record, file, tag) {
        Some(present) => *present = value,
        None => record
            .files
            .iter_mut()
            .find(|candidate| candidate.id == file)
            .ok_or(FileSystemError::Absent)?
            .objects
            .push(DataObject { tag, value }),
    }
    bump_freshness(record, Freshness::Files);
    Ok(())
}

/// Removes the certificate of a container and its entry in the directory. False: there was none.
pub(crate) fn remove_certificate(record: &mut GidsRecord, index: u8) -> bool {
    let mut removed = false;
    for name in certificate_files(index) {
        let Some((file, tag)) = locate(record, &name) else {
            continue;
        };
        if let Some(file) = record.files.iter_mut().find(|entry| entry.id == file) {
            file.objects.retain(|object| object.tag != tag);
        }
        remove_entries(record, &name);
        removed = true;
    }
    if removed {
        bump_freshness(record, Freshness::Files);
    }
    removed
}

/// `kxcNN` for an exchange key, `kscNN` for a signature key; clients take whichever is there.
fn certificate_files(index: u8) -> impl Iterator<Item = String> {
    ["kxc", "ksc"]
        .into_iter()
        .map(move |kind| format!("{kind}{index:02X}"))
}

/// Takes the entries of a name out of the directory.
fn remove_entries(record: &mut GidsRecord, name: &str) {
    let Some(table) = object_mut(record, DIRECTORY_FILE, DIRECTORY_TABLE) else {
        return;
    };
    let mut kept = table
        .first_chunk::<1>()
        .map_or(vec![1], |head| head.to_vec());
    let entries = table.get(1..).unwrap_or_default();
    for entry in entries.chunks(DIRECTORY_ENTRY) {
        if !entry.starts_with(&entry_name(name)) {
            kept.extend_from_slice(entry);
        }
    }
    *table = kept;
}

/// File and tag of a file in the directory `mscp` that holds nothing else: what an entry names may be the directory
/// itself, a map, a key or another entry's, which a certificate must not replace.
fn locate(record: &GidsRecord, name: &str) -> Option<(u16, u32)> {
    let table = object(record, DIRECTORY_FILE, DIRECTORY_TABLE)?;
    let entries = table.get(1..)?.chunks_exact(DIRECTORY_ENTRY);
    let (own, others): (Vec<_>, Vec<_>) =
        entries.partition(|entry| entry.starts_with(&entry_name(name)));
    own.into_iter().filter_map(place).find(|found| {
        let (file, tag) = *found;
        let is_fixed = file == CONTENT_FILE && tag < FIRST_FREE_TAG;
        file != DIRECTORY_FILE
            && file >> 8 != KEY_FILES
            && !is_fixed
            && others.iter().all(|other| place(other) != Some(*found))
    })
}

/// File and tag that an entry names.
fn place(entry: &[u8]) -> Option<(u16, u32)> {
    let tag = u32::from_le_bytes(entry.get(20..24)?.try_into().ok()?);
    let file = u32::from_le_bytes(entry.get(24..28)?.try_into().ok()?);
    Some((u16::try_from(file).ok()?, tag))
}

/// Directory and file name as they begin an entry.
fn entry_name(name: &str) -> [u8; 18] {
    let mut field = [0; 18];
    let (directory, file) = field.split_at_mut(9);
    directory
        .iter_mut()
        .zip(b"mscp")
        .for_each(|(target, byte)| *target = *byte);
    file.iter_mut()
        .take(8)
        .zip(name.as_bytes())
        .for_each(|(target, byte)| *target = *byte);
    field
}

/// Where a new file of the directory `mscp` can be: nothing ties a name to a tag.
fn free_place(record: &GidsRecord) -> Result<(u16, u32), FileSystemError> {
    let used: Vec<u32> = record
        .files
        .iter()
        .find(|file| file.id == CONTENT_FILE)
        .ok_or(FileSystemError::Absent)?
        .objects
        .iter()
        .map(|object| object.tag)
        .collect();
    let table = object(record, DIRECTORY_FILE, DIRECTORY_TABLE).ok_or(FileSystemError::Absent)?;
    let Some((_, entries)) = table.split_first() else {
        return Err(FileSystemError::Absent);
    };
    // Behind half an entry nobody would find another one.
    if !entries.len().is_multiple_of(DIRECTORY_ENTRY) {
        return Err(FileSystemError::Absent);
    }
    let listed: Vec<u32> = entries
        .chunks_exact(DIRECTORY_ENTRY)
        .filter_map(|entry| Some(u32::from_le_bytes(entry.get(20..24)?.try_into().ok()?)))
        .collect();
    let tag = (FIRST_FREE_TAG..=LAST_FREE_TAG)
        .find(|tag| !used.contains(tag) && !listed.contains(tag))
        .ok_or(FileSystemError::Full)?;
    Ok((CONTENT_FILE, tag))
}

/// Names a place in the directory `mscp`.
fn add_entry(
    record: &mut GidsRecord,
    name: &str,
    (file, tag): (u16, u32),
) -> Result<(), FileSystemError> {
    let table =
        object_mut(record, DIRECTORY_FILE, DIRECTORY_TABLE).ok_or(FileSystemError::Absent)?;
    table.extend_from_slice(&entry_name(name));
    table.extend_from_slice(&[0, 0]);
    table.extend_from_slice(&tag.to_le_bytes());
    table.extend_from_slice(&u32::from(file).to_le_bytes());
    Ok(())
}

/// `01 00`, length, zlib stream.
fn pack(der: &[u8]) -> Result<Vec<u8>, FileSystemError> {
    let packed = compress_to_vec_zlib(der, 6);
    let too_long = FileSystemError::TooLong {
        length: der.len(),
        packed: packed.len() + 4,
    };
    let Ok(length) = u16::try_from(der.len()) else {
        return Err(too_long);
    };
    let mut value = vec![0x01, 0x00];
    value.extend_from_slice(&length.to_le_bytes());
    value.extend(packed);
    if value.len() > MAX_VALUE {
        return Err(too_long);
    }
    Ok(value)
}

fn unpack(value: &[u8]) -> Option<Vec<u8>> {
    let (&[0x01, 0x00, l0, l1], stream) = value.split_first_chunk::<4>()? else {
        return None;
    };
    let der = decompress_to_vec_zlib_with_limit(stream, MAX_DER).ok()?;
    (der.len() == usize::from(u16::from_le_bytes([l0, l1]))).then_some(der)
}

fn object(record: &GidsRecord, file: u16, tag: u32) -> Option<&Vec<u8>> {
    let file = record.files.iter().find(|entry| entry.id == file)?;
    let object = file.objects.iter().find(|object| object.tag == tag)?;
    Some(&object.value)
}

fn object_mut(record: &mut GidsRecord, file: u16, tag: u32) -> Option<&mut Vec<u8>> {
    let file = record.files.iter_mut().find(|entry| entry.id == file)?;
    let object = file.objects.iter_mut().find(|object| object.tag == tag)?;
    Some(&mut object.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gids::{blank_card, created_card};
    use crate::record::CardId;

    fn card() -> GidsRecord {
        created_card(CardId::new([7; 16]))
    }

    #[test]
    fn first_container_is_written_as_opensc_writes_it() {
        let mut record = card();
        set_container(
            &mut record,
            0,
            "k1",
            KeyAlgorithm::Rsa2048,
            KeyUsage::Exchange,
        )
        .unwrap();
        let map = object(&record, CONTENT_FILE, CONTAINER_MAP).unwrap();
        assert_eq!(map.len(), 86);
        assert_eq!(map[..4], [0x6B, 0, 0x31, 0]);
        assert_eq!(map[80..], [3, 0, 0, 0, 0, 8]);
        assert_eq!(
            object(&record, DIRECTORY_FILE, KEY_MAP).unwrap()[..],
            [1, 1, 0, 0, 0, 7, 0x9A, 0x81, 0xB0, 0xFF, 0xFF, 0, 0]
        );
        assert_eq!(
            container(&record, 0),
            Some(Container {
                name: "k1".into(),
                is_default: true
            })
        );
        // Both counters of cardcf have moved, as OpenSC's own writes move them.
        assert_eq!(
            object(&record, CONTENT_FILE, 0xDF22).unwrap()[..],
            [0, 0, 1, 0, 1, 0]
        );
    }

    #[test]
    fn a_record_beyond_the_end_leaves_empty_ones_before_it() {
        let mut record = card();
        set_container(
            &mut record,
            2,
            "ä",
            KeyAlgorithm::Rsa3072,
            KeyUsage::Signature,
        )
        .unwrap();
        assert_eq!(containers(&record), 3);
        assert_eq!(container(&record, 0), None);
        let key_map = object(&record, DIRECTORY_FILE, KEY_MAP).unwrap();
        assert_eq!(key_map.len(), 1 + 3 * 12);
        assert_eq!(key_map[25..32], [1, 0, 0, 0, 8, 0x9C, 0x83]);
        clear_container(&mut record, 2).unwrap();
        assert_eq!((containers(&record), container(&record, 2)), (3, None));
        assert!(!has_default(&record));
        clear_container(&mut record, 9).unwrap();
        assert_eq!(containers(&record), 3);
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        assert_eq!(container_name(&"x".repeat(50)).len(), 39);
        // The 39th unit would be half a surrogate pair.
        let name = format!("{}😀", "x".repeat(38));
        assert_eq!(container_name(&name).len(), 38);
    }

    #[test]
    fn certificates_come_back_and_go_with_their_directory_entry() {
        let mut record = card();
        let before = record.clone();
        let der: Vec<u8> = (0..1500u32).map(|i| (i * 7 % 251) as u8).collect();
        store_certificate(&mut record, 0, &der).unwrap();
        store_certificate(&mut record, 29, &[1, 2, 3]).unwrap();
        assert_eq!(certificate(&record, 0).unwrap(), der);
        assert_eq!(certificate(&record, 29).unwrap(), [1, 2, 3]);
        assert_eq!(certificate(&record, 1), None);
        let table = object(&record, DIRECTORY_FILE, DIRECTORY_TABLE).unwrap();
        assert_eq!(table.len(), 1 + 7 * 28);
        assert_eq!(
            table[141..169],
            *b"mscp\0\0\0\0\0kxc00\0\0\0\0\0\0\x24\xDF\0\0\x10\xA0\0\0"
        );
        // A renewal takes the place of the old one.
        store_certificate(&mut record, 0, &[9; 10]).unwrap();
        assert_eq!(certificate(&record, 0).unwrap(), [9; 10]);
        assert!(remove_certificate(&mut record, 0) && remove_certificate(&mut record, 29));
        assert!(!remove_certificate(&mut record, 0));
        let cleared = |record: &GidsRecord| {
            (
                object(record, DIRECTORY_FILE, DIRECTORY_TABLE).cloned(),
                record.files[1].objects.len(),
            )
        };
        assert_eq!(cleared(&record), cleared(&before));
    }

    #[test]
    fn a_certificate_written_by_opensc_is_read() {
        // Directory entry and file as pkcs15-init leaves them, at a tag of its own choice.
        let mut record = card();
        let (file, tag) = free_place(&record).unwrap();
        add_entry(&mut record, "kxc00", (file, tag)).unwrap();
        assert_eq!((file, tag), (CONTENT_FILE, 0xDF24));
        let value = pack(&[5; 100]).unwrap();
        record.files[1].objects.push(DataObject { tag, value });
        assert_eq!(certificate(&record, 0).unwrap(), [5; 100]);
    }

    #[test]
    fn certificates_are_limited_as_they_are_and_compressed() {
        let mut record = card();
        store_certificate(&mut record, 0, &vec![7; MAX_DER]).unwrap();
        assert_eq!(certificate(&record, 0).unwrap().len(), MAX_DER);
        let before = record.clone();
        let refused = store_certificate(&mut record, 0, &vec![7; MAX_DER + 1]).unwrap_err();
        assert!(matches!(
            refused,
            FileSystemError::TooLong { length: 65_536, .. }
        ));
        // What does not become shorter: a signature of SLH-DSA has 17 KB.
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            // Knuth's MMIX generator.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .take(17_088)
        .collect();
        let refused = store_certificate(&mut record, 0, &noise).unwrap_err();
        assert!(matches!(refused, FileSystemError::TooLong { packed, .. } if packed > MAX_VALUE));
        let said = refused.to_string();
        assert!(
            said.contains("17088 bytes")
                && said.contains("at most 65535")
                && said.contains("16384")
        );
        assert_eq!(record, before);
    }

    #[test]
    fn a_blank_card_has_no_file_system_and_garbage_is_no_certificate() {
        let mut blank = blank_card();
        assert_eq!(
            set_container(
                &mut blank,
                0,
                "k",
                KeyAlgorithm::Rsa2048,
                KeyUsage::Exchange
            ),
            Err(FileSystemError::Absent)
        );
        assert_eq!(
            store_certificate(&mut blank, 0, &[1]),
            Err(FileSystemError::Absent)
        );
        assert_eq!(container(&blank, 0), None);
        for value in [
            &[][..],
            &[1, 0],
            &[1, 0, 5, 0, 0x78, 0x9C, 1],
            &[2, 0, 0, 0],
        ] {
            assert_eq!(unpack(value), None);
        }
        // A stream that would unpack to gigabytes is not unpacked.
        let bomb = [
            &[1, 0, 0, 0][..],
            &compress_to_vec_zlib(&vec![0; 1 << 20], 9),
        ]
        .concat();
        assert_eq!(unpack(&bomb), None);
    }

    #[test]
    fn certificate_replaces_nothing_that_is_not_its_own() {
        let der = [0x81; 300];
        for (what, place) in [
            ("directory", (DIRECTORY_FILE, DIRECTORY_TABLE)),
            ("key map", (DIRECTORY_FILE, KEY_MAP)),
            ("container map", (CONTENT_FILE, CONTAINER_MAP)),
            ("freshness", (CONTENT_FILE, 0xDF22)),
            ("key", (0xB081, 0x7F49)),
        ] {
            let mut record = card();
            add_entry(&mut record, "kxc00", place).unwrap();
            let before = record.clone();
            assert_eq!(certificate(&record, 0), None, "{what}");
            store_certificate(&mut record, 0, &der).unwrap();
            assert_eq!(certificate(&record, 0).unwrap(), der, "{what}");
            for file in &before.files {
                for before in &file.objects {
                    let is_written = matches!(before.tag, 0xDF22 | DIRECTORY_TABLE);
                    let after = object(&record, file.id, before.tag);
                    assert!(
                        is_written || after == Some(&before.value),
                        "{what}: {before:?}"
                    );
                }
            }
            assert!(remove_certificate(&mut record, 0));
        }
    }

    #[test]
    fn certificates_of_two_containers_do_not_share_a_place() {
        let mut record = card();
        store_certificate(&mut record, 0, &[1; 40]).unwrap();
        let shared = locate(&record, "kxc00").unwrap();
        add_entry(&mut record, "kxc01", shared).unwrap();
        store_certificate(&mut record, 1, &[2; 40]).unwrap();
        assert_eq!(certificate(&record, 0).unwrap(), [1; 40]);
        assert_eq!(certificate(&record, 1).unwrap(), [2; 40]);
    }

    #[test]
    fn directory_of_another_form_takes_no_certificate() {
        for table in [vec![], vec![1; 2], vec![1; 28]] {
            let mut record = card();
            *object_mut(&mut record, DIRECTORY_FILE, DIRECTORY_TABLE).unwrap() = table;
            let before = record.clone();
            assert_eq!(
                store_certificate(&mut record, 0, &[1; 40]),
                Err(FileSystemError::Absent)
            );
            assert_eq!(record, before);
        }
    }
}
