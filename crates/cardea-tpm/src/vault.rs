//! The admin vault: lets the TPM check an administrator's answer although nobody keeps the admin key.
//!
//! An entry binds a challenge to an X25519 public key whose private key follows from the right answer;
//! the admin value (the ADM index's authorisation) is encrypted to it.
//! Every answer, right or wrong, thus yields some candidate value, and only the TPM can tell them apart
//! and counts. The value can be replaced without the admin key and without any answer.

use std::fmt;

use cardea_card::record::{Vault, VaultEntry, VaultKind};
use cardea_card::secret::{Held, erase_stack};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use des::TdesEde3;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::auth::hmac;

/// Entries of each kind in a new vault.
pub const ENTRIES: usize = 64;

/// PBKDF2 rounds of a new vault.
pub const ROUNDS: u32 = 4096;

/// A 24-byte three-key 3DES key. Weak keys work: the default key of the field is single DES in effect.
#[derive(Clone)]
pub struct AdminKey(Held<24>);

impl ZeroizeOnDrop for AdminKey {}

/// An admin key that is not 24 bytes long.
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
            .map(|bytes| Self(Held::copy_of(bytes)))
            .map_err(|_| AdminKeyLengthError(bytes.len()))
    }

    /// 3DES-EDE-CBC with zero IV and no padding over whole blocks of 8 bytes; a rest is left as it is.
    pub fn encrypt(&self, data: &mut [u8]) {
        let mut cipher = cbc::Encryptor::<TdesEde3>::new((&*self.0).into(), &[0; 8].into());
        for block in data.chunks_exact_mut(8) {
            if let Ok(block) = block.try_into() {
                let block: &mut [u8; 8] = block;
                cipher.encrypt_block(block.into());
            }
        }
    }

    /// The inverse of [`encrypt`](Self::encrypt).
    pub fn decrypt(&self, data: &mut [u8]) {
        let mut cipher = cbc::Decryptor::<TdesEde3>::new((&*self.0).into(), &[0; 8].into());
        for block in data.chunks_exact_mut(8) {
            if let Ok(block) = block.try_into() {
                let block: &mut [u8; 8] = block;
                cipher.decrypt_block(block.into());
            }
        }
    }

    /// The card's part of mutual authentication (GIDS 2.0): checks the host's cryptogram
    /// E(K, card's challenge ‖ host's challenge ‖ Z1 ‖ 80) and answers E(K, host's ‖ card's ‖ Z2 ‖ 80),
    /// Z1 and Z2 being 7 random bytes each that nobody uses. `None` if the cryptogram is invalid.
    #[must_use]
    pub fn answer_mutual(
        &self,
        card: &[u8; 16],
        host: &[u8; 16],
        cryptogram: &[u8; 40],
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Option<[u8; 40]> {
        let mut plain = Zeroizing::new(*cryptogram);
        self.decrypt(&mut *plain);
        let (own, rest) = plain.split_first_chunk::<16>()?;
        let (theirs, rest) = rest.split_first_chunk::<16>()?;
        let padding = rest.last()?;
        if !bool::from(own.ct_eq(card) & theirs.ct_eq(host) & padding.ct_eq(&0x80)) {
            return None;
        }
        let mut secret = [0; 7];
        random(&mut secret);
        let mut answer: [u8; 40] = [&host[..], card, &secret, &[0x80]]
            .concat()
            .try_into()
            .ok()?;
        self.encrypt(&mut answer);
        Some(answer)
    }

    /// The key that the TPM has sealed as K ⊕ m.
    #[must_use]
    pub fn unmasked(masked: &[u8; 24], mask: &[u8; 24]) -> Self {
        Self(Self(Held::copy_of(masked)).masked(mask))
    }

    /// K ⊕ m, the form in which the TPM seals it.
    #[must_use]
    pub fn masked(&self, mask: &[u8; 24]) -> Held<24> {
        let mut masked = self.0.clone();
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

/// A vault of 64 entries of each kind for this admin key. Challenges in `known` come first: 8 bytes for an
/// external entry, 16 for a mutual one.
#[must_use]
pub fn make_vault(
    key: &AdminKey,
    admin_value: &[u8; 32],
    mask: &[u8; 24],
    known: &[&[u8]],
    random: &mut dyn FnMut(&mut [u8]),
) -> Vault {
    let mut entries = Vec::with_capacity(2 * ENTRIES);
    for kind in [VaultKind::External, VaultKind::Mutual] {
        let known = known
            .iter()
            .filter(|challenge| challenge.len() == challenge_length(kind));
        for challenge in known.take(ENTRIES) {
            entries.push(make_entry(
                kind,
                challenge.to_vec(),
                key,
                admin_value,
                mask,
                random,
            ));
        }
    }
    let mut vault = Vault {
        rounds: ROUNDS,
        entries,
        tag: [0; 32],
    };
    refill(&mut vault, key, admin_value, mask, random);
    vault
}

/// Fills a vault up to 64 entries of each kind.
pub fn refill(
    vault: &mut Vault,
    key: &AdminKey,
    admin_value: &[u8; 32],
    mask: &[u8; 24],
    random: &mut dyn FnMut(&mut [u8]),
) {
    for kind in [VaultKind::External, VaultKind::Mutual] {
        let present = vault
            .entries
            .iter()
            .filter(|entry| entry.kind == kind)
            .count();
        for _ in present..ENTRIES {
            let mut challenge = vec![0; challenge_length(kind)];
            random(&mut challenge);
            let entry = make_entry(kind, challenge, key, admin_value, mask, random);
            vault.entries.push(entry);
        }
    }
    vault.rounds = ROUNDS;
    vault.tag = tag(admin_value, &vault.entries);
}

/// A vault that no answer opens.
#[must_use]
pub fn closed() -> Vault {
    Vault {
        rounds: ROUNDS,
        entries: Vec::new(),
        tag: [0; 32],
    }
}

fn make_entry(
    kind: VaultKind,
    challenge: Vec<u8>,
    key: &AdminKey,
    admin_value: &[u8; 32],
    mask: &[u8; 24],
    random: &mut dyn FnMut(&mut [u8]),
) -> VaultEntry {
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
            #[cfg(feature = "weakened")]
            _ if weakened::has(Weakness::MaskForAll) => encrypt(&public, b"m", mask, random),
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
pub fn candidate(vault: &Vault, entry: &VaultEntry, answer: &[u8]) -> Option<Held<32>> {
    let secret = answer_key(answer, &entry.salt, vault.rounds);
    decrypt(&secret, b"adm", &entry.admin_value)
}

/// The mask m of a mutual entry; garbage for a wrong answer, none for an external entry.
#[must_use]
pub fn mask(vault: &Vault, entry: &VaultEntry, answer: &[u8]) -> Option<Held<24>> {
    let secret = answer_key(answer, &entry.salt, vault.rounds);
    decrypt(&secret, b"m", &entry.mask)
}

/// A vault that was changed by somebody without the admin value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the admin vault was changed by someone without the admin value")]
pub struct TagError;

/// The vault for a new admin value, with the entries that are to be kept: never the one that was answered.
///
/// # Errors
///
/// [`TagError`] when the vault is not what the holder of `old` wrote: encrypting to its public keys would
/// hand the next value to whoever put them there.
pub fn rotate(
    vault: &Vault,
    keep: impl Fn(&VaultEntry) -> bool,
    old: &[u8; 32],
    new: &[u8; 32],
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<Vault, TagError> {
    let whole = bool::from(tag(old, &vault.entries).ct_eq(&vault.tag));
    #[cfg(feature = "weakened")]
    let whole = whole || weakened::has(Weakness::NoVaultTag);
    if !whole {
        return Err(TagError);
    }
    let entries: Vec<_> = vault
        .entries
        .iter()
        .filter(|entry| keep(entry))
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

fn decrypt<const N: usize>(secret: &StaticSecret, label: &[u8], stored: &[u8]) -> Option<Held<N>> {
    let (epk, content) = stored.split_first_chunk::<32>()?;
    let mut plain = Held::copy_of(content.try_into().ok()?);
    let public = PublicKey::from(secret).to_bytes();
    let shared = secret.diffie_hellman(&PublicKey::from(*epk));
    let keystream = hmac(shared.as_bytes(), &[label, &[0], epk, &public]);
    plain
        .iter_mut()
        .zip(keystream.iter())
        .for_each(|(byte, key)| *byte ^= key);
    erase_stack();
    Some(plain)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::LazyLock;

    use serde_json::Value;

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

    /// Made once: unoptimised key derivation takes seconds.
    static MADE: LazyLock<(AdminKey, Vault)> = LazyLock::new(|| {
        let key = AdminKey::new(&[0x5A; 24]).unwrap();
        let vault = make_vault(&key, &[1; 32], &[2; 24], &[], &mut counter());
        (key, vault)
    });

    fn vault() -> (AdminKey, Vault) {
        MADE.clone()
    }

    /// Steps that are private to this file, each against a value that another program computed.
    #[test]
    fn every_step_of_an_entry_is_the_vectors() {
        let vectors: Value =
            serde_json::from_str(include_str!("../tests/vectors/tpm-vectors.json")).unwrap();
        let source = &vectors["vault"];
        let key = AdminKey::new(&hex(&source["admin_key"])).unwrap();
        for entry in source["entries"].as_array().unwrap() {
            let mut answer = hex(&entry["c"]);
            key.encrypt(&mut answer);
            assert_eq!(answer, hex(&entry["r"]));
            let secret = answer_key(&answer, &array(&entry["s"]), ROUNDS);
            assert_eq!(secret.to_bytes()[..], hex(&entry["scalar"])[..]);
            let public = PublicKey::from(&secret).to_bytes();
            assert_eq!(public[..], hex(&entry["pk"])[..]);
            for (label, content) in [("adm", hex(&source["adm"])), ("m", hex(&source["m"]))] {
                let Some(step) = entry.get(label) else {
                    assert_eq!((label, &entry["kind"]), ("m", &Value::from("external")));
                    continue;
                };
                let ephemeral: [u8; 32] = array(&step["e"]);
                let epk: [u8; 32] = array(&step["epk"]);
                let label = label.as_bytes();
                let shared = secret.diffie_hellman(&PublicKey::from(epk));
                assert_eq!(shared.as_bytes()[..], hex(&step["z"])[..]);
                let keystream = hmac(shared.as_bytes(), &[label, &[0], &epk, &public]);
                assert_eq!(keystream[..], hex(&step["keystream"])[..]);
                let mut random = |buffer: &mut [u8]| buffer.copy_from_slice(&ephemeral);
                let stored = encrypt(&public, label, &content, &mut random);
                assert_eq!(stored, hex(&step["stored"]));
                assert_eq!(stored[..32], epk);
            }
        }
    }

    #[test]
    fn new_vault_has_every_entry_once_and_a_tag_that_holds() {
        let (_, vault) = vault();
        let of = |kind| vault.entries.iter().filter(move |entry| entry.kind == kind);
        for kind in [VaultKind::External, VaultKind::Mutual] {
            assert_eq!(of(kind).count(), ENTRIES);
            assert!(of(kind).all(|entry| entry.challenge.len() == challenge_length(kind)));
        }
        assert!(of(VaultKind::External).all(|entry| entry.mask.is_empty()));
        let distinct = |field: fn(&VaultEntry) -> Vec<u8>| {
            let fields: HashSet<_> = vault.entries.iter().map(field).collect();
            assert_eq!(fields.len(), 2 * ENTRIES);
        };
        distinct(|entry| entry.challenge.clone());
        distinct(|entry| entry.salt.to_vec());
        distinct(|entry| entry.public.to_vec());
        distinct(|entry| entry.admin_value[..32].to_vec());
        assert_eq!(tag(&[1; 32], &vault.entries), vault.tag);
    }

    #[test]
    fn rotation_refuses_every_change_that_the_tag_covers() {
        let (_, honest) = vault();
        let changes: [fn(&mut Vault); 7] = [
            |vault| vault.entries[0].kind = VaultKind::Mutual,
            |vault| vault.entries[1].challenge[7] ^= 1,
            |vault| vault.entries[2].salt[0] ^= 1,
            |vault| vault.entries[ENTRIES].mask[40] ^= 1,
            |vault| vault.entries.swap(0, 1),
            |vault| drop(vault.entries.pop()),
            |vault| vault.tag[31] ^= 1,
        ];
        for change in changes {
            let mut vault = honest.clone();
            change(&mut vault);
            let rotated = rotate(&vault, |_| true, &[1; 32], &[9; 32], &mut counter());
            assert_eq!(rotated.unwrap_err(), TagError);
        }
        let other_value = rotate(&honest, |_| true, &[3; 32], &[9; 32], &mut counter());
        assert_eq!(other_value.unwrap_err(), TagError);
    }

    #[test]
    fn rotated_vault_keeps_the_mask_and_rotates_again() {
        let (key, first) = vault();
        let second = rotate(&first, |_| true, &[1; 32], &[9; 32], &mut counter()).unwrap();
        let third = rotate(&second, |_| true, &[9; 32], &[8; 32], &mut counter()).unwrap();
        let entry = &third.entries[ENTRIES];
        let mut answer = entry.challenge.clone();
        key.encrypt(&mut answer);
        assert_eq!(*candidate(&third, entry, &answer).unwrap(), [8; 32]);
        assert_eq!(*mask(&third, entry, &answer).unwrap(), [2; 24]);
    }

    #[test]
    fn entry_of_impossible_size_gives_nothing() {
        let (_, mut vault) = vault();
        for length in [0, 31, 32, 63, 65] {
            vault.entries[0].admin_value.resize(length, 0);
            assert!(candidate(&vault, &vault.entries[0], &[0; 8]).is_none());
        }
        assert!(mask(&vault, &vault.entries[0], &[0; 8]).is_none());
    }

    #[test]
    fn admin_key_has_24_bytes_of_any_value_and_does_not_show_them() {
        for length in [0, 16, 23, 25] {
            let error = AdminKey::new(&vec![0; length]).unwrap_err();
            assert_eq!(error, AdminKeyLengthError(length));
        }
        for weak in [[0; 24], [1; 24], [0xFE; 24]] {
            assert!(AdminKey::new(&weak).is_ok());
        }
        assert_eq!(format!("{:?}", AdminKey::new(&[0x41; 24])), "Ok(AdminKey)");
    }

    fn hex(value: &Value) -> Vec<u8> {
        base16ct::mixed::decode_vec(value.as_str().unwrap()).unwrap()
    }

    fn array<const N: usize>(value: &Value) -> [u8; N] {
        hex(value).try_into().unwrap()
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
        let new = rotate(
            &old,
            |entry| entry.challenge != answered,
            &[1; 32],
            &[9; 32],
            &mut counter(),
        )
        .unwrap();
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
        let rotated = rotate(&vault, |_| true, &[1; 32], &[9; 32], &mut counter());
        assert_eq!(rotated.unwrap_err(), TagError);
    }
}
