//! Who calls, and what protects the packets of a security context: NTLMv2 or Kerberos, bare or within SPNEGO.
//!
//! Nothing here does I/O but to read a keytab, reads a clock or draws random numbers: whoever makes an acceptor or an
//! initiator brings those.

mod acceptor;
mod crypt;
mod der;
mod initiator;
mod kerberos;
mod kerberos_crypto;
mod kerberos_initiator;
mod kerberos_messages;
mod kerberos_session;
mod keytab;
mod message;
mod names;
mod negotiate;
mod nt_hash;
mod replay;
mod session;
mod spnego;
mod ticket;

use std::ops::Range;

pub use self::acceptor::{Fresh, NtlmAcceptor};
pub use self::initiator::{ClientFresh, Credentials, NtlmInitiator};
pub use self::kerberos::{KerberosAcceptor, KerberosFresh, KerberosService};
pub use self::kerberos_initiator::KerberosInitiator;
pub use self::kerberos_messages::Principal;
#[doc(hidden)]
pub use self::kerberos_messages::parse_opened_parts;
pub use self::kerberos_session::KerberosSession;
pub use self::keytab::{Keytab, KeytabError};
pub use self::names::ServerNames;
pub use self::negotiate::SpnegoAcceptor;
pub use self::nt_hash::NtHash;
pub use self::session::NtlmSession;
pub use self::ticket::Ticket;

pub use self::nt_hash::upper;

/// The accounts that may authenticate.
pub trait Directory: Send + Sync {
    /// The NT hash of an account. The domain is what the caller wrote: it goes into the proof, and says nothing else.
    fn nt_hash(&self, user: &str) -> Option<NtHash>;

    /// Whether a principal of Kerberos is let in.
    fn admits(&self, _: &Principal) -> bool {
        false
    }
}

/// One end's side of an authentication, message by message.
pub trait Acceptor: Send {
    /// Takes the caller's next token.
    ///
    /// # Errors
    ///
    /// [`AuthError`]: the authentication is over, and cannot be taken up again.
    fn step(&mut self, token: &[u8], accounts: &dyn Directory) -> Result<Step, AuthError>;
}

/// The other end's side: three messages, of which this end sends the first and the last.
pub trait Initiator: Send {
    /// The mechanism, as packets number it.
    fn auth_type(&self) -> u8;

    /// The first message.
    ///
    /// # Errors
    ///
    /// [`AuthError`].
    fn begin(&mut self) -> Result<Vec<u8>, AuthError>;

    /// The last message, and what protects the packets from here on.
    ///
    /// # Errors
    ///
    /// [`AuthError`]: the answer is not from whom it should be, or wants less than what security rests on.
    fn finish(self: Box<Self>, answer: &[u8]) -> Result<(Vec<u8>, Box<dyn Session>), AuthError>;
}

/// What follows from a token.
pub enum Step {
    /// An answer to send; the caller is not known yet.
    Continue(Vec<u8>),
    /// The caller is known.
    Done {
        /// A last answer to send, where the mechanism has one.
        token: Option<Vec<u8>>,
        /// Who it is.
        identity: Identity,
        /// What protects the packets from here on.
        session: Box<dyn Session>,
    },
}

/// Whoever proved to know the secret of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account's name as the caller wrote it; with Kerberos, the whole principal.
    pub user: String,
    /// The domain, as the caller wrote it: not verified. With Kerberos, the realm, which is.
    pub domain: String,
}

/// The keys and counters of an authenticated security context, both directions.
///
/// The span of a packet is everything but the signature itself: header, stub, padding and trailer, lengths filled in.
pub trait Session: Send {
    /// What was agreed on for all packets: whether they are sealed, and whether signatures are over headers and trailers
    /// too. To be called before anything else; mechanisms that do not care leave it out.
    fn agree(&mut self, _is_sealed: bool, _covers_headers: bool) {}

    /// Whether signatures are over headers and trailers; else the span of a packet is its body alone.
    fn covers_headers(&self) -> bool {
        true
    }

    /// The length of every signature.
    fn signature_length(&self) -> usize;

    /// Signs the span, then encrypts its body in place.
    fn seal(&mut self, span: &mut [u8], body: Range<usize>) -> Vec<u8>;

    /// Signs the span.
    fn sign(&mut self, span: &[u8]) -> Vec<u8>;

    /// Decrypts the body of the span in place, and compares the signature.
    ///
    /// # Errors
    ///
    /// [`AuthError::Signature`]: what was decrypted is not from the other end. The session is of no use afterwards.
    fn unseal(
        &mut self,
        span: &mut [u8],
        body: Range<usize>,
        signature: &[u8],
    ) -> Result<(), AuthError>;

    /// Compares the signature of a span.
    ///
    /// # Errors
    ///
    /// As [`Session::unseal`].
    fn verify(&mut self, span: &[u8], signature: &[u8]) -> Result<(), AuthError>;
}

/// Why the other end is not believed. For the log: the wire only says that access is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// It wants to be nobody.
    #[error("anonymous callers are refused")]
    Anonymous,
    /// The account's name is one that mechanisms let in without a password.
    #[error("the guest account is refused")]
    Guest,
    /// A ticket, or what comes with it, is not accepted.
    #[error("Kerberos: {0}")]
    Kerberos(&'static str),
    /// A message is not what it should be.
    #[error("malformed authentication message: {0}")]
    Malformed(&'static str),
    /// The message integrity code is absent or invalid.
    #[error("the messages of the authentication were changed on the way, or are incomplete")]
    Mic,
    /// None of the offered mechanisms is spoken here.
    #[error("no mechanism in common: NTLM or, with a keytab, Kerberos is required")]
    NoMechanism,
    /// A mechanism without one of the things that its security rests on.
    #[error("the other end does not offer {0}")]
    NotOffered(&'static str),
    /// The machine has no random numbers.
    #[error("no random numbers")]
    Random,
    /// Unknown account or wrong password: deliberately the same.
    #[error("unknown account or wrong password")]
    Refused,
    /// A signature is invalid.
    #[error("invalid signature")]
    Signature,
    /// A message after the end, or before the beginning.
    #[error("unexpected authentication message")]
    Unexpected,
    /// An answer of the first version, which is broken with little effort.
    #[error("NTLMv1 is refused")]
    Version1,
}

#[cfg(test)]
mod tests;
