//! Decryption with a passphrase: PBES2 (RFC 8018, RFC 7914) and the schemes of PKCS#12 (RFC 7292, appendices B and C).
//!
//! Not the `pkcs5` crate (0.8.1; Apache-2.0 OR MIT): it does not erase the keys that it derives, does not limit how many
//! iterations a file may ask for, refuses salts of more than 32 bytes, does not decrypt PBES1, and brings AES-GCM. The
//! primitives beneath it (RustCrypto, MIT OR Apache-2.0) are used here directly, in the generation that the workspace
//! already has.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockCipherDecrypt, BlockModeDecrypt, InnerIvInit, KeyInit, KeyIvInit};
use der::Tag;
use der::asn1::ObjectIdentifier;
use hmac::{Hmac, Mac};
use rc2::Rc2;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use zeroize::{Zeroize, Zeroizing};

use crate::Error;
use crate::asn1::Reader;
use crate::oid;

/// OpenSSL writes 2048, careful people a million.
const MAX_ITERATIONS: u64 = 10_000_000;
/// OpenSSL writes N = 16384, r = 8: 16 MiB.
const MAX_SCRYPT_MEMORY: u64 = 256 << 20;
const MAX_SCRYPT_PARALLEL: u64 = 16;
const MAX_KEY: usize = 32;
const MAX_BLOCK: usize = 128;

/// A passphrase in the two forms that the schemes want.
pub(crate) struct Passphrase {
    /// As it was given: PBES2.
    bytes: Zeroizing<Vec<u8>>,
    /// UTF-16, big-endian, with a zero at the end: PKCS#12.
    bmp: Zeroizing<Vec<u8>>,
}

impl Passphrase {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        // Two units at most for each byte: no growth, hence no copies.
        let mut bmp = Zeroizing::new(Vec::with_capacity(bytes.len() * 2 + 2));
        match std::str::from_utf8(bytes) {
            Ok(text) => bmp.extend(text.encode_utf16().flat_map(u16::to_be_bytes)),
            // As OpenSSL does: each byte a character of Latin-1.
            Err(_) => bmp.extend(bytes.iter().flat_map(|byte| [0, *byte])),
        }
        bmp.extend([0, 0]);
        Self {
            bytes: Zeroizing::new(bytes.to_vec()),
            bmp,
        }
    }

    /// The empty one of those who leave out even the zero at the end.
    pub(crate) fn absent() -> Self {
        Self {
            bytes: Zeroizing::default(),
            bmp: Zeroizing::default(),
        }
    }
}

/// Decrypts; `algorithm` is at the AlgorithmIdentifier.
pub(crate) fn decrypt(
    algorithm: &mut Reader<'_>,
    ciphertext: &[u8],
    passphrase: &Passphrase,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut algorithm = algorithm.sequence()?;
    let scheme = algorithm.oid()?;
    match scheme {
        oid::PBES2 => pbes2(algorithm.sequence()?, ciphertext, passphrase),
        oid::PKCS12_3DES_2KEY
        | oid::PKCS12_3DES_3KEY
        | oid::PKCS12_RC2_128
        | oid::PKCS12_RC2_40 => pkcs12(scheme, algorithm.sequence()?, ciphertext, passphrase),
        other => Err(Error::Unsupported(format!(
            "encryption with {}",
            oid::describe(other)
        ))),
    }
}

