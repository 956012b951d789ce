//! What is installed, and where.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};

use super::manual;

/// The handler, in pcscd's folder for those that its configuration names. Below the folder of `pcsc`.
const HANDLER: &str = "pcsc/drivers/serial/libifdcardea.so";
/// Where Debian keeps the libraries of this machine. Relative to the prefix, as what follows.
pub(crate) const LIBRARIES: &str = if cfg!(target_arch = "x86_64") {
    "lib/x86_64-linux-gnu"
} else if cfg!(target_arch = "aarch64") {
    "lib/aarch64-linux-gnu"
} else {
    "lib"
};
/// The PKCS#11 module, in p11-kit's folder for modules. Below the libraries, as the next.
pub(super) const MODULE: &str = "pkcs11/libcardea_pkcs11.so";
/// Tells the module's path to who builds or configures programs.
pub(super) const PKG_CONFIG: &str = "pkgconfig/cardea-pkcs11.pc";
/// p11-kit's file of the module.
pub(super) const MODULE_FILE: &str = "share/p11-kit/modules/cardea.module";
pub(super) const SERVICE: &str = "lib/systemd/system/cardea.service";
/// Started in sessions with a screen.
pub(super) const AGENT_SERVICE: &str = "lib/systemd/user/cardea-agent.service";
pub(super) const SYSUSERS: &str = "lib/sysusers.d/cardea.conf";
/// Opens the port for other machines; enabled by administrators alone.
pub(super) const REMOTE_SOCKET: &str = "lib/systemd/system/cardea-tpmvsc.socket";
pub(super) const REMOTE_SERVICE: &str = "lib/systemd/system/cardea-tpmvsc.service";
pub(super) const REMOTE_SYSUSERS: &str = "lib/sysusers.d/cardea-tpmvsc.conf";
pub(super) const REMOTE_TMPFILES: &str = "lib/tmpfiles.d/cardea-tpmvsc.conf";
/// Who may own the service's name on the bus, who may call it.
pub(super) const BUS_POLICY: &str = "share/dbus-1/system.d/org.cardea.VirtualSmartCard1.conf";
/// How the bus starts the daemon.
pub(super) const BUS_SERVICE: &str =
    "share/dbus-1/system-services/org.cardea.VirtualSmartCard1.service";
/// polkit's actions.
pub(super) const ACTIONS: &str = "share/polkit-1/actions/org.cardea.virtualsmartcard.policy";
pub(super) const TMPFILES: &str = "lib/tmpfiles.d/cardea.conf";
/// What programs for the bus are generated from.
const BUS_INTERFACES: &str = "share/dbus-1/interfaces/org.cardea.VirtualSmartCard1.xml";

/// p11-kit's file of a module that is not below `/usr`.
pub(super) const LOCAL_MODULE_FILE: &str = "/etc/pkcs11/modules/cardea.module";

/// The daemon's configuration.
pub(super) const CONFIGURATION: &str = "/etc/cardea/cardea.toml";

/// Configuration of the service for other machines.
pub(super) const REMOTE_CONFIGURATION: &str = "/etc/cardea/tpmvsc.toml";

/// Its accounts and keys, in a folder that no package has: it is made by systemd-tmpfiles.
pub(super) const REMOTE_SECRETS: &str = "/etc/cardea/tpmvsc";

/// Profiles for AppArmor.
const PROFILE: &str = "/etc/apparmor.d/usr.sbin.cardea-daemon";
const REMOTE_PROFILE: &str = "/etc/apparmor.d/usr.sbin.cardea-tpmvsc";

/// pcscd's entry for the reader.
pub(super) const READER: &str = "/etc/reader.conf.d/cardea";

/// Where a changed entry is kept after a removal: pcscd does not start while an entry names a library that is gone, and
/// passes over hidden files.
pub(super) const HIDDEN_READER: &str = "/etc/reader.conf.d/.cardea";

/// An absolute path that programs and libraries are put below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix(PathBuf);

/// Where a kind of system has its folders.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(super) prefix: Prefix,
    /// Folder of the libraries, below the prefix.
    libraries: &'static str,
    /// The folder that `pcsc` is in, below the prefix.
    drivers: &'static str,
    /// Whether a package has the files: p11-kit's file is then the same on all architectures, as packages of several
    /// are installed at once.
    packaged: bool,
    /// Whether profiles for AppArmor are part of it.
    apparmor: bool,
}

