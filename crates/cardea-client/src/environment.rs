//! Variables of the process that this library is loaded into.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};

static DISTRUSTED: AtomicBool = AtomicBool::new(false);

/// From now on [`variable`] returns nothing: for a program with rights that its caller does not have, such as a
/// setuid one (`AT_SECURE`, getauxval(3)). Its environment is the caller's, and must not decide which daemon gets
/// the PIN.
pub fn distrust() {
    DISTRUSTED.store(true, Ordering::Relaxed);
}

/// A variable of the environment, if it is not empty and can be trusted.
#[must_use]
pub fn variable(name: &str) -> Option<OsString> {
    if DISTRUSTED.load(Ordering::Relaxed) {
        return None;
    }
    std::env::var_os(name).filter(|value| !value.is_empty())
}
