//! `cardea tpm ek`: by what an attestation authority knows this TPM.

use cardea_attest::{EndorsementKey, TpmIdentity, certificates_in_nv, name_of_public};
use cardea_client::message::{self, Reply, Request, TpmRequest};
use cardea_pki::{Certificate, PathCertificate};
use serde_json::{Value, json};

use crate::arguments::OutputArguments;
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::hex::plain;
use crate::terminal::clock::local;
use crate::terminal::output::{note, print, print_json, printable};

pub(super) fn show(output: OutputArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let request = Request::Tpm(TpmRequest::EndorsementKeys);
    let Reply::EndorsementKeys(keys) = daemon.call(&request, "reading the endorsement keys")?
    else {
        return Err(Daemon::unexpected());
    };
    let keys = keys.iter().map(Shown::new).collect::<Result<Vec<_>, _>>()?;
    if output.json {
        print_json(&Value::Array(keys.iter().map(Shown::json).collect()))?;
        return Ok(());
    }
    let texts: Vec<_> = keys.iter().map(Shown::text).collect();
    print(&texts.join("\n"))?;
    if keys.iter().all(|key| key.certificates.is_empty()) {
        note(
            "the TPM's maker has left no certificate: an attestation authority can know this TPM by the pin only",
        );
    }
    Ok(())
}

/// 99991231235959Z: no well-defined expiration date (RFC 5280 §4.1.2.5).
const NO_END: i64 = 253_402_300_799;

/// A key that was understood.
struct Shown {
    public: Vec<u8>,
    key: EndorsementKey,
    /// The key's own first, and those that the TPM has with it.
    certificates: Vec<(PathCertificate, String)>,
}

impl Shown {
    fn new(told: &message::EndorsementKey) -> Result<Self, Failure> {
        let content = told.certificate.as_deref();
        let certificates = content.map_or(Ok(Vec::new()), certificates_in_nv);
        let certificates = certificates.map_err(|error| unfit(&error))?;
        let certificates = certificates.iter().map(|der| {
            let parsed = PathCertificate::parse(der).map_err(|error| unfit(&error))?;
            let pem = Certificate::parse(der).map_err(|error| unfit(&error))?;
            Ok((parsed, pem.to_pem()))
        });
        Ok(Self {
            key: EndorsementKey::parse(&told.public).map_err(|error| unfit(&error))?,
            public: told.public.clone(),
            certificates: certificates.collect::<Result<_, Failure>>()?,
        })
    }

    /// As its certificate has it.
    fn tpm(&self) -> Option<TpmIdentity> {
        TpmIdentity::of(&self.certificates.first()?.0)
    }

    fn name(&self) -> Option<String> {
        name_of_public(&self.public).map(|name| plain(&name))
    }

    fn json(&self) -> Value {
        let tpm = self.tpm().map(|tpm| {
            json!({ "manufacturer": tpm.manufacturer, "model": tpm.model, "version": tpm.version })
        });
        json!({
            "algorithm": self.key.public_key().kind().to_string(),
            "name": self.name(),
            "pin": plain(&self.key.pin()),
            "spki": self.key.public_key().to_spki_pem(),
            "public": plain(&self.public),
            "tpm": tpm,
            "certificates": self.certificates.iter().map(|(_, pem)| pem).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut rows = vec![("endorsement key", self.key.public_key().kind().to_string())];
        rows.extend(self.name().map(|name| ("Name", name)));
        rows.push(("pin", plain(&self.key.pin())));
        if let Some(tpm) = self.tpm() {
            let TpmIdentity {
                manufacturer,
                model,
                version,
            } = tpm;
            let words = [manufacturer, model, version];
            rows.push(("TPM", words.map(|word| printable(&word)).join(", ")));
        }
        if let Some((certificate, _)) = self.certificates.first() {
            rows.push(("issuer", printable(&certificate.issuer().to_string())));
            let end = match certificate.not_after() {
                NO_END => "without end".to_owned(),
                end => format!("until {}", local(end)),
            };
            rows.push(("valid", end));
        }
        let mut text = String::new();
        for (title, value) in rows {
            text.push_str(&format!("{:<17}{value}\n", format!("{title}:")));
        }
        for (_, pem) in &self.certificates {
            text.push_str(pem);
        }
        text
    }
}

fn unfit(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("the TPM's endorsement key is of no use for attestation: {error}"),
    )
}
