//! Text that somebody else has chosen (names, labels, paths of programs, subjects), before a person sees it.
//!
//! It must stay on its line, look like what it is, and leave room for what matters: whoever names a card or a program
//! does not write the dialog.

use unicode_width::UnicodeWidthChar;

/// Columns that foreign text has in a dialog.
pub const SHOWN_COLUMNS: usize = 60;

/// Replaces what a terminal or a dialog would obey, or show as nothing: control and format characters, and separators
/// of lines and paragraphs (Unicode's Cc, Cf, Zl and Zp).
#[must_use]
pub fn tame(text: &str) -> String {
    text.chars()
        .map(|c| if is_unsafe_to_show(c) { '\u{FFFD}' } else { c })
        .collect()
}

/// Like [`tame`], and leaves out the middle of what is wider than this: of a path, where it begins and the program's
/// name stay.
#[must_use]
pub fn tame_within(text: &str, columns: usize) -> String {
    let text = tame(text);
    // Accents have no width of their own, and could be piled up without end.
    let width = |c: &char| c.width().unwrap_or(0).max(1);
    if text.chars().map(|c| width(&c)).sum::<usize>() <= columns {
        return text;
    }
    let fitting = |characters: &mut dyn Iterator<Item = char>, columns: usize| {
        let mut used = 0;
        let fits = |c: &char| {
            used += width(c);
            used <= columns
        };
        characters.take_while(fits).collect::<Vec<char>>()
    };
    let begin = fitting(&mut text.chars(), columns / 3);
    let end = fitting(&mut text.chars().rev(), columns - columns / 3 - 1);
    begin
        .into_iter()
        .chain(['…'])
        .chain(end.into_iter().rev())
        .collect()
}

/// For a dialog: [`tame_within`] [`SHOWN_COLUMNS`], and what is written from right to left stays apart from the words
/// around it (Unicode's first strong isolate).
#[must_use]
pub fn for_dialog(text: &str) -> String {
    let text = tame_within(text, SHOWN_COLUMNS);
    if text.chars().any(is_right_to_left) {
        return format!("\u{2068}{text}\u{2069}");
    }
    text
}

/// Whether a character is one of Cc, Cf, Zl and Zp (Unicode 16).
#[must_use]
pub fn is_unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{AD}'
            | '\u{600}'..='\u{605}'
            | '\u{61C}'
            | '\u{6DD}'
            | '\u{70F}'
            | '\u{890}'..='\u{891}'
            | '\u{8E2}'
            | '\u{180E}'
            | '\u{200B}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}'
            | '\u{FFF0}'..='\u{FFFB}'
            | '\u{110BD}'
            | '\u{110CD}'
            | '\u{13430}'..='\u{1343F}'
            | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E007F}')
}

/// Whether a character belongs to a block of scripts that are written from right to left.
fn is_right_to_left(c: char) -> bool {
    matches!(c,
        '\u{590}'..='\u{8FF}'
        | '\u{FB1D}'..='\u{FDFF}'
        | '\u{FE70}'..='\u{FEFE}'
        | '\u{10800}'..='\u{10FFF}'
        | '\u{1E800}'..='\u{1EFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_has_one_line_and_one_direction() {
        assert_eq!(tame("Zoë 職場 😀"), "Zoë 職場 😀");
        for c in [
            '\n',
            '\r',
            '\u{1B}',
            '\u{85}',
            '\u{AD}',
            '\u{200B}',
            '\u{200D}',
            '\u{202E}',
            '\u{2028}',
            '\u{2029}',
            '\u{2066}',
            '\u{2069}',
            '\u{61C}',
            '\u{FEFF}',
            '\u{E0041}',
        ] {
            assert_eq!(tame(&format!("a{c}b")), "a\u{FFFD}b", "{c:?}");
        }
    }

    #[test]
    fn long_text_keeps_both_ends() {
        let path = format!("/tmp/{}/ssh", "x".repeat(4000));
        let short = tame_within(&path, 60);
        assert_eq!(short.chars().count(), 60);
        assert!(
            short.starts_with("/tmp/xxx") && short.ends_with("xxx/ssh"),
            "{short}"
        );
        assert_eq!(tame_within("/usr/bin/ssh", 60), "/usr/bin/ssh");
        assert_eq!(tame_within(&"a".repeat(60), 60), "a".repeat(60));
        // An ideograph has two columns, and an accent counts although it has none.
        assert_eq!(
            tame_within(&"職".repeat(31), 60).chars().count(),
            1 + 10 + 19
        );
        assert!(
            tame_within(&format!("a{}", "\u{301}".repeat(500)), 60)
                .chars()
                .count()
                <= 60
        );
    }

    #[test]
    fn text_from_right_to_left_is_isolated_in_dialogs() {
        assert_eq!(for_dialog("work"), "work");
        assert_eq!(for_dialog("כרטיס"), "\u{2068}כרטיס\u{2069}");
        // A foreign end of the isolation does not end it.
        assert_eq!(for_dialog("כר\u{2069}טיס"), "\u{2068}כר\u{FFFD}טיס\u{2069}");
    }
}
