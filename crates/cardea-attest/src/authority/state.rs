//! What an authority must know again when a challenge is answered. It travels with the challenge, under a MAC.

use hmac::{Hmac, KeyInit, Mac};
use minicbor::Decoder;
use sha2::Sha256;

use super::KnownTpm;
use crate::cbor::{EncodeError, Malformed, Read, Writer, bytes, encoded, fields};
use crate::exchange::RequestForm;
use crate::{EkOrigin, TpmIdentity};

const VERSION: &str = "cardea-ak-state-1";
/// Bytes of the MAC, HMAC with SHA-256, at the end.
const MAC: usize = 32;

pub(super) struct State {
    /// When the challenge was made.
    pub(super) time: i64,
    /// SHA-256 of the secret, which has 32 random bytes.
    pub(super) secret: [u8; 32],
    pub(super) attestation_key: Vec<u8>,
    pub(super) storage_root_key: Vec<u8>,
    pub(super) form: RequestForm,
    pub(super) tpm: KnownTpm,
    pub(super) card: Option<String>,
}

impl State {
    pub(super) fn seal(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut sealed = encoded(|e| self.write(e));
        if let Some(mac) = mac(key, &sealed) {
            sealed.extend_from_slice(&mac.finalize().into_bytes());
        }
        sealed
    }

    /// Nothing is read before the MAC was compared.
    pub(super) fn open(sealed: &[u8], key: &[u8; 32]) -> Option<Self> {
        let (content, found) = sealed.split_last_chunk::<MAC>()?;
        mac(key, content)?.verify_slice(found).ok()?;
        Self::read(&mut Decoder::new(content)).ok()
    }

    fn write(&self, e: &mut Writer) -> Result<(), EncodeError> {
        let tpm = &self.tpm;
        let optional = [tpm.root.is_some(), self.card.is_some()];
        let optional = optional.into_iter().filter(|there| *there).count();
        e.map(9 + u64::try_from(optional).unwrap_or_default())?;
        e.u8(0)?.str(VERSION)?;
        e.u8(1)?.i64(self.time)?;
        e.u8(2)?.bytes(&self.secret)?;
        e.u8(3)?.bytes(&self.attestation_key)?;
        e.u8(4)?.bytes(&self.storage_root_key)?;
        self.form.write(e.u8(5)?)?;
        e.u8(6)?.bytes(&tpm.pin)?;
        e.u8(7)?.u8(number(tpm.origin))?;
        let TpmIdentity {
            manufacturer,
            model,
            version,
        } = &tpm.identity;
        e.u8(8)?.array(3)?;
        e.str(manufacturer)?.str(model)?.str(version)?;
        if let Some(root) = &tpm.root {
            e.u8(9)?.str(shortened(root))?;
        }
        if let Some(card) = &self.card {
            e.u8(10)?.str(card)?;
        }
        Ok(())
    }

    fn read(d: &mut Decoder<'_>) -> Read<Self> {
        let (mut time, mut secret, mut ak, mut srk, mut form) = (None, None, None, None, None);
        let (mut pin, mut origin, mut identity) = (None, None, None);
        let (mut root, mut card) = (None, None);
        fields(d, |key, d| {
            match key {
                0 if d.str()? == VERSION => {}
                1 => time = Some(d.i64()?),
                2 => secret = d.bytes()?.try_into().ok(),
                3 => ak = Some(bytes(d)?),
                4 => srk = Some(bytes(d)?),
                5 => form = Some(RequestForm::read(d)?),
                6 => pin = d.bytes()?.try_into().ok(),
                7 => origin = origin_of(d.u8()?),
                8 => identity = Some(read_identity(d)?),
                9 => root = Some(d.str()?.to_owned()),
                10 => card = Some(d.str()?.to_owned()),
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        Ok(Self {
            time: time.ok_or(Malformed)?,
            secret: secret.ok_or(Malformed)?,
            attestation_key: ak.ok_or(Malformed)?,
            storage_root_key: srk.ok_or(Malformed)?,
            form: form.ok_or(Malformed)?,
            tpm: KnownTpm {
                pin: pin.ok_or(Malformed)?,
                origin: origin.ok_or(Malformed)?,
                root,
                identity: identity.ok_or(Malformed)?,
            },
            card,
        })
    }
}

fn read_identity(d: &mut Decoder<'_>) -> Read<TpmIdentity> {
    if d.array()? != Some(3) {
        return Err(Malformed);
    }
    Ok(TpmIdentity {
        manufacturer: d.str()?.to_owned(),
        model: d.str()?.to_owned(),
        version: d.str()?.to_owned(),
    })
}

/// The beginning of a long name: a state has a limit, and names of authorities have none.
fn shortened(text: &str) -> &str {
    let end = text.floor_char_boundary(512);
    text.get(..end).unwrap_or_default()
}

const fn number(origin: EkOrigin) -> u8 {
    match origin {
        EkOrigin::Certificate => 1,
        EkOrigin::Pin => 2,
        EkOrigin::FirstUse => 3,
    }
}

fn origin_of(number: u8) -> Option<EkOrigin> {
    let all = [EkOrigin::Certificate, EkOrigin::Pin, EkOrigin::FirstUse];
    all.into_iter()
        .find(|origin| self::number(*origin) == number)
}

/// HMAC takes keys of any length: there always is one.
fn mac(key: &[u8; 32], content: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(content);
    Some(mac)
}
