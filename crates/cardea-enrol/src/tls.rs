//! TLS with a key of the card: rustls asks for a signature, and the card makes it.
//!
//! rustls takes keys from a provider that lives as long as the program, and ureq hands it the bytes of a key. So the
//! bytes are a number here, under which the card is found as long as somebody has it: no key, no PIN and no card is in
//! what lives on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cardea_pki::{KeyKind, PublicKey, SignatureAlgorithm};
use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm as TlsAlgorithm, SignatureScheme};

use crate::card::{Scheme, SharedCard};

/// A key of the card, as TLS sees it.
#[derive(Debug)]
pub(crate) struct TlsKey {
    card: SharedCard,
    reference: u8,
    public: PublicKey,
    number: u64,
}

impl TlsKey {
    pub(crate) fn new(card: SharedCard, reference: u8, public: PublicKey) -> Arc<Self> {
        let key = Arc::new(Self {
            card,
            reference,
            public,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        });
        let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get_or_insert_default()
            .insert(key.number, Arc::downgrade(&key));
        key
    }

    /// What stands for the key: no key.
    pub(crate) fn handle(&self) -> [u8; 8] {
        self.number.to_be_bytes()
    }
}

impl Drop for TlsKey {
    fn drop(&mut self) {
        let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = keys.as_mut() {
            keys.remove(&self.number);
        }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);
static KEYS: Mutex<Option<HashMap<u64, Weak<TlsKey>>>> = Mutex::new(None);

/// rustls with ring, and keys of cards.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        key_provider: &CardKeys,
        ..rustls::crypto::ring::default_provider()
    })
}

#[derive(Debug)]
struct CardKeys;

impl KeyProvider for CardKeys {
    fn load_private_key(
        &self,
        key_der: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        let gone = || rustls::Error::General("the card's key is no longer there".to_owned());
        let number: [u8; 8] = key_der.secret_der().try_into().map_err(|_| gone())?;
        let keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = keys
            .as_ref()
            .and_then(|keys| keys.get(&u64::from_be_bytes(number)))
            .and_then(Weak::upgrade)
            .ok_or_else(gone)?;
        Ok(Arc::new(Handle(key)))
    }
}

#[derive(Debug)]
struct Handle(Arc<TlsKey>);

impl SigningKey for Handle {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let known: &[(SignatureScheme, Scheme)] = match self.0.public.kind() {
            KeyKind::P256 => &[(
                SignatureScheme::ECDSA_NISTP256_SHA256,
                Scheme::Certificate(SignatureAlgorithm::EcdsaSha256),
            )],
            KeyKind::P384 => &[(
                SignatureScheme::ECDSA_NISTP384_SHA384,
                Scheme::Certificate(SignatureAlgorithm::EcdsaSha384),
            )],
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => &[
                (SignatureScheme::RSA_PSS_SHA256, Scheme::PssSha256),
                // TLS 1.2 only: rustls does not offer it in 1.3.
                (
                    SignatureScheme::RSA_PKCS1_SHA256,
                    Scheme::Certificate(SignatureAlgorithm::RsaSha256),
                ),
            ],
        };
        let (tls, scheme) = known.iter().find(|(tls, _)| offered.contains(tls))?;
        Some(Box::new(OneSignature {
            key: Arc::clone(&self.0),
            tls: *tls,
            scheme: *scheme,
        }))
    }

    fn algorithm(&self) -> TlsAlgorithm {
        match self.0.public.kind() {
            KeyKind::P256 | KeyKind::P384 => TlsAlgorithm::ECDSA,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => TlsAlgorithm::RSA,
        }
    }
}

#[derive(Debug)]
struct OneSignature {
    key: Arc<TlsKey>,
    tls: SignatureScheme,
    scheme: Scheme,
}

impl Signer for OneSignature {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let failed = || rustls::Error::General("the card did not sign".to_owned());
        let TlsKey {
            card,
            reference,
            public,
            ..
        } = &*self.key;
        let signature = card
            .sign_for_tls(*reference, self.scheme, message)
            .ok_or_else(failed)?;
        match self.scheme {
            Scheme::Certificate(algorithm) => public
                .encoded_signature(algorithm, message, &signature)
                .ok_or_else(failed),
            Scheme::PssSha256 => Ok(signature),
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.tls
    }
}
