//! The client's side of Kerberos (RFC 4120, RFC 4121) with a ticket, in the style of DCE and without the frame of
//! GSS-API, as Windows and MIT speak it in DCE/RPC.

use cardea_dcom::pdu::auth_type;
use subtle::ConstantTimeEq;

use super::kerberos::{DCE_STYLE, FLAGS_CHECKSUM, KerberosFresh, MUTUAL, MUTUAL_REQUIRED};
use super::kerberos_crypto::{Key, Usage};
use super::kerberos_messages::{ApRep, ApReq, Authenticator, Moment, ReplyPart, encode_last_part};
use super::kerberos_session::{Confounders, End, KerberosSession};
use super::ticket::Ticket;
use super::{AuthError, Initiator, Session};

/// Flags of a context: against repetition, in order, sealed, signed.
const WANTED: u32 = MUTUAL | 0x4 | 0x8 | 0x10 | 0x20 | DCE_STYLE;

/// Shows a ticket to a service, and has the service show that it could read it.
pub struct KerberosInitiator {
    ticket: Ticket,
    sequence: u32,
    own_key: Key,
    confounders: Confounders,
    moment: Moment,
}

impl KerberosInitiator {
    /// For one authentication.
    #[must_use]
    pub fn new(ticket: Ticket, fresh: &KerberosFresh) -> Self {
        let sequence = fresh.sequence & 0x3FFF_FFFF;
        Self {
            // Microseconds that were not measured: they only tell one message from another.
            moment: Moment::new(fresh.time, sequence % 1_000_000),
            own_key: Key::from_random(ticket.key.etype(), &fresh.key),
            confounders: Confounders::new(fresh.confounders),
            sequence,
            ticket,
        }
    }
}

impl Initiator for KerberosInitiator {
    fn auth_type(&self) -> u8 {
        auth_type::KERBEROS
    }

    fn begin(&mut self) -> Result<Vec<u8>, AuthError> {
        let key = &self.ticket.key;
        let checksum = [&[16, 0, 0, 0][..], &[0; 16], &WANTED.to_le_bytes()].concat();
        let authenticator = Authenticator::encode(
            &self.ticket.client,
            (FLAGS_CHECKSUM, &checksum),
            &self.moment,
            &self.own_key,
            self.sequence,
        );
        let sealing = key.sealing(Usage::Authenticator);
        let sealed = sealing.encrypt(self.confounders.next(), &authenticator);
        let ticket = &self.ticket.encoded;
        Ok(ApReq::encode(MUTUAL_REQUIRED, ticket, key.etype(), &sealed))
    }

