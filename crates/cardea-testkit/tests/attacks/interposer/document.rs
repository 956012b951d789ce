//! `docs/interposer-walk.md`: a row for each operation, written by its test.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cardea_testkit::multiplexer::Profile;

use super::ROWS;
use super::manipulation::COLUMNS;
use super::report::Walk;
use super::world::Ending;

/// Compares a walk with its row; with `CARDEA_RECORD` in the environment, writes the row anew.
///
/// Whether a case is refused or comes to nothing may depend on the moment; that something is unsettled or
/// misreported where the row does not say so makes the document wrong. Over a part, where other cases are tried, an
/// operation may remain unsettled elsewhere too.
pub(crate) fn compare(walk: &Walk) {
    let row = row(walk);
    if std::env::var_os("CARDEA_RECORD").is_some() {
        write(walk.row, &row);
        return;
    }
    let document = std::fs::read_to_string(path()).unwrap();
    let start = format!("| {} |", walk.row);
    let present = document.lines().find(|line| line.starts_with(&start));
    let present: Vec<&str> = present.unwrap().split('|').skip(2).collect();
    let in_the_row: &[Ending] = match Profile::of_run() {
        None => &[Ending::Misreported, Ending::Unsettled],
        Some(_) => &[Ending::Misreported],
    };
    for (at, (seen, column)) in walk.cells().iter().zip(COLUMNS).enumerate() {
        for ending in in_the_row {
            assert!(
                !seen.contains(ending) || present[at].contains(word(*ending)),
                "{column}: docs/interposer-walk.md is not current: CARDEA_RECORD=1 writes it anew\n{row}"
            );
        }
    }
}

fn path() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/interposer-walk.md"
    ))
}

fn row(walk: &Walk) -> String {
    let cells: Vec<_> = walk.cells().iter().map(cell).collect();
    format!("| {} | {} |", walk.row, cells.join(" | "))
}

fn cell(endings: &BTreeSet<Ending>) -> String {
    if endings.is_empty() {
        return "–".to_owned();
    }
    let words: Vec<_> = endings.iter().map(|ending| word(*ending)).collect();
    words.join(", ")
}

fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Harmless => "harmless",
        Ending::Misreported => "misreported",
        Ending::Refused => "refused",
        Ending::Unsettled => "unsettled",
    }
}

/// The tests run in parallel and in processes of their own, so writing needs a lock.
fn write(name: &str, row: &str) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = std::fs::File::create(folder.join("interposer-walk.lock")).unwrap();
    lock.lock().unwrap();
    let present = std::fs::read_to_string(path()).unwrap_or_default();
    std::fs::write(path(), document(&present, Some((name, row)))).unwrap();
}

/// The document with the rows of the present one, one of which may be new.
fn document(present: &str, new: Option<(&str, &str)>) -> String {
    let mut text = PREAMBLE.to_owned();
    text.push_str(&format!("| operation | {} |\n", COLUMNS.join(" | ")));
    text.push_str(&format!("|---|{}\n", "---|".repeat(COLUMNS.len())));
    for name in ROWS {
        let start = format!("| {name} |");
        let row = match new {
            Some((wanted, row)) if wanted == *name => Some(row),
            _ => present.lines().find(|line| line.starts_with(&start)),
        };
        if let Some(row) = row {
            text.push_str(row);
            text.push('\n');
        }
    }
    text
}

#[test]
fn document_has_a_row_for_each_operation_and_nothing_else() {
    if std::env::var_os("CARDEA_RECORD").is_some() {
        return;
    }
    let present = std::fs::read_to_string(path()).unwrap();
    assert_eq!(
        present,
        document(&present, None),
        "CARDEA_RECORD=1 writes it anew"
    );
    for name in ROWS {
        let start = format!("| {name} |");
        assert!(
            present.lines().any(|line| line.starts_with(&start)),
            "{name} has no row"
        );
    }
}

const PREAMBLE: &str = include_str!("preamble.md");
