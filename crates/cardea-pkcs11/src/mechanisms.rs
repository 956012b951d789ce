//! The mechanisms: one row each. C_GetMechanismList, C_GetMechanismInfo and every function that takes a mechanism
//! read this table; nothing else in the module lists mechanisms.

use cardea_client::message::{Hash, KeyAlgorithm};
use cryptoki_sys::*;

use crate::hashes;
use crate::kdf::Kdf;
use crate::rv::{Result, Rv};

/// A mechanism of the module.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) kind: CK_MECHANISM_TYPE,
    pub(crate) keys: Keys,
    /// As in `CK_MECHANISM_INFO`; also which functions take the mechanism.
    pub(crate) flags: CK_FLAGS,
    pub(crate) form: Form,
    /// The hash that the module computes first, where the mechanism includes one.
    pub(crate) hash: Option<Hash>,
}

/// The keys of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    Ec,
    None,
    Rsa,
}

/// How the parameter of a mechanism is read, and so which operation the mechanism becomes.
#[derive(Debug)]
pub(crate) enum Form {
    /// `CK_ECDH1_DERIVE_PARAMS`: [`Scheme::Ecdh`].
    Ecdh,
    /// `CK_RSA_PKCS_OAEP_PARAMS`: [`Scheme::Oaep`].
    Oaep,
    /// No parameter. OpenSSL's and NSS's callers pass lengths for such mechanisms too, which are ignored.
    Plain(Scheme),
    /// `CK_RSA_PKCS_PSS_PARAMS`: [`Scheme::Pss`].
    Pss,
}

/// An operation with the values of its parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Digest,
    Ecdh {
        public: Vec<u8>,
        /// Absent: the shared secret itself (`CKD_NULL`).
        kdf: Option<Kdf>,
    },
    Ecdsa,
    KeyPair,
    Oaep {
        hash: Hash,
        mgf: Hash,
        label: Vec<u8>,
    },
    Pkcs1,
    Pss {
        hash: Hash,
        mgf: Hash,
        salt: usize,
    },
    Raw,
}

use Form::{Ecdh, Oaep, Plain, Pss};
use Scheme::{Digest, Ecdsa, KeyPair, Pkcs1, Raw};

/// The private half works in the TPM, the public half in the module.
const SIGN: CK_FLAGS = CKF_HW | CKF_SIGN | CKF_VERIFY;
const CRYPT: CK_FLAGS = CKF_HW | CKF_DECRYPT | CKF_ENCRYPT;
const WRAP: CK_FLAGS = CKF_WRAP | CKF_UNWRAP;
const GENERATE: CK_FLAGS = CKF_HW | CKF_GENERATE_KEY_PAIR;
const DERIVE: CK_FLAGS = CKF_HW | CKF_DERIVE;
const DIGEST: CK_FLAGS = CKF_DIGEST;

macro_rules! mechanisms {
    ($($kind:ident $keys:ident [$($flags:ident)|+] $form:ident $(($scheme:ident))? $($hash:ident)?;)+) => {
        /// All mechanisms, in the order of C_GetMechanismList.
        pub(crate) static MECHANISMS: &[Row] = &[$(Row {
            kind: $kind,
            keys: Keys::$keys,
            flags: Keys::$keys.flags() $(| $flags)+,
            form: $form $(($scheme))?,
            hash: mechanisms!(@hash $($hash)?),
        }),+];
    };
    (@hash) => { None };
    (@hash $hash:ident) => { Some(Hash::$hash) };
}

