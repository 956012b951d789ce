//! `cargo xtask tpms`: tests that are not about one TPM, over each part that the multiplexer plays; the second table of
//! `docs/tpms.md`.
//!
//! The first table, which says in which mode cards are on a part, is written by the tests of `tests/tpms` themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::shell::{Workspace, say};
use crate::tools;

const PAGE: &str = "docs/tpms.md";

/// Above the rows that the tests write: part and mode are their first cells.
const FOUND: &str = "| part | cards | keys | cards that fit |";

/// Above the rows that this task writes.
const HEAD: &str =
    "| part | cards | card suite | OpenSC | PKCS#11 | attacks |\n|---|---|---|---|---|---|\n";

/// A column: a filter of nextest's, one for cards whose counts the owner reads, and one for cards whose counters are
/// objects.
struct Column {
    name: &'static str,
    nv: &'static str,
    owner: &'static str,
    object: &'static str,
}

const COLUMNS: [Column; 4] = [
    Column {
        name: "card suite",
        nv: "binary(=tpm) and test(=every_case_holds_over_a_tpm)",
        owner: "binary(=tpm) and test(=every_case_succeeds_where_policies_reset_counts)",
        object: "binary(=tpm) and test(=every_case_succeeds_with_counters_in_objects)",
    },
    Column {
        name: "OpenSC",
        nv: "binary(=e2e) and test(/^opensc::/)",
        owner: "binary(=e2e) and test(/^opensc::/)",
        object: "binary(=e2e) and test(/^opensc::/)",
    },
    Column {
        name: "PKCS#11",
        nv: "binary(=e2e) and test(/^pkcs11(|_openssl|_p11_kit|_process)::/)",
        owner: "binary(=e2e) and test(/^pkcs11(|_openssl|_p11_kit|_process)::/)",
        object: "binary(=e2e) and test(/^pkcs11(|_openssl|_p11_kit|_process)::/)",
    },
    Column {
        name: "attacks",
        nv: "binary(=attacks) and not test(/^(interposer|matrix|forgetful)::/)",
        // Without four that take approvals by which anybody reads a counter, which such cards lack.
        owner: "binary(=attacks) and not test(/^(interposer|matrix|forgetful)::/) \
            and not test(=withstood::captured_pin_lives_as_long_as_its_table_says) \
            and not test(=withstood::parts_of_another_card_make_no_card) \
            and not test(=withstood::wrong_answers_are_counted_by_the_tpm_and_delayed_across_restarts) \
            and not test(=withstood_bus::no_card_is_used_with_firmware_that_forgets_wrong_pins) \
            or binary(=states) and test(/^counters::owner::/)",
        // Without one that takes a TPM with counters and no room for them.
        object: "(binary(=attacks) or binary(=states)) and test(/^objects::/) \
            and not test(=objects::tpm_without_room_is_told_and_has_room_for_cards_in_object_mode)",
    },
];

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Parts, by the names of their profiles [default: all]
    parts: Vec<String>,
    /// Write the rows that are found into the page
    #[arg(long)]
    record: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let path = workspace.root.join(PAGE);
    let modes = modes(&fs::read_to_string(&path)?)?;
    for part in &arguments.parts {
        ensure!(modes.contains_key(part), "{PAGE} has no part {part}");
    }
    let is_wanted =
        |part: &str| arguments.parts.is_empty() || arguments.parts.iter().any(|it| it == part);
    workspace.build_tests()?;
    let mut differing = Vec::new();
    for (part, mode) in modes.iter().filter(|(part, _)| is_wanted(part)) {
        say(&format!("== {part}, {mode}"));
        let row = row(&workspace, part, mode)?;
        let page = fs::read_to_string(&path)?;
        if arguments.record {
            fs::write(&path, with_row(&page, part, &row))
                .with_context(|| path.display().to_string())?;
        } else if !page.contains(&row) {
            say(&format!("   not in {PAGE}: {}", row.trim_end()));
            differing.push(part.as_str());
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    bail!(
        "{PAGE} is not what the tests show of {}; --record writes it",
        differing.join(", ")
    );
}

/// How cards are on each part.
fn modes(page: &str) -> Result<BTreeMap<String, String>> {
    let (_, table) = page
        .split_once(FOUND)
        .with_context(|| format!("{PAGE} has no table of modes"))?;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with("| "));
    let modes: BTreeMap<_, _> = rows
        .filter_map(|row| {
            let mut cells = row.split(" | ");
            let part = cells.next()?.trim_start_matches("| ").trim_matches('`');
            Some((part.to_owned(), cells.next()?.to_owned()))
        })
        .collect();
    ensure!(!modes.is_empty(), "{PAGE}: no part");
    Ok(modes)
}

