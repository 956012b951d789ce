//! The server's side of SPNEGO with Kerberos and NTLM (RFC 4178, MS-SPNG).

use super::acceptor::{Fresh, NtlmAcceptor};
use super::kerberos::{KERBEROS, MICROSOFT_KERBEROS};
use super::names::ServerNames;
use super::spnego::{NTLM, NegState, NegTokenInit, NegTokenResp};
use super::{
    Acceptor, AuthError, Directory, Identity, KerberosAcceptor, KerberosSession, NtlmSession,
    Session, Step,
};

/// Agrees on a mechanism, and then lets it decide.
pub struct SpnegoAcceptor {
    kerberos: Option<KerberosAcceptor>,
    ntlm: NtlmAcceptor,
    state: State,
}

enum State {
    Beginning,
    /// The caller's first choice was another one: its first message of this one is to come.
    Agreed(Offer),
    Challenged(Offer),
    Over,
}

/// What the caller has offered.
struct Offer {
    mechanisms: Vec<u8>,
    /// What was chosen of it.
    mechanism: &'static [u8],
    /// Whether somebody on the way may have taken a better mechanism away, were there no signature over the list.
    needs_mic: bool,
}

impl SpnegoAcceptor {
    /// For one authentication.
    #[must_use]
    pub fn new(names: ServerNames, fresh: Fresh) -> Self {
        Self {
            kerberos: None,
            ntlm: NtlmAcceptor::new(names, fresh),
            state: State::Beginning,
        }
    }

    /// Speaks Kerberos too, where `acceptor` is one.
    #[must_use]
    pub fn with_kerberos(self, acceptor: Option<KerberosAcceptor>) -> Self {
        Self {
            kerberos: acceptor,
            ..self
        }
    }

    /// The first of the offered mechanisms that is spoken here: the order is the caller's, who may have no ticket.
    fn choose(&self, offered: &[&[u8]]) -> Result<&'static [u8], AuthError> {
        let spoken = match self.kerberos {
            Some(_) => &[NTLM, KERBEROS, MICROSOFT_KERBEROS][..],
            None => &[NTLM],
        };
        let mut chosen = offered
            .iter()
            .filter_map(|mechanism| spoken.iter().find(|one| *one == mechanism));
        chosen.next().copied().ok_or(AuthError::NoMechanism)
    }

    fn begin(&mut self, token: &[u8], accounts: &dyn Directory) -> Result<Step, AuthError> {
        let init = NegTokenInit::parse(token)?;
        let mechanism = self.choose(&init.offered)?;
        let is_first = init.offered.first() == Some(&mechanism);
        let offer = Offer {
            mechanisms: init.mechanisms.to_vec(),
            mechanism,
            needs_mic: !is_first,
        };
        match init.token.filter(|_| is_first) {
            Some(token) => self.challenge(token, offer, accounts),
            None => {
                // The token, if there is one, is of a mechanism that is not spoken here.
                let state = match is_first {
                    true => NegState::AcceptIncomplete,
                    false => NegState::RequestMic,
                };
                self.state = State::Agreed(offer);
                let answer = NegTokenResp {
                    state: Some(state),
                    mechanism: Some(mechanism),
                    ..NegTokenResp::default()
                };
                Ok(Step::Continue(answer.encode()))
            }
        }
    }

    fn challenge(
        &mut self,
        token: &[u8],
        offer: Offer,
        accounts: &dyn Directory,
    ) -> Result<Step, AuthError> {
        let challenge = match &mut self.kerberos {
            Some(kerberos) if offer.mechanism != NTLM => kerberos.answer(token, accounts)?,
            _ => self.ntlm.challenge(token)?,
        };
        let answer = NegTokenResp {
            state: Some(NegState::AcceptIncomplete),
            mechanism: Some(offer.mechanism),
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
        match &mut self.kerberos {
            Some(kerberos) if offer.mechanism != NTLM => {
                let (identity, session) = kerberos.finish(token)?;
                complete(identity, session, answer.mic, offer)
            }
            _ => {
                let (identity, session) = self.ntlm.authenticate(token, accounts)?;
                complete(identity, session, answer.mic, offer)
            }
        }
    }
}

/// The last answer, with a signature over the mechanisms if the caller has sent one.
fn complete<S: MechanismSession + 'static>(
    identity: Identity,
    mut session: S,
    mic: Option<&[u8]>,
    offer: &Offer,
) -> Result<Step, AuthError> {
    let mic = match mic {
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

/// A session that signs the list of mechanisms in the way of its mechanism.
trait MechanismSession: Session {
    fn sign_mechanisms(&mut self, list: &[u8]) -> Vec<u8>;

    fn verify_mechanisms(&mut self, list: &[u8], signature: &[u8]) -> Result<(), AuthError>;
}

impl MechanismSession for NtlmSession {
    fn sign_mechanisms(&mut self, list: &[u8]) -> Vec<u8> {
        Self::sign_mechanisms(self, list)
    }

    fn verify_mechanisms(&mut self, list: &[u8], signature: &[u8]) -> Result<(), AuthError> {
        Self::verify_mechanisms(self, list, signature)
    }
}

/// As any message: the counters go on.
impl MechanismSession for KerberosSession {
    fn sign_mechanisms(&mut self, list: &[u8]) -> Vec<u8> {
        self.sign(list)
    }

    fn verify_mechanisms(&mut self, list: &[u8], signature: &[u8]) -> Result<(), AuthError> {
        self.verify(list, signature)
    }
}

impl Acceptor for SpnegoAcceptor {
    fn step(&mut self, token: &[u8], accounts: &dyn Directory) -> Result<Step, AuthError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Beginning => self.begin(token, accounts),
            State::Agreed(offer) => {
                let answer = NegTokenResp::parse(token)?;
                self.challenge(answer.token.ok_or(AuthError::Unexpected)?, offer, accounts)
            }
            State::Challenged(offer) => {
                let answer = NegTokenResp::parse(token)?;
                self.finish(&answer, &offer, accounts)
            }
            State::Over => Err(AuthError::Unexpected),
        }
    }
}
