//! The server's side of NTLMv2 (MS-NLMP 3.2.5).

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::crypt::{Block, hmac_md5, wrap};
use super::message::{self, Attributes, Authenticate, MIC, flag};
use super::names::ServerNames;
use super::session::{End, NtlmSession};
use super::{Acceptor, AuthError, Directory, Identity, NtHash, Step};

/// What an acceptor has of chance and time.
pub struct Fresh {
    /// Random, and never used again.
    pub nonce: [u8; 8],
    /// Random: the secret of the accounts that do not exist.
    pub decoy: [u8; 16],
    /// Now, as FILETIME: steps of 100 ns since 1601.
    pub time: u64,
}

/// Judges the proof of a caller's password.
pub struct NtlmAcceptor {
    names: ServerNames,
    fresh: Fresh,
    state: State,
}

enum State {
    Beginning,
    Challenged {
        flags: u32,
        negotiate: Vec<u8>,
        challenge: Vec<u8>,
    },
    Over,
}

impl NtlmAcceptor {
    /// For one authentication.
    #[must_use]
    pub fn new(names: ServerNames, fresh: Fresh) -> Self {
        Self {
            names,
            fresh,
            state: State::Beginning,
        }
    }

    /// The answer to NEGOTIATE.
    pub(super) fn challenge(&mut self, token: &[u8]) -> Result<Vec<u8>, AuthError> {
        let State::Beginning = std::mem::replace(&mut self.state, State::Over) else {
            return Err(AuthError::Unexpected);
        };
        let offered = message::parse_negotiate(token)?;
        if offered & flag::ANONYMOUS != 0 {
            return Err(AuthError::Anonymous);
        }
        message::require(offered)?;
        let flags = offered & SPOKEN | ALWAYS;
        let challenge = message::challenge(flags, self.fresh.nonce, &self.names, self.fresh.time);
        self.state = State::Challenged {
            flags,
            negotiate: token.to_vec(),
            challenge: challenge.clone(),
        };
        Ok(challenge)
    }

    /// The verdict on AUTHENTICATE.
    pub(super) fn authenticate(
        &mut self,
        token: &[u8],
        accounts: &dyn Directory,
    ) -> Result<(Identity, NtlmSession), AuthError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let State::Challenged {
            flags,
            negotiate,
            challenge,
        } = state
        else {
            return Err(AuthError::Unexpected);
        };
        let message = Authenticate::parse(token)?;
        if message.flags & SPOKEN & !flags & !ALWAYS != 0 {
            return Err(AuthError::Malformed("flags that were not agreed on"));
        }
        let answer = Answer::read(&message)?;
        let key = self.judge(&message, &answer, accounts)?;
        let exported = wrap(&key, &answer.session_key);
        if answer.attributes.has_mic {
            if !message.has_mic() {
                return Err(AuthError::Mic);
            }
            let expected = mic(&exported, &negotiate, &challenge, token);
            let found = token.get(MIC).ok_or(AuthError::Mic)?;
            if !bool::from(expected.as_slice().ct_eq(found)) {
                return Err(AuthError::Mic);
            }
        }
        let identity = Identity {
            user: message.user,
            domain: message.domain,
        };
        Ok((identity, NtlmSession::new(&exported, End::Server)))
    }

    /// Compares the proof; the key of the session, if it is valid.
    ///
    /// An account that does not exist takes the same steps with a secret that nobody knows.
    fn judge(
        &self,
        message: &Authenticate<'_>,
        answer: &Answer<'_>,
        accounts: &dyn Directory,
    ) -> Result<Block, AuthError> {
        let found = accounts.nt_hash(&message.user);
        let exists = Choice::from(u8::from(found.is_some()));
        let hash = found.unwrap_or_else(|| NtHash::from_bytes(self.fresh.decoy));
        let response_key = hash.response_key(&message.user, &message.domain);
        let proof = hmac_md5(&*response_key, &[&self.fresh.nonce, answer.blob]);
        let session_key = hmac_md5(&*response_key, &[&*proof]);
        match bool::from(proof.as_slice().ct_eq(answer.proof) & exists) {
            true => Ok(session_key),
            false => Err(AuthError::Refused),
        }
    }
}

impl Acceptor for NtlmAcceptor {
    fn step(&mut self, token: &[u8], accounts: &dyn Directory) -> Result<Step, AuthError> {
        if matches!(self.state, State::Beginning) {
            return self.challenge(token).map(Step::Continue);
        }
        let (identity, session) = self.authenticate(token, accounts)?;
        Ok(Step::Done {
            token: None,
            identity,
            session: Box::new(session),
        })
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.decoy);
    }
}

/// What of AUTHENTICATE proves something.
struct Answer<'a> {
    proof: &'a [u8],
    /// As received: it is what the proof is over, whatever it says.
    blob: &'a [u8],
    attributes: Attributes,
    session_key: Zeroizing<[u8; 16]>,
}

impl<'a> Answer<'a> {
    fn read(message: &Authenticate<'a>) -> Result<Self, AuthError> {
        if message.flags & flag::ANONYMOUS != 0
            || message.user.is_empty()
            || message.response.is_empty()
        {
            return Err(AuthError::Anonymous);
        }
        if message.user.eq_ignore_ascii_case("guest") {
            return Err(AuthError::Guest);
        }
        if message.response.len() == VERSION_1 {
            return Err(AuthError::Version1);
        }
        let split = message.response.split_at_checked(16);
        let (proof, blob) = split.ok_or(AuthError::Malformed("response cut short"))?;
        let session_key = message.session_key.try_into();
        let session_key =
            session_key.map_err(|_| AuthError::Malformed("a session key is 16 bytes long"))?;
        Ok(Self {
            proof,
            blob,
            attributes: Attributes::of_response(blob)?,
            session_key: Zeroizing::new(session_key),
        })
    }
}

/// The integrity code over the three messages, the one in the third taken as zero.
pub(super) fn mic(
    key: &[u8; 16],
    negotiate: &[u8],
    challenge: &[u8],
    authenticate: &[u8],
) -> Block {
    let (head, rest) = authenticate.split_at_checked(MIC.start).unwrap_or_default();
    let tail = rest.get(MIC.len()..).unwrap_or_default();
    hmac_md5(key, &[negotiate, challenge, head, &[0; 16], tail])
}

/// The length of every response of the first version.
const VERSION_1: usize = 24;

/// What of a caller's offer is agreed to.
const SPOKEN: u32 = flag::UNICODE
    | flag::REQUEST_TARGET
    | flag::SIGN
    | flag::SEAL
    | flag::NTLM
    | flag::ALWAYS_SIGN
    | flag::EXTENDED_SESSION_SECURITY
    | flag::VERSION
    | flag::BITS_128
    | flag::KEY_EXCHANGE;

/// What a challenge says anyway.
const ALWAYS: u32 = flag::NTLM | flag::TARGET_TYPE_SERVER | flag::TARGET_INFO;
