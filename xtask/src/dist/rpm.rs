//! RPMs, by `rpmbuild` and `packaging/rpm/cardea.spec`.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::release::Release;
use super::stage::Tree;
use super::{Contents, documents};
use crate::install::items::{Kind, Package};

/// Whether `rpmbuild` takes a folder, which is found out before the programs are built. It cuts paths at blanks, whatever
/// quotes are around them.
pub(super) fn can_work_in(folder: &Path) -> Result<()> {
    ensure!(
        !folder.to_string_lossy().contains(char::is_whitespace),
        "{} has a blank in its path, which rpmbuild cannot take: choose another folder with --out, or go without RPMs \
         with --trial",
        folder.display()
    );
    Ok(())
}

/// Packs every package.
pub(super) fn pack(contents: &Contents, release: &Release, work: &Path, out: &Path) -> Result<()> {
    let tree = Tree::new(work.join("stage"))?;
    let lists = work.join("lists");
    fs::create_dir_all(&lists).with_context(|| lists.display().to_string())?;
    for package in Package::ALL {
        let mut list = String::new();
        for item in contents.items.iter().filter(|item| item.package == package) {
            let to = tree.put(item)?;
            let kind = match item.kind {
                Kind::Configuration => "%config(noreplace) ",
                Kind::Program => "",
            };
            let mode = item.mode;
            writeln!(list, "{kind}%attr(0{mode:o}, root, root) {}", to.display())?;
        }
        if package == Package::Doc {
            documents::put(&contents.root, &tree, "usr/share/doc/cardea-doc")?;
            writeln!(list, "/usr/share/doc/cardea-doc")?;
        }
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let to = Path::new("/usr/share/licenses")
                .join(package.name())
                .join(licence);
            tree.write(&to, &fs::read(contents.root.join(licence))?, 0o644)?;
            writeln!(list, "{}", to.display())?;
        }
        fs::write(lists.join(package.name()), list).context("a list of files")?;
    }
    tree.close()?;
    let define = |name: &str, value: &Path| format!("{name} {}", value.display());
    let built = work.join("built");
    let result = Command::new("rpmbuild")
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        .args(["-bb", "--quiet"])
        .args(["--define", &format!("version {}", release.version)])
        .args(["--define", &define("stage", &tree.root)])
        .args(["--define", &define("lists", &lists)])
        .args(["--define", &define("_topdir", &work.join("top"))])
        .args(["--define", &define("_rpmdir", &built)])
        .args([
            "--define",
            "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        ])
        .arg(contents.root.join("packaging/rpm/cardea.spec"))
        .output()
        .context("rpmbuild")?;
    if !result.status.success() {
        bail!(
            "rpmbuild failed: {}",
            String::from_utf8_lossy(&result.stderr)
        );
    }
    for name in super::names(&built)? {
        fs::copy(built.join(&name), out.join(&name)).with_context(|| name.clone())?;
    }
    Ok(())
}
