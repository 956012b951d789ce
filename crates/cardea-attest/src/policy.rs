//! Policy digests and Names, computed from what a bundle shows. All hashes are SHA-256.
//!
//! A verifier computes by itself what the card's maker computed: the notation is that of `docs/design/tpm.md`.

use cardea_terms::KeyClass;
use sha2::{Digest, Sha256};

use crate::wire::put_sized;

/// The Name of an object or index with nameAlg SHA-256: `000B` and the hash of its public area.
pub type Name = [u8; 34];

type Hash = [u8; 32];

const ZERO: Hash = [0; 32];

/// The owner hierarchy: its qualified name is its handle.
const OWNER: [u8; 4] = 0x4000_0001_u32.to_be_bytes();

/// Command codes (TPM 2.0 Part 2, section 6.5.2).
mod command {
    pub(super) const NV_WRITE: u32 = 0x137;
    pub(super) const NV_CHANGE_AUTH: u32 = 0x13B;
    pub(super) const NV_READ: u32 = 0x14E;
    pub(super) const POLICY_SECRET: u32 = 0x151;
    pub(super) const POLICY_SIGNED: u32 = 0x160;
    pub(super) const POLICY_AUTHORIZE: u32 = 0x16A;
    pub(super) const POLICY_COMMAND_CODE: u32 = 0x16C;
    pub(super) const POLICY_COUNTER_TIMER: u32 = 0x16D;
    pub(super) const POLICY_CP_HASH: u32 = 0x16E;
    pub(super) const POLICY_NAME_HASH: u32 = 0x170;
    pub(super) const POLICY_OR: u32 = 0x171;
    pub(super) const NV_CERTIFY: u32 = 0x184;
    pub(super) const POLICY_DUPLICATION_SELECT: u32 = 0x188;
    pub(super) const POLICY_AUTHORIZE_NV: u32 = 0x192;
}

/// Comparisons of PolicyCounterTimer (TPM 2.0 Part 2, section 6.7).
const EQUAL: u16 = 0;
const GREATER: u16 = 3;

pub(crate) fn hash(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// `000B` and a hash.
pub(crate) fn name_from(hash: Hash) -> Name {
    let mut name = [0; 34];
    for (byte, value) in name.iter_mut().zip([0x00, 0x0B].into_iter().chain(hash)) {
        *byte = value;
    }
    name
}

/// The Name that belongs to a public area whose nameAlg is SHA-256.
pub(crate) fn name_of(public: &[u8]) -> Name {
    name_from(hash(&[public]))
}

/// The qualified name of an object below a parent, or of a primary object of the owner hierarchy.
#[must_use]
pub fn qualified_name(parent: Option<&Name>, name: &Name) -> Name {
    let parent = parent.map_or(&OWNER[..], |parent| parent);
    name_from(hash(&[parent, name]))
}

fn reference(old: &Hash, code: u32, name: &Name, policy_ref: &str) -> Hash {
    let inner = hash(&[old, &code.to_be_bytes(), name]);
    hash(&[&inner, policy_ref.as_bytes()])
}

fn secret(name: &Name, policy_ref: &str) -> Hash {
    reference(&ZERO, command::POLICY_SECRET, name, policy_ref)
}

fn command_code(old: &Hash, code: u32) -> Hash {
    let step = command::POLICY_COMMAND_CODE.to_be_bytes();
    hash(&[old, &step, &code.to_be_bytes()])
}

fn counter_timer(old: &Hash, reset_count: u32, comparison: u16) -> Hash {
    // TPMS_TIME_INFO has resetCount at byte 16.
    let offset = 16u16.to_be_bytes();
    let arguments = hash(&[
        &reset_count.to_be_bytes(),
        &offset,
        &comparison.to_be_bytes(),
    ]);
    let step = command::POLICY_COUNTER_TIMER.to_be_bytes();
    hash(&[old, &step, &arguments])
}

fn name_hash(old: &Hash, name: &Name) -> Hash {
    let step = command::POLICY_NAME_HASH.to_be_bytes();
    hash(&[old, &step, &hash(&[name])])
}

/// PolicyOR of two to eight branches.
pub(crate) fn or(branches: &[Hash]) -> Hash {
    let step = command::POLICY_OR.to_be_bytes();
    hash(&[&ZERO, &step, &branches.concat()])
}

/// I: how the indices of a sealed card are first written.
pub(crate) fn init(birth: &Name, made_at_reset: u32) -> Hash {
    let signed = reference(&ZERO, command::POLICY_SIGNED, birth, "init");
    let gate = counter_timer(&signed, made_at_reset, EQUAL);
    command_code(&gate, command::NV_WRITE)
}

/// The policy of the witness key.
pub(crate) fn witness(made_at_reset: u32) -> Hash {
    counter_timer(&ZERO, made_at_reset, GREATER)
}

/// The policy of an index of a sealed card: whatever X holds.
pub(crate) fn authorized_by(sealed: &Name) -> Hash {
    let step = command::POLICY_AUTHORIZE_NV.to_be_bytes();
    hash(&[&ZERO, &step, sealed])
}

/// The policy of the PIN index of a card of form A.
pub(crate) fn approved_by(birth: &Name) -> Hash {
    reference(&ZERO, command::POLICY_AUTHORIZE, birth, "pin")
}

/// The policy K of a card's keys.
pub(crate) fn key(pin: &Name, class: KeyClass) -> Hash {
    secret(
        pin,
        match class {
            KeyClass::Always => "once",
            KeyClass::Session => "sess",
        },
    )
}

/// The branch of a recoverable key for one target.
pub(crate) fn duplication(target: &Name) -> Hash {
    let step = command::POLICY_DUPLICATION_SELECT.to_be_bytes();
    hash(&[&ZERO, &step, target, &[0]])
}

/// The Names that the policies of a sealed card are made of.
pub(crate) struct Sealed<'a> {
    pub(crate) birth: &'a Name,
    pub(crate) made_at_reset: u32,
    pub(crate) pin: &'a Name,
    pub(crate) adm: Option<&'a Name>,
    pub(crate) puk: Option<&'a Name>,
    pub(crate) pin_limit: u32,
}

