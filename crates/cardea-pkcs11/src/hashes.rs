//! The hash algorithms: one row each.

use cardea_client::message::Hash;
use cryptoki_sys::*;
use sha2::Digest;
use zeroize::Zeroizing;

/// Properties of a hash algorithm that the digest itself does not have.
struct Row {
    mechanism: CK_MECHANISM_TYPE,
    mask: CK_RSA_PKCS_MGF_TYPE,
    info: &'static [u8],
    length: fn() -> usize,
}

/// Defines [`Hasher`], [`ALL`] and [`row`]. The match in `row` has no default: an algorithm of the protocol without
/// a row does not compile.
macro_rules! hashes {
    ($($name:ident $digest:ty, $mechanism:ident, $mask:ident, $info:expr;)+) => {
        /// A digest that is being computed.
        pub(crate) enum Hasher {
            $($name($digest),)+
        }

        /// All algorithms.
        pub(crate) const ALL: &[Hash] = &[$(Hash::$name),+];

        fn row(hash: Hash) -> &'static Row {
            match hash {
                $(Hash::$name => {
                    const ROW: Row = Row {
                        mechanism: $mechanism,
                        mask: $mask,
                        info: $info,
                        length: <$digest as Digest>::output_size,
                    };
                    &ROW
                })+
            }
        }

        impl Hasher {
            pub(crate) fn new(hash: Hash) -> Self {
                match hash {
                    $(Hash::$name => Self::$name(<$digest>::new()),)+
                }
            }

            pub(crate) fn update(&mut self, data: &[u8]) {
                match self {
                    $(Self::$name(digest) => digest.update(data),)+
                }
            }

            pub(crate) fn finish(self) -> Vec<u8> {
                match self {
                    $(Self::$name(digest) => digest.finalize().to_vec(),)+
                }
            }
        }
    };
}

hashes! {
//  hash    computed by    mechanism    mask              DigestInfo (RFC 8017 §9.2, note 1)
    Sha1    sha1::Sha1,    CKM_SHA_1,   CKG_MGF1_SHA1,    &SHA1_INFO;
    Sha256  sha2::Sha256,  CKM_SHA256,  CKG_MGF1_SHA256,  &sha2_info(1, 32);
    Sha384  sha2::Sha384,  CKM_SHA384,  CKG_MGF1_SHA384,  &sha2_info(2, 48);
    Sha512  sha2::Sha512,  CKM_SHA512,  CKG_MGF1_SHA512,  &sha2_info(3, 64);
}

const SHA1_INFO: [u8; 15] = [
    0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2B, 0x0E, 0x03, 0x02, 0x1A, 5, 0, 4, 20,
];

/// The algorithms of the SHA-2 family differ in the last component of the OID and in the length.
const fn sha2_info(last: u8, length: u8) -> [u8; 19] {
    [
        0x30,
        17 + length,
        0x30,
        13,
        0x06,
        9,
        0x60,
        0x86,
        0x48,
        1,
        0x65,
        3,
        4,
        2,
        last,
        5,
        0,
        4,
        length,
    ]
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

/// The hash of a digest mechanism.
pub(crate) fn of_mechanism(mechanism: CK_MECHANISM_TYPE) -> Option<Hash> {
    let mut all = ALL.iter().copied();
    all.find(|hash| row(*hash).mechanism == mechanism)
}

/// The hash of a mask generation function.
pub(crate) fn of_mask(mask: CK_RSA_PKCS_MGF_TYPE) -> Option<Hash> {
    let mut all = ALL.iter().copied();
    all.find(|hash| row(*hash).mask == mask)
}

/// Length of a digest.
pub(crate) fn length(hash: Hash) -> usize {
    (row(hash).length)()
}

/// What precedes a digest in a PKCS#1 v1.5 signature.
pub(crate) fn digest_info(hash: Hash) -> &'static [u8] {
    row(hash).info
}

/// Digest of the parts, one after the other.
pub(crate) fn digest(hash: Hash, parts: &[&[u8]]) -> Vec<u8> {
    let mut hasher = Hasher::new(hash);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finish()
}

/// MGF1 (RFC 8017 §B.2.1).
pub(crate) fn mgf1(hash: Hash, seed: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut mask = Zeroizing::new(Vec::with_capacity(length + 64));
    let mut counter = 0u32;
    while mask.len() < length {
        mask.extend(digest(hash, &[seed, &counter.to_be_bytes()]));
        counter += 1;
    }
    mask.truncate(length);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_info_ends_with_the_length_of_the_digest() {
        for hash in ALL {
            let info = digest_info(*hash);
            let (length, digest) = (length(*hash), digest(*hash, &[b"a", b"bc"]));
            assert_eq!(digest.len(), length);
            assert_eq!(digest, super::digest(*hash, &[b"abc"]));
            assert_eq!(usize::from(*info.last().unwrap()), length);
            assert_eq!(usize::from(info[1]), info.len() - 2 + length);
        }
    }

    #[test]
    fn mechanisms_and_masks_of_the_standard_have_their_hash() {
        for (mechanism, mask, hash) in [
            (CKM_SHA_1, CKG_MGF1_SHA1, Hash::Sha1),
            (CKM_SHA256, CKG_MGF1_SHA256, Hash::Sha256),
            (CKM_SHA384, CKG_MGF1_SHA384, Hash::Sha384),
            (CKM_SHA512, CKG_MGF1_SHA512, Hash::Sha512),
        ] {
            assert_eq!(of_mechanism(mechanism), Some(hash));
            assert_eq!(of_mask(mask), Some(hash));
        }
        assert_eq!(of_mechanism(CKM_SHA224), None);
        assert_eq!(of_mask(CKG_MGF1_SHA224), None);
    }
}
