//! Randomness.

/// Randomness of the operating system; the daemon has none better.
///
/// # Panics
///
/// When the kernel has no random source: nothing safe can be done then.
pub(crate) fn random(buffer: &mut [u8]) {
    #[expect(
        clippy::expect_used,
        reason = "without randomness no key or nonce may be made"
    )]
    getrandom::fill(buffer).expect("the kernel's random source works");
}
