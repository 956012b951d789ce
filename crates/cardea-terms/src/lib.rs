//! The words that all sides use: the engine, the socket's messages, the programs.
//!
//! What: plain enums and numbers, with their coding where a card file or the socket has them, and the word that
//! commands and JSON have for them.
//! And the rules that all doors share: what a new PIN must look like ([`PinPolicy`]), whether the numbers of a key
//! belong together ([`RsaNumbers`]), how text that somebody else chose is shown ([`tame`], [`for_dialog`]), and the
//! calendar ([`civil_from_days`]).
//! What not: no I/O, no secret that is kept, no other behaviour; sentences for people are made where they are shown.
//! Begin with [`KeyAlgorithm`]; what MS-TPMVSC has numbers for is in [`tpmvsc`].

#![forbid(unsafe_code)]

mod card;
mod date;
mod hierarchy;
mod key;
mod pin_policy;
mod rsa_numbers;
mod shown;
mod step;
mod token_label;
pub mod tpmvsc;

pub use card::{CounterMode, IndexRole, NO_SESSION_LIMIT, Visibility};
pub use date::civil_from_days;
pub use hierarchy::{PLATFORM, hierarchy_word};
pub use key::{Hash, KeyAlgorithm, KeyClass, MAX_KEYS, Origin, PublicKey};
pub use pin_policy::{
    CharacterClass, CharacterRule, PIN_LENGTHS, PinPolicy, PinPolicyError, PinRuleError,
};
pub use rsa_numbers::{RsaMisfit, RsaNumbers};
pub use shown::{SHOWN_COLUMNS, for_dialog, is_unsafe_to_show, tame, tame_within};
pub use step::Step;
pub use token_label::{invalid_card_name, token_label, token_model, unsafe_in_label};
