//! What a card proves to strangers: its evidence, and how its attestation key gets a certificate.
//!
//! The daemon has no network: an authority's messages come and go by whoever asks.

use cardea_attest::exchange::{
    Answer, Challenge, OfferedKey, Request, RequestForm, TpmDescription, answer_data,
};
use cardea_attest::{
    Bundle, Creation, Form, Index, Key, MAX_NONCE, Role, Statement, Witness, certificates_in_nv,
    qualifying_data,
};
use cardea_card::record::{CardRecord, IndexRole, KeyRecord};
use cardea_client::message::{ByteVec, Failure, FailureKind, Reply};
use cardea_pki::{Certificate, Curve, PublicKey};
use cardea_terms::CounterMode;
use cardea_tpm::{Chip, Evidence};

use crate::failure::{fail, of_fault, of_tpm};
use crate::holder::CardVisit;
use crate::host::audit::Kind;
use crate::host::hosted::Body;

/// The longest value that every TPM signs with a statement, in bytes.
const MAX_QUALIFYING: usize = 32;

/// Certificates of an attestation key: at most so many, and so many bytes of all together.
const MAX_CHAIN: usize = 8;
const MAX_CHAIN_BYTES: usize = 32 * 1024;

impl CardVisit<'_> {
    /// Makes an attestation key for a card that has none.
    pub(crate) fn make_attestation_key(&self) -> Result<Reply, Failure> {
        let chip = self.chip()?;
        let card = &self.card;
        let mut body = card.body();
        let Body::Live(live) = &mut *body else {
            return Err(card.unusable());
        };
        let record = live.record().clone();
        require_evidence(&record)?;
        if record.tpm.attestation_key.is_some() {
            return Err(fail(
                FailureKind::Invalid,
                "the card has an attestation key already",
            ));
        }
        let key = chip
            .make_attestation_key(&record)
            .map_err(|fault| of_fault(&fault))?;
        let kept = live.set_attestation_key(key);
        drop(body);
        kept.map_err(|error| self.explained(&error))?;
        self.note_configured();
        log_done!(self, "attestation key made");
        Ok(Reply::Done)
    }

    /// What an authority is asked for.
    pub(crate) fn request_attestation(&self) -> Result<Reply, Failure> {
        let (record, chip) = self.attested()?;
        let status = chip.status().map_err(|error| of_tpm(&error))?;
        let keys = chip.endorsement_keys().map_err(|error| of_tpm(&error))?;
        let root = chip
            .storage_root_key(&record)
            .map_err(|fault| of_fault(&fault))?;
        let offered = |key: cardea_tpm::EndorsementKey| OfferedKey {
            certificates: key
                .certificate
                .as_deref()
                .map_or_else(Vec::new, certificates),
            public: key.public,
        };
        let request = Request {
            attestation_key: attestation_key(&record),
            endorsement_keys: keys.into_iter().map(offered).collect(),
            storage_root_key: root,
            tpm: TpmDescription {
                manufacturer: maker(&status.manufacturer),
                model: status.vendor,
                firmware: status.firmware,
                revision: status.revision,
            },
            form: match &record.tpm.sealed_policies {
                None => RequestForm::Approved,
                Some(sealed) => RequestForm::Sealed {
                    made_at_reset: sealed.made_at_reset,
                    witness: sealed.witness.public.clone(),
                },
            },
            name: Some(record.name),
        };
        Ok(Reply::Attestation(request.encode()))
    }

    /// Opens an authority's challenge. What it shows is that this TPM has both keys, and nothing else is decrypted by it.
    pub(crate) fn answer_attestation(&self, challenge: &[u8]) -> Result<Reply, Failure> {
        let challenge = Challenge::decode(challenge).map_err(|refusal| {
            let text = format!("this is not the challenge of an attestation authority: {refusal}");
            fail(FailureKind::Invalid, text)
        })?;
        let (record, chip) = self.attested()?;
        let parts = cardea_tpm::Challenge {
            endorsement_key: challenge.endorsement_key.into(),
            blob: challenge.blob,
            seed: challenge.seed,
        };
        let secret = chip
            .activate(&record, parts)
            .map_err(|fault| of_fault(&fault))?;
        let own = chip
            .certify_own_keys(&record, answer_data(&secret))
            .map_err(|fault| of_fault(&fault))?;
        let answer = Answer {
            secret: secret.to_vec(),
            state: challenge.state,
            attestation_key: statement(own.attestation_key),
            witness: own.witness.map(statement),
        };
        Ok(Reply::Attestation(answer.encode()))
    }

    /// Keeps the certificates of the attestation key.
    pub(crate) fn store_attestation(&self, chain: Vec<ByteVec>) -> Result<Reply, Failure> {
        let (record, _) = self.attested()?;
        check_chain(&chain, &attestation_key(&record))?;
        let card = &self.card;
        let mut body = card.body();
        let Body::Live(live) = &mut *body else {
            return Err(card.unusable());
        };
        let kept = live.set_attestation_chain(chain);
        drop(body);
        kept.map_err(|error| self.explained(&error))?;
        self.note_configured();
        log_done!(self, "certificates of the attestation key stored");
        Ok(Reply::Done)
    }

    /// The card's evidence with these keys, or with all.
    pub(crate) fn evidence(&self, nonce: &[u8], keys: Option<&[u8]>) -> Result<Reply, Failure> {
        if nonce.len() > MAX_NONCE {
            let text = format!("a nonce has at most {MAX_NONCE} bytes");
            return Err(fail(FailureKind::Invalid, text));
        }
        let (record, chip) = self.attested()?;
        let keys = match keys {
            None => record.keys.iter().collect(),
            Some(references) => references
                .iter()
                .map(|reference| key_of(&record, *reference))
                .collect::<Result<Vec<_>, _>>()?,
        };
        let references: Vec<u8> = keys.iter().map(|key| key.reference).collect();
        let evidence = chip
            .evidence(&record, qualifying_data(nonce), &references)
            .map_err(|fault| of_fault(&fault))?;
        let level = if evidence.witness.is_some() { 2 } else { 1 };
        let bundle = bundle(&record, nonce, &keys, evidence);
        log_done!(self, "evidence given");
        Ok(Reply::Evidence {
            bundle: bundle.encode(),
            level,
        })
    }

    /// What the attestation key says of one key.
    pub(crate) fn certify_key(&self, reference: u8, qualifying: Vec<u8>) -> Result<Reply, Failure> {
        if qualifying.len() > MAX_QUALIFYING {
            let text = format!("a statement has at most {MAX_QUALIFYING} bytes of others in it");
            return Err(fail(FailureKind::Invalid, text));
        }
        let (record, chip) = self.attested()?;
        let public = key_of(&record, reference)?.object.public.clone();
        let certified = chip
            .certify_key(&record, qualifying, reference)
            .map_err(|fault| of_fault(&fault))?;
        Ok(Reply::Statement {
            attest: certified.statement.attest,
            signature: certified.statement.signature,
            public,
        })
    }

    /// The record of a card with an attestation key, and its chip.
    fn attested(&self) -> Result<(CardRecord, std::sync::Arc<dyn Chip>), Failure> {
        let body = self.card.body();
        let Body::Live(live) = &*body else {
            return Err(self.card.unusable());
        };
        let record = live.record().clone();
        drop(body);
        require_evidence(&record)?;
        if record.tpm.attestation_key.is_none() {
            return Err(fail(
                FailureKind::Invalid,
                "the card has no attestation key: make one with `cardea attest enable`, or create the card with --attest",
            ));
        }
        Ok((record, self.chip()?))
    }

    fn chip(&self) -> Result<std::sync::Arc<dyn Chip>, Failure> {
        self.host.tpm.chip().map_err(|error| of_tpm(&error))
    }

    fn note_configured(&self) {
        let audit = &self.host.audit;
        audit.event(
            Some(&self.card),
            self.actor,
            self.door,
            Kind::CardConfigured,
        );
    }
}

