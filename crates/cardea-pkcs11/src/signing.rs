//! Signing (PKCS#11 2.40 §5.11).

use cardea_client::message::{Hash, Operation, Reply, Request, SecretBytes};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::digests::{Hasher, digest, hash_of, hash_of_mgf, length, mgf1};
use crate::module::Module;
use crate::objects::Key;
use crate::rv::{Output, Result, Rv};

/// A mechanism with its parameters, copied.
#[derive(Debug)]
pub(crate) struct Mechanism {
    pub(crate) kind: CK_MECHANISM_TYPE,
    pub(crate) parameters: Parameters,
}

/// Parameters of the mechanisms that have some.
#[derive(Debug)]
pub(crate) enum Parameters {
    Ecdh { public: Vec<u8> },
    None,
    Oaep { hash: Hash, label: Vec<u8> },
    Pss { hash: Hash, mgf: Hash, salt: usize },
}

/// A signature in the making.
#[derive(Debug)]
pub(crate) struct Signing {
    key: Key,
    scheme: Scheme,
    input: Input,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Ecdsa,
    Pkcs1,
    Pss { hash: Hash, mgf: Hash, salt: usize },
    Raw,
}

#[derive(Debug)]
enum Input {
    /// The data itself.
    Data(Zeroizing<Vec<u8>>),
    /// Its hash.
    Hash(Hash, Box<Hasher>),
}

/// More than any input that is not hashed.
const MAX_INPUT: usize = 512;

impl Signing {
    fn new(key: Key, mechanism: &Mechanism) -> Result<Self> {
        let (scheme, hash) = match mechanism.kind {
            CKM_RSA_PKCS => (Scheme::Pkcs1, None),
            CKM_RSA_X_509 => (Scheme::Raw, None),
            CKM_SHA1_RSA_PKCS => (Scheme::Pkcs1, Some(Hash::Sha1)),
            CKM_SHA256_RSA_PKCS => (Scheme::Pkcs1, Some(Hash::Sha256)),
            CKM_SHA384_RSA_PKCS => (Scheme::Pkcs1, Some(Hash::Sha384)),
            CKM_SHA512_RSA_PKCS => (Scheme::Pkcs1, Some(Hash::Sha512)),
            CKM_RSA_PKCS_PSS => (pss(mechanism, None)?, None),
            CKM_SHA1_RSA_PKCS_PSS => (pss(mechanism, Some(Hash::Sha1))?, Some(Hash::Sha1)),
            CKM_SHA256_RSA_PKCS_PSS => (pss(mechanism, Some(Hash::Sha256))?, Some(Hash::Sha256)),
            CKM_SHA384_RSA_PKCS_PSS => (pss(mechanism, Some(Hash::Sha384))?, Some(Hash::Sha384)),
            CKM_SHA512_RSA_PKCS_PSS => (pss(mechanism, Some(Hash::Sha512))?, Some(Hash::Sha512)),
            CKM_ECDSA => (Scheme::Ecdsa, None),
            CKM_ECDSA_SHA1 => (Scheme::Ecdsa, Some(Hash::Sha1)),
            CKM_ECDSA_SHA256 => (Scheme::Ecdsa, Some(Hash::Sha256)),
            CKM_ECDSA_SHA384 => (Scheme::Ecdsa, Some(Hash::Sha384)),
            CKM_ECDSA_SHA512 => (Scheme::Ecdsa, Some(Hash::Sha512)),
            _ => return Err(Rv(CKR_MECHANISM_INVALID)),
        };
        if key.is_rsa() == (scheme == Scheme::Ecdsa) {
            return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
        }
        let input = match hash {
            Some(hash) => Input::Hash(hash, Box::new(Hasher::new(hash))),
            None => Input::Data(Zeroizing::new(Vec::with_capacity(MAX_INPUT))),
        };
        Ok(Self { key, scheme, input })
    }

    fn update(&mut self, data: &[u8]) -> Result {
        match &mut self.input {
            Input::Hash(_, hasher) => hasher.update(data),
            Input::Data(input) if input.len() + data.len() <= MAX_INPUT => {
                input.extend_from_slice(data);
            }
            Input::Data(_) => return Err(Rv(CKR_DATA_LEN_RANGE)),
        }
        Ok(())
    }

    fn length(&self) -> usize {
        if self.key.is_rsa() {
            self.key.size()
        } else {
            2 * self.key.size()
        }
    }

