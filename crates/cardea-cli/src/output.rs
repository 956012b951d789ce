//! Text and JSON for people and programs. Data goes to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};

use cardea_client::message::{CardDetails, CardState, CardSummary, KeySummary, Part, Tries};
use nix::unistd::{Uid, User};
use serde_json::{Value, json};

use crate::duration::Seconds;
use crate::policy::Policy;
use crate::uri;

/// The word for a state, in text and JSON.
pub(crate) fn state_word(state: CardState) -> &'static str {
    match state {
        CardState::Blocked => "blocked",
        CardState::DriveAway => "drive-away",
        CardState::Foreign => "foreign",
        CardState::Lost => "lost",
        CardState::NotTrusted => "not-trusted",
        CardState::Ready => "ready",
        CardState::SwitchedOff => "switched-off",
        CardState::TpmAway => "tpm-away",
        CardState::Unreadable => "unreadable",
        CardState::UnsafeTpm => "unsafe-tpm",
    }
}

/// What it means that a part of a usable card is gone.
pub(crate) fn part_gone(part: Part) -> &'static str {
    match part {
        Part::Administrator => {
            "the card's administrator is gone, as its index in the TPM was deleted or replaced; PIN and keys work: make a \
             new card while they do"
        }
        Part::Puk => {
            "the card's PUK is gone, as its index in the TPM was deleted or replaced; PIN and keys work, but a blocked PIN \
             can no longer be unblocked: make a new card while they do"
        }
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
    let mut value = json!({
        "card_id": card.card_id,
        "instance_id": card.instance_id,
        "name": card.name,
        "owner": card.owner,
        "state": state_word(card.state),
        "reason": (!card.reason.is_empty()).then_some(&card.reason),
        "slot": card.slot,
        "reader": card.reader,
        "drive": card.drive,
        "gone": card.gone.iter().map(|part| part.word()).collect::<Vec<_>>(),
    });
    if let (Some(value), Some(from)) = (value.as_object_mut(), &card.from) {
        value.insert("from".into(), from.as_str().into());
    }
    value
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
                "label": label(key),
                "algorithm": key.algorithm,
                "origin": key.origin,
                "pin": key.pin,
                "certificate": key.certificate,
                "import_exposed": key.import_exposed,
            })
        })
        .collect();
    let mut value = summary_json(&card.summary);
    let more = json!({
        "created": card.created,
        "pin": tries(card.pin),
        "puk": tries(card.puk),
        "administrator": card.administrator,
        "uninitialised": card.uninitialised,
        "pin_policy": Policy::of(card.pin_policy.as_ref()).to_json(),
        "session_limit": card.session_limit,
        "pin_pad": card.pin_pad,
        "reader_visibility": card.visibility.word(),
        "idle_limit": (card.idle_limit != 0).then_some(card.idle_limit),
        "counter_mode": card.counter_mode,
        "keys": keys,
        "warnings": card.warnings,
        "uri": uri::token(&card.summary),
    });
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

/// A key's name for people.
pub(crate) fn label(key: &KeySummary) -> Option<&str> {
    (!key.label.is_empty()).then_some(&key.label)
}

/// When a key wants the PIN.
pub(crate) fn pin_words(key: &KeySummary) -> &'static str {
    if key.pin == "always" {
        "every time"
    } else {
        "once per session"
    }
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
    let mut text = table(&rows, |row, column, padded| {
        let card = row.checked_sub(1).and_then(|index| cards.get(index));
        match (column, card) {
            (4, Some(card)) => colour.paint(card.state, padded),
            _ => padded.to_owned(),
        }
    });
    for card in cards.iter().filter(|card| !card.reason.is_empty()) {
        let id: String = card.card_id.chars().take(length).collect();
        text.push_str(&format!("{id}: {}\n", printable(&card.reason)));
    }
    for card in cards {
        let id: String = card.card_id.chars().take(length).collect();
        for part in &card.gone {
            text.push_str(&format!("{id}: {}\n", part_gone(*part)));
        }
    }
    for card in cards {
        if let Some(from) = &card.from {
            let id: String = card.card_id.chars().take(length).collect();
            text.push_str(&format!("{id}: redirected from {}\n", printable(from)));
        }
    }
    text
}

