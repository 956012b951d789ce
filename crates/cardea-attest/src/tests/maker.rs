//! A maker of bundles with keys in software. It lies where it is asked to.

use cardea_pki::{
    CertificateDraft, Curve, Extension, KeyUsage, PathCertificate, PublicKey, SignatureAlgorithm,
};
use cardea_terms::KeyClass;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToSec1Point;

use crate::policy::{self, Name, Sealed, name_of, nv_public, signing_public};
use crate::verify::Checks;
use crate::wire::put_sized;
use crate::{
    AttestationTrust, Bundle, Claims, Code, Creation, EkOrigin, Form, Index, Key, Nonce, Refusal,
    Requirements, Revoked, Role, Statement, Verifier, Witness, qualified_name, qualifying_data,
};

pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const YEAR: i64 = 31_536_000;
pub(super) const AK_EKU: &str = "2.23.133.8.3";
/// The policy of our authority for "known by the maker's certificate".
pub(super) const BY_CERTIFICATE: &str = "2.25.1";

/// A key on P-256 in software.
#[derive(Clone)]
pub(super) struct SoftKey(pub(super) u8);

impl SoftKey {
    pub(super) fn point(&self) -> ([u8; 32], [u8; 32]) {
        let key = p256::SecretKey::from_slice(&[self.0; 32]).unwrap();
        let point = key.public_key().to_sec1_point(false);
        let bytes = point.as_bytes();
        (
            bytes[1..33].try_into().unwrap(),
            bytes[33..].try_into().unwrap(),
        )
    }

    pub(super) fn pki(&self) -> PublicKey {
        let (x, y) = self.point();
        PublicKey::from_ec(Curve::P256, &x, &y).unwrap()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Signature {
        let key = SigningKey::from_slice(&[self.0; 32]).unwrap();
        key.sign_prehash(&policy::hash(&[message])).unwrap()
    }
}

pub(super) fn distinguished_name(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return vec![0x30, 0];
    }
    let len = u8::try_from(text.len()).unwrap();
    let head = [0x30, len + 11, 0x31, len + 9, 0x30, len + 7];
    [&head[..], &[6, 3, 0x55, 4, 3, 0x0C, len], text.as_bytes()].concat()
}

/// A certificate, signed by a key in software.
pub(super) fn certificate(
    (issuer, signer): (&str, &SoftKey),
    subject: &str,
    spki: &[u8],
    validity: (i64, i64),
    extensions: &[Extension],
) -> Vec<u8> {
    let body = CertificateDraft {
        serial: &[7],
        issuer: &distinguished_name(issuer),
        subject: &distinguished_name(subject),
        not_before: validity.0,
        not_after: validity.1,
        spki,
        extensions,
    }
    .to_be_signed(SignatureAlgorithm::EcdsaSha256)
    .unwrap();
    let signature = signer.sign(&body).to_der();
    CertificateDraft::finish(&body, SignatureAlgorithm::EcdsaSha256, signature.as_bytes())
}

pub(super) fn authority(name: &str, key: &SoftKey) -> PathCertificate {
    let der = certificate(
        (name, key),
        name,
        &key.pki().to_spki_der(),
        (NOW - YEAR, NOW + YEAR),
        &[
            Extension::basic_constraints(true, None),
            Extension::key_usage(&[KeyUsage::KeyCertSign]),
        ],
    );
    PathCertificate::parse(&der).unwrap()
}

pub(super) fn tpm_name() -> Extension {
    Extension::directory_name(
        &[
            ("2.23.133.2.1", "id:00001014"),
            ("2.23.133.2.2", "swtpm"),
            ("2.23.133.2.3", "id:20191023"),
        ],
        true,
    )
    .unwrap()
}

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Witness,
    Sealed,
    Pin,
    Adm,
    Puk,
    Key(usize),
    Creation(usize),
}

/// A TPMS_ATTEST before it is signed.
pub(super) struct Draft {
    pub(super) signer: SoftKey,
    pub(super) magic: u32,
    pub(super) kind: u16,
    pub(super) qualified_signer: Vec<u8>,
    pub(super) extra_data: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) offset: Option<u16>,
    pub(super) content: Vec<u8>,
    pub(super) junk: Vec<u8>,
}

