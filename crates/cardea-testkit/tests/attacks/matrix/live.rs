//! A live card as the attacker finds it: what it has in the TPM, and what is known of it.

use cardea_card::record::{CardRecord, IndexRole, KeyRecord};
use cardea_card::secret::PrivateKey;
use cardea_card::token::{KeyAlgorithm, KeyClass, PinReference};
use cardea_card::{Card, Connection};
use cardea_tpm::policy::{ApprovalId, key_policy, name_of, role_ref};
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::row::{KEYS, Object};
use crate::bench::{Bench, Kind, PIN, WRONG_PIN, counter_name, new_key, pin, value};
use crate::raw::{
    Auth, ENDORSEMENT, Entity, LOADED_SESSIONS, LOCKOUT, NULL, OWNER, PLATFORM, Session, TRANSIENT,
    cc, sign_parameters,
};

/// ECDSA with SHA-256 as a signature scheme.
pub(super) const ECDSA: [u8; 4] = [0, 0x18, 0, 0x0B];
/// RSASSA with SHA-256 as a signature scheme.
pub(super) const RSASSA: [u8; 4] = [0, 0x14, 0, 0x0B];

/// A card with its TPM, and what the attacker knows of it.
pub(crate) struct Live {
    pub(super) bench: Bench,
    pub(super) record: CardRecord,
    pub(super) keys: Vec<Object>,
    /// What others have loaded.
    others: Vec<u32>,
    pub(super) holder: Option<(Card, Connection)>,
}

impl Live {
    /// A card with administrator, PUK and all kinds of keys, which nobody uses.
    pub(super) fn locked() -> Self {
        Self::with(Kind::Both, KEYS)
    }

    /// A card that is quickly made: EC keys of both classes, an administrator only where the object is his.
    pub(super) fn small(object: Object) -> Self {
        let kind = match object {
            Object::AdmIndex | Object::Vault => Kind::Both,
            _ => Kind::Puk,
        };
        Self::with(kind, &[Object::Ec, Object::Once])
    }

    fn with(kind: Kind, keys: &[Object]) -> Self {
        let bench = Bench::new();
        let mut card = bench.open(&bench.record(kind));
        let mut connection = card.connect();
        card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
            .unwrap();
        for key in KEYS {
            if !keys.contains(key) {
                continue;
            }
            let (algorithm, class) = match key {
                Object::Rsa => (KeyAlgorithm::Rsa2048, KeyClass::Session),
                Object::Once => (KeyAlgorithm::P256, KeyClass::Always),
                _ => (KeyAlgorithm::P256, KeyClass::Session),
            };
            let new = new_key(class);
            let made = match key {
                Object::Imported => card.import_key(&mut connection, &own_key(), &new),
                _ => card.generate_key(&mut connection, algorithm, &new),
            };
            made.unwrap();
        }
        let record = card.record().clone();
        drop(card);
        let mut live = Self {
            bench,
            record,
            keys: keys.to_vec(),
            others: Vec::new(),
            holder: None,
        };
        live.restart();
        live.bench.service.check_card(&live.record).unwrap();
        live
    }

    /// The key's record.
    pub(super) fn key(&self, object: Object) -> &KeyRecord {
        let of_kind = |key: &&KeyRecord| match object {
            Object::Rsa => key.object.public[..2] == [0, 1],
            Object::Imported => key.creation_hash.is_empty(),
            _ => {
                let pin = &counter_name(&self.record, IndexRole::Pin);
                let class = match object {
                    Object::Once => KeyClass::Always,
                    _ => KeyClass::Session,
                };
                let policy = key_policy(pin, class);
                let elliptic = key.object.public[..2] == [0, 0x23];
                let made = !key.creation_hash.is_empty();
                elliptic && made && key.object.public[10..42] == policy
            }
        };
        let mut keys = self.record.keys.iter();
        // Where all keys have one policy, the one that was made for every time is the later one.
        let found = match object {
            Object::Once => keys.rfind(of_kind),
            _ => keys.find(of_kind),
        };
        found.unwrap()
    }

    /// Private and public part, as the card file has them.
    pub(super) fn blob(&self, object: Object) -> (&[u8], &[u8]) {
        let blob = match object {
            Object::Vault => self.record.tpm.sealed_key.as_ref().unwrap(),
            key => &self.key(key).object,
        };
        (&blob.private, &blob.public)
    }

    /// The object with a handle; what is in the card file is loaded for it.
    pub(super) fn entity(&self, object: Object) -> Entity {
        let role = match object {
            Object::PinIndex => IndexRole::Pin,
            Object::AdmIndex => IndexRole::Adm,
            Object::PukIndex => IndexRole::Puk,
            Object::Srk => {
                let srk = &self.record.tpm.srk;
                return Entity::named(srk.handle, &srk.name);
            }
            Object::Owner => return Entity::plain(OWNER),
            Object::Endorsement => return Entity::plain(ENDORSEMENT),
            Object::Lockout => return Entity::plain(LOCKOUT),
            Object::Platform => return Entity::plain(PLATFORM),
            Object::Null | Object::Nothing => return Entity::plain(NULL),
            Object::Armed | Object::ArmedOnce | Object::Channel => {
                return Entity::plain(self.session(object));
            }
            object => {
                let (private, public) = self.blob(object);
                return self.bench.load(private, public).expect("it loads");
            }
        };
        self.index(role)
    }

