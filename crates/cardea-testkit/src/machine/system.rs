//! An installed Debian with systemd, udev and AppArmor, and Cardea's packages, installed or to be installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::initramfs::Archive;
use super::kernel::Kernel;
use super::{Machine, tied};
use crate::process::run;
use crate::rig::bin_dir;

/// What it has beyond the base system: what our packages need, so that they are installed without a network, and what
/// they are tried with.
const PACKAGES: &str = "adduser,apparmor,bsdutils,cryptsetup-bin,dbus,e2fsprogs,kmod,libp11-kit0,opensc,openssh-client,\
    openssh-server,openssl,passwd,pcscd,pinentry-curses,polkitd,systemd,systemd-sysv,tpm-udev,udev";

/// Longest life of one boot; a machine that is busy with other tests may need half of it.
const LIMIT: Duration = Duration::from_secs(900);

/// Drivers of the root file system; all others are loaded by udev.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// Packages of ours that a system has whose first start is not the one that installs them.
const OURS: [&str; 3] = ["cardea", "cardea-daemon", "cardea-pkcs11"];

/// Makes mmdebstrap leave the kernel's package in the folder `kernel` of the system, with apt as it is set up for it.
const FETCH_KERNEL: &str = r#"
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
mkdir "$1/kernel" && cd "$1/kernel" && apt-get -q -o APT::Sandbox::User=root download \
    $(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-\)/\1/p')
"#;

/// Units that nobody misses and that emulation makes long: drivers that nothing here uses, terminals where nobody signs
/// in, jobs of an idle hour, what is kept for another start.
const MASKED: [&str; 19] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "serial-getty@ttyS0.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-rfkill.socket",
    "systemd-sysctl.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];

/// What shortens a start and leaves alone what is tested: udev is told of the devices that somebody waits for, and the
/// journal is in memory.
const SETTINGS: [(&str, &str); 2] = [
    (
        "etc/systemd/system/systemd-udev-trigger.service.d/few.conf",
        "[Service]\nExecStart=\nExecStart=-udevadm trigger --action=add --subsystem-match=acpi \
         --subsystem-match=block --subsystem-match=misc --subsystem-match=tpm --subsystem-match=tpmrm\n",
    ),
    (
        "etc/systemd/journald.conf.d/memory.conf",
        "[Journal]\nStorage=volatile\nRateLimitBurst=0\n",
    ),
];

/// Which release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debian {
    /// Bookworm.
    Twelve,
    /// Trixie.
    Thirteen,
}

impl Debian {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Twelve => 12,
            Self::Thirteen => 13,
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::Twelve => "bookworm",
            Self::Thirteen => "trixie",
        }
    }
}

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
    /// yet. Cardea is not installed.
    ///
    /// # Panics
    ///
    /// When anything that it takes is missing.
    #[must_use]
    pub fn new(debian: Debian, folder: &Path, cache: &Path) -> Self {
        let base = cache.join(format!("debian-{}", debian.number()));
        if !base.is_dir() {
            make(debian, &base, cache);
        }
        let system = Self {
            folder: folder.to_owned(),
            kernel: Kernel::unpacked(&base.join("linux")),
        };
        does(
            Command::new("cp")
                .args(["-a", "--"])
                .arg(base.join("tree"))
                .arg(system.tree()),
        );
        fs::create_dir(system.tree().join("trial")).expect("a folder");
        system.write("trial/trial.sh", include_str!("trial.sh"));
        system.write("trial/answer.sh", include_str!("answer.sh"));
        for (name, target, unit) in UNITS {
            system.enable(name, target, unit);
        }
        system
    }

    /// Installs the packages of this build, as they are on a system that is not running.
    ///
    /// # Panics
    ///
    /// When they cannot be installed.
    #[must_use]
    pub fn installed(self) -> Self {
        make_packages(&self.tree().join("packages"));
        let ours = OURS.map(|name| format!("/packages/{name}_*.deb"));
        does(
            tied("chroot")
                .arg(self.tree())
                .args(["sh", "-c"])
                .arg(format!("dpkg --install {}", ours.join(" ")))
                .env("DEBIAN_FRONTEND", "noninteractive"),
        );
        fs::remove_dir_all(self.tree().join("packages")).expect("the packages go");
        self
    }

    /// Where its files are.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
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
                .arg("1500M"),
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
            network: false,
        }
    }

    fn systemctl(&self, verb: &str, unit: &str) {
        let root = format!("--root={}", self.tree().display());
        does(Command::new("systemctl").args([&root, verb, unit]));
    }
}

/// Makes the Debian packages of this build in a folder.
///
/// # Panics
///
/// When they cannot be made.
pub fn make_packages(folder: &Path) {
    does(
        Command::new(bin_dir().join("xtask"))
            .args(["dist", "--trial", "--built"])
            .arg(bin_dir())
            .arg("--out")
            .arg(folder),
    );
}

/// The base: a system in `tree` with the modules of its kernel, which is in `linux`. In place when it is whole, so that
/// an interrupted one is not taken for a system.
fn make(debian: Debian, base: &Path, cache: &Path) {
    fs::create_dir_all(cache).expect("a cache");
    let work = tempfile::tempdir_in(cache).expect("a folder in the cache");
    let tree = work.path().join("tree");
    does(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--format=directory"])
            .arg("--aptopt=APT::Install-Recommends \"false\"")
            .arg(format!("--include={PACKAGES}"))
            .args(
                ["doc", "info", "locale", "man"]
                    .map(|folder| format!("--dpkgopt=path-exclude=/usr/share/{folder}/*")),
            )
            .arg(format!("--customize-hook={FETCH_KERNEL}"))
            .arg(debian.suite())
            .arg(&tree),
    );
    let download = tree.join("kernel");
    let kernel = Kernel::unpack(&download, &work.path().join("linux"));
    fs::remove_dir_all(download).expect("the kernel's package goes");
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
    shorten(&tree);
    if let Err(error) = fs::rename(work.path(), base) {
        // Another test was faster.
        assert!(base.is_dir(), "{}: {error}", base.display());
    }
    // It is where it belongs, or not needed; what is left of it is removed.
    drop(work);
}

/// Leaves out of its start what only takes time.
fn shorten(tree: &Path) {
    // Otherwise the first start would go through all files that something is computed from.
    for folder in ["etc", "var"] {
        fs::write(tree.join(folder).join(".updated"), "").expect("a mark");
    }
    // Profiles of programs that are not there, a hundred of them in Debian 13, which would all be compiled.
    for entry in fs::read_dir(tree.join("etc/apparmor.d")).expect("profiles") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            fs::remove_file(&path).expect("a profile goes");
        }
    }
    for (path, content) in SETTINGS {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("settings");
    }
    let root = format!("--root={}", tree.display());
    does(Command::new("systemctl").args([&root, "mask"]).args(MASKED));
    does(Command::new("systemctl").args([&root, "disable", "ssh"]));
}

fn does(command: &mut Command) {
    let outcome = run(command);
    assert!(outcome.success, "{command:?}\n{}", outcome.text);
}
