//! The evidence bundle: deterministic CBOR (RFC 8949, section 4.2).

use cardea_terms::MAX_KEYS;
use minicbor::Decoder;

use crate::cbor::{
    EncodeError, Malformed, Read, Writer, bytes, encoded, fields, length, list, version, write_list,
};
use crate::{Code, Refusal};

/// The largest bundle that is read, in bytes; that of a card with thirty recoverable RSA keys has a tenth of it.
pub const MAX_BUNDLE: usize = 1 << 20;

/// The text at key 0.
pub(crate) const VERSION: &str = "cardea-evidence-1";

/// What a card hands out about itself and its keys. Nothing of it is believed before [`crate::Verifier::verify`].
///
/// Bytes that a TPM signed or hashed are kept as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The verifier's nonce: at most 64 bytes, empty if the bundle is not about a moment.
    pub nonce: Vec<u8>,
    /// How the card's policies are approved.
    pub form: Form,
    /// The attestation key's TPMT_PUBLIC.
    pub attestation_key: Vec<u8>,
    /// Certificates of the attestation key, its own first.
    pub certificates: Vec<Vec<u8>>,
    /// The storage root key's TPMT_PUBLIC.
    pub storage_root_key: Vec<u8>,
    /// The birth key's TPMT_PUBLIC.
    pub birth_key: Vec<u8>,
    /// The card's NV indices, X first, then in the order of [`Role`].
    pub indices: Vec<Index>,
    /// The keys that the bundle is about.
    pub keys: Vec<Key>,
    /// A note for people. Anybody can change it.
    pub note: Option<String>,
}

/// How a card's policies are approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Form A: by the birth key's signatures.
    Approved,
    /// Form S: by the content of an index that can only be written before the TPM's next reset.
    Sealed {
        /// `resetCount` of the TPM when the card was made.
        made_at_reset: u32,
        /// The key that works after the next reset only; none in the boot in which the card was made.
        witness: Option<Witness>,
    },
}

/// The witness key of a sealed card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// TPM2_Certify of it by the attestation key.
    pub statement: Statement,
}

/// What an NV index of a card is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Counts wrong PINs.
    Pin,
    /// Counts wrong answers of the administrator.
    Adm,
    /// Counts wrong PUKs.
    Puk,
    /// Holds the approved policies of a sealed card.
    Sealed,
}

/// An NV index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// What it is for.
    pub role: Role,
    /// Its TPMS_NV_PUBLIC.
    pub public: Vec<u8>,
    /// TPM2_NV_Certify of all its content.
    pub statement: Statement,
}

/// A key of the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// TPM2_Certify of it.
    pub statement: Statement,
    /// How it was made. Must be there for a recoverable key.
    pub creation: Option<Creation>,
}

/// How a key was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// TPMS_CREATION_DATA.
    pub data: Vec<u8>,
    /// TPM2_CertifyCreation.
    pub statement: Statement,
    /// The TPMT_PUBLIC of each key by which it can be recovered, in rising order of their Names.
    pub targets: Vec<Vec<u8>>,
}

