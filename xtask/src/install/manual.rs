//! Pages of the manual that are made from other files.

use anyhow::{Context, Result, ensure};

/// A page of the manual about a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// `cardea.toml(5)`.
    Daemon,
    /// `tpmvsc.toml(5)`.
    RemoteCards,
}

impl Page {
    /// What stands before the keys.
    fn head(self) -> &'static str {
        match self {
            Self::Daemon => DAEMON,
            Self::RemoteCards => REMOTE_CARDS,
        }
    }

    /// What follows the keys.
    fn tail(self) -> &'static str {
        match self {
            Self::Daemon => {
                r#".SH FILES
.I /etc/cardea/cardea.toml
.SH SEE ALSO
.BR cardea (1),
.BR cardea\-daemon (8)
"#
            }
            Self::RemoteCards => {
                r#".SH FILES
.I /etc/cardea/tpmvsc.toml
.SH SEE ALSO
.BR cardea\-tpmvsc (8)
"#
            }
        }
    }
}

const DAEMON: &str = r#".TH CARDEA.TOML 5 "" "Cardea" "File formats"
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

const REMOTE_CARDS: &str = r#".TH TPMVSC.TOML 5 "" "Cardea" "File formats"
.SH NAME
tpmvsc.toml \- configuration of cardea\-tpmvsc
.SH DESCRIPTION
.I /etc/cardea/tpmvsc.toml
has the settings of
.BR cardea\-tpmvsc (8).
It is TOML.
An unknown key, or a value that has the wrong type, prevents the start with an error that names it.
Changes take effect at the next start:
.BR "systemctl restart cardea\-tpmvsc" .
.SH KEYS
Each key is shown with its default, or an example.
"#;

/// The page about a configuration file, from the shipped one, which has each key with its default and a comment.
pub(super) fn configuration(about: Page, file: &str) -> Result<String> {
    let mut page = about.head().to_owned();
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
    page.push_str(about.tail());
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
        let page = configuration(Page::Daemon, file).unwrap();
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
            assert!(configuration(Page::Daemon, bad).is_err(), "{bad:?}");
        }
    }
}
