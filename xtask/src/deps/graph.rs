//! The crates and what they need, as cargo sees it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Packages by name; a package that is there in several versions is one here.
pub(super) type Graph = BTreeMap<String, Package>;

/// What the rules need to know of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    /// A crate of ours.
    pub(super) member: bool,
    /// It is loaded into other people's processes.
    pub(super) cdylib: bool,
    /// Dependencies of the product: normal and build dependencies, by name.
    pub(super) needs: Vec<String>,
    /// Where its manifest is.
    pub(super) folder: PathBuf,
    /// The root files of its library and its programs.
    pub(super) roots: Vec<PathBuf>,
}

/// Reads what `cargo metadata` writes.
pub(super) fn graph(metadata: &Value) -> Option<Graph> {
    let members: Vec<&str> = strings(metadata.get("workspace_members")?);
    let mut names = BTreeMap::new();
    let mut graph = Graph::new();
    for package in metadata.get("packages")?.as_array()? {
        let id = package.get("id")?.as_str()?;
        let name = package.get("name")?.as_str()?;
        names.insert(id, name);
        let targets = package.get("targets")?.as_array()?;
        let entry = graph.entry(name.to_owned()).or_default();
        entry.cdylib |= targets
            .iter()
            .filter_map(|target| target.get("crate_types"))
            .any(|types| strings(types).contains(&"cdylib"));
        if members.contains(&id) {
            entry.member = true;
            let manifest = Path::new(package.get("manifest_path")?.as_str()?);
            entry.folder = manifest.parent()?.to_owned();
            entry.roots = targets.iter().filter_map(product_root).collect();
        }
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

/// The root file of a target, unless it is a test, benchmark, example or build script.
fn product_root(target: &Value) -> Option<PathBuf> {
    let kinds = strings(target.get("kind")?);
    let product = kinds
        .iter()
        .any(|kind| *kind == "bin" || kind.ends_with("lib"));
    let root = target.get("src_path")?.as_str()?;
    product.then(|| PathBuf::from(root))
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
        let package = |id: &str, name: &str, kind: &str| {
            json!({
                "id": id,
                "name": name,
                "manifest_path": format!("/{name}/Cargo.toml"),
                "targets": [
                    { "kind": [kind], "crate_types": [kind], "src_path": format!("/{name}/src/lib.rs") },
                    { "kind": ["test"], "crate_types": ["bin"], "src_path": format!("/{name}/tests/t.rs") },
                ],
            })
        };
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
                needs: vec!["b".to_owned()],
                folder: PathBuf::from("/a"),
                roots: vec![PathBuf::from("/a/src/lib.rs")],
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
