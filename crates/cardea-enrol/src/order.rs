//! What is ordered: a profile after its gaps are filled, as the job keeps it.

use cardea_pki::{
    AlternativeName, Certificate, ExtendedKeyUsage, KeyUsage, Name, PublicKey, RequestBuilder,
};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::trust::Trust;

/// How the authority is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9810.
    Cmp,
    /// RFC 7030.
    Est,
}

/// What is wanted, and from whom. Kept with the job, so that a changed profile does not change a job that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// How.
    pub protocol: Protocol,
    /// Where: `https://host[:port]` for EST, the whole address for CMP.
    pub url: String,
    /// The label between `est` and the operation, if the authority has several.
    pub label: Option<String>,
    /// The profile's name, for people.
    pub profile: Option<String>,
    /// Who is trusted; without it, whom the system trusts.
    pub trust: Option<Trust>,
    /// As `CN=Ada,O=Example`.
    pub subject: String,
    /// Other names, as `dns:…`.
    pub san: Vec<String>,
    /// What it is for.
    pub eku: Vec<String>,
    /// What the key may do.
    pub key_usage: Vec<String>,
    /// Whether the request proves where the key is.
    pub attest: bool,
    /// Of a new key: its algorithm, as the command line writes it.
    pub algorithm: String,
    /// Of a new key: its label.
    pub key_label: Option<String>,
    /// Of a new key: whether every use needs the PIN.
    pub pin_every_time: bool,
    /// Days before the end at which the certificate is to be renewed.
    pub renew_at: Option<u32>,
    /// CMP: whether a MAC with SHA-1 is believed, as OpenSSL 3.0 makes it.
    pub allow_sha1_mac: bool,
}

impl Order {
    /// The address of one of EST's operations.
    #[must_use]
    pub fn est_url(&self, operation: &str) -> String {
        let base = self.url.trim_end_matches('/');
        match &self.label {
            Some(label) => format!("{base}/.well-known/est/{label}/{operation}"),
            None => format!("{base}/.well-known/est/{operation}"),
        }
    }

    /// What a request is to say: of a renewal, the names of the certificate that it replaces, byte by byte.
    pub(crate) fn wanted(&self, renewed: Option<&Certificate>) -> Result<Wanted, Error> {
        let usage = |error: cardea_pki::Error| Error::Usage(error.to_string());
        let mut wanted = Wanted {
            subject: self.subject.parse().map_err(usage)?,
            san: parse_all(&self.san)?,
            eku: parse_all(&self.eku)?,
            key_usage: parse_all(&self.key_usage)?,
        };
        if let Some(old) = renewed {
            wanted.subject = old.subject().clone();
            wanted.san = old.alternative_names().to_vec();
            if wanted.eku.is_empty() {
                wanted.eku = old.extended_key_usages().to_vec();
            }
        }
        if wanted.subject.is_empty() && wanted.san.is_empty() {
            return Err(Error::Usage(
                "a request must name a subject: give one, or another name".to_owned(),
            ));
        }
        Ok(wanted)
    }
}

fn parse_all<T: std::str::FromStr<Err = cardea_pki::Error>>(
    texts: &[String],
) -> Result<Vec<T>, Error> {
    let parsed: Result<_, _> = texts.iter().map(|text| text.parse()).collect();
    parsed.map_err(|error: cardea_pki::Error| Error::Usage(error.to_string()))
}

/// What a certificate is to say, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) subject: Name,
    pub(crate) san: Vec<AlternativeName>,
    pub(crate) eku: Vec<ExtendedKeyUsage>,
    pub(crate) key_usage: Vec<KeyUsage>,
}

impl Wanted {
    /// A request for a key.
    pub(crate) fn request(&self, key: &PublicKey) -> RequestBuilder {
        let mut builder = RequestBuilder::new(self.subject.clone(), key.clone());
        for name in &self.san {
            builder = builder.alternative_name(name.clone());
        }
        for usage in &self.key_usage {
            builder = builder.key_usage(*usage);
        }
        for usage in &self.eku {
            builder = builder.extended_key_usage(*usage);
        }
        builder
    }
}
