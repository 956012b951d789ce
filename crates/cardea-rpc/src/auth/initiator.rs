//! The client's side of NTLMv2 (MS-NLMP 3.1.5).

use cardea_dcom::pdu::auth_type;
use zeroize::{Zeroize, Zeroizing};

use super::acceptor::mic;
use super::crypt::{hmac_md5, wrap};
use super::message::{self, Attributes, Challenge, MIC, flag};
use super::session::{End, NtlmSession};
use super::{AuthError, Initiator, NtHash, Session};

/// An account at the other machine.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Its name.
    pub user: String,
    /// Its domain, or the other machine's name; may be empty.
    pub domain: String,
    /// Its secret.
    pub hash: NtHash,
}

/// What an initiator has of chance and time.
pub struct ClientFresh {
    /// Random, and never used again.
    pub nonce: [u8; 8],
    /// Random: the session's key.
    pub session_key: [u8; 16],
    /// Now, as FILETIME, for servers that do not say theirs.
    pub time: u64,
}

impl Drop for ClientFresh {
    fn drop(&mut self) {
        self.session_key.zeroize();
    }
}

/// Proves to know a password.
pub struct NtlmInitiator {
    credentials: Credentials,
    target: String,
    fresh: ClientFresh,
    negotiate: Vec<u8>,
}

impl NtlmInitiator {
    /// For one authentication, to a service by its principal name.
    #[must_use]
    pub fn new(credentials: Credentials, target: String, fresh: ClientFresh) -> Self {
        Self {
            credentials,
            target,
            fresh,
            negotiate: message::negotiate(WANTED),
        }
    }

    /// The first message.
    #[must_use]
    pub fn negotiate(&self) -> &[u8] {
        &self.negotiate
    }

    /// The answer to a challenge, and the session that follows from it.
    ///
    /// # Errors
    ///
    /// [`AuthError`], when the server wants less than what security rests on.
    pub fn authenticate(self, challenge: &[u8]) -> Result<(Vec<u8>, NtlmSession), AuthError> {
        let offered = Challenge::parse(challenge)?;
        message::require(offered.flags)?;
        let attributes = Attributes::parse(offered.information)?;
        let Credentials { user, domain, hash } = &self.credentials;
        let information = message::for_target(offered.information, &self.target)?;
        let time = attributes.time.unwrap_or(self.fresh.time);
        let blob = message::client_challenge(time, self.fresh.nonce, &information);
        let response_key = hash.response_key(user, domain);
        let proof = hmac_md5(&*response_key, &[&offered.nonce, &blob]);
        let base_key = hmac_md5(&*response_key, &[&*proof]);
        let exported = Zeroizing::new(self.fresh.session_key);
        let mut token = message::authenticate(
            offered.flags & WANTED,
            &[proof.as_slice(), &blob].concat(),
            domain,
            user,
            &*wrap(&base_key, &exported),
        );
        let code = mic(&exported, &self.negotiate, challenge, &token);
        if let Some(place) = token.get_mut(MIC) {
            place.copy_from_slice(&*code);
        }
        Ok((token, NtlmSession::new(&exported, End::Client)))
    }
}

impl Initiator for NtlmInitiator {
    fn auth_type(&self) -> u8 {
        auth_type::NTLM
    }

    fn begin(&mut self) -> Result<Vec<u8>, AuthError> {
        Ok(self.negotiate.clone())
    }

    fn finish(self: Box<Self>, answer: &[u8]) -> Result<(Vec<u8>, Box<dyn Session>), AuthError> {
        let (token, session) = self.authenticate(answer)?;
        Ok((token, Box::new(session)))
    }
}

const WANTED: u32 = flag::UNICODE
    | flag::REQUEST_TARGET
    | flag::SIGN
    | flag::SEAL
    | flag::NTLM
    | flag::ALWAYS_SIGN
    | flag::EXTENDED_SESSION_SECURITY
    | flag::TARGET_INFO
    | flag::VERSION
    | flag::BITS_128
    | flag::KEY_EXCHANGE;
