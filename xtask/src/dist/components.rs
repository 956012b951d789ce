//! The list of components in the form of CycloneDX 1.5: the crates that are in what is packed, from cargo's metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::release::Release;
use crate::install;
use crate::shell::{self, Workspace};

/// Writes the list.
pub(super) fn write(workspace: &Workspace, release: &Release, out: &Path) -> Result<()> {
    let host = shell::output(std::process::Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let metadata = shell::metadata(
        workspace
            .cargo()
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", host.context("rustc names no host")?]),
    )?;
    let lock = fs::read_to_string(workspace.root.join("Cargo.lock")).context("Cargo.lock")?;
    let list = list(&metadata, &checksums(&lock)?, release)?;
    let name = format!("cardea-{}.cdx.json", release.version);
    let text = format!("{}\n", serde_json::to_string_pretty(&list)?);
    fs::write(out.join(&name), text).context(name)
}

/// SHA-256 of what each crate came in, by name and version.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let table: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages = table.get("package").and_then(toml::Value::as_array);
    let text = |package: &toml::Value, key: &str| {
        let value = package.get(key).and_then(toml::Value::as_str);
        value.map(str::to_owned)
    };
    Ok(packages
        .into_iter()
        .flatten()
        .filter_map(|package| {
            let key = (text(package, "name")?, text(package, "version")?);
            Some((key, text(package, "checksum")?))
        })
        .collect())
}

fn list(
    metadata: &Value,
    checksums: &BTreeMap<(String, String), String>,
    release: &Release,
) -> Result<Value> {
    let packages: BTreeMap<&str, &Value> = array(metadata, "/packages")
        .filter_map(|package| Some((text(package, "id")?, package)))
        .collect();
    let needs: BTreeMap<&str, BTreeSet<&str>> = array(metadata, "/resolve/nodes")
        .filter_map(|node| {
            let linked = array(node, "/deps").filter(|need| is_linked(need));
            let linked = linked.filter_map(|need| text(need, "pkg"));
            Some((text(node, "id")?, linked.collect()))
        })
        .collect();
    let products = packages
        .iter()
        .filter(|(_, package)| text(package, "name").is_some_and(is_product))
        .map(|(id, _)| *id);
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = products.collect();
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(needs.get(id).into_iter().flatten());
        }
    }
    let purl = |id: &str| {
        let package = packages.get(id)?;
        let (name, version) = (text(package, "name")?, text(package, "version")?);
        Some(format!("pkg:cargo/{name}@{version}"))
    };
    let mut components = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    for id in reached {
        let package = packages.get(id).context("a crate is not in the metadata")?;
        let reference = purl(id).context("a crate has no name")?;
        let of: BTreeSet<String> = needs
            .get(id)
            .into_iter()
            .flatten()
            .filter_map(|need| purl(need))
            .collect();
        dependencies.insert(
            reference.clone(),
            json!({ "ref": reference, "dependsOn": of }),
        );
        components.insert(reference.clone(), component(package, reference, checksums));
    }
    let time = release.time("+%Y-%m-%dT%H:%M:%SZ")?;
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "component": {
                "type": "application",
                "name": "cardea",
                "version": release.version,
                "licenses": [{ "expression": "Apache-2.0 OR MIT" }],
            },
        },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>(),
    }))
}

fn component(
    package: &Value,
    reference: String,
    checksums: &BTreeMap<(String, String), String>,
) -> Value {
    let of = |key| text(package, key).unwrap_or_default();
    let key = (of("name").to_owned(), of("version").to_owned());
    let mut component = json!({
        "type": "library",
        "bom-ref": reference,
        "purl": reference,
        "name": key.0,
        "version": key.1,
    });
    if let Some(members) = component.as_object_mut() {
        if let Some(licence) = text(package, "license") {
            // The form with a slash is older than the standard's.
            let expression = licence.replace('/', " OR ");
            members.insert("licenses".into(), json!([{ "expression": expression }]));
        }
        if let Some(sum) = checksums.get(&key) {
            let hash = json!([{ "alg": "SHA-256", "content": sum }]);
            members.insert("hashes".into(), hash);
        }
    }
    component
}

fn is_product(name: &str) -> bool {
    install::PACKAGES.contains(&name)
}

/// Whether a dependency comes into the program: not one of tests or of build scripts alone.
fn is_linked(need: &Value) -> bool {
    array(need, "/dep_kinds").any(|kind| kind.get("kind").is_some_and(Value::is_null))
}

fn array<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::changes::Changes;

    #[test]
    fn what_is_linked_is_listed_and_what_tests_need_is_not() {
        let package = |name: &str, licence: &str| json!({ "id": format!("id {name}"), "name": name, "version": "1.0.0", "license": licence });
        let need = |name: &str, kind: Value| json!({ "pkg": format!("id {name}"), "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("cardea-daemon", "MIT"), package("near", "MIT/Apache-2.0"),
                package("far", "MIT"), package("for-tests", "MIT"), package("unrelated", "MIT"),
            ],
            "resolve": { "nodes": [
                { "id": "id cardea-daemon", "deps": [need("near", Value::Null), need("for-tests", json!("dev"))] },
                { "id": "id near", "deps": [need("far", Value::Null)] },
                { "id": "id far", "deps": [] },
                { "id": "id unrelated", "deps": [] },
            ]},
        });
        let lock = "[[package]]\nname = \"near\"\nversion = \"1.0.0\"\nchecksum = \"abcd\"\n";
        let changes = Changes::parse("## Unreleased\n").unwrap();
        let release = Release::new(changes, 0).unwrap();
        let list = list(&metadata, &checksums(lock).unwrap(), &release).unwrap();
        let names: Vec<&str> = array(&list, "/components")
            .filter_map(|component| text(component, "name"))
            .collect();
        assert_eq!(names, ["cardea-daemon", "far", "near"]);
        assert_eq!(
            list.pointer("/components/2/hashes/0/content"),
            Some(&json!("abcd"))
        );
        assert_eq!(
            list.pointer("/components/2/licenses/0/expression"),
            Some(&json!("MIT OR Apache-2.0"))
        );
        assert_eq!(
            list.pointer("/dependencies/0/dependsOn"),
            Some(&json!(["pkg:cargo/near@1.0.0"]))
        );
        assert_eq!(
            list.pointer("/metadata/timestamp"),
            Some(&json!("1970-01-01T00:00:00Z"))
        );
    }
}
