//! `cargo xtask deps`: the direction of dependencies between the crates.
//!
//! Products → Platform → Core: never up, never sideways between products.
//! The rules are in [`rules`], the graph they are applied to is cargo's.

mod rules;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell::{self, Workspace, say};
use crate::{install, weakened};

/// Packages by name; a package that is there in several versions is one here.
pub(crate) type Graph = BTreeMap<String, Package>;

/// What the rules need to know of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    /// A crate of ours.
    pub(crate) member: bool,
    /// It is loaded into other people's processes.
    pub(crate) cdylib: bool,
    /// Dependencies of the product: normal and build dependencies, by name.
    pub(crate) needs: Vec<String>,
}

pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::locate()?;
    let metadata =
        shell::metadata(
            workspace
                .cargo()
                .args(["metadata", "--format-version", "1", "--locked"]),
        )?;
    let graph = graph(&metadata).context("cargo's metadata is not as expected")?;
    let violations = rules::violations(&graph);
    for violation in &violations {
        say(&format!("deps: {violation}"));
    }
    match violations.len() {
        0 => {
            let members = graph.values().filter(|package| package.member).count();
            say(&format!("deps: {members} crates, no violation"));
            weakened::products_are_without(&workspace, &install::PACKAGES)
        }
        count => bail!("{count} violations of the direction of dependencies"),
    }
}

fn graph(metadata: &Value) -> Option<Graph> {
    let members: Vec<&str> = strings(metadata.get("workspace_members")?);
    let mut names = BTreeMap::new();
    let mut graph = Graph::new();
    for package in metadata.get("packages")?.as_array()? {
        let id = package.get("id")?.as_str()?;
        let name = package.get("name")?.as_str()?;
        names.insert(id, name);
        let entry = graph.entry(name.to_owned()).or_default();
        entry.member |= members.contains(&id);
        entry.cdylib |= package
            .get("targets")?
            .as_array()?
            .iter()
            .filter_map(|target| target.get("crate_types"))
            .any(|types| strings(types).contains(&"cdylib"));
    }
    for node in metadata.get("resolve")?.get("nodes")?.as_array()? {
        let name = names.get(node.get("id")?.as_str()?)?;
        let package = graph.get_mut(*name)?;
        for dependency in node.get("deps")?.as_array()? {
            let needed = dependency
                .get("dep_kinds")?
                .as_array()?
                .iter()
                .any(|kind| kind.get("kind").and_then(Value::as_str) != Some("dev"));
            if needed {
                let needed = names.get(dependency.get("pkg")?.as_str()?)?;
                package.needs.push((*needed).to_owned());
            }
        }
        package.needs.sort();
        package.needs.dedup();
    }
    Some(graph)
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_becomes_a_graph_without_development_dependencies() {
        let package = |id: &str, name: &str, kind: &str| json!({ "id": id, "name": name, "targets": [{ "crate_types": [kind] }] });
        let metadata = json!({
            "workspace_members": ["a#1", "b#1"],
            "packages": [
                package("a#1", "a", "cdylib"),
                package("b#1", "b", "lib"),
                package("c#1", "c", "lib"),
                package("c#2", "c", "lib"),
            ],
            "resolve": { "nodes": [
                { "id": "a#1", "deps": [
                    { "pkg": "b#1", "dep_kinds": [{ "kind": null }, { "kind": "dev" }] },
                    { "pkg": "c#2", "dep_kinds": [{ "kind": "dev" }] },
                ] },
                { "id": "b#1", "deps": [{ "pkg": "c#1", "dep_kinds": [{ "kind": "build" }] }] },
                { "id": "c#1", "deps": [] },
                { "id": "c#2", "deps": [] },
            ] },
        });
        let graph = graph(&metadata).unwrap();
        assert_eq!(
            graph["a"],
            Package {
                member: true,
                cdylib: true,
                needs: vec!["b".to_owned()]
            }
        );
        assert_eq!(graph["b"].needs, ["c"]);
        assert_eq!(graph["c"], Package::default());
    }

    #[test]
    fn metadata_of_another_shape_is_refused() {
        assert_eq!(graph(&json!({})), None);
        assert_eq!(
            graph(&json!({ "workspace_members": [], "packages": [{ "id": 1 }] })),
            None
        );
    }
}
