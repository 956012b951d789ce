//! What a server remembers: its objects with their references, and who pings them.

mod objects;
mod pings;

pub use objects::{Found, Lifetime, MAX_OBJECTS, MAX_REFERENCES, ObjectTable, TableFull};
pub use pings::{MAX_SETS, PING_SECONDS, PingSets, Pinger};