    /// An index, or the object that a card in object mode has in its place, which is loaded.
    pub(super) fn index(&self, role: IndexRole) -> Entity {
        self.bench.counter(&self.record, role)
    }

    /// A session of the daemon's.
    pub(super) fn session(&self, object: Object) -> u32 {
        let pin = &counter_name(&self.record, IndexRole::Pin);
        let wanted = match object {
            Object::Channel => None,
            Object::ArmedOnce => Some(key_policy(pin, KeyClass::Always).to_vec()),
            _ => Some(key_policy(pin, KeyClass::Session).to_vec()),
        };
        let handles = self.bench.handles(LOADED_SESSIONS);
        let mut found = handles
            .into_iter()
            .filter(|handle| match &wanted {
                None => handle >> 24 == 2,
                Some(digest) => {
                    handle >> 24 == 3 && self.bench.policy_digest(*handle).as_ref() == Some(digest)
                }
            })
            .collect::<Vec<_>>();
        found
            .pop()
            .unwrap_or_else(|| panic!("no {object} is loaded"))
    }

    /// How a key signs.
    pub(super) fn scheme(&self, object: Object) -> [u8; 4] {
        match object {
            Object::Rsa => RSASSA,
            _ => ECDSA,
        }
    }

    /// Sign with a card's key.
    pub(super) fn sign(&self, object: Object, key: &Entity, auth: Auth<'_>) -> u32 {
        let parameters = sign_parameters(&self.scheme(object));
        let key = std::slice::from_ref(key);
        self.bench.send(cc::SIGN, key, &[auth], &parameters).code
    }

    /// What the right PIN is to the TPM.
    pub(super) fn pin_value(&self) -> [u8; 32] {
        value(&self.record, IndexRole::Pin, PIN)
    }

    /// A policy session of the attacker's that the captured PIN satisfies.
    pub(super) fn satisfied(&self, policy_ref: &[u8]) -> Session {
        let session = self.bench.policy_session();
        let pin = self.index(IndexRole::Pin);
        let value = self.pin_value();
        let auth = Auth::Password(&value);
        let code = self.bench.policy_secret(&pin, auth, &session, policy_ref);
        self.bench.put_away(&pin);
        assert_eq!(code, 0, "the PIN is right");
        session
    }

    /// PolicyAuthorize with an approval of the card file.
    pub(super) fn authorize(&self, session: &Session, id: ApprovalId) -> u32 {
        let mut approvals = self.record.tpm.approvals.iter();
        let approval = approvals.find(|found| found.id == id.as_str()).unwrap();
        self.bench.policy_authorize(
            session,
            &approval.digest,
            role_ref(approval.role),
            &name_of(&self.record.tpm.birth_public),
            &approval.ticket,
        )
    }

    /// Wrong tries and limit of an index.
    pub(super) fn counter(&self, role: IndexRole) -> Result<(u32, u32), u32> {
        self.bench.counted(&self.record, role)
    }

    /// What is loaded at the moment is not the attacker's.
    pub(super) fn begin(&mut self) {
        self.others = self.loaded();
    }

    /// Flushes what the attacker has left.
    pub(super) fn clean(&self) {
        for handle in self.loaded() {
            if !self.others.contains(&handle) {
                self.bench.flush(handle);
            }
        }
    }

    /// Flushes whatever is loaded, the daemon's too.
    pub(super) fn flush_all(&self) {
        for handle in self.loaded() {
            self.bench.flush(handle);
        }
    }

    fn loaded(&self) -> Vec<u32> {
        let first = [TRANSIENT, LOADED_SESSIONS];
        first.map(|first| self.bench.handles(first)).concat()
    }

    /// A daemon that knows nothing of before; it frees what the other one had loaded.
    pub(super) fn restart(&mut self) {
        self.holder = None;
        self.bench.restart();
        self.bench.service.status().unwrap();
    }

    /// PolicySecret with a wrong PIN.
    pub(super) fn wrong_pin(&self) -> u32 {
        let session = self.bench.policy_session();
        let wrong = value(&self.record, IndexRole::Pin, WRONG_PIN);
        let pin = self.index(IndexRole::Pin);
        let auth = Auth::Password(&wrong);
        let code = self.bench.policy_secret(&pin, auth, &session, b"sess");
        self.bench.flush(session.handle);
        code
    }
}

/// A key from outside.
fn own_key() -> PrivateKey {
    let scalar = [0x29; 32];
    let key = p256::SecretKey::from_slice(&scalar).unwrap();
    let point = key.public_key().to_sec1_point(false);
    PrivateKey::Ec {
        algorithm: KeyAlgorithm::P256,
        scalar: scalar.to_vec().into(),
        x: point.x().unwrap().to_vec(),
        y: point.y().unwrap().to_vec(),
    }
}
