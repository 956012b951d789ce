//! A key for each card from one master secret, so that nobody has to keep a list of keys.
//!
//! SP 800-108r1 §4.1, counter mode with HMAC-SHA256, one block of which 24 bytes are the key:
//! HMAC(master, `00000001` ‖ "Cardea admin key" ‖ `00` ‖ card id ‖ `000000C0`), all 16 bytes of the id.
//! `docs/help-desk.md` has a test vector.
//!
//! The master secret is in a file, unencrypted, or in a PKCS#11 token or a TPM that the file names.

mod sealed;
mod token;

use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use self::sealed::SealedKey;
use self::token::TokenKey;
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex;
use crate::terminal::secret::AdminKey;
use crate::token::SCHEME;

/// What the keys are for.
const LABEL: &[u8] = b"Cardea admin key";

/// What the check value is computed of.
const CHECK: &[u8] = b"Cardea master secret";

/// Bits of a key.
const KEY_BITS: u32 = 192;

/// Bytes of a master secret that is made here.
pub(crate) const MASTER: usize = 32;

/// The secret from which keys are derived.
pub(crate) struct Master(Place);

/// Where it is.
enum Place {
    Clear(Zeroizing<[u8; MASTER]>),
    Sealed(SealedKey),
    Token(TokenKey),
}

impl Master {
    /// Reads one: 64 hexadecimal digits, the URI of a key in a PKCS#11 token, or a key wrapped to a TPM.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let content =
            file::read(path).map_err(|error| Failure::usage(format!("master secret: {error}")))?;
        if let Ok(text) = std::str::from_utf8(&content) {
            if text.starts_with(sealed::TITLE) {
                return SealedKey::open(text).map(|key| Self(Place::Sealed(key)));
            }
            if text.starts_with(SCHEME) {
                return TokenKey::open(text.trim_end()).map(|key| Self(Place::Token(key)));
            }
        }
        let bytes = hex::parse(&content)
            .ok_or_else(|| Failure::usage(
                "a master secret is 64 hexadecimal digits, the URI of a key in a PKCS#11 token, or a key wrapped to a TPM",
            ))?;
        Ok(Self(Place::Clear(bytes)))
    }

    pub(crate) fn new(bytes: Zeroizing<[u8; MASTER]>) -> Self {
        Self(Place::Clear(bytes))
    }

    /// The text of a file with it in the TPM at that address; only from the clear.
    pub(crate) fn seal(&self, address: &str) -> Result<String, Failure> {
        match &self.0 {
            Place::Clear(bytes) => sealed::seal(address, bytes),
            Place::Sealed(_) | Place::Token(_) => Err(Failure::usage(
                "this master secret cannot leave its TPM or token",
            )),
        }
    }

    /// The admin key of the card with this id.
    pub(crate) fn key(&self, card: &[u8; 16]) -> Result<AdminKey, Failure> {
        let mut input = Vec::with_capacity(4 + LABEL.len() + 1 + card.len() + 4);
        input.extend_from_slice(&1_u32.to_be_bytes());
        input.extend_from_slice(LABEL);
        input.push(0);
        input.extend_from_slice(card);
        input.extend_from_slice(&KEY_BITS.to_be_bytes());
        let digest = self.mac(&input)?;
        let mut key = Zeroizing::new([0; 24]);
        for (place, byte) in key.iter_mut().zip(digest.iter()) {
            *place = *byte;
        }
        Ok(key)
    }

    /// Three bytes that identify a master secret and reveal nothing of the keys.
    pub(crate) fn check_value(&self) -> Result<String, Failure> {
        let digest = self.mac(CHECK)?;
        Ok(hex::plain(digest.get(..3).unwrap_or_default()))
    }

    fn mac(&self, input: &[u8]) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let secret = match &self.0 {
            Place::Clear(secret) => secret,
            Place::Sealed(key) => return key.mac(input),
            Place::Token(key) => return key.mac(input),
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&**secret)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        mac.update(input);
        Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
    }
}

/// The 16 bytes of a card id, as `card list` prints it or as a GUID.
pub(crate) fn parse_card_id(text: &str) -> Result<[u8; 16], String> {
    let digits = text.trim_matches(['{', '}']).replace('-', "");
    hex::parse(digits.as_bytes())
        .map(|bytes| *bytes)
        .ok_or_else(|| "a card id is 32 hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> Master {
        let mut bytes = Zeroizing::new([0; MASTER]);
        for (byte, number) in bytes.iter_mut().zip(0..) {
            *byte = number;
        }
        Master::new(bytes)
    }

    /// Computed with Python's hmac.
    #[test]
    fn key_of_the_test_vector() {
        let card = parse_card_id("01234567-89ab-cdef-0123-456789abcdef").unwrap();
        assert_eq!(
            hex::plain(&*master().key(&card).unwrap()),
            "536B74B4844285DE4D14548620E26319BCB2CF269A347ACF"
        );
        assert_eq!(master().check_value().unwrap(), "B64A64");
    }

    #[test]
    fn every_card_has_its_own() {
        let key = |card| master().key(&card).unwrap();
        let one = key([1; 16]);
        assert_ne!(*one, *key([2; 16]));
        assert_eq!(*one, *key([1; 16]));
    }

    #[test]
    fn card_ids_in_both_forms() {
        for text in [
            "0123456789abcdef0123456789abcdef",
            "{01234567-89AB-CDEF-0123-456789ABCDEF}",
        ] {
            assert!(parse_card_id(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "0123",
            "0123456789abcdef0123456789abcdeg",
            "ROOT\\SMARTCARDREADER\\0000",
        ] {
            assert!(parse_card_id(text).is_err(), "{text}");
        }
    }
}
