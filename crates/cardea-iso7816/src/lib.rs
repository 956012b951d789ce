//! ISO/IEC 7816 wire formats, as far as a card and its clients need them.
//!
//! What: command and response APDUs in short and extended form ([`CommandApdu`], [`ResponseApdu`]), the
//! class byte ([`Class`]), command chaining ([`ChainBuffer`]), GET RESPONSE ([`ResponseBuffer`]), status
//! words ([`StatusWord`]), BER-TLV data objects ([`tlv`]) and the answer to reset ([`Atr`]).
//! What not: no command has a meaning here, nothing is read or written but byte slices, and nothing a peer
//! sends makes this crate panic.
//! Begin with [`CommandApdu::parse`].

#![forbid(unsafe_code)]

mod apdu;
mod atr;
mod chain;
mod class;
mod response;
mod status;
pub mod tlv;

pub use apdu::{ApduError, CommandApdu, Form, MAX_NE_EXTENDED, MAX_NE_SHORT};
pub use atr::{Atr, AtrError, Convention, InterfaceBytes};
pub use chain::{ChainBuffer, ChainError, Collected};
pub use class::{Chaining, Class, Interindustry, SecureMessaging};
pub use response::{NothingPending, ResponseApdu, ResponseBuffer};
pub use status::StatusWord;
