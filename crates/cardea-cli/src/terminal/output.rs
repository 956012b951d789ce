//! Text and JSON for people and programs. Data goes to stdout, everything else to stderr.
//!
//! Data that cannot be written is a failure. A note is not: what was done is done, and a terminal that is gone or a full
//! disk behind stderr must not have it reported as failed.

use std::io::{self, IsTerminal, Write};

use cardea_client::message::CardState;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::terminal::width::{self, continued, wrapped};

/// Whether stdout gets colours: a terminal, and `NO_COLOR` is not set (no-color.org).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Off,
    On,
}

impl Colour {
    pub(crate) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !refused {
            Self::On
        } else {
            Self::Off
        }
    }

    pub(crate) fn paint(self, state: CardState, text: &str) -> String {
        self.with(
            match state {
                CardState::Ready => "32",
                CardState::DriveAway | CardState::SwitchedOff | CardState::TpmAway => "33",
                _ => "31",
            },
            text,
        )
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self {
            Self::Off => text.to_owned(),
            Self::On => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// One line for people.
pub(crate) fn note(text: &str) {
    let columns = width::of_terminal(io::stderr());
    note_as_is(&wrapped(&printable(text), indent_of(text), columns));
}

/// A command that is run, or can be.
pub(crate) fn note_command(command: &str) {
    let columns = width::of_terminal(io::stderr());
    let lines = continued(&printable(&format!("$ {command}")), columns);
    note_as_is(&lines.join("\n"));
}

fn note_as_is(lines: &str) {
    drop(writeln!(io::stderr().lock(), "{lines}"));
}

/// What follows a line that is broken is indented, and more than the line is.
fn indent_of(text: &str) -> usize {
    let own = text.len() - text.trim_start_matches([' ', '-']).len();
    if own == 0 { 2 } else { own }
}

/// Lines for people.
pub(crate) fn note_lines(lines: impl IntoIterator<Item = String>) {
    lines.into_iter().for_each(|line| note(&line));
}

/// One JSON value and a newline on stdout.
pub(crate) fn print_json(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

/// Text on stdout.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Terminals obey control characters, also those in a name that somebody else chose.
pub(crate) fn printable(text: &str) -> String {
    cardea_terms::tame(text)
}

/// Columns as wide as their widest cell. `paint` gets row, column and padded text.
pub(crate) fn table<const N: usize>(
    rows: &[[String; N]],
    paint: impl Fn(usize, usize, &str) -> String,
) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|column| {
            let width = |row: &[String; N]| row.get(column).map_or(0, |cell| cell.width());
            rows.iter().map(width).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Not `{cell:<width$}`, which counts characters: an ideograph takes two columns, an accent none.
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            line.push_str(&paint(number, column, &format!("{cell}{padding}")));
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_where_characters_are_wide_or_combine() {
        let rows =
            ["職場", "cafe\u{301}", "work"].map(|name| [name.to_owned(), "ready".to_owned()]);
        let text = table(&rows, |_, _, cell| cell.to_owned());
        assert_eq!(text, "職場  ready\ncafe\u{301}  ready\nwork  ready\n");
    }
}