impl Layout {
    /// Without a package, below a prefix.
    pub(crate) fn local(prefix: Prefix) -> Self {
        Self {
            prefix,
            libraries: LIBRARIES,
            drivers: "lib",
            packaged: false,
            apparmor: false,
        }
    }

    /// Of a Debian package.
    pub(crate) fn debian() -> Self {
        Self {
            packaged: true,
            apparmor: true,
            ..Self::local(Prefix(PathBuf::from("/usr")))
        }
    }

    /// Of an RPM.
    pub(crate) fn rpm() -> Self {
        Self {
            libraries: "lib64",
            drivers: "lib64",
            apparmor: false,
            ..Self::debian()
        }
    }

    /// pcscd's handler.
    pub(crate) fn handler(&self) -> PathBuf {
        self.prefix.join(self.drivers).join(HANDLER)
    }

    /// The PKCS#11 module.
    pub(crate) fn module(&self) -> PathBuf {
        self.prefix.join(self.libraries).join(MODULE)
    }

    /// What p11-kit is told: in its own folder of modules, a name is enough.
    fn named_module(&self) -> String {
        let module = self.module();
        let name = module.file_name().filter(|_| self.packaged);
        let name = name.map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| module.display().to_string())
    }
}

/// One of the packages that the files are divided into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Package {
    Agent,
    Cli,
    Daemon,
    Doc,
    Ifd,
    Pkcs11,
    Tpmvsc,
}

impl Package {
    pub(crate) const ALL: [Self; 7] = [
        Self::Agent,
        Self::Cli,
        Self::Daemon,
        Self::Doc,
        Self::Ifd,
        Self::Pkcs11,
        Self::Tpmvsc,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agent => "cardea-agent",
            Self::Cli => "cardea",
            Self::Daemon => "cardea-daemon",
            Self::Doc => "cardea-doc",
            Self::Ifd => "cardea-ifd",
            Self::Pkcs11 => "cardea-pkcs11",
            Self::Tpmvsc => "cardea-tpmvsc",
        }
    }
}

impl Prefix {
    pub(super) fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

impl FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = Path::new(text);
        let plain = !text.contains(char::is_whitespace) && !text.contains("..");
        if path.is_absolute() && plain {
            Ok(Self(path.to_owned()))
        } else {
            Err("the prefix must be an absolute path without spaces")
        }
    }
}

/// A file and its place.
#[derive(Debug)]
pub(crate) struct Item {
    source: Source,
    /// Without the destination folder.
    pub(crate) to: PathBuf,
    pub(crate) mode: u32,
    pub(crate) kind: Kind,
    pub(crate) package: Package,
}

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The administrator's: what was changed is kept.
    Configuration,
    /// Ours: replaced and removed.
    Program,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    /// A file with places for the folder of libraries, for the module, and for our version.
    Template(PathBuf, Layout),
    Text(String),
    /// The page of the manual about this configuration file.
    ConfigurationPage(manual::Page, PathBuf),
    /// A unit, whose programs are below the prefix.
    Unit(PathBuf, Prefix),
}

impl Item {
    /// The bytes of the installed file.
    pub(crate) fn content(&self) -> Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        match &self.source {
            Source::File(path) => read(path),
            Source::Template(path, layout) => {
                let text = String::from_utf8(read(path)?).context("a template is not UTF-8")?;
                let libraries = layout.prefix.join(layout.libraries).display().to_string();
                let module = format!("module: {}", layout.named_module());
                Ok(text
                    .replace(MODULE_LINE, &module)
                    .replace("@libraries@", &libraries)
                    .replace("@version@", env!("CARGO_PKG_VERSION"))
                    .into_bytes())
            }
            Source::Text(text) => Ok(text.clone().into_bytes()),
            Source::ConfigurationPage(page, path) => {
                let text = String::from_utf8(read(path)?).context("not UTF-8")?;
                Ok(manual::configuration(*page, &text)?.into_bytes())
            }
            Source::Unit(path, prefix) => {
                let text = String::from_utf8(read(path)?).context("a unit is not UTF-8")?;
                let programs = format!("={}/", prefix.0.display());
                Ok(text.replace("=/usr/", &programs).into_bytes())
            }
        }
    }
}