impl Sealed<'_> {
    /// D: the digest that X holds.
    pub(crate) fn content(&self) -> Hash {
        let mut branches = vec![
            command_code(&ZERO, command::NV_READ),
            command_code(&ZERO, command::NV_CERTIFY),
            init(self.birth, self.made_at_reset),
            Self::change(&secret(self.pin, "chg"), self.pin),
        ];
        if let Some(puk) = self.puk {
            let unblocks = secret(puk, "puk");
            branches.push(self.reset_tries(&unblocks));
            branches.push(Self::change(&unblocks, self.pin));
            branches.push(Self::change(&secret(puk, "chg"), puk));
        }
        if let Some(adm) = self.adm {
            if self.puk.is_none() {
                let unblocks = secret(adm, "adm");
                branches.push(self.reset_tries(&unblocks));
                branches.push(Self::change(&unblocks, self.pin));
            }
            branches.push(Self::change(&secret(adm, "admkey"), adm));
        }
        or(&branches)
    }

    /// NV_ChangeAuth of one index.
    fn change(old: &Hash, index: &Name) -> Hash {
        name_hash(&command_code(old, command::NV_CHANGE_AUTH), index)
    }

    /// NV_Write of count zero and of the limit that there is, to the PIN index.
    fn reset_tries(&self, old: &Hash) -> Hash {
        let mut parameters = Vec::new();
        let counts = [0, self.pin_limit].map(u32::to_be_bytes).concat();
        put_sized(&mut parameters, &counts);
        parameters.extend_from_slice(&0u16.to_be_bytes());
        let code = command::NV_WRITE.to_be_bytes();
        let parameters = hash(&[&code, self.pin, self.pin, &parameters]);
        let step = command::POLICY_CP_HASH.to_be_bytes();
        hash(&[old, &step, &parameters])
    }
}

/// TPMS_NV_PUBLIC with nameAlg SHA-256.
pub(crate) fn nv_public(handle: &[u8], attributes: u32, policy: &Hash, size: u16) -> Vec<u8> {
    let mut area = handle.to_vec();
    area.extend_from_slice(&[0x00, 0x0B]);
    area.extend_from_slice(&attributes.to_be_bytes());
    put_sized(&mut area, policy);
    area.extend_from_slice(&size.to_be_bytes());
    area
}

/// The TPMT_PUBLIC of a key on P-256 that signs with ECDSA and SHA-256: the attestation key, the witness, the birth key.
pub(crate) fn signing_public(attributes: u32, policy: &[u8], x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut area = vec![0x00, 0x23, 0x00, 0x0B];
    area.extend_from_slice(&attributes.to_be_bytes());
    put_sized(&mut area, policy);
    // Symmetric NULL, ECDSA, SHA-256, P-256, KDF NULL.
    area.extend_from_slice(&[0, 0x10, 0, 0x18, 0, 0x0B, 0, 0x03, 0, 0x10]);
    put_sized(&mut area, x);
    put_sized(&mut area, y);
    area
}

