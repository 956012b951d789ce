//! The encryption of Kerberos: AES in CBC with ciphertext stealing, and HMAC-SHA-1 cut to 96 bits (RFC 3961, RFC 3962).

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes256};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::AuthError;

/// The length of a block, and of the random one that every message begins with.
pub(super) const BLOCK: usize = 16;

/// The length of a checksum.
pub(super) const MAC: usize = 12;

/// What a key encrypts or signs (RFC 4120 §7.5.1, RFC 4121 §2).
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Usage {
    Ticket = 2,
    Authenticator = 11,
    Reply = 12,
    AcceptorSeal = 22,
    AcceptorSign = 23,
    InitiatorSeal = 24,
    InitiatorSign = 25,
}

/// The encryption that a key is for. RC4 and DES are not among them: both are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Etype {
    Aes128,
    Aes256,
}

impl Etype {
    pub(super) fn from_wire(number: i64) -> Option<Self> {
        match number {
            17 => Some(Self::Aes128),
            18 => Some(Self::Aes256),
            _ => None,
        }
    }

    pub(super) fn to_wire(self) -> u32 {
        match self {
            Self::Aes128 => 17,
            Self::Aes256 => 18,
        }
    }

    fn key_length(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes256 => 32,
        }
    }
}

/// A key, from which the keys for each usage are derived.
#[derive(Clone)]
pub(super) struct Key {
    etype: Etype,
    bytes: Zeroizing<Vec<u8>>,
}

impl Key {
    /// `None` if the length is not that of a key.
    pub(super) fn new(etype: Etype, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == etype.key_length()).then(|| Self {
            etype,
            bytes: Zeroizing::new(bytes.to_vec()),
        })
    }

    /// Of as many of these bytes as the encryption needs.
    pub(super) fn from_random(etype: Etype, random: &[u8; 32]) -> Self {
        let bytes = random.iter().copied().take(etype.key_length()).collect();
        Self {
            etype,
            bytes: Zeroizing::new(bytes),
        }
    }

    pub(super) fn etype(&self) -> Etype {
        self.etype
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What encrypts and signs for a usage.
    pub(super) fn sealing(&self, usage: Usage) -> Sealing {
        let encryption = self.derive(usage as u32, 0xAA);
        Sealing {
            cipher: Cipher::new(&encryption),
            integrity: Signing(self.derive(usage as u32, 0x55).bytes),
        }
    }

    /// What signs for a usage, without encryption.
    pub(super) fn signing(&self, usage: Usage) -> Signing {
        Signing(self.derive(usage as u32, 0x99).bytes)
    }

    /// DK of RFC 3961 §5.1.
    fn derive(&self, usage: u32, purpose: u8) -> Self {
        let [a, b, c, d] = usage.to_be_bytes();
        let mut block = Zeroizing::new(n_fold::<BLOCK>(&[a, b, c, d, purpose]));
        let cipher = Cipher::new(self);
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.bytes.len()));
        while bytes.len() < self.bytes.len() {
            cipher.encrypt(&mut block);
            bytes.extend_from_slice(&*block);
        }
        Self {
            etype: self.etype,
            bytes,
        }
    }
}

/// Keyed checksums.
pub(super) struct Signing(Zeroizing<Vec<u8>>);

impl Signing {
    /// The checksum of the parts, one after the other.
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub(super) fn mac(&self, parts: &[&[u8]]) -> [u8; MAC] {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("any length");
        for part in parts {
            mac.update(part);
        }
        let whole: [u8; 20] = mac.finalize().into_bytes().into();
        let mut cut = [0; MAC];
        for (place, byte) in cut.iter_mut().zip(whole) {
            *place = byte;
        }
        cut
    }

    pub(super) fn verify(&self, parts: &[&[u8]], mac: &[u8]) -> Result<(), AuthError> {
        match bool::from(self.mac(parts).as_slice().ct_eq(mac)) {
            true => Ok(()),
            false => Err(AuthError::Signature),
        }
    }
}

/// Encryption with a keyed checksum over the plaintext.
pub(super) struct Sealing {
    cipher: Cipher,
    pub(super) integrity: Signing,
}

impl Sealing {
    /// A message: a block that is random, the plaintext, the checksum of both.
    pub(super) fn encrypt(&self, confounder: [u8; BLOCK], plain: &[u8]) -> Vec<u8> {
        let mut message = [&confounder, plain].concat();
        let mac = self.integrity.mac(&[&message]);
        self.encrypt_in_place(&mut message);
        message.extend(mac);
        message
    }