fn pbes2(
    mut parameters: Reader<'_>,
    ciphertext: &[u8],
    passphrase: &Passphrase,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut kdf = parameters.sequence()?;
    let mut cipher = parameters.sequence()?;
    let scheme = cipher.oid()?;
    let key_len = match scheme {
        oid::AES128_CBC => 16,
        oid::AES192_CBC | oid::DES_EDE3_CBC => 24,
        oid::AES256_CBC => 32,
        other => {
            return Err(Error::Unsupported(format!(
                "encryption with {}",
                oid::describe(other)
            )));
        }
    };
    let iv = cipher.octets()?;

    let mut buffer = Zeroizing::new([0; MAX_KEY]);
    let key = buffer.get_mut(..key_len).unwrap_or_default();
    match kdf.oid()? {
        oid::PBKDF2 => pbkdf2(kdf.sequence()?, &passphrase.bytes, key)?,
        oid::SCRYPT => scrypt(kdf.sequence()?, &passphrase.bytes, key)?,
        other => {
            return Err(Error::Unsupported(format!(
                "key derivation with {}",
                oid::describe(other)
            )));
        }
    }
    match scheme {
        oid::AES128_CBC => cbc_with_key::<aes::Aes128>(key, iv, ciphertext),
        oid::AES192_CBC => cbc_with_key::<aes::Aes192>(key, iv, ciphertext),
        oid::AES256_CBC => cbc_with_key::<aes::Aes256>(key, iv, ciphertext),
        _ => cbc_with_key::<des::TdesEde3>(key, iv, ciphertext),
    }
}

/// PBKDF2 (RFC 8018, section 5.2 and appendix A.2) over as many bytes as the key has.
pub(crate) fn pbkdf2(
    mut parameters: Reader<'_>,
    passphrase: &[u8],
    key: &mut [u8],
) -> Result<(), Error> {
    let salt = parameters.octets()?;
    let iterations = iterations(parameters.small()?)?;
    key_len(&mut parameters, key.len())?;
    let prf = match parameters.is_empty() {
        true => oid::HMAC_SHA1,
        false => parameters.sequence()?.oid()?,
    };
    match prf {
        oid::HMAC_SHA1 => pbkdf2::pbkdf2_hmac::<Sha1>(passphrase, salt, iterations, key),
        oid::HMAC_SHA224 => pbkdf2::pbkdf2_hmac::<Sha224>(passphrase, salt, iterations, key),
        oid::HMAC_SHA256 => pbkdf2::pbkdf2_hmac::<Sha256>(passphrase, salt, iterations, key),
        oid::HMAC_SHA384 => pbkdf2::pbkdf2_hmac::<Sha384>(passphrase, salt, iterations, key),
        oid::HMAC_SHA512 => pbkdf2::pbkdf2_hmac::<Sha512>(passphrase, salt, iterations, key),
        other => {
            return Err(Error::Unsupported(format!(
                "PBKDF2 with {}",
                oid::describe(other)
            )));
        }
    }
    Ok(())
}

/// scrypt (RFC 7914, section 7).
fn scrypt(mut parameters: Reader<'_>, passphrase: &[u8], key: &mut [u8]) -> Result<(), Error> {
    let salt = parameters.octets()?;
    let cost = parameters.small()?;
    let block = parameters.small()?;
    let parallel = parameters.small()?;
    key_len(&mut parameters, key.len())?;
    if !cost.is_power_of_two() || cost == 1 {
        return Err(parameters.malformed());
    }
    limit(
        "scrypt memory",
        cost.saturating_mul(block).saturating_mul(128),
        MAX_SCRYPT_MEMORY,
    )?;
    limit("scrypt parallelism", parallel, MAX_SCRYPT_PARALLEL)?;
    let log = u8::try_from(cost.trailing_zeros()).map_err(|_| parameters.malformed())?;
    let block = u32::try_from(block).map_err(|_| parameters.malformed())?;
    let parallel = u32::try_from(parallel).map_err(|_| parameters.malformed())?;
    let checked = scrypt::Params::new(log, block, parallel).map_err(|_| parameters.malformed())?;
    scrypt::scrypt(passphrase, salt, &checked, key).map_err(|_| parameters.malformed())
}

/// The length of the key, where a file says it.
fn key_len(parameters: &mut Reader<'_>, wanted: usize) -> Result<(), Error> {
    if parameters.next_is(Tag::Integer) {
        let said = parameters.small()?;
        if usize::try_from(said) != Ok(wanted) {
            return Err(parameters.malformed());
        }
    }
    Ok(())
}

