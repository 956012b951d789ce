//! RSA with the public key, and the paddings for both directions (RFC 8017).

use cardea_client::message::Hash;
use rsa::hazmat::rsa_encrypt;
use rsa::{BoxedUint, PublicKey};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::hashes::{digest, length, mgf1};

/// The bare operation with a public key of 2048, 3072 or 4096 bits. `None` unless the data has the length of the
/// modulus and is less than it.
pub(crate) fn power(modulus: &[u8], exponent: u32, data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if !matches!(modulus.len(), 256 | 384 | 512) || data.len() != modulus.len() || data >= modulus {
        return None;
    }
    let number = BoxedUint::from_be_slice_vartime(modulus);
    let key = PublicKey::new(number, BoxedUint::from(exponent)).ok()?;
    let data = Zeroizing::new(BoxedUint::from_be_slice_vartime(data));
    let raised = Zeroizing::new(rsa_encrypt(&key, &data).ok()?);
    Some(Zeroizing::new(raised.to_be_bytes().into_vec()))
}

/// EMSA-PKCS1-v1_5 around the data as it is, without a DigestInfo (RFC 8017 §9.2).
pub(crate) fn pad_signature(data: &[u8], size: usize) -> Option<Vec<u8>> {
    let padding = size.checked_sub(data.len() + 3).filter(|&n| n >= 8)?;
    Some([&[0, 1][..], &vec![0xFF; padding], &[0], data].concat())
}

/// EME-PKCS1-v1_5 (RFC 8017 §7.2.1). `random` fills a buffer with random bytes.
pub(crate) fn pad_encryption(
    data: &[u8],
    size: usize,
    mut random: impl FnMut(&mut [u8]) -> Option<()>,
) -> Option<Zeroizing<Vec<u8>>> {
    let padding = size.checked_sub(data.len() + 3).filter(|&n| n >= 8)?;
    let mut bytes = vec![0; padding];
    random(&mut bytes)?;
    for byte in &mut bytes {
        let mut one = [*byte];
        while one == [0] {
            random(&mut one)?;
        }
        [*byte] = one;
    }
    Some(Zeroizing::new([&[0, 2], &bytes[..], &[0], data].concat()))
}

/// EMSA-PSS (RFC 8017 §9.1.1) for a modulus whose highest bit is set.
pub(crate) fn pss_encode(
    m_hash: &[u8],
    salt: &[u8],
    hash: Hash,
    mgf: Hash,
    size: usize,
) -> Option<Vec<u8>> {
    let h = digest(hash, &[&[0; 8], m_hash, salt]);
    let db_length = size.checked_sub(h.len() + 1)?;
    let zeros = db_length.checked_sub(salt.len() + 1)?;
    let mut db = [&vec![0; zeros][..], &[1], salt].concat();
    let mask = mgf1(mgf, &h, db_length);
    db.iter_mut()
        .zip(mask.iter())
        .for_each(|(byte, mask)| *byte ^= mask);
    if let Some(first) = db.first_mut() {
        *first &= 0x7F;
    }
    Some([&db[..], &h, &[0xBC]].concat())
}

/// Whether a block is the EMSA-PSS encoding of a digest with a salt of this length (RFC 8017 §9.1.2).
pub(crate) fn is_pss_of(block: &[u8], m_hash: &[u8], salt: usize, hash: Hash, mgf: Hash) -> bool {
    let recovered = || {
        let (&trailer, rest) = block.split_last()?;
        let at = rest.len().checked_sub(length(hash))?;
        let (masked, h) = rest.split_at_checked(at)?;
        let mask = mgf1(mgf, h, masked.len());
        let mut db: Vec<u8> = masked.iter().zip(mask.iter()).map(|(a, b)| a ^ b).collect();
        *db.first_mut()? &= 0x7F;
        let start = db.len().checked_sub(salt)?;
        let (_, salt) = db.split_at_checked(start)?;
        (trailer == 0xBC && masked.first()? < &0x80)
            .then(|| pss_encode(m_hash, salt, hash, mgf, block.len()))?
    };
    recovered().is_some_and(|expected| expected == block)
}

/// EME-OAEP encoding (RFC 8017 §7.1.1, step 2).
pub(crate) fn oaep_encode(
    plain: &[u8],
    seed: &[u8],
    hash: Hash,
    mgf: Hash,
    label: &[u8],
    size: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    let label_hash = digest(hash, &[label]);
    let zeros = size.checked_sub(plain.len() + 2 * label_hash.len() + 2)?;
    let db = Zeroizing::new([&label_hash[..], &vec![0; zeros], &[1], plain].concat());
    let xor = |data: &[u8], mask: &[u8]| {
        let bytes = data.iter().zip(mask).map(|(byte, mask)| byte ^ mask);
        Zeroizing::new(bytes.collect::<Vec<u8>>())
    };
    let masked_db = xor(&db, &mgf1(mgf, seed, db.len()));
    let masked_seed = xor(seed, &mgf1(mgf, &masked_db, seed.len()));
    Some(Zeroizing::new(
        [&[0], &masked_seed[..], &masked_db[..]].concat(),
    ))
}

