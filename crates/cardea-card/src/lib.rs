//! The card: everything between an APDU and the traits of [`token`].
//!
//! What: the engine ([`Card`], [`Connection`]), the GIDS application ([`gids`]), the card as doors other than APDUs
//! see it, the data model of a card file ([`record`]).
//! What not: no I/O, no clock, no global state; nothing here knows TPMs, sockets or files.
//! Begin with [`Card::transmit`]; [`Application`] says what a card application is.

#![forbid(unsafe_code)]

mod card;
mod engine;
mod event;
pub mod gids;
mod holder;
mod key_number;
pub mod record;
pub mod secret;
pub mod token;
#[cfg(feature = "weakened")]
pub mod weakened;

pub use card::{Guest, KeptKey};
pub use event::Event;
pub use key_number::KeyNumber;

pub use engine::{
    Application, Applications, Card, CardError, Catalogue, Command, Connection, Failure,
    KeyReference, KeyUsage, NewKey, PendingOperation, Reply, SelectedApplication, SessionKeyId,
    SessionKeyOwner, Verdict,
};
pub use holder::NewObject;
