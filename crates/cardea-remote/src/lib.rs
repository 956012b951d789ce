//! The card manager of another machine, MS-TPMVSC over DCOM, as its client: cards made and destroyed there.
//!
//! What: activation, the manager's methods, the object that hears of progress, pings; accounts and tickets to call with.
//! What not: no terminal, and no decision about what a card is like; nothing is believed of a machine but what it has
//! signed, and nothing of that is used to connect to a third one.
//! Begin with [`Machine::create`].

#![forbid(unsafe_code)]

mod account;
mod callback;
mod card;
mod error;
mod machine;
mod manager;
mod tickets;
mod watch;

pub use account::{Account, PlainName};
pub use card::{NewCard, key_check_value};
pub use error::RemoteError;
pub use machine::{Machine, RESOLVER_PORT};
pub use tickets::{NoTicket, has_tickets};
pub use watch::{Event, Watch};
