//! The protection of packets with Kerberos (RFC 4121 §4.2), in the style of DCE (MS-KILE 3.4.5.4).
//!
//! A sealed packet keeps its length: the value of its trailer takes what the encryption adds. What is encrypted is a
//! random block, the body, filling and a copy of the token's header; of the ciphertext, the body's part stays in the
//! body's place, and the rest is turned round behind the header.

use std::ops::Range;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::kerberos_crypto::{BLOCK, Key, MAC, Sealing, Signing, Usage};
use super::{AuthError, Session};

/// The header of a token.
const HEADER: usize = 16;

/// The checksum and the encrypted copy of the header: what is turned round, filling apart. Windows, and so all others,
/// turn by the filling too and do not count it here.
const TURNED: u16 = 28;

/// The filling of what is sent: Windows wants some, and Samba counts on a signature of 76 bytes.
const FILLING: [u8; BLOCK] = [0xFF; BLOCK];
const FILLING_LENGTH: u16 = 16;

/// The length of a signature over what is sealed, and of one over what is not.
const SEALED: usize = HEADER + BLOCK + FILLING.len() + HEADER + MAC;
const SIGNED: usize = HEADER + MAC;

/// Flags of a token.
const SENT_BY_ACCEPTOR: u8 = 1;
const IS_SEALED: u8 = 2;
const ACCEPTOR_SUBKEY: u8 = 4;

/// Which end sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Acceptor,
    Initiator,
}

/// The keys and counters of a context, both directions.
pub struct KerberosSession {
    outgoing: Direction,
    incoming: Direction,
    confounders: Confounders,
    is_sealed: bool,
    covers_headers: bool,
}

impl KerberosSession {
    /// With the acceptor's key, and the numbers with which the own end and the other begin.
    pub(super) fn new(key: &Key, own: End, numbers: (u32, u32), confounders: Confounders) -> Self {
        let other = match own {
            End::Acceptor => End::Initiator,
            End::Initiator => End::Acceptor,
        };
        Self {
            outgoing: Direction::new(key, own, numbers.0),
            incoming: Direction::new(key, other, numbers.1),
            confounders,
            is_sealed: false,
            covers_headers: false,
        }
    }
}

impl Session for KerberosSession {
    fn agree(&mut self, is_sealed: bool, covers_headers: bool) {
        (self.is_sealed, self.covers_headers) = (is_sealed, covers_headers);
    }

    fn covers_headers(&self) -> bool {
        self.covers_headers
    }

    fn signature_length(&self) -> usize {
        match self.is_sealed {
            true => SEALED,
            false => SIGNED,
        }
    }

    fn seal(&mut self, span: &mut [u8], body: Range<usize>) -> Vec<u8> {
        let direction = &mut self.outgoing;
        let header = direction.wrap_header(FILLING_LENGTH, 0);
        let confounder = self.confounders.next();
        let Some((before, body, after)) = parts(span, &body) else {
            return Vec::new();
        };
        let mac =
            direction
                .sealing
                .integrity
                .mac(&[&confounder, before, body, after, &FILLING, &header]);
        let mut sealed = Zeroizing::new([&confounder, &*body, &FILLING, &header].concat());
        direction.sealing.encrypt_in_place(&mut sealed);
        let (first, rest) = sealed.split_at_checked(BLOCK).unwrap_or_default();
        let (middle, last) = rest.split_at_checked(body.len()).unwrap_or_default();
        body.copy_from_slice(middle);
        let header = direction.wrap_header(FILLING_LENGTH, TURNED);
        direction.sequence = direction.sequence.wrapping_add(1);
        [&header, last, &mac, first].concat()
    }

    fn sign(&mut self, span: &[u8]) -> Vec<u8> {
        let direction = &mut self.outgoing;
        let header = direction.mic_header();
        direction.sequence = direction.sequence.wrapping_add(1);
        let mac = direction.signing.mac(&[span, &header]);
        [&header[..], &mac].concat()
    }

