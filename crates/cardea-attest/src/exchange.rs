//! The messages between a card and an authority that certifies its attestation key: two round trips, by file, mail or
//! HTTP alike.
//!
//! A card sends a [`Request`]. The authority answers with a [`Challenge`], which only the TPM of that card opens; the
//! card returns an [`Answer`], and the authority the certificate ([`Issued`]).
//! Each is a deterministic CBOR map with its text at key 0, at most [`MAX_MESSAGE`] bytes long, and has one encoding.
//! Nothing in a message is believed because it can be read: the checks are the authority's.

use minicbor::Decoder;

use crate::bundle::{Statement, statement};
use crate::cbor::{
    EncodeError, Malformed, Read, Writer, bytes, encoded, fields, length, list, some_bytes,
    version, write_list,
};
use crate::policy::hash;
use crate::{Code, Refusal};

/// The media type of all messages.
pub const MEDIA_TYPE: &str = "application/cbor";

/// The largest message that is read, in bytes.
pub const MAX_MESSAGE: usize = 1 << 18;

const REQUEST: &str = "cardea-ak-request-1";
const CHALLENGE: &str = "cardea-ak-challenge-1";
const ANSWER: &str = "cardea-ak-answer-1";
const ISSUED: &str = "cardea-ak-certificate-1";

/// The most endorsement keys of a TPM: the low range has two, and the high range seven.
const MAX_ENDORSEMENT_KEYS: u64 = 9;
/// The most certificates of a key.
const MAX_CERTIFICATES: u64 = 8;
/// The longest TPMT_PUBLIC: four times that of an RSA key of 4096 bits.
const MAX_PUBLIC: usize = 2048;
/// The longest part of a credential.
const MAX_CREDENTIAL: usize = 1024;
/// The longest secret: the longest digest of a TPM.
const MAX_SECRET: usize = 64;
/// The longest state of an authority.
const MAX_STATE: usize = 8192;
/// The longest name of a card, as in card files.
const MAX_NAME: usize = 127;
/// The longest name of a TPM: four numbers of four letters.
const MAX_MODEL: usize = 16;

/// What a card asks for: a certificate for its attestation key (`cardea-ak-request-1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The attestation key's TPMT_PUBLIC.
    pub attestation_key: Vec<u8>,
    /// The TPM's endorsement keys, one at least; the authority chooses.
    pub endorsement_keys: Vec<OfferedKey>,
    /// The storage root key's TPMT_PUBLIC.
    pub storage_root_key: Vec<u8>,
    /// What the TPM says about itself. Nobody signs it.
    pub tpm: TpmDescription,
    /// How the card's policies are approved.
    pub form: RequestForm,
    /// What the card is called, for the authority's record.
    pub name: Option<String>,
}

/// An endorsement key, by which an authority can know the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedKey {
    /// Its TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// Its certificates, its own first; none if the TPM holds none.
    pub certificates: Vec<Vec<u8>>,
}

/// What a TPM says about itself: its fixed properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmDescription {
    /// `TPM_PT_MANUFACTURER`, four letters.
    pub manufacturer: [u8; 4],
    /// `TPM_PT_VENDOR_STRING_1` to `_4`, without the zeros behind them; may be empty.
    pub model: String,
    /// `TPM_PT_FIRMWARE_VERSION_1` and `_2`.
    pub firmware: u64,
    /// `TPM_PT_REVISION`, as 138 for 1.38.
    pub revision: u32,
}

/// How the policies of a card that asks are approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestForm {
    /// Form A: by the birth key's signatures.
    Approved,
    /// Form S: by the content of an index that can only be written before the TPM's next reset.
    Sealed {
        /// `resetCount` of the TPM when the card was made.
        made_at_reset: u32,
        /// The witness key's TPMT_PUBLIC.
        witness: Vec<u8>,
    },
}

/// What an authority wants to be opened (`cardea-ak-challenge-1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Which of the request's endorsement keys it is for, counted from 0.
    pub endorsement_key: u8,
    /// TPMS_ID_OBJECT: the parameter `credentialBlob` of TPM2_ActivateCredential, without the length before it.
    pub blob: Vec<u8>,
    /// The content of its parameter `secret`.
    pub seed: Vec<u8>,
    /// The authority's own, to be returned as it is.
    pub state: Vec<u8>,
}

/// What a card has opened, and what its attestation key says about itself (`cardea-ak-answer-1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What TPM2_ActivateCredential returned.
    pub secret: Vec<u8>,
    /// The challenge's.
    pub state: Vec<u8>,
    /// TPM2_Certify of the attestation key by itself, over [`answer_data`].
    pub attestation_key: Statement,
    /// For a card of form S: TPM2_Certify of the witness key by the attestation key, over [`answer_data`].
    pub witness: Option<Statement>,
}

/// What an authority has issued (`cardea-ak-certificate-1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Certificates, the attestation key's own first.
    pub certificates: Vec<Vec<u8>>,
}

/// What every statement of an answer says in its extraData.
#[must_use]
pub fn answer_data(secret: &[u8]) -> [u8; 32] {
    hash(&[ANSWER.as_bytes(), &[0], secret])
}

