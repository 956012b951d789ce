//! `cardea attest …` about a card: its attestation key, the messages of an authority, and its evidence.

use std::path::Path;

use cardea_attest::exchange::Issued;
use cardea_attest::{Statement, csr, name_of_public};
use cardea_client::message::{
    Attestation, ByteVec, CardDetails, CardRequest, KeySummary, Reply, Request,
};
use cardea_pki::Certificate;
use serde_json::{Value, json};

use crate::arguments::{Digits, EvidenceArguments, OutputArguments};
use crate::daemon::Daemon;
use crate::describe::prospect;
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex::plain;
use crate::on_card::{now, public_key, select};
use crate::terminal::clock::local;
use crate::terminal::output::{note, print, print_json, printable};

pub(super) fn show(
    card: &str,
    output: OutputArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let card = daemon.show(card)?;
    let attestation = attestation(&card)?;
    match output.json {
        true => Ok(print_json(&to_json(&card, attestation))?),
        false => Ok(print(&text(&card, attestation))?),
    }
}

pub(super) fn enable(card: &str, daemon: &mut Daemon) -> Result<(), Failure> {
    let card = daemon.usable(card)?;
    let id = card.summary.card_id.clone();
    let request = Request::card(id.clone(), CardRequest::MakeAttestationKey);
    daemon.order(&request, "making an attestation key")?;
    let card = daemon.show(&id)?;
    note(&format!(
        "the card has an attestation key, {}; that its limits of tries last, it cannot prove: a new card can, with \
         `cardea card create --attest`",
        name(attestation(&card)?)
    ));
    Ok(())
}

pub(super) fn request(card: &str, out: &Path, daemon: &mut Daemon) -> Result<(), Failure> {
    let card = daemon.usable(card)?;
    let id = card.summary.card_id;
    let message = ask(
        &id,
        CardRequest::RequestAttestation,
        "asking the TPM",
        daemon,
    )?;
    file::write(Some(out), &message)?;
    note(&format!(
        "send {} to the attestation authority; its challenge is answered by `cardea attest answer`",
        out.display()
    ));
    Ok(())
}

pub(super) fn answer(
    card: &str,
    challenge: &Path,
    out: &Path,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let challenge = file::read(challenge)?.to_vec();
    let card = daemon.usable(card)?;
    let request = CardRequest::AnswerAttestation { challenge };
    let what = "opening the challenge";
    let message = ask(&card.summary.card_id, request, what, daemon)?;
    // Whoever has it within the next minutes can have the certificate made, and nothing else.
    file::write_secret(out, &message)?;
    note(&format!(
        "send {} to the attestation authority; what it issues is stored by `cardea attest import`",
        out.display()
    ));
    Ok(())
}

pub(super) fn import(card: &str, issued: &Path, daemon: &mut Daemon) -> Result<(), Failure> {
    let certificates = chain(issued)?;
    let card = daemon.usable(card)?;
    let id = card.summary.card_id;
    let request = Request::card(id.clone(), CardRequest::StoreAttestation { certificates });
    daemon.order(&request, "storing the certificates")?;
    let card = daemon.show(&id)?;
    print(&text(&card, attestation(&card)?))?;
    Ok(())
}

pub(super) fn evidence(arguments: &EvidenceArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let card = daemon.usable(&arguments.card.card)?;
    let keys = match &arguments.key[..] {
        [] => None,
        wanted => {
            let keys = wanted.iter().map(|key| select(&card, key));
            let keys = keys.collect::<Result<Vec<_>, _>>()?;
            Some(keys.iter().map(|key| key.reference).collect())
        }
    };
    let nonce = arguments.nonce.as_ref();
    let nonce = nonce.map_or_else(Vec::new, |nonce| nonce.0.clone());
    let ask = CardRequest::Evidence { nonce, keys };
    let request = Request::card(card.summary.card_id.clone(), ask);
    let Reply::Evidence { bundle, level } = daemon.call(&request, "asking the TPM for evidence")?
    else {
        return Err(Daemon::unexpected());
    };
    file::write(Some(&arguments.out), &bundle)?;
    let out = arguments.out.display();
    note(&format!("evidence of level {level} written to {out}"));
    let attestation = attestation(&card)?;
    if attestation.certificates.is_empty() {
        note(&format!(
            "the attestation key has no certificate: only who knows its name, {}, can verify this",
            name(attestation)
        ));
    }
    if level == 1 && attestation.sealed {
        note("after the next restart of the computer this card can give evidence of level 2");
    }
    Ok(())
}