fn limit(what: &'static str, asked: u64, limit: u64) -> Result<(), Error> {
    if asked > limit {
        return Err(Error::CostTooHigh { what, asked, limit });
    }
    Ok(())
}

/// A count of iterations that is bearable.
fn iterations(asked: u64) -> Result<u32, Error> {
    limit("iterations", asked, MAX_ITERATIONS)?;
    match u32::try_from(asked) {
        Ok(0) | Err(_) => Err(Error::Malformed {
            what: "count of iterations",
        }),
        Ok(count) => Ok(count),
    }
}

fn pkcs12(
    scheme: ObjectIdentifier,
    mut parameters: Reader<'_>,
    ciphertext: &[u8],
    passphrase: &Passphrase,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let salt = parameters.octets()?;
    let iterations = iterations(parameters.small()?)?;
    let derive = |purpose, out: &mut [u8]| {
        kdf::<Sha1>(
            purpose,
            Hash::Sha1.block(),
            &passphrase.bmp,
            salt,
            iterations,
            out,
        );
    };
    let mut iv = [0; 8];
    derive(Purpose::Iv, &mut iv);
    let mut buffer = Zeroizing::new([0; 24]);
    let key_len = match scheme {
        oid::PKCS12_RC2_40 => 5,
        oid::PKCS12_3DES_3KEY => 24,
        _ => 16,
    };
    derive(Purpose::Key, buffer.get_mut(..key_len).unwrap_or_default());
    match scheme {
        oid::PKCS12_RC2_40 | oid::PKCS12_RC2_128 => {
            let key = buffer.get(..key_len).unwrap_or_default();
            let cipher = Rc2::new_with_eff_key_len(key, key_len * 8);
            cbc(
                cbc::Decryptor::inner_iv_slice_init(cipher, &iv).ok(),
                ciphertext,
            )
        }
        oid::PKCS12_3DES_2KEY => {
            // The third key is the first one.
            let (first, third) = buffer.split_at_mut(16);
            third.copy_from_slice(first.get(..8).unwrap_or_default());
            cbc_with_key::<des::TdesEde3>(&*buffer, &iv, ciphertext)
        }
        _ => cbc_with_key::<des::TdesEde3>(&*buffer, &iv, ciphertext),
    }
}

fn cbc_with_key<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    cbc(
        cbc::Decryptor::<C>::new_from_slices(key, iv).ok(),
        ciphertext,
    )
}

fn cbc<C: BlockCipherDecrypt>(
    cipher: Option<cbc::Decryptor<C>>,
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let cipher = cipher.ok_or(Error::Malformed {
        what: "initialization vector",
    })?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let len = cipher
        .decrypt_padded::<Pkcs7>(&mut buffer)
        .map_err(|_| Error::WrongPassphrase)?
        .len();
    buffer.truncate(len);
    Ok(buffer)
}

