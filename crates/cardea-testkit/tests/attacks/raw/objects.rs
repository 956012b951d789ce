//! Objects: loaded from a card file, or the attacker's own.

use cardea_tpm::policy::name_of;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::{Auth, EMPTY, Entity, OWNER, Reader, cc, sized};
use crate::bench::Bench;

/// What PolicySecret returns for later sessions.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) timeout: Vec<u8>,
    pub(crate) ticket: Vec<u8>,
}

impl Ticket {
    /// From the parameters of PolicySecret's answer.
    pub(crate) fn read(answer: &mut Reader<'_>) -> Self {
        Self {
            timeout: answer.sized().to_vec(),
            ticket: answer.ticket().to_vec(),
        }
    }
}

/// TPMT_PUBLIC with nameAlg SHA-256; parameters and an empty unique field as words.
pub(crate) fn public_area(kind: u16, attributes: u32, policy: &[u8], rest: &[u16]) -> Vec<u8> {
    let mut area = [kind, 0x0B].map(u16::to_be_bytes).concat();
    area.extend(attributes.to_be_bytes());
    area.extend(sized(policy));
    area.extend(rest.iter().flat_map(|word| word.to_be_bytes()));
    area
}

/// TPMT_PUBLIC of an ECDSA key on P-256.
pub(crate) fn ecc_signing_area(attributes: u32) -> Vec<u8> {
    let rest = [0x10, 0x18, 0x0B, 3, 0x10, 0, 0];
    public_area(0x23, attributes, &[], &rest)
}

/// TPM2B_SENSITIVE_CREATE.
pub(crate) fn sensitive(value: &[u8], data: &[u8]) -> Vec<u8> {
    sized(&[sized(value), sized(data)].concat())
}

/// No outside information and no creation PCRs.
pub(crate) fn no_pcrs() -> [u8; 6] {
    [0; 6]
}

/// Coordinates of a point of the attacker's.
pub(crate) fn point() -> (Vec<u8>, Vec<u8>) {
    let own = p256::SecretKey::from_slice(&[0x17; 32]).unwrap();
    let point = own.public_key().to_sec1_point(false);
    (point.x().unwrap().to_vec(), point.y().unwrap().to_vec())
}

/// TPM2B_ECC_POINT.
pub(crate) fn sized_point(x: &[u8], y: &[u8]) -> Vec<u8> {
    sized(&[sized(x), sized(y)].concat())
}

/// Sign of some digest, with this signature scheme and no hash ticket.
pub(crate) fn sign_parameters(scheme: &[u8]) -> Vec<u8> {
    let ticket = [0x80, 0x24, 0x40, 0, 0, 7, 0, 0];
    [&sized(&[7; 32])[..], scheme, &ticket].concat()
}

impl Bench {
    /// Loads an object below the storage root key: its handle, or the TPM's refusal.
    pub(crate) fn load(&self, private: &[u8], public: &[u8]) -> Result<Entity, u32> {
        let parameters = [sized(private), sized(public)].concat();
        let srk = [Entity::plain(0x8100_0001)];
        let answer = self.send(cc::LOAD, &srk, &[EMPTY], &parameters);
        match answer.code {
            0 => Ok(Entity::named(answer.handle(), &name_of(public))),
            code => Err(code),
        }
    }

    /// TPMT_PUBLIC of a loaded or persistent object.
    pub(crate) fn public_of(&self, object: &Entity) -> Vec<u8> {
        let answer = self.send(cc::READ_PUBLIC, std::slice::from_ref(object), &[], &[]);
        assert_eq!(answer.code, 0, "ReadPublic");
        Reader(&answer.body).sized().to_vec()
    }

    /// An ECDSA key of the attacker's own in the owner hierarchy, with this value.
    pub(crate) fn primary(&self, value: &[u8]) -> Entity {
        // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign.
        self.primary_in(OWNER, value, &[], &ecc_signing_area(0x0004_0472))
            .expect("the hierarchy's value is empty")
    }

    /// A primary object of the attacker's own: its handle, or the TPM's refusal.
    pub(crate) fn primary_in(
        &self,
        hierarchy: u32,
        value: &[u8],
        data: &[u8],
        template: &[u8],
    ) -> Result<Entity, u32> {
        let parameters = [&sensitive(value, data)[..], &sized(template), &no_pcrs()].concat();
        let hierarchy = [Entity::plain(hierarchy)];
        let answer = self.send(cc::CREATE_PRIMARY, &hierarchy, &[EMPTY], &parameters);
        match answer.code {
            0 => {
                let public = answer.parameters(4, true).sized();
                Ok(Entity::named(answer.handle(), &name_of(public)))
            }
            code => Err(code),
        }
    }

    /// Sign of some digest with ECDSA.
    pub(crate) fn sign(&self, key: &Entity, auth: Auth<'_>) -> u32 {
        let parameters = sign_parameters(&[0, 0x18, 0, 0x0B]);
        let key = std::slice::from_ref(key);
        self.send(cc::SIGN, key, &[auth], &parameters).code
    }
}
