//! The results of a walk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::Outcome;
use super::cases::Case;
use super::manipulation::COLUMNS;
use super::world::Ending;

/// The results of all cases of an operation.
pub(crate) struct Walk {
    pub(crate) row: &'static str,
    /// Rules that are broken even when nobody interferes.
    pub(crate) broken: Vec<String>,
    pub(crate) outcomes: Vec<(Case, Outcome)>,
}

impl Walk {
    /// The endings in each column; empty where nothing was tried.
    pub(crate) fn cells(&self) -> [BTreeSet<Ending>; COLUMNS.len()] {
        let mut cells = [(); COLUMNS.len()].map(|()| BTreeSet::new());
        for (case, outcome) in &self.outcomes {
            if let Ok(ending) = outcome {
                cells[case.manipulation.column()].insert(*ending);
            }
        }
        cells
    }

    pub(crate) fn is_broken(&self) -> bool {
        let mut outcomes = self.outcomes.iter();
        !self.broken.is_empty() || outcomes.any(|(_, outcome)| outcome.is_err())
    }

    /// Number of cases by column and ending, and the cases that broke a rule.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!("{}: {} cases\n", self.row, self.outcomes.len());
        let mut counts: BTreeMap<(usize, String), usize> = BTreeMap::new();
        for (case, outcome) in &self.outcomes {
            let ending = match outcome {
                Ok(ending) => format!("{ending:?}"),
                Err(_) => BROKEN.to_owned(),
            };
            let key = (case.manipulation.column(), ending);
            *counts.entry(key).or_default() += 1;
        }
        for ((column, ending), count) in counts {
            writeln!(text, "  {}: {count} {ending}", COLUMNS[column]).unwrap();
        }
        for rule in &self.broken {
            writeln!(text, "  without interference: {rule}").unwrap();
        }
        for (case, outcome) in &self.outcomes {
            if let Err(rules) = outcome
                && !rules.is_empty()
            {
                writeln!(text, "  {case:?}: {}", rules.join("; ")).unwrap();
            }
        }
        text
    }

    /// Writes the summary and all cases to the folder for files of tests, `interposer-walk` in it.
    pub(crate) fn keep(&self) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interposer-walk");
        std::fs::create_dir_all(&folder).unwrap();
        let mut text = self.summary();
        text.push('\n');
        for (case, outcome) in &self.outcomes {
            match outcome {
                Ok(ending) => writeln!(text, "{case:?}: {ending:?}").unwrap(),
                Err(rules) => writeln!(text, "{case:?}: {BROKEN}: {}", rules.join("; ")).unwrap(),
            }
        }
        let name = self.row.replace(", ", "-").replace(' ', "-");
        std::fs::write(folder.join(format!("{name}.txt")), text).unwrap();
    }
}

const BROKEN: &str = "BROKEN";
