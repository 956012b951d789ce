//! The admin vault: lets the TPM check an administrator's answer although nobody keeps the admin key.
//!
//! An entry binds a challenge to an X25519 public key whose private key follows from the right answer;
//! the admin value (the ADM index's authorisation) is encrypted to it.
//! Every answer, right or wrong, thus yields some candidate value, and only the TPM can tell them apart
//! and counts. The value can be replaced without the admin key and without any answer.

use std::fmt;

use cardea_card::record::{Vault, VaultEntry, VaultKind};
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use des::TdesEde3;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::auth::hmac;

/// Entries of each kind in a new vault.
pub const ENTRIES: usize = 64;

/// PBKDF2 rounds of a new vault.
pub const ROUNDS: u32 = 4096;

/// A 24-byte three-key 3DES key. Weak keys work: the default key of the field is single DES in effect.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AdminKey([u8; 24]);

/// An admin key that has not 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an admin key has 24 bytes, not {0}")]
pub struct AdminKeyLengthError(pub usize);

impl AdminKey {
    /// From its 24 bytes.
    ///
    /// # Errors
    ///
    /// [`AdminKeyLengthError`].
    pub fn new(bytes: &[u8]) -> Result<Self, AdminKeyLengthError> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| AdminKeyLengthError(bytes.len()))
    }

    /// 3DES-EDE-CBC with zero IV and no padding over whole blocks of 8 bytes; a rest is left as it is.
    pub fn encrypt(&self, data: &mut [u8]) {
        let mut cipher = cbc::Encryptor::<TdesEde3>::new(&self.0.into(), &[0; 8].into());
        for block in data.chunks_exact_mut(8) {
            if let Ok(block) = block.try_into() {
                let block: &mut [u8; 8] = block;
                cipher.encrypt_block(block.into());
            }
        }
    }

    /// K ⊕ m, the form in which the TPM seals it.
    #[must_use]
    pub fn masked(&self, mask: &[u8; 24]) -> Zeroizing<[u8; 24]> {
        let mut masked = Zeroizing::new(self.0);
        masked
            .iter_mut()
            .zip(mask)
            .for_each(|(byte, mask)| *byte ^= mask);
        masked
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey")
    }
}

/// A vault of 64 entries of each kind for this admin key.
#[must_use]
pub fn make_vault(
    key: &AdminKey,
    admin_value: &[u8; 32],
    mask: &[u8; 24],
    random: &mut dyn FnMut(&mut [u8]),
) -> Vault {
    let mut entries = Vec::with_capacity(2 * ENTRIES);
    for kind in [VaultKind::External, VaultKind::Mutual] {
        for _ in 0..ENTRIES {
            entries.push(make_entry(kind, key, admin_value, mask, random));
        }
    }
    let tag = tag(admin_value, &entries);
    Vault {
        rounds: ROUNDS,
        entries,
        tag,
    }
}

fn make_entry(
    kind: VaultKind,
    key: &AdminKey,
    admin_value: &[u8; 32],
    mask: &[u8; 24],
    random: &mut dyn FnMut(&mut [u8]),
) -> VaultEntry {
    let mut challenge = vec![0; challenge_length(kind)];
    random(&mut challenge);
    let mut answer = Zeroizing::new(challenge.clone());
    key.encrypt(&mut answer);
    let mut salt = [0; 16];
    random(&mut salt);
    let public = PublicKey::from(&answer_key(&answer, &salt, ROUNDS)).to_bytes();
    VaultEntry {
        kind,
        challenge,
        salt,
        public,
        admin_value: encrypt(&public, b"adm", admin_value, random),
        mask: match kind {
            VaultKind::External => Vec::new(),
            VaultKind::Mutual => encrypt(&public, b"m", mask, random),
        },
    }
}

/// Length in bytes of a challenge, and of the part of the answer that the vault looks at.
#[must_use]
pub fn challenge_length(kind: VaultKind) -> usize {
    match kind {
        VaultKind::External => 8,
        VaultKind::Mutual => 16,
    }
}

/// The admin value that an answer stands for; garbage for a wrong answer, and only the TPM knows which.
/// None for an entry of impossible size.
#[must_use]
pub fn candidate(vault: &Vault, entry: &VaultEntry, answer: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let secret = answer_key(answer, &entry.salt, vault.rounds);
    decrypt(&secret, b"adm", &entry.admin_value)
}

/// The mask m of a mutual entry; garbage for a wrong answer, none for an external entry.
#[must_use]
pub fn mask(vault: &Vault, entry: &VaultEntry, answer: &[u8]) -> Option<Zeroizing<[u8; 24]>> {
    let secret = answer_key(answer, &entry.salt, vault.rounds);
    decrypt(&secret, b"m", &entry.mask)
}

/// A vault that was changed by somebody without the admin value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the admin vault was changed by someone without the admin value")]
pub struct TagError;

