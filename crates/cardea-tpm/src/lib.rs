//! TPM 2.0 under the cards.
//!
//! What: transports, sessions, policies, the storage root key, making and destroying a card's objects, and the
//! traits of `cardea-card` ([`CardToken`]) on top; one caller at a time, in turn.
//! What not: no APDU, no file; a record is given and given back.
//! Begin with [`Service`].
//!
//! A card is one to three PIN_FAIL NV indices, whose policies only the card's erased birth key could have
//! approved, and keys whose policy asks for the PIN index's value. See [`policy`] for the algebra.

#![forbid(unsafe_code)]

mod admin;
mod administration;
mod approve;
mod attestation;
pub mod auth;
mod chip;
mod clock;
mod code;
mod commands;
mod core;
mod counter_object;
mod create;
mod crypto;
mod endorsement;
mod error;
mod examination;
mod examine;
mod grant;
mod hierarchy;
mod hierarchy_admin;
mod hmac_key;
mod import;
mod inner;
mod intent;
mod kept_examination;
mod operate;
mod operation;
mod owner;
mod perform;
pub mod policy;
mod probe;
mod promise;
mod proof;
mod queue;
mod random;
mod recovery;
mod rsa_key;
mod seal;
mod sealed;
mod service;
mod session;
mod simulator;
mod spin_wait;
mod srk;
mod status;
mod token;
mod tpm;
mod transport;
mod trusted_record;
mod turns;
pub mod vault;
mod verdict;
mod wire;

pub use attestation::{CertifiedIndex, CertifiedKey, CertifiedKeys, Challenge, Evidence};
pub use chip::Chip;
pub use clock::TpmTime;
pub use commands::Statement;
pub use counter_object::{LockoutRoom, without_open_approvals};
pub use create::{ADM_LIMIT, NewCard, NewSecrets, PIN_LIMIT, PUK_LIMIT, PreparedCard};
pub use endorsement::EndorsementKey;
pub use error::{ResponseCode, TpmError};
pub use examination::{Capacity, CounterFinding, Examination, Model, Obstacle, OptionalCommand};
pub use hierarchy::{Hierarchy, HierarchyAuth, HierarchyAuthLengthError};
pub use hierarchy_admin::{DefinedIndex, HierarchyPolicy, LockoutParameters};
pub use hmac_key::HmacKey;
pub use intent::{IntentIndex, NV_RANGE};
pub use queue::DeferIdleWork;
pub use service::Service;
pub use status::Status;
pub use token::CardToken;
pub use tpm::CommandCount;
pub use transport::{Address, AddressError};
pub use trusted_record::{CardFault, DescribedKey, describe_keys, own_indices};
pub use vault::AdminKey;