mechanisms! {
//  mechanism                  keys  functions             form            hash
    CKM_RSA_PKCS_KEY_PAIR_GEN  Rsa   [GENERATE]            Plain(KeyPair);
    CKM_RSA_PKCS               Rsa   [SIGN | CRYPT | WRAP] Plain(Pkcs1);
    CKM_RSA_X_509              Rsa   [SIGN | CRYPT]        Plain(Raw);
    CKM_RSA_PKCS_OAEP          Rsa   [CRYPT | WRAP]        Oaep;
    CKM_RSA_PKCS_PSS           Rsa   [SIGN]                Pss;
    CKM_SHA1_RSA_PKCS          Rsa   [SIGN]                Plain(Pkcs1)    Sha1;
    CKM_SHA256_RSA_PKCS        Rsa   [SIGN]                Plain(Pkcs1)    Sha256;
    CKM_SHA384_RSA_PKCS        Rsa   [SIGN]                Plain(Pkcs1)    Sha384;
    CKM_SHA512_RSA_PKCS        Rsa   [SIGN]                Plain(Pkcs1)    Sha512;
    CKM_SHA1_RSA_PKCS_PSS      Rsa   [SIGN]                Pss             Sha1;
    CKM_SHA256_RSA_PKCS_PSS    Rsa   [SIGN]                Pss             Sha256;
    CKM_SHA384_RSA_PKCS_PSS    Rsa   [SIGN]                Pss             Sha384;
    CKM_SHA512_RSA_PKCS_PSS    Rsa   [SIGN]                Pss             Sha512;
    CKM_EC_KEY_PAIR_GEN        Ec    [GENERATE]            Plain(KeyPair);
    CKM_ECDSA                  Ec    [SIGN]                Plain(Ecdsa);
    CKM_ECDSA_SHA1             Ec    [SIGN]                Plain(Ecdsa)    Sha1;
    CKM_ECDSA_SHA256           Ec    [SIGN]                Plain(Ecdsa)    Sha256;
    CKM_ECDSA_SHA384           Ec    [SIGN]                Plain(Ecdsa)    Sha384;
    CKM_ECDSA_SHA512           Ec    [SIGN]                Plain(Ecdsa)    Sha512;
    CKM_ECDH1_DERIVE           Ec    [DERIVE]              Ecdh;
    CKM_SHA_1                  None  [DIGEST]              Plain(Digest)   Sha1;
    CKM_SHA256                 None  [DIGEST]              Plain(Digest)   Sha256;
    CKM_SHA384                 None  [DIGEST]              Plain(Digest)   Sha384;
    CKM_SHA512                 None  [DIGEST]              Plain(Digest)   Sha512;
}

impl Keys {
    const fn flags(self) -> CK_FLAGS {
        match self {
            Self::Ec => CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS,
            Self::None | Self::Rsa => 0,
        }
    }

    /// Shortest and longest key in bits, of a card that has these algorithms.
    pub(crate) fn sizes(self, algorithms: &[KeyAlgorithm]) -> (CK_ULONG, CK_ULONG) {
        let bits = algorithms.iter().filter_map(|algorithm| match algorithm {
            KeyAlgorithm::P256 => (self == Self::Ec).then_some(256),
            KeyAlgorithm::P384 => (self == Self::Ec).then_some(384),
            KeyAlgorithm::Rsa2048 => (self == Self::Rsa).then_some(2048),
            KeyAlgorithm::Rsa3072 => (self == Self::Rsa).then_some(3072),
        });
        let (shortest, longest) = (bits.clone().min(), bits.max());
        (shortest.unwrap_or(0), longest.unwrap_or(0))
    }
}

/// The row of a mechanism.
pub(crate) fn find(kind: CK_MECHANISM_TYPE) -> Option<&'static Row> {
    MECHANISMS.iter().find(|row| row.kind == kind)
}

