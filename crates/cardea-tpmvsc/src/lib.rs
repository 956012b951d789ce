//! MS-TPMVSC over DCOM: an administrator's other machine makes and destroys cards here.
//!
//! What: the network service: accounts, the DCOM object, and its orders to the daemon.
//! What not: nothing of the TPM or of card files; whatever is done to cards is asked of the daemon on its private
//! socket.
//! Begin with [`service::Service`], which `cardea_rpc::server` puts on the network; `docs/remote-cards.md` says why
//! it is as it is.

#![forbid(unsafe_code)]

pub mod accounts;
pub mod config;
pub mod manager;
pub mod prompt;
pub mod service;
