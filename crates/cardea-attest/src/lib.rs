//! What a card can prove to a stranger, who has neither the card nor its computer.
//!
//! What: the evidence bundle of a card ([`Bundle`]), its verifier ([`Verifier`]: bundle, trust, nonce and time in;
//! [`Claims`] or the first [`Refusal`] out), and the authority that certifies a card's attestation key ([`authority`],
//! with its messages in [`exchange`]): it checks the TPM's endorsement key ([`EkTrust`]), and makes a credential that
//! only that TPM can open ([`make_credential`]).
//! The same proofs in the forms of others: certificate requests ([`csr`]), ACME ([`webauthn`]).
//! What not: no TPM and no card; bundles are made elsewhere. No JSON: what programs print of [`Claims`] is theirs.
//! Begin with [`Verifier::verify`]; `examples/authority.rs` is a small certification authority.
//! The format and all codes are described in `docs/design/attestation.md`.
//!
//! What never happens here:
//! * I/O, a clock, randomness: files, times and random bytes are handed in;
//! * a secret that is kept, except the key of an authority that was handed in: the seeds of a credential are erased;
//! * a panic on what a bundle contains, or work without bound that it asks for.

#![forbid(unsafe_code)]

pub mod authority;
mod bundle;
mod cbor;
mod claims;
mod code;
mod credential;
pub mod csr;
mod endorsement;
pub mod exchange;
mod identity;
mod policy;
mod structure;
#[cfg(test)]
mod tests;
mod verify;
pub mod webauthn;
mod wire;

pub use bundle::{
    Bundle, Creation, Form, Index, Key, MAX_BUNDLE, MAX_NONCE, Role, Statement, Witness,
};
pub use claims::{Authority, Claims, CreationClaim, KeyClaim, Level, Tries};
pub use code::{Code, Refusal};
pub use credential::{Credential, make_credential};
pub use endorsement::{EkTrust, EkVoucher, EndorsementKey, certificates_in_nv};
pub use identity::{EkOrigin, Revoked, TpmIdentity};
pub use policy::{Name, qualified_name, recovery_target};
pub use structure::name_of_public;
pub use verify::{
    AttestationTrust, BadFirmware, Nonce, Requirements, Verifier, attestation_key_public,
    qualifying_data,
};

/// The media type of a bundle.
pub const MEDIA_TYPE: &str = "application/vnd.cardea.evidence+cbor";