impl Draft {
    pub(super) fn statement(&self) -> Statement {
        let mut attest = self.magic.to_be_bytes().to_vec();
        attest.extend_from_slice(&self.kind.to_be_bytes());
        put_sized(&mut attest, &self.qualified_signer);
        put_sized(&mut attest, &self.extra_data);
        // Clock, counters, "safe", firmware.
        attest.extend_from_slice(&[9; 25]);
        put_sized(&mut attest, &self.name);
        if let Some(offset) = self.offset {
            attest.extend_from_slice(&offset.to_be_bytes());
        }
        put_sized(&mut attest, &self.content);
        attest.extend_from_slice(&self.junk);
        let signature = self.signer.sign(&attest).to_bytes();
        let mut encoded = vec![0x00, 0x18, 0x00, 0x0B];
        put_sized(&mut encoded, &signature[..32]);
        put_sized(&mut encoded, &signature[32..]);
        Statement {
            attest,
            signature: encoded,
        }
    }
}

/// The numbers of a key of a card.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    P256,
    P384,
    Rsa2048,
}

/// A key of the card.
#[derive(Clone)]
pub(super) struct CardKey {
    pub(super) kind: Kind,
    pub(super) attributes: u32,
    pub(super) class: KeyClass,
    /// The TPMT_PUBLIC of the targets.
    pub(super) targets: Vec<Vec<u8>>,
    pub(super) has_creation: bool,
    /// Whose PIN it asks for, if not the card's.
    pub(super) other_pin: Option<Name>,
    /// Whether it has a signature scheme.
    pub(super) has_scheme: bool,
    /// The parent that its creation data have, if not the storage root key.
    pub(super) other_parent: Option<Name>,
}

impl CardKey {
    pub(super) fn new(kind: Kind, attributes: u32, class: KeyClass) -> Self {
        Self {
            kind,
            attributes,
            class,
            targets: Vec::new(),
            has_creation: false,
            other_pin: None,
            has_scheme: false,
            other_parent: None,
        }
    }

    fn public(&self, pin: &Name) -> Vec<u8> {
        let pin = self.other_pin.as_ref().unwrap_or(pin);
        let key_policy = policy::key(pin, self.class);
        let policy = if self.targets.is_empty() {
            key_policy
        } else {
            let branches = self.targets.iter().map(|target| name_of(target));
            let branches = branches.map(|name| policy::duplication(&name));
            let all: Vec<_> = std::iter::once(key_policy).chain(branches).collect();
            policy::or(&all)
        };
        let mut area = match self.kind {
            Kind::Rsa2048 => vec![0x00, 0x01, 0x00, 0x0B],
            Kind::P256 | Kind::P384 => vec![0x00, 0x23, 0x00, 0x0B],
        };
        area.extend_from_slice(&self.attributes.to_be_bytes());
        put_sized(&mut area, &policy);
        area.extend_from_slice(&[0x00, 0x10]);
        area.extend_from_slice(if self.has_scheme {
            &[0x00, 0x14, 0x00, 0x0B]
        } else {
            &[0x00, 0x10]
        });
        match self.kind {
            Kind::Rsa2048 => {
                area.extend_from_slice(&[0x08, 0x00, 0, 0, 0, 0]);
                put_sized(&mut area, &[0xC5; 256]);
            }
            Kind::P256 => {
                let (x, y) = SoftKey(77).point();
                area.extend_from_slice(&[0x00, 0x03, 0x00, 0x10]);
                put_sized(&mut area, &x);
                put_sized(&mut area, &y);
            }
            Kind::P384 => {
                let key = p384::SecretKey::from_slice(&[78; 48]).unwrap();
                let point = key.public_key().to_sec1_point(false);
                area.extend_from_slice(&[0x00, 0x04, 0x00, 0x10]);
                put_sized(&mut area, &point.as_bytes()[1..49]);
                put_sized(&mut area, &point.as_bytes()[49..]);
            }
        }
        area
    }
}

/// Changes a statement before it is signed.
type Tweak = (About, fn(&mut Draft));