/// EME-OAEP decoding (RFC 8017 §7.1.2, step 3) in a time that does not depend on where the block is invalid.
pub(crate) fn oaep_decode(
    block: &[u8],
    hash: Hash,
    mgf: Hash,
    label: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let label_hash = digest(hash, &[label]);
    let size = label_hash.len();
    let (first, rest) = block.split_first()?;
    let (masked_seed, masked_db) = rest.split_at_checked(size)?;
    if masked_db.len() <= size {
        return None;
    }
    let unmask = |masked: &[u8], mask: &[u8]| -> Zeroizing<Vec<u8>> {
        let bytes = masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask);
        Zeroizing::new(bytes.collect())
    };
    let seed = unmask(masked_seed, &mgf1(mgf, masked_db, size));
    let db = unmask(masked_db, &mgf1(mgf, &seed, masked_db.len()));
    let (found, padded) = db.split_at_checked(size)?;
    let mut good = first.ct_eq(&0) & found.ct_eq(&label_hash);
    let mut looking = Choice::from(1);
    let mut start = 0u32;
    for (byte, after) in padded.iter().zip(1u32..) {
        let one = byte.ct_eq(&1);
        start.conditional_assign(&after, looking & one);
        good &= !looking | one | byte.ct_eq(&0);
        looking &= !one;
    }
    good &= !looking;
    let plain = padded.get(usize::try_from(start).ok()?..)?;
    bool::from(good).then(|| Zeroizing::new(plain.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oaep_decodes_its_own_blocks_and_refuses_altered_ones() {
        for (hash, mgf) in [(Hash::Sha256, Hash::Sha256), (Hash::Sha256, Hash::Sha1)] {
            for plain in [&b""[..], b"\0\x01secret", &[9; 190]] {
                let block = oaep_encode(plain, &[7; 32], hash, mgf, b"label", 256).unwrap();
                let decoded = oaep_decode(&block, hash, mgf, b"label");
                assert_eq!(decoded.as_deref().map(Vec::as_slice), Some(plain));
                assert_eq!(oaep_decode(&block, hash, mgf, b"other"), None);
                for at in [0, 1, 33, 70, 255] {
                    let mut changed = block.clone();
                    changed[at] ^= 1;
                    let decoded = oaep_decode(&changed, hash, mgf, b"label");
                    assert_ne!(decoded.as_deref().map(Vec::as_slice), Some(plain), "{at}");
                }
            }
        }
        assert!(oaep_encode(&[9; 191], &[7; 32], Hash::Sha256, Hash::Sha256, b"", 256).is_none());
        assert_eq!(oaep_decode(&[0; 64], Hash::Sha256, Hash::Sha256, b""), None);
        assert_eq!(oaep_decode(&[], Hash::Sha256, Hash::Sha256, b""), None);
    }

    #[test]
    fn paddings_have_at_least_eight_bytes() {
        assert_eq!(pad_signature(&[1; 245], 256).unwrap().len(), 256);
        assert_eq!(pad_signature(&[1; 246], 256), None);
        let mut calls = 0u8;
        let random = |buffer: &mut [u8]| {
            // The first fill consists of zeros, which must be replaced.
            buffer.fill(calls);
            calls += 1;
            Some(())
        };
        let block = pad_encryption(&[1; 245], 256, random).unwrap();
        assert_eq!((block.len(), block[1]), (256, 2));
        assert_eq!(block[2..].iter().position(|byte| *byte == 0), Some(8));
        assert!(pad_encryption(&[1; 246], 256, |_| Some(())).is_none());
    }

    #[test]
    fn pss_accepts_only_unaltered_blocks_of_the_digest() {
        let block = pss_encode(&[1; 32], &[2; 20], Hash::Sha256, Hash::Sha1, 256).unwrap();
        assert_eq!((block.len(), block[255]), (256, 0xBC));
        assert!(block[0] < 0x80);
        let matches = |block: &[u8], digest: &[u8], salt| {
            is_pss_of(block, digest, salt, Hash::Sha256, Hash::Sha1)
        };
        assert!(matches(&block, &[1; 32], 20));
        assert!(!matches(&block, &[1; 32], 32));
        assert!(!matches(&block, &[3; 32], 20));
        for at in [0, 100, 230, 255] {
            let mut changed = block.clone();
            changed[at] ^= 0x80;
            assert!(!matches(&changed, &[1; 32], 20), "{at}");
        }
        assert!(!matches(&[], &[1; 32], 20));
        assert!(pss_encode(&[1; 32], &[2; 300], Hash::Sha256, Hash::Sha256, 256).is_none());
    }

    #[test]
    fn power_refuses_numbers_not_below_the_modulus() {
        let modulus = [0xFF; 256];
        let mut two = [0; 256];
        two[255] = 2;
        let result = power(&modulus, 3, &two).unwrap();
        assert_eq!((result[254], result[255]), (0, 8));
        assert!(power(&modulus, 3, &modulus).is_none());
        assert!(power(&modulus, 3, &two[1..]).is_none());
        assert!(power(&modulus[1..], 3, &two[1..]).is_none());
    }
}