/// The TPMT_PUBLIC of a target by which a key can be recovered: a storage key on P-256, which follows from its point.
#[must_use]
pub fn recovery_target(x: &[u8; 32], y: &[u8; 32]) -> Vec<u8> {
    let mut area = vec![0x00, 0x23, 0x00, 0x0B];
    area.extend_from_slice(&0x0003_0040_u32.to_be_bytes());
    // No policy; AES-128-CFB, scheme NULL, P-256, KDF NULL.
    area.extend_from_slice(&[0, 0, 0, 0x06, 0, 0x80, 0, 0x43, 0, 0x10, 0, 0x03, 0, 0x10]);
    put_sized(&mut area, x);
    put_sized(&mut area, y);
    area
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::hex;

    fn name(text: &str) -> Name {
        hex(text).try_into().unwrap()
    }

    // Values that a software TPM gave (libtpms 0.9.2): birth key, indices and resetCount 7 of one card.
    const BIRTH: &str = "000ba6c64dd28fbd5e876997c3e33b735832af032dff282453c44a06ac0ae44c7c35";
    const PIN: &str = "000b7dcf6a45e4001d2be4294944e7a84cdbfb8fdfd34f632acedc4557766afa151c";
    const ADM: &str = "000b13bbb854a0aebf794893f43dff1c8bf65c2d58f55ac68fe2eb02042bf072db50";
    const PUK: &str = "000bae096dcaa42b2b280a3f7144e4cef17c1a0eb141661f79cb1b611ae966304800";

    #[test]
    fn digests_of_a_sealed_card_are_those_of_a_tpm() {
        let initial = init(&name(BIRTH), 7);
        assert_eq!(
            initial[..],
            hex("dc8361a3af79f7bafb1f81aeb4225790af840c20c49bd25b9dac4908c0f9bf80")
        );
        assert_eq!(
            witness(7)[..],
            hex("54151aa1b3812042e68aed2e574d30b05f36ad32398a6f7602c5f8b7c3dd8b88")
        );
        let sealed = nv_public(&hex("01c20003"), 0x2204_0008, &initial, 34);
        assert_eq!(
            name_of(&sealed),
            name("000bdb5d24698973887911f3acfc21440e54418f6403d5fd3f8972c6b9a543bdd848")
        );
        let index = authorized_by(&name_of(&sealed));
        let pin = nv_public(&hex("01c20000"), 0x2208_0088, &index, 8);
        assert_eq!(name_of(&pin), name(PIN));
        assert_eq!(
            key(&name(PIN), KeyClass::Session)[..],
            hex("911b26e9a25d7481987076adc0af1ffc0dfa351adfbea5b35f070eea56ebecbe")
        );
        assert_eq!(
            key(&name(PIN), KeyClass::Always)[..],
            hex("dc7831b27e6ddfa7b7a36dfd8742eadf6e676767bab9d37e8470fad46cc2fc92")
        );
    }

    #[test]
    fn content_of_x_is_the_one_of_a_tpm_for_every_kind_of_card() {
        let (birth, pin, adm, puk) = (name(BIRTH), name(PIN), name(ADM), name(PUK));
        for (has_adm, has_puk, expected) in [
            (
                false,
                false,
                "9e731e3205710530f7240a538bc41cdd0befadee6addf52a83a859f3dbc29d76",
            ),
            (
                true,
                false,
                "d43cd66afdebddf8a638aaced8e96f0e7ffdd9b8f94402a00c671d725d0b0b51",
            ),
            (
                false,
                true,
                "8f3a51f3ef079ffb94c1087ff88912b9894d40031e4bb61aaf4e2a54f401d9fb",
            ),
            (
                true,
                true,
                "4e8055dea6b2c0c568b70f1dfc90389337f885e5568a52b568662632d2ef7e31",
            ),
        ] {
            let sealed = Sealed {
                birth: &birth,
                made_at_reset: 7,
                pin: &pin,
                adm: has_adm.then_some(&adm),
                puk: has_puk.then_some(&puk),
                pin_limit: 5,
            };
            assert_eq!(sealed.content()[..], hex(expected), "{has_adm} {has_puk}");
        }
    }

    #[test]
    fn form_a_and_qualified_names_are_those_of_a_tpm() {
        // From a software TPM too.
        assert_eq!(
            approved_by(&name(BIRTH))[..],
            hex("0294f780d5cd6095398acd74964ca1c7ce48fc38fb73a5fcde4056cfed0dab35")
        );
        let srk = name("000b3541db7d2b00f8fb09192d240b823d4614c56effc07109755d566c02bf116c62");
        let qualified = qualified_name(None, &srk);
        assert_eq!(
            qualified,
            name("000b7987221f5bf13a1d2c60acac0be280f57011f537691dc2e180c2964a48f6acfe")
        );
        let key = name("000b5a015d9ec9e96dedaeab41bd3e6dc6687a74ee99d0cd209d9f88761e53dd42b7");
        assert_eq!(
            qualified_name(Some(&qualified), &key),
            name("000ba4bfee2ee37fa6e452f61c621cdc6b703675d243d6393e2ab9502855a6d582cd")
        );
    }
}
