//! A master secret in a PKCS#11 token: a generic secret key of 32 bytes that signs by CKM_SHA256_HMAC.
//!
//! The file in a master secret's place has the key's URI (RFC 7512) with `module-path`, and perhaps `pin-source` as
//! a file; else the PIN is asked for.

use std::path::PathBuf;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::terminal::secret::{self, Source};

/// What such URIs begin with.
pub(super) const SCHEME: &str = "pkcs11:";

/// The key in an open session.
pub(super) struct TokenKey {
    session: Session,
    key: ObjectHandle,
}

/// The attributes of a URI that are used.
#[derive(Debug, Default, PartialEq, Eq)]
struct Uri {
    module: Option<PathBuf>,
    pin: Option<PathBuf>,
    token: Option<String>,
    serial: Option<String>,
    object: Option<String>,
    id: Option<Vec<u8>>,
}

impl TokenKey {
    /// Finds the key and logs in to its token.
    pub(super) fn open(uri: &str) -> Result<Self, Failure> {
        let uri = Uri::parse(uri).map_err(Failure::usage)?;
        let module = uri.module.as_ref().ok_or_else(|| {
            Failure::usage(
                "the URI of the master secret has no module-path, which names the PKCS#11 module",
            )
        })?;
        let failed = |error: cryptoki::error::Error| {
            Failure::new(
                Exit::Failed,
                format!("the PKCS#11 token with the master secret: {error}"),
            )
        };
        let context = Pkcs11::new(module).map_err(failed)?;
        context
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(failed)?;
        let slots = context.get_slots_with_token().map_err(failed)?;
        let mut fitting = Vec::new();
        for slot in slots {
            let token = context.get_token_info(slot).map_err(failed)?;
            let is = |wanted: &Option<String>, found: &str| {
                wanted.as_ref().is_none_or(|wanted| wanted == found)
            };
            if is(&uri.token, token.label()) && is(&uri.serial, token.serial_number()) {
                fitting.push((slot, token.label().to_owned()));
            }
        }
        let (slot, label) = match fitting.as_slice() {
            [one] => one,
            [] => {
                return Err(Failure::new(
                    Exit::NotFound,
                    "the token with the master secret was not found",
                ));
            }
            _ => {
                return Err(Failure::usage(
                    "more than one token matches the URI of the master secret: add token or serial",
                ));
            }
        };
        let session = context.open_ro_session(*slot).map_err(failed)?;
        let pin = pin(&uri, label)?;
        session
            .login(UserType::User, Some(&pin))
            .map_err(|error| match error {
                cryptoki::error::Error::Pkcs11(cryptoki::error::RvError::PinIncorrect, _) => {
                    Failure::new(Exit::PinWrong, format!("wrong PIN for token {label}"))
                }
                cryptoki::error::Error::Pkcs11(cryptoki::error::RvError::PinLocked, _) => {
                    Failure::new(
                        Exit::Blocked,
                        format!("the PIN of token {label} is blocked"),
                    )
                }
                error => failed(error),
            })?;
        let mut template = vec![Attribute::Class(ObjectClass::SECRET_KEY)];
        template.extend(uri.object.map(|object| Attribute::Label(object.into())));
        template.extend(uri.id.map(Attribute::Id));
        let keys = session.find_objects(&template).map_err(failed)?;
        match keys.as_slice() {
            [key] => {
                let key = *key;
                Ok(Self { session, key })
            }
            [] => Err(Failure::new(
                Exit::NotFound,
                format!("token {label} has no such secret key"),
            )),
            _ => Err(Failure::usage(
                "more than one key matches the URI of the master secret: add object or id",
            )),
        }
    }

    pub(super) fn mac(&self, input: &[u8]) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let mac = self
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

fn pin(uri: &Uri, label: &str) -> Result<cryptoki::types::AuthPin, Failure> {
    let source = Source {
        file: uri.pin.as_deref(),
        fd: None,
        options: "`pin-source` in the URI",
    };
    let pin = secret::present(&format!("PIN of token {label}"), &source)?;
    let text = std::str::from_utf8(pin.expose())
        .map_err(|_| Failure::usage("the token's PIN is not valid UTF-8"))?;
    Ok(cryptoki::types::AuthPin::new(text.into()))
}

impl Uri {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "the master secret's file does not contain a PKCS#11 URI (RFC 7512)".to_owned();
        let rest = text.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        let attributes = path.split(';').chain(query.split('&'));
        for attribute in attributes.filter(|attribute| !attribute.is_empty()) {
            let (name, value) = attribute.split_once('=').ok_or_else(wrong)?;
            let bytes = unescaped(value).ok_or_else(wrong)?;
            let text = || String::from_utf8(bytes.clone()).map_err(|_| wrong());
            match name {
                "id" => uri.id = Some(bytes),
                "module-path" => uri.module = Some(text()?.into()),
                "object" => uri.object = Some(text()?),
                "pin-source" => {
                    let source = text()?;
                    let path = source.strip_prefix("file:").unwrap_or(&source);
                    uri.pin = Some(path.trim_start_matches("//").into());
                }
                "serial" => uri.serial = Some(text()?),
                "token" => uri.token = Some(text()?),
                "type" if bytes == b"secret-key" => {}
                "type" => return Err("the URI of a master secret must have type=secret-key".into()),
                "pin-value" => {
                    return Err("a PIN does not belong in a URI: use pin-source".into());
                }
                other => {
                    return Err(format!(
                        "unknown attribute {other} in the URI of the master secret"
                    ));
                }
            }
        }
        Ok(uri)
    }
}

/// The bytes behind percent-encoding.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high << 4 | low).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_names_module_token_and_key() {
        let uri = "pkcs11:token=Help%20desk;object=master;id=%01%AB;type=secret-key?module-path=/lib/m.so&pin-source=file:/etc/pin";
        assert_eq!(
            Uri::parse(uri),
            Ok(Uri {
                module: Some("/lib/m.so".into()),
                pin: Some("/etc/pin".into()),
                token: Some("Help desk".into()),
                serial: None,
                object: Some("master".into()),
                id: Some(vec![1, 0xAB]),
            })
        );
    }

    #[test]
    fn uri_of_something_else_is_refused() {
        for uri in [
            "http:token=a",
            "pkcs11:token",
            "pkcs11:token=%4",
            "pkcs11:token=%zz",
            "pkcs11:type=private",
            "pkcs11:token=a?pin-value=1234",
            "pkcs11:color=red",
        ] {
            assert!(Uri::parse(uri).is_err(), "{uri}");
        }
    }
}
