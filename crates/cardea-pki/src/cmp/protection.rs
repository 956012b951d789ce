//! Protection of messages by a shared secret (RFC 9810, section 5.1.3.1).

use der::asn1::ObjectIdentifier;
use hmac::{Hmac, KeyInit};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::asn1::{self, Reader};
use crate::{Error, oid};

/// More rounds than this are refused: they would be the peer's choice of our work.
pub const MAX_ITERATIONS: u64 = 1_000_000;

/// The MAC at the end of a derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mac {
    /// HMAC with SHA-1: what OpenSSL 3.0 sends.
    HmacSha1,
    /// HMAC with SHA-256.
    HmacSha256,
}

/// How a secret becomes a MAC: PasswordBasedMac with SHA-256 as its one-way function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretProtection {
    /// Random bytes.
    pub salt: Vec<u8>,
    /// Rounds of the one-way function.
    pub iterations: u64,
    /// The MAC.
    pub mac: Mac,
}

impl SecretProtection {
    /// The AlgorithmIdentifier.
    pub(super) fn to_der(&self) -> Vec<u8> {
        // What others write, RFC 9481 the one and RFC 4210 the other.
        let mac = match self.mac {
            Mac::HmacSha1 => oid::CMP_HMAC_SHA1,
            Mac::HmacSha256 => oid::HMAC_SHA256,
        };
        let parameters = asn1::sequence(&[
            asn1::element(asn1::TAG_OCTET_STRING, &self.salt),
            algorithm(oid::SHA256),
            asn1::unsigned(&self.iterations.to_be_bytes()),
            algorithm(mac),
        ]);
        asn1::sequence(&[asn1::oid(oid::PASSWORD_BASED_MAC), parameters])
    }

    /// Reads an AlgorithmIdentifier; none for another algorithm.
    pub(super) fn parse(der: &[u8]) -> Result<Option<Self>, Error> {
        let mut outer = Reader::whole(der, WHAT)?;
        if outer.dotted_oid()? != oid::PASSWORD_BASED_MAC.to_string() {
            return Ok(None);
        }
        let mut parameters = outer.sequence()?;
        let salt = parameters.octets()?.to_vec();
        let one_way = parameters.sequence()?.oid()?;
        let iterations = parameters.small()?;
        let mac = parameters.sequence()?.oid()?;
        if one_way != oid::SHA256 {
            return Err(Error::Unsupported(format!(
                "a derivation of MAC keys by {}",
                oid::describe(one_way)
            )));
        }
        if iterations > MAX_ITERATIONS {
            return Err(Error::CostTooHigh {
                what: "rounds of a password-based MAC",
                asked: iterations,
                limit: MAX_ITERATIONS,
            });
        }
        let mac = match mac {
            oid::CMP_HMAC_SHA1 | oid::HMAC_SHA1 => Mac::HmacSha1,
            oid::HMAC_SHA256 => Mac::HmacSha256,
            other => {
                return Err(Error::Unsupported(format!(
                    "protection by {}",
                    oid::describe(other)
                )));
            }
        };
        Ok(Some(Self {
            salt,
            iterations,
            mac,
        }))
    }

    /// The MAC of a message's protected part.
    #[must_use]
    pub fn protect(&self, secret: &[u8], protected_part: &[u8]) -> Vec<u8> {
        let mut start = Zeroizing::new(Vec::with_capacity(secret.len() + self.salt.len()));
        start.extend_from_slice(secret);
        start.extend_from_slice(&self.salt);
        let mut key = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(&*start)));
        for _ in 1..self.iterations {
            *key = Sha256::digest(*key).into();
        }
        match self.mac {
            Mac::HmacSha1 => mac::<Hmac<Sha1>>(&*key, protected_part),
            Mac::HmacSha256 => mac::<Hmac<Sha256>>(&*key, protected_part),
        }
    }

    /// Whether this is the MAC of a message's protected part.
    pub(super) fn verifies(&self, secret: &[u8], protected_part: &[u8], found: &[u8]) -> bool {
        self.protect(secret, protected_part).ct_eq(found).into()
    }
}

const WHAT: &str = "protection of a CMP message";

fn algorithm(kind: ObjectIdentifier) -> Vec<u8> {
    // Without NULL, as OpenSSL writes it.
    asn1::sequence(&[asn1::oid(kind)])
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn mac<M: KeyInit + hmac::Mac>(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("any length");
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}
