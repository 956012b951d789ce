//! Operations on their way to the TPM, perhaps on another thread, checked against their key and erased afterwards.

use cardea_card::token::{
    HashAlgorithm, KeyAlgorithm, KeyInfo, PrivateOperation, PublicKey, TokenErrorKind,
};
use zeroize::Zeroizing;

/// Which operation, without its data.
#[derive(Clone, Copy)]
enum Kind {
    DecryptOaep(HashAlgorithm),
    DecryptPkcs1,
    Ecdh,
    RsaRaw,
    SignEcdsa,
    SignPkcs1(HashAlgorithm),
    SignPss(HashAlgorithm),
}

/// A [`PrivateOperation`] that owns its data.
pub(crate) struct OwnedOperation {
    kind: Kind,
    first: Zeroizing<Vec<u8>>,
    second: Zeroizing<Vec<u8>>,
}

impl OwnedOperation {
    /// Refuses what does not fit the key, before the TPM spends time on it.
    pub(crate) fn fitting(
        key: &KeyInfo,
        operation: PrivateOperation<'_>,
    ) -> Result<Self, TokenErrorKind> {
        let size = key.algorithm.size();
        let rsa = matches!(key.algorithm, KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072);
        let require = |holds: bool, otherwise| if holds { Ok(()) } else { Err(otherwise) };
        let (kind, first, second): (_, &[u8], &[u8]) = match operation {
            PrivateOperation::DecryptOaep {
                hash,
                label,
                cryptogram,
            } => {
                require(rsa, TokenErrorKind::KeyUse)?;
                require(
                    cryptogram.len() == size && label.len() < 64,
                    TokenErrorKind::BadData,
                )?;
                (Kind::DecryptOaep(hash), label, cryptogram)
            }
            PrivateOperation::DecryptPkcs1 { cryptogram } => {
                require(rsa, TokenErrorKind::KeyUse)?;
                require(cryptogram.len() == size, TokenErrorKind::BadData)?;
                (Kind::DecryptPkcs1, cryptogram, &[])
            }
            PrivateOperation::Ecdh { x, y } => {
                require(!rsa, TokenErrorKind::KeyUse)?;
                require(x.len() == size && y.len() == size, TokenErrorKind::BadData)?;
                (Kind::Ecdh, x, y)
            }
            PrivateOperation::RsaRaw { block } => {
                require(rsa, TokenErrorKind::KeyUse)?;
                let below = match &key.public {
                    PublicKey::Rsa { modulus, .. } => block < &modulus[..],
                    PublicKey::Ec { .. } => false,
                };
                require(block.len() == size && below, TokenErrorKind::BadData)?;
                (Kind::RsaRaw, block, &[])
            }
            PrivateOperation::SignEcdsa { digest } => {
                require(!rsa, TokenErrorKind::KeyUse)?;
                require(!digest.is_empty(), TokenErrorKind::BadData)?;
                (Kind::SignEcdsa, digest, &[])
            }
            PrivateOperation::SignPkcs1 { hash, digest } => {
                require(rsa, TokenErrorKind::KeyUse)?;
                require(digest.len() == hash.size(), TokenErrorKind::BadData)?;
                (Kind::SignPkcs1(hash), digest, &[])
            }
            PrivateOperation::SignPss { hash, digest } => {
                require(rsa, TokenErrorKind::KeyUse)?;
                require(digest.len() == hash.size(), TokenErrorKind::BadData)?;
                (Kind::SignPss(hash), digest, &[])
            }
        };
        Ok(Self {
            kind,
            first: Zeroizing::new(first.to_vec()),
            second: Zeroizing::new(second.to_vec()),
        })
    }

    pub(crate) fn borrow(&self) -> PrivateOperation<'_> {
        let (first, second) = (&self.first[..], &self.second[..]);
        match self.kind {
            Kind::DecryptOaep(hash) => PrivateOperation::DecryptOaep {
                hash,
                label: first,
                cryptogram: second,
            },
            Kind::DecryptPkcs1 => PrivateOperation::DecryptPkcs1 { cryptogram: first },
            Kind::Ecdh => PrivateOperation::Ecdh {
                x: first,
                y: second,
            },
            Kind::RsaRaw => PrivateOperation::RsaRaw { block: first },
            Kind::SignEcdsa => PrivateOperation::SignEcdsa { digest: first },
            Kind::SignPkcs1(hash) => PrivateOperation::SignPkcs1 {
                hash,
                digest: first,
            },
            Kind::SignPss(hash) => PrivateOperation::SignPss {
                hash,
                digest: first,
            },
        }
    }
}
