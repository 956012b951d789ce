//! Cards and keys as text and JSON.

use std::io;

use cardea_client::message::{
    Attestation, CardDetails, CardState, CardSummary, KeySummary, LockoutRoom, Part, PublicKey,
    RecoverySummary, Tries,
};
use cardea_terms::{CounterMode, NO_SESSION_LIMIT};
use nix::unistd::{Uid, User};
use serde_json::{Value, json};

use crate::arguments::OutputArguments;
use crate::daemon::{COUNTED_HERE, part_gone};
use crate::duration::Seconds;
use crate::exit::Failure;
use crate::hex::plain;
use crate::on_card::{Stored, label, pin_words, public_key};
use crate::policy::Policy;
use crate::terminal::clock::local;
use crate::terminal::output::{Colour, print, print_json, printable, table};
use crate::terminal::width::{COLUMNS, fit, of_terminal, wrapped};
use crate::uri;

/// Reference of the first key; OpenSC counts from here.
const FIRST: u8 = 0x81;

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
        "counted_here": card.counted_here,
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
                "algorithm": key.algorithm.word(),
                "origin": key.origin.word(),
                "pin": key.class.word(),
                "certificate": key.certificate,
                "import_exposed": key.import_exposed,
                "recoverable_by": recovery_json(key),
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
        "counter_mode": card.counter_mode.map_or("", CounterMode::word),
        "lockout": card.lockout.map(|room| json!({ "left": room.left, "limit": room.limit, "wait": room.wait })),
        "attestation": card.attestation.as_ref().map(|it| json!({
            "sealed": it.sealed,
            "level": prospect(it).0,
            "certificate": !it.certificates.is_empty(),
        })),
        "keys": keys,
        "warnings": card.warnings,
        "pkcs11_slot": uri::slot(&card.summary),
        "uri": uri::token(&card.summary),
    });
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

/// What a card can prove now, and how more.
pub(crate) fn prospect(attestation: &Attestation) -> (Option<u8>, &'static str) {
    match (attestation.sealed, attestation.complete) {
        (false, _) => (
            Some(1),
            "level 1, never more: the card was not created with --attest",
        ),
        (true, Some(true)) => (Some(2), "level 2"),
        (true, Some(false)) => (
            Some(1),
            "level 1, and level 2 after the next restart of the computer",
        ),
        (true, None) => (None, "not known: the TPM cannot be asked"),
    }
}

/// How much room a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Nothing is left out or shortened.
    pub(crate) wide: bool,
    /// Columns at which lines are broken.
    pub(crate) columns: Option<usize>,
}

impl Room {
    /// On stdout.
    pub(crate) fn of_stdout(wide: bool) -> Self {
        let columns = (!wide).then(|| of_terminal(io::stdout())).flatten();
        Self { wide, columns }
    }
}

/// A table with a row per card; ids are shortened as far as they stay distinct, to at least 8 digits.
pub(crate) fn list_text(cards: &[CardSummary], colour: Colour, room: Room) -> String {
    let length = id_length(cards);
    let short = |card: &CardSummary| card.card_id.chars().take(length).collect::<String>();
    let state = |row: usize, padded: &str| {
        let card = row.checked_sub(1).and_then(|index| cards.get(index));
        card.map_or_else(
            || padded.to_owned(),
            |card| colour.paint(card.state, padded),
        )
    };
    let mut text = if room.wide {
        let mut rows =
            vec![["ID", "INSTANCE", "NAME", "OWNER", "STATE", "READER"].map(str::to_owned)];
        rows.extend(cards.iter().map(|card| {
            [
                short(card),
                card.instance_id.clone(),
                printable(&card.name),
                owner_name(card.owner),
                state_word(card.state).to_owned(),
                reader_name(card),
            ]
        }));
        table(&rows, |row, column, padded| match column {
            4 => state(row, padded),
            _ => padded.to_owned(),
        })
    } else {
        let mut rows = vec![["ID", "NAME", "OWNER", "STATE", "READER"].map(str::to_owned)];
        rows.extend(cards.iter().map(|card| {
            [
                short(card),
                printable(&card.name),
                owner_name(card.owner),
                state_word(card.state).to_owned(),
                card.slot
                    .map_or_else(|| "no reader".to_owned(), |slot| format!("slot {slot}")),
            ]
        }));
        fit(&mut rows, &[1, 2], COLUMNS);
        table(&rows, |row, column, padded| match column {
            3 => state(row, padded),
            _ => padded.to_owned(),
        })
    };
    let mut add = |card: &CardSummary, line: &str| {
        let line = format!("{}: {line}", short(card));
        text.push_str(&wrapped(&line, 2, room.columns));
        text.push('\n');
    };
    for card in cards.iter().filter(|card| !card.reason.is_empty()) {
        add(card, &printable(&card.reason));
    }
    for card in cards {
        for part in &card.gone {
            add(card, part_gone(*part));
        }
        if card.counted_here {
            add(card, COUNTED_HERE);
        }
    }
    for card in cards {
        if let Some(from) = &card.from {
            add(card, &format!("redirected from {}", printable(from)));
        }
    }
    text
}

