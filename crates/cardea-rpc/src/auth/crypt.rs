//! The primitives that NTLM is made of.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use rc4::{Rc4, StreamCipher};
use zeroize::Zeroizing;

/// A key, an HMAC, a digest.
pub(super) type Block = Zeroizing<[u8; 16]>;

/// HMAC-MD5 over the parts, one after the other.
#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
pub(super) fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> Block {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// MD5 over the parts, one after the other.
pub(super) fn md5(parts: &[&[u8]]) -> Block {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    Zeroizing::new(hash.finalize().into())
}

/// RC4 with a key of 16 bytes, at its beginning.
#[expect(clippy::expect_used, reason = "RC4 takes keys of 1 to 256 bytes")]
pub(super) fn rc4(key: &[u8; 16]) -> Rc4 {
    Rc4::new_from_slice(key).expect("16 bytes")
}

/// A session key under another key.
pub(super) fn wrap(key: &[u8; 16], content: &[u8; 16]) -> Block {
    let mut wrapped = Zeroizing::new(*content);
    rc4(key).apply_keystream(&mut *wrapped);
    wrapped
}