/// Columns as wide as their widest cell. `paint` gets row, column and padded text.
pub(crate) fn table<const N: usize>(
    rows: &[[String; N]],
    paint: impl Fn(usize, usize, &str) -> String,
) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|column| {
            let width = |row: &[String; N]| row.get(column).map_or(0, |cell| cell.chars().count());
            rows.iter().map(width).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line.push_str(&paint(number, column, &format!("{cell:<width$}")));
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
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
    let without = |part: Part, none: &'static str| match summary.gone.contains(&part) {
        true => part_gone(part),
        false => none,
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
    if let Some(from) = &summary.from {
        lines.push(("redirected", format!("from {}", printable(from))));
    }
    if card.uninitialised {
        lines.push((
            "personalised",
            "no: in initialisation state, waits for PIN and admin key".to_owned(),
        ));
    }
    if let Some(place) = summary.drive.as_deref().filter(|place| !place.is_empty()) {
        lines.push(("drive", printable(place)));
    }
    lines.extend([
        (
            "reader",
            summary
                .reader
                .clone()
                .unwrap_or_else(|| "no reader".to_owned()),
        ),
        (
            "created",
            utc(i64::try_from(card.created).unwrap_or(i64::MAX)),
        ),
        ("PIN", tries(card.pin, "not known")),
        (
            "PIN policy",
            Policy::of(card.pin_policy.as_ref()).to_string(),
        ),
        (
            "session limit",
            limit_words(card.session_limit, "not known"),
        ),
        ("idle limit", limit_words(card.idle_limit, "none")),
        (
            "PIN pad",
            if card.pin_pad { "on" } else { "off" }.to_owned(),
        ),
        ("in its reader", card.visibility.word().to_owned()),
        ("PUK", tries(card.puk, without(Part::Puk, "none"))),
        (
            "administrator",
            if card.administrator {
                "holder of the admin key"
            } else {
                without(Part::Administrator, "none")
            }
            .to_owned(),
        ),
        ("counter", card.counter_mode.clone()),
    ]);
    if let Some(uri) = uri::token(summary) {
        lines.push(("URI", uri));
    }
    if card.keys.is_empty() {
        lines.push(("keys", "none".to_owned()));
    }
    for key in &card.keys {
        lines.push(("key", key_line(key)));
    }
    lines
        .iter()
        .map(|(label, value)| format!("{:<15}{value}\n", format!("{label}:")))
        .collect()
}

fn key_line(key: &KeySummary) -> String {
    let mut parts = vec![
        format!("{:02X} {}", key.reference, key.algorithm),
        key.origin.clone(),
        format!("PIN {}", pin_words(key)),
    ];
    if key.import_exposed {
        parts.push("exposed at its import".to_owned());
    }
    if key.certificate {
        parts.push("with certificate".to_owned());
    }
    if let Some(label) = label(key) {
        parts.push(format!("\"{}\"", printable(label)));
    }
    parts.join(", ")
}

/// `zero`: what no limit means.
fn limit_words(seconds: u32, zero: &str) -> String {
    match seconds {
        0 => zero.to_owned(),
        _ => Seconds(seconds).to_string(),
    }
}

/// The user's name, or the number where the user database has none.
fn owner_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => printable(&user.name),
        _ => uid.to_string(),
    }
}

/// A time in UTC, from seconds since 1970 (days to civil date: Howard Hinnant's `civil_from_days`).
pub(crate) fn utc(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
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

    fn card(id: &str) -> CardSummary {
        CardSummary {
            card_id: id.into(),
            instance_id: "ROOT\\SMARTCARDREADER\\0000".into(),
            name: "bad \x1b[31m name".into(),
            owner: 4_000_000_000,
            state: CardState::Lost,
            reason: "TPM cleared".into(),
            slot: None,
            drive: None,
            reader: None,
            from: None,
            gone: Vec::new(),
        }
    }

    #[test]
    fn times_are_right_at_the_edges() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert_eq!(utc(-1), "1969-12-31 23:59:59 UTC");
        assert!(utc(i64::MAX).ends_with("UTC") && utc(i64::MIN).ends_with("UTC"));
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
