//! Sessions of the attacker's own, and what is loaded.

use cardea_tpm::auth::hmac;
use cardea_tpm::policy::hash;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::{Answer, Entity, NULL, Session, cc, compose, sized};
use crate::bench::Bench;

/// First handle of loaded sessions, whatever their kind.
pub(crate) const LOADED_SESSIONS: u32 = 0x0200_0000;

const SRK: u32 = 0x8100_0001;
const NONCE: [u8; 16] = [5; 16];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionKind {
    Hmac = 0,
    Policy = 1,
    Trial = 3,
}

/// A secret for an ECC storage key, with this label: the secret, and how the TPM is told.
pub(crate) fn ecc_salt(area: &[u8], label: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let length = area.len();
    let (x, y) = (&area[length - 66..length - 34], &area[length - 32..]);
    let peer = p256::PublicKey::from_sec1_bytes(&[&[4][..], x, y].concat()).unwrap();
    let own = p256::SecretKey::from_slice(&[0x11; 32]).unwrap();
    let point = own.public_key().to_sec1_point(false);
    let (own_x, own_y) = (point.x().unwrap(), point.y().unwrap());
    let shared = p256::ecdh::diffie_hellman(own.to_nonzero_scalar(), peer.as_affine());
    let one = 1u32.to_be_bytes();
    let salt = hash(&[&one, shared.raw_secret_bytes(), label, own_x, x]);
    (salt.to_vec(), [sized(own_x), sized(own_y)].concat())
}

/// A salt, and how the TPM is told.
#[derive(Clone)]
pub(crate) struct Salt {
    key: Entity,
    value: Vec<u8>,
    encrypted: Vec<u8>,
}

/// StartAuthSession, and what its session's key is made of.
pub(crate) struct Beginning {
    pub(crate) command: Vec<u8>,
    secret: Option<Vec<u8>>,
}

impl Beginning {
    pub(crate) fn new(
        kind: SessionKind,
        salt: Option<&Salt>,
        bind: Option<(&Entity, &[u8])>,
    ) -> Self {
        let none = Entity::plain(NULL);
        let salt_key = salt.map_or(&none, |salt| &salt.key);
        let encrypted = salt.map_or(&[][..], |salt| &salt.encrypted);
        let bound = bind.map_or(&none, |(entity, _)| entity);
        let secret = || {
            let bound = bind.map_or(&[][..], |(_, value)| value);
            [bound, salt.map_or(&[], |salt| &salt.value)].concat()
        };
        Self {
            command: start(kind, salt_key, encrypted, bound),
            secret: (salt.is_some() || bind.is_some()).then(secret),
        }
    }

    /// The session, from the TPM's answer.
    pub(crate) fn session(&self, answer: &Answer) -> Session {
        Session::started(answer, self.secret.as_deref())
    }
}

fn start(kind: SessionKind, salt_key: &Entity, encrypted: &[u8], bind: &Entity) -> Vec<u8> {
    let parameters = [
        &sized(&NONCE)[..],
        &sized(encrypted),
        &[kind as u8],
        &[0, 0x10, 0, 0x0B],
    ]
    .concat();
    let handles = [salt_key.clone(), bind.clone()];
    compose(cc::START_AUTH_SESSION, &handles, &[], &parameters)
}

impl Bench {
    /// StartAuthSession with a salt told to this key, or none for the null handle.
    pub(crate) fn start_session(
        &self,
        kind: SessionKind,
        salt_key: &Entity,
        encrypted: &[u8],
        bind: &Entity,
    ) -> Answer {
        self.bytes(&start(kind, salt_key, encrypted, bind))
    }

    /// A salt for the storage root key.
    pub(crate) fn salt(&self) -> Salt {
        let key = Entity::plain(SRK);
        let (value, encrypted) = ecc_salt(&self.public_of(&key), b"SECRET\0");
        Salt {
            key,
            value,
            encrypted,
        }
    }

    /// Starts a session: with a salt or without, bound to an entity with this value or to none.
    pub(crate) fn session(
        &self,
        kind: SessionKind,
        salted: bool,
        bind: Option<(&Entity, &[u8])>,
    ) -> Session {
        let salt = salted.then(|| self.salt());
        let beginning = Beginning::new(kind, salt.as_ref(), bind);
        beginning.session(&self.bytes(&beginning.command))
    }

    /// An unsalted policy session.
    pub(crate) fn policy_session(&self) -> Session {
        self.session(SessionKind::Policy, false, None)
    }

    pub(crate) fn flush(&self, handle: u32) {
        self.send(cc::FLUSH_CONTEXT, &[], &[], &handle.to_be_bytes());
    }

    /// ContextSave: TPMS_CONTEXT.
    pub(crate) fn save(&self, handle: u32) -> Answer {
        self.send(cc::CONTEXT_SAVE, &[Entity::plain(handle)], &[], &[])
    }

    /// ContextLoad.
    pub(crate) fn load_context(&self, context: &[u8]) -> Answer {
        self.send(cc::CONTEXT_LOAD, &[], &[], context)
    }

    /// Handles that are there from this one on.
    pub(crate) fn handles(&self, first: u32) -> Vec<u32> {
        let parameters = [1, first, 64].map(u32::to_be_bytes).concat();
        let answer = self.send(cc::GET_CAPABILITY, &[], &[], &parameters);
        answer.body[9..]
            .chunks_exact(4)
            .map(|handle| u32::from_be_bytes(handle.try_into().unwrap()))
            .collect()
    }

    /// Codes of the TPM's own commands, and how many handles each takes.
    pub(crate) fn commands(&self) -> Vec<(u32, u32)> {
        let parameters = [2, 0, 256].map(u32::to_be_bytes).concat();
        let answer = self.send(cc::GET_CAPABILITY, &[], &[], &parameters);
        assert_eq!((answer.code, answer.body[0]), (0, 0), "one answer has all");
        answer.body[9..]
            .chunks_exact(4)
            .map(|attributes| u32::from_be_bytes(attributes.try_into().unwrap()))
            // TPMA_CC (TPM 2.0 Part 2 §8.9): bit 29 marks commands of the maker's.
            .map(|attributes| (attributes & 0x2000_FFFF, attributes >> 25 & 7))
            .collect()
    }

    /// A property of the TPM.
    pub(crate) fn property(&self, property: u32) -> u32 {
        let parameters = [6, property, 1].map(u32::to_be_bytes).concat();
        let answer = self.send(cc::GET_CAPABILITY, &[], &[], &parameters);
        u32::from_be_bytes(answer.body[13..17].try_into().unwrap())
    }
}

impl Session {
    /// From StartAuthSession's answer; the secret is value and salt, where there is either.
    pub(crate) fn started(answer: &Answer, secret: Option<&[u8]>) -> Self {
        let handle = answer.handle();
        let nonce_tpm = answer.body[6..].to_vec();
        let key = secret.map_or(Vec::new(), |secret| {
            let (one, bits) = (1u32.to_be_bytes(), 256u32.to_be_bytes());
            hmac(secret, &[&one, b"ATH\0", &nonce_tpm, &NONCE, &bits]).to_vec()
        });
        Self {
            handle,
            nonce_tpm,
            key,
        }
    }
}
