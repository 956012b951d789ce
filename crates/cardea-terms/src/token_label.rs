//! The label and the model of a card's token in PKCS#11.
//!
//! Programs find a token by its label, and split text at characters that a label may have: NSS writes
//! `token:nickname`, MIT krb5 `PKCS11:module_name=…:token=…`. Blanks at the end are the field's padding.

use crate::card::CounterMode;
use crate::shown::is_unsafe_to_show;

/// Length of the field in bytes (PKCS#11 3.1 §3.2, `CK_TOKEN_INFO`).
const FIELD: usize = 32;

/// Longest name of a card in bytes.
const MAX_CARD_NAME: usize = 127;

/// What programs take for the end of a token's name.
const SEPARATOR: char = ':';

/// Stands for what a label must not have.
const REPLACEMENT: char = '_';

/// The label of a card of this name: what programs split at or do not show is replaced, blanks at the ends are left
/// out, and what does not fit is cut off at a character.
#[must_use]
pub fn token_label(name: &str) -> String {
    let safe = |c| match c == SEPARATOR || is_unsafe_to_show(c) {
        true => REPLACEMENT,
        false => c,
    };
    let mut label = String::new();
    for c in name.trim().chars().map(safe) {
        if label.len() + c.len_utf8() > FIELD {
            break;
        }
        label.push(c);
    }
    label.truncate(label.trim_end().len());
    if label.is_empty() {
        label.push(REPLACEMENT);
    }
    label
}

/// The model of a card's token, at most 16 bytes: it shows where wrong PINs are counted. A card in object mode promises
/// less, and a program that is to use others only can ask for their model by its URI.
#[must_use]
pub fn token_model(mode: Option<CounterMode>) -> &'static str {
    match mode {
        Some(CounterMode::Object) => "TPM object card",
        Some(CounterMode::Nv | CounterMode::NvOwner) | None => "TPM card",
    }
}

/// Why no card can be given this name.
#[must_use]
pub fn invalid_card_name(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > MAX_CARD_NAME {
        return Some(format!(
            "a name must have 1 to {MAX_CARD_NAME} bytes, not {}",
            name.len()
        ));
    }
    if name.chars().any(char::is_control) {
        return Some("a name must not have control characters".into());
    }
    unsafe_in_label(name).map(str::to_owned)
}

/// Why a new card should not have this name: its token could not be found by it.
#[must_use]
pub fn unsafe_in_label(name: &str) -> Option<&'static str> {
    if name.contains(SEPARATOR) {
        return Some(
            "a name must not have a colon: NSS, Kerberos and others end the token's name there",
        );
    }
    (name.trim() != name)
        .then_some("a name must not begin or end with a blank: programs leave it out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_has_nothing_at_which_programs_split() {
        for (name, label) in [
            ("Alice", "Alice"),
            ("Alice's card & more; 1/2?", "Alice's card & more; 1/2?"),
            ("work: Alice", "work_ Alice"),
            ("  Ada  ", "Ada"),
            ("a\u{202E}b\nc", "a_b_c"),
            (":", "_"),
            (" ", "_"),
            ("", "_"),
        ] {
            assert_eq!(token_label(name), label, "{name:?}");
        }
    }

    #[test]
    fn label_is_cut_at_a_character_without_its_padding() {
        assert_eq!(token_label(&"x".repeat(40)), "x".repeat(32));
        // The last letter would take the 32nd and the 33rd byte.
        let start = "x".repeat(31);
        assert_eq!(token_label(&format!("{start}ä and more")), start);
        assert_eq!(token_label(&format!("{start} and more")), start);
    }

    #[test]
    fn new_name_is_its_own_label_as_far_as_it_fits() {
        for name in ["Alice", "Käthe's card", "a b", "x=y;z"] {
            assert_eq!(unsafe_in_label(name), None, "{name:?}");
            assert_eq!(token_label(name), name);
            assert_eq!(invalid_card_name(name), None);
        }
        for name in ["", "a\nb", &"x".repeat(128), "work:Alice"] {
            assert!(invalid_card_name(name).is_some(), "{name:?}");
        }
        for name in ["work:Alice", ":", " Ada", "Ada ", "Ada\u{a0}"] {
            assert!(unsafe_in_label(name).is_some(), "{name:?}");
        }
    }
}
