//! The derivation functions of ECDH: ANSI X9.63 (SEC 1 §3.6.1) with the hashes of PKCS#11 3.1 §6.3.15.

use cryptoki_sys::*;
use sha2::Digest;
use zeroize::Zeroizing;

/// Longest key that is derived, in bytes; several times as long as any mechanism takes.
pub(crate) const MAX_DERIVED: usize = 4096;
/// Longest shared information, in bytes. CMS passes fewer than two hundred (RFC 5753 §7.2).
pub(crate) const MAX_SHARED: usize = 16 * 1024;

/// A derivation function with its shared information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kdf {
    hash: KdfHash,
    shared: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KdfHash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Kdf {
    /// `None` for a function that the module does not have.
    pub(crate) fn new(function: CK_EC_KDF_TYPE, shared: &[u8]) -> Option<Self> {
        let hash = match function {
            CKD_SHA1_KDF => KdfHash::Sha1,
            CKD_SHA224_KDF => KdfHash::Sha224,
            CKD_SHA256_KDF => KdfHash::Sha256,
            CKD_SHA384_KDF => KdfHash::Sha384,
            CKD_SHA512_KDF => KdfHash::Sha512,
            _ => return None,
        };
        Some(Self {
            hash,
            shared: shared.to_vec(),
        })
    }

    /// A key of this length from the shared secret.
    pub(crate) fn derive(&self, secret: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
        match self.hash {
            KdfHash::Sha1 => x963::<sha1::Sha1>(secret, &self.shared, length),
            KdfHash::Sha224 => x963::<sha2::Sha224>(secret, &self.shared, length),
            KdfHash::Sha256 => x963::<sha2::Sha256>(secret, &self.shared, length),
            KdfHash::Sha384 => x963::<sha2::Sha384>(secret, &self.shared, length),
            KdfHash::Sha512 => x963::<sha2::Sha512>(secret, &self.shared, length),
        }
    }
}

/// SEC 1 §3.6.1: the digests of secret, counter and shared information, one after the other.
fn x963<D: Digest>(secret: &[u8], shared: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    // It never grows, so that no copy stays in freed memory.
    let mut key = Zeroizing::new(Vec::with_capacity(length));
    let mut counter = 1u32;
    while key.len() < length {
        let mut digest = D::new();
        digest.update(secret);
        digest.update(counter.to_be_bytes());
        digest.update(shared);
        let mut block = digest.finalize();
        let part = block.len().min(length - key.len());
        key.extend_from_slice(block.get(..part).unwrap_or_default());
        zeroize::Zeroize::zeroize(block.as_mut_slice());
        counter += 1;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(digits: &str) -> Vec<u8> {
        base16ct::lower::decode_vec(digits).unwrap()
    }

    /// Function, secret, shared information, key. Those of SHA-1 and SHA-256 are of NIST's `ansx963_2001.rsp`
    /// (CAVS 12.0), the first 100 bytes of those with shared information; the others are OpenSSL 3.0's for the same input:
    /// `openssl kdf -keylen 100 -kdfopt digest:SHA512 -kdfopt hexkey:… -kdfopt hexinfo:… X963KDF`.
    const VECTORS: [(CK_EC_KDF_TYPE, &str, &str, &str); 8] = [
        (
            CKD_SHA1_KDF,
            "1c7d7b5f0597b03d06a018466ed1a93e30ed4b04dc64ccdd",
            "",
            "bf71dffd8f4d99223936beb46fee8ccc",
        ),
        (
            CKD_SHA1_KDF,
            "fd17198b89ab39c4ab5d7cca363b82f9fd7e23c3984dc8a2",
            "856a53f3e36a26bbc5792879f307cce2",
            "6e5fad865cb4a51c95209b16df0cc490bc2c9064405c5bccd4ee4832a531fbe7f10cb79e2eab6ab1149fbd5a23cfdabc\
             41242269c9df22f628c4424333855b64e95e2d4fb8469c669f17176c07d103376b10b384ec5763d8b8c610409f19aca8\
             eb31f9d8",
        ),
        (
            CKD_SHA224_KDF,
            "da67a73072d521a8272c69023573012ddf9b46bff65b3900",
            "",
            "de12c989f40a4dc12f6e08abf14ae3dd",
        ),
        (
            CKD_SHA224_KDF,
            "22518b10e70f2a3f243810ae3254139efbee04aa57c7af7d",
            "75eef81aa3041e33b80971203d2c0c52",
            "aca3810d153faf67402260df5f2d2883d2b796848582739cdbdf1d3594beba52c483946ec6e02eb24efc7d9a1d097daf\
             06f6c1458be2a098d013cc456a098f427d8fb96f3bf4f03c854de4776d76227a56501f41cacb972c887b5af321311869\
             939875b7",
        ),
        (
            CKD_SHA256_KDF,
            "96c05619d56c328ab95fe84b18264b08725b85e33fd34f08",
            "",
            "443024c3dae66b95e6f5670601558f71",
        ),
        (
            CKD_SHA256_KDF,
            "22518b10e70f2a3f243810ae3254139efbee04aa57c7af7d",
            "75eef81aa3041e33b80971203d2c0c52",
            "c498af77161cc59f2962b9a713e2b215152d139766ce34a776df11866a69bf2e52a13d9c7c6fc878c50c5ea0bc7b00e0\
             da2447cfd874f6cf92f30d0097111485500c90c3af8b487872d04685d14c8d1dc8d7fa08beb0ce0ababc11f0bd496269\
             142d4352",
        ),
        (
            CKD_SHA384_KDF,
            "22518b10e70f2a3f243810ae3254139efbee04aa57c7af7d",
            "75eef81aa3041e33b80971203d2c0c52",
            "5aaf37fafffe1857a9e90d62e11a71d6d12e2ab1eac864d14f8c9af4259bb6796bb847a78cf8d9696e3243a5e6e98133\
             f68a825055d254939b04f994790d26ffdb098b6323f95968dc29289c9f5f91c34f691bef098e12414fa5f4279e07c020\
             aa7d2679",
        ),
        (
            CKD_SHA512_KDF,
            "22518b10e70f2a3f243810ae3254139efbee04aa57c7af7d",
            "75eef81aa3041e33b80971203d2c0c52",
            "72ca20c0d208d9aa6c76758d9ac54808481067a8f8c770e8443579b442db98d8be3b2019739d1645072ce247d9360a43\
             64f3a6f384f226e5c833dcb65e32e32d6453e6b21866e993696eac5af5264f7c4847bd52f8f62a0897e28e5ba487d208\
             095baac4",
        ),
    ];

    #[test]
    fn keys_are_those_of_the_known_answers() {
        for (function, secret, shared, key) in VECTORS {
            let (secret, shared, key) = (bytes(secret), bytes(shared), bytes(key));
            let kdf = Kdf::new(function, &shared).unwrap();
            // A shorter key is the beginning of a longer one (SEC 1 §3.6.1).
            for length in [1, 16, key.len() - 1, key.len()] {
                let derived = kdf.derive(&secret, length);
                assert_eq!(*derived, key[..length.min(key.len())], "{function}");
            }
        }
    }

    #[test]
    fn other_functions_are_unknown() {
        for function in [
            CKD_NULL,
            CKD_SHA1_KDF_ASN1,
            CKD_SHA1_KDF_CONCATENATE,
            CKD_SHA3_256_KDF,
            CKD_SHA256_KDF_SP800,
            CK_EC_KDF_TYPE::MAX,
        ] {
            assert_eq!(Kdf::new(function, &[]), None, "{function}");
        }
    }
}
