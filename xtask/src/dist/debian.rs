//! Debian packages, by Debian's own programs: `dpkg-shlibdeps` for what the programs need, `dpkg-gencontrol` for the
//! fields of `packaging/debian/control`, `dpkg-deb` for the archive.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::release::Release;
use super::stage::Tree;
use super::{Contents, Effort, changes, documents};
use crate::install::items::{Kind, Package};
use crate::shell;

/// Scripts of a package, by their endings in `packaging/debian`.
const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];

/// Packs every package.
pub(super) fn pack(
    contents: &Contents,
    release: &Release,
    work: &Path,
    out: &Path,
    effort: Effort,
) -> Result<()> {
    let packaging = contents.root.join("packaging/debian");
    let work = Work {
        contents,
        release,
        changelog: changes::debian(
            &release.changes,
            &release.version,
            release.epoch,
            &maintainer(&packaging)?,
        )?,
        copyright: copyright(contents, &packaging)?,
        packaging,
        folder: work.to_owned(),
        effort,
    };
    let debian = work.folder.join("debian");
    fs::create_dir_all(&debian).with_context(|| debian.display().to_string())?;
    fs::copy(work.packaging.join("control"), debian.join("control")).context("control")?;
    fs::write(debian.join("changelog"), &work.changelog).context("changelog")?;
    for package in Package::ALL {
        work.pack(package, out)
            .with_context(|| package.name().to_owned())?;
    }
    Ok(())
}

/// What all packages are made with.
struct Work<'a> {
    contents: &'a Contents,
    release: &'a Release,
    changelog: String,
    copyright: String,
    packaging: PathBuf,
    folder: PathBuf,
    effort: Effort,
}

impl Work<'_> {
    fn pack(&self, package: Package, out: &Path) -> Result<()> {
        let name = package.name();
        let tree = Tree::new(self.folder.join(name))?;
        let mut configuration = Vec::new();
        for item in &self.contents.items {
            if item.package != package {
                continue;
            }
            tree.put(item)?;
            if item.kind == Kind::Configuration {
                configuration.push(item.to.clone());
            }
        }
        if package == Package::Doc {
            documents::put(&self.contents.root, &tree, "usr/share/doc/cardea-doc")?;
        }
        let folder = Path::new("/usr/share/doc").join(name);
        tree.compressed(&folder.join("changelog"), self.changelog.as_bytes())?;
        tree.write(&folder.join("copyright"), self.copyright.as_bytes(), 0o644)?;
        let overrides = self.packaging.join(format!("{name}.lintian-overrides"));
        if overrides.exists() {
            let to = Path::new("/usr/share/lintian/overrides").join(name);
            tree.write(&to, &fs::read(overrides)?, 0o644)?;
        }
        self.control(package, &tree, &configuration)?;
        tree.close()?;
        let archive = out.join(format!(
            "{name}_{}_{}.deb",
            self.release.version,
            self.architecture(&tree)?
        ));
        // Several threads would cut the stream into blocks, by the number of processors.
        shell::run(
            Command::new("dpkg-deb")
                .env("SOURCE_DATE_EPOCH", self.release.epoch.to_string())
                .args(["--root-owner-group", "-Zxz", "--threads-max=1"])
                .arg(match self.effort {
                    Effort::Best => "-z9",
                    Effort::Least => "-z0",
                })
                .arg("--build")
                .arg(&tree.root)
                .arg(archive),
        )
    }

    /// The folder `DEBIAN`.
    fn control(&self, package: Package, tree: &Tree, configuration: &[PathBuf]) -> Result<()> {
        let name = package.name();
        let files = tree.files()?;
        let sums = shell::output(
            Command::new("md5sum")
                .current_dir(&tree.root)
                .args(files.iter().filter_map(|file| file.strip_prefix("/").ok())),
        )?;
        self.needs(&files, tree)?;
        let fields = self.fields(name, tree)?;
        let folder = Path::new("/DEBIAN");
        tree.write(&folder.join("control"), fields.as_bytes(), 0o644)?;
        tree.write(&folder.join("md5sums"), sums.as_bytes(), 0o644)?;
        if !configuration.is_empty() {
            let mut list = String::new();
            for path in configuration {
                writeln!(list, "{}", path.display())?;
            }
            tree.write(&folder.join("conffiles"), list.as_bytes(), 0o644)?;
        }
        let templates = self.packaging.join(format!("{name}.templates"));
        if templates.exists() {
            tree.write(&folder.join("templates"), &fs::read(templates)?, 0o644)?;
        }
        for script in SCRIPTS {
            let source = self.packaging.join(format!("{name}.{script}"));
            if source.exists() {
                tree.write(&folder.join(script), &fs::read(source)?, 0o755)?;
            }
        }
        Ok(())
    }

    /// Writes which packages the programs of a tree need.
    fn needs(&self, files: &[PathBuf], tree: &Tree) -> Result<()> {
        let mut command = Command::new("dpkg-shlibdeps");
        command.current_dir(&self.folder).arg("-Tsubstvars");
        let mut programs = 0;
        for file in files {
            let path = crate::install::items::below(&tree.root, file);
            if fs::read(&path)?.starts_with(b"\x7fELF") {
                command.arg(format!("-e{}", path.display()));
                programs += 1;
            }
        }
        if programs == 0 {
            return fs::write(self.folder.join("substvars"), "").context("substvars");
        }
        shell::run(&mut command)
    }

    fn fields(&self, name: &str, tree: &Tree) -> Result<String> {
        shell::output(
            Command::new("dpkg-gencontrol")
                .current_dir(&self.folder)
                .arg(format!("-p{name}"))
                .args(["-Tsubstvars", "-ffiles.list", "-O"])
                .arg(format!("-P{}", tree.root.display())),
        )
    }

    fn architecture(&self, tree: &Tree) -> Result<String> {
        let control = tree.root.join("DEBIAN/control");
        let fields = fs::read_to_string(&control).with_context(|| control.display().to_string())?;
        let field = fields
            .lines()
            .find_map(|line| line.strip_prefix("Architecture: "));
        Ok(field.context("no architecture")?.to_owned())
    }
}

/// Who signs the changelog: the field of `control`.
fn maintainer(packaging: &Path) -> Result<String> {
    let control = fs::read_to_string(packaging.join("control")).context("control")?;
    let field = control
        .lines()
        .find_map(|line| line.strip_prefix("Maintainer: "));
    Ok(field.context("control names no maintainer")?.to_owned())
}

/// `copyright`, with the text of our own licence, which is not among those that every Debian system has.
fn copyright(contents: &Contents, packaging: &Path) -> Result<String> {
    let template = fs::read_to_string(packaging.join("copyright")).context("copyright")?;
    let licence = fs::read_to_string(contents.root.join("LICENSE-MIT")).context("LICENSE-MIT")?;
    let body = licence.split_once("\n\n").context("LICENSE-MIT")?.1;
    let body = body.split_once("\n\n").context("LICENSE-MIT")?.1;
    let mut text = String::new();
    for line in body.lines() {
        let line = if line.is_empty() { "." } else { line };
        writeln!(text, " {line}")?;
    }
    Ok(template.replace("@mit@\n", &text))
}