/// What the command itself writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    /// pcscd's entry.
    pub(crate) reader: String,
    /// Completions, in the order of [`COMPLETIONS`].
    pub(crate) completions: [String; 3],
    /// Pages of the manual: name and content.
    pub(crate) manual: Vec<(String, String)>,
}

/// Line of p11-kit's file that names the module.
const MODULE_LINE: &str = "module: @libraries@/pkcs11/libcardea_pkcs11.so";

/// Folder of the manual's pages of commands.
pub(super) const MANUAL: &str = "share/man/man1";

/// Shells and where they look for completions.
pub(super) const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/cardea"),
    ("fish", "share/fish/vendor_completions.d/cardea.fish"),
    ("zsh", "share/zsh/vendor-completions/_cardea"),
];

/// Everything that is installed.
pub(crate) fn items(root: &Path, programs: &Path, layout: &Layout, texts: Texts) -> Vec<Item> {
    let sources = Sources {
        packaging: root.join("packaging"),
        programs,
        layout,
    };
    let mut items = sources.programs();
    items.extend(sources.module());
    items.extend(sources.service());
    items.extend(sources.remote_cards());
    items.extend(sources.manual(texts.manual));
    items.push(sources.configuration(Package::Ifd, Source::Text(texts.reader), READER));
    let scripts = COMPLETIONS.iter().zip(texts.completions);
    items.extend(scripts.map(|((_, to), script)| {
        sources.file(Package::Cli, Source::Text(script), layout.prefix.join(to))
    }));
    items
}

/// Where the files come from, and the table in groups.
struct Sources<'a> {
    packaging: PathBuf,
    programs: &'a Path,
    layout: &'a Layout,
}