    /// The plaintext of a message that [`Sealing::encrypt`] could have made.
    pub(super) fn decrypt(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, AuthError> {
        let length = message.len().checked_sub(MAC).filter(|rest| *rest >= BLOCK);
        let split = length.and_then(|length| message.split_at_checked(length));
        let (sealed, mac) = split.ok_or(AuthError::Signature)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        self.decrypt_in_place(&mut plain);
        self.integrity.verify(&[&plain], mac)?;
        Ok(Zeroizing::new(
            plain.get(BLOCK..).unwrap_or_default().to_vec(),
        ))
    }

    /// CBC from a block of zeros; the last two blocks change places, and the then last one is cut to the length.
    ///
    /// What is shorter than a block stays as it is: there is no such message, as each begins with a random block.
    pub(super) fn encrypt_in_place(&self, data: &mut [u8]) {
        let (whole, last) = data.split_at_mut(tail_start(data.len()));
        let mut previous = [0; BLOCK];
        let (blocks, _) = whole.as_chunks_mut::<BLOCK>();
        for block in &mut *blocks {
            xor(block, &previous);
            self.cipher.encrypt(block);
            previous = *block;
        }
        let mut end = previous;
        xor(&mut end, last);
        match blocks.last_mut() {
            Some(place) => {
                self.cipher.encrypt(&mut end);
                *place = end;
                copy(last, &previous);
            }
            None if last.len() == BLOCK => {
                self.cipher.encrypt(&mut end);
                copy(last, &end);
            }
            None => {}
        }
    }

    /// The way back.
    pub(super) fn decrypt_in_place(&self, data: &mut [u8]) {
        let (whole, last) = data.split_at_mut(tail_start(data.len()));
        let (blocks, _) = whole.as_chunks_mut::<BLOCK>();
        let Some((place, blocks)) = blocks.split_last_mut() else {
            if let Ok(block) = <&mut [u8; BLOCK]>::try_from(last) {
                self.cipher.decrypt(block);
            }
            return;
        };
        let mut previous = [0; BLOCK];
        for block in blocks {
            let sealed = *block;
            self.cipher.decrypt(block);
            xor(block, &previous);
            previous = sealed;
        }
        let mut end = Zeroizing::new(*place);
        self.cipher.decrypt(&mut end);
        // What was cut away of the last but one stands in the end of the last.
        let mut before = end.clone();
        copy(&mut *before, last);
        xor(last, &*end);
        self.cipher.decrypt(&mut before);
        xor(&mut *before, &previous);
        *place = *before;
    }
}

/// Where the last block begins, which may be shorter than a block.
fn tail_start(length: usize) -> usize {
    length.saturating_sub(1) / BLOCK * BLOCK
}

fn xor(data: &mut [u8], with: &[u8]) {
    for (byte, other) in data.iter_mut().zip(with) {
        *byte ^= other;
    }
}

fn copy(data: &mut [u8], from: &[u8]) {
    for (byte, other) in data.iter_mut().zip(from) {
        *byte = *other;
    }
}

enum Cipher {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

impl Cipher {
    #[expect(clippy::expect_used, reason = "a key has the length of its encryption")]
    fn new(key: &Key) -> Self {
        match key.etype {
            Etype::Aes128 => {
                Self::Aes128(Box::new(Aes128::new_from_slice(&key.bytes).expect("16")))
            }
            Etype::Aes256 => {
                Self::Aes256(Box::new(Aes256::new_from_slice(&key.bytes).expect("32")))
            }
        }
    }

    fn encrypt(&self, block: &mut [u8; BLOCK]) {
        let block: &mut Array<u8, _> = block.into();
        match self {
            Self::Aes128(cipher) => cipher.encrypt_block(block),
            Self::Aes256(cipher) => cipher.encrypt_block(block),
        }
    }