/// The digests of PKCS#12.
#[derive(Clone, Copy)]
pub(crate) enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(crate) fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        Some(match oid {
            oid::SHA1 | oid::HMAC_SHA1 => Self::Sha1,
            oid::SHA224 | oid::HMAC_SHA224 => Self::Sha224,
            oid::SHA256 | oid::HMAC_SHA256 => Self::Sha256,
            oid::SHA384 | oid::HMAC_SHA384 => Self::Sha384,
            oid::SHA512 | oid::HMAC_SHA512 => Self::Sha512,
            _ => return None,
        })
    }

    const fn block(self) -> usize {
        match self {
            Self::Sha1 | Self::Sha224 | Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 => MAX_BLOCK,
        }
    }

    /// Whether the MAC of PKCS#12 (RFC 7292, section 4) is valid.
    pub(crate) fn pkcs12_mac_is_right(
        self,
        passphrase: &Passphrase,
        salt: &[u8],
        rounds: u64,
        content: &[u8],
        mac: &[u8],
    ) -> Result<bool, Error> {
        let rounds = iterations(rounds)?;
        let mut key = Zeroizing::new([0; 64]);
        let (bmp, block) = (&passphrase.bmp, self.block());
        Ok(match self {
            Self::Sha1 => {
                let key = key.get_mut(..20).unwrap_or_default();
                kdf::<Sha1>(Purpose::Mac, block, bmp, salt, rounds, key);
                self.hmac_is_right(key, content, mac)
            }
            Self::Sha224 => {
                let key = key.get_mut(..28).unwrap_or_default();
                kdf::<Sha224>(Purpose::Mac, block, bmp, salt, rounds, key);
                self.hmac_is_right(key, content, mac)
            }
            Self::Sha256 => {
                let key = key.get_mut(..32).unwrap_or_default();
                kdf::<Sha256>(Purpose::Mac, block, bmp, salt, rounds, key);
                self.hmac_is_right(key, content, mac)
            }
            Self::Sha384 => {
                let key = key.get_mut(..48).unwrap_or_default();
                kdf::<Sha384>(Purpose::Mac, block, bmp, salt, rounds, key);
                self.hmac_is_right(key, content, mac)
            }
            Self::Sha512 => {
                let key = key.get_mut(..64).unwrap_or_default();
                kdf::<Sha512>(Purpose::Mac, block, bmp, salt, rounds, key);
                self.hmac_is_right(key, content, mac)
            }
        })
    }

    fn hmac_is_right(self, key: &[u8], content: &[u8], mac: &[u8]) -> bool {
        fn check<M: Mac + KeyInit>(key: &[u8], content: &[u8], mac: &[u8]) -> bool {
            <M as KeyInit>::new_from_slice(key)
                .is_ok_and(|hmac| hmac.chain_update(content).verify_slice(mac).is_ok())
        }
        match self {
            Self::Sha1 => check::<Hmac<Sha1>>(key, content, mac),
            Self::Sha224 => check::<Hmac<Sha224>>(key, content, mac),
            Self::Sha256 => check::<Hmac<Sha256>>(key, content, mac),
            Self::Sha384 => check::<Hmac<Sha384>>(key, content, mac),
            Self::Sha512 => check::<Hmac<Sha512>>(key, content, mac),
        }
    }
}

/// Whether a PBMAC1 (RFC 9579) is valid; `parameters` are its parameters.
pub(crate) fn pbmac1_is_right(
    mut parameters: Reader<'_>,
    passphrase: &Passphrase,
    content: &[u8],
    mac: &[u8],
) -> Result<bool, Error> {
    let mut kdf = parameters.sequence()?;
    let scheme = kdf.oid()?;
    let hash = parameters.sequence()?.oid()?;
    let (oid::PBKDF2, Some(hash)) = (scheme, Hash::from_oid(hash)) else {
        return Err(Error::Unsupported(
            "a PBMAC1 with other than PBKDF2 and HMAC".to_owned(),
        ));
    };
    // RFC 9579 wants the length of the key to be said; it is what is derived.
    let derivation = kdf.sequence()?;
    let mut said = derivation.clone();
    said.octets()?;
    said.small()?;
    let len = match usize::try_from(said.small()?) {
        Ok(len @ 20..=64) => len,
        _ => return Err(said.malformed()),
    };
    let mut buffer = Zeroizing::new([0; 64]);
    let key = buffer.get_mut(..len).unwrap_or_default();
    pbkdf2(derivation, &passphrase.bytes, key)?;
    Ok(hash.hmac_is_right(key, content, mac))
}