    fn operation(self) -> Result<Operation> {
        let size = self.key.size();
        let (hash, input) = match self.input {
            Input::Data(input) => (None, input),
            Input::Hash(hash, hasher) => (Some(hash), Zeroizing::new(hasher.finish())),
        };
        let block = |block: Vec<u8>| Operation::RsaRaw {
            block: SecretBytes::new(block),
        };
        match (self.scheme, hash) {
            (Scheme::Ecdsa, _) if input.is_empty() => Err(Rv(CKR_DATA_LEN_RANGE)),
            (Scheme::Ecdsa, _) => Ok(Operation::SignEcdsa {
                digest: input.to_vec(),
            }),
            (Scheme::Pkcs1, Some(hash)) => Ok(Operation::SignPkcs1 {
                hash,
                digest: input.to_vec(),
            }),
            (Scheme::Pkcs1, None) => match recognise(&input) {
                Some((hash, digest)) => Ok(Operation::SignPkcs1 {
                    hash,
                    digest: digest.to_vec(),
                }),
                None => pad(&input, size).map(block).ok_or(Rv(CKR_DATA_LEN_RANGE)),
            },
            (Scheme::Raw, _) => {
                let missing = size
                    .checked_sub(input.len())
                    .ok_or(Rv(CKR_DATA_LEN_RANGE))?;
                Ok(block([&vec![0; missing][..], &input].concat()))
            }
            (Scheme::Pss { hash, mgf, salt }, _) => {
                if input.len() != length(hash) {
                    return Err(Rv(CKR_DATA_LEN_RANGE));
                }
                if mgf == hash && salt == length(hash) {
                    return Ok(Operation::SignPss {
                        hash,
                        digest: input.to_vec(),
                    });
                }
                let mut random = vec![0; salt];
                getrandom::fill(&mut random).map_err(|_| Rv(CKR_DEVICE_ERROR))?;
                emsa_pss(&input, &random, hash, mgf, size)
                    .map(block)
                    .ok_or(Rv(CKR_MECHANISM_PARAM_INVALID))
            }
        }
    }
}

fn pss(mechanism: &Mechanism, wanted: Option<Hash>) -> Result<Scheme> {
    match mechanism.parameters {
        Parameters::Pss { hash, mgf, salt } if wanted.is_none_or(|wanted| wanted == hash) => {
            Ok(Scheme::Pss { hash, mgf, salt })
        }
        _ => Err(Rv(CKR_MECHANISM_PARAM_INVALID)),
    }
}

/// The parameters of PSS.
pub(crate) fn pss_parameters(
    hash: CK_MECHANISM_TYPE,
    mgf: CK_RSA_PKCS_MGF_TYPE,
    salt: CK_ULONG,
) -> Result<Parameters> {
    let invalid = || Rv(CKR_MECHANISM_PARAM_INVALID);
    Ok(Parameters::Pss {
        hash: hash_of(hash).ok_or_else(invalid)?,
        mgf: hash_of_mgf(mgf).ok_or_else(invalid)?,
        salt: usize::try_from(salt).map_err(|_| invalid())?,
    })
}

/// EMSA-PKCS1-v1_5 around the data as given (RFC 8017 §9.2).
fn pad(data: &[u8], size: usize) -> Option<Vec<u8>> {
    let padding = size.checked_sub(data.len() + 3).filter(|&n| n >= 8)?;
    Some([&[0, 1][..], &vec![0xFF; padding], &[0], data].concat())
}

/// A DigestInfo that the TPM would make itself: a signature of its own is one command, and its answer needs no
/// encryption.
fn recognise(data: &[u8]) -> Option<(Hash, &[u8])> {
    const SHA2: [u8; 9] = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 0];
    let sha2 = |last: u8, length: u8| {
        let mut oid = SHA2;
        oid[8] = last;
        let head = [
            &[0x30, 17 + length, 0x30, 13, 0x06, 9][..],
            &oid,
            &[5, 0, 4, length],
        ];
        head.concat()
    };
    let known = [
        (
            Hash::Sha1,
            vec![
                0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2B, 0x0E, 0x03, 0x02, 0x1A, 5, 0, 4, 20,
            ],
        ),
        (Hash::Sha256, sha2(1, 32)),
        (Hash::Sha384, sha2(2, 48)),
        (Hash::Sha512, sha2(3, 64)),
    ];
    known.into_iter().find_map(|(hash, prefix)| {
        let digest = data.strip_prefix(&prefix[..])?;
        (digest.len() == length(hash)).then_some((hash, digest))
    })
}

