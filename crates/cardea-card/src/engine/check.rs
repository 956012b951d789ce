//! Is a record one that this engine can have written? A card file is not believed.
//!
//! What belongs to an application it checks itself.

use std::collections::BTreeSet;

use super::error::CardError;
use crate::record::CardRecord;
use cardea_terms::PinPolicy;

/// Checks everything that later code of the engine relies on; gives the card's PIN policy.
pub(super) fn record(record: &CardRecord) -> Result<PinPolicy, CardError> {
    lengths(record)?;
    keys(record)?;
    match &record.settings.pin_policy {
        None => Ok(PinPolicy::default()),
        Some(bytes) => PinPolicy::parse(bytes).map_err(|_| damaged("the PIN policy is not valid")),
    }
}

fn lengths(record: &CardRecord) -> Result<(), CardError> {
    let valid = |lengths: &[u8]| {
        lengths.len() <= 2 && lengths.iter().all(|length| (1..=127).contains(length))
    };
    let operational = record.provisional.is_none();
    let lengths = &record.lengths;
    if operational && lengths.pin.is_empty() || !valid(&lengths.pin) || !valid(&lengths.puk) {
        return Err(damaged("the lengths of PIN and PUK are not valid"));
    }
    Ok(())
}

fn keys(record: &CardRecord) -> Result<(), CardError> {
    let mut numbers = BTreeSet::new();
    match record
        .keys
        .iter()
        .find(|key| !numbers.insert(key.reference))
    {
        None => Ok(()),
        Some(key) => Err(CardError::Damaged(format!(
            "key {:02X} has no place on the card",
            key.reference
        ))),
    }
}

fn damaged(what: &str) -> CardError {
    CardError::Damaged(what.to_owned())
}