/// What is made. The default is a sealed card with everything, after a reset.
pub(super) struct Maker {
    pub(super) nonce: Vec<u8>,
    pub(super) is_sealed: bool,
    pub(super) has_witness: bool,
    pub(super) has_adm: bool,
    pub(super) has_puk: bool,
    pub(super) made_at_reset: u32,
    pub(super) limit: u32,
    pub(super) keys: Vec<CardKey>,
    pub(super) note: Option<String>,
    pub(super) ak_attributes: u32,
    pub(super) srk_attributes: u32,
    pub(super) birth_attributes: u32,
    pub(super) has_certificate: bool,
    pub(super) certificate_key: SoftKey,
    pub(super) certificate_signer: SoftKey,
    pub(super) certificate_ekus: Vec<&'static str>,
    pub(super) certificate_until: i64,
    pub(super) witness_reset: u32,
    pub(super) sealed_handle: u32,
    pub(super) sealed_attributes: u32,
    /// Attributes of the indices for PIN, administrator and PUK.
    pub(super) counter_attributes: [u32; 3],
    /// The administrator's index exists, and the bundle does not show it.
    pub(super) hides_adm: bool,
    /// The limit to which the PIN can be unblocked, if not the one that the index has.
    pub(super) other_unblock_limit: Option<u32>,
    pub(super) tweak: Option<Tweak>,
    /// Changes the whole bundle.
    pub(super) change: Option<fn(&mut Bundle)>,
    /// Changes its bytes.
    pub(super) mangle: Option<fn(&mut Vec<u8>)>,
}

pub(super) const AK: SoftKey = SoftKey(17);
pub(super) const WITNESS: SoftKey = SoftKey(18);
pub(super) const BIRTH: SoftKey = SoftKey(19);
pub(super) const SRK: SoftKey = SoftKey(20);
pub(super) const CA: SoftKey = SoftKey(33);

pub(super) fn target(number: u8) -> Vec<u8> {
    let (x, y) = SoftKey(number).point();
    policy::recovery_target(&x, &y)
}

impl Default for Maker {
    fn default() -> Self {
        let mut targets = vec![target(40), target(41)];
        targets.sort_by_key(|target| name_of(target));
        Self {
            nonce: (0..32).collect(),
            is_sealed: true,
            has_witness: true,
            has_adm: true,
            has_puk: true,
            made_at_reset: 7,
            limit: 5,
            keys: vec![
                CardKey::new(Kind::P256, 0x0006_0432, KeyClass::Session),
                CardKey {
                    has_creation: true,
                    ..CardKey::new(Kind::Rsa2048, 0x0006_0400, KeyClass::Always)
                },
                CardKey {
                    targets,
                    has_creation: true,
                    ..CardKey::new(Kind::P384, 0x0006_0420, KeyClass::Session)
                },
            ],
            note: None,
            ak_attributes: 0x0005_0472,
            srk_attributes: 0x0003_0472,
            birth_attributes: 0x0004_0040,
            has_certificate: true,
            certificate_key: AK,
            certificate_signer: CA,
            certificate_ekus: vec![AK_EKU],
            certificate_until: NOW + YEAR,
            witness_reset: 7,
            sealed_handle: 0x01C2_0003,
            sealed_attributes: 0x2204_0008,
            counter_attributes: [0x2208_0088; 3],
            hides_adm: false,
            other_unblock_limit: None,
            tweak: None,
            change: None,
            mangle: None,
        }
    }
}

impl Maker {
    /// A card of form A.
    pub(super) fn approved() -> Self {
        Self {
            is_sealed: false,
            has_witness: false,
            has_adm: false,
            has_puk: false,
            ..Self::default()
        }
    }

    pub(super) fn public_of(key: &SoftKey, attributes: u32, policy: &[u8]) -> Vec<u8> {
        let (x, y) = key.point();
        signing_public(attributes, policy, &x, &y)
    }

    pub(super) fn storage_root_key(&self) -> Vec<u8> {
        let (x, y) = SRK.point();
        let mut area = policy::recovery_target(&x, &y);
        area[4..8].copy_from_slice(&self.srk_attributes.to_be_bytes());
        area
    }

    pub(super) fn attestation_key(&self) -> Vec<u8> {
        Self::public_of(&AK, self.ak_attributes, &[])
    }

