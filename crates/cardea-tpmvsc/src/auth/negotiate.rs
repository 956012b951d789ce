//! The server's side of SPNEGO with NTLM as the one mechanism (RFC 4178, MS-SPNG).

use super::acceptor::{Fresh, NtlmAcceptor};
use super::names::ServerNames;
use super::spnego::{NTLM, NegState, NegTokenInit, NegTokenResp};
use super::{Acceptor, AuthError, Directory, Step};

/// Agrees on NTLM, and then lets it decide.
pub struct SpnegoAcceptor {
    ntlm: NtlmAcceptor,
    state: State,
}

enum State {
    Beginning,
    /// The caller's first choice was another one: its first message of NTLM is to come.
    Agreed(Offer),
    Challenged(Offer),
    Over,
}

/// What the caller has offered.
struct Offer {
    mechanisms: Vec<u8>,
    /// Whether somebody on the way may have taken a better mechanism away, were there no signature over the list.
    needs_mic: bool,
}

impl SpnegoAcceptor {
    /// For one authentication.
    #[must_use]
    pub fn new(names: ServerNames, fresh: Fresh) -> Self {
        Self {
            ntlm: NtlmAcceptor::new(names, fresh),
            state: State::Beginning,
        }
    }

    fn begin(&mut self, token: &[u8]) -> Result<Step, AuthError> {
        let init = NegTokenInit::parse(token)?;
        if !init.has_ntlm {
            return Err(AuthError::NoMechanism);
        }
        let offer = Offer {
            mechanisms: init.mechanisms.to_vec(),
            needs_mic: !init.first_is_ntlm,
        };
        match init.token.filter(|_| init.first_is_ntlm) {
            Some(token) => self.challenge(token, offer),
            None => {
                // The token, if there is one, is of a mechanism that is not spoken here.
                let state = match init.first_is_ntlm {
                    true => NegState::AcceptIncomplete,
                    false => NegState::RequestMic,
                };
                self.state = State::Agreed(offer);
                let answer = NegTokenResp {
                    state: Some(state),
                    mechanism: Some(NTLM),
                    ..NegTokenResp::default()
                };
                Ok(Step::Continue(answer.encode()))
            }
        }
    }

    fn challenge(&mut self, token: &[u8], offer: Offer) -> Result<Step, AuthError> {
        let challenge = self.ntlm.challenge(token)?;
        let answer = NegTokenResp {
            state: Some(NegState::AcceptIncomplete),
            mechanism: Some(NTLM),
            token: Some(&challenge),
            mic: None,
        };
        let answer = answer.encode();
        self.state = State::Challenged(offer);
        Ok(Step::Continue(answer))
    }

    fn finish(
        &mut self,
        answer: &NegTokenResp<'_>,
        offer: &Offer,
        accounts: &dyn Directory,
    ) -> Result<Step, AuthError> {
        let token = answer.token.ok_or(AuthError::Unexpected)?;
        let (identity, mut session) = self.ntlm.authenticate(token, accounts)?;
        let mic = match answer.mic {
            Some(mic) => {
                session.verify_mechanisms(&offer.mechanisms, mic)?;
                Some(session.sign_mechanisms(&offer.mechanisms))
            }
            None if offer.needs_mic => return Err(AuthError::Mic),
            None => None,
        };
        let completed = NegTokenResp {
            state: Some(NegState::AcceptCompleted),
            mic: mic.as_deref(),
            ..NegTokenResp::default()
        };
        Ok(Step::Done {
            token: Some(completed.encode()),
            identity,
            session: Box::new(session),
        })
    }
}

impl Acceptor for SpnegoAcceptor {
    fn step(&mut self, token: &[u8], accounts: &dyn Directory) -> Result<Step, AuthError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Beginning => self.begin(token),
            State::Agreed(offer) => {
                let answer = NegTokenResp::parse(token)?;
                self.challenge(answer.token.ok_or(AuthError::Unexpected)?, offer)
            }
            State::Challenged(offer) => {
                let answer = NegTokenResp::parse(token)?;
                self.finish(&answer, &offer, accounts)
            }
            State::Over => Err(AuthError::Unexpected),
        }
    }
}