/// EMSA-PSS (RFC 8017 §9.1.1) for a modulus whose highest bit is set.
fn emsa_pss(m_hash: &[u8], salt: &[u8], hash: Hash, mgf: Hash, size: usize) -> Option<Vec<u8>> {
    let h = digest(hash, &[&[0; 8], m_hash, salt]);
    let db_length = size.checked_sub(h.len() + 1)?;
    let zeros = db_length.checked_sub(salt.len() + 1)?;
    let mut db = [&vec![0; zeros][..], &[1], salt].concat();
    let mask = mgf1(mgf, &h, db_length);
    db.iter_mut()
        .zip(mask.iter())
        .for_each(|(byte, mask)| *byte ^= mask);
    if let Some(first) = db.first_mut() {
        *first &= 0x7F;
    }
    Some([&db[..], &h, &[0xBC]].concat())
}

impl Module {
    /// C_SignInit.
    pub(crate) fn sign_begin(
        &mut self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
    ) -> Result {
        if self.session(session)?.signing.is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        let key = self.private_key(session, key)?;
        let signing = Signing::new(key, mechanism)?;
        self.session(session)?.signing = Some(signing);
        Ok(())
    }

    /// C_SignUpdate.
    pub(crate) fn sign_update(&mut self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result {
        let running = &mut self.session(session)?.signing;
        let signing = running.as_mut().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        let result = signing.update(data);
        if result.is_err() {
            *running = None;
        }
        result
    }

    /// C_SignFinal, or C_Sign with the data.
    pub(crate) fn sign_end(
        &mut self,
        session: CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        mut output: Output<'_>,
    ) -> Result {
        let running = &mut self.session(session)?.signing;
        let length = running
            .as_ref()
            .ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?
            .length();
        if !output.room(length)? {
            return Ok(());
        }
        let mut signing = running.take().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        if let Some(data) = data {
            signing.update(data)?;
        }
        let reference = signing.key.reference;
        let operation = signing.operation()?;
        output.put(&self.use_key(session, reference, operation)?)
    }

    /// One private operation, one round trip.
    pub(crate) fn use_key(
        &mut self,
        session: CK_SESSION_HANDLE,
        reference: u8,
        operation: Operation,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let card = self.slot_of(session)?.card.clone();
        let request = Request::UseKey {
            card,
            pin: None,
            reference,
            operation,
        };
        let answer = self.ask(&request, crate::rv::About::Data);
        match answer {
            Ok(Reply::Result(result)) => Ok(Zeroizing::new(result.expose().to_vec())),
            Ok(_) => Err(Rv(CKR_DEVICE_ERROR)),
            Err(error) => {
                if error == Rv(CKR_USER_NOT_LOGGED_IN) && !self.is_always(session, reference) {
                    self.slot_of(session)?.login = crate::module::LoginState::Nobody;
                }
                Err(error)
            }
        }
    }

    /// Whether a refusal is only about this key, which wants the PIN every time.
    fn is_always(&mut self, session: CK_SESSION_HANDLE, reference: u8) -> bool {
        self.slot_of(session).is_ok_and(|slot| {
            slot.objects.values().any(|object| {
                matches!(object, crate::objects::Object::PrivateKey(key)
                    if key.reference == reference && key.always)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_infos_of_the_four_hashes_are_recognised() {
        let info = [
            &[
                0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                0x01, 0x05, 0x00, 0x04, 0x20,
            ][..],
            &[7; 32],
        ]
        .concat();
        assert_eq!(recognise(&info), Some((Hash::Sha256, &[7; 32][..])));
        assert_eq!(recognise(&info[..50]), None);
        assert_eq!(recognise(&[0; 36]), None);
    }

    #[test]
    fn padding_leaves_eight_bytes_and_pss_room_for_its_salt() {
        assert_eq!(pad(&[1; 245], 256).unwrap().len(), 256);
        assert_eq!(pad(&[1; 246], 256), None);
        let encoded = emsa_pss(&[1; 32], &[2; 20], Hash::Sha256, Hash::Sha1, 256).unwrap();
        assert_eq!((encoded.len(), encoded[255]), (256, 0xBC));
        assert!(encoded[0] < 0x80);
        assert!(emsa_pss(&[1; 32], &[2; 300], Hash::Sha256, Hash::Sha256, 256).is_none());
    }
}
