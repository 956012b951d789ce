//! `docs/tpms.md`: the table that these tests write, and the one that `cargo xtask tpms` writes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::PARTS;

const HEAD: &str = "| part | cards | keys | cards that fit | lockout as delivered | why not in a better mode |\n|---|---|---|---|---|---|\n";

/// Of the table of `xtask/src/tpms.rs`.
const RUNS: &str = "| part | cards | card suite | OpenSC | PKCS#11 | attacks | interposer walk |\n|---|---|---|---|---|---|---|\n";

/// Writes the row if that is wanted; else it must be there.
pub(crate) fn compare(name: &str, row: &str) {
    if std::env::var_os("CARDEA_RECORD").is_some() {
        write(name, row);
        return;
    }
    let page = std::fs::read_to_string(path()).unwrap();
    let present = rows(&page, HEAD).get(name).cloned();
    assert_eq!(
        present.as_deref(),
        Some(row),
        "docs/tpms.md is not what the test has found: CARDEA_RECORD=1 writes it"
    );
}

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tpms.md"))
}

/// The tests run in parallel and in processes of their own, so writing needs a lock.
fn write(name: &str, row: &str) {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = std::fs::File::create(folder.join("tpms.lock")).unwrap();
    lock.lock().unwrap();
    let page = std::fs::read_to_string(path()).unwrap();
    let mut rows = rows(&page, HEAD);
    rows.retain(|name, _| PARTS.contains(&name.as_str()));
    rows.insert(name.to_owned(), row.to_owned());
    let (before, after) = page.split_once(HEAD).unwrap();
    let after: String = after
        .split_inclusive('\n')
        .skip_while(|line| line.starts_with("| "))
        .collect();
    let rows: String = rows.values().map(|row| format!("{row}\n")).collect();
    std::fs::write(path(), format!("{before}{HEAD}{rows}{after}")).unwrap();
}

/// The rows of a table, by part.
fn rows(page: &str, head: &str) -> BTreeMap<String, String> {
    let Some((_, table)) = page.split_once(head) else {
        panic!("docs/tpms.md has no table {head}");
    };
    let rows = table.lines().take_while(|line| line.starts_with("| "));
    rows.map(|row| {
        let name = row.split('`').nth(1).unwrap_or_default();
        (name.to_owned(), row.to_owned())
    })
    .collect()
}

#[test]
fn each_part_has_a_row_and_the_same_mode_in_each_table() {
    if std::env::var_os("CARDEA_RECORD").is_some() {
        return;
    }
    let page = std::fs::read_to_string(path()).unwrap();
    let found = rows(&page, HEAD);
    let runs = rows(&page, RUNS);
    for table in [&found, &runs] {
        assert!(table.keys().eq(PARTS.iter()), "{:?}", table.keys());
    }
    let mode = |row: &String| row.split(" | ").nth(1).map(str::to_owned);
    for (name, row) in &runs {
        assert_eq!(mode(row), found.get(name).and_then(mode), "{name}");
        // What has not passed is not recorded as if it were nothing.
        let cells = row.trim_end_matches(" |").split(" | ").skip(2);
        for cell in cells {
            let counts = cell.split_once(" of ");
            assert!(
                cell == "–" || counts.is_some_and(|(passed, run)| passed == run),
                "{name}: {cell}"
            );
        }
    }
}