fn reader_name(card: &CardSummary) -> String {
    card.reader
        .clone()
        .unwrap_or_else(|| "no reader".to_owned())
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

fn counter_text(card: &CardDetails) -> &'static str {
    match card.counter_mode {
        _ if card.summary.counted_here => {
            "nv, and the card's file, since this TPM sets its own counts back"
        }
        Some(CounterMode::Nv) => "nv",
        Some(CounterMode::NvOwner) => "nv-owner: read with the TPM's owner authorisation only",
        Some(CounterMode::Object) => "object: the card's file and the TPM's lockout",
        None => "",
    }
}

fn lockout_text(room: LockoutRoom) -> String {
    match (room.left, room.wait) {
        (0, Some(seconds)) => {
            format!("near: PIN, PUK and administrator have to wait for at most {seconds} s")
        }
        (0, None) => {
            "near: PIN, PUK and administrator have to wait until it is reset (`cardea tpm reset-lockout`)".to_owned()
        }
        (left, _) => format!(
            "{left} of {} wrong PINs of all such cards and other programs until they have to wait",
            room.limit
        ),
    }
}

/// One card, a line per property.
pub(crate) fn details_text(card: &CardDetails, colour: Colour, room: Room) -> String {
    let summary = &card.summary;
    let tries = |tries: Option<Tries>, without: &str| {
        tries.map_or_else(
            || without.to_owned(),
            |tries| match tries.left {
                None => format!("tries left not known (limit {})", tries.limit),
                Some(0) => format!("blocked (limit {})", tries.limit),
                Some(left) => format!("{left} of {} tries left", tries.limit),
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
            "no: in initialisation state, waiting for PIN and admin key".to_owned(),
        ));
    }
    if let Some(place) = summary.drive.as_deref().filter(|place| !place.is_empty()) {
        lines.push(("drive", printable(place)));
    }
    lines.extend([
        ("reader", reader_name(summary)),
        (
            "created",
            local(i64::try_from(card.created).unwrap_or(i64::MAX)),
        ),
        ("PIN", tries(card.pin, "unknown")),
        (
            "PIN policy",
            Policy::of(card.pin_policy.as_ref()).to_string(),
        ),
        ("session limit", session_words(card.session_limit)),
        ("idle limit", limit_words(card.idle_limit, "none")),
        (
            "PIN pad",
            if card.pin_pad { "on" } else { "off" }.to_owned(),
        ),
        ("shown in reader", card.visibility.word().to_owned()),
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
        ("counter", counter_text(card).to_owned()),
    ]);
    lines.extend(card.lockout.map(|room| ("lockout", lockout_text(room))));
    let attestation = card.attestation.as_ref();
    lines.extend(attestation.map(|it| ("attestation", prospect(it).1.to_owned())));
    if let Some(number) = uri::slot(summary) {
        lines.push(("PKCS#11 slot", number.to_string()));
    }
    let uri = match room.wide {
        true => uri::token(summary),
        false => uri::short_token(summary),
    };
    lines.extend(uri.map(|uri| ("URI", uri)));
    if card.keys.is_empty() {
        lines.push(("keys", "none".to_owned()));
    }
    for key in &card.keys {
        lines.push(("key", key_line(key)));
    }
    lines
        .iter()
        .map(|(label, value)| {
            let line = format!("{:<17}{value}", format!("{label}:"));
            wrapped(&line, 17, room.columns) + "\n"
        })
        .collect()
}

fn key_line(key: &KeySummary) -> String {
    let mut parts = vec![
        format!("{:02X} {}", key.reference, key.algorithm.word()),
        key.origin.word().to_owned(),
        format!("PIN {}", pin_words(key)),
    ];
    if key.import_exposed {
        parts.push("exposed when imported".to_owned());
    }
    let recovery = key.recovery.as_deref().unwrap_or_default();
    if !recovery.is_empty() {
        let names: Vec<_> = recovery.iter().map(recovery_name).collect();
        parts.push(format!("recoverable by {}", names.join(" and ")));
    }
    if key.certificate {
        parts.push("with certificate".to_owned());
    }
    if let Some(label) = label(key) {
        parts.push(format!("\"{}\"", printable(label)));
    }
    parts.join(", ")
}