/// What proves in a certificate request where its key is.
pub(super) fn attribute(
    card: &CardDetails,
    key: &KeySummary,
    nonce: Option<&Digits>,
    daemon: &mut Daemon,
) -> Result<Vec<u8>, Failure> {
    let attestation = attestation(card)?;
    if attestation.certificates.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            "the attestation key has no certificate, without which nobody could verify the request: get one from an \
             attestation authority with `cardea attest request`",
        ));
    }
    let nonce = nonce.map(|nonce| &nonce.0[..]);
    let spki = public_key(key)?.to_spki_der();
    let id = &card.summary.card_id;
    let certify = CardRequest::CertifyKey {
        reference: key.reference,
        qualifying: csr::qualifying_data(nonce, &spki),
    };
    let certify = Request::card(id.clone(), certify);
    let Reply::Statement {
        attest,
        signature,
        public,
    } = daemon.call(&certify, "asking the TPM about the key")?
    else {
        return Err(Daemon::unexpected());
    };
    let evidence = CardRequest::Evidence {
        nonce: nonce.unwrap_or_default().to_vec(),
        keys: Some(vec![key.reference]),
    };
    let evidence = Request::card(id.clone(), evidence);
    let Reply::Evidence { bundle, .. } = daemon.call(&evidence, "asking the TPM for evidence")?
    else {
        return Err(Daemon::unexpected());
    };
    let certificates = attestation.certificates.iter();
    let certificates: Vec<_> = certificates.map(|it| it.to_vec()).collect();
    let statement = Statement { attest, signature };
    csr::attestation_attribute(&public, &statement, &certificates, Some(&bundle))
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// The attestation of a card that has some.
fn attestation(card: &CardDetails) -> Result<&Attestation, Failure> {
    card.attestation.as_ref().ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            "the card has no attestation key: make one with `cardea attest enable`, or create the card with --attest",
        )
    })
}

fn ask(
    card: &str,
    request: CardRequest,
    what: &str,
    daemon: &mut Daemon,
) -> Result<Vec<u8>, Failure> {
    match daemon.call(&Request::card(card.to_owned(), request), what)? {
        Reply::Attestation(message) => Ok(message),
        _ => Err(Daemon::unexpected()),
    }
}

/// The certificates in an authority's message, or in a file with certificates only.
fn chain(path: &Path) -> Result<Vec<ByteVec>, Failure> {
    let content = file::read(path)?;
    if let Ok(issued) = Issued::decode(&content) {
        return Ok(issued.certificates.into_iter().map(ByteVec::from).collect());
    }
    let certificates = Certificate::parse_all(&content).map_err(|error| {
        let text = format!(
            "{}: neither what an attestation authority has issued nor certificates: {error}",
            path.display()
        );
        Failure::new(Exit::Failed, text)
    })?;
    let der = certificates
        .iter()
        .map(|it| ByteVec::from(it.der().to_vec()));
    Ok(der.collect())
}

/// The Name by which the attestation key can be trusted without a certificate.
fn name(attestation: &Attestation) -> String {
    let name = name_of_public(&attestation.public);
    name.map_or_else(String::new, |name| plain(&name))
}

fn text(card: &CardDetails, attestation: &Attestation) -> String {
    let mut text = format!(
        "Card             {}\nAttestation key  {}\nEvidence         {}\n",
        printable(&card.summary.name),
        name(attestation),
        prospect(attestation).1
    );
    let mut certificates = attestation.certificates.iter();
    match certificates.next().map(|own| Certificate::parse(own)) {
        None => text.push_str(
            "Certificate      none: request one from an attestation authority with `cardea attest request`\n",
        ),
        Some(Err(error)) => text.push_str(&format!("Certificate      cannot be read: {error}\n")),
        Some(Ok(own)) => {
            let end = own.not_after();
            let state = if end < now() { " (over)" } else { "" };
            text.push_str(&format!(
                "Certificate      by {}\n                 until {}{state}\n",
                printable(&own.issuer().to_string()),
                local(end)
            ));
        }
    }
    text
}

fn to_json(card: &CardDetails, attestation: &Attestation) -> Value {
    let certificates = attestation.certificates.iter();
    let pem = certificates.filter_map(|der| Some(Certificate::parse(der).ok()?.to_pem()));
    json!({
        "card_id": card.summary.card_id,
        "name": card.summary.name,
        "attestation_key": name(attestation),
        "sealed": attestation.sealed,
        "level": prospect(attestation).0,
        "certificates": pem.collect::<Vec<_>>(),
    })
}
