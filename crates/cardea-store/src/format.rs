//! The bytes of a card file.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `43 61 72 64 65 61 0D 0A` |
//! | 8 | 2 | format version, big-endian |
//! | 10 | 4 | length n of the body, big-endian |
//! | 14 | n | body: CBOR of `CardRecord` |
//! | 14 + n | 32 | HMAC-SHA-256 under the host key over everything before it |

use std::fmt;

use cardea_card::record::{CardId, CardRecord, KeyRecord};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::validate::{RecordFault, validate};

/// The newest version read, and written for records that need it.
pub const VERSION: u16 = 2;

/// The version of records that have nothing of a later one: what an older version of the program can still open.
const FIRST: u16 = 1;

/// Largest card file in bytes: 30 keys and every data object that fits a card are far below.
pub const MAX_FILE: usize = 8 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"Cardea\r\n";
const HEADER: usize = 14;
const TAG: usize = 32;

/// Key of the host's HMAC: 32 random bytes, erased on drop, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct HostKey([u8; 32]);

impl HostKey {
    /// From its bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostKey(32 bytes)")
    }
}

/// A card file that cannot be read as one, or a record that no card file can hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardFileError {
    /// The body is not a record.
    #[error("the card file is damaged: {0}")]
    Damaged(#[source] minicbor::decode::Error),
    /// The record contradicts the bounds of a card.
    #[error("the card file is damaged: {0}")]
    Fault(#[from] RecordFault),
    /// The file could not be read.
    #[error("the card file cannot be read")]
    Io(#[source] std::io::Error),
    /// Written by a newer version.
    #[error("the card file has format {found}, newer than the {known} that this version reads")]
    Newer {
        /// Its version.
        found: u16,
        /// The newest version read here.
        known: u16,
    },
    /// Not a card file at all.
    #[error("not a card file")]
    NotACardFile,
    /// The body says the same as a record, in other bytes: something in it would be lost.
    #[error("the card file is damaged: its body is not in the form that cards are written in")]
    NotCanonical,
    /// This host wrote it, and it has what this version does not know.
    #[error("the card file has content that this version does not know: a newer version wrote it")]
    NewerContent,
    /// A link, folder, pipe or device.
    #[error("the card file is not a regular file")]
    NotRegular,
    /// Its name says another card.
    #[error("the card file belongs to card {0}, not to the one in its name")]
    OtherCard(CardId),
    /// Its name is not a card id in lower case.
    #[error("the name of the card file is not a card id")]
    StrayName,
    /// Larger than any card file.
    #[error("larger than any card file")]
    TooLarge,
    /// Longer than it says.
    #[error("the card file has bytes after its end")]
    TrailingBytes,
    /// Shorter than it says.
    #[error("the card file is truncated")]
    Truncated,
    /// A version that was never written.
    #[error("the card file has format {0}, which no version writes")]
    UnknownVersion(u16),
}

impl CardFileError {
    /// Whether nothing else will ever be found in the file. What cannot be read for the moment, or what a newer version
    /// wrote, is left alone, and no other generation is used instead.
    pub(crate) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::Newer { .. } | Self::NewerContent)
    }
}

/// A decoded file.
#[derive(Debug)]
pub struct Decoded {
    /// Its record, within the bounds of [`validate`](crate::validate).
    pub record: CardRecord,
    /// Whether this host wrote it.
    pub trusted: bool,
}

/// The file of a record.
///
/// # Errors
///
/// [`CardFileError::Fault`] for a record that [`decode`] would refuse, [`CardFileError::TooLarge`].
pub fn encode(key: &HostKey, record: &CardRecord) -> Result<Vec<u8>, CardFileError> {
    validate(record)?;
    let file = seal(key, version_of(record), &body(record)?)?;
    if file.len() > MAX_FILE {
        return Err(CardFileError::TooLarge);
    }
    Ok(file)
}

