//! Tokens of any maker, by their PKCS#11 modules, and the keys in them that a URI names.

mod uri;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;

pub(crate) use self::uri::{SCHEME, Uri};
use crate::exit::{Exit, Failure};
use crate::terminal::secret::{self, Source};

/// A token to which somebody has logged in.
pub(crate) struct Token {
    pub(crate) session: Session,
    /// The token's name.
    pub(crate) label: String,
    what: &'static str,
}

impl Token {
    /// Finds the token of a URI with a `module-path` and logs in. `what` is the key in it, as messages name it.
    pub(crate) fn open(uri: &Uri, what: &'static str) -> Result<Self, Failure> {
        let module = uri.module.as_ref().ok_or_else(|| {
            Failure::usage(format!(
                "the URI of the {what} has no module-path, which names the PKCS#11 module"
            ))
        })?;
        let failed = |error: Error| {
            Failure::new(
                Exit::Failed,
                format!("the PKCS#11 token with the {what}: {error}"),
            )
        };
        let context = Pkcs11::new(module).map_err(failed)?;
        context
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(failed)?;
        let (slot, label) = only(fitting(&context, uri).map_err(failed)?, what)?;
        let session = context.open_ro_session(slot).map_err(failed)?;
        let pin = pin(uri, &label)?;
        session
            .login(UserType::User, Some(&pin))
            .map_err(|error| match error {
                Error::Pkcs11(RvError::PinIncorrect, _) => {
                    Failure::new(Exit::PinWrong, format!("wrong PIN for token {label}"))
                }
                Error::Pkcs11(RvError::PinLocked, _) => Failure::new(
                    Exit::Blocked,
                    format!("the PIN of token {label} is blocked"),
                ),
                error => failed(error),
            })?;
        Ok(Self {
            session,
            label,
            what,
        })
    }

    /// The token's objects of this kind that the URI names.
    pub(crate) fn find(
        &self,
        uri: &Uri,
        mut kind: Vec<Attribute>,
    ) -> Result<Vec<ObjectHandle>, Failure> {
        let object = uri.object.clone();
        kind.extend(object.map(|object| Attribute::Label(object.into())));
        kind.extend(uri.id.clone().map(Attribute::Id));
        let found = self.session.find_objects(&kind);
        found.map_err(|error| self.failed(&error))
    }

    /// Why the token has not done something.
    pub(crate) fn failed(&self, error: &Error) -> Failure {
        Failure::new(
            Exit::Failed,
            format!("the PKCS#11 token with the {}: {error}", self.what),
        )
    }
}

/// The tokens that the URI names, with their labels.
fn fitting(context: &Pkcs11, uri: &Uri) -> Result<Vec<(Slot, String)>, Error> {
    let mut fitting = Vec::new();
    for slot in context.get_slots_with_token()? {
        let token = context.get_token_info(slot)?;
        if names(uri, &token) {
            fitting.push((slot, token.label().to_owned()));
        }
    }
    Ok(fitting)
}

fn names(uri: &Uri, token: &TokenInfo) -> bool {
    uri.is_token(
        token.label(),
        token.serial_number(),
        token.manufacturer_id(),
        token.model(),
    )
}

fn only(fitting: Vec<(Slot, String)>, what: &str) -> Result<(Slot, String), Failure> {
    let mut fitting = fitting.into_iter();
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::new(
            Exit::NotFound,
            format!("the token with the {what} was not found"),
        )),
        _ => Err(Failure::usage(format!(
            "more than one token matches the URI of the {what}: add token or serial"
        ))),
    }
}

fn pin(uri: &Uri, label: &str) -> Result<AuthPin, Failure> {
    let source = Source {
        file: uri.pin.as_deref(),
        fd: None,
        options: "`pin-source` in the URI",
    };
    let pin = secret::present(&format!("PIN of token {label}"), &source)?;
    let text = std::str::from_utf8(pin.expose())
        .map_err(|_| Failure::usage("the token's PIN is not valid UTF-8"))?;
    Ok(AuthPin::new(text.into()))
}
