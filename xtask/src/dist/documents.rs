//! The documentation as it is packed.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::stage::Tree;
use crate::shell;

/// What is packed: files and whole folders.
const DOCUMENTS: [&str; 8] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "STYLE.md",
    "docs",
    "examples",
    "packaging/README.md",
];

/// Copies the documents into a folder of the tree, with the paths that they have here, so that their links work.
pub(super) fn put(root: &Path, tree: &Tree, folder: &str) -> Result<()> {
    let listed = shell::output(
        Command::new("find")
            .current_dir(root)
            .args(DOCUMENTS)
            .args(["-type", "f"]),
    )?;
    let mut names: Vec<&str> = listed.lines().collect();
    names.sort_unstable();
    for name in names {
        let content = std::fs::read(root.join(name))?;
        let to = Path::new("/").join(folder).join(name);
        tree.write(&to, &content, 0o644)?;
    }
    Ok(())
}
