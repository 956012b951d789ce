//! MS-TPMVSC over DCOM: an administrator's other machine makes and destroys cards here.
//!
//! What: authentication of the callers, and the accounts that are let in.
//! What not: nothing of the TPM or of card files; whatever is done to cards is asked of the daemon on its private
//! socket.
//! Begin with [`auth`].

#![forbid(unsafe_code)]

pub mod accounts;
pub mod auth;
pub mod manager;
pub mod prompt;
pub mod rpc;
pub mod server;
mod stream;
