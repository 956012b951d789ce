//! What attackers try, each written once: it must come to nothing against the engine, and succeed against an
//! engine that is weak on purpose (feature `weakened`), or the test would show nothing.
//!
//! `docs/threat-model.md` has the table.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]
#![cfg_attr(
    feature = "weakened",
    allow(dead_code, reason = "not every attack has a weakness of its own")
)]

mod answers_bus;
mod bench;
#[cfg(feature = "weakened")]
mod birth_key;
mod bus;
mod creation_bus;
mod edited;
mod entry_bus;
mod exploit;
mod forged;
mod forgetful;
mod guesses;
mod hierarchies;
mod import_bus;
mod interposer;
mod lockout;
mod matrix;
mod memory;
mod needles;
#[cfg(not(feature = "weakened"))]
mod objects;
mod raw;
mod recoverable;
mod recoverable_bus;
mod rollback;
mod roots;
mod sessions;
mod takeover;
mod ticket_bus;
mod tickets;
mod vault;
#[cfg(feature = "weakened")]
mod weakened;
#[cfg(feature = "weakened")]
mod weakened_bus;
mod wire;
#[cfg(not(feature = "weakened"))]
mod withstood;
#[cfg(not(feature = "weakened"))]
mod withstood_bus;