impl Sources<'_> {
    fn programs(&self) -> Vec<Item> {
        let program = |package, name: &str, folder: &str| {
            let to = self.layout.prefix.join(folder).join(name);
            Item {
                mode: 0o755,
                ..self.built(package, name, to)
            }
        };
        vec![
            program(Package::Cli, "cardea", "bin"),
            program(Package::Cli, "tpmvscmgr", "bin"),
            program(Package::Agent, "cardea-agent", "bin"),
            program(Package::Daemon, "cardea-daemon", "sbin"),
            program(Package::Tpmvsc, "cardea-tpmvsc", "sbin"),
            self.built(Package::Ifd, "libifdcardea.so", self.layout.handler()),
            self.built(Package::Pkcs11, "libcardea_pkcs11.so", self.layout.module()),
            self.unit(Package::Agent, "cardea-agent.service", AGENT_SERVICE),
        ]
    }

    /// What tells programs the module.
    fn module(&self) -> [Item; 2] {
        let template =
            |name: &str| Source::Template(self.packaging.join(name), self.layout.clone());
        let prefix = &self.layout.prefix;
        let file = template("cardea.module");
        [
            self.file(
                Package::Pkcs11,
                template("cardea-pkcs11.pc"),
                prefix.join(self.layout.libraries).join(PKG_CONFIG),
            ),
            // p11-kit reads the files of packages below /usr alone.
            if prefix.0 == Path::new("/usr") {
                self.file(Package::Pkcs11, file, prefix.join(MODULE_FILE))
            } else {
                self.configuration(Package::Pkcs11, file, LOCAL_MODULE_FILE)
            },
        ]
    }

    /// What systemd, the bus, polkit and AppArmor read of the daemon, and its configuration.
    fn service(&self) -> Vec<Item> {
        let shipped = |name: &str, to: &str| self.shipped(Package::Daemon, name, to);
        let configuration = |name: &str, to: &str| {
            let source = Source::File(self.packaging.join(name));
            self.configuration(Package::Daemon, source, to)
        };
        let mut items = vec![
            shipped("cardea.sysusers", SYSUSERS),
            shipped("cardea.tmpfiles", TMPFILES),
            self.unit(Package::Daemon, "cardea.service", SERVICE),
            shipped("org.cardea.VirtualSmartCard1.conf", BUS_POLICY),
            self.unit(
                Package::Daemon,
                "org.cardea.VirtualSmartCard1.service",
                BUS_SERVICE,
            ),
            shipped("org.cardea.VirtualSmartCard1.xml", BUS_INTERFACES),
            shipped("org.cardea.virtualsmartcard.policy", ACTIONS),
            configuration("cardea.toml", CONFIGURATION),
        ];
        if self.layout.apparmor {
            items.push(configuration("apparmor/usr.sbin.cardea-daemon", PROFILE));
            items.push(shipped(
                "apparmor/cardea.service.conf",
                "lib/systemd/system/cardea.service.d/apparmor.conf",
            ));
        }
        items
    }

    /// What systemd and AppArmor read of the service for other machines, and its configuration.
    fn remote_cards(&self) -> Vec<Item> {
        let package = Package::Tpmvsc;
        let configuration = |name: &str, to: &str| {
            let source = Source::File(self.packaging.join(name));
            self.configuration(package, source, to)
        };
        let mut items = vec![
            self.shipped(package, "cardea-tpmvsc.sysusers", REMOTE_SYSUSERS),
            self.shipped(package, "cardea-tpmvsc.tmpfiles", REMOTE_TMPFILES),
            self.unit(package, "cardea-tpmvsc.service", REMOTE_SERVICE),
            self.unit(package, "cardea-tpmvsc.socket", REMOTE_SOCKET),
            configuration("tpmvsc.toml", REMOTE_CONFIGURATION),
        ];
        if self.layout.apparmor {
            items.push(configuration(
                "apparmor/usr.sbin.cardea-tpmvsc",
                REMOTE_PROFILE,
            ));
            items.push(self.shipped(
                package,
                "apparmor/cardea-tpmvsc.service.conf",
                "lib/systemd/system/cardea-tpmvsc.service.d/apparmor.conf",
            ));
        }
        items
    }

    /// Pages of the manual, with those that the command writes.
    fn manual(&self, pages: Vec<(String, String)>) -> Vec<Item> {
        let prefix = &self.layout.prefix;
        let mut items = vec![
            self.shipped(
                Package::Daemon,
                "man/cardea-daemon.8",
                "share/man/man8/cardea-daemon.8",
            ),
            self.file(
                Package::Daemon,
                Source::ConfigurationPage(manual::Page::Daemon, self.packaging.join("cardea.toml")),
                prefix.join("share/man/man5/cardea.toml.5"),
            ),
            self.shipped(
                Package::Tpmvsc,
                "man/cardea-tpmvsc.8",
                "share/man/man8/cardea-tpmvsc.8",
            ),
            self.file(
                Package::Tpmvsc,
                Source::ConfigurationPage(
                    manual::Page::RemoteCards,
                    self.packaging.join("tpmvsc.toml"),
                ),
                prefix.join("share/man/man5/tpmvsc.toml.5"),
            ),
            self.shipped(
                Package::Agent,
                "man/cardea-agent.1",
                "share/man/man1/cardea-agent.1",
            ),
        ];
        items.extend(pages.into_iter().map(|(name, page)| {
            let to = prefix.join(MANUAL).join(name);
            self.file(Package::Cli, Source::Text(page), to)
        }));
        items
    }

    fn file(&self, package: Package, source: Source, to: PathBuf) -> Item {
        Item {
            source,
            to,
            mode: 0o644,
            kind: Kind::Program,
            package,
        }
    }

    fn built(&self, package: Package, name: &str, to: PathBuf) -> Item {
        self.file(package, Source::File(self.programs.join(name)), to)
    }

    fn shipped(&self, package: Package, name: &str, to: &str) -> Item {
        let source = Source::File(self.packaging.join(name));
        self.file(package, source, self.layout.prefix.join(to))
    }

    fn unit(&self, package: Package, name: &str, to: &str) -> Item {
        let prefix = &self.layout.prefix;
        let source = Source::Unit(self.packaging.join(name), prefix.clone());
        self.file(package, source, prefix.join(to))
    }

    fn configuration(&self, package: Package, source: Source, to: &str) -> Item {
        Item {
            kind: Kind::Configuration,
            ..self.file(package, source, PathBuf::from(to))
        }
    }
}

/// An absolute path below another root.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_is_an_absolute_path() {
        assert!("/usr/local".parse::<Prefix>().is_ok());
        for bad in ["", "usr", "/usr/../etc", "/my usr"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_go_below_the_destination() {
        assert_eq!(
            below(Path::new("/tmp/d"), Path::new("/etc/x")),
            Path::new("/tmp/d/etc/x")
        );
        assert_eq!(
            below(Path::new("/"), Path::new("/etc/x")),
            Path::new("/etc/x")
        );
    }
}
