//! HTTP over TLS, bounded: what is sent where is decided above, and what comes back is judged there.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use cardea_pki::PublicKey;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use crate::card::SharedCard;
use crate::error::Error;
use crate::tls::{TlsKey, provider};
use crate::trust::Trust;

/// The largest body that is read.
const MAX_BODY: u64 = 1 << 20;
const MAX_HEADER: usize = 16 << 10;
/// To connect, and for the answer's beginning; also a slow authority signs in less.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// For all of it: who sends a byte now and then does not keep us.
const WHOLE: Duration = Duration::from_secs(90);

/// What is sent.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The whole address.
    pub url: String,
    /// The body and its type; without one it is a GET.
    pub body: Option<(&'static str, Vec<u8>)>,
    /// Whether the identity is shown, if the server asks for one: each connection costs the card a signature.
    pub with_identity: bool,
    /// User and password for Basic.
    pub password: Option<(String, Zeroizing<Vec<u8>>)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// 200 and so on.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// The first header of a name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(one, _)| one == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// Something that sends requests.
pub trait Transport {
    /// Sends one and waits for its answer.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Untrusted`], [`Error::Card`].
    fn exchange(&mut self, request: &HttpRequest) -> Result<HttpAnswer, Error>;
}

/// Who we are in TLS: a certificate whose key is on the card.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The card.
    pub card: SharedCard,
    /// The key.
    pub reference: u8,
    /// Its public half.
    pub public: PublicKey,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
}

/// HTTP and TLS.
#[derive(Debug)]
pub struct HttpClient {
    anonymous: ureq::Agent,
    identified: Option<(ureq::Agent, Arc<TlsKey>, SharedCard)>,
}

impl HttpClient {
    /// Trusts these, or whom the system trusts.
    ///
    /// # Errors
    /// [`Error::Usage`] if the system trusts nobody.
    pub fn new(trust: Option<&Trust>, identity: Option<&Identity>) -> Result<Self, Error> {
        let roots = match trust {
            Some(trust) => trust.anchors().iter().map(|der| owned(der)).collect(),
            None => system_roots()?,
        };
        let roots = RootCerts::new_with_certs(&roots);
        let identify = |identity: &Identity| -> Result<_, Error> {
            let key = TlsKey::new(
                identity.card.clone(),
                identity.reference,
                identity.public.clone(),
            );
            // PEM is the only way to hand ureq a key.
            let pem = format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                Base64::encode_string(&key.handle())
            );
            let handle = PrivateKey::from_pem(pem.as_bytes())
                .map_err(|error| Error::Usage(format!("the card's key in TLS: {error}")))?;
            let certificate = ClientCert::new_with_certs(&[owned(&identity.certificate)], handle);
            let tls = TlsConfig::builder()
                .root_certs(roots.clone())
                .client_cert(Some(certificate));
            Ok((agent(tls), key, identity.card.clone()))
        };
        Ok(Self {
            anonymous: agent(TlsConfig::builder().root_certs(roots.clone())),
            identified: identity.map(identify).transpose()?,
        })
    }

    /// Trusts nobody and believes everybody: only for what is compared with a fingerprint afterwards.
    pub(crate) fn unverified() -> Self {
        Self {
            anonymous: agent(TlsConfig::builder().disable_verification(true)),
            identified: None,
        }
    }
}

fn owned(der: &[u8]) -> Certificate<'static> {
    Certificate::from_der(der).to_owned()
}

fn system_roots() -> Result<Vec<Certificate<'static>>, Error> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(Error::Usage(
            "this system trusts no authority; name the one to trust with --trust".to_owned(),
        ));
    }
    Ok(found.certs.iter().map(|one| owned(one)).collect())
}

fn agent(tls: ureq::tls::TlsConfigBuilder) -> ureq::Agent {
    ureq::Agent::config_builder()
        .tls_config(tls.unversioned_rustls_crypto_provider(provider()).build())
        .http_status_as_error(false)
        // Redirections are refused, with the address shown: a request may carry a password and a name.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(MAX_HEADER)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_global(Some(WHOLE))
        .user_agent(concat!("cardea/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

impl Transport for HttpClient {
    fn exchange(&mut self, request: &HttpRequest) -> Result<HttpAnswer, Error> {
        let (agent, card) = match (&self.identified, request.with_identity) {
            (Some((agent, _, card)), true) => (agent, Some(card)),
            _ => (&self.anonymous, None),
        };
        let answered = send(agent, request);
        // What the card says is the cause of what TLS says.
        match card.and_then(SharedCard::take_failure) {
            Some(failure) => Err(failure),
            None => answered.map_err(|error| explain(&request.url, &error)),
        }
    }
}

fn send(agent: &ureq::Agent, request: &HttpRequest) -> Result<HttpAnswer, ureq::Error> {
    let authorisation = request.password.as_ref().map(|(user, password)| {
        let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
        pair.extend_from_slice(user.as_bytes());
        pair.push(b':');
        pair.extend_from_slice(password);
        Zeroizing::new(format!("Basic {}", Base64::encode_string(&pair)))
    });
    let mut answer = match &request.body {
        Some((kind, body)) => {
            let mut post = agent
                .post(&request.url)
                .header("Content-Type", *kind)
                // Old servers of EST want it; RFC 8951 says that it means nothing.
                .header("Content-Transfer-Encoding", "base64");
            if let Some(authorisation) = &authorisation {
                post = post.header("Authorization", authorisation.as_str());
            }
            post.send(body.as_slice())?
        }
        None => agent.get(&request.url).call()?,
    };
    let headers = answer
        .headers()
        .iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let body = answer
        .body_mut()
        .with_config()
        .limit(MAX_BODY)
        .read_to_vec()?;
    Ok(HttpAnswer {
        status: answer.status().as_u16(),
        headers,
        body,
    })
}

/// Who must do what.
fn explain(url: &str, error: &ureq::Error) -> Error {
    let text = error.to_string();
    match error {
        ureq::Error::Rustls(rustls::Error::InvalidCertificate(reason)) => {
            Error::Untrusted(format!(
                "the server at {url} is not trusted: {reason}; check the address, this computer's clock and --trust"
            ))
        }
        // In the handshake, rustls' own error is inside that of the connection.
        ureq::Error::Io(io) if io.to_string().contains("invalid peer certificate") => {
            Error::Untrusted(format!(
                "the server at {url} is not trusted: {io}; check the address, this computer's clock and --trust"
            ))
        }
        ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) => {
            Error::Usage(format!("the address {url} cannot be used: {text}"))
        }
        ureq::Error::BodyExceedsLimit(limit) => Error::Answer(format!(
            "the server at {url} sends more than {limit} bytes, too many for an answer"
        )),
        _ => Error::Unreachable(format!("the server at {url} cannot be reached: {text}")),
    }
}