/// What a TPM signed about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// The longest nonce, in bytes.
pub const MAX_NONCE: usize = 64;
/// The most certificates of an attestation key.
const MAX_CERTIFICATES: u64 = 8;
/// The most targets of a recoverable key: a policy has eight branches, and one is the PIN's.
const MAX_TARGETS: u64 = 7;

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`Code::BundleSize`], [`Code::BundleForm`] or [`Code::BundleVersion`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let bundle = Self::decode_loosely(bytes, |code| Err(Refusal::new(code)))?;
        Ok(bundle)
    }

    /// Reads a bundle; what a check finds is reported, and is an error if the report says so.
    pub(crate) fn decode_loosely(
        bytes: &[u8],
        report: impl Fn(Code) -> Result<(), Refusal>,
    ) -> Result<Self, Refusal> {
        if bytes.len() > MAX_BUNDLE {
            report(Code::BundleSize)?;
        }
        let mut decoder = Decoder::new(bytes);
        let version_differs = version(bytes).is_ok_and(|version| version != VERSION);
        if version_differs {
            report(Code::BundleVersion)?;
        }
        let bundle = read(&mut decoder).map_err(|_| Refusal::new(Code::BundleForm))?;
        let encoded = bundle.encode();
        // One content has one form: the shortest numbers, no bytes behind it, indices in their order. A version that
        // was let through is not part of the comparison.
        if encoded != bytes && !version_differs {
            report(Code::BundleForm)?;
        }
        Ok(bundle)
    }

    /// The bundle as it is handed out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encoded(|e| self.write(e))
    }

    fn write(&self, e: &mut Writer) -> Result<(), EncodeError> {
        let (made_at_reset, witness) = match &self.form {
            Form::Approved => (None, None),
            Form::Sealed {
                made_at_reset,
                witness,
            } => (Some(*made_at_reset), witness.as_ref()),
        };
        let optional = [
            made_at_reset.is_some(),
            witness.is_some(),
            self.note.is_some(),
        ];
        let optional = optional.into_iter().filter(|there| *there);
        e.map(REQUIRED + u64::try_from(optional.count()).unwrap_or_default())?;
        e.u8(0)?.str(VERSION)?;
        e.u8(1)?.bytes(&self.nonce)?;
        e.u8(2)?.u8(if made_at_reset.is_some() {
            SEALED
        } else {
            APPROVED
        })?;
        e.u8(3)?.map(2)?.u8(0)?.bytes(&self.attestation_key)?;
        write_list(e.u8(1)?, &self.certificates)?;
        e.u8(4)?.bytes(&self.storage_root_key)?;
        e.u8(5)?.bytes(&self.birth_key)?;
        if let Some(count) = made_at_reset {
            e.u8(6)?.u32(count)?;
        }
        if let Some(witness) = witness {
            e.u8(7)?.map(2)?.u8(0)?.bytes(&witness.public)?;
            witness.statement.write(e.u8(1)?)?;
        }
        e.u8(8)?.array(length(&self.indices))?;
        for index in &self.indices {
            e.map(3)?.u8(0)?.u8(index.role.number())?;
            e.u8(1)?.bytes(&index.public)?;
            index.statement.write(e.u8(2)?)?;
        }
        e.u8(9)?.array(length(&self.keys))?;
        for key in &self.keys {
            e.map(if key.creation.is_some() { 3 } else { 2 })?;
            e.u8(0)?.bytes(&key.public)?;
            key.statement.write(e.u8(1)?)?;
            if let Some(creation) = &key.creation {
                e.u8(2)?;
                e.map(if creation.targets.is_empty() { 2 } else { 3 })?;
                e.u8(0)?.bytes(&creation.data)?;
                creation.statement.write(e.u8(1)?)?;
                if !creation.targets.is_empty() {
                    write_list(e.u8(2)?, &creation.targets)?;
                }
            }
        }
        if let Some(note) = &self.note {
            e.u8(10)?.str(note)?;
        }
        Ok(())
    }
}

/// Keys of a bundle that are always there: 0 to 5, 8 and 9.
const REQUIRED: u64 = 8;
/// The numbers of the forms.
const APPROVED: u8 = 1;
const SEALED: u8 = 2;

impl Role {
    const fn number(self) -> u8 {
        match self {
            Self::Pin => 0,
            Self::Adm => 1,
            Self::Puk => 2,
            Self::Sealed => 3,
        }
    }
}

impl Statement {
    pub(crate) fn write(&self, e: &mut Writer) -> Result<(), EncodeError> {
        e.array(2)?.bytes(&self.attest)?.bytes(&self.signature)?;
        Ok(())
    }
}

pub(crate) fn statement(d: &mut Decoder<'_>) -> Read<Statement> {
    let [attest, signature] = list(d, 2, bytes)?.try_into().map_err(|_| Malformed)?;
    Ok(Statement { attest, signature })
}

/// All fields of a bundle as they are read.
#[derive(Default)]
struct Parts {
    nonce: Option<Vec<u8>>,
    form: Option<u8>,
    attestation_key: Option<(Vec<u8>, Vec<Vec<u8>>)>,
    storage_root_key: Option<Vec<u8>>,
    birth_key: Option<Vec<u8>>,
    made_at_reset: Option<u32>,
    witness: Option<Witness>,
    indices: Option<Vec<Index>>,
    keys: Option<Vec<Key>>,
    note: Option<String>,
}

fn read(d: &mut Decoder<'_>) -> Read<Bundle> {
    let mut parts = Parts::default();
    let mut has_version = false;
    fields(d, |key, d| {
        match key {
            // Which one it is was checked before.
            0 => has_version = !d.str()?.is_empty(),
            1 => parts.nonce = Some(d.bytes()?.to_vec()).filter(|nonce| nonce.len() <= MAX_NONCE),
            2 => parts.form = Some(d.u8()?),
            3 => parts.attestation_key = Some(read_attestation_key(d)?),
            4 => parts.storage_root_key = Some(bytes(d)?),
            5 => parts.birth_key = Some(bytes(d)?),
            6 => parts.made_at_reset = Some(d.u32()?),
            7 => parts.witness = Some(read_witness(d)?),
            8 => parts.indices = Some(list(d, 4, read_index)?),
            9 => parts.keys = Some(list(d, MAX_KEYS as u64, read_key)?),
            10 => parts.note = Some(d.str()?.to_owned()),
            _ => return Err(Malformed),
        }
        Ok(())
    })?;
    if !has_version {
        return Err(Malformed);
    }
    parts.bundle().ok_or(Malformed)
}

