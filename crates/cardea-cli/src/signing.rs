//! `cardea csr …`, and signatures by keys of a card.

use std::path::Path;

use cardea_client::message::{
    CardDetails, Hash, KeySummary, Operation, Reply, Request, SecretBytes,
};
use cardea_pki::{DigestAlgorithm, RequestBuilder, SignatureAlgorithm, Signed, ToBeSigned};

use crate::arguments::{CsrVerb, Encoding, PinArguments, Wanted};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::key::{self, select, title};
use crate::output::note;
use crate::{file, secret};

pub(crate) fn run(verb: &CsrVerb, connection: &mut Connection) -> Result<(), Failure> {
    match verb {
        CsrVerb::Create {
            card,
            key,
            wanted,
            format,
            out,
            pin,
        } => {
            let card = connection.usable(&card.card)?;
            let key = select(&card, key)?;
            create(
                &card,
                key,
                wanted,
                (*format, out.as_deref()),
                pin,
                connection,
            )
        }
    }
}

fn create(
    card: &CardDetails,
    key: &KeySummary,
    wanted: &Wanted,
    (format, out): (Encoding, Option<&Path>),
    pin: &PinArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    if format == Encoding::Der {
        file::not_to_terminal(out)?;
    }
    if wanted.subject.is_empty() && wanted.san.is_empty() {
        return Err(Failure::usage(
            "a request names somebody: give --subject or --san",
        ));
    }
    let mut builder = RequestBuilder::new(wanted.subject.clone(), key::public_key(key)?);
    for name in &wanted.san {
        builder = builder.alternative_name(name.clone());
    }
    for usage in &wanted.eku {
        builder = builder.extended_key_usage(*usage);
    }
    for usage in &wanted.key_usage {
        builder = builder.key_usage(*usage);
    }
    let unsigned = builder
        .build()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let pin = secret::present("PIN", &pin.source())?;
    let signed = sign(card, key, &pin, &unsigned, connection)?;
    match format {
        Encoding::Der => file::write(out, signed.der())?,
        Encoding::Pem => file::write(out, signed.to_pem().as_bytes())?,
    }
    if let Some(out) = out {
        note(&format!(
            "request for key {} written to {}",
            title(key),
            out.display()
        ))?;
    }
    Ok(())
}

/// Has the card sign, and checks what it signed.
pub(crate) fn sign(
    card: &CardDetails,
    key: &KeySummary,
    pin: &SecretBytes,
    unsigned: &ToBeSigned,
    connection: &mut Connection,
) -> Result<Signed, Failure> {
    let digest = unsigned.digest();
    let operation = match unsigned.signature_algorithm() {
        SignatureAlgorithm::EcdsaSha256 | SignatureAlgorithm::EcdsaSha384 => {
            Operation::SignEcdsa { digest }
        }
        SignatureAlgorithm::RsaSha256
        | SignatureAlgorithm::RsaSha384
        | SignatureAlgorithm::RsaSha512 => Operation::SignPkcs1 {
            hash: match unsigned.digest_algorithm() {
                DigestAlgorithm::Sha256 => Hash::Sha256,
                DigestAlgorithm::Sha384 => Hash::Sha384,
                DigestAlgorithm::Sha512 => Hash::Sha512,
            },
            digest,
        },
    };
    let request = Request::UseKey {
        card: card.summary.card_id.clone(),
        pin: Some(pin.clone()),
        reference: key.reference,
        operation,
    };
    let signature = match connection.call(&request, "signing")? {
        Reply::Result(signature) => signature,
        _ => return Err(Connection::unexpected()),
    };
    unsigned.finish(signature.expose()).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("what the card signed is not right, nothing was written: {error}"),
        )
    })
}
