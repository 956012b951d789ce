//! What an object is.

use std::sync::Arc;

use cardea_client::message::KeySummary;
use cardea_terms::{KeyClass, Origin, PublicKey};
use cryptoki_sys::*;
use zeroize::Zeroizing;

/// An object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) location: Location,
    pub(crate) label: String,
    /// `CKA_ID`, or `CKA_OBJECT_ID` of data.
    pub(crate) id: Vec<u8>,
    pub(crate) body: Body,
}

/// Where an object is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// On the card, with the key of this reference.
    Key(u8),
    /// In the module, the same for every token.
    Module,
    /// On the card, under this number.
    Object(u32),
    /// In this session.
    Session(CK_SESSION_HANDLE),
}

/// The content of an object, by class.
#[derive(Debug)]
pub(crate) enum Body {
    Certificate {
        der: Vec<u8>,
    },
    Data {
        application: String,
        value: Vec<u8>,
    },
    PrivateKey(Arc<Key>),
    Profile(CK_PROFILE_ID),
    PublicKey(Arc<Key>),
    Secret {
        kind: CK_KEY_TYPE,
        value: Zeroizing<Vec<u8>>,
        sensitive: bool,
    },
}

/// A key pair of the card, or a public key alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Absent for a public key of a session.
    pub(crate) reference: Option<u8>,
    pub(crate) generated: bool,
    pub(crate) always: bool,
    pub(crate) sign_only: bool,
    pub(crate) public: PublicKey,
    /// Subject of its certificate.
    pub(crate) subject: Vec<u8>,
}

impl Key {
    pub(crate) fn new(summary: &KeySummary, subject: Vec<u8>) -> Self {
        Self {
            reference: Some(summary.reference),
            generated: summary.origin == Origin::Generated,
            always: summary.class == KeyClass::Always,
            sign_only: summary.sign_only,
            public: summary.public.clone(),
            subject,
        }
    }

    /// Length in bytes of the modulus or of a coordinate.
    pub(crate) fn size(&self) -> usize {
        match &self.public {
            PublicKey::Rsa { modulus, .. } => modulus.len(),
            PublicKey::Ec { x, .. } => x.len(),
        }
    }

    /// Length in bytes of a signature; with RSA also of a cryptogram.
    pub(crate) fn result_length(&self) -> usize {
        match &self.public {
            PublicKey::Rsa { .. } => self.size(),
            PublicKey::Ec { .. } => 2 * self.size(),
        }
    }

    pub(crate) fn is_rsa(&self) -> bool {
        matches!(self.public, PublicKey::Rsa { .. })
    }
}

impl Object {
    /// Whether this is the same object as `before`, perhaps renamed, and so keeps its handle.
    pub(crate) fn continues(&self, before: &Self) -> bool {
        self.location == before.location
            && match (&self.body, &before.body) {
                (Body::PrivateKey(one), Body::PrivateKey(other))
                | (Body::PublicKey(one), Body::PublicKey(other)) => one.public == other.public,
                (Body::Certificate { der: one }, Body::Certificate { der: other }) => one == other,
                (Body::Data { .. }, Body::Data { .. }) => true,
                (Body::Profile(one), Body::Profile(other)) => one == other,
                _ => false,
            }
    }

    pub(crate) fn is_private(&self) -> bool {
        matches!(self.body, Body::PrivateKey(_))
    }

    pub(crate) fn is_on_card(&self) -> bool {
        matches!(self.location, Location::Key(_) | Location::Object(_))
    }
}
