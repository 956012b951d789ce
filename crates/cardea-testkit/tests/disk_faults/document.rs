//! `docs/disk-faults.md`: a row for each operation and door, written by its test.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::walk::{Found, is_recording};
use crate::{administrator, adoption, cards, contents, keys, personalisation, pins};

const HEAD: &str = "| operation | door | file operations | cases | restarts | answered \"done\" | answered with an error | of these unsettled | false |\n|---|---|---|---|---|---|---|---|---|\n";

/// Writes the row if that is wanted; else it must be there.
pub(crate) fn compare(operation: &str, door: &str, found: &Found) {
    let start = start(operation, door);
    if is_recording() {
        let row = format!(
            "{start} {} | {} | {} | {} | {} | {} | 0 |",
            found.places, found.cases, found.restarts, found.done, found.failed, found.unsettled,
        );
        write(&start, &row);
        return;
    }
    let document = std::fs::read_to_string(path()).unwrap();
    assert!(
        document.lines().any(|line| line.starts_with(&start)),
        "{start} is missing in docs/disk-faults.md: CARDEA_RECORD=1 writes it"
    );
}

fn start(operation: &str, door: &str) -> String {
    format!("| {operation} | {door} |")
}

/// The start of each row: of each operation through each of its doors.
fn starts() -> BTreeSet<String> {
    let operations = [
        administrator::OPERATIONS,
        adoption::OPERATIONS,
        cards::OPERATIONS,
        contents::OPERATIONS,
        keys::OPERATIONS,
        personalisation::OPERATIONS,
        pins::OPERATIONS,
        &[&pins::UNBLOCK_BY_ADMIN],
    ];
    let rows = operations.into_iter().flatten().flat_map(|operation| {
        let doors = operation.doors.iter();
        doors.map(|(door, _)| start(operation.name, door))
    });
    rows.collect()
}

/// The start of a row that the document has.
fn start_of(row: &str) -> String {
    let mut cells = row.split(" | ");
    let operation = cells.next().unwrap_or_default().trim_start_matches("| ");
    start(operation, cells.next().unwrap_or_default())
}

fn path() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/disk-faults.md"
    ))
}

/// The tests run in parallel and in processes of their own, so writing needs a lock.
fn write(start: &str, row: &str) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = std::fs::File::create(folder.join("disk-faults.lock")).unwrap();
    lock.lock().unwrap();
    let present = std::fs::read_to_string(path()).unwrap_or_default();
    // What is no longer an operation is no longer a row.
    let starts = starts();
    let rows = present
        .lines()
        .filter(|line| starts.contains(&start_of(line)) && !line.starts_with(start));
    let mut rows: Vec<&str> = rows.collect();
    rows.push(row);
    rows.sort_unstable();
    std::fs::write(path(), document(&rows)).unwrap();
}

fn document(rows: &[&str]) -> String {
    let column = |at: usize| -> u64 {
        let cells = rows.iter().filter_map(|row| row.split('|').nth(at));
        cells
            .filter_map(|cell| cell.trim().parse::<u64>().ok())
            .sum()
    };
    let total = format!(
        "In all {} operations through their doors, {} file operations, {} cases, {} restarts of the daemon; {} answers were \"done\", {} were errors ({} of them unsettled), and none was false.\n",
        rows.len(),
        column(3),
        column(4),
        column(5),
        column(6),
        column(7),
        column(8),
    );
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    format!("{PREAMBLE}\n{total}\n{HEAD}{rows}")
}

#[test]
fn document_is_what_its_rows_say() {
    if is_recording() {
        return;
    }
    let present = std::fs::read_to_string(path()).unwrap();
    let rows: Vec<&str> = present
        .lines()
        .filter(|line| line.starts_with("| ") && !HEAD.starts_with(line))
        .collect();
    assert_eq!(present, document(&rows), "CARDEA_RECORD=1 writes it anew");
    let present: BTreeSet<String> = rows.iter().map(|row| start_of(row)).collect();
    assert_eq!(present.len(), rows.len(), "a row is there twice");
    assert_eq!(
        present,
        starts(),
        "the rows are not those of the operations and their doors"
    );
}

const PREAMBLE: &str = include_str!("preamble.md");
