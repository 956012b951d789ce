//! Messages of CMP (RFC 9810, the profile of RFC 9483), with CRMF (RFC 4211) inside: written for requests, read for
//! answers.
//!
//! By hand, because the `cmpv2` crate of this generation of `der` is not released; and a message that is written is one
//! of a few forms, which are compared with OpenSSL's byte by byte.
//!
//! A request is built in two steps, as everything is here that a card signs: [`RequestMessage::protected_part`] is what
//! a key or a secret protects, [`RequestMessage::finish`] adds the protection.
//! [`Answer::parse`] reads what came back and believes nothing; [`Answer::is_protected_by_secret`] and
//! [`Answer::is_signed_by`] tell whether it can be believed.

mod answer;
mod protection;
mod request;
mod template;

pub use answer::{
    Answer, AnswerBody, CertificateResponse, MAX_ANSWER, PollReply, Status, StatusInfo,
};
pub use protection::{MAX_ITERATIONS, Mac, SecretProtection};
pub use request::{Protection, RequestBody, RequestHeader, RequestMessage};
pub use template::{CertificateTemplate, OldCertificate};
