//! One enrolment: what is known of it, and what comes next.

use cardea_pki::{Certificate, PublicKey};
use serde::{Deserialize, Serialize};

use crate::card::CardKey;
use crate::error::Error;
use crate::order::Order;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The key has an identifier, and is on the card or not.
    Begun,
    /// The key is on the card.
    Keyed,
    /// There is a request, which may have been sent.
    Requested,
    /// The authority wants to be asked again.
    Pending,
    /// There is a certificate, which may be on the card.
    Issued,
    /// It is on the card.
    Stored,
    /// The authority knows that it is.
    Done,
    /// Given up, with a reason.
    Failed,
}

impl State {
    /// Whether nothing comes next.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// A job. It holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// 1.
    pub version: u32,
    /// Its name: of its file, and for people.
    pub id: String,
    /// The card's id.
    pub card: String,
    /// How far it is.
    pub state: State,
    /// When it began, seconds since 1970.
    pub begun: i64,
    /// What is wanted.
    pub order: Order,
    /// The identifier of its key on the card.
    #[serde(with = "base64_bytes")]
    pub key_id: Vec<u8>,
    /// The key's reference, when it is known.
    pub key: Option<u8>,
    /// Its public half (SubjectPublicKeyInfo).
    #[serde(with = "base64_option")]
    pub spki: Option<Vec<u8>>,
    /// What it replaces.
    pub renewed: Option<Renewed>,
    /// The request as it is sent: PKCS#10 for EST, the whole message for CMP.
    #[serde(with = "base64_option")]
    pub request: Option<Vec<u8>>,
    /// CMP's side of it.
    pub cmp: Option<Transaction>,
    /// Not to be asked for again before, seconds since 1970.
    pub not_before: i64,
    /// How often it was asked.
    pub attempts: u32,
    /// What came back.
    #[serde(with = "base64_option")]
    pub certificate: Option<Vec<u8>>,
    /// Certificates that came along.
    #[serde(with = "base64_list")]
    pub chain: Vec<Vec<u8>>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// The certificate that a job replaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewed {
    /// The reference of its key.
    pub key: u8,
    /// The certificate.
    #[serde(with = "base64_bytes")]
    pub certificate: Vec<u8>,
}

/// What CMP needs to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// Of all its messages.
    #[serde(with = "base64_bytes")]
    pub id: Vec<u8>,
    /// Of our last message.
    #[serde(with = "base64_bytes")]
    pub nonce: Vec<u8>,
    /// Of the authority's last message.
    #[serde(with = "base64_option")]
    pub peer_nonce: Option<Vec<u8>>,
    /// 0, or -1 after PKCS#10.
    pub request: i64,
    /// Whether the authority waits for a confirmation.
    pub must_confirm: bool,
}

impl Job {
    /// A new job, which is nowhere yet.
    ///
    /// # Errors
    /// [`Error::Job`] without random numbers.
    pub fn new(card: &str, order: Order, now: i64) -> Result<Self, Error> {
        let random = random::<12>()?;
        let (name, _) = random.split_at(4);
        Ok(Self {
            version: 1,
            id: format!(
                "{}-{}",
                card.to_lowercase(),
                base16ct::lower::encode_string(name)
            ),
            card: card.to_owned(),
            state: State::Begun,
            begun: now,
            order,
            key_id: random.to_vec(),
            key: None,
            spki: None,
            renewed: None,
            request: None,
            cmp: None,
            not_before: 0,
            attempts: 0,
            certificate: None,
            chain: Vec::new(),
            reason: None,
        })
    }

    /// Takes a key that is on the card already.
    pub fn use_key(&mut self, key: &CardKey) {
        self.key = Some(key.reference);
        self.spki = Some(key.public.to_spki_der());
        self.state = State::Keyed;
    }

    pub(crate) fn public(&self) -> Result<PublicKey, Error> {
        let spki = self.spki.as_deref().ok_or_else(damaged)?;
        PublicKey::parse(spki).map_err(|_| damaged())
    }

    pub(crate) fn reference(&self) -> Result<u8, Error> {
        self.key.ok_or_else(damaged)
    }

    pub(crate) fn request(&self) -> Result<&[u8], Error> {
        self.request.as_deref().ok_or_else(damaged)
    }

    /// The certificate that came back.
    ///
    /// # Errors
    /// [`Error::Job`] if there is none.
    pub fn issued(&self) -> Result<Certificate, Error> {
        let der = self.certificate.as_deref().ok_or_else(damaged)?;
        Certificate::parse(der).map_err(|_| damaged())
    }

    /// The certificate that it replaces.
    ///
    /// # Errors
    /// [`Error::Job`] if it cannot be read.
    pub fn old(&self) -> Result<Option<(u8, Certificate)>, Error> {
        let Some(renewed) = &self.renewed else {
            return Ok(None);
        };
        let certificate = Certificate::parse(&renewed.certificate).map_err(|_| damaged())?;
        Ok(Some((renewed.key, certificate)))
    }
}

pub(crate) fn damaged() -> Error {
    Error::Job("the job's file is incomplete; cancel the job and begin again".to_owned())
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Job(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

/// Bytes as base64 in JSON.
pub(crate) mod base64_bytes {
    use base64ct::{Base64, Encoding};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&Base64::encode_string(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        Base64::decode_vec(&text).map_err(|_| D::Error::custom("not base64"))
    }
}

/// Like [`base64_bytes`], for bytes that may be absent.
mod base64_option {
    use base64ct::{Base64, Encoding};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        let text = bytes.as_deref().map(Base64::encode_string);
        text.serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let decoded = text.as_deref().map(Base64::decode_vec).transpose();
        decoded.map_err(|_| D::Error::custom("not base64"))
    }
}

/// Like [`base64_bytes`], for several.
pub(crate) mod base64_list {
    use base64ct::{Base64, Encoding};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(list: &[Vec<u8>], out: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = list.iter().map(|one| Base64::encode_string(one)).collect();
        texts.serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let decoded: Result<_, _> = texts.iter().map(|text| Base64::decode_vec(text)).collect();
        decoded.map_err(|_| D::Error::custom("not base64"))
    }
}