impl Parts {
    fn bundle(self) -> Option<Bundle> {
        let form = match (self.form?, self.made_at_reset, self.witness) {
            (APPROVED, None, None) => Form::Approved,
            (SEALED, Some(made_at_reset), witness) => Form::Sealed {
                made_at_reset,
                witness,
            },
            _ => return None,
        };
        let indices = self.indices?;
        let roles: Vec<_> = indices.iter().map(|index| index.role).collect();
        let are_as_they_must = match form {
            Form::Approved => roles == [Role::Pin],
            Form::Sealed { .. } => matches!(
                roles[..],
                [Role::Sealed, Role::Pin]
                    | [Role::Sealed, Role::Pin, Role::Adm]
                    | [Role::Sealed, Role::Pin, Role::Puk]
                    | [Role::Sealed, Role::Pin, Role::Adm, Role::Puk]
            ),
        };
        let (attestation_key, certificates) = self.attestation_key?;
        are_as_they_must.then_some(Bundle {
            nonce: self.nonce?,
            form,
            attestation_key,
            certificates,
            storage_root_key: self.storage_root_key?,
            birth_key: self.birth_key?,
            indices,
            keys: self.keys?,
            note: self.note,
        })
    }
}

fn read_attestation_key(d: &mut Decoder<'_>) -> Read<(Vec<u8>, Vec<Vec<u8>>)> {
    let (mut public, mut certificates) = (None, None);
    fields(d, |key, d| {
        match key {
            0 => public = Some(bytes(d)?),
            1 => certificates = Some(list(d, MAX_CERTIFICATES, bytes)?),
            _ => return Err(Malformed),
        }
        Ok(())
    })?;
    public.zip(certificates).ok_or(Malformed)
}

fn read_witness(d: &mut Decoder<'_>) -> Read<Witness> {
    let (mut public, mut certified) = (None, None);
    fields(d, |key, d| {
        match key {
            0 => public = Some(bytes(d)?),
            1 => certified = Some(statement(d)?),
            _ => return Err(Malformed),
        }
        Ok(())
    })?;
    let (public, statement) = public.zip(certified).ok_or(Malformed)?;
    Ok(Witness { public, statement })
}

fn read_index(d: &mut Decoder<'_>) -> Read<Index> {
    let (mut role, mut public, mut certified) = (None, None, None);
    fields(d, |key, d| {
        match key {
            0 => {
                role = Some(match d.u8()? {
                    0 => Role::Pin,
                    1 => Role::Adm,
                    2 => Role::Puk,
                    3 => Role::Sealed,
                    _ => return Err(Malformed),
                });
            }
            1 => public = Some(bytes(d)?),
            2 => certified = Some(statement(d)?),
            _ => return Err(Malformed),
        }
        Ok(())
    })?;
    Ok(Index {
        role: role.ok_or(Malformed)?,
        public: public.ok_or(Malformed)?,
        statement: certified.ok_or(Malformed)?,
    })
}

fn read_key(d: &mut Decoder<'_>) -> Read<Key> {
    let (mut public, mut certified, mut creation) = (None, None, None);
    fields(d, |key, d| {
        match key {
            0 => public = Some(bytes(d)?),
            1 => certified = Some(statement(d)?),
            2 => creation = Some(read_creation(d)?),
            _ => return Err(Malformed),
        }
        Ok(())
    })?;
    Ok(Key {
        public: public.ok_or(Malformed)?,
        statement: certified.ok_or(Malformed)?,
        creation,
    })
}

fn read_creation(d: &mut Decoder<'_>) -> Read<Creation> {
    let (mut data, mut certified, mut targets) = (None, None, Vec::new());
    fields(d, |key, d| {
        match key {
            0 => data = Some(bytes(d)?),
            1 => certified = Some(statement(d)?),
            2 => targets = list(d, MAX_TARGETS, bytes)?,
            _ => return Err(Malformed),
        }
        Ok(())
    })?;
    Ok(Creation {
        data: data.ok_or(Malformed)?,
        statement: certified.ok_or(Malformed)?,
        targets,
    })
}
