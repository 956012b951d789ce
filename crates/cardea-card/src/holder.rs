//! The card as doors other than APDUs see it: its keys with names and certificates, its objects, its settings.
//!
//! Who may is decided by the engine; where names and certificates are kept is the affair of the card's
//! [`Catalogue`](crate::engine::Catalogue). Whatever is changed here is one write.

mod administration;
mod certificates;
mod keys;
mod objects;

pub use self::objects::NewObject;
