//! A card's own random admin key, exported once, under a passphrase.
//!
//! The file is one of `openssl enc` ([`cardea_pki::escrow`]); in it are three lines: what it is, the card id, the key.

use std::path::Path;

use cardea_pki::escrow;
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex;
use crate::secret::AdminKey;

/// First line of the content.
const TITLE: &str = "cardea admin key";

/// Makes a random key for a card and keeps it in a new file, on the disk when this returns.
pub(crate) fn make(path: &Path, passphrase: &[u8], card: &[u8; 16]) -> Result<AdminKey, Failure> {
    let random = |bytes: &mut [u8]| {
        getrandom::fill(bytes)
            .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))
    };
    let mut key: AdminKey = Zeroizing::new([0; 24]);
    random(&mut *key)?;
    let mut salt = [0; escrow::SALT];
    random(&mut salt)?;
    let mut content = Zeroizing::new(String::with_capacity(128));
    content.push_str(TITLE);
    content.push('\n');
    hex::push(&mut content, card);
    content.push('\n');
    hex::push(&mut content, &*key);
    content.push('\n');
    let sealed = escrow::seal(content.as_bytes(), passphrase, salt)
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    file::write_secret(path, &sealed)?;
    Ok(key)
}

/// Card id and key in such a file.
pub(crate) fn open(path: &Path, passphrase: &[u8]) -> Result<([u8; 16], AdminKey), Failure> {
    let wrong = || {
        Failure::usage(format!(
            "{} cannot be opened: the passphrase is wrong, or it is no key of a card",
            path.display()
        ))
    };
    let content = escrow::open(&file::read(path)?, passphrase).map_err(|_| wrong())?;
    let mut lines = content.split(|byte| *byte == b'\n');
    if lines.next() != Some(TITLE.as_bytes()) {
        return Err(wrong());
    }
    let id = lines.next().and_then(hex::parse).ok_or_else(wrong)?;
    let key = lines.next().and_then(hex::parse).ok_or_else(wrong)?;
    Ok((*id, key))
}
