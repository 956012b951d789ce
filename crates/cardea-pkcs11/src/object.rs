//! What an object is.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardea_client::message::KeySummary;
use cardea_terms::{KeyClass, Origin, PublicKey};
use cryptoki_sys::*;
use zeroize::Zeroizing;

/// Attributes that an object of a session keeps as they were given.
pub(crate) type Given = BTreeMap<CK_ATTRIBUTE_TYPE, Vec<u8>>;

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) location: Location,
    pub(crate) label: String,
    /// `CKA_ID`, or `CKA_OBJECT_ID` of data.
    pub(crate) id: Vec<u8>,
    /// Empty for an object on the card.
    pub(crate) given: Given,
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
#[derive(Clone, Debug)]
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

/// What the daemon calls a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyReference {
    /// One of the card's.
    Card(u8),
    /// One of a session.
    Session(u64),
}

/// A key pair of the card or of a session, or a public key alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Absent for a public key alone.
    pub(crate) reference: Option<KeyReference>,
    pub(crate) generated: bool,
    /// Whether others have copies, and may have brought it back elsewhere.
    pub(crate) is_recoverable: bool,
    pub(crate) always: bool,
    pub(crate) sign_only: bool,
    pub(crate) public: PublicKey,
    /// Subject of its certificate.
    pub(crate) subject: Vec<u8>,
}

impl Key {
    /// One that a card has made, with a number as its public half.
    #[cfg(test)]
    pub(crate) fn for_test(reference: KeyReference, public: u8) -> Self {
        Self {
            reference: Some(reference),
            generated: true,
            is_recoverable: false,
            always: false,
            sign_only: false,
            public: PublicKey::Ec {
                x: vec![public; 32],
                y: vec![7; 32],
            },
            subject: Vec::new(),
        }
    }

    pub(crate) fn new(summary: &KeySummary, subject: Vec<u8>) -> Self {
        Self {
            reference: Some(KeyReference::Card(summary.reference)),
            generated: summary.origin == Origin::Generated,
            is_recoverable: summary.recovery.is_some(),
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
        // A certificate moves between its key's container and the other objects.
        if let (Body::Certificate { der: one }, Body::Certificate { der: other }) =
            (&self.body, &before.body)
        {
            return one == other && self.is_on_card() && before.is_on_card();
        }
        self.location == before.location
            && match (&self.body, &before.body) {
                (Body::PrivateKey(one), Body::PrivateKey(other))
                | (Body::PublicKey(one), Body::PublicKey(other)) => one.public == other.public,
                (Body::Data { .. }, Body::Data { .. }) => true,
                (Body::Profile(one), Body::Profile(other)) => one == other,
                _ => false,
            }
    }

    pub(crate) fn is_private(&self) -> bool {
        matches!(self.body, Body::PrivateKey(_)) || self.is_given(CKA_PRIVATE, CK_TRUE)
    }

    /// Whether a boolean attribute was given with this value.
    pub(crate) fn is_given(&self, kind: CK_ATTRIBUTE_TYPE, value: CK_BBOOL) -> bool {
        self.given.get(&kind).is_some_and(|given| *given == [value])
    }

    /// The name of the session key that the object is.
    pub(crate) fn session_key(&self) -> Option<u64> {
        match &self.body {
            Body::PrivateKey(key) => match key.reference {
                Some(KeyReference::Session(name)) => Some(name),
                Some(KeyReference::Card(_)) | None => None,
            },
            _ => None,
        }
    }

    /// Approximate size of the content.
    pub(crate) fn size(&self) -> usize {
        let content = match &self.body {
            Body::Certificate { der } => der.len(),
            Body::Data { application, value } => application.len() + value.len(),
            Body::PrivateKey(key) | Body::PublicKey(key) => key.size(),
            Body::Profile(_) => size_of::<CK_PROFILE_ID>(),
            Body::Secret { value, .. } => value.len(),
        };
        let given: usize = self.given.values().map(Vec::len).sum();
        content + given + self.label.len() + self.id.len()
    }

    pub(crate) fn is_on_card(&self) -> bool {
        matches!(self.location, Location::Key(_) | Location::Object(_))
    }
}
