//! What a new card holds, and the few Windows files that the product itself writes
//! (Microsoft minidriver specification, appendix C).
//!
//! Numbers inside these files are little-endian.

use super::files::{
    ADMIN_KEY_FILE, CARD_ID_FILE, CONTENT_FILE, DATA_DESCRIPTOR, DIRECTORY_FILE, KEY_DESCRIPTOR,
};
use super::life_cycle::{INITIALISATION, OPERATIONAL};
use crate::record::{CardId, DataObject, FileRecord, GidsRecord};

/// Data object of `cardcf`, in [`CONTENT_FILE`].
const CARDCF: u32 = 0xDF22;
/// `cardid`: the card id.
const CARD_ID: u32 = 0xDF20;

/// What was changed on a card: which counter of `cardcf` moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A key, or the container map.
    Containers,
    /// Any file.
    Files,
    /// A PIN.
    Pins,
}

/// A card in initialisation state: no file at all, for personalisation by others (`gids-tool -X`).
#[must_use]
pub fn uninitialised_card() -> GidsRecord {
    GidsRecord {
        life_cycle: INITIALISATION,
        files: Vec::new(),
    }
}

/// An operational card without file system: the electrical profile
/// (six ACL files and the administrator's key file, activated).
#[must_use]
pub fn blank_card() -> GidsRecord {
    let data_file = |id, rule: [u8; 3]| FileRecord {
        id,
        descriptor: DATA_DESCRIPTOR,
        life_cycle: OPERATIONAL,
        access: rule.to_vec(),
        templates: Vec::new(),
        objects: Vec::new(),
    };
    GidsRecord {
        life_cycle: OPERATIONAL,
        files: vec![
            data_file(DIRECTORY_FILE, [0x03, 0x30, 0x00]),
            data_file(CONTENT_FILE, [0x03, 0x30, 0x00]),
            data_file(0xA011, [0x03, 0x30, 0xFF]),
            data_file(CARD_ID_FILE, [0x03, 0x20, 0x00]),
            data_file(0xA013, [0x03, 0x30, 0x30]),
            data_file(0xA014, [0x03, 0x20, 0x20]),
            FileRecord {
                id: ADMIN_KEY_FILE,
                descriptor: KEY_DESCRIPTOR,
                life_cycle: OPERATIONAL,
                access: vec![0x87, 0x00, 0x20, 0xFF],
                templates: vec![
                    0xA4, 0x09, 0x80, 0x01, 0x02, 0x83, 0x01, 0x80, 0x95, 0x01, 0xC0,
                ],
                objects: Vec::new(),
            },
        ],
    }
}

/// A [`blank_card`] with the five objects of the Windows file system; `id` becomes the card id.
#[must_use]
pub fn created_card(id: CardId) -> GidsRecord {
    let mut record = blank_card();
    for file in &mut record.files {
        file.objects = match file.id {
            DIRECTORY_FILE => vec![object(0xDF1F, directory_table())],
            CONTENT_FILE => vec![
                object(0xDF21, b"mscp\0\0\0\0".to_vec()),
                object(CARDCF, vec![0; 6]),
                object(0xDF23, Vec::new()),
            ],
            CARD_ID_FILE => vec![object(CARD_ID, id.as_bytes().to_vec())],
            _ => Vec::new(),
        };
    }
    record
}

/// A [`created_card`] in place of another one. Windows has cached the old one's files by the counters of its
/// `cardcf`, so they go on from there.
pub(crate) fn formatted_card(old: &GidsRecord, id: CardId) -> GidsRecord {
    let mut record = created_card(id);
    let counters = object_of(old, CONTENT_FILE, CARDCF).filter(|value| value.len() == 6);
    if let (Some(counters), Some(fresh)) = (counters, object_mut(&mut record, CONTENT_FILE, CARDCF))
    {
        fresh.value.clone_from(counters);
    }
    bump_freshness(&mut record, Freshness::Containers);
    bump_freshness(&mut record, Freshness::Files);
    record
}

/// The card id, if the card has one of 16 bytes.
pub(crate) fn card_id(record: &GidsRecord) -> Option<CardId> {
    let value = object_of(record, CARD_ID_FILE, CARD_ID)?;
    Some(CardId::new(value.as_slice().try_into().ok()?))
}

/// Replaces the card id. False: the card has none.
pub(crate) fn set_card_id(record: &mut GidsRecord, id: CardId) -> bool {
    let Some(object) = object_mut(record, CARD_ID_FILE, CARD_ID) else {
        return false;
    };
    object.value = id.as_bytes().to_vec();
    bump_freshness(record, Freshness::Files);
    true
}

fn object_of(record: &GidsRecord, file: u16, tag: u32) -> Option<&Vec<u8>> {
    let file = record.files.iter().find(|known| known.id == file)?;
    let object = file.objects.iter().find(|object| object.tag == tag)?;
    Some(&object.value)
}

fn object_mut(record: &mut GidsRecord, file: u16, tag: u32) -> Option<&mut DataObject> {
    let file = record.files.iter_mut().find(|known| known.id == file)?;
    file.objects.iter_mut().find(|object| object.tag == tag)
}

