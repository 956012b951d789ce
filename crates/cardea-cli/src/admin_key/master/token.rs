//! A master secret in a PKCS#11 token: a generic secret key of 32 bytes that signs by CKM_SHA256_HMAC.
//!
//! The file in a master secret's place has the key's URI (RFC 7512) with `module-path`, and perhaps `pin-source` as
//! a file; else the PIN is asked for.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::token::{Token, Uri};

/// How messages name it.
const WHAT: &str = "master secret";

/// The key in an open session.
pub(super) struct TokenKey {
    token: Token,
    key: ObjectHandle,
}

impl TokenKey {
    /// Finds the key and logs in to its token.
    pub(super) fn open(uri: &str) -> Result<Self, Failure> {
        let uri = Uri::parse(uri, WHAT, "secret-key").map_err(Failure::usage)?;
        let token = Token::open(&uri, WHAT)?;
        let kind = vec![Attribute::Class(ObjectClass::SECRET_KEY)];
        match token.find(&uri, kind)?.as_slice() {
            [key] => {
                let key = *key;
                Ok(Self { token, key })
            }
            [] => Err(Failure::new(
                Exit::NotFound,
                format!("token {} has no such secret key", token.label),
            )),
            _ => Err(Failure::usage(
                "more than one key matches the URI of the master secret: add object or id",
            )),
        }
    }

    pub(super) fn mac(&self, input: &[u8]) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let mac = self
            .token
            .session
            .sign(&Mechanism::Sha256Hmac, self.key, input)
            .map(Zeroizing::new)
            .map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("the token cannot compute an HMAC with the master secret: {error}"),
                )
            })?;
        match mac.as_slice().try_into() {
            Ok(mac) => Ok(Zeroizing::new(mac)),
            Err(_) => Err(Failure::new(
                Exit::Failed,
                "the token's HMAC is not 32 bytes long",
            )),
        }
    }
}