    fn draft(&self, signer: (&SoftKey, &Name), kind: u16) -> Draft {
        Draft {
            signer: signer.0.clone(),
            magic: 0xFF54_4347,
            kind,
            qualified_signer: signer.1.to_vec(),
            extra_data: qualifying_data(&self.nonce).to_vec(),
            name: Vec::new(),
            offset: None,
            content: Vec::new(),
            junk: Vec::new(),
        }
    }

    fn sign(&self, about: About, mut draft: Draft) -> Statement {
        if let Some((tweaked, tweak)) = self.tweak
            && tweaked == about
        {
            tweak(&mut draft);
        }
        draft.statement()
    }

    fn certificates(&self) -> Vec<Vec<u8>> {
        if !self.has_certificate {
            return Vec::new();
        }
        vec![certificate(
            ("Test CA", &self.certificate_signer),
            "",
            &self.certificate_key.pki().to_spki_der(),
            (NOW - YEAR, self.certificate_until),
            &[
                Extension::basic_constraints(false, None),
                tpm_name(),
                Extension::key_usage(&[KeyUsage::DigitalSignature]),
                Extension::extended_key_usages(&self.certificate_ekus).unwrap(),
                Extension::policies(&["2.23.133.11.1.1", BY_CERTIFICATE]).unwrap(),
            ],
        )]
    }

    pub(super) fn bundle(&self) -> Bundle {
        let srk = self.storage_root_key();
        let root = qualified_name(None, &name_of(&srk));
        let below = |public: &[u8]| qualified_name(Some(&root), &name_of(public));
        let ak = self.attestation_key();
        let ak_name = below(&ak);
        let birth = Self::public_of(&BIRTH, self.birth_attributes, &[]);
        let witness_public =
            Self::public_of(&WITNESS, 0x0005_0432, &policy::witness(self.witness_reset));
        let witness_name = below(&witness_public);
        let signer = if self.has_witness {
            (&WITNESS, &witness_name)
        } else {
            (&AK, &ak_name)
        };
        let witness = self.has_witness.then(|| {
            let mut draft = self.draft((&AK, &ak_name), 0x8017);
            draft.name = name_of(&witness_public).to_vec();
            draft.content = witness_name.to_vec();
            Witness {
                public: witness_public.clone(),
                statement: self.sign(About::Witness, draft),
            }
        });
        let indices = self.indices(&name_of(&birth), signer);
        let pin = indices.iter().find(|index| index.role == Role::Pin);
        let pin = name_of(&pin.unwrap().public);
        let keys = self.keys.iter().enumerate().map(|(number, key)| {
            let public = key.public(&pin);
            let mut draft = self.draft((&AK, &ak_name), 0x8017);
            draft.name = name_of(&public).to_vec();
            draft.content = below(&public).to_vec();
            Key {
                statement: self.sign(About::Key(number), draft),
                creation: key
                    .has_creation
                    .then(|| self.creation(number, key, &public, &srk, &ak_name)),
                public,
            }
        });
        let keys = keys.collect();
        let mut bundle = Bundle {
            nonce: self.nonce.clone(),
            form: if self.is_sealed {
                Form::Sealed {
                    made_at_reset: self.made_at_reset,
                    witness,
                }
            } else {
                Form::Approved
            },
            attestation_key: ak,
            certificates: self.certificates(),
            storage_root_key: srk,
            birth_key: birth,
            keys,
            indices,
            note: self.note.clone(),
        };
        if let Some(change) = self.change {
            change(&mut bundle);
        }
        bundle
    }

    fn creation(
        &self,
        number: usize,
        key: &CardKey,
        public: &[u8],
        srk: &[u8],
        ak: &Name,
    ) -> Creation {
        let parent = key.other_parent.unwrap_or(name_of(srk));
        let mut data = vec![0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 0];
        put_sized(&mut data, &[]);
        data.extend_from_slice(&[1, 0x00, 0x0B]);
        put_sized(&mut data, &parent);
        put_sized(&mut data, &qualified_name(None, &parent));
        put_sized(&mut data, b"made after this");
        let mut draft = self.draft((&AK, ak), 0x801A);
        draft.name = name_of(public).to_vec();
        draft.content = policy::hash(&[&data]).to_vec();
        Creation {
            data,
            statement: self.sign(About::Creation(number), draft),
            targets: key.targets.clone(),
        }
    }