/// Reads a file.
///
/// # Errors
///
/// [`CardFileError`]. A wrong HMAC is not an error: the record may be adopted by an administrator.
pub fn decode(key: &HostKey, file: &[u8]) -> Result<Decoded, CardFileError> {
    if file.len() > MAX_FILE {
        return Err(CardFileError::TooLarge);
    }
    let rest = match file.strip_prefix(&MAGIC) {
        Some(rest) => rest,
        None if MAGIC.starts_with(file) => return Err(CardFileError::Truncated),
        None => return Err(CardFileError::NotACardFile),
    };
    let (version, rest) = rest.split_first_chunk().ok_or(CardFileError::Truncated)?;
    let version = known(u16::from_be_bytes(*version))?;
    let (length, rest) = rest.split_first_chunk().ok_or(CardFileError::Truncated)?;
    let length =
        usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CardFileError::TooLarge)?;
    let (body, tag) = rest
        .split_at_checked(length)
        .ok_or(CardFileError::Truncated)?;
    match tag.len() {
        TAG => {}
        ..TAG => return Err(CardFileError::Truncated),
        _ => return Err(CardFileError::TrailingBytes),
    }
    let covered = file.get(..HEADER + length).unwrap_or_default();
    let is_own = mac(key, covered).verify_slice(tag).is_ok();
    #[cfg(feature = "weakened")]
    let trusted = is_own || weakened::has(Weakness::NoHostHmac);
    #[cfg(not(feature = "weakened"))]
    let trusted = is_own;
    match read(version, body) {
        // Whole, and of this host: what is not understood are fields that are reserved in this version. The previous
        // generation must not stand in for it.
        Err(_) if is_own && version > FIRST => Err(CardFileError::NewerContent),
        read => read.map(|record| Decoded { record, trusted }),
    }
}

/// A version that can be read.
fn known(version: u16) -> Result<u16, CardFileError> {
    match version {
        FIRST..=VERSION => Ok(version),
        ..FIRST => Err(CardFileError::UnknownVersion(version)),
        _ => Err(CardFileError::Newer {
            found: version,
            known: VERSION,
        }),
    }
}

/// The version that a record is written in: the first one that has all of its fields.
fn version_of(record: &CardRecord) -> u16 {
    let is_new = |key: &KeyRecord| key.creation_data.is_some() || key.recovery.is_some();
    let tpm = &record.tpm;
    let attests = tpm.sealed_policies.is_some() || tpm.attestation_chain.is_some();
    match attests || record.keys.iter().any(is_new) {
        true => VERSION,
        false => FIRST,
    }
}

/// The versions differ in the fields that a record may have, so one reader serves them all.
fn read(version: u16, bytes: &[u8]) -> Result<CardRecord, CardFileError> {
    let record = minicbor::decode(bytes).map_err(CardFileError::Damaged)?;
    // Unknown or repeated keys and bytes after the record would be lost at the next save.
    if version_of(&record) != version || body(&record)? != bytes {
        return Err(CardFileError::NotCanonical);
    }
    validate(&record)?;
    Ok(record)
}

fn body(record: &CardRecord) -> Result<Vec<u8>, CardFileError> {
    // Encoding into memory has no other failure.
    minicbor::to_vec(record).map_err(|_| CardFileError::TooLarge)
}

/// Header, body and HMAC.
pub(crate) fn seal(key: &HostKey, version: u16, body: &[u8]) -> Result<Vec<u8>, CardFileError> {
    let length = u32::try_from(body.len()).map_err(|_| CardFileError::TooLarge)?;
    let mut file = Vec::with_capacity(HEADER + body.len() + TAG);
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&version.to_be_bytes());
    file.extend_from_slice(&length.to_be_bytes());
    file.extend_from_slice(body);
    let tag = mac(key, &file).finalize().into_bytes();
    file.extend_from_slice(&tag);
    Ok(file)
}

/// HMAC of the host over some bytes. What it covers begins with [`MAGIC`] or with a CBOR map,
/// so that nothing serves as anything else.
pub(crate) fn mac(key: &HostKey, bytes: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes keys of any length");
    mac.update(bytes);
    mac
}