/// Evidence is about counters that anybody may read and that the TPM keeps: of others it would say nothing.
fn require_evidence(record: &CardRecord) -> Result<(), Failure> {
    let why = match record.tpm.mode {
        CounterMode::Object => "its wrong PINs are counted by the TPM's lockout only (object mode)",
        CounterMode::NvOwner => {
            "its counters can be read by the TPM's owner only, because this TPM sets back a count that others read"
        }
        CounterMode::Nv if record.tpm.counter_objects.is_some() => {
            "its wrong PINs are counted in its file, because its TPM sets a count back that others read"
        }
        CounterMode::Nv => return Ok(()),
    };
    let text = format!("the card can prove nothing about its PIN: {why}");
    Err(fail(FailureKind::UnsafeTpm, text))
}

fn attestation_key(record: &CardRecord) -> Vec<u8> {
    let key = record.tpm.attestation_key.as_ref();
    key.map(|key| key.public.clone()).unwrap_or_default()
}

fn key_of(record: &CardRecord, reference: u8) -> Result<&KeyRecord, Failure> {
    let mut keys = record.keys.iter();
    keys.find(|key| key.reference == reference).ok_or_else(|| {
        let text = format!("the card has no key {reference:02X}");
        fail(FailureKind::NotFound, text)
    })
}

