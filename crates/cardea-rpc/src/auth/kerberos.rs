//! The service's side of Kerberos (RFC 4120, RFC 4121) with a keytab, in the style of DCE: three messages, of which the
//! last shows that the caller has read the acceptor's answer.
//!
//! What real clients send wins over the standards: Windows, Samba and MIT leave out the frame of GSS-API in this style,
//! impacket does not.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::der::{Elements, OBJECT_IDENTIFIER};
use super::kerberos_crypto::{Key, Sealing, Usage};
use super::kerberos_messages::{
    ApRep, ApReq, Authenticator, Encrypted, TicketPart, encode_reply_part, parse_reply_part,
};
use super::kerberos_session::{Confounders, End, KerberosSession};
use super::keytab::Keytab;
use super::replay::Seen;
use super::{Acceptor, AuthError, Directory, Identity, Step};

/// Kerberos, 1.2.840.113554.1.2.2.
pub(super) const KERBEROS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 0x01, 0x02, 0x02];

/// Kerberos by the number that Windows 2000 had for it, 1.2.840.48018.1.2.2, a bit of which was lost: all accept it.
pub(super) const MICROSOFT_KERBEROS: &[u8] =
    &[0x2A, 0x86, 0x48, 0x82, 0xF7, 0x12, 0x01, 0x02, 0x02];

/// How far clocks may be apart, in seconds.
const SKEW: i64 = 300;

/// The type of the checksum that brings the flags of a context (RFC 4121 §4.1.1).
pub(super) const FLAGS_CHECKSUM: u32 = 0x8003;

/// Flags of a context.
pub(super) const MUTUAL: u32 = 0x2;
pub(super) const DCE_STYLE: u32 = 0x1000;

/// Options of a caller's first message.
const USE_SESSION_KEY: u32 = 0x4000_0000;
pub(super) const MUTUAL_REQUIRED: u32 = 0x2000_0000;

/// Flags of a ticket.
const INVALID: u32 = 0x0100_0000;
const TRANSITED_POLICY_CHECKED: u32 = 0x0008_0000;

/// What the authentications of a service have in common.
pub struct KerberosService {
    keytab: Keytab,
    seen: Seen,
}

impl KerberosService {
    /// One for each service: what was seen by one is not known to another.
    #[must_use]
    pub fn new(keytab: Keytab) -> Self {
        Self {
            keytab,
            seen: Seen::default(),
        }
    }
}

/// What either end has of chance and time.
pub struct KerberosFresh {
    /// Random, and never used again: the key of the session.
    pub key: [u8; 32],
    /// Random: what the random blocks of messages come from.
    pub confounders: [u8; 32],
    /// Random: the number of the first packet.
    pub sequence: u32,
    /// Now, in seconds since 1970.
    pub time: i64,
}

impl Drop for KerberosFresh {
    fn drop(&mut self) {
        self.key.zeroize();
        self.confounders.zeroize();
    }
}

/// Judges a caller's ticket.
pub struct KerberosAcceptor {
    service: Arc<KerberosService>,
    fresh: KerberosFresh,
    state: State,
}

enum State {
    Beginning,
    Answered(Box<Answered>),
    Over,
}

/// What the caller's last message is judged by.
struct Answered {
    identity: Identity,
    ticket_key: Key,
    session: KerberosSession,
    sequence: u32,
    /// What the answer says, encrypted: it is not accepted as the caller's.
    reply: Vec<u8>,
}

impl KerberosAcceptor {
    /// For one authentication.
    #[must_use]
    pub fn new(service: Arc<KerberosService>, fresh: KerberosFresh) -> Self {
        Self {
            service,
            fresh,
            state: State::Beginning,
        }
    }

