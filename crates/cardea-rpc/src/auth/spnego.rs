//! The tokens of SPNEGO (RFC 4178 §4.2).

use super::AuthError;
use super::der::{
    ENUMERATED, Elements, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, context, element, only,
};

/// SPNEGO itself, 1.3.6.1.5.5.2.
const SPNEGO: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x02];

/// NTLM, 1.3.6.1.4.1.311.2.2.10.
pub(super) const NTLM: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0A];

/// The tag of a first token (RFC 2743 §3.1).
const INITIAL: u8 = 0x60;

/// Longest token that is looked at: one of Kerberos, which somebody may send, can have many groups in it.
const MAX_TOKEN: usize = 65_535;

/// How far a negotiation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NegState {
    AcceptCompleted = 0,
    AcceptIncomplete = 1,
    RequestMic = 3,
}

/// The caller's first token.
pub(super) struct NegTokenInit<'a> {
    /// The offered mechanisms as encoded: what their signature is over.
    pub(super) mechanisms: &'a [u8],
    /// The same, one by one.
    pub(super) offered: Vec<&'a [u8]>,
    /// For the first of them.
    pub(super) token: Option<&'a [u8]>,
}

impl<'a> NegTokenInit<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, AuthError> {
        if bytes.len() > MAX_TOKEN {
            return Err(AuthError::Malformed("too long"));
        }
        let mut outer = Elements::new(only(bytes, INITIAL)?);
        if outer.expect(OBJECT_IDENTIFIER)? != SPNEGO {
            return Err(AuthError::NoMechanism);
        }
        let token = only(outer.expect(context(0))?, SEQUENCE)?;
        let mut fields = Elements::new(token);
        let mut mechanisms = None;
        let mut mech_token = None;
        while let Some(field) = fields.next()? {
            match field.tag {
                tag if tag == context(0) => mechanisms = Some(field.content),
                tag if tag == context(2) => mech_token = Some(only(field.content, OCTET_STRING)?),
                // What is wished of the context, and hints: not protected, so not believed.
                _ => {}
            }
        }
        let mechanisms = mechanisms.ok_or(AuthError::NoMechanism)?;
        let mut list = Elements::new(only(mechanisms, SEQUENCE)?);
        let mut offered = Vec::new();
        while let Some(mechanism) = list.next()? {
            if mechanism.tag != OBJECT_IDENTIFIER {
                return Err(AuthError::Malformed("a mechanism without a number"));
            }
            offered.push(mechanism.content);
        }
        Ok(Self {
            mechanisms,
            offered,
            token: mech_token,
        })
    }
}

/// A token after the first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NegTokenResp<'a> {
    pub(super) state: Option<NegState>,
    pub(super) mechanism: Option<&'a [u8]>,
    pub(super) token: Option<&'a [u8]>,
    pub(super) mic: Option<&'a [u8]>,
}

impl<'a> NegTokenResp<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, AuthError> {
        if bytes.len() > MAX_TOKEN {
            return Err(AuthError::Malformed("too long"));
        }
        let mut fields = Elements::new(only(only(bytes, context(1))?, SEQUENCE)?);
        let mut found = Self::default();
        while let Some(field) = fields.next()? {
            match field.tag {
                tag if tag == context(0) => {
                    found.state = match only(field.content, ENUMERATED)? {
                        [0] => Some(NegState::AcceptCompleted),
                        [1] => Some(NegState::AcceptIncomplete),
                        [3] => Some(NegState::RequestMic),
                        // 2 is a refusal.
                        _ => return Err(AuthError::NoMechanism),
                    }
                }
                tag if tag == context(1) => {
                    found.mechanism = Some(only(field.content, OBJECT_IDENTIFIER)?);
                }
                tag if tag == context(2) => {
                    found.token = Some(only(field.content, OCTET_STRING)?);
                }
                tag if tag == context(3) => found.mic = Some(only(field.content, OCTET_STRING)?),
                _ => {}
            }
        }
        Ok(found)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        let mut field = |number, tag, content: &[u8]| {
            fields.extend(element(context(number), &[&element(tag, &[content])]));
        };
        if let Some(state) = self.state {
            field(0, ENUMERATED, &[state as u8]);
        }
        if let Some(mechanism) = self.mechanism {
            field(1, OBJECT_IDENTIFIER, mechanism);
        }
        if let Some(token) = self.token {
            field(2, OCTET_STRING, token);
        }
        if let Some(mic) = self.mic {
            field(3, OCTET_STRING, mic);
        }
        element(context(1), &[&element(SEQUENCE, &[&fields])])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A first token with these mechanisms.
    pub(in crate::auth) fn init(mechanisms: &[&[u8]], token: Option<&[u8]>) -> Vec<u8> {
        let list: Vec<u8> = mechanisms
            .iter()
            .flat_map(|oid| element(OBJECT_IDENTIFIER, &[oid]))
            .collect();
        let mut fields = element(context(0), &[&element(SEQUENCE, &[&list])]);
        if let Some(token) = token {
            fields.extend(element(context(2), &[&element(OCTET_STRING, &[token])]));
        }
        let inner = element(context(0), &[&element(SEQUENCE, &[&fields])]);
        element(INITIAL, &[&element(OBJECT_IDENTIFIER, &[SPNEGO]), &inner])
    }

    #[test]
    fn answer_is_read_as_it_was_written() {
        let long = [7; 300];
        let answer = NegTokenResp {
            state: Some(NegState::AcceptIncomplete),
            mechanism: Some(NTLM),
            token: Some(&long),
            mic: Some(&[1; 16]),
        };
        assert_eq!(NegTokenResp::parse(&answer.encode()).unwrap(), answer);
    }

    #[test]
    fn tokens_that_are_cut_or_followed_by_something_are_refused() {
        let first = init(&[NTLM], Some(&[7; 200]));
        assert!(NegTokenInit::parse(&first).is_ok());
        for length in 0..first.len() {
            assert!(NegTokenInit::parse(&first[..length]).is_err(), "{length}");
        }
        assert!(NegTokenInit::parse(&[first, vec![0, 0]].concat()).is_err());
        let next = NegTokenResp {
            token: Some(&[7; 200]),
            ..NegTokenResp::default()
        };
        let next = next.encode();
        for length in 0..next.len() {
            assert!(NegTokenResp::parse(&next[..length]).is_err(), "{length}");
        }
    }
}