/// Who can bring a key back, in a line.
pub(crate) fn recovery_name(of: &RecoverySummary) -> String {
    let fingerprint = plain(&of.fingerprint);
    let short = fingerprint.get(..16).unwrap_or_default();
    match of.subject.as_str() {
        "" => format!("a key without certificate (SHA-256 {short}…)"),
        subject => format!("{} (SHA-256 {short}…)", printable(subject)),
    }
}

/// Empty for a key that nobody can bring back.
fn recovery_json(key: &KeySummary) -> Vec<Value> {
    let recovery = key.recovery.as_deref().unwrap_or_default();
    let of = |one: &RecoverySummary| {
        json!({
            "subject": (!one.subject.is_empty()).then_some(&one.subject),
            "sha256": plain(&one.fingerprint),
        })
    };
    recovery.iter().map(of).collect()
}

fn session_words(seconds: u32) -> String {
    match seconds {
        NO_SESSION_LIMIT => "none".to_owned(),
        _ => limit_words(seconds, "unknown"),
    }
}

/// `zero`: what no limit means.
fn limit_words(seconds: u32, zero: &str) -> String {
    match seconds {
        0 => zero.to_owned(),
        _ => Seconds(seconds).to_string(),
    }
}

/// The user's name, or the number where the user database has none.
pub(crate) fn owner_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => printable(&user.name),
        _ => uid.to_string(),
    }
}

/// The new key: its reference, or all of it as JSON.
pub(crate) fn print_new(
    card: &CardDetails,
    key: &KeySummary,
    certificate: Option<&Stored>,
    output: OutputArguments,
) -> Result<(), Failure> {
    if output.json {
        print_json(&key_json(card, key, certificate)?)?;
    } else {
        print(&format!("{:02X}\n", key.reference))?;
    }
    Ok(())
}

pub(crate) fn key_json(
    card: &CardDetails,
    key: &KeySummary,
    certificate: Option<&Stored>,
) -> Result<Value, Failure> {
    Ok(json!({
        "reference": format!("{:02X}", key.reference),
        "id": base16ct::upper::encode_string(&key.id),
        "container": opensc_container(key),
        "label": label(key),
        "algorithm": key.algorithm.word(),
        "origin": key.origin.word(),
        "pin": key.class.word(),
        "import_exposed": key.import_exposed,
        "recoverable_by": recovery_json(key),
        "public_key": public_key(key)?.to_spki_pem(),
        "certificate": certificate.map(Stored::to_json),
        "uri": uri::private_key(&card.summary, key),
    }))
}

/// Number of the key's container, by which OpenSC knows it. Elliptic-curve keys have none.
fn opensc_container(key: &KeySummary) -> Option<u8> {
    match key.public {
        PublicKey::Rsa { .. } => key.reference.checked_sub(FIRST),
        PublicKey::Ec { .. } => None,
    }
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
            counter_mode: None,
            reader: None,
            from: None,
            gone: Vec::new(),
            counted_here: false,
        }
    }

    const NARROW: Room = Room {
        wide: false,
        columns: Some(80),
    };

    /// The longest of everything that others choose.
    #[test]
    fn lists_fit_80_columns_and_wide_ones_leave_nothing_out() {
        let name = "職".repeat(42);
        let cards = [
            CardSummary {
                name: name.clone(),
                slot: Some(13),
                state: CardState::SwitchedOff,
                reason: "a reason of many words ".repeat(20).trim().to_owned(),
                from: Some("m".repeat(60)),
                gone: vec![Part::Puk, Part::Administrator],
                counted_here: true,
                ..card("0123456789")
            },
            card("0123456799"),
        ];
        let text = list_text(&cards, Colour::Off, NARROW);
        for line in text.lines() {
            assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{line}");
        }
        let wide = Room {
            wide: true,
            columns: None,
        };
        let text = list_text(&cards, Colour::Off, wide);
        assert!(
            text.contains(&name) && text.contains("ROOT\\SMARTCARDREADER"),
            "{text}"
        );
    }

    #[test]
    fn ids_in_the_table_are_unambiguous() {
        assert_eq!(id_length(&[card("0123456789"), card("1123456789")]), 8);
        assert_eq!(id_length(&[card("0123456789"), card("0123456799")]), 9);
        assert_eq!(id_length(&[]), 8);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let text = list_text(&[card("00")], Colour::Off, NARROW);
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(text.contains("TPM cleared"));
    }

    #[test]
    fn colours_surround_the_state_only_when_on() {
        assert!(list_text(&[card("00")], Colour::On, NARROW).contains("\x1b[31mlost"));
    }
}
