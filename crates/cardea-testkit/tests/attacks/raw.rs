//! Commands written by hand: an attacker with the TPM device beside the daemon.

mod codes;
mod objects;
mod policies;
mod sessions;

use cardea_tpm::auth::hmac;
use cardea_tpm::policy::hash;

use crate::bench::Bench;

pub(crate) use self::codes::{COMMANDS, cc, command_name, response_name};
pub(crate) use self::objects::{
    Ticket, ecc_signing_area, no_pcrs, point, public_area, sensitive, sign_parameters, sized_point,
};
pub(crate) use self::sessions::{Beginning, LOADED_SESSIONS, Salt, SessionKind, ecc_salt};

/// Permanent handles (TPM 2.0 Part 2 §7.4).
pub(crate) const OWNER: u32 = 0x4000_0001;
pub(crate) const NULL: u32 = 0x4000_0007;
pub(crate) const LOCKOUT: u32 = 0x4000_000A;
pub(crate) const ENDORSEMENT: u32 = 0x4000_000B;
pub(crate) const PLATFORM: u32 = 0x4000_000C;
const PASSWORD: u32 = 0x4000_0009;

/// First handle of loaded objects.
pub(crate) const TRANSIENT: u32 = 0x8000_0000;

/// TPM_RC_RETRY, the answer to the first comparison with an object's value after a start.
pub(crate) const RETRY: u32 = 0x922;

/// An empty password.
pub(crate) const EMPTY: Auth<'_> = Auth::Password(&[]);

/// TPM2B.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A handle with the Name that authorisations cover.
#[derive(Clone)]
pub(crate) struct Entity {
    pub(crate) handle: u32,
    name: Vec<u8>,
}

impl Entity {
    /// A hierarchy or session.
    pub(crate) fn plain(handle: u32) -> Self {
        Self {
            handle,
            name: handle.to_be_bytes().to_vec(),
        }
    }

    pub(crate) fn named(handle: u32, name: &[u8]) -> Self {
        Self {
            handle,
            name: name.to_vec(),
        }
    }

    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }
}

/// A session of the attacker's.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) handle: u32,
    pub(crate) nonce_tpm: Vec<u8>,
    key: Vec<u8>,
}

impl Session {
    /// Somebody else's, whose key is not known.
    pub(crate) fn of_others(handle: u32) -> Self {
        Self {
            handle,
            nonce_tpm: Vec::new(),
            key: Vec::new(),
        }
    }
}

/// Who authorises a command.
#[derive(Clone, Copy)]
pub(crate) enum Auth<'a> {
    Password(&'a [u8]),
    Session(&'a Session, &'a [u8]),
}

pub(crate) struct Answer {
    pub(crate) code: u32,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// From a whole response.
    pub(crate) fn of(response: &[u8]) -> Self {
        Self {
            code: u32::from_be_bytes(response[6..10].try_into().unwrap()),
            body: response[10..].to_vec(),
        }
    }

    /// Handle at the beginning.
    pub(crate) fn handle(&self) -> u32 {
        assert_eq!(self.code, 0, "{:?}", response_name(self.code));
        u32::from_be_bytes(self.body[..4].try_into().unwrap())
    }

    /// What is returned after handles of this many bytes in all, of a command with authorisations or without.
    fn parameters(&self, handles: usize, authorised: bool) -> Reader<'_> {
        Reader(&self.body[handles + if authorised { 4 } else { 0 }..])
    }
}

/// Reads what the TPM has written.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes(2).try_into().unwrap())
    }

    /// TPM2B.
    pub(crate) fn sized(&mut self) -> &'a [u8] {
        let length = self.u16();
        self.bytes(length.into())
    }

    /// TPMT_TK: tag, hierarchy, digest.
    pub(crate) fn ticket(&mut self) -> &'a [u8] {
        let length = 8 + usize::from(u16::from_be_bytes([self.0[6], self.0[7]]));
        self.bytes(length)
    }
}

impl Bench {
    /// Sends bytes as they are.
    pub(crate) fn bytes(&self, command: &[u8]) -> Answer {
        Answer::of(&self.mux.transact(command).expect("the TPM answers"))
    }

    pub(crate) fn send(
        &self,
        code: u32,
        entities: &[Entity],
        auths: &[Auth<'_>],
        parameters: &[u8],
    ) -> Answer {
        self.bytes(&compose(code, entities, auths, parameters))
    }
}

/// A whole command.
pub(crate) fn compose(
    code: u32,
    entities: &[Entity],
    auths: &[Auth<'_>],
    parameters: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    let mut covered = code.to_be_bytes().to_vec();
    for entity in entities {
        body.extend_from_slice(&entity.handle.to_be_bytes());
        covered.extend_from_slice(&entity.name);
    }
    if !auths.is_empty() {
        let cp_hash = hash(&[&covered, parameters]);
        let area: Vec<u8> = auths.iter().flat_map(|auth| area(auth, &cp_hash)).collect();
        body.extend_from_slice(&u32::try_from(area.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&area);
    }
    body.extend_from_slice(parameters);
    let mut command = vec![0x80, if auths.is_empty() { 1 } else { 2 }];
    let length = u32::try_from(body.len() + 10).unwrap();
    command.extend_from_slice(&length.to_be_bytes());
    command.extend_from_slice(&code.to_be_bytes());
    command.extend_from_slice(&body);
    command
}

/// TPMS_AUTH_COMMAND.
fn area(auth: &Auth<'_>, cp_hash: &[u8; 32]) -> Vec<u8> {
    const CONTINUE: u8 = 1;
    match auth {
        Auth::Password(value) => [
            &PASSWORD.to_be_bytes()[..],
            &[0, 0, CONTINUE],
            &sized(stripped(value)),
        ]
        .concat(),
        Auth::Session(session, value) => {
            let nonce = [9; 16];
            let key = [&session.key, stripped(value)].concat();
            let mac = if key.is_empty() {
                Vec::new()
            } else {
                hmac(&key, &[cp_hash, &nonce, &session.nonce_tpm, &[CONTINUE]]).to_vec()
            };
            [
                &session.handle.to_be_bytes()[..],
                &sized(&nonce),
                &[CONTINUE],
                &sized(&mac),
            ]
            .concat()
        }
    }
}

fn stripped(value: &[u8]) -> &[u8] {
    cardea_tpm::auth::without_trailing_zeros(value)
}
