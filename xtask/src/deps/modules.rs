//! The modules of a crate, and which file uses which.
//!
//! A file uses another when a path in it leads to an item there; re-exports are followed to where the item is
//! defined. Declaring a module, or importing it as a module, is not yet a use; naming something in it is.
//! Values whose type is never named are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::source::{self, Import, Mention, Name};

/// A file uses another file, or another crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge<T> {
    pub(super) from: PathBuf,
    pub(super) line: usize,
    /// The path as written.
    pub(super) path: String,
    pub(super) to: T,
}

/// What the files of a crate use of each other and of other crates. Paths are relative to the crate's folder.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Where each file stands in the tree of modules.
    pub(super) files: BTreeMap<PathBuf, Vec<String>>,
    pub(super) inside: Vec<Edge<PathBuf>>,
    /// The crate is named as in paths, with `_`.
    pub(super) outside: Vec<Edge<String>>,
}

/// Reads the crate in a folder, from the root files of its targets.
pub(super) fn needs(folder: &Path, roots: &[PathBuf]) -> Result<Needs> {
    let mut needs = Needs::default();
    for root in roots {
        let tree = Tree::load(folder, root)?;
        // Each target has a tree of its own: the root of a program is not the parent of the library's modules.
        let target = root.file_stem().unwrap_or_default().to_string_lossy();
        for module in &tree.modules {
            let mut place = vec![target.clone().into_owned()];
            place.extend_from_slice(&module.place);
            needs.files.entry(module.file.clone()).or_insert(place);
        }
        tree.collect(&mut needs);
    }
    needs.inside.sort();
    needs.inside.dedup();
    needs.outside.sort();
    needs.outside.dedup();
    Ok(needs)
}

struct Tree {
    modules: Vec<Module>,
    by_place: BTreeMap<Vec<String>, usize>,
}

struct Module {
    /// The names from the root to it.
    place: Vec<String>,
    file: PathBuf,
    source: source::Module,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// An item of a module.
    Item(usize),
    Module(usize),
    /// Another crate, or something unknown such as a type parameter.
    Outside(String),
}

/// Imports that are being followed, because they can form a loop.
type Trail = BTreeSet<(usize, String)>;

impl Tree {
    fn load(folder: &Path, root: &Path) -> Result<Self> {
        let mut tree = Self {
            modules: Vec::new(),
            by_place: BTreeMap::new(),
        };
        let below = root.parent().context("a file in no folder")?;
        tree.file(folder, root, below, Vec::new())?;
        for (at, module) in tree.modules.iter().enumerate() {
            tree.by_place.insert(module.place.clone(), at);
        }
        Ok(tree)
    }

    /// Reads a file and its children's files, which are in `below`.
    fn file(&mut self, folder: &Path, path: &Path, below: &Path, place: Vec<String>) -> Result<()> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = path.strip_prefix(folder).unwrap_or(path).to_owned();
        for module in source::modules(&text) {
            let mut own = place.clone();
            own.extend_from_slice(&module.path);
            let mut below = below.to_owned();
            below.extend(&module.path);
            for child in &module.children {
                let mut place = own.clone();
                place.push(child.clone());
                let flat = below.join(child).with_extension("rs");
                let deep = below.join(child).join("mod.rs");
                let path = [flat, deep].into_iter().find(|path| path.is_file());
                let Some(path) = path else {
                    bail!("{}: module {child} has no file", file.display());
                };
                self.file(folder, &path, &below.join(child), place)?;
            }
            self.modules.push(Module {
                place: own,
                file: file.clone(),
                source: module,
            });
        }
        Ok(())
    }

    fn collect(&self, needs: &mut Needs) {
        for (at, module) in self.modules.iter().enumerate() {
            let imports = module.source.imports.iter();
            let globs = imports.clone().filter(|import| import.name == Name::Glob);
            for import in globs {
                if let Some(Target::Module(to)) = self.target(at, &import.path) {
                    self.edge(needs, module, &import.path, &Target::Item(to));
                }
            }
            let paths = imports.map(|import| &import.path);
            for path in paths.chain(&module.source.mentions) {
                if let Some(target) = self.target(at, path) {
                    self.edge(needs, module, path, &target);
                }
            }
        }
    }

    fn edge(&self, needs: &mut Needs, from: &Module, path: &Mention, target: &Target) {
        let shown = path.segments.join("::");
        let (line, file) = (path.line, from.file.clone());
        match target {
            Target::Item(to) => {
                let to = self.modules.get(*to).map(|to| to.file.clone());
                if let Some(to) = to.filter(|to| *to != file) {
                    needs.inside.push(Edge {
                        from: file,
                        line,
                        path: shown,
                        to,
                    });
                }
            }
            Target::Outside(name) => needs.outside.push(Edge {
                from: file,
                line,
                path: shown,
                to: name.clone(),
            }),
            Target::Module(_) => {}
        }
    }

    fn target(&self, from: usize, path: &Mention) -> Option<Target> {
        self.resolve(from, &path.segments, &mut Trail::new())
    }

    fn resolve(&self, from: usize, segments: &[String], trail: &mut Trail) -> Option<Target> {
        let (first, mut rest) = segments.split_first()?;
        let mut target = match first.as_str() {
            "" => {
                let (name, _) = rest.split_first()?;
                return Some(Target::Outside(name.clone()));
            }
            "crate" => Target::Module(self.at(&[])?),
            "self" => Target::Module(from),
            "super" => Target::Module(self.parent(from)?),
            name => match self.lookup(from, name, rest.is_empty(), trail) {
                Some(target) => target,
                None => Target::Outside(name.to_owned()),
            },
        };
        while let (Target::Module(module), Some((next, after))) = (&target, rest.split_first()) {
            target = if next == "super" {
                Target::Module(self.parent(*module)?)
            } else {
                // A name that is not found is defined by a macro.
                self.lookup(*module, next, after.is_empty(), trail)
                    .unwrap_or(Target::Item(*module))
            };
            rest = after;
        }
        Some(target)
    }

    /// What a name stands for in a module. A module and another item can share a name; the end of a path means
    /// the item.
    fn lookup(&self, module: usize, name: &str, last: bool, trail: &mut Trail) -> Option<Target> {
        let scope = self.modules.get(module)?;
        let child = || {
            let mut place = scope.place.clone();
            place.push(name.to_owned());
            self.at(&place).map(Target::Module)
        };
        if last && scope.source.names.contains(name) {
            return Some(Target::Item(module));
        }
        if !last && let Some(child) = child() {
            return Some(child);
        }
        if !trail.insert((module, name.to_owned())) {
            return None;
        }
        let imports = &scope.source.imports;
        let named = imports
            .iter()
            .find(|import| matches!(&import.name, Name::Named(own) if own == name))
            .and_then(|import| self.resolve(module, &import.path.segments, trail));
        let found = named.or_else(child).or_else(|| {
            let own = scope.source.names.contains(name);
            own.then_some(Target::Item(module))
        });
        let found = found.or_else(|| {
            let glob = |import: &&Import| import.name == Name::Glob;
            imports.iter().filter(glob).find_map(|import| {
                match self.resolve(module, &import.path.segments, trail)? {
                    Target::Module(of) if of != module => self.lookup(of, name, last, trail),
                    _ => None,
                }
            })
        });
        trail.remove(&(module, name.to_owned()));
        found
    }

    fn parent(&self, module: usize) -> Option<usize> {
        let (_, parent) = self.modules.get(module)?.place.split_last()?;
        self.at(parent)
    }

    fn at(&self, place: &[String]) -> Option<usize> {
        self.by_place.get(place).copied()
    }
}
