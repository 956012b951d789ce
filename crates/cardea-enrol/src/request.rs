//! Requests for a key of the card.

use cardea_pki::SignatureAlgorithm;

use crate::card::{Scheme, SharedCard};
use crate::error::Error;
use crate::job::Job;
use crate::order::Wanted;

/// A request of PKCS#10 for the job's key, which signs it.
pub(crate) fn pkcs10(job: &Job, wanted: &Wanted, card: &SharedCard) -> Result<Vec<u8>, Error> {
    let (key, reference) = (job.public()?, job.reference()?);
    let mut builder = wanted.request(&key);
    if job.order.attest {
        builder = builder.attestation(card.with(|card| card.attestation(reference))?);
    }
    let unsigned = builder.build()?;
    let scheme = Scheme::Certificate(SignatureAlgorithm::default_for(key.kind()));
    let signature = card.with(|card| card.sign(reference, scheme, unsigned.bytes()))?;
    let signed = unsigned.finish(&signature).map_err(|_| {
        Error::Job("the card's signature does not verify; nothing was sent".to_owned())
    })?;
    Ok(signed.der().to_vec())
}
