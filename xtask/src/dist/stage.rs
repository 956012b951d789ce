//! Trees that are packed: files with their modes, nothing of the machine that made them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::install::items::{self, Item};
use crate::shell;

/// A folder that stands for the root of a file system.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: PathBuf,
}

impl Tree {
    pub(super) fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
        Ok(Self { root })
    }

    /// A file of the table: pages of the manual compressed, programs and libraries without symbols. Its path.
    pub(super) fn put(&self, item: &Item) -> Result<PathBuf> {
        let content = item.content()?;
        if item.to.starts_with("/usr/share/man") {
            return self.compressed(&item.to, &content);
        }
        let to = self.write(&item.to, &content, item.mode)?;
        if content.starts_with(b"\x7fELF") {
            // As debhelper does it. The list of crates stays: cargo-auditable marks its section as one to keep.
            let mut strip = Command::new("strip");
            strip.args(["--remove-section=.comment", "--remove-section=.note"]);
            if to.extension() == Some(OsStr::new("so")) {
                strip.arg("--strip-unneeded");
            }
            shell::output(strip.arg(&to))?;
        }
        Ok(item.to.clone())
    }

    /// A file, compressed as it is without the time and the name. Its path, with `.gz`.
    pub(super) fn compressed(&self, to: &Path, content: &[u8]) -> Result<PathBuf> {
        let file = self.write(to, content, 0o644)?;
        shell::output(
            Command::new("gzip")
                .args(["-9", "--no-name", "--force"])
                .arg(file),
        )?;
        let mut to = to.as_os_str().to_owned();
        to.push(".gz");
        Ok(to.into())
    }

    /// A file. Where it is on this machine.
    pub(super) fn write(&self, to: &Path, content: &[u8], mode: u32) -> Result<PathBuf> {
        let path = items::below(&self.root, to);
        let written = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        };
        written().with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// All files, as paths of the file system that the tree stands for, in order.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        self.walk(&self.root, &mut |path, folder| {
            if !folder {
                files.push(Path::new("/").join(path.strip_prefix(&self.root)?));
            }
            Ok(())
        })?;
        files.sort();
        Ok(files)
    }

    /// Modes of folders, whatever the umask was.
    pub(super) fn close(&self) -> Result<()> {
        self.walk(&self.root, &mut |path, folder| {
            if folder {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
            }
            Ok(())
        })
    }

    fn walk(&self, folder: &Path, seen: &mut dyn FnMut(&Path, bool) -> Result<()>) -> Result<()> {
        seen(folder, true)?;
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                self.walk(&path, seen)?;
            } else {
                seen(&path, false)?;
            }
        }
        Ok(())
    }
}