    /// The answer to the caller's first message.
    pub(super) fn answer(
        &mut self,
        token: &[u8],
        accounts: &dyn Directory,
    ) -> Result<Vec<u8>, AuthError> {
        let State::Beginning = std::mem::replace(&mut self.state, State::Over) else {
            return Err(AuthError::Unexpected);
        };
        let request = ApReq::parse(without_frame(token)?)?;
        if request.options & USE_SESSION_KEY != 0 {
            return refuse("a ticket under a key that is not the service's");
        }
        if request.options & MUTUAL_REQUIRED == 0 {
            return Err(AuthError::NotOffered("mutual authentication"));
        }
        let ticket = self.open(&request)?;
        let now = self.fresh.time;
        check_ticket(&ticket, now)?;
        let authenticator = open_authenticator(&ticket, &request.authenticator)?;
        check_authenticator(&authenticator, &ticket, now)?;
        if !accounts.admits(&ticket.client) {
            return Err(AuthError::Refused);
        }
        // Last, so that nobody but those who are let in can fill the memory for it.
        let until = authenticator.moment.time.0.saturating_add(SKEW);
        self.service
            .seen
            .note(request.authenticator.cipher, until, now)?;

        // MIT and Windows keep away from the last bits, which old implementations took for a sign.
        let sequence = self.fresh.sequence & 0x3FFF_FFFF;
        let key = Key::from_random(ticket.key.etype(), &self.fresh.key);
        let part = encode_reply_part(&authenticator.moment, &key, sequence);
        let mut confounders = Confounders::new(self.fresh.confounders);
        let sealing = ticket.key.sealing(Usage::Reply);
        let reply = sealing.encrypt(confounders.next(), &part);
        let answer = ApRep::encode(ticket.key.etype(), &reply);
        let numbers = (sequence, authenticator.sequence);
        let identity = Identity {
            user: ticket.client.to_string(),
            domain: ticket.client.realm().to_owned(),
        };
        self.state = State::Answered(Box::new(Answered {
            identity,
            session: KerberosSession::new(&key, End::Acceptor, numbers, confounders),
            ticket_key: ticket.key,
            sequence,
            reply,
        }));
        Ok(answer)
    }

    /// The verdict on the caller's last message.
    pub(super) fn finish(
        &mut self,
        token: &[u8],
    ) -> Result<(Identity, KerberosSession), AuthError> {
        let State::Answered(answered) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(AuthError::Unexpected);
        };
        let ApRep(part) = ApRep::parse(token)?;
        // Under the same key and of the same form as the acceptor's own.
        if part.cipher == answered.reply {
            return refuse("the answer was sent back");
        }
        if part.etype != i64::from(answered.ticket_key.etype().to_wire()) {
            return refuse("another encryption than that of the ticket");
        }
        let sealing = answered.ticket_key.sealing(Usage::Reply);
        let plain = decrypt(
            &sealing,
            &part,
            "the caller's last message cannot be decrypted",
        )?;
        let number = parse_reply_part(&plain)?.unwrap_or_default();
        let same = number.to_be_bytes().ct_eq(&answered.sequence.to_be_bytes());
        match bool::from(same) {
            true => Ok((answered.identity, answered.session)),
            false => refuse("the caller's last message is not for this answer"),
        }
    }

    /// Decrypts the ticket with the key of its service.
    fn open(&self, request: &ApReq<'_>) -> Result<TicketPart, AuthError> {
        let keys = self.service.keytab.keys(&request.service, &request.ticket);
        if keys.is_empty() {
            return refuse(
                "the keytab has no key for the ticket: its service, number or encryption",
            );
        }
        let mut plain = None;
        for key in keys {
            let sealing = key.sealing(Usage::Ticket);
            plain = plain.or_else(|| sealing.decrypt(request.ticket.cipher).ok());
        }
        let plain = plain.ok_or(AuthError::Kerberos(
            "the ticket cannot be decrypted with the key in the keytab",
        ))?;
        TicketPart::parse(&plain)
    }
}

impl Acceptor for KerberosAcceptor {
    fn step(&mut self, token: &[u8], accounts: &dyn Directory) -> Result<Step, AuthError> {
        if matches!(self.state, State::Beginning) {
            return self.answer(token, accounts).map(Step::Continue);
        }
        let (identity, session) = self.finish(token)?;
        Ok(Step::Done {
            token: None,
            identity,
            session: Box::new(session),
        })
    }
}