fn row(workspace: &Workspace, part: &str, mode: &str) -> Result<String> {
    let mut row = format!("| `{part}` | {mode} |");
    for column in &COLUMNS {
        let cell = match mode {
            "refused" => "–".to_owned(),
            "object mode" => passed(workspace, part, "object", column.name, column.object)?,
            "NV mode, read by the owner" => {
                passed(workspace, part, "nv-owner", column.name, column.owner)?
            }
            _ => passed(workspace, part, "nv", column.name, column.nv)?,
        };
        row.push_str(&format!(" {cell} |"));
    }
    Ok(row + "\n")
}

/// How many of the tests have passed on a part.
fn passed(
    workspace: &Workspace,
    part: &str,
    mode: &str,
    name: &str,
    filter: &str,
) -> Result<String> {
    let nextest = tools::NEXTEST.ensure(workspace)?;
    let mut command = Command::new(nextest);
    command
        .current_dir(&workspace.root)
        .args(["nextest", "run", "--locked", "--package", "cardea-testkit"])
        .args(["--no-fail-fast", "--color", "never", "--filterset", filter])
        .env("CARDEA_TPM_PROFILE", part)
        .env("CARDEA_COUNTER_MODE", mode)
        .stdin(Stdio::null());
    let ended = command.output().context("nextest")?;
    let said = String::from_utf8_lossy(&ended.stderr);
    let log = workspace
        .target
        .join(format!("tpms-{part}-{}.log", name.replace(' ', "-")));
    keep(&log, &ended.stdout, &ended.stderr)?;
    let summary = said
        .lines()
        .find(|line| line.trim_start().starts_with("Summary ["));
    let Some((run, passed)) = summary.and_then(counts) else {
        bail!(
            "{name} over {part}: no tests were run, see {}",
            log.display()
        );
    };
    say(&format!("   {name}: {passed} of {run}"));
    if passed < run {
        say(&format!("   see {}", log.display()));
    }
    Ok(format!("{passed} of {run}"))
}

fn keep(log: &Path, stdout: &[u8], stderr: &[u8]) -> Result<()> {
    fs::write(log, [stdout, stderr].concat()).with_context(|| log.display().to_string())
}

/// How many tests were run, and how many have passed, as nextest's last line says.
fn counts(summary: &str) -> Option<(u32, u32)> {
    let number = |before: &str| {
        let (start, _) = summary.split_once(before)?;
        start
            .rsplit([' ', ','])
            .find(|word| !word.is_empty())?
            .parse()
            .ok()
    };
    Some((
        number(" tests run").or_else(|| number(" test run"))?,
        number(" passed").unwrap_or(0),
    ))
}

/// The page with a row in place of the part's former one.
fn with_row(page: &str, part: &str, row: &str) -> String {
    let whole;
    let (before, rest) = match page.split_once(HEAD) {
        Some(parts) => parts,
        // The first row begins the table.
        None => {
            whole = format!("{page}\n");
            (whole.as_str(), "")
        }
    };
    let is_row = |line: &&str| line.starts_with("| ");
    let start = format!("| `{part}` |");
    let mut rows: Vec<&str> = rest.split_inclusive('\n').take_while(is_row).collect();
    rows.retain(|line| !line.starts_with(&start));
    rows.push(row);
    rows.sort_unstable();
    let after: String = rest.split_inclusive('\n').skip_while(is_row).collect();
    format!("{before}{HEAD}{}{after}", rows.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_summary() {
        let summary =
            "     Summary [   4.103s] 12 tests run: 11 passed (2 slow), 1 failed, 300 skipped";
        assert_eq!(counts(summary), Some((12, 11)));
        let one = "     Summary [   0.103s] 1 test run: 0 passed, 1 failed, 3 skipped";
        assert_eq!(counts(one), Some((1, 0)));
        assert_eq!(counts("error: no tests to run"), None);
    }

    #[test]
    fn row_takes_the_place_of_the_former_one_of_its_part() {
        let page = format!("text\n\n{HEAD}| `a` | old |\n| `c` | other |\n\nmore\n");
        let written = with_row(&page, "a", "| `a` | new |\n");
        let written = with_row(&written, "b", "| `b` | first |\n");
        let rows = "| `a` | new |\n| `b` | first |\n| `c` | other |\n";
        assert_eq!(written, format!("text\n\n{HEAD}{rows}\nmore\n"));
        let begun = with_row("text\n", "a", "| `a` | new |\n");
        assert_eq!(begun, format!("text\n\n{HEAD}| `a` | new |\n"));
    }

    #[test]
    fn mode_is_the_second_cell() {
        let page = format!(
            "{FOUND} x |\n|---|\n| `a` | NV mode | keys |\n| `b` | refused | – |\n\n| `c` | no |\n"
        );
        let modes = modes(&page).unwrap();
        assert_eq!(modes.len(), 2);
        assert_eq!(modes["a"], "NV mode");
    }
}
