//! What is installed, and where.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};

/// pcscd's folder for handlers that its configuration names. Relative to the prefix, as what follows.
pub(super) const HANDLER: &str = "lib/pcsc/drivers/serial/libifdcardea.so";
/// Where Debian keeps the libraries of this machine.
pub(super) const LIBRARIES: &str = if cfg!(target_arch = "x86_64") {
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
/// Who may own the service's name on the bus, who may call it.
pub(super) const BUS_POLICY: &str = "share/dbus-1/system.d/org.cardea.VirtualSmartCard1.conf";
/// How the bus starts the daemon.
pub(super) const BUS_SERVICE: &str =
    "share/dbus-1/system-services/org.cardea.VirtualSmartCard1.service";
/// polkit's actions.
pub(super) const ACTIONS: &str = "share/polkit-1/actions/org.cardea.virtualsmartcard.policy";
pub(super) const TMPFILES: &str = "lib/tmpfiles.d/cardea.conf";

/// p11-kit's file of a module that is not below `/usr`.
pub(super) const LOCAL_MODULE_FILE: &str = "/etc/pkcs11/modules/cardea.module";

/// The daemon's configuration.
pub(super) const CONFIGURATION: &str = "/etc/cardea/cardea.toml";

/// pcscd's entry for the reader.
pub(super) const READER: &str = "/etc/reader.conf.d/cardea";

/// An absolute path that programs and libraries are put below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix(PathBuf);

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
pub(super) struct Item {
    source: Source,
    /// Without the destination folder.
    pub(super) to: PathBuf,
    pub(super) mode: u32,
    pub(super) kind: Kind,
}

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The administrator's: what was changed is kept.
    Configuration,
    /// Ours: replaced and removed.
    Program,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    /// A file with places for the folder of libraries below the prefix, and for our version.
    Template(PathBuf, Prefix),
    Text(String),
    /// A unit, whose programs are below the prefix.
    Unit(PathBuf, Prefix),
}

impl Item {
    /// The bytes of the installed file.
    pub(super) fn content(&self) -> Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        match &self.source {
            Source::File(path) => read(path),
            Source::Template(path, prefix) => {
                let text = String::from_utf8(read(path)?).context("a template is not UTF-8")?;
                let libraries = prefix.join(LIBRARIES).display().to_string();
                Ok(text
                    .replace("@libraries@", &libraries)
                    .replace("@version@", env!("CARGO_PKG_VERSION"))
                    .into_bytes())
            }
            Source::Text(text) => Ok(text.clone().into_bytes()),
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
pub(super) struct Texts {
    /// pcscd's entry.
    pub(super) reader: String,
    /// Completions, in the order of [`COMPLETIONS`].
    pub(super) completions: [String; 3],
    /// Pages of the manual: name and content.
    pub(super) manual: Vec<(String, String)>,
}

/// Folder of the manual's pages.
pub(super) const MANUAL: &str = "share/man/man1";

/// Shells and where they look for completions.
pub(super) const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/cardea"),
    ("fish", "share/fish/vendor_completions.d/cardea.fish"),
    ("zsh", "share/zsh/vendor-completions/_cardea"),
];

/// Everything that is installed.
pub(super) fn items(root: &Path, programs: &Path, prefix: &Prefix, texts: Texts) -> Vec<Item> {
    let packaging = root.join("packaging");
    let program = |source: Source, to: &str, mode| Item {
        source,
        to: prefix.join(to),
        mode,
        kind: Kind::Program,
    };
    let configuration = |source: Source, to: &str| Item {
        source,
        to: PathBuf::from(to),
        mode: 0o644,
        kind: Kind::Configuration,
    };
    let built = |name: &str| Source::File(programs.join(name));
    let shipped = |name: &str| Source::File(packaging.join(name));
    let library = |path: &str| format!("{LIBRARIES}/{path}");
    let template = |name: &str| Source::Template(packaging.join(name), prefix.clone());
    let module_file = template("cardea.module");
    let mut items = vec![
        program(built("cardea"), "bin/cardea", 0o755),
        program(built("tpmvscmgr"), "bin/tpmvscmgr", 0o755),
        program(built("cardea-agent"), "bin/cardea-agent", 0o755),
        program(built("cardea-daemon"), "sbin/cardea-daemon", 0o755),
        program(built("libifdcardea.so"), HANDLER, 0o644),
        program(built("libcardea_pkcs11.so"), &library(MODULE), 0o644),
        program(template("cardea-pkcs11.pc"), &library(PKG_CONFIG), 0o644),
        // p11-kit reads the files of packages below /usr alone.
        if prefix.0 == Path::new("/usr") {
            program(module_file, MODULE_FILE, 0o644)
        } else {
            configuration(module_file, LOCAL_MODULE_FILE)
        },
        program(
            Source::Unit(packaging.join("cardea-agent.service"), prefix.clone()),
            AGENT_SERVICE,
            0o644,
        ),
        program(
            Source::Unit(packaging.join("cardea.service"), prefix.clone()),
            SERVICE,
            0o644,
        ),
        program(
            shipped("org.cardea.VirtualSmartCard1.conf"),
            BUS_POLICY,
            0o644,
        ),
        program(
            Source::Unit(
                packaging.join("org.cardea.VirtualSmartCard1.service"),
                prefix.clone(),
            ),
            BUS_SERVICE,
            0o644,
        ),
        program(
            shipped("org.cardea.virtualsmartcard.policy"),
            ACTIONS,
            0o644,
        ),
        program(shipped("cardea.sysusers"), SYSUSERS, 0o644),
        program(shipped("cardea.tmpfiles"), TMPFILES, 0o644),
        configuration(shipped("cardea.toml"), CONFIGURATION),
        configuration(Source::Text(texts.reader), READER),
    ];
    let scripts = COMPLETIONS.iter().zip(texts.completions);
    let pages = texts.manual.into_iter();
    items.extend(pages.map(|(name, page)| {
        let to = format!("{MANUAL}/{name}");
        program(Source::Text(page), &to, 0o644)
    }));
    items.extend(scripts.map(|((_, to), script)| program(Source::Text(script), to, 0o644)));
    items
}

/// An absolute path below another root.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
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
