//! Names that can be shown: of cards, machines and programs.

use cardea_client::message::{Failure, FailureKind, MAX_NAME};

use cardea_terms::invalid_card_name;
use nix::unistd::{Uid, User};

use crate::failure::fail;

/// Whether a card can have this name.
pub fn check_name(name: &str) -> Result<(), Failure> {
    match invalid_card_name(name) {
        Some(reason) => Err(fail(FailureKind::Invalid, reason)),
        None => Ok(()),
    }
}

/// What can be shown in one line.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}

/// The number of the user of that name, if the user database has one.
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    Some(User::from_name(name).ok()??.uid.as_raw())
}

/// A user's name, or the number of one that the user database does not name. Asks the name service, which may take
/// its time.
#[must_use]
pub fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_at_which_programs_split_is_refused_with_the_reason() {
        assert!(check_name("Alice's card").is_ok());
        for (name, reason) in [
            ("work:Alice", "colon"),
            ("Ada ", "blank"),
            (" Ada", "blank"),
        ] {
            let failure = check_name(name).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Invalid);
            assert!(failure.message.contains(reason), "{}", failure.message);
        }
    }

    #[test]
    fn names_are_one_line() {
        assert!(is_name("alice at laptop"));
        for wrong in ["", "a\nb", "\u{1b}[2J", &"a".repeat(MAX_NAME + 1)] {
            assert!(!is_name(wrong), "{wrong:?}");
        }
    }
}
