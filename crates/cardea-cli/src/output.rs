//! Text and JSON for people and programs. Data goes to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};

use cardea_client::message::{CardDetails, CardState, CardSummary, Tries};
use nix::unistd::{Uid, User};
use serde_json::{Value, json};

/// The word for a state, in text and JSON.
pub(crate) fn state_word(state: CardState) -> &'static str {
    match state {
        CardState::Blocked => "blocked",
        CardState::Foreign => "foreign",
        CardState::Lost => "lost",
        CardState::NotTrusted => "not-trusted",
        CardState::Ready => "ready",
        CardState::TpmAway => "tpm-away",
        CardState::Unreadable => "unreadable",
    }
}

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

    fn paint(self, state: CardState, text: &str) -> String {
        let code = match state {
            CardState::Ready => "32",
            CardState::TpmAway => "33",
            _ => "31",
        };
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
    text.chars()
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect()
}

pub(crate) fn summary_json(card: &CardSummary) -> Value {
    json!({
        "card_id": card.card_id,
        "instance_id": card.instance_id,
        "name": card.name,
        "owner": card.owner,
        "state": state_word(card.state),
        "reason": (!card.reason.is_empty()).then_some(&card.reason),
        "slot": card.slot,
        "reader": card.reader,
    })
}

pub(crate) fn details_json(card: &CardDetails) -> Value {
    let tries = |tries: Option<Tries>| {
        tries.map(|tries| json!({ "left": tries.left, "limit": tries.limit }))
    };
    let keys: Vec<Value> = card
        .keys
        .iter()
        .map(|key| {
            json!({
                "reference": format!("{:02X}", key.reference),
                "algorithm": key.algorithm,
                "origin": key.origin,
                "pin": key.pin,
            })
        })
        .collect();
    let mut value = summary_json(&card.summary);
    let more = json!({
        "created": card.created,
        "pin": tries(card.pin),
        "puk": tries(card.puk),
        "administrator": card.administrator,
        "counter_mode": card.counter_mode,
        "keys": keys,
        "warnings": card.warnings,
    });
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

/// A table with a row per card; the id is cut to what tells the cards apart, at least 8 digits.
pub(crate) fn list_text(cards: &[CardSummary], colour: Colour) -> String {
    let length = id_length(cards);
    let mut rows = vec![["ID", "INSTANCE", "NAME", "OWNER", "STATE", "READER"].map(str::to_owned)];
    rows.extend(cards.iter().map(|card| {
        [
            card.card_id.chars().take(length).collect(),
            card.instance_id.clone(),
            printable(&card.name),
            owner_name(card.owner),
            state_word(card.state).to_owned(),
            card.reader
                .clone()
                .unwrap_or_else(|| "no reader".to_owned()),
        ]
    }));
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            let width = |row: &[String; 6]| row.get(column).map_or(0, |cell| cell.chars().count());
            rows.iter().map(width).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padded = format!("{cell:<width$}");
            let card = number.checked_sub(1).and_then(|index| cards.get(index));
            match (column, card) {
                (4, Some(card)) => line.push_str(&colour.paint(card.state, &padded)),
                _ => line.push_str(&padded),
            }
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for card in cards.iter().filter(|card| !card.reason.is_empty()) {
        let id: String = card.card_id.chars().take(length).collect();
        text.push_str(&format!("{id}: {}\n", printable(&card.reason)));
    }
    text
}

fn id_length(cards: &[CardSummary]) -> usize {
    (8..32)
        .find(|&length| {
            let mut ids: Vec<&str> = cards
                .iter()
                .map(|card| card.card_id.get(..length).unwrap_or(&card.card_id))
                .collect();
            ids.sort_unstable();
            ids.windows(2).all(|pair| pair.first() != pair.last())
        })
        .unwrap_or(32)
}

/// One card, a line per property.
pub(crate) fn details_text(card: &CardDetails, colour: Colour) -> String {
    let summary = &card.summary;
    let tries = |tries: Option<Tries>, without: &str| {
        tries.map_or_else(
            || without.to_owned(),
            |tries| match tries.left {
                0 => format!("blocked (limit {})", tries.limit),
                left => format!("{left} of {} tries left", tries.limit),
            },
        )
    };
    let mut lines = vec![
        ("card id", summary.card_id.clone()),
        ("instance id", summary.instance_id.clone()),
        ("name", printable(&summary.name)),
        ("owner", owner_name(summary.owner)),
        (
            "state",
            colour.paint(summary.state, state_word(summary.state)),
        ),
    ];
    if !summary.reason.is_empty() {
        lines.push(("reason", printable(&summary.reason)));
    }
    lines.extend([
        (
            "reader",
            summary
                .reader
                .clone()
                .unwrap_or_else(|| "no reader".to_owned()),
        ),
        ("created", utc(card.created)),
        ("PIN", tries(card.pin, "not known")),
        ("PUK", tries(card.puk, "none")),
        (
            "administrator",
            if card.administrator {
                "holder of the admin key".to_owned()
            } else {
                "none".to_owned()
            },
        ),
        ("counter", card.counter_mode.clone()),
    ]);
    if card.keys.is_empty() {
        lines.push(("keys", "none".to_owned()));
    }
    for key in &card.keys {
        lines.push((
            "key",
            format!(
                "{:02X} {}, {}, PIN {}",
                key.reference,
                key.algorithm,
                key.origin,
                if key.pin == "always" {
                    "every time"
                } else {
                    "once per session"
                }
            ),
        ));
    }
    lines
        .iter()
        .map(|(label, value)| format!("{:<15}{value}\n", format!("{label}:")))
        .collect()
}

/// The user's name, or the number where the user database has none.
fn owner_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => printable(&user.name),
        _ => uid.to_string(),
    }
}

/// A time in UTC, from seconds since 1970 (days to civil date in the proleptic Gregorian calendar).
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // 400 years have a fixed number of days, so the loop below is short for every input.
    let mut year = 1970 + days / 146_097 * 400;
    let mut day = days % 146_097;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC",
        day + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(id: &str) -> CardSummary {
        CardSummary {
            card_id: id.into(),
            instance_id: "ROOT\\SMARTCARDREADER\\0000".into(),
            name: "bad \x1b[31m name".into(),
            owner: 4_000_000_000,
            state: CardState::Lost,
            reason: "TPM cleared".into(),
            slot: None,
            reader: None,
        }
    }

    #[test]
    fn times_are_right_at_the_edges() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert!(utc(u64::MAX).ends_with("UTC"));
    }

    #[test]
    fn ids_in_the_table_are_unambiguous() {
        assert_eq!(id_length(&[card("0123456789"), card("1123456789")]), 8);
        assert_eq!(id_length(&[card("0123456789"), card("0123456799")]), 9);
        assert_eq!(id_length(&[]), 8);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let text = list_text(&[card("00")], Colour::Off);
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(text.contains("TPM cleared"));
    }

    #[test]
    fn colours_surround_the_state_only_when_on() {
        assert!(list_text(&[card("00")], Colour::On).contains("\x1b[31mlost"));
    }
}
