//! Every operation that changes TPM or card file is stopped at every moment: before and after each TPM command and
//! each save. Afterwards the card is in the state before or after; or, for unblocking, blocked with the new PIN.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests, outside the functions that clippy knows to be tests"
)]

mod administrator;
mod keys;
mod personalisation;
mod pins;
mod world;
