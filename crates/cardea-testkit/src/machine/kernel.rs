//! Debian's kernel for virtual machines, taken out of its package without installing it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Outcome, run};

use super::read_file;

/// The package that depends on the present kernel.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// Names a folder with an unpacked kernel package, of another release for instance.
const OF_RUN: &str = "CARDEA_KERNEL";

/// An unpacked kernel package.
pub(super) struct Kernel {
    folder: PathBuf,
}

impl Kernel {
    /// The one that a run names, or that in `cache`, which is filled from Debian's archive when it is empty.
    pub(super) fn cached(cache: &Path) -> Self {
        if let Some(folder) = std::env::var_os(OF_RUN) {
            return Self::unpacked(Path::new(&folder));
        }
        let folder = cache.join("linux");
        if !folder.is_dir() {
            fetch(cache, &folder);
        }
        Self { folder }
    }

    /// The one whose packages a folder has, unpacked there now.
    pub(super) fn unpack(packages: &Path, folder: &Path) -> Self {
        unpack(packages, folder);
        Self::unpacked(folder)
    }

    /// The one that was unpacked in a folder.
    pub(super) fn unpacked(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// What a boot loader loads.
    pub(super) fn image(&self) -> PathBuf {
        let files = std::fs::read_dir(self.folder.join("boot")).expect("a kernel package");
        files
            .map(|file| file.expect("a file").path())
            .find(|path| path.to_string_lossy().contains("/vmlinuz-"))
            .expect("a kernel in its package")
    }

    /// Folder with all modules of one version of the kernel, whose name it has.
    pub(super) fn all_modules(&self) -> PathBuf {
        let mut versions = std::fs::read_dir(self.modules_folder()).expect("modules");
        let version = versions.next().expect("a version of the kernel");
        version.expect("a folder").path()
    }

    /// These modules and those they need, each after what it needs; without those that are part of the
    /// kernel itself.
    pub(super) fn modules(&self, wanted: &[&str]) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        walk(&self.modules_folder(), &mut files);
        let mut modules = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            collect(name, &files, &mut seen, &mut modules);
        }
        modules
    }

    /// Later releases of Debian have it below `usr`.
    fn modules_folder(&self) -> PathBuf {
        let later = self.folder.join("usr/lib/modules");
        if later.is_dir() {
            later
        } else {
            self.folder.join("lib/modules")
        }
    }
}

fn collect(
    name: &str,
    files: &[PathBuf],
    seen: &mut BTreeSet<String>,
    modules: &mut Vec<(String, Vec<u8>)>,
) {
    if !seen.insert(name.to_owned()) {
        return;
    }
    let Some(file) = files.iter().find(|file| module_name(file) == name) else {
        let builtin = files
            .iter()
            .filter(|file| file.ends_with("modules.builtin"))
            .any(|list| {
                let list = String::from_utf8(read_file(list)).expect("a text file");
                list.lines().any(|line| module_name(line.as_ref()) == name)
            });
        assert!(builtin, "the kernel has no module {name}");
        return;
    };
    let content = content(file);
    for needed in dependencies(&content) {
        collect(&needed, files, seen, modules);
    }
    modules.push((name.to_owned(), content));
}

/// Dashes in file names are underscores in the names of modules.
fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".xz").unwrap_or(&name);
    match stem.strip_suffix(".ko") {
        Some(stem) => stem.replace('-', "_"),
        None => String::new(),
    }
}

/// A module as the kernel loads it; later releases of Debian compress them.
fn content(file: &Path) -> Vec<u8> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return read_file(file);
    }
    let output = Command::new("xz").arg("-dc").arg(file).output();
    output.expect("xz runs").stdout
}

/// What the module says of itself in its section `.modinfo`: `depends=one,two`.
fn dependencies(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let at = module.windows(FIELD.len()).position(|bytes| bytes == FIELD);
    let list = at.and_then(|at| module.get(at + FIELD.len()..));
    let list = list.and_then(|rest| rest.split(|byte| *byte == 0).next());
    String::from_utf8_lossy(list.unwrap_or_default())
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of modules") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn fetch(cache: &Path, folder: &Path) {
    std::fs::create_dir_all(cache).expect("a cache");
    // Renamed when it is whole, so that an interrupted download is not taken for a kernel.
    let work = tempfile::tempdir_in(cache).expect("a folder in the cache");
    if !download(work.path()).success {
        // The lists of packages may be older than what the archive still has.
        let updated = run(Command::new("apt-get").args(["update", "-q"]));
        assert!(updated.success, "{}", updated.text);
        let outcome = download(work.path());
        assert!(outcome.success, "no kernel: {}", outcome.text);
    }
    let tree = work.path().join("tree");
    unpack(work.path(), &tree);
    if let Err(error) = std::fs::rename(&tree, folder) {
        // Another test was faster.
        assert!(folder.is_dir(), "{}: {error}", folder.display());
    }
}

/// Unpacks the kernel's package, which is the only one in a folder.
fn unpack(packages: &Path, tree: &Path) {
    let package = std::fs::read_dir(packages)
        .expect("the download's folder")
        .map(|file| file.expect("a file").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .expect("the package");
    let unpacked = run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(&package)
        .arg(tree));
    assert!(unpacked.success, "{}", unpacked.text);
}

fn download(into: &Path) -> Outcome {
    let depends = run(Command::new("apt-cache").args(["depends", PACKAGE]));
    let Some(package) = kernel_package(&depends.text) else {
        return Outcome {
            success: false,
            code: None,
            text: format!("{PACKAGE} is not known: {}", depends.text),
        };
    };
    // The download's own user may not write to the cache.
    run(Command::new("apt-get")
        .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
        .current_dir(into))
}

/// The package in what `apt-cache depends` prints: `  Depends: linux-image-…`.
fn kernel_package(depends: &str) -> Option<&str> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_is_the_first_dependency_that_is_an_image() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-1-cloud-amd64\n";
        assert_eq!(
            kernel_package(depends),
            Some("linux-image-6.1.0-1-cloud-amd64")
        );
        assert_eq!(kernel_package("E: No packages found\n"), None);
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("lib/modules/6.1/kernel");
        std::fs::create_dir_all(&modules).unwrap();
        for (file, depends) in [
            ("top-one.ko", "middle,bottom"),
            ("middle.ko", "bottom"),
            ("bottom.ko", ""),
            ("other.ko", ""),
        ] {
            let content = format!("ELF\0depends={depends}\0name=x\0");
            std::fs::write(modules.join(file), content).unwrap();
        }
        let list = modules.parent().unwrap().join("modules.builtin");
        std::fs::write(list, "kernel/fs/inside.ko\n").unwrap();
        let kernel = Kernel {
            folder: folder.path().to_owned(),
        };
        let names: Vec<String> = kernel
            .modules(&["inside", "top_one", "bottom"])
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["bottom", "middle", "top_one"]);
    }
}
