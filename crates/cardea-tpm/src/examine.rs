//! Finding out about a TPM what [`Examination`] says.

use cardea_card::token::KeyAlgorithm;

use crate::core::Core;
use crate::error::{ResponseCode, TpmError};
use crate::examination::{Capacity, CounterFinding, Examination, Model, OptionalCommand};
use crate::probe::probe;

/// Examines the TPM, once per service. `taken` are handles that others claim.
///
/// What was not found out is an error, and nothing is guessed: the owner's authorisation is missing, NV is full, the
/// TPM is in lockout or does not answer. [`TpmError::Unfit`]: it does something that no TPM should, which may be
/// somebody on the way.
pub(crate) fn examine(core: &mut Core, taken: &[u32]) -> Result<Examination, TpmError> {
    let counters = match probe(core, taken) {
        Ok(()) => CounterFinding::Sound,
        Err(TpmError::CountReset) => CounterFinding::Resets,
        Err(TpmError::NvFull(error)) => match error.code() {
            // Its attributes are refused, which are a card's.
            Some(code) if code != ResponseCode::NV_SPACE => match *error {
                TpmError::Response { code, .. } => CounterFinding::Absent(code.0),
                other => return Err(other),
            },
            _ => return Err(TpmError::NvFull(error)),
        },
        Err(error) => return Err(error),
    };
    let (model, capacity) = properties(core)?;
    let mut algorithms = Vec::new();
    for algorithm in [
        KeyAlgorithm::Rsa2048,
        KeyAlgorithm::Rsa3072,
        KeyAlgorithm::P256,
        KeyAlgorithm::P384,
    ] {
        if core.supports(algorithm)? {
            algorithms.push(algorithm);
        }
    }
    let tpm = &mut core.link()?.tpm;
    let mut lacking = Vec::new();
    for command in OptionalCommand::ALL {
        if !tpm.has(command)? {
            lacking.push(command);
        }
    }
    Ok(Examination {
        model,
        counters,
        lacking,
        algorithms,
        aes: tpm.has_algorithm(ALG_AES)?,
        sha384: tpm.has_algorithm(ALG_SHA384)?,
        capacity,
    })
}

/// What is among the properties.
pub(crate) fn properties(core: &mut Core) -> Result<(Model, Capacity), TpmError> {
    let properties = core.link()?.tpm.properties(FIXED)?;
    let get = |wanted| {
        let mut properties = properties.iter();
        let found = properties.find(|(property, _)| *property == wanted);
        found.map_or(0, |(_, value)| *value)
    };
    let model = Model {
        manufacturer: get(0x105),
        vendor: [0x106, 0x107, 0x108, 0x109].map(get),
        firmware: [0x10B, 0x10C].map(get),
        revision: get(0x102),
        date: [0x104, 0x103].map(get),
    };
    let capacity = Capacity {
        objects: get(0x10E),
        loaded_sessions: get(0x110),
        active_sessions: get(0x111),
        context_gap: get(0x114),
        index_size: get(0x117),
    };
    Ok((model, capacity))
}

/// PT_FIXED (TPM 2.0 Part 2 §6.13).
const FIXED: u32 = 0x100;

/// TPM_ALG_ID (TPM 2.0 Part 2 §6.3).
const ALG_AES: u16 = 0x0006;
const ALG_SHA384: u16 = 0x000C;
