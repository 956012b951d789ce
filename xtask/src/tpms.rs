//! `cargo xtask tpms`: tests that are not about one TPM, over each part that the multiplexer plays; the second table of
//! `docs/tpms.md`.
//!
//! The first table, which says in which mode cards are on a part, is written by the tests of `tests/tpms` themselves.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::shell::{Workspace, say};
use crate::tools;

const PAGE: &str = "docs/tpms.md";

/// Above the rows that the tests write: part and mode are their first cells.
const FOUND: &str = "| part | cards | keys | cards that fit |";

/// Above the rows that this task writes.
const HEAD: &str = "| part | cards | card suite | OpenSC | PKCS#11 | attacks | interposer walk |\n|---|---|---|---|---|---|---|\n";

/// A column: a filter of nextest's for each way in which cards are on a part, or none where the tests are not about
/// such cards. A filter names what it leaves out, so that a new test is in; docs/tpms.md says why.
struct Column {
    name: &'static str,
    lane: Lane,
    nv: &'static str,
    owner: &'static str,
    object: Option<&'static str>,
}

/// Columns of different lanes are filled at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Programs of others with a daemon, one test at a time.
    Programs,
    /// Tests in one process with a TPM.
    Tpm,
}

const OPENSC: &str = "binary(=e2e) and test(/^opensc::/)";
const PKCS11: &str = "binary(=e2e) and test(/^pkcs11/) and not test(/^pkcs11_stress::/)";

/// Without those that put a flaw in the part's place.
const ATTACKS: &str = "binary(=attacks) \
    and not test(/^(interposer|forgetful)::|_firmware_that_forgets_wrong_pins/)";

/// Without those that succeed by design, and those that take counters in NV, too.
const ATTACKS_IN_OBJECT_MODE: &str = "binary(=attacks) \
    and not test(/^(interposer|forgetful)::|_firmware_that_forgets_wrong_pins/) \
    and not test(/^withstood::(older_card_file_|card_file_from_before_|used_answer_|thirty_wrong_pins_)/) \
    and not test(/^withstood::(captured_pin_|card_file_and_tpm_|counter_made_again_|every_guess_)/) \
    and not test(/^withstood::(interrupted_pin_change_|parts_of_another_card_|policy_from_before_|wrong_answers_)/) \
    and not test(/^withstood_bus::(full_slots_|interposer_at_creation_|interrupted_change_|limit_raised_)/) \
    and not test(/^withstood_bus::interposers_session_is_not_approved_at_a_(pin|puk)_change/) \
    and not test(/^withstood_bus::(puk_that_|saved_sessions_|session_with_the_same_handle_|wrong_pin_costs_)/) \
    and not test(/^matrix::(health|tests::(audit|counters|hierarchies|sessions)_)/)";

const WALK: &str = "binary(=attacks) and test(/^interposer::/)";

const COLUMNS: [Column; 5] = [
    Column {
        name: "card suite",
        lane: Lane::Tpm,
        nv: "binary(=tpm) and test(=every_case_holds_over_a_tpm)",
        owner: "binary(=tpm) and test(=every_case_succeeds_where_policies_reset_counts)",
        object: Some("binary(=tpm) and test(=every_case_succeeds_with_counters_in_objects)"),
    },
    Column {
        name: "OpenSC",
        lane: Lane::Programs,
        nv: OPENSC,
        owner: OPENSC,
        object: Some(OPENSC),
    },
    Column {
        name: "PKCS#11",
        lane: Lane::Programs,
        nv: PKCS11,
        owner: PKCS11,
        object: Some(PKCS11),
    },
    Column {
        name: "attacks",
        lane: Lane::Tpm,
        nv: ATTACKS,
        owner: ATTACKS,
        object: Some(ATTACKS_IN_OBJECT_MODE),
    },
    Column {
        name: "interposer walk",
        lane: Lane::Tpm,
        nv: WALK,
        owner: WALK,
        object: None,
    },
];

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Parts, by the names of their profiles [default: all]
    parts: Vec<String>,
    /// Write the rows that are found into the page
    #[arg(long)]
    record: bool,
    /// Parts at once
    #[arg(long, default_value_t = 1)]
    jobs: usize,
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
    // Both lanes would begin with it.
    tools::NEXTEST.ensure(&workspace)?;
    let wanted = modes.iter().filter(|(part, _)| is_wanted(part));
    let waiting = Mutex::new(wanted.collect::<VecDeque<_>>());
    let page = Mutex::new(Page {
        path,
        is_recorded: arguments.record,
        differing: Vec::new(),
    });
    // A call of its own, so that nothing is locked while a part is played.
    let next = || locked(&waiting).pop_front();
    std::thread::scope(|scope| {
        let play = || -> Result<()> {
            while let Some((part, mode)) = next() {
                let share = share(&modes, part, mode);
                let row = Played { part, mode, share }.row(&workspace)?;
                locked(&page).take(part, &row)?;
            }
            Ok(())
        };
        let players: Vec<_> = (0..arguments.jobs.max(1))
            .map(|_| scope.spawn(play))
            .collect();
        players.into_iter().try_for_each(joined)
    })?;
    let differing = &locked(&page).differing;
    if differing.is_empty() {
        return Ok(());
    }
    bail!(
        "{PAGE} is not what the tests show of {}; --record writes it",
        differing.join(", ")
    );
}

