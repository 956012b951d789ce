//! What came back, before it is stored.

use cardea_pki::{Certificate, PublicKey};

use crate::error::Error;
use crate::order::Wanted;
use crate::trust::Trust;

/// Clocks differ.
const TOLERANCE: i64 = 300;

/// A certificate for our key, and what came along.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) certificate: Certificate,
    pub(crate) chain: Vec<Vec<u8>>,
}

/// Picks the certificate for a key; the others are its chain.
pub(crate) fn pick(all: &[Certificate], key: &PublicKey) -> Result<Found, Error> {
    let certificate = all
        .iter()
        .filter(|one| one.matches(key))
        .max_by_key(|one| one.not_before())
        .ok_or_else(|| {
            Error::Answer(
                "the authority sent a certificate for another key, which was not stored; ask its administrator"
                    .to_owned(),
            )
        })?;
    let others = all.iter().filter(|one| *one != certificate);
    Ok(Found {
        certificate: certificate.clone(),
        chain: others.map(|one| one.der().to_vec()).collect(),
    })
}

/// Whether it is valid now and, if somebody is trusted explicitly, issued by them.
pub(crate) fn can_be_stored(found: &Found, trust: Option<&Trust>, now: i64) -> Result<(), Error> {
    let certificate = &found.certificate;
    if now.saturating_add(TOLERANCE) < certificate.not_before() {
        return Err(Error::Answer(
            "the certificate is not valid yet: this computer's clock or the authority's is incorrect; nothing was stored"
                .to_owned(),
        ));
    }
    if now.saturating_sub(TOLERANCE) > certificate.not_after() {
        return Err(Error::Answer(
            "the certificate is no longer valid: this computer's clock or the authority's is incorrect; nothing was stored"
                .to_owned(),
        ));
    }
    let Some(trust) = trust else {
        return Ok(());
    };
    // Where clocks differ, the certificate's own beginning or end is the time that counts.
    let at = now.clamp(certificate.not_before(), certificate.not_after());
    trust
        .validate(certificate.der(), &found.chain, at)
        .map_err(|error| {
            Error::Untrusted(format!(
                "the certificate was not issued below the trusted authority and was not stored: {error}"
            ))
        })
}

/// What was asked for and is not there; an authority may know better, and a person must see it.
pub(crate) fn differences(certificate: &Certificate, wanted: &Wanted) -> Vec<String> {
    let mut found = Vec::new();
    if !wanted.subject.is_empty() && wanted.subject.to_string() != certificate.subject().to_string()
    {
        found.push(format!(
            "the subject is {} instead of {}",
            certificate.subject(),
            wanted.subject
        ));
    }
    for name in &wanted.san {
        if !certificate.alternative_names().contains(name) {
            found.push(format!("the name {name} is missing"));
        }
    }
    for usage in &wanted.eku {
        if !certificate.extended_key_usages().contains(usage) {
            found.push(format!("it is not for {usage}"));
        }
    }
    found
}