    fn counter(
        &self,
        role: Role,
        policy: &[u8; 32],
        limit: u32,
        signer: (&SoftKey, &Name),
    ) -> Index {
        let (number, about) = match role {
            Role::Pin => (0, About::Pin),
            Role::Adm => (1, About::Adm),
            Role::Puk | Role::Sealed => (2, About::Puk),
        };
        let handle = 0x01C2_0000 + u32::try_from(number).unwrap();
        let attributes = self.counter_attributes[number];
        let public = nv_public(&handle.to_be_bytes(), attributes, policy, 8);
        let mut draft = self.draft(signer, 0x8014);
        draft.name = name_of(&public).to_vec();
        draft.offset = Some(0);
        draft.content = [1, limit].map(u32::to_be_bytes).concat();
        Index {
            role,
            statement: self.sign(about, draft),
            public,
        }
    }

    fn indices(&self, birth: &Name, signer: (&SoftKey, &Name)) -> Vec<Index> {
        if !self.is_sealed {
            let policy = policy::approved_by(birth);
            return vec![self.counter(Role::Pin, &policy, self.limit, signer)];
        }
        let sealed = nv_public(
            &self.sealed_handle.to_be_bytes(),
            self.sealed_attributes,
            &policy::init(birth, self.made_at_reset),
            34,
        );
        let policy = policy::authorized_by(&name_of(&sealed));
        let pin = self.counter(Role::Pin, &policy, self.limit, signer);
        let adm = self.counter(Role::Adm, &policy, 10_000, signer);
        let puk = self.counter(Role::Puk, &policy, 10, signer);
        let digest = Sealed {
            birth,
            made_at_reset: self.made_at_reset,
            pin: &name_of(&pin.public),
            adm: self.has_adm.then_some(&name_of(&adm.public)),
            puk: self.has_puk.then_some(&name_of(&puk.public)),
            pin_limit: self.other_unblock_limit.unwrap_or(self.limit),
        }
        .content();
        let mut draft = self.draft(signer, 0x8014);
        draft.name = name_of(&sealed).to_vec();
        draft.offset = Some(0);
        draft.content = policy::name_from(digest).to_vec();
        let statement = self.sign(About::Sealed, draft);
        let mut indices = vec![
            Index {
                role: Role::Sealed,
                public: sealed,
                statement,
            },
            pin,
        ];
        indices.extend((self.has_adm && !self.hides_adm).then_some(adm));
        indices.extend(self.has_puk.then_some(puk));
        indices
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.bundle().encode();
        if let Some(mangle) = self.mangle {
            mangle(&mut bytes);
        }
        bytes
    }
}

/// What a verifier expects. The default is satisfied by the default maker.
pub(super) struct Expected {
    pub(super) nonce: Option<Vec<u8>>,
    pub(super) now: i64,
    pub(super) pins: Vec<Name>,
    pub(super) revoked: Vec<Revoked>,
    pub(super) requirements: Requirements,
}

impl Default for Expected {
    fn default() -> Self {
        Self {
            nonce: Some((0..32).collect()),
            now: NOW,
            pins: Vec::new(),
            revoked: Vec::new(),
            requirements: Requirements::default(),
        }
    }
}

impl Expected {
    pub(super) fn verify(&self, bytes: &[u8]) -> Result<Claims, Refusal> {
        self.verify_without(bytes, &[])
    }

    /// With some checks left out.
    pub(super) fn verify_without(&self, bytes: &[u8], skipped: &[Code]) -> Result<Claims, Refusal> {
        self.with_verifier(|verifier| verifier.verify_with(bytes, &Checks { skipped }))
    }

    /// Does something with the verifier.
    pub(super) fn with_verifier<T>(&self, run: impl FnOnce(&Verifier<'_>) -> T) -> T {
        run(&Verifier {
            trust: AttestationTrust {
                authorities: &[authority("Test CA", &CA)],
                intermediates: &[],
                pins: &self.pins,
                revoked: &self.revoked,
                ek_policies: &[(BY_CERTIFICATE, EkOrigin::Certificate)],
            },
            nonce: self.nonce.as_deref().map_or(Nonce::Any, Nonce::Exactly),
            now: self.now,
            requirements: self.requirements.clone(),
        })
    }
}
