//! A small secret for the holder of a certificate: CMS EnvelopedData (RFC 5652 §6), as `openssl cms -decrypt` opens it
//! with a key in a file or on a card.
//!
//! One recipient by RSAES-OAEP with SHA-256 (RFC 8017 §7.1, RFC 4055), the content in AES-256-CBC.

use std::fmt;

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use rsa::Oaep;
use rsa::rand_core::{TryCryptoRng, TryRng};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::asn1::{self, Reader};
use crate::signature::rsa_key;
use crate::{Certificate, Error, oid, pem};

/// Longest content in bytes.
const MAX_CONTENT: usize = 1024;

/// Bytes of SHA-256.
const HASH: usize = 32;

/// Random bytes for one envelope, used once.
pub struct Random {
    /// The content's key.
    pub key: Zeroizing<[u8; 32]>,
    /// The content's IV.
    pub iv: [u8; 16],
    /// OAEP's seed.
    pub seed: Zeroizing<[u8; HASH]>,
}

/// The envelope for the holder of `certificate`, in PEM.
///
/// # Errors
///
/// [`Error::UnsupportedKey`] for a certificate of another key than RSA of 2048, 3072 or 4096 bits with the exponent
/// 65537, [`Error::TooLarge`] for a content of more than 1,024 bytes.
pub fn seal(content: &[u8], certificate: &Certificate, random: &Random) -> Result<String, Error> {
    if content.len() > MAX_CONTENT {
        return Err(Error::TooLarge(content.len()));
    }
    let modulus = modulus(certificate).ok_or_else(|| Error::UnsupportedKey {
        found: certificate.key_description().to_owned(),
    })?;
    let wrapped = wrap(&*random.key, &modulus, &random.seed).ok_or_else(|| unfit(certificate))?;
    let sealed = encrypt(content, random).ok_or_else(|| unfit(certificate))?;
    let hash = || asn1::sequence(&[asn1::oid(oid::SHA256), asn1::element(asn1::TAG_NULL, &[])]);
    let mask = asn1::sequence(&[asn1::oid(oid::MGF1), hash()]);
    let parameters = asn1::sequence(&[
        asn1::nest(asn1::constructed(0), &[hash()]),
        asn1::nest(asn1::constructed(1), &[mask]),
    ]);
    let recipient = asn1::sequence(&[
        asn1::unsigned(&[0]),
        asn1::sequence(&[
            certificate.issuer().der().to_vec(),
            asn1::element(asn1::TAG_INTEGER, certificate.serial()),
        ]),
        asn1::sequence(&[asn1::oid(oid::RSAES_OAEP), parameters]),
        asn1::element(asn1::TAG_OCTET_STRING, &wrapped),
    ]);
    let content = asn1::sequence(&[
        asn1::oid(oid::PKCS7_DATA),
        asn1::sequence(&[
            asn1::oid(oid::AES256_CBC),
            asn1::element(asn1::TAG_OCTET_STRING, &random.iv),
        ]),
        asn1::element(asn1::primitive(0), &sealed),
    ]);
    let enveloped = asn1::sequence(&[asn1::unsigned(&[0]), asn1::set_of(vec![recipient]), content]);
    let envelope = asn1::sequence(&[
        asn1::oid(oid::PKCS7_ENVELOPED),
        asn1::nest(asn1::constructed(0), &[enveloped]),
    ]);
    Ok(pem::encode("CMS", &envelope))
}

fn unfit(certificate: &Certificate) -> Error {
    Error::UnsupportedKey {
        found: certificate.key_description().to_owned(),
    }
}

/// Administrators have keys that no card here holds, too.
fn modulus(certificate: &Certificate) -> Option<Vec<u8>> {
    let mut spki = Reader::whole(certificate.spki(), "public key").ok()?;
    let mut algorithm = spki.sequence().ok()?;
    if algorithm.oid().ok()? != oid::RSA_ENCRYPTION {
        return None;
    }
    let mut key = Reader::whole(spki.bits().ok()?, "public key").ok()?;
    let modulus = asn1::strip_zeros(key.unsigned().ok()?).to_vec();
    let exponent = asn1::strip_zeros(key.unsigned().ok()?);
    (exponent == [1, 0, 1] && modulus.first().is_some_and(|first| first & 0x80 != 0))
        .then_some(modulus)
}

fn encrypt(content: &[u8], random: &Random) -> Option<Vec<u8>> {
    let cipher = cbc::Encryptor::<aes::Aes256>::new_from_slices(&*random.key, &random.iv).ok()?;
    let mut buffer = Zeroizing::new([0; MAX_CONTENT + 16]);
    buffer.get_mut(..content.len())?.copy_from_slice(content);
    let sealed = cipher
        .encrypt_padded::<Pkcs7>(&mut *buffer, content.len())
        .ok()?;
    Some(sealed.to_vec())
}

/// RSAES-OAEP with SHA-256, MGF1 with SHA-256 and an empty label.
fn wrap(message: &[u8], modulus: &[u8], seed: &[u8; HASH]) -> Option<Vec<u8>> {
    if !matches!(modulus.len(), 256 | 384 | 512) {
        return None;
    }
    let key = rsa_key(modulus)?;
    key.encrypt(&mut Seed(seed), Oaep::<Sha256>::new(), message)
        .ok()
}

/// What the RSA library takes OAEP's seed from, and nothing else.
struct Seed<'a>(&'a [u8; HASH]);

impl TryRng for Seed<'_> {
    type Error = fmt::Error;

    fn try_next_u32(&mut self) -> Result<u32, fmt::Error> {
        Err(fmt::Error)
    }

    fn try_next_u64(&mut self) -> Result<u64, fmt::Error> {
        Err(fmt::Error)
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), fmt::Error> {
        *<&mut [u8; HASH]>::try_from(target).map_err(|_| fmt::Error)? = *self.0;
        Ok(())
    }
}

impl TryCryptoRng for Seed<'_> {}
