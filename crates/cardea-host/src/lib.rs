//! The cards of a machine, between the TPM, the card files and the doors.
//!
//! What: loading card files and checking them before use, creation and destruction, the reader's slots, who may do
//! what, the audit.
//! What not: no APDU is parsed here and no TPM command built; the engine and `cardea-tpm` do that. No door: what
//! comes over a socket or a bus is translated elsewhere.
//! Never: a TPM command that spends a try for a card file that is not trusted; an acknowledgement of what
//! would not survive a power cut; a call to pcscd.
//! Begin with [`Counter::serve`].
//!
//! A door makes a [`Visitor`] of whoever is there and calls the [`Counter`]; it has no other way to a card.

#![forbid(unsafe_code)]

mod counter;
mod failure;
mod fault;
mod holder;
mod host;
mod lifecycle;
mod names;
mod sync;
mod system;
mod time_limits;

pub use cardea_card::gids::ATR;
pub use cardea_card::record::CardId;
pub use cardea_card::secret::erase_stack;
pub use cardea_tpm::Chip;

pub use counter::{Counter, Visitor};
pub use failure::{chain, fail};
pub use holder::challenge::{AdminChallenge, AdminTask, Deadline};
pub use host::Host;
pub use host::accounts::Accounts;
pub use host::audit::{Actor, Audit, Door, RemoteCaller};
pub use host::describe::{InUse, details};
pub use host::hosted::{Counts, HostedCard};
pub use host::permission::{Caller, Grant, Right, Roles};
pub use host::presence::{ActiveUsers, Presence};
pub use host::prompt::{
    CallerGone, ConsentRequest, NoAnswer, Prompter, Purpose, Question, UnblockMode, plausible,
};
pub use host::slots::{FRIENDLY_NAME, MAX_SLOTS, SlotStates, Slots, reader_name};
pub use host::tpm::Connect;
pub use lifecycle::keeper::keep;
pub use lifecycle::load::load;
pub use lifecycle::redirection::Redirection;
pub use names::{check_name, user_id, user_name};
pub use sync::lock;
pub use time_limits::{ANSWER_TIME, CONSENT_TIME};
