//! A password typed at the terminal, twice, without being shown.

use std::io::{self, ErrorKind};

use cardea_terminal::ask;
use zeroize::Zeroizing;

/// Asks on the controlling terminal.
///
/// # Errors
///
/// Without a terminal; `Interrupted` for control-C; `InvalidInput` for a line that cannot be a password, or two that differ.
pub fn new_password() -> io::Result<Zeroizing<String>> {
    let first = ask("password: ")?;
    let again = ask("password again: ")?;
    if first.is_empty() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "an empty password lets everybody in",
        ));
    }
    if *first != *again {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "the two entries do not match",
        ));
    }
    match std::str::from_utf8(&first) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "the password is not valid UTF-8",
        )),
    }
}
