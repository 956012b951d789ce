//! Cycles of modules: files of which each uses every other, directly or through others.
//!
//! A parent and its children may use each other: they are one thing in several files. So a parent is taken out of
//! the cycle that it closes, and what is left must have none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use super::modules::{Edge, Needs};

/// The files of a cycle.
pub(super) type Cycle = BTreeSet<PathBuf>;

/// The cycles of a crate that are larger than a parent with its children.
pub(super) fn cycles(needs: &Needs) -> Vec<Cycle> {
    let mut found = Vec::new();
    let mut work = knots(needs, &needs.files.keys().cloned().collect());
    while let Some(knot) = work.pop() {
        let parent = knot.iter().find(|parent| is_family(needs, parent, &knot));
        match parent {
            Some(parent) => {
                let mut children = knot.clone();
                children.remove(parent);
                work.extend(knots(needs, &children));
            }
            None => found.push(knot),
        }
    }
    found.sort();
    found
}

/// The shortest path from a file through the cycle and back to it.
pub(super) fn shortest<'a>(
    needs: &'a Needs,
    cycle: &Cycle,
    begin: &PathBuf,
) -> Vec<&'a Edge<PathBuf>> {
    let mut came: BTreeMap<&PathBuf, &Edge<PathBuf>> = BTreeMap::new();
    let mut queue = VecDeque::from([begin]);
    while let Some(file) = queue.pop_front() {
        for edge in needs.inside.iter().filter(|edge| edge.from == *file) {
            if !cycle.contains(&edge.to) || came.contains_key(&edge.to) {
                continue;
            }
            came.insert(&edge.to, edge);
            queue.push_back(&edge.to);
        }
    }
    let mut way = Vec::new();
    let mut file = begin;
    while let Some(edge) = came.get(file) {
        way.push(*edge);
        file = &edge.from;
        if file == begin {
            break;
        }
    }
    way.reverse();
    way
}

/// Whether a module is the parent of all others in a cycle.
fn is_family(needs: &Needs, parent: &PathBuf, cycle: &Cycle) -> bool {
    let Some(place) = needs.files.get(parent) else {
        return false;
    };
    cycle
        .iter()
        .filter(|file| *file != parent)
        .filter_map(|file| needs.files.get(file))
        .all(|child| child.len() == place.len() + 1 && child.starts_with(place))
}

/// Sets of more than one file, of those given, each of which reaches every other.
fn knots(needs: &Needs, files: &Cycle) -> Vec<Cycle> {
    let mut next: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = BTreeMap::new();
    for edge in &needs.inside {
        if files.contains(&edge.from) && files.contains(&edge.to) {
            next.entry(&edge.from).or_default().insert(&edge.to);
        }
    }
    let reached = |begin: &PathBuf| {
        let mut seen: BTreeSet<&PathBuf> = BTreeSet::new();
        let mut work: Vec<&PathBuf> = next.get(begin).into_iter().flatten().copied().collect();
        while let Some(file) = work.pop() {
            if seen.insert(file) {
                work.extend(next.get(file).into_iter().flatten());
            }
        }
        seen
    };
    let reach: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        files.iter().map(|file| (file, reached(file))).collect();
    let reaches =
        |from: &PathBuf, to: &PathBuf| reach.get(from).is_some_and(|seen| seen.contains(to));
    let mutual = |a: &PathBuf, b: &PathBuf| reaches(a, b) && reaches(b, a);
    let found: BTreeSet<Cycle> = files
        .iter()
        .map(|file| {
            files
                .iter()
                .filter(|other| mutual(file, other))
                .cloned()
                .collect::<Cycle>()
        })
        .filter(|knot| knot.len() > 1)
        .collect();
    found.into_iter().collect()
}
