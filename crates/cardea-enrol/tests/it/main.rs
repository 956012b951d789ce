//! Jobs that are cut at each of their writes, and answers that must not be believed.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod authority;
mod cmp;
mod cuts;
mod hostile;
mod journal;
mod renewal;
