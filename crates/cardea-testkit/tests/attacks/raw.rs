//! Commands written by hand: an attacker with the TPM device beside the daemon.

use cardea_tpm::auth::hmac;
use cardea_tpm::policy::{hash, name_of};
use p256::elliptic_curve::sec1::ToSec1Point as _;

use crate::bench::Bench;

pub(crate) const OWNER: u32 = 0x4000_0001;
const NULL: u32 = 0x4000_0007;
const PASSWORD: u32 = 0x4000_0009;

/// Codes of commands (TPM 2.0 Part 2 §6.5.2).
pub(crate) mod cc {
    pub(crate) const NV_UNDEFINE_SPACE: u32 = 0x122;
    pub(crate) const NV_DEFINE_SPACE: u32 = 0x12A;
    pub(crate) const CLEAR: u32 = 0x126;
    pub(crate) const HIERARCHY_CHANGE_AUTH: u32 = 0x129;
    pub(crate) const SET_PRIMARY_POLICY: u32 = 0x12E;
    pub(crate) const CREATE_PRIMARY: u32 = 0x131;
    pub(crate) const NV_INCREMENT: u32 = 0x134;
    pub(crate) const NV_SET_BITS: u32 = 0x135;
    pub(crate) const NV_EXTEND: u32 = 0x136;
    pub(crate) const NV_WRITE: u32 = 0x137;
    pub(crate) const NV_WRITE_LOCK: u32 = 0x138;
    pub(crate) const LOCK_RESET: u32 = 0x139;
    pub(crate) const NV_CHANGE_AUTH: u32 = 0x13B;
    pub(crate) const POLICY_NV: u32 = 0x149;
    pub(crate) const NV_READ: u32 = 0x14E;
    pub(crate) const NV_READ_LOCK: u32 = 0x14F;
    pub(crate) const POLICY_SECRET: u32 = 0x151;
    pub(crate) const LOAD: u32 = 0x157;
    pub(crate) const SIGN: u32 = 0x15D;
    pub(crate) const UNSEAL: u32 = 0x15E;
    pub(crate) const POLICY_SIGNED: u32 = 0x160;
    pub(crate) const FLUSH_CONTEXT: u32 = 0x165;
    pub(crate) const LOAD_EXTERNAL: u32 = 0x167;
    pub(crate) const POLICY_AUTHORIZE: u32 = 0x16A;
    pub(crate) const POLICY_AUTH_VALUE: u32 = 0x16B;
    pub(crate) const POLICY_COMMAND_CODE: u32 = 0x16C;
    pub(crate) const POLICY_LOCALITY: u32 = 0x16F;
    pub(crate) const READ_PUBLIC: u32 = 0x173;
    pub(crate) const START_AUTH_SESSION: u32 = 0x176;
    pub(crate) const POLICY_TICKET: u32 = 0x172;
    pub(crate) const GET_CAPABILITY: u32 = 0x17A;
    pub(crate) const NV_CERTIFY: u32 = 0x184;
    pub(crate) const POLICY_GET_DIGEST: u32 = 0x189;
}

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
pub(crate) enum Auth<'a> {
    Password(&'a [u8]),
    Session(&'a Session, &'a [u8]),
}