/// What RFC 7292's derivation is for.
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// RFC 7292, appendix B.2; `block` is the block of the digest in bytes.
fn kdf<D: Digest>(
    purpose: Purpose,
    block: usize,
    passphrase: &[u8],
    salt: &[u8],
    iterations: u32,
    out: &mut [u8],
) {
    let mut input = Zeroizing::new(Vec::with_capacity(
        fill_len(salt.len(), block) + fill_len(passphrase.len(), block),
    ));
    for part in [salt, passphrase] {
        input.extend(part.iter().cycle().take(fill_len(part.len(), block)));
    }
    let diversifier = [purpose as u8; MAX_BLOCK];
    let diversifier = diversifier.get(..block).unwrap_or_default();
    let mut digest = Zeroizing::new([0; 64]);
    let mut repeated = Zeroizing::new([0; MAX_BLOCK]);
    let len = <D as Digest>::output_size();

    for chunk in out.chunks_mut(len) {
        let mut output = D::new()
            .chain_update(diversifier)
            .chain_update(&*input)
            .finalize();
        for _ in 1..iterations {
            output = D::digest(&output);
        }
        for (to, from) in digest.iter_mut().zip(output.iter()) {
            *to = *from;
        }
        output.zeroize();
        let digest = digest.get(..len).unwrap_or_default();
        for (to, from) in chunk.iter_mut().zip(digest) {
            *to = *from;
        }
        for (to, from) in repeated.iter_mut().zip(digest.iter().cycle()) {
            *to = *from;
        }
        for part in input.chunks_mut(block) {
            let mut carry = 1;
            let added = repeated.get(..block).unwrap_or_default();
            for (to, add) in part.iter_mut().zip(added).rev() {
                let sum = u16::from(*to) + u16::from(*add) + carry;
                let [high, low] = sum.to_be_bytes();
                *to = low;
                carry = u16::from(high);
            }
        }
    }
}

/// A length rounded up to whole blocks.
const fn fill_len(len: usize, block: usize) -> usize {
    len.div_ceil(block) * block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        base16ct::mixed::decode_vec(text).unwrap()
    }

    /// The vectors that go round among implementations (Bouncy Castle, RustCrypto): passphrase `smeg`, `queeg`.
    #[test]
    fn derivation_of_pkcs12_gives_known_keys() {
        for (purpose, passphrase, salt, rounds, expected) in [
            (
                Purpose::Key,
                "smeg",
                "0a58cf64530d823f",
                1,
                "8aaae6297b6cb04642ab5b077851284eb7128f1a2a7fbca3",
            ),
            (
                Purpose::Iv,
                "smeg",
                "0a58cf64530d823f",
                1,
                "79993dfe048d3b76",
            ),
            (
                Purpose::Key,
                "queeg",
                "05dec959acff72f7",
                1000,
                "ed2034e36328830ff09df1e1a07dd357185dac0d4f9eb3d4",
            ),
            (
                Purpose::Iv,
                "queeg",
                "05dec959acff72f7",
                1000,
                "11dedad7758d4860",
            ),
            (
                Purpose::Mac,
                "queeg",
                "263216fcc2fab31c",
                1000,
                "5ec4c7a80df652294c3925b6489a7ab857c83476",
            ),
        ] {
            let expected = hex(expected);
            let mut out = vec![0; expected.len()];
            let passphrase = Passphrase::new(passphrase.as_bytes());
            kdf::<Sha1>(purpose, 64, &passphrase.bmp, &hex(salt), rounds, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn passphrases_become_utf16_with_a_zero() {
        assert_eq!(*Passphrase::new(b"").bmp, [0, 0]);
        assert_eq!(
            *Passphrase::new("ä€".as_bytes()).bmp,
            [0, 0xe4, 0x20, 0xac, 0, 0]
        );
        assert_eq!(
            *Passphrase::new("𝄞".as_bytes()).bmp,
            [0xd8, 0x34, 0xdd, 0x1e, 0, 0]
        );
        assert_eq!(*Passphrase::new(&[0xe4]).bmp, [0, 0xe4, 0, 0]);
        assert!(Passphrase::absent().bmp.is_empty());
    }

    #[test]
    fn more_work_than_bearable_is_refused() {
        assert_eq!(iterations(1), Ok(1));
        assert!(matches!(iterations(0), Err(Error::Malformed { .. })));
        assert!(matches!(
            iterations(10_000_001),
            Err(Error::CostTooHigh { .. })
        ));
    }
}