fn statement(of: cardea_tpm::Statement) -> Statement {
    Statement {
        attest: of.attest,
        signature: of.signature,
    }
}

/// Four characters.
fn maker(name: &str) -> [u8; 4] {
    let mut maker = [0; 4];
    for (byte, character) in maker.iter_mut().zip(name.bytes()) {
        *byte = character;
    }
    maker
}

/// The certificates in the maker's index. What else it may hold tells an authority nothing.
fn certificates(index: &[u8]) -> Vec<Vec<u8>> {
    match certificates_in_nv(index) {
        Ok(found) => found,
        Err(refusal) => {
            tracing::debug!(%refusal, "an endorsement key's certificate cannot be read");
            Vec::new()
        }
    }
}

/// Certificates of which the first one is the attestation key's.
fn check_chain(chain: &[ByteVec], public: &[u8]) -> Result<(), Failure> {
    let invalid = |text: String| fail(FailureKind::Invalid, text);
    let Some(own) = chain.first() else {
        return Ok(());
    };
    let total: usize = chain.iter().map(|it| it.len()).sum();
    if chain.len() > MAX_CHAIN || total > MAX_CHAIN_BYTES {
        return Err(invalid(format!(
            "an attestation key has at most {MAX_CHAIN} certificates of {MAX_CHAIN_BYTES} bytes together"
        )));
    }
    for certificate in chain {
        Certificate::parse(certificate)
            .map_err(|error| invalid(format!("this is not a certificate: {error}")))?;
    }
    let key = point_of(public);
    let is_own = |own: Certificate| key.is_some_and(|key| own.matches(&key));
    match Certificate::parse(own).is_ok_and(is_own) {
        true => Ok(()),
        false => Err(invalid(
            "the first certificate is not that of this card's attestation key".into(),
        )),
    }
}

/// The point at the end of a public area of a key on P-256: both coordinates, each with its size.
fn point_of(public: &[u8]) -> Option<PublicKey> {
    let (_, point) = public.split_at_checked(public.len().checked_sub(68)?)?;
    let (x, y) = point.split_at_checked(34)?;
    let (x, y) = (x.strip_prefix(&[0, 32])?, y.strip_prefix(&[0, 32])?);
    PublicKey::from_ec(Curve::P256, x, y).ok()
}

fn bundle(record: &CardRecord, nonce: &[u8], keys: &[&KeyRecord], evidence: Evidence) -> Bundle {
    let form = match &record.tpm.sealed_policies {
        None => Form::Approved,
        Some(sealed) => Form::Sealed {
            made_at_reset: sealed.made_at_reset,
            witness: evidence.witness.map(|it| Witness {
                public: sealed.witness.public.clone(),
                statement: statement(it),
            }),
        },
    };
    let indices = evidence.indices.into_iter().map(|index| Index {
        role: match index.role {
            None => Role::Sealed,
            Some(IndexRole::Pin) => Role::Pin,
            Some(IndexRole::Adm) => Role::Adm,
            Some(IndexRole::Puk) => Role::Puk,
        },
        public: index.public,
        statement: statement(index.statement),
    });
    let keys = keys.iter().zip(evidence.keys).map(|(key, certified)| Key {
        public: key.object.public.clone(),
        statement: statement(certified.statement),
        creation: certified.creation.map(|made| {
            let targets = key.recovery.iter().flatten();
            Creation {
                data: key.creation_data.clone().unwrap_or_default(),
                statement: statement(made),
                targets: targets.map(|target| target.public.clone()).collect(),
            }
        }),
    });
    let chain = record.tpm.attestation_chain.iter().flatten();
    Bundle {
        nonce: nonce.to_vec(),
        form,
        attestation_key: attestation_key(record),
        certificates: chain.map(|it| it.to_vec()).collect(),
        storage_root_key: evidence.storage_root_key,
        birth_key: record.tpm.birth_public.clone(),
        indices: indices.collect(),
        keys: keys.collect(),
        note: None,
    }
}