    fn unseal(
        &mut self,
        span: &mut [u8],
        body: Range<usize>,
        signature: &[u8],
    ) -> Result<(), AuthError> {
        let direction = &mut self.incoming;
        let (header, rest) = signature.split_at_checked(HEADER).ok_or(INVALID)?;
        let &[.., filling_high, filling_low, _, _, _, _, _, _, _, _, _, _] = header else {
            return Err(INVALID);
        };
        // Not secret: what is wrong here is wrong in the clear.
        let filling = u16::from_be_bytes([filling_high, filling_low]);
        if header != direction.wrap_header(filling, TURNED) {
            return Err(INVALID);
        }
        let filling_length = usize::from(filling);
        if rest.len() != filling_length + HEADER + MAC + BLOCK {
            return Err(INVALID);
        }
        let (last, rest) = rest
            .split_at_checked(filling_length + HEADER)
            .ok_or(INVALID)?;
        let (mac, first) = rest.split_at_checked(MAC).ok_or(INVALID)?;
        let (before, body, after) = parts(span, &body).ok_or(INVALID)?;
        let mut plain = Zeroizing::new([first, &*body, last].concat());
        direction.sealing.decrypt_in_place(&mut plain);
        let (confounder, rest) = plain.split_at_checked(BLOCK).ok_or(INVALID)?;
        let (text, last) = rest.split_at_checked(body.len()).ok_or(INVALID)?;
        let parts: [&[u8]; 5] = [confounder, before, text, after, last];
        direction.sealing.integrity.verify(&parts, mac)?;
        // Under the checksum, so what it says is what the other end has said.
        if !last.ends_with(&direction.wrap_header(filling, 0)) {
            return Err(INVALID);
        }
        body.copy_from_slice(text);
        direction.sequence = direction.sequence.wrapping_add(1);
        Ok(())
    }

    fn verify(&mut self, span: &[u8], signature: &[u8]) -> Result<(), AuthError> {
        let direction = &mut self.incoming;
        let (header, mac) = signature.split_at_checked(HEADER).ok_or(INVALID)?;
        if header != direction.mic_header() {
            return Err(INVALID);
        }
        direction.signing.verify(&[span, header], mac)?;
        direction.sequence = direction.sequence.wrapping_add(1);
        Ok(())
    }
}

const INVALID: AuthError = AuthError::Signature;

/// What comes before the body, the body, and what comes after it.
fn parts<'a>(
    span: &'a mut [u8],
    body: &Range<usize>,
) -> Option<(&'a [u8], &'a mut [u8], &'a [u8])> {
    let (before, rest) = span.split_at_mut_checked(body.start)?;
    let (body, after) = rest.split_at_mut_checked(body.end.checked_sub(body.start)?)?;
    Some((before, body, after))
}

/// What one end sends.
struct Direction {
    sealing: Sealing,
    signing: Signing,
    flags: u8,
    sequence: u64,
}

impl Direction {
    fn new(key: &Key, sender: End, sequence: u32) -> Self {
        let (seal, sign, flags) = match sender {
            End::Acceptor => (Usage::AcceptorSeal, Usage::AcceptorSign, SENT_BY_ACCEPTOR),
            End::Initiator => (Usage::InitiatorSeal, Usage::InitiatorSign, 0),
        };
        Self {
            sealing: key.sealing(seal),
            signing: key.signing(sign),
            flags: flags | ACCEPTOR_SUBKEY,
            sequence: sequence.into(),
        }
    }

    fn wrap_header(&self, filling: u16, turned: u16) -> [u8; HEADER] {
        let [filling_high, filling_low] = filling.to_be_bytes();
        let [turned_high, turned_low] = turned.to_be_bytes();
        let [a, b, c, d, e, f, g, h] = self.sequence.to_be_bytes();
        [
            5,
            4,
            self.flags | IS_SEALED,
            0xFF,
            filling_high,
            filling_low,
            turned_high,
            turned_low,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
        ]
    }

    fn mic_header(&self) -> [u8; HEADER] {
        let [a, b, c, d, e, f, g, h] = self.sequence.to_be_bytes();
        [
            4, 4, self.flags, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, a, b, c, d, e, f, g, h,
        ]
    }
}

/// The random blocks that messages begin with: from one secret, so that nothing needs the system while packets are sent.
pub(super) struct Confounders {
    secret: Zeroizing<[u8; 32]>,
    count: u64,
}

impl Confounders {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            secret: Zeroizing::new(secret),
            count: 0,
        }
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub(super) fn next(&mut self) -> [u8; BLOCK] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.secret).expect("any length");
        mac.update(&self.count.to_be_bytes());
        self.count = self.count.wrapping_add(1);
        let block: [u8; 32] = mac.finalize().into_bytes().into();
        let mut cut = [0; BLOCK];
        for (place, byte) in cut.iter_mut().zip(block) {
            *place = byte;
        }
        cut
    }
}
