//! An installed Debian with systemd, udev and Cardea as `cargo xtask install` installs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::initramfs::Archive;
use super::kernel::Kernel;
use super::{Machine, tied};
use crate::process::run;
use crate::rig::bin_dir;

/// What it has beyond the base system.
const PACKAGES: &str =
    "cryptsetup-bin,dbus,e2fsprogs,kmod,libp11-kit0,systemd,systemd-sysv,tpm-udev,udev";

/// Longest life of one boot; emulation on a busy machine takes a third of it.
const LIMIT: Duration = Duration::from_secs(300);

/// Drivers of the root file system; all others are loaded by udev.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// Programs with the symbols that only debuggers want.
const PROGRAMS: [&str; 4] = [
    "usr/bin/cardea",
    "usr/bin/cardea-agent",
    "usr/bin/tpmvscmgr",
    "usr/sbin/cardea-daemon",
];

/// Units of the scripts beside this file: when they start, and what they run.
const UNITS: [(&str, &str, &str); 2] = [
    (
        "answer",
        "sysinit.target",
        "[Unit]\nDefaultDependencies=no\nBefore=cryptsetup-pre.target shutdown.target\n\
         Conflicts=shutdown.target\n[Service]\nExecStart=/bin/sh /trial/answer.sh\n",
    ),
    (
        "trial",
        "multi-user.target",
        "[Unit]\nAfter=local-fs.target cardea.service systemd-logind.service getty.target\n\
         [Service]\nType=oneshot\nExecStart=/bin/sh /trial/trial.sh\nStandardError=file:/dev/ttyS0\n",
    ),
];

/// A system that can still be changed, before its machine is made.
pub struct System {
    folder: PathBuf,
    kernel: Kernel,
}

impl System {
    /// In `folder`, from a base system kept in `cache`, which is made from Debian's archive when it is not there
    /// yet. Cardea is the one of this build, and its service enabled.
    ///
    /// # Panics
    ///
    /// When anything that it takes is missing.
    #[must_use]
    pub fn new(folder: &Path, cache: &Path) -> Self {
        let kernel = Kernel::cached(cache);
        let base = cache.join("system");
        if !base.is_dir() {
            make(&base, cache, &kernel);
        }
        let system = Self {
            folder: folder.to_owned(),
            kernel,
        };
        does(
            Command::new("cp")
                .args(["-a", "--"])
                .arg(&base)
                .arg(system.tree()),
        );
        system.install();
        fs::create_dir(system.tree().join("trial")).expect("a folder");
        system.write("trial/trial.sh", include_str!("trial.sh"));
        system.write("trial/answer.sh", include_str!("answer.sh"));
        for (name, target, unit) in UNITS {
            system.enable(name, target, unit);
        }
        // Nobody signs in.
        system.systemctl("mask", "serial-getty@ttyS0");
        system
    }

    /// A file, by its path without a leading slash.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.tree().join(path);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// A unit that is part of the early boot.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn start_early(&self, name: &str, unit: &str) {
        self.enable(name, "sysinit.target", unit);
    }

    fn enable(&self, name: &str, target: &str, unit: &str) {
        let unit = format!("{unit}[Install]\nWantedBy={target}\n");
        self.write(&format!("etc/systemd/system/{name}.service"), &unit);
        self.systemctl("enable", name);
    }

    /// The machine with this system on its disk, a new TPM, and drives at `/dev/vdb` and so on. The argument of a
    /// boot names the script in `/trial` that it runs; one with the ending `.early` runs before systemd, one with
    /// `.pins` has the first PINs that are typed.
    ///
    /// # Panics
    ///
    /// When anything that it takes is missing.
    #[must_use]
    pub fn machine(self, drives: &[&Path]) -> Machine {
        let mut archive = Archive::default();
        archive.device("dev/console", (5, 1));
        for folder in ["proc", "sys", "root"] {
            archive.folder(folder);
        }
        archive.kernel_modules(&self.kernel, &MODULES);
        archive.file("init", include_bytes!("system.sh").into());
        let initramfs = self.folder.join("initramfs");
        fs::write(&initramfs, archive.finish()).expect("initramfs written");
        let disk = self.folder.join("disk");
        does(
            Command::new("/sbin/mke2fs")
                .args(["-q", "-t", "ext4", "-d"])
                .arg(self.tree())
                .arg(&disk)
                .arg("1000M"),
        );
        fs::remove_dir_all(self.tree()).expect("the tree goes");
        fs::create_dir_all(self.folder.join("tpm")).expect("a folder for the TPM");
        Machine {
            folder: self.folder,
            kernel: self.kernel,
            initramfs,
            disk,
            drives: drives.iter().map(|drive| (*drive).to_owned()).collect(),
            memory: 1024,
            limit: LIMIT,
        }
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn install(&self) {
        let tree = self.tree();
        does(
            Command::new(bin_dir().join("xtask"))
                .args(["install", "--built"])
                .arg(bin_dir())
                .arg("--destdir")
                .arg(&tree),
        );
        for program in PROGRAMS {
            does(Command::new("strip").arg(tree.join(program)));
        }
        does(Command::new("systemd-sysusers").arg(format!("--root={}", tree.display())));
        self.systemctl("enable", "cardea");
    }

    fn systemctl(&self, verb: &str, unit: &str) {
        let root = format!("--root={}", self.tree().display());
        does(Command::new("systemctl").args([&root, verb, unit]));
    }
}

/// The base system with the modules of the kernel. In place when it is whole, so that an interrupted one is not
/// taken for a system.
fn make(base: &Path, cache: &Path, kernel: &Kernel) {
    let work = tempfile::tempdir_in(cache).expect("a folder in the cache");
    let tree = work.path().join("tree");
    does(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--format=directory"])
            .arg(format!("--include={PACKAGES}"))
            .args(
                ["doc", "info", "locale", "man"]
                    .map(|folder| format!("--dpkgopt=path-exclude=/usr/share/{folder}/*")),
            )
            .arg("bookworm")
            .arg(&tree),
    );
    let modules = kernel.all_modules();
    let version = modules.file_name().expect("a version");
    fs::create_dir_all(tree.join("usr/lib/modules")).expect("a folder");
    does(
        Command::new("cp")
            .arg("-a")
            .arg(&modules)
            .arg(tree.join("usr/lib/modules")),
    );
    does(tied("chroot").arg(&tree).arg("depmod").arg(version));
    if let Err(error) = fs::rename(&tree, base) {
        // Another test was faster.
        assert!(base.is_dir(), "{}: {error}", base.display());
    }
}

fn does(command: &mut Command) {
    let outcome = run(command);
    assert!(outcome.success, "{command:?}\n{}", outcome.text);
}
