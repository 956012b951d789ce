//! Certificates from an authority onto a card: EST (RFC 7030) and CMP (RFC 9810), as jobs that survive a power cut.
//!
//! What: the job and its file ([`Job`], [`Journal`]), what is sent next and what an answer means (`est`, `cmp`: no I/O),
//! the checks of what came back, HTTP and TLS with the card's key ([`HttpClient`]), the order of all that
//! ([`Run`]).
//! What not: a PIN. Whoever implements [`Card`] has it, asks for it after the network is known to work, and never again
//! after a wrong one.
//! Begin with [`Run::advance`].
//!
//! What never happens here: a key that is made twice for one job; a certificate that is stored unchecked; belief in an
//! answer that nobody trusted has protected; a secret in a job's file.

#![forbid(unsafe_code)]

mod card;
mod check;
mod cmp;
mod error;
mod est;
mod http;
mod job;
mod journal;
mod order;
mod profile;
mod request;
mod run;
mod tls;
mod trust;

pub use card::{Card, CardKey, Scheme, SharedCard};
pub use error::{CardError, Error};
pub use http::{HttpAnswer, HttpClient, HttpRequest, Identity, Transport};
pub use job::{Job, Renewed, State};
pub use journal::{FolderJournal, Journal};
pub use order::{Order, Protocol};
pub use profile::{Attest, Profile};
pub use run::{Credentials, Outcome, Run, authority_certificates, bootstrap, renewal_due};
pub use trust::Trust;