/// The page with the rows, which the parts that are played at once write one after another.
struct Page {
    path: PathBuf,
    is_recorded: bool,
    differing: Vec<String>,
}

impl Page {
    /// Writes the row of a part, or compares it.
    fn take(&mut self, part: &str, row: &str) -> Result<()> {
        let page = fs::read_to_string(&self.path)?;
        if self.is_recorded {
            return fs::write(&self.path, with_row(&page, part, row))
                .with_context(|| self.path.display().to_string());
        }
        if !page.contains(row) {
            say(&format!("{part}: not in {PAGE}: {}", row.trim_end()));
            self.differing.push(part.to_owned());
        }
        Ok(())
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| bail!("a thread has panicked"))
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

/// Which share of the cases of long tests a part takes, of the parts on which cards are in the same way.
fn share(modes: &BTreeMap<String, String>, part: &str, mode: &str) -> String {
    let alike = modes.iter().filter(|(_, it)| *it == mode);
    let names: Vec<_> = alike.map(|(name, _)| name).collect();
    let at = names.iter().position(|name| *name == part).unwrap_or(0);
    format!("{}/{}", at + 1, names.len())
}

/// A part on which tests are run.
struct Played<'a> {
    part: &'a str,
    mode: &'a str,
    share: String,
}

impl Played<'_> {
    /// The filter of a column, and the value of CARDEA_COUNTER_MODE.
    fn filter(&self, column: &Column) -> Option<(&'static str, &'static str)> {
        match self.mode {
            "refused" => None,
            "object mode" => column.object.map(|filter| (filter, "object")),
            "NV mode, read by the owner" => Some((column.owner, "nv-owner")),
            _ => Some((column.nv, "nv")),
        }
    }

    fn row(&self, workspace: &Workspace) -> Result<String> {
        let of_lane = |lane: Lane| -> Result<Vec<(&str, String)>> {
            let columns = COLUMNS.iter().filter(|column| column.lane == lane);
            columns
                .map(|column| Ok((column.name, self.cell(workspace, column)?)))
                .collect()
        };
        let cells = std::thread::scope(|scope| {
            let programs = scope.spawn(|| of_lane(Lane::Programs));
            let mut cells = of_lane(Lane::Tpm)?;
            cells.extend(joined(programs)?);
            anyhow::Ok(cells)
        })?;
        let in_order = COLUMNS.iter().flat_map(|column| {
            let found = cells.iter().filter(|(name, _)| *name == column.name);
            found.map(|(_, cell)| format!(" {cell} |"))
        });
        let row: String = in_order.collect();
        Ok(format!("| `{}` | {} |{row}\n", self.part, self.mode))
    }

    fn cell(&self, workspace: &Workspace, column: &Column) -> Result<String> {
        match self.filter(column) {
            Some((filter, mode)) => self.passed(workspace, column.name, filter, mode),
            None => Ok("–".to_owned()),
        }
    }

    /// How many of the tests have passed.
    fn passed(
        &self,
        workspace: &Workspace,
        name: &str,
        filter: &str,
        mode: &str,
    ) -> Result<String> {
        let part = self.part;
        let nextest = tools::NEXTEST.ensure(workspace)?;
        let mut command = Command::new(nextest);
        command
            .current_dir(&workspace.root)
            .args(["nextest", "run", "--locked", "--package", "cardea-testkit"])
            .args(["--test", "attacks", "--test", "e2e", "--test", "tpm"])
            .args(["--no-fail-fast", "--color", "never", "--filterset", filter])
            .env("CARDEA_TPM_PROFILE", part)
            .env("CARDEA_COUNTER_MODE", mode)
            .env("CARDEA_TPM_SHARE", &self.share)
            .stdin(Stdio::null());
        let began = Instant::now();
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
        let took = began.elapsed().as_secs();
        say(&format!("{part}: {name}: {passed} of {run}, {took} s"));
        if passed < run {
            say(&format!("{part}: see {}", log.display()));
        }
        Ok(format!("{passed} of {run}"))
    }
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
    fn parts_alike_share_the_cases() {
        let modes = [("a", "NV mode"), ("b", "object mode"), ("c", "NV mode")];
        let modes = modes.map(|(part, mode)| (part.to_owned(), mode.to_owned()));
        let modes = BTreeMap::from(modes);
        assert_eq!(share(&modes, "a", "NV mode"), "1/2");
        assert_eq!(share(&modes, "b", "object mode"), "1/1");
        assert_eq!(share(&modes, "c", "NV mode"), "2/2");
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
