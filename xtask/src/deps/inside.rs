//! Checks the sources of the crates against the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cycles::{self, Cycle};
use super::graph::{Graph, Package};
use super::known::Known;
use super::modules::{self, Edge, Needs};
use super::rules::{self, ROOMS, Room, VOCABULARY_BELOW};

/// A crate and what its sources use.
pub(super) struct Inside<'a> {
    name: &'a str,
    package: &'a Package,
    pub(super) needs: Needs,
}

/// Reads the sources of all members.
pub(super) fn read(graph: &Graph) -> Result<Vec<Inside<'_>>> {
    graph
        .iter()
        .filter(|(_, package)| package.member)
        .map(|(name, package)| {
            let needs = modules::needs(&package.folder, &package.roots)
                .with_context(|| format!("cannot follow the modules of {name}"))?;
            Ok(Inside {
                name,
                package,
                needs,
            })
        })
        .collect()
}

/// The violations inside the crates, in words; a cycle takes several lines.
pub(super) fn violations(crates: &[Inside<'_>], root: &Path, known: &Known) -> Vec<String> {
    let mut found = Vec::new();
    for inside in crates {
        let checks = Checks {
            inside,
            root,
            known,
        };
        checks.other_crates(&mut found);
        checks.rooms(&mut found);
        checks.cycles(&mut found);
    }
    for name in known.crates() {
        if !crates.iter().any(|inside| inside.name == name) {
            found.push(format!(
                "{name} is in {KNOWN_FILE} and not in the workspace"
            ));
        }
    }
    found
}

/// The cycles of each crate, for whoever wants to dissolve them.
pub(super) fn picture(crates: &[Inside<'_>]) -> String {
    let mut text = String::new();
    for inside in crates {
        let cycles = cycles::cycles(&inside.needs);
        let files = inside.needs.files.len();
        let edges: BTreeSet<_> = inside
            .needs
            .inside
            .iter()
            .map(|edge| (&edge.from, &edge.to))
            .collect();
        let _ = writeln!(
            text,
            "{}: {files} files, {} edges, {} cycles",
            inside.name,
            edges.len(),
            cycles.len()
        );
        for cycle in cycles {
            let _ = writeln!(text, "  {} files: {}", cycle.len(), listed(&cycle));
        }
    }
    text
}

/// Where known violations are listed.
const KNOWN_FILE: &str = "xtask/src/deps/known.rs";

struct Checks<'a> {
    inside: &'a Inside<'a>,
    root: &'a Path,
    known: &'a Known,
}

impl Checks<'_> {
    /// Paths into crates that this one must not need. Cargo's graph shows the same, without a line.
    fn other_crates(&self, found: &mut Vec<String>) {
        let name = self.inside.name;
        let mut wrong = BTreeMap::new();
        for edge in &self.inside.needs.outside {
            let needed = edge.to.replace('_', "-");
            if let Some(reason) = rules::refused_source(name, &needed) {
                note(&mut wrong, edge, format!("{name} needs {needed}: {reason}"));
            }
        }
        found.extend(self.noted(wrong));
    }

    /// Edges between rooms, and from rooms to other crates, that the rules forbid.
    fn rooms(&self, found: &mut Vec<String>) {
        let rooms: Vec<&Room> = ROOMS
            .iter()
            .filter(|room| room.within == self.inside.name)
            .collect();
        let room = |file: &Path| rooms.iter().copied().find(|room| room.contains(file));
        let needs = &self.inside.needs;
        let mut seen = BTreeSet::new();
        let mut wrong = BTreeMap::new();
        for edge in &needs.inside {
            let (from, to) = (room(&edge.from), room(&edge.to));
            let Some(to) = to.filter(|to| self.is_wrong(edge, from, to)) else {
                continue;
            };
            match self.known_edge(edge) {
                Some(known) => _ = seen.insert(known),
                None => {
                    let from = from.map_or("a file outside all rooms", |from| from.name);
                    note(&mut wrong, edge, format!("{from} must not use {}", to.name));
                }
            }
        }
        for edge in &needs.outside {
            let needed = edge.to.replace('_', "-");
            let refused = |crates: &[&str]| !crates.contains(&needed.as_str());
            let from = room(&edge.from).filter(|from| from.crates.is_some_and(refused));
            if let Some(from) = from.filter(|_| rules::is_ours(&needed)) {
                note(
                    &mut wrong,
                    edge,
                    format!("{} must not use {needed}", from.name),
                );
            }
        }
        found.extend(self.noted(wrong));
        for known @ (name, from, to) in self.known_edges() {
            if !seen.contains(known) {
                found.push(format!(
                    "{name}: {from} no longer uses {to}; remove it from the list in {KNOWN_FILE}"
                ));
            }
        }
    }

    fn is_wrong(&self, edge: &Edge<PathBuf>, from: Option<&Room>, to: &Room) -> bool {
        match from {
            Some(from) => from.name != to.name && !from.may.contains(&to.name),
            None => {
                VOCABULARY_BELOW.contains(&self.inside.name) && edge.from != Path::new("src/lib.rs")
            }
        }
    }

    fn known_edges(
        &self,
    ) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
        let edges = self.known.edges.iter();
        edges.filter(|(name, ..)| *name == self.inside.name)
    }

    fn known_edge(
        &self,
        edge: &Edge<PathBuf>,
    ) -> Option<&'static (&'static str, &'static str, &'static str)> {
        self.known_edges()
            .find(|(_, from, to)| edge.from == Path::new(from) && edge.to == Path::new(to))
    }

    fn cycles(&self, found: &mut Vec<String>) {
        let known: Vec<Cycle> = self
            .known
            .cycles
            .iter()
            .filter(|(name, _)| *name == self.inside.name)
            .map(|(_, files)| files.iter().map(PathBuf::from).collect())
            .collect();
        let present = cycles::cycles(&self.inside.needs);
        for cycle in present.iter().filter(|cycle| !known.contains(cycle)) {
            let old: Cycle = known
                .iter()
                .filter(|old| !old.is_disjoint(cycle))
                .flatten()
                .cloned()
                .collect();
            found.push(self.changed(cycle, &old));
        }
        for cycle in known {
            if present.iter().all(|now| now.is_disjoint(&cycle)) {
                found.push(format!(
                    "{}: the cycle of {} is gone; remove it from {KNOWN_FILE}",
                    self.inside.name,
                    listed(&cycle)
                ));
            }
        }
    }

    /// Describes a cycle that is not the listed one, with the edges that close it.
    fn changed(&self, cycle: &Cycle, old: &Cycle) -> String {
        let name = self.inside.name;
        let new: Cycle = cycle.difference(old).cloned().collect();
        if new.is_empty() {
            return format!(
                "{name}: a known cycle has shrunk; what is left to list in {KNOWN_FILE}: {}",
                listed(cycle)
            );
        }
        let mut text = match old.is_empty() {
            true => format!("{name}: a cycle of {} files", cycle.len()),
            false => format!("{name}: a known cycle has grown by {}", listed(&new)),
        };
        let mut shown = Cycle::new();
        for file in &new {
            if shown.contains(file) {
                continue;
            }
            for edge in cycles::shortest(&self.inside.needs, cycle, file) {
                shown.insert(edge.from.clone());
                let _ = write!(
                    text,
                    "\n  {}: uses {} ({})",
                    self.place(edge),
                    edge.to.display(),
                    edge.path
                );
            }
        }
        text
    }

    /// Each violation with its first place, and the lines of the others.
    fn noted(&self, wrong: Noted<'_>) -> Vec<String> {
        wrong
            .into_iter()
            .map(|((file, what), places)| {
                let mut places = places.into_iter();
                let (line, path) = places.next().unwrap_or_default();
                let mut text = format!("{}:{line}: {what} ({path})", self.shown(file));
                let others: BTreeSet<usize> = places
                    .map(|place| place.0)
                    .filter(|at| *at != line)
                    .collect();
                let others: Vec<String> = others.iter().map(ToString::to_string).collect();
                if !others.is_empty() {
                    let _ = write!(text, "; also in {}", others.join(", "));
                }
                text
            })
            .collect()
    }

    /// File and line, relative to the workspace's root.
    fn place<T>(&self, edge: &Edge<T>) -> String {
        format!("{}:{}", self.shown(&edge.from), edge.line)
    }

    fn shown(&self, file: &Path) -> String {
        let file = self.inside.package.folder.join(file);
        let file = file.strip_prefix(self.root).unwrap_or(&file);
        file.display().to_string()
    }
}

/// The violations in a file, with lines and paths.
type Noted<'a> = BTreeMap<(&'a Path, String), Vec<(usize, &'a str)>>;

fn note<'a, T>(noted: &mut Noted<'a>, edge: &'a Edge<T>, what: String) {
    let places = noted.entry((&edge.from, what)).or_default();
    places.push((edge.line, &edge.path));
}

fn listed(files: &Cycle) -> String {
    let names: Vec<String> = files
        .iter()
        .map(|file| format!("\"{}\"", file.display()))
        .collect();
    names.join(", ")
}
