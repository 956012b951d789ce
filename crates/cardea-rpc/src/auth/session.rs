//! Signing and sealing with NTLM (MS-NLMP 3.4): extended session security, 128 bits, key exchange.

use std::ops::Range;

use rc4::{Rc4, StreamCipher};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::crypt::{Block, hmac_md5, md5, rc4};
use super::{AuthError, Session};

/// The length of a signature.
pub(super) const SIGNATURE: usize = 16;

/// Version of the form of signatures.
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// Which end signs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

impl End {
    /// The constants of MS-NLMP 3.4.5.2 and 3.4.5.3.
    fn constants(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Client => (
                b"session key to client-to-server signing key magic constant\0",
                b"session key to client-to-server sealing key magic constant\0",
            ),
            Self::Server => (
                b"session key to server-to-client signing key magic constant\0",
                b"session key to server-to-client sealing key magic constant\0",
            ),
        }
    }
}

/// The keys of a session, both directions.
pub struct NtlmSession {
    outgoing: Direction,
    incoming: Direction,
}

impl NtlmSession {
    /// From the exported session key.
    pub(super) fn new(key: &[u8; 16], own: End) -> Self {
        let other = match own {
            End::Client => End::Server,
            End::Server => End::Client,
        };
        Self {
            outgoing: Direction::new(key, own),
            incoming: Direction::new(key, other),
        }
    }

    /// Signs the list of mechanisms of SPNEGO.
    ///
    /// The cipher is then put back to its beginning and the counter is not (MS-SPNG 3.1.5.1; Samba and Windows do so).
    pub(super) fn sign_mechanisms(&mut self, list: &[u8]) -> Vec<u8> {
        let signature = self.sign(list);
        self.outgoing.rewind();
        signature
    }

    /// Compares a signature over the list of mechanisms.
    pub(super) fn verify_mechanisms(
        &mut self,
        list: &[u8],
        signature: &[u8],
    ) -> Result<(), AuthError> {
        self.verify(list, signature)?;
        self.incoming.rewind();
        Ok(())
    }
}

impl Session for NtlmSession {
    fn signature_length(&self) -> usize {
        SIGNATURE
    }

    fn seal(&mut self, span: &mut [u8], body: Range<usize>) -> Vec<u8> {
        let sequence = self.outgoing.next();
        let checksum = self.outgoing.checksum(sequence, span);
        if let Some(body) = span.get_mut(body) {
            self.outgoing.cipher.apply_keystream(body);
        }
        self.outgoing.signature(sequence, &checksum).to_vec()
    }

    fn sign(&mut self, span: &[u8]) -> Vec<u8> {
        let sequence = self.outgoing.next();
        let checksum = self.outgoing.checksum(sequence, span);
        self.outgoing.signature(sequence, &checksum).to_vec()
    }

    fn unseal(
        &mut self,
        span: &mut [u8],
        body: Range<usize>,
        signature: &[u8],
    ) -> Result<(), AuthError> {
        let body = span.get_mut(body).ok_or(AuthError::Signature)?;
        self.incoming.cipher.apply_keystream(body);
        self.verify(span, signature)
    }

    fn verify(&mut self, span: &[u8], signature: &[u8]) -> Result<(), AuthError> {
        let sequence = self.incoming.next();
        let checksum = self.incoming.checksum(sequence, span);
        let expected = self.incoming.signature(sequence, &checksum);
        match bool::from(expected.as_slice().ct_eq(signature)) {
            true => Ok(()),
            false => Err(AuthError::Signature),
        }
    }
}

/// What one end sends.
struct Direction {
    sign_key: Block,
    seal_key: Block,
    cipher: Rc4,
    sequence: u32,
}

impl Direction {
    fn new(key: &[u8; 16], sender: End) -> Self {
        let (signing, sealing) = sender.constants();
        let seal_key = md5(&[key, sealing]);
        Self {
            sign_key: md5(&[key, signing]),
            cipher: rc4(&seal_key),
            seal_key,
            sequence: 0,
        }
    }