/// Moves a counter of `cardcf`, without which Windows shows what it has cached.
///
/// Clients do this themselves for what they write; this is for the product's own tools, which call it
/// for every change they make. A card without `cardcf`, or with one of another form, is left alone.
pub fn bump_freshness(record: &mut GidsRecord, change: Freshness) {
    let cardcf = record
        .files
        .iter_mut()
        .filter(|file| file.id == CONTENT_FILE)
        .flat_map(|file| &mut file.objects)
        .find(|object| object.tag == CARDCF);
    let Some(object) = cardcf else { return };
    if let [_version, pins, c0, c1, f0, f1] = object.value.as_mut_slice() {
        match change {
            Freshness::Containers => increment(c0, c1),
            Freshness::Files => increment(f0, f1),
            Freshness::Pins => *pins = pins.wrapping_add(1),
        }
    }
}

/// Whether a value looks like a certificate file: `01 00`, length, zlib stream.
pub(crate) fn is_certificate(value: &[u8]) -> bool {
    match value {
        [0x01, 0x00, _, _, 0x78, flags, ..] => (0x7800 + u16::from(*flags)) % 31 == 0,
        _ => false,
    }
}

fn increment(low: &mut u8, high: &mut u8) {
    [*low, *high] = u16::from_le_bytes([*low, *high])
        .wrapping_add(1)
        .to_le_bytes();
}

fn object(tag: u32, value: Vec<u8>) -> DataObject {
    DataObject { tag, value }
}

/// Version byte and five records of 28 bytes.
fn directory_table() -> Vec<u8> {
    let entries: [(&str, &str, u32, u16); 5] = [
        ("mscp", "", 0, DIRECTORY_FILE),
        ("", "cardid", 0xDF20, CARD_ID_FILE),
        ("", "cardapps", 0xDF21, CONTENT_FILE),
        ("", "cardcf", CARDCF, CONTENT_FILE),
        ("mscp", "cmapfile", 0xDF23, CONTENT_FILE),
    ];
    let mut table = vec![1];
    for (directory, file, tag, container) in entries {
        for name in [directory, file] {
            let padding = 9usize.saturating_sub(name.len());
            table.extend_from_slice(name.as_bytes());
            table.extend(std::iter::repeat_n(0, padding));
        }
        table.extend_from_slice(&[0, 0]);
        table.extend_from_slice(&tag.to_le_bytes());
        table.extend_from_slice(&u32::from(container).to_le_bytes());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(record: &GidsRecord, file: u16, tag: u32) -> Option<&[u8]> {
        let file = record.files.iter().find(|f| f.id == file)?;
        let object = file.objects.iter().find(|o| o.tag == tag)?;
        Some(&object.value)
    }

    #[test]
    fn directory_table_is_the_one_of_gids_tool() {
        // From the command that gids-tool --initialize sends.
        let expected = "01 \
            6D73637000000000 0000000000000000 00000000 00000000 00A00000 \
            0000000000000000 0063617264696400 00000000 20DF0000 12A00000 \
            0000000000000000 0063617264617070 73000000 21DF0000 10A00000 \
            0000000000000000 0063617264636600 00000000 22DF0000 10A00000 \
            6D73637000000000 00636D617066696C 65000000 23DF0000 10A00000"
            .replace(' ', "");
        let table = base16ct::upper::encode_string(&directory_table());
        assert_eq!(table, expected);
        assert_eq!(directory_table().len(), 0x8D);
    }

    #[test]
    fn created_card_is_a_blank_card_with_five_objects() {
        let id = CardId::new([7; 16]);
        let mut created = created_card(id);
        assert_eq!(value(&created, 0xA012, 0xDF20), Some(&[7; 16][..]));
        assert_eq!(value(&created, 0xA010, 0xDF21), Some(&b"mscp\0\0\0\0"[..]));
        assert_eq!(value(&created, 0xA010, 0xDF22), Some(&[0; 6][..]));
        assert_eq!(value(&created, 0xA010, 0xDF23), Some(&[][..]));
        assert_eq!(
            created.files.iter().map(|f| f.objects.len()).sum::<usize>(),
            5
        );
        for file in &mut created.files {
            file.objects.clear();
        }
        assert_eq!(created, blank_card());
    }

    #[test]
    fn freshness_counters_are_little_endian_and_wrap() {
        let mut record = created_card(CardId::new([0; 16]));
        for _ in 0..0x1FF {
            bump_freshness(&mut record, Freshness::Files);
        }
        bump_freshness(&mut record, Freshness::Containers);
        bump_freshness(&mut record, Freshness::Pins);
        let cardcf = value(&record, 0xA010, 0xDF22).unwrap();
        assert_eq!(cardcf, [0, 1, 1, 0, 0xFF, 0x01]);
        for _ in 0..0x1_0000 - 0x1FF {
            bump_freshness(&mut record, Freshness::Files);
        }
        assert_eq!(value(&record, 0xA010, 0xDF22).unwrap(), [0, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn bump_on_a_blank_card_changes_nothing() {
        let mut record = blank_card();
        bump_freshness(&mut record, Freshness::Files);
        assert_eq!(record, blank_card());
    }

    #[test]
    fn certificates_are_told_by_their_zlib_header() {
        assert!(is_certificate(&[1, 0, 0x94, 2, 0x78, 0x9C, 0]));
        assert!(is_certificate(&[1, 0, 0x33, 4, 0x78, 0xDA]));
        assert!(!is_certificate(&[1, 0, 0x33, 4, 0x78, 0x9D]));
        assert!(!is_certificate(&[1, 0, 0x33, 4, 0x78]));
        assert!(!is_certificate(&[0; 86]));
    }
}