    fn finish(
        mut self: Box<Self>,
        answer: &[u8],
    ) -> Result<(Vec<u8>, Box<dyn Session>), AuthError> {
        const NOT_THE_SERVICE: AuthError =
            AuthError::Kerberos("the answer is not from the service that the ticket is for");
        let ApRep(part) = ApRep::parse(answer)?;
        let key = &self.ticket.key;
        if part.etype != i64::from(key.etype().to_wire()) {
            return Err(NOT_THE_SERVICE);
        }
        let sealing = key.sealing(Usage::Reply);
        let plain = sealing.decrypt(part.cipher).map_err(|_| NOT_THE_SERVICE)?;
        let reply = ReplyPart::parse(&plain)?;
        // It has read this message, and not an earlier one.
        if !bool::from(reply.moment.ct_eq(&self.moment.to_bytes())) {
            return Err(NOT_THE_SERVICE);
        }
        let session_key = reply.key.ok_or(AuthError::NotOffered("a key of its own"))?;
        let sequence = reply.sequence.unwrap_or_default();
        let last = encode_last_part(&self.moment, sequence);
        let last = sealing.encrypt(self.confounders.next(), &last);
        let last = ApRep::encode(key.etype(), &last);
        let numbers = (self.sequence, sequence);
        let session = KerberosSession::new(&session_key, End::Initiator, numbers, self.confounders);
        Ok((last, Box::new(session)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::kerberos::{KerberosAcceptor, KerberosService};
    use super::super::kerberos_crypto::Etype;
    use super::super::kerberos_messages::tests::{
        bits, encrypted, name, octet_string, sequence, string, time,
    };
    use super::super::kerberos_messages::{field, message, number};
    use super::super::keytab::tests::{entry, keytab};
    use super::super::ticket::tests::file;
    use super::super::{Directory, Keytab, NtHash, Principal};
    use super::*;

    #[test]
    fn last_message_and_packets_agree_with_those_of_the_acceptor() {
        // The acceptor's tests show that it agrees with others.
        let (mut initiator, mut acceptor) = (initiator(7), acceptor(&service(), 0));
        let request = initiator.begin().unwrap();
        let answer = acceptor.answer(&request, &Ann).unwrap();
        let (last, mut own) = Box::new(initiator).finish(&answer).unwrap();
        let (identity, mut other) = acceptor.finish(&last).unwrap();
        assert_eq!(identity.user, "ann@FIRM");
        own.agree(true, true);
        other.agree(true, true);
        let mut span = *b"header, body, trailer";
        let signature = own.seal(&mut span, 8..12);
        assert_ne!(&span, b"header, body, trailer");
        other.unseal(&mut span, 8..12, &signature).unwrap();
        let signature = other.seal(&mut span, 8..12);
        own.unseal(&mut span, 8..12, &signature).unwrap();
        assert_eq!(&span, b"header, body, trailer");
    }

    #[test]
    fn answers_of_others_and_to_other_messages_are_refused() {
        let service = service();
        let answer = |own: &mut KerberosInitiator, number| {
            let request = own.begin().unwrap();
            acceptor(&service, number).answer(&request, &Ann).unwrap()
        };
        // To an earlier message.
        let mut earlier = initiator(6);
        let old = answer(&mut earlier, 1);
        let refused = |answer: &[u8]| Box::new(initiator(7)).finish(answer).err().unwrap();
        assert!(matches!(refused(&old), AuthError::Kerberos(_)));
        let whole = answer(&mut initiator(7), 2);
        assert!(Box::new(initiator(7)).finish(&whole).is_ok());
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            // What stays the same is the encoding's: the version of a key, for example, is not there.
            assert!(Box::new(initiator(7)).finish(&changed).is_err(), "{at}");
            assert!(Box::new(initiator(7)).finish(&whole[..at]).is_err());
        }
    }

    #[test]
    fn service_that_makes_no_key_is_refused() {
        let own = initiator(7);
        let sealing = own.ticket.key.sealing(Usage::Reply);
        let sealed = sealing.encrypt([0; 16], &encode_last_part(&own.moment, 3));
        let answer = ApRep::encode(own.ticket.key.etype(), &sealed);
        let error = Box::new(own).finish(&answer).err().unwrap();
        assert_eq!(error, AuthError::NotOffered("a key of its own"));
    }

    const NOW: i64 = 1_796_082_949;
    const SERVICE_KEY: [u8; 32] = [7; 32];

    struct Ann;

    impl Directory for Ann {
        fn nt_hash(&self, _: &str) -> Option<NtHash> {
            None
        }

        fn admits(&self, principal: &Principal) -> bool {
            principal.to_string() == "ann@FIRM"
        }
    }

    fn service() -> Arc<KerberosService> {
        let keytab = keytab(&[entry(3, 18, &SERVICE_KEY)]);
        Arc::new(KerberosService::new(Keytab::parse(&keytab).unwrap()))
    }

    fn fresh(number: u8) -> KerberosFresh {
        KerberosFresh {
            key: [number; 32],
            confounders: [number; 32],
            sequence: u32::from(number),
            time: NOW,
        }
    }

    fn acceptor(service: &Arc<KerberosService>, number: u8) -> KerberosAcceptor {
        KerberosAcceptor::new(Arc::clone(service), fresh(number))
    }

    fn initiator(number: u8) -> KerberosInitiator {
        let file = file(&[(&["host", "target"], 18, 1_796_083_000, &ticket())]);
        let ticket = Ticket::find(&file, "host", "target").unwrap();
        KerberosInitiator::new(ticket, &fresh(number))
    }

    /// A ticket as a KDC would make it, with the session key that the file says.
    fn ticket() -> Vec<u8> {
        let part = message(
            0x63,
            &[
                field(0, &bits(0)),
                field(
                    1,
                    &sequence(&[field(0, &number(18)), field(1, &octet_string(&[5; 32]))]),
                ),
                field(2, &string("FIRM")),
                field(3, &name(&["ann"])),
                field(
                    4,
                    &sequence(&[field(0, &number(1)), field(1, &octet_string(b""))]),
                ),
                field(5, &time("20261130200000Z")),
                field(7, &time("20261201200000Z")),
            ],
        );
        let key = Key::new(Etype::Aes256, &SERVICE_KEY).unwrap();
        let sealed = key.sealing(Usage::Ticket).encrypt([1; 16], &part);
        message(
            0x61,
            &[
                field(0, &number(5)),
                field(1, &string("FIRM")),
                field(2, &name(&["host", "target"])),
                field(3, &encrypted(18, Some(3), &sealed)),
            ],
        )
    }
}