    fn rewind(&mut self) {
        self.cipher = rc4(&self.seal_key);
    }

    fn next(&mut self) -> [u8; 4] {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        sequence.to_le_bytes()
    }

    /// The first half of the HMAC, in the clear.
    fn checksum(&self, sequence: [u8; 4], span: &[u8]) -> Zeroizing<[u8; 8]> {
        let mac = hmac_md5(&*self.sign_key, &[&sequence, span]);
        let [a, b, c, d, e, f, g, h, ..] = *mac;
        Zeroizing::new([a, b, c, d, e, f, g, h])
    }

    /// The stream of the cipher goes from the body on to the checksum.
    fn signature(&mut self, sequence: [u8; 4], checksum: &[u8; 8]) -> [u8; SIGNATURE] {
        let mut signature = [0; SIGNATURE];
        let (version, rest) = signature.split_at_mut(4);
        let (sealed, number) = rest.split_at_mut(8);
        version.copy_from_slice(&VERSION);
        sealed.copy_from_slice(checksum);
        number.copy_from_slice(&sequence);
        self.cipher.apply_keystream(sealed);
        signature
    }
}

#[cfg(test)]
mod tests {
    use base16ct::lower::encode_string as hex;

    use super::*;

    #[test]
    fn example_of_the_standard_is_sealed_to_the_byte() {
        // MS-NLMP 4.2.4.4: "Plaintext" in UTF-16, exported session key 55…55.
        let mut session = NtlmSession::new(&[0x55; 16], End::Client);
        let key = |direction: &Direction| (hex(&*direction.sign_key), hex(&*direction.seal_key));
        assert_eq!(
            key(&session.outgoing),
            (
                "4788dc861b4782f35d43fd98fe1a2d39".to_owned(),
                "59f600973cc4960a25480a7c196e4c58".to_owned()
            )
        );
        let plain: Vec<u8> = "Plaintext"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let mut message = plain.clone();
        let signature = session.seal(&mut message, 0..plain.len());
        assert_eq!(hex(&message), "54e50165bf1936dc996020c1811b0f06fb5f");
        assert_eq!(hex(&signature), "010000007fb38ec5c55d497600000000");

        let mut server = NtlmSession::new(&[0x55; 16], End::Server);
        server
            .unseal(&mut message, 0..plain.len(), &signature)
            .unwrap();
        assert_eq!(message, plain);
    }

    #[test]
    fn changed_repeated_and_reflected_packets_are_refused() {
        let key = [7; 16];
        let packet = b"header stub trailer".to_vec();
        let sealed = |session: &mut NtlmSession| {
            let mut packet = packet.clone();
            let signature = session.seal(&mut packet, 7..11);
            (packet, signature)
        };
        for at in 0..packet.len() {
            let mut client = NtlmSession::new(&key, End::Client);
            let mut server = NtlmSession::new(&key, End::Server);
            let (mut sent, signature) = sealed(&mut client);
            sent[at] ^= 1;
            assert_eq!(
                server.unseal(&mut sent, 7..11, &signature),
                Err(AuthError::Signature)
            );
        }
        let mut client = NtlmSession::new(&key, End::Client);
        let mut server = NtlmSession::new(&key, End::Server);
        let (sent, signature) = sealed(&mut client);
        assert!(server.unseal(&mut sent.clone(), 7..11, &signature).is_ok());
        // Again, and back to whoever sent it.
        assert!(server.unseal(&mut sent.clone(), 7..11, &signature).is_err());
        assert!(client.unseal(&mut sent.clone(), 7..11, &signature).is_err());
    }

    #[test]
    fn body_outside_of_the_packet_is_refused() {
        let mut session = NtlmSession::new(&[7; 16], End::Server);
        let refused = session.unseal(&mut [0; 8], 4..9, &[0; 16]);
        assert_eq!(refused, Err(AuthError::Signature));
    }
}
