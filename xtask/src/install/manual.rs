//! Pages of the manual that are made from other files.

use anyhow::{Context, Result, ensure};

/// What stands before the keys in `cardea.toml(5)`.
const HEAD: &str = r#".TH CARDEA.TOML 5 "" "Cardea" "File formats"
.SH NAME
cardea.toml \- configuration of cardea\-daemon
.SH DESCRIPTION
.I /etc/cardea/cardea.toml
has the settings of
.BR cardea\-daemon (8).
It is TOML.
An unknown key, or a value that has the wrong type or is out of range, prevents the start with an error that names it.
Options of the command line override the file, which overrides the defaults.
Changes take effect at the next start:
.BR "systemctl restart cardea" .
.SH KEYS
Each key is shown with its default.
"#;

/// What follows the keys.
const TAIL: &str = r#".SH FILES
.I /etc/cardea/cardea.toml
.SH SEE ALSO
.BR cardea (1),
.BR cardea\-daemon (8)
"#;

/// The page `cardea.toml(5)`, from the shipped file, which has each key with its default and a comment.
pub(super) fn configuration(file: &str) -> Result<String> {
    let mut page = HEAD.to_owned();
    let mut comment: Vec<&str> = Vec::new();
    let mut keys = 0;
    for line in file.lines() {
        let Some(text) = line.strip_prefix('#') else {
            ensure!(line.is_empty(), "not a comment: {line}");
            comment.clear();
            continue;
        };
        if let Some(words) = text.strip_prefix(' ') {
            comment.push(words);
            continue;
        }
        let (key, default) = text.split_once(" = ").context("a key without a default")?;
        ensure!(!comment.is_empty(), "{key} has no comment");
        page.push_str(&format!(
            ".TP\n.BI \"{} = \" {}\n",
            roff(key),
            argument(default)
        ));
        for words in comment.drain(..) {
            page.push_str(&format!("{}\n", roff(words)));
        }
        keys += 1;
    }
    ensure!(keys > 0, "no keys");
    page.push_str(TAIL);
    Ok(page)
}

/// Text that roff shows as it is.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.chars().next() {
        Some('.' | '\'') => format!("\\&{text}"),
        _ => text,
    }
}

/// An argument of a macro: quotation marks end it.
fn argument(text: &str) -> String {
    format!("\"{}\"", roff(text).replace('"', "\\(dq"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_shown_with_its_default_and_its_comment() {
        let file = "# Head of the file.\n\n# Where things are,\n# or not.\n#place = \"/a-b\"\n# How many.\n#slots = 4\n";
        let page = configuration(file).unwrap();
        assert!(
            page.contains(
                ".TP\n.BI \"place = \" \"\\(dq/a\\-b\\(dq\"\nWhere things are,\nor not.\n.TP\n.BI \"slots = \" \"4\"\nHow many.\n"
            ),
            "{page}"
        );
        assert!(!page.contains("Head of the file"), "{page}");
    }

    #[test]
    fn file_that_is_arranged_otherwise_is_refused() {
        for bad in ["", "slots = 4\n", "#slots = 4\n", "# How many.\n#slots\n"] {
            assert!(configuration(bad).is_err(), "{bad:?}");
        }
    }
}