fn refuse<T>(reason: &'static str) -> Result<T, AuthError> {
    Err(AuthError::Kerberos(reason))
}

/// Takes away the frame of GSS-API and the mark of a first message, where they are.
fn without_frame(token: &[u8]) -> Result<&[u8], AuthError> {
    const FRAME: u8 = 0x60;
    const FIRST_MESSAGE: &[u8] = &[1, 0];
    if token.first() != Some(&FRAME) {
        return Ok(token);
    }
    // What is in it is not all DER.
    let mut outer = Elements::new(token);
    let content = outer.expect(FRAME)?;
    if outer.next()?.is_some() {
        return Err(AuthError::Malformed("something after the message"));
    }
    let mut inner = Elements::new(content);
    let mechanism = inner.expect(OBJECT_IDENTIFIER)?;
    if mechanism != KERBEROS && mechanism != MICROSOFT_KERBEROS {
        return Err(AuthError::NoMechanism);
    }
    let message = inner.rest().strip_prefix(FIRST_MESSAGE);
    message.ok_or(AuthError::Malformed("not the first message of Kerberos"))
}

fn check_ticket(ticket: &TicketPart, now: i64) -> Result<(), AuthError> {
    if ticket.flags & INVALID != 0 {
        return refuse("a ticket that is not valid yet");
    }
    if ticket.is_transited && ticket.flags & TRANSITED_POLICY_CHECKED == 0 {
        return refuse("a ticket through other realms, whose way the KDC has not checked");
    }
    if ticket.start.0 > now.saturating_add(SKEW) {
        return refuse("a ticket of the future; do the clocks agree?");
    }
    if ticket.end.0 < now.saturating_sub(SKEW) {
        return refuse("an expired ticket; do the clocks agree?");
    }
    Ok(())
}

fn open_authenticator(
    ticket: &TicketPart,
    part: &Encrypted<'_>,
) -> Result<Authenticator, AuthError> {
    if part.etype != i64::from(ticket.key.etype().to_wire()) {
        return refuse("another encryption than that of the ticket");
    }
    let sealing = ticket.key.sealing(Usage::Authenticator);
    let plain = decrypt(
        &sealing,
        part,
        "the caller does not know the key in its ticket",
    )?;
    Authenticator::parse(&plain)
}

fn decrypt(
    sealing: &Sealing,
    part: &Encrypted<'_>,
    otherwise: &'static str,
) -> Result<Zeroizing<Vec<u8>>, AuthError> {
    let plain = sealing.decrypt(part.cipher);
    plain.map_err(|_| AuthError::Kerberos(otherwise))
}

fn check_authenticator(
    authenticator: &Authenticator,
    ticket: &TicketPart,
    now: i64,
) -> Result<(), AuthError> {
    if authenticator.client != ticket.client {
        return refuse("the caller is not the one of the ticket");
    }
    if authenticator.moment.time.0.abs_diff(now) > SKEW.unsigned_abs() {
        return refuse("the clocks are more than five minutes apart");
    }
    if authenticator.checksum_type != i64::from(FLAGS_CHECKSUM) {
        return Err(AuthError::NotOffered("a context of GSS-API"));
    }
    // The length of the bindings, and the bindings, of a channel that there is not: they mean nothing then, whatever
    // they are (RFC 4121 §4.1.1.2). What follows the flags is a delegated ticket, for which there is no use.
    let [16, 0, 0, 0, bindings_and_flags @ ..] = authenticator.checksum.as_slice() else {
        return Err(AuthError::Malformed("flags of a context"));
    };
    let flags = bindings_and_flags.get(16..20);
    let flags = flags.and_then(|flags| flags.try_into().ok());
    let flags = flags.map(u32::from_le_bytes);
    let flags = flags.ok_or(AuthError::Malformed("flags of a context"))?;
    if flags & MUTUAL == 0 {
        return Err(AuthError::NotOffered("mutual authentication"));
    }
    if flags & DCE_STYLE == 0 {
        return Err(AuthError::NotOffered("the style of DCE"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