    fn decrypt(&self, block: &mut [u8; BLOCK]) {
        let block: &mut Array<u8, _> = block.into();
        match self {
            Self::Aes128(cipher) => cipher.decrypt_block(block),
            Self::Aes256(cipher) => cipher.decrypt_block(block),
        }
    }
}

/// n-fold of RFC 3961 §5.1: copies of the input, each turned by 13 bits more, added up with the carry going round.
fn n_fold<const N: usize>(input: &[u8]) -> [u8; N] {
    let (length, bits) = (input.len(), input.len() * 8);
    let byte_at = |at: usize| input.get(at % length).copied().unwrap_or_default();
    let mut folded = [0_u8; N];
    let mut carry = 0_u16;
    let all = length * N / greatest_common_divisor(length, N);
    for index in (0..all).rev() {
        let turned = index / length * 13 % bits;
        let start = (index % length * 8 + bits - turned) % bits;
        let pair = u16::from_be_bytes([byte_at(start / 8), byte_at(start / 8 + 1)]);
        let [byte, _] = (pair << (start % 8)).to_be_bytes();
        if let Some(place) = folded.get_mut(index % N) {
            carry += u16::from(*place) + u16::from(byte);
            [_, *place] = carry.to_be_bytes();
            carry >>= 8;
        }
    }
    while carry != 0 {
        for place in folded.iter_mut().rev() {
            carry += u16::from(*place);
            [_, *place] = carry.to_be_bytes();
            carry >>= 8;
        }
    }
    folded
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => greatest_common_divisor(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use base16ct::lower::encode_string as hex;
    use base16ct::mixed::decode_vec as unhex;

    use super::*;

    #[test]
    fn folds_as_the_standard_does() {
        // RFC 3961 A.1.
        assert_eq!(hex(&n_fold::<8>(b"012345")), "be072631276b1955");
        assert_eq!(hex(&n_fold::<7>(b"password")), "78a07b6caf85fa");
        assert_eq!(
            hex(&n_fold::<8>(b"Rough Consensus, and Running Code")),
            "bb6ed30870b7f0e0"
        );
        assert_eq!(
            hex(&n_fold::<21>(b"Q")),
            "518a54a215a8452a518a54a215a8452a518a54a215"
        );
        assert_eq!(
            hex(&n_fold::<16>(b"kerberos")),
            "6b65726265726f737b9b5b2b93132b93"
        );
    }

    #[test]
    fn steals_ciphertext_as_the_standard_does() {
        // RFC 3962 B.
        let key = Key::new(Etype::Aes128, b"chicken teriyaki").unwrap();
        let sealing = Sealing {
            cipher: Cipher::new(&key),
            integrity: Signing(Zeroizing::default()),
        };
        let plain = b"I would like the General Gau's Chicken, please, and wonton soup.";
        for (length, expected) in [
            (17, "c6353568f2bf8cb4d8a580362da7ff7f97"),
            (
                31,
                "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5",
            ),
            (
                32,
                "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584",
            ),
            (
                47,
                "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5",
            ),
            (
                48,
                "97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd839312523a78662d5be7fcbcc98ebf5a8",
            ),
            (
                64,
                "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a84807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8",
            ),
        ] {
            let mut data = plain[..length].to_vec();
            sealing.encrypt_in_place(&mut data);
            assert_eq!(hex(&data), expected, "{length}");
            sealing.decrypt_in_place(&mut data);
            assert_eq!(data, plain[..length], "{length}");
        }
        let mut block = *b"I would like the";
        sealing.encrypt_in_place(&mut block);
        sealing.decrypt_in_place(&mut block);
        assert_eq!(&block, b"I would like the");
    }

    #[test]
    fn messages_of_every_length_are_read_as_written_and_no_others() {
        for etype in [Etype::Aes128, Etype::Aes256] {
            let sealing = Key::from_random(etype, &[7; 32]).sealing(Usage::Ticket);
            for length in 0..50 {
                let plain = vec![3; length];
                let message = sealing.encrypt([9; BLOCK], &plain);
                assert_eq!(*sealing.decrypt(&message).unwrap(), plain);
                for cut in 0..message.len() {
                    assert!(sealing.decrypt(&message[..cut]).is_err());
                    let mut changed = message.clone();
                    changed[cut] ^= 0x80;
                    assert!(sealing.decrypt(&changed).is_err());
                }
            }
            let message = sealing.encrypt([9; BLOCK], b"text");
            let other = Key::from_random(etype, &[7; 32]).sealing(Usage::Reply);
            assert!(other.decrypt(&message).is_err());
        }
    }

    #[test]
    fn messages_of_other_implementations_are_read() {
        for (etype, usage, key, message, plain) in VECTORS {
            let key = Key::new(etype, &unhex(key).unwrap()).unwrap();
            let sealing = Sealing {
                cipher: Cipher::new(&key.derive(usage, 0xAA)),
                integrity: Signing(key.derive(usage, 0x55).bytes),
            };
            let read = sealing.decrypt(&unhex(message).unwrap()).unwrap();
            assert_eq!(*read, plain.as_bytes());
        }
    }

    #[test]
    fn messages_of_impacket_are_read_and_written() {
        let lines = include_str!("../../tests/transcripts/kerberos_messages.txt").lines();
        let mut etypes = Vec::new();
        for line in lines.filter(|line| !line.starts_with('#')) {
            let words: Vec<_> = line.split(' ').collect();
            let [etype, usage, key, block, plain, message] = words.as_slice() else {
                panic!("six words: {line}")
            };
            let etype = Etype::from_wire(etype.parse().unwrap()).unwrap();
            let key = Key::new(etype, &unhex(key).unwrap()).unwrap();
            let usage = usage.parse().unwrap();
            let sealing = Sealing {
                cipher: Cipher::new(&key.derive(usage, 0xAA)),
                integrity: Signing(key.derive(usage, 0x55).bytes),
            };
            let plain = unhex(plain.trim_matches('-')).unwrap();
            let message = unhex(message).unwrap();
            assert_eq!(*sealing.decrypt(&message).unwrap(), plain, "{line}");
            let block = unhex(block).unwrap().try_into().unwrap();
            assert_eq!(sealing.encrypt(block, &plain), message, "{line}");
            etypes.push(etype);
        }
        for etype in [Etype::Aes128, Etype::Aes256] {
            assert_eq!(etypes.iter().filter(|one| **one == etype).count(), 50);
        }
    }

    /// Those of MIT Kerberos (`t_decrypt.c`).
    const VECTORS: [(Etype, u32, &str, &str, &str); 2] = [
        (
            Etype::Aes128,
            0,
            "5A5C0F0BA54F3828B2195E66CA24A289",
            "49FF8E11C173D9583A3254FBE7B1F1DF36C538E8416784A1672E6676",
            "",
        ),
        (
            Etype::Aes128,
            1,
            "98450E3F3BAA13F5C99BEB936981B06F",
            "F86742F537B35DC2174A4DBAA920FAF9042090B065E1EBB1CAD9A65394",
            "1",
        ),
    ];
}
