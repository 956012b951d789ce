//! Private keys from outside, wrapped to the storage root key (TPM 2.0 Part 1 §23.3).

use cardea_card::record::{KeyRecord, ObjectBlob};
use cardea_card::secret::PrivateKey;
use cardea_card::token::{
    HashAlgorithm, KeyClass, KeyInfo, KeyOrigin, PrivateOperation, PublicKey,
};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use rsa::{BoxedUint, Pkcs1v15Sign};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::core::Core;
use crate::crypto::{
    SecretUse, StorageKey, Wrapped, inner_wrap, outer_wrap, sensitive_area, shared_secret,
};
use crate::error::{ResponseCode, TpmError};
use crate::operate::{self, require_own_tpm};
use crate::policy::{key_head, name_of};
use crate::random::random;
use crate::trusted_record::Anchor;
use crate::wire::Writer;

const ALG_RSA: u16 = 0x0001;
const ALG_ECC: u16 = 0x0023;

/// A key as TPM2_Import takes it.
pub(crate) struct Incoming {
    /// TPMT_PUBLIC.
    public: Vec<u8>,
    /// TPMT_SENSITIVE.
    sensitive: Zeroizing<Vec<u8>>,
}

impl Incoming {
    pub(crate) fn new(anchor: &Anchor, key: &PrivateKey, class: KeyClass) -> Self {
        let head = key_head(key.algorithm(), KeyOrigin::Imported, anchor.policy(class));
        let (kind, unique, secret) = match key {
            PrivateKey::Ec { scalar, x, y, .. } => {
                (ALG_ECC, Writer::new().sized(x).sized(y), scalar)
            }
            PrivateKey::Rsa { modulus, prime, .. } => {
                (ALG_RSA, Writer::new().sized(modulus), prime)
            }
        };
        let sensitive = Writer::new()
            .u16(kind)
            .sized(&[])
            .sized(&[])
            .sized(secret)
            .finish();
        Self {
            public: [&head[..], &unique.finish()[..]].concat(),
            sensitive: Zeroizing::new(sensitive.to_vec()),
        }
    }
}

/// Imports a key, and loads it, whereby the TPM compares its public and private parts.
pub(crate) fn import(
    core: &mut Core,
    anchor: &Anchor,
    reference: u8,
    incoming: &Incoming,
) -> Result<KeyRecord, TpmError> {
    require_own_tpm(core, anchor)?;
    core.channel()?;
    core.room_for_key()?;
    let (tpm, srk, channel) = core.link()?.parts()?;
    let inner_key = inner_key();
    let wrapped = wrap(&srk.key, inner_key.as_deref(), incoming)?;
    let private = tpm
        .import(
            srk,
            channel,
            inner_key.as_deref(),
            &incoming.public,
            &wrapped,
        )
        .map_err(mismatch)?;
    core.load(&private, &incoming.public).map_err(mismatch)?;
    let key = KeyRecord {
        reference,
        object: ObjectBlob {
            private,
            public: incoming.public.clone(),
        },
        creation_hash: Vec::new(),
        creation_ticket: Vec::new(),
        label: None,
        client_id: None,
        certificate_label: None,
        inner_wrapped: Some(inner_key.is_some()),
        creation_data: None,
        recovery: None,
    };
    match anchor.describe(&key) {
        Some(_) => Ok(key),
        None => Err(TpmError::Mismatch),
    }
}

/// Signs once with an imported RSA key, if its PIN is verified for the session, and verifies the signature: from here
/// on the key is relied on, and the original may be destroyed. Keys that want the PIN every time are left out, whose
/// one operation is the user's.
pub(crate) fn check_signature(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    key: &KeyRecord,
) -> Result<(), TpmError> {
    let Some(KeyInfo {
        algorithm,
        class: KeyClass::Session,
        public: PublicKey::Rsa { modulus, exponent },
        ..
    }) = anchor.describe(key)
    else {
        return Ok(());
    };
    let digest: [u8; 32] = Sha256::digest(&modulus).into();
    let operation = PrivateOperation::SignPkcs1 {
        hash: HashAlgorithm::Sha256,
        digest: &digest,
    };
    let signature = operate::operate(
        core,
        card,
        anchor,
        key,
        KeyClass::Session,
        algorithm.size(),
        operation,
    )?;
    let Some(signature) = signature else {
        return Ok(());
    };
    let number = |bytes: &[u8]| {
        let bits = u32::try_from(bytes.len() * 8).unwrap_or(u32::MAX);
        BoxedUint::from_be_slice(bytes, bits).map_err(|_| TpmError::Mismatch)
    };
    let public = rsa::PublicKey::new(number(&modulus)?, BoxedUint::from(u64::from(exponent)))
        .map_err(|_| TpmError::Mismatch)?;
    public
        .verify(Pkcs1v15Sign::new::<Sha256>(), &digest, &signature)
        .map_err(|_| TpmError::Mismatch)
}

/// The key of the inner wrap, good for one import.
fn inner_key() -> Option<Zeroizing<[u8; 16]>> {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::NoInnerWrap) {
        return None;
    }
    let mut key = Zeroizing::new([0; 16]);
    random(&mut *key);
    Some(key)
}

/// Wraps a key for the storage root key, within a wrap that this key cannot take off.
///
/// TPM2_Rewrap takes the outer wrap off for anybody who gives the storage root key's authorisation, which is empty:
/// without the inner wrap, a recording of the command and the TPM would give the private key away.
fn wrap(
    parent: &StorageKey,
    inner_key: Option<&[u8; 16]>,
    incoming: &Incoming,
) -> Result<Wrapped, TpmError> {
    let (outer_seed, seed) =
        shared_secret(parent, SecretUse::Duplicate, &mut random).ok_or(TpmError::Protocol {
            command: "Import",
            what: "the storage root key is an impossible one",
        })?;
    let name = name_of(&incoming.public);
    let mut area = sensitive_area(&incoming.sensitive);
    if let Some(key) = inner_key {
        area = inner_wrap(key, &name, &area);
    }
    Ok(Wrapped {
        private: outer_wrap(&outer_seed, &name, &area),
        seed,
    })
}

/// Whatever a TPM finds wrong with an object that was wrapped to it just now is wrong with its parts.
fn mismatch(error: TpmError) -> TpmError {
    match error.code() {
        Some(
            ResponseCode::BINDING
            | ResponseCode::ECC_POINT
            | ResponseCode::INTEGRITY
            | ResponseCode::KEY_SIZE
            | ResponseCode::RANGE
            | ResponseCode::SIZE
            | ResponseCode::VALUE,
        ) => TpmError::Mismatch,
        _ => error,
    }
}
