//! `cardea csr …`

use std::path::Path;

use cardea_client::message::{CardDetails, KeySummary};
use cardea_pki::RequestBuilder;

use super::attestation;
use crate::arguments::{CsrVerb, Encoding, PinArguments, Wanted};
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::file;
use crate::on_card::{public_key, select, sign, title};
use crate::terminal::output::note;
use crate::terminal::secret;

pub(crate) fn run(verb: &CsrVerb, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        CsrVerb::Create {
            card,
            key,
            wanted,
            attest,
            nonce,
            format,
            out,
            pin,
        } => {
            let card = daemon.usable_by_pin(&card.card)?;
            let key = select(&card, key)?;
            let attribute = match attest {
                true => Some(attestation::attribute(&card, key, nonce.as_ref(), daemon)?),
                false => None,
            };
            let request = Ordered { wanted, attribute };
            let out = (*format, out.as_deref());
            create(&card, key, request, out, pin, daemon)
        }
    }
}

/// What a request is to say.
struct Ordered<'a> {
    wanted: &'a Wanted,
    /// What proves where the key is.
    attribute: Option<Vec<u8>>,
}

fn create(
    card: &CardDetails,
    key: &KeySummary,
    Ordered { wanted, attribute }: Ordered<'_>,
    (format, out): (Encoding, Option<&Path>),
    pin: &PinArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    if format == Encoding::Der {
        file::not_to_terminal(out)?;
    }
    if wanted.subject.is_empty() && wanted.san.is_empty() {
        return Err(Failure::usage(
            "a request must name a subject: pass --subject or --san",
        ));
    }
    let mut builder = RequestBuilder::new(wanted.subject.clone(), public_key(key)?);
    for name in &wanted.san {
        builder = builder.alternative_name(name.clone());
    }
    for usage in &wanted.eku {
        builder = builder.extended_key_usage(*usage);
    }
    for usage in &wanted.key_usage {
        builder = builder.key_usage(*usage);
    }
    if let Some(attribute) = attribute {
        builder = builder.attestation(attribute);
    }
    let unsigned = builder
        .build()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let pin = secret::present("PIN", &pin.source())?;
    let signed = sign(card, key, &pin, &unsigned, daemon)?;
    match format {
        Encoding::Der => file::write(out, signed.der())?,
        Encoding::Pem => file::write(out, signed.to_pem().as_bytes())?,
    }
    if let Some(out) = out {
        note(&format!(
            "request for key {} written to {}",
            title(key),
            out.display()
        ));
    }
    Ok(())
}
