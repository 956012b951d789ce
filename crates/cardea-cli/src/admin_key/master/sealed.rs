//! A master secret in a TPM: its file has the TPM's address and the key, wrapped by the TPM.

use cardea_tpm::{HmacKey, Service, TpmError};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};

/// First line of such files.
pub(super) const TITLE: &str = "cardea master secret in a TPM";

/// The key and its TPM.
pub(super) struct SealedKey {
    service: Service,
    key: HmacKey,
}

/// Wraps a master secret to the TPM at that address: the text of its file.
pub(super) fn seal(address: &str, secret: &[u8; 32]) -> Result<String, Failure> {
    let key = start(address)?
        .make_hmac_key(secret)
        .map_err(|error| failed(&error))?;
    let mut text = format!("{TITLE}\n{address}\n");
    for part in [&key.public, &key.private] {
        text.push_str(&base16ct::upper::encode_string(part));
        text.push('\n');
    }
    Ok(text)
}

impl SealedKey {
    /// Reads the file's text.
    pub(super) fn open(text: &str) -> Result<Self, Failure> {
        let wrong = || Failure::usage("the file of the master secret in a TPM is damaged");
        let mut lines = text.lines().skip(1);
        let (Some(address), Some(public), Some(private), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(wrong());
        };
        Ok(Self {
            key: HmacKey {
                public: base16ct::mixed::decode_vec(public).map_err(|_| wrong())?,
                private: base16ct::mixed::decode_vec(private).map_err(|_| wrong())?,
            },
            service: start(address)?,
        })
    }

    pub(super) fn mac(&self, input: &[u8]) -> Result<Zeroizing<[u8; 32]>, Failure> {
        self.service
            .hmac(&self.key, input)
            .map_err(|error| failed(&error))
    }
}

fn start(address: &str) -> Result<Service, Failure> {
    let address = address
        .parse()
        .map_err(|error| Failure::usage(format!("invalid TPM address {address:?}: {error}")))?;
    Service::start(&address).map_err(|error| failed(&error))
}

fn failed(error: &TpmError) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("the TPM with the master secret: {error}; only the TPM that made it can use it"),
    )
}