pub(crate) struct Answer {
    pub(crate) code: u32,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Handle at the beginning.
    pub(crate) fn handle(&self) -> u32 {
        assert_eq!(self.code, 0);
        u32::from_be_bytes(self.body[..4].try_into().unwrap())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionKind {
    Hmac = 0,
    Policy = 1,
}

impl Bench {
    /// Sends bytes as they are.
    pub(crate) fn bytes(&self, command: &[u8]) -> Answer {
        let response = self.mux.transact(command).expect("the TPM answers");
        Answer {
            code: u32::from_be_bytes(response[6..10].try_into().unwrap()),
            body: response[10..].to_vec(),
        }
    }

    pub(crate) fn send(
        &self,
        code: u32,
        entities: &[Entity],
        auths: &[Auth<'_>],
        parameters: &[u8],
    ) -> Answer {
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
        self.bytes(&command)
    }

    /// Starts a session: with a salt or without, bound to an entity with this value or to none.
    pub(crate) fn session(
        &self,
        kind: SessionKind,
        salted: bool,
        bind: Option<(&Entity, &[u8])>,
    ) -> Session {
        let (salt_key, salt, encrypted) = match salted {
            false => (NULL, Vec::new(), Vec::new()),
            true => self.salt(),
        };
        let nonce = [5; 16];
        let parameters = [
            &sized(&nonce)[..],
            &sized(&encrypted),
            &[kind as u8],
            &[0, 0x10, 0, 0x0B],
        ]
        .concat();
        let bound = bind.map_or(NULL, |(entity, _)| entity.handle);
        let handles = [Entity::plain(salt_key), Entity::plain(bound)];
        let answer = self.send(cc::START_AUTH_SESSION, &handles, &[], &parameters);
        let nonce_tpm = answer.body[6..].to_vec();
        let secret = [bind.map_or(&[][..], |(_, value)| value), &salt].concat();
        let key = if salted || bind.is_some() {
            let bits = 256u32.to_be_bytes();
            let one = 1u32.to_be_bytes();
            hmac(&secret, &[&one, b"ATH\0", &nonce_tpm, &nonce, &bits]).to_vec()
        } else {
            Vec::new()
        };
        Session {
            handle: answer.handle(),
            nonce_tpm,
            key,
        }
    }

    /// An unsalted policy session.
    pub(crate) fn policy_session(&self) -> Session {
        self.session(SessionKind::Policy, false, None)
    }

    /// A salt for the storage root key: its handle, the salt, and how the TPM is told.
    fn salt(&self) -> (u32, Vec<u8>, Vec<u8>) {
        const SRK: u32 = 0x8100_0001;
        let public = self.send(cc::READ_PUBLIC, &[Entity::plain(SRK)], &[], &[]);
        assert_eq!(public.code, 0);
        let length = usize::from(u16::from_be_bytes([public.body[0], public.body[1]]));
        let area = &public.body[2..2 + length];
        let (x, y) = (&area[length - 66..length - 34], &area[length - 32..]);
        let peer = p256::PublicKey::from_sec1_bytes(&[&[4][..], x, y].concat()).unwrap();
        let own = p256::SecretKey::from_slice(&[0x11; 32]).unwrap();
        let point = own.public_key().to_sec1_point(false);
        let (own_x, own_y) = (point.x().unwrap(), point.y().unwrap());
        let shared = p256::ecdh::diffie_hellman(own.to_nonzero_scalar(), peer.as_affine());
        let one = 1u32.to_be_bytes();
        let salt = hash(&[&one, shared.raw_secret_bytes(), b"SECRET\0", own_x, x]);
        (SRK, salt.to_vec(), [sized(own_x), sized(own_y)].concat())
    }

    pub(crate) fn flush(&self, handle: u32) {
        self.send(cc::FLUSH_CONTEXT, &[], &[], &handle.to_be_bytes());
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

    /// A property of the TPM.
    pub(crate) fn property(&self, property: u32) -> u32 {
        let parameters = [6, property, 1].map(u32::to_be_bytes).concat();
        let answer = self.send(cc::GET_CAPABILITY, &[], &[], &parameters);
        u32::from_be_bytes(answer.body[13..17].try_into().unwrap())
    }

    /// Loads an object below the storage root key: its handle, or the TPM's refusal.
    pub(crate) fn load(&self, private: &[u8], public: &[u8]) -> Result<Entity, u32> {
        let parameters = [sized(private), sized(public)].concat();
        let srk = [Entity::plain(0x8100_0001)];
        let answer = self.send(cc::LOAD, &srk, &[Auth::Password(&[])], &parameters);
        match answer.code {
            0 => Ok(Entity::named(answer.handle(), &name_of(public))),
            code => Err(code),
        }
    }

    /// A key of the attacker's own in the owner hierarchy, with this value.
    pub(crate) fn primary(&self, value: &[u8]) -> Entity {
        // ECDSA P-256: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign.
        let mut template = vec![0, 0x23, 0, 0x0B, 0, 4, 4, 0x72, 0, 0];
        template.extend([0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10, 0, 0, 0, 0]);
        let sensitive = sized(&[&sized(value)[..], &[0, 0]].concat());
        let parameters = [&sensitive[..], &sized(&template), &[0; 6]].concat();
        let owner = [Entity::plain(OWNER)];
        let answer = self.send(
            cc::CREATE_PRIMARY,
            &owner,
            &[Auth::Password(&[])],
            &parameters,
        );
        let length = usize::from(u16::from_be_bytes([answer.body[8], answer.body[9]]));
        Entity::named(answer.handle(), &name_of(&answer.body[10..10 + length]))
    }

    /// Sign of some digest with ECDSA.
    pub(crate) fn sign(&self, key: &Entity, auth: Auth<'_>) -> u32 {
        let parameters = [
            &sized(&[7; 32])[..],
            &[0, 0x18, 0, 0x0B],
            &[0x80, 0x24, 0x40, 0, 0, 7, 0, 0],
        ]
        .concat();
        let key = std::slice::from_ref(key);
        self.send(cc::SIGN, key, &[auth], &parameters).code
    }

    /// PolicySecret of an entity into a session.
    pub(crate) fn policy_secret(
        &self,
        entity: &Entity,
        auth: Auth<'_>,
        session: &Session,
        policy_ref: &[u8],
    ) -> u32 {
        let parameters = [&[0; 4][..], &sized(policy_ref), &[0; 4]].concat();
        let entities = [entity.clone(), Entity::plain(session.handle)];
        self.send(cc::POLICY_SECRET, &entities, &[auth], &parameters)
            .code
    }

    pub(crate) fn policy_command_code(&self, session: &Session, code: u32) -> u32 {
        let session = [Entity::plain(session.handle)];
        let code = code.to_be_bytes();
        self.send(cc::POLICY_COMMAND_CODE, &session, &[], &code)
            .code
    }

    pub(crate) fn policy_authorize(
        &self,
        session: &Session,
        digest: &[u8],
        policy_ref: &[u8],
        birth_name: &[u8],
        ticket: &[u8],
    ) -> u32 {
        let parameters = [
            &sized(digest)[..],
            &sized(policy_ref),
            &sized(birth_name),
            ticket,
        ]
        .concat();
        let session = [Entity::plain(session.handle)];
        self.send(cc::POLICY_AUTHORIZE, &session, &[], &parameters)
            .code
    }
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
