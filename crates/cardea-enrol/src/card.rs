//! What enrolment needs of a card.

use std::sync::{Arc, Mutex, PoisonError};

use cardea_pki::{PublicKey, SignatureAlgorithm};

use crate::error::{CardError, Error};

/// How a message is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// PKCS#1 v1.5 or ECDSA, as certificates have it.
    Certificate(SignatureAlgorithm),
    /// RSASSA-PSS with SHA-256 and a salt of its length, as TLS 1.3 has it.
    PssSha256,
}

/// A key on the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardKey {
    /// Its reference.
    pub reference: u8,
    /// Its public half.
    pub public: PublicKey,
}

/// A card with its PIN verified, or with somebody who enters it when it is needed.
pub trait Card: Send {
    /// The key with an identifier, if it is there.
    ///
    /// # Errors
    /// The card's.
    fn find_key(&mut self, id: &[u8]) -> Result<Option<CardKey>, CardError>;

    /// Makes the key that the job wants, with its identifier.
    ///
    /// # Errors
    /// The card's.
    fn generate(&mut self, id: &[u8]) -> Result<CardKey, CardError>;

    /// Signs a message, which is not digested yet. ECDSA: `r` and `s` behind each other, or DER.
    ///
    /// # Errors
    /// The card's.
    fn sign(&mut self, reference: u8, scheme: Scheme, message: &[u8])
    -> Result<Vec<u8>, CardError>;

    /// What proves where a key is, for a request (an AttestationBundle, DER).
    ///
    /// # Errors
    /// The card's.
    fn attestation(&mut self, reference: u8) -> Result<Vec<u8>, CardError>;

    /// Stores a certificate with its key.
    ///
    /// # Errors
    /// The card's.
    fn store(&mut self, reference: u8, der: &[u8]) -> Result<(), CardError>;

    /// Removes the certificate of a key again, if it is this one.
    ///
    /// # Errors
    /// The card's.
    fn withdraw(&mut self, reference: u8, der: &[u8]) -> Result<(), CardError>;
}

/// A card that TLS and the job use in turn.
#[derive(Clone)]
pub struct SharedCard {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    card: Box<dyn Card>,
    /// What the card said while TLS was signing, which TLS cannot tell.
    failure: Option<CardError>,
}

impl std::fmt::Debug for SharedCard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedCard")
    }
}

impl SharedCard {
    /// Takes a card.
    #[must_use]
    pub fn new(card: Box<dyn Card>) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                card,
                failure: None,
            })),
        }
    }

    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut dyn Card) -> Result<T, CardError>,
    ) -> Result<T, Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut *inner.card).map_err(Error::Card)
    }

    /// Signs; a failure is kept for [`SharedCard::take_failure`]. After one there is no second try: a wrong PIN must not
    /// be sent again because a connection is.
    pub(crate) fn sign_for_tls(
        &self,
        reference: u8,
        scheme: Scheme,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.failure.is_some() {
            return None;
        }
        match inner.card.sign(reference, scheme, message) {
            Ok(signature) => Some(signature),
            Err(failure) => {
                inner.failure = Some(failure);
                None
            }
        }
    }

    pub(crate) fn take_failure(&self) -> Option<Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.failure.take().map(Error::Card)
    }
}
