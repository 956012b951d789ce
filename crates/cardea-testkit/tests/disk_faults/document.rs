//! `docs/disk-faults.md`: a row for each operation and door, written by its test.

use std::path::PathBuf;

use crate::walk::{Found, is_recording};

const HEAD: &str = "| operation | door | file operations | cases | restarts | answered \"done\" | answered with an error | of these unsettled | false |\n|---|---|---|---|---|---|---|---|---|\n";

/// Writes the row if that is wanted; else it must be there.
pub(crate) fn compare(operation: &str, door: &str, found: &Found) {
    let start = format!("| {operation} | {door} |");
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
    let rows = present.lines().filter(|line| {
        line.starts_with("| ") && !HEAD.starts_with(line) && !line.starts_with(start)
    });
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
    assert!(rows.len() > 40, "{} rows", rows.len());
}

const PREAMBLE: &str = include_str!("preamble.md");
