//! `cardea attest …`: what a card proves, for whoever has neither the card nor its computer.

use std::path::PathBuf;

use cardea_attest::{
    AttestationTrust, Authority, Claims, EkOrigin, KeyClaim, Name, Nonce, Refusal, Role, Tries,
    Verifier,
};
use cardea_pki::{Certificate, PathCertificate};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::attestation;
use super::authority;
use crate::arguments::{AttestVerb, VerifyArguments};
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex::plain;
use crate::terminal::output::{print, print_json, printable};
use crate::terminal::width::{of_terminal, wrapped};

pub(crate) fn run(verb: &AttestVerb, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        AttestVerb::Answer {
            card,
            challenge,
            out,
        } => attestation::answer(&card.card, challenge, out, daemon),
        AttestVerb::Enable { card } => attestation::enable(&card.card, daemon),
        AttestVerb::Evidence(arguments) => attestation::evidence(arguments, daemon),
        AttestVerb::Import { card, issued } => attestation::import(&card.card, issued, daemon),
        AttestVerb::Request { card, out } => attestation::request(&card.card, out, daemon),
        AttestVerb::Show { card, output } => attestation::show(&card.card, *output, daemon),
        AttestVerb::Authority(verb) => authority::run(verb),
        AttestVerb::Verify(arguments) => verify(arguments),
    }
}

fn verify(arguments: &VerifyArguments) -> Result<(), Failure> {
    let bundle = file::read(&arguments.file)?;
    let authorities = certificates(&arguments.trust)?;
    let intermediates = certificates(&arguments.intermediate)?;
    let pins: Vec<Name> = arguments
        .attestation_key
        .iter()
        .map(|name| name.0)
        .collect();
    let verifier = Verifier {
        trust: AttestationTrust {
            authorities: &authorities,
            intermediates: &intermediates,
            pins: &pins,
            ek_policies: EkOrigin::POLICIES,
            ..AttestationTrust::default()
        },
        nonce: match &arguments.nonce {
            Some(nonce) => Nonce::Exactly(&nonce.0),
            None => Nonce::Any,
        },
        now: arguments.at.unwrap_or_else(Timestamp::now).as_second(),
        requirements: match &arguments.policy {
            Some(policy) => policy.0.clone(),
            None => Default::default(),
        },
    };
    let is_json = arguments.output.json;
    match verifier.verify(&bundle) {
        Ok(claims) if is_json => Ok(print_json(&accepted(&claims))?),
        Ok(claims) => Ok(print(&in_words(&claims))?),
        Err(refusal) => {
            if is_json {
                print_json(&refused(&refusal))?;
            }
            let code = refusal.code;
            Err(Failure::new(
                Exit::Failed,
                format!("refused ({code}): {refusal}"),
            ))
        }
    }
}

/// All certificates of some files.
fn certificates(files: &[PathBuf]) -> Result<Vec<PathCertificate>, Failure> {
    let mut all = Vec::new();
    for path in files {
        let bad = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
        };
        let content = file::read(path)?;
        for certificate in Certificate::parse_all(&content).map_err(|error| bad(&error))? {
            all.push(PathCertificate::parse(certificate.der()).map_err(|error| bad(&error))?);
        }
    }
    Ok(all)
}

/// Accepted evidence for people.
fn in_words(claims: &Claims) -> String {
    let columns = of_terminal(std::io::stdout());
    let mut text = format!("accepted, level {}\n\n", claims.level.number());
    for paragraph in claims.to_string().lines() {
        text.push_str(&wrapped(paragraph, 0, columns));
        text.push_str("\n\n");
    }
    for key in &claims.keys {
        text.push_str(&key.public_key.to_spki_pem());
    }
    if !claims.is_fresh {
        let old = "No nonce was asked for: all this was true at some time.";
        text.push_str(&format!("\n{}\n", wrapped(old, 0, columns)));
    }
    if claims.is_made_in_this_boot {
        let later = "The computer has not been restarted since the card was made: after the next restart it can give \
                     evidence of level 2.";
        text.push_str(&format!("\n{}\n", wrapped(later, 0, columns)));
    }
    if let Some(note) = &claims.note {
        let note = format!(
            "Whoever made the evidence notes, and it is not proven: {}",
            printable(note)
        );
        text.push_str(&format!("\n{}\n", wrapped(&note, 0, columns)));
    }
    text
}

/// Accepted evidence for programs.
fn accepted(claims: &Claims) -> Value {
    let tries = |tries: Tries| json!({ "limit": tries.limit, "wrong": tries.wrong });
    let unblock = claims.unblocking().map(|roles| {
        let word = |role: &Role| match role {
            Role::Puk => "puk",
            _ => "administrator",
        };
        roles.iter().map(word).collect::<Vec<_>>()
    });
    let (issuer, tpm, ek) = match &claims.authority {
        Authority::Certificate { issuer, tpm, ek } => (Some(issuer), tpm.as_ref(), *ek),
        Authority::Pinned => (None, None, None),
    };
    json!({
        "accepted": true,
        "level": claims.level.number(),
        "fresh": claims.is_fresh,
        "made_in_this_boot": claims.is_made_in_this_boot,
        "ak_issuer": issuer,
        "ek": ek.map(EkOrigin::word),
        "tpm": tpm.map(|tpm| json!({
            "manufacturer": tpm.manufacturer,
            "model": tpm.model,
            "version": tpm.version,
        })),
        "pin": tries(claims.pin),
        "puk": claims.puk.map(tries),
        "administrator": claims.administrator.map(tries),
        "unblock": unblock,
        "keys": claims.keys.iter().map(key).collect::<Vec<_>>(),
        "note": claims.note,
    })
}

fn key(key: &KeyClaim) -> Value {
    json!({
        "name": plain(&key.name),
        "spki": key.public_key.to_spki_pem(),
        "origin": key.origin.word(),
        "class": key.class.word(),
        "recovery": key.recovery.iter().map(|name| plain(name)).collect::<Vec<_>>(),
    })
}

fn refused(refusal: &Refusal) -> Value {
    json!({
        "accepted": false,
        "code": refusal.code.name(),
        "number": refusal.code.number(),
        "key": refusal.key,
        "reason": refusal.to_string(),
    })
}