/// Which of the four messages bytes begin like, as `cardea-ak-request-1`: to say what was given in place of another.
#[must_use]
pub fn message_kind(bytes: &[u8]) -> Option<&'static str> {
    let found = version(bytes).ok()?;
    let kinds = [REQUEST, CHALLENGE, ANSWER, ISSUED];
    kinds.into_iter().find(|kind| *kind == found)
}

/// Gives a message its `encode` and `decode`.
macro_rules! message {
    ($name:ident, $version:ident, $text:literal) => {
        impl $name {
            /// The message as it is sent.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                encoded(|e| self.write(e))
            }

            #[doc = concat!("Reads a message `", $text, "`.")]
            ///
            /// # Errors
            /// [`Code::MessageSize`], [`Code::MessageVersion`] or [`Code::MessageForm`].
            pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
                decode(bytes, $version, Self::read, Self::encode)
            }
        }
    };
}

message!(Request, REQUEST, "cardea-ak-request-1");
message!(Challenge, CHALLENGE, "cardea-ak-challenge-1");
message!(Answer, ANSWER, "cardea-ak-answer-1");
message!(Issued, ISSUED, "cardea-ak-certificate-1");

/// Reads a message that must be of a version, and encoded as it would be here.
fn decode<T>(
    message: &[u8],
    expected: &str,
    read: impl FnOnce(&mut Decoder<'_>) -> Read<T>,
    encode: impl FnOnce(&T) -> Vec<u8>,
) -> Result<T, Refusal> {
    if message.len() > MAX_MESSAGE {
        return Err(Refusal::new(Code::MessageSize));
    }
    let malformed = |_| Refusal::new(Code::MessageForm);
    if version(message).map_err(malformed)? != expected {
        return Err(Refusal::new(Code::MessageVersion));
    }
    let read = read(&mut Decoder::new(message)).map_err(malformed)?;
    if encode(&read) != message {
        return Err(Refusal::new(Code::MessageForm));
    }
    Ok(read)
}

/// The text at key 0, which was compared before.
fn skip_version(d: &mut Decoder<'_>) -> Read<()> {
    d.str()?;
    Ok(())
}

fn public(d: &mut Decoder<'_>) -> Read<Vec<u8>> {
    some_bytes(d, MAX_PUBLIC)
}

impl Request {
    fn write(&self, e: &mut Writer) -> Result<(), EncodeError> {
        e.map(if self.name.is_some() { 7 } else { 6 })?;
        e.u8(0)?.str(REQUEST)?;
        e.u8(1)?.bytes(&self.attestation_key)?;
        e.u8(2)?.array(length(&self.endorsement_keys))?;
        for key in &self.endorsement_keys {
            e.map(2)?.u8(0)?.bytes(&key.public)?;
            write_list(e.u8(1)?, &key.certificates)?;
        }
        e.u8(3)?.bytes(&self.storage_root_key)?;
        e.u8(4)?.map(4)?;
        e.u8(0)?.bytes(&self.tpm.manufacturer)?;
        e.u8(1)?.str(&self.tpm.model)?;
        e.u8(2)?.u64(self.tpm.firmware)?;
        e.u8(3)?.u32(self.tpm.revision)?;
        self.form.write(e.u8(5)?)?;
        if let Some(name) = &self.name {
            e.u8(6)?.str(name)?;
        }
        Ok(())
    }

    fn read(d: &mut Decoder<'_>) -> Read<Self> {
        let (mut attestation_key, mut endorsement_keys) = (None, None);
        let (mut storage_root_key, mut tpm, mut form, mut name) = (None, None, None, None);
        fields(d, |key, d| {
            match key {
                0 => skip_version(d)?,
                1 => attestation_key = Some(public(d)?),
                2 => endorsement_keys = Some(list(d, MAX_ENDORSEMENT_KEYS, OfferedKey::read)?),
                3 => storage_root_key = Some(public(d)?),
                4 => tpm = Some(TpmDescription::read(d)?),
                5 => form = Some(RequestForm::read(d)?),
                6 => name = Some(card_name(d)?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        Ok(Self {
            attestation_key: attestation_key.ok_or(Malformed)?,
            endorsement_keys: endorsement_keys
                .filter(|keys| !keys.is_empty())
                .ok_or(Malformed)?,
            storage_root_key: storage_root_key.ok_or(Malformed)?,
            tpm: tpm.ok_or(Malformed)?,
            form: form.ok_or(Malformed)?,
            name,
        })
    }
}

fn card_name(d: &mut Decoder<'_>) -> Read<String> {
    let name = d.str()?;
    let is_name = (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    is_name.then(|| name.to_owned()).ok_or(Malformed)
}

impl OfferedKey {
    fn read(d: &mut Decoder<'_>) -> Read<Self> {
        let (mut area, mut certificates) = (None, None);
        fields(d, |key, d| {
            match key {
                0 => area = Some(public(d)?),
                1 => certificates = Some(list(d, MAX_CERTIFICATES, bytes)?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let (public, certificates) = area.zip(certificates).ok_or(Malformed)?;
        Ok(Self {
            public,
            certificates,
        })
    }
}

impl TpmDescription {
    fn read(d: &mut Decoder<'_>) -> Read<Self> {
        let (mut manufacturer, mut model, mut firmware, mut revision) = (None, None, None, None);
        fields(d, |key, d| {
            match key {
                0 => manufacturer = d.bytes()?.try_into().ok(),
                1 => model = Some(d.str()?).filter(|text| text.len() <= MAX_MODEL),
                2 => firmware = Some(d.u64()?),
                3 => revision = Some(d.u32()?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        Ok(Self {
            manufacturer: manufacturer.ok_or(Malformed)?,
            model: model.ok_or(Malformed)?.to_owned(),
            firmware: firmware.ok_or(Malformed)?,
            revision: revision.ok_or(Malformed)?,
        })
    }
}

/// The numbers of the forms, as in bundles.
const APPROVED: u8 = 1;
const SEALED: u8 = 2;

impl RequestForm {
    pub(crate) fn write(&self, e: &mut Writer) -> Result<(), EncodeError> {
        match self {
            Self::Approved => e.array(1)?.u8(APPROVED)?,
            Self::Sealed {
                made_at_reset,
                witness,
            } => {
                e.array(3)?.u8(SEALED)?;
                e.u32(*made_at_reset)?.bytes(witness)?
            }
        };
        Ok(())
    }

    pub(crate) fn read(d: &mut Decoder<'_>) -> Read<Self> {
        match (d.array()?, d.u8()?) {
            (Some(1), APPROVED) => Ok(Self::Approved),
            (Some(3), SEALED) => Ok(Self::Sealed {
                made_at_reset: d.u32()?,
                witness: public(d)?,
            }),
            _ => Err(Malformed),
        }
    }
}

impl Challenge {
    fn write(&self, e: &mut Writer) -> Result<(), EncodeError> {
        e.map(5)?.u8(0)?.str(CHALLENGE)?;
        e.u8(1)?.u8(self.endorsement_key)?;
        e.u8(2)?.bytes(&self.blob)?;
        e.u8(3)?.bytes(&self.seed)?;
        e.u8(4)?.bytes(&self.state)?;
        Ok(())
    }

    fn read(d: &mut Decoder<'_>) -> Read<Self> {
        let (mut endorsement_key, mut blob, mut seed, mut state) = (None, None, None, None);
        fields(d, |key, d| {
            match key {
                0 => skip_version(d)?,
                1 => endorsement_key = Some(d.u8()?),
                2 => blob = Some(some_bytes(d, MAX_CREDENTIAL)?),
                3 => seed = Some(some_bytes(d, MAX_CREDENTIAL)?),
                4 => state = Some(some_bytes(d, MAX_STATE)?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        Ok(Self {
            endorsement_key: endorsement_key
                .filter(|index| u64::from(*index) < MAX_ENDORSEMENT_KEYS)
                .ok_or(Malformed)?,
            blob: blob.ok_or(Malformed)?,
            seed: seed.ok_or(Malformed)?,
            state: state.ok_or(Malformed)?,
        })
    }
}

impl Answer {
    fn write(&self, e: &mut Writer) -> Result<(), EncodeError> {
        e.map(4)?.u8(0)?.str(ANSWER)?;
        e.u8(1)?.bytes(&self.secret)?;
        e.u8(2)?.bytes(&self.state)?;
        e.u8(3)?;
        e.array(if self.witness.is_some() { 2 } else { 1 })?;
        self.attestation_key.write(e)?;
        if let Some(witness) = &self.witness {
            witness.write(e)?;
        }
        Ok(())
    }

    fn read(d: &mut Decoder<'_>) -> Read<Self> {
        let (mut secret, mut state, mut statements) = (None, None, None);
        fields(d, |key, d| {
            match key {
                0 => skip_version(d)?,
                1 => secret = Some(some_bytes(d, MAX_SECRET)?),
                2 => state = Some(some_bytes(d, MAX_STATE)?),
                3 => statements = Some(list(d, 2, statement)?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let mut statements = statements.ok_or(Malformed)?.into_iter();
        Ok(Self {
            secret: secret.ok_or(Malformed)?,
            state: state.ok_or(Malformed)?,
            attestation_key: statements.next().ok_or(Malformed)?,
            witness: statements.next(),
        })
    }
}

impl Issued {
    fn write(&self, e: &mut Writer) -> Result<(), EncodeError> {
        e.map(2)?.u8(0)?.str(ISSUED)?;
        write_list(e.u8(1)?, &self.certificates)
    }

    fn read(d: &mut Decoder<'_>) -> Read<Self> {
        let mut certificates = None;
        fields(d, |key, d| {
            match key {
                0 => skip_version(d)?,
                1 => certificates = Some(list(d, MAX_CERTIFICATES, bytes)?),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        let certificates = certificates.filter(|chain: &Vec<_>| !chain.is_empty());
        Ok(Self {
            certificates: certificates.ok_or(Malformed)?,
        })
    }
}
