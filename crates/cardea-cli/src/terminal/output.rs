//! Text and JSON for people and programs. Data goes to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};

use cardea_client::message::CardState;
use cardea_terms::civil_from_days;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

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
pub(crate) fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{}", printable(text))
}

/// Lines for people.
pub(crate) fn note_lines(lines: impl IntoIterator<Item = String>) -> io::Result<()> {
    lines.into_iter().try_for_each(|line| note(&line))
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

/// A time in UTC, from seconds since 1970.
pub(crate) fn utc(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
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

    #[test]
    fn times_are_correct_at_the_edges() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert_eq!(utc(-1), "1969-12-31 23:59:59 UTC");
        assert!(utc(i64::MAX).ends_with("UTC") && utc(i64::MIN).ends_with("UTC"));
    }
}
