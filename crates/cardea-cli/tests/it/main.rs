//! The command as people and scripts run it, against a daemon with a software TPM.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests"
)]

mod attest;
mod audit;
mod authority;
mod bad_input;
mod cards;
mod certificates;
mod completions;
mod doctor;
mod documents;
mod errors;
mod helpdesk;
mod keys;
mod lines;
mod manual;
mod masters;
mod prompts;
mod secrets;
mod setup;
mod support;
mod tasks;
mod tpm;
mod tpmvscmgr;
mod walk;
