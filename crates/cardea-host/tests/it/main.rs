//! The counter as a door sees it, over a software TPM.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod adoption;
mod creation;
mod foreign;
mod lines;
mod pad;
mod support;
mod trial_door;
mod visits;