/// The mechanism that a program passed, with a copy of its parameter.
#[derive(Debug)]
pub(crate) struct Mechanism(Option<(&'static Row, Scheme)>);

impl Mechanism {
    pub(crate) fn new(row: &'static Row, scheme: Scheme) -> Self {
        Self(Some((row, scheme)))
    }

    /// A mechanism without a row. Which function refuses it, and when, depends on the function's other arguments.
    pub(crate) fn unknown() -> Self {
        Self(None)
    }

    /// The mechanism for a function whose flag this is (`CKF_SIGN`, `CKF_DERIVE`, …).
    pub(crate) fn for_function(self, flag: CK_FLAGS) -> Result<(&'static Row, Scheme)> {
        let known = self.0.filter(|(row, _)| row.flags & flag != 0);
        known.ok_or(Rv(CKR_MECHANISM_INVALID))
    }
}

impl Scheme {
    /// From the fields of `CK_ECDH1_DERIVE_PARAMS`.
    pub(crate) fn ecdh(public: &[u8], kdf: CK_EC_KDF_TYPE, shared: &[u8]) -> Result<Self> {
        let kdf = match (kdf, shared) {
            (CKD_NULL, []) => None,
            (kdf, shared) => Some(Kdf::new(kdf, shared).ok_or(Rv(CKR_MECHANISM_PARAM_INVALID))?),
        };
        Ok(Self::Ecdh {
            public: public.to_vec(),
            kdf,
        })
    }

    /// From the fields of `CK_RSA_PKCS_PSS_PARAMS`.
    pub(crate) fn pss(
        hash: CK_MECHANISM_TYPE,
        mgf: CK_RSA_PKCS_MGF_TYPE,
        salt: CK_ULONG,
    ) -> Result<Self> {
        let (hash, mgf) = hash_and_mask(hash, mgf)?;
        let salt = usize::try_from(salt).map_err(|_| Rv(CKR_MECHANISM_PARAM_INVALID))?;
        Ok(Self::Pss { hash, mgf, salt })
    }

    /// From the fields of `CK_RSA_PKCS_OAEP_PARAMS`.
    pub(crate) fn oaep(
        hash: CK_MECHANISM_TYPE,
        mgf: CK_RSA_PKCS_MGF_TYPE,
        label: Vec<u8>,
    ) -> Result<Self> {
        let (hash, mgf) = hash_and_mask(hash, mgf)?;
        Ok(Self::Oaep { hash, mgf, label })
    }
}

fn hash_and_mask(hash: CK_MECHANISM_TYPE, mgf: CK_RSA_PKCS_MGF_TYPE) -> Result<(Hash, Hash)> {
    let known = hashes::of_mechanism(hash).zip(hashes::of_mask(mgf));
    known.ok_or(Rv(CKR_MECHANISM_PARAM_INVALID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mechanism_has_one_row() {
        for row in MECHANISMS {
            let same = MECHANISMS.iter().filter(|other| other.kind == row.kind);
            assert_eq!(same.count(), 1, "{:X}", row.kind);
        }
    }

    #[test]
    fn every_hash_has_a_digest_mechanism_and_one_for_each_way_of_signing() {
        for hash in hashes::ALL {
            let rows = MECHANISMS.iter().filter(|row| row.hash == Some(*hash));
            let mut found: Vec<_> = rows.map(|row| format!("{:?}", row.form)).collect();
            found.sort();
            let wanted = ["Plain(Digest)", "Plain(Ecdsa)", "Plain(Pkcs1)", "Pss"];
            assert_eq!(found, wanted, "{hash:?}");
            let digest = MECHANISMS
                .iter()
                .find(|row| row.hash == Some(*hash) && row.flags == DIGEST);
            assert_eq!(
                digest.and_then(|row| hashes::of_mechanism(row.kind)),
                Some(*hash)
            );
        }
    }

    #[test]
    fn sizes_are_those_of_the_algorithms_that_the_card_has() {
        let few = [KeyAlgorithm::P256, KeyAlgorithm::Rsa2048];
        assert_eq!(Keys::Ec.sizes(&few), (256, 256));
        assert_eq!(Keys::Rsa.sizes(&few), (2048, 2048));
        assert_eq!(Keys::Ec.sizes(&KeyAlgorithm::ALL), (256, 384));
        assert_eq!(Keys::Rsa.sizes(&KeyAlgorithm::ALL), (2048, 3072));
        assert_eq!(Keys::None.sizes(&KeyAlgorithm::ALL), (0, 0));
    }

    #[test]
    fn functions_take_the_mechanisms_that_have_their_flag() {
        let mechanism =
            |kind| find(kind).map_or(Mechanism::unknown(), |row| Mechanism::new(row, Scheme::Raw));
        assert!(mechanism(CKM_RSA_PKCS).for_function(CKF_DECRYPT).is_ok());
        for (kind, flag) in [
            (CKM_SHA256_RSA_PKCS, CKF_DECRYPT),
            (CKM_ECDH1_DERIVE, CKF_SIGN),
            (CKM_RSA_PKCS, CKF_DIGEST),
            (CKM_AES_ECB, CKF_ENCRYPT),
        ] {
            let refused = mechanism(kind).for_function(flag).err();
            assert_eq!(refused, Some(Rv(CKR_MECHANISM_INVALID)), "{kind:X}");
        }
    }
}
