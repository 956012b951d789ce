//! Admin keys: where they come from and where they are kept, and the answers that they compute.

pub(crate) mod answer;
pub(crate) mod escrow;
pub(crate) mod master;

use std::path::Path;

use des::TdesEde3;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex::Block;
use crate::terminal::output::note;
use crate::terminal::secret::AdminKey;

/// 3DES of the challenge: ECB, one block (GIDS 2.0, external authentication).
pub(crate) fn respond(key: &AdminKey, challenge: Block) -> Block {
    let key: &[u8; 24] = key;
    let mut block = challenge.0;
    TdesEde3::new(key.into()).encrypt_block((&mut block).into());
    Block(block)
}

/// A random key, in its file and on the disk before the card has it.
pub(crate) fn make_key(path: &Path) -> Result<AdminKey, Failure> {
    let mut key: AdminKey = Zeroizing::new([0; 24]);
    getrandom::fill(&mut *key)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
    write_key(path, &*key)?;
    Ok(key)
}

/// Writes hexadecimal digits to a new file, which is on the disk when this returns.
pub(crate) fn write_key(path: &Path, key: &[u8]) -> Result<(), Failure> {
    let mut digits = Zeroizing::new(Vec::with_capacity(2 * key.len() + 1));
    for byte in key {
        for nibble in [byte >> 4, byte & 0xF] {
            digits.extend(char::from_digit(nibble.into(), 16).map(|digit| digit as u8));
        }
    }
    digits.push(b'\n');
    file::write_secret(path, &digits)
}

/// After a failed change: removes the key's file if the card certainly does not have the key, else asks to keep it.
pub(crate) fn settle(path: &Path, failure: &Failure) {
    match failure.exit {
        // Refused before anything was changed.
        Exit::PinWrong | Exit::Usage | Exit::Denied | Exit::NotFound => {
            if let Err(error) = std::fs::remove_file(path) {
                note(&format!(
                    "{} is no longer of use and could not be removed: {error}",
                    path.display()
                ));
            }
        }
        _ => note(&format!(
            "keep {}: the card may already have this key; check with `cardea admin verify`",
            path.display()
        )),
    }
}

/// DES ignores the lowest bit of each byte (FIPS 46-3).
pub(crate) fn is_single_des(key: &AdminKey) -> bool {
    let same = |one: &[u8], other: &[u8]| {
        one.iter()
            .zip(other)
            .all(|(one, other)| one & 0xFE == other & 0xFE)
    };
    let (parts, _) = key.as_chunks::<8>();
    match parts {
        [first, second, third] => same(first, second) || same(second, third),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl enc -des-ede3 -nopad` computes the same.
    #[test]
    fn response_is_one_block_of_triple_des() {
        let key: AdminKey =
            crate::hex::parse(b"0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123").unwrap();
        let challenge = "5468652071756663".parse().unwrap();
        assert_eq!(
            respond(&key, challenge),
            "A826FD8CE53B855F".parse().unwrap()
        );
    }

    #[test]
    fn keys_that_are_single_des_are_known() {
        let key = |parts: [u8; 3]| -> AdminKey {
            let mut key = Zeroizing::new([0; 24]);
            for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
                bytes.fill(part);
            }
            key
        };
        assert!(is_single_des(&key([2, 2, 4])));
        assert!(is_single_des(&key([4, 2, 3])), "parity bit");
        assert!(!is_single_des(&key([2, 4, 2])));
        assert!(!is_single_des(&key([2, 4, 6])));
    }
}
