//! A card of the daemon, with its PIN, as an enrolment uses it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cardea_client::message::{
    CardDetails, CardRequest, Hash, KeySummary, NewKey, Operation, Reply, Request, SecretBytes,
};
use cardea_enrol::{Card, CardError, CardKey, Order, Scheme};
use cardea_pki::DigestAlgorithm;
use cardea_terms::{KeyAlgorithm, KeyClass};
use clap::ValueEnum;

use super::super::kept;
use super::card_key;
use crate::arguments::{Algorithm, PinArguments};
use crate::commands::attestation;
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::on_card::{read, signature_of};
use crate::terminal::secret;

/// The card's PIN: asked for when it is needed, and once.
pub(super) struct Pin {
    file: Option<PathBuf>,
    fd: Option<u32>,
    typed: Mutex<Option<SecretBytes>>,
}

impl Pin {
    pub(super) fn new(arguments: &PinArguments) -> Arc<Self> {
        Arc::new(Self {
            file: arguments.pin_file.clone(),
            fd: arguments.pin_fd,
            typed: Mutex::new(None),
        })
    }

    pub(super) fn get(&self) -> Result<SecretBytes, Failure> {
        let mut typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(typed) = &*typed {
            return Ok(typed.clone());
        }
        let arguments = PinArguments {
            pin_file: self.file.clone(),
            pin_fd: self.fd,
        };
        let entered = secret::present("PIN", &arguments.source())?;
        Ok(typed.insert(entered).clone())
    }
}

pub(super) struct DaemonCard {
    daemon: Daemon,
    card: CardDetails,
    pin: Arc<Pin>,
    algorithm: String,
    label: Option<String>,
    class: KeyClass,
}

impl DaemonCard {
    pub(super) fn new(daemon: &Daemon, card: CardDetails, order: &Order, pin: Arc<Pin>) -> Self {
        Self {
            daemon: daemon.another(),
            card,
            pin,
            algorithm: order.algorithm.clone(),
            label: order.key_label.clone(),
            class: match order.pin_every_time {
                true => KeyClass::Always,
                false => KeyClass::Session,
            },
        }
    }

    fn request(&self, request: CardRequest) -> Request {
        Request::card(self.card.summary.card_id.clone(), request)
    }

    /// A key as it is now.
    fn key(&mut self, reference: u8) -> Result<KeySummary, Failure> {
        self.card = self.daemon.show(&self.card.summary.card_id)?;
        let mut keys = self.card.keys.iter();
        keys.find(|key| key.reference == reference)
            .cloned()
            .ok_or_else(|| {
                Failure::new(
                    Exit::NotFound,
                    format!("the card no longer has key {reference:02X}"),
                )
            })
    }
}

impl Card for DaemonCard {
    fn find_key(&mut self, id: &[u8]) -> Result<Option<CardKey>, CardError> {
        self.card = self.daemon.show(&self.card.summary.card_id)?;
        let found = self.card.keys.iter().find(|key| key.id == id);
        Ok(found.map(card_key).transpose()?)
    }

    fn generate(&mut self, id: &[u8]) -> Result<CardKey, CardError> {
        let algorithm = Algorithm::from_str(&self.algorithm, true).map_err(|_| {
            let algorithm = &self.algorithm;
            Failure::usage(format!("{algorithm} is not an algorithm of cards"))
        })?;
        let request = self.request(CardRequest::GenerateKey {
            pin: Some(self.pin.get()?),
            key: NewKey {
                label: self.label.clone(),
                class: self.class,
                sign_only: false,
                id: Some(id.to_vec()),
            },
            algorithm: KeyAlgorithm::from(algorithm),
        });
        match self.daemon.call(&request, "generating the key")? {
            Reply::Key(key) => Ok(card_key(&key)?),
            _ => Err(Daemon::unexpected().into()),
        }
    }

    fn sign(
        &mut self,
        reference: u8,
        scheme: Scheme,
        message: &[u8],
    ) -> Result<Vec<u8>, CardError> {
        let operation = match scheme {
            Scheme::Certificate(algorithm) => {
                signature_of(algorithm, algorithm.digest_algorithm().digest(message))
            }
            Scheme::PssSha256 => Operation::SignPss {
                hash: Hash::Sha256,
                digest: DigestAlgorithm::Sha256.digest(message),
            },
        };
        let request = self.request(CardRequest::UseKey {
            pin: Some(self.pin.get()?),
            reference,
            operation,
        });
        match self.daemon.call(&request, "signing")? {
            Reply::Result(signature) => Ok(signature.expose().to_vec()),
            _ => Err(Daemon::unexpected().into()),
        }
    }

    fn attestation(&mut self, reference: u8) -> Result<Vec<u8>, CardError> {
        let key = self.key(reference)?;
        Ok(attestation::attribute(
            &self.card,
            &key,
            None,
            &mut self.daemon,
        )?)
    }

    fn store(&mut self, reference: u8, der: &[u8]) -> Result<(), CardError> {
        let key = self.key(reference)?;
        let pin = self.pin.get()?;
        kept::put(&self.card, &key, false, pin, der, &mut self.daemon)?;
        Ok(())
    }

    fn withdraw(&mut self, reference: u8, der: &[u8]) -> Result<(), CardError> {
        let key = self.key(reference)?;
        if key.certificate && read(&self.card, &key, &mut self.daemon)? == der {
            let request = self.request(CardRequest::DeleteCertificate {
                pin: Some(self.pin.get()?),
                reference,
            });
            self.daemon.order(&request, "removing the certificate")?;
        }
        Ok(())
    }
}