/// The vault for a new admin value, without the entry that was answered.
///
/// # Errors
///
/// [`TagError`] when the vault is not what the holder of `old` wrote: encrypting to its public keys would
/// hand the next value to whoever put them there.
pub fn rotate(
    vault: &Vault,
    answered: &[u8],
    old: &[u8; 32],
    new: &[u8; 32],
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<Vault, TagError> {
    if !bool::from(tag(old, &vault.entries).ct_eq(&vault.tag)) {
        return Err(TagError);
    }
    let entries: Vec<_> = vault
        .entries
        .iter()
        .filter(|entry| entry.challenge != answered)
        .map(|entry| VaultEntry {
            admin_value: encrypt(&entry.public, b"adm", new, random),
            ..entry.clone()
        })
        .collect();
    let tag = tag(new, &entries);
    Ok(Vault {
        rounds: vault.rounds,
        entries,
        tag,
    })
}

/// HMAC under the admin value over what rotation keeps of the entries.
#[must_use]
pub fn tag(admin_value: &[u8; 32], entries: &[VaultEntry]) -> [u8; 32] {
    let mut message = b"vault\0".to_vec();
    for entry in entries {
        message.push(match entry.kind {
            VaultKind::External => 0,
            VaultKind::Mutual => 1,
        });
        for field in [
            &entry.challenge[..],
            &entry.salt,
            &entry.public,
            &entry.mask,
        ] {
            let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
            message.extend_from_slice(&length.to_be_bytes());
            message.extend_from_slice(field);
        }
    }
    *hmac(admin_value, &[&message])
}

fn answer_key(answer: &[u8], salt: &[u8; 16], rounds: u32) -> StaticSecret {
    let mut scalar = Zeroizing::new([0; 32]);
    pbkdf2::pbkdf2_hmac::<Sha256>(answer, salt, rounds, &mut *scalar);
    StaticSecret::from(*scalar)
}

fn encrypt(
    public: &[u8; 32],
    label: &[u8],
    content: &[u8],
    random: &mut dyn FnMut(&mut [u8]),
) -> Vec<u8> {
    let mut ephemeral = Zeroizing::new([0; 32]);
    random(&mut *ephemeral);
    let ephemeral = StaticSecret::from(*ephemeral);
    let epk = PublicKey::from(&ephemeral).to_bytes();
    let shared = ephemeral.diffie_hellman(&PublicKey::from(*public));
    let keystream = hmac(shared.as_bytes(), &[label, &[0], &epk, public]);
    let mut stored = epk.to_vec();
    stored.extend(
        content
            .iter()
            .zip(keystream.iter())
            .map(|(byte, key)| byte ^ key),
    );
    stored
}

fn decrypt<const N: usize>(
    secret: &StaticSecret,
    label: &[u8],
    stored: &[u8],
) -> Option<Zeroizing<[u8; N]>> {
    let (epk, content) = stored.split_first_chunk::<32>()?;
    let mut plain = Zeroizing::new(<[u8; N]>::try_from(content).ok()?);
    let public = PublicKey::from(secret).to_bytes();
    let shared = secret.diffie_hellman(&PublicKey::from(*epk));
    let keystream = hmac(shared.as_bytes(), &[label, &[0], epk, &public]);
    plain
        .iter_mut()
        .zip(keystream.iter())
        .for_each(|(byte, key)| *byte ^= key);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter() -> impl FnMut(&mut [u8]) {
        let mut state = 1u32;
        move |buffer| {
            for byte in buffer {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = state.to_be_bytes()[0];
            }
        }
    }

    fn vault() -> (AdminKey, Vault) {
        let key = AdminKey::new(&[0x5A; 24]).unwrap();
        let vault = make_vault(&key, &[1; 32], &[2; 24], &mut counter());
        (key, vault)
    }

    #[test]
    fn right_answer_gives_the_admin_value_and_a_wrong_one_another() {
        let (key, vault) = vault();
        for entry in [&vault.entries[0], &vault.entries[ENTRIES]] {
            let mut answer = entry.challenge.clone();
            key.encrypt(&mut answer);
            assert_eq!(*candidate(&vault, entry, &answer).unwrap(), [1; 32]);
            answer[0] ^= 1;
            assert_ne!(*candidate(&vault, entry, &answer).unwrap(), [1; 32]);
        }
    }

    #[test]
    fn rotation_needs_no_answer_and_drops_the_entry() {
        let (key, old) = vault();
        let answered = old.entries[0].challenge.clone();
        let new = rotate(&old, &answered, &[1; 32], &[9; 32], &mut counter()).unwrap();
        assert_eq!(new.entries.len(), 2 * ENTRIES - 1);
        let entry = &new.entries[5];
        let mut answer = entry.challenge.clone();
        key.encrypt(&mut answer);
        assert_eq!(*candidate(&new, entry, &answer).unwrap(), [9; 32]);
    }

    #[test]
    fn rotation_refuses_a_public_key_that_somebody_slipped_in() {
        let (_, mut vault) = vault();
        vault.entries[3].public = [7; 32];
        let rotated = rotate(&vault, &[], &[1; 32], &[9; 32], &mut counter());
        assert_eq!(rotated.unwrap_err(), TagError);
    }
}
