//! The files by which pcscd and p11-kit find the cards.

use std::fs;
use std::path::{Path, PathBuf};

use cardea_client::message::MARK;

use super::{Findings, below};
use crate::places::HANDLER;

/// Regenerates pcscd's entry.
pub(super) const REGENERATE: &str =
    "cardea reader-conf > /etc/reader.conf.d/cardea && systemctl restart pcscd";

/// pcscd's entry for the reader.
pub(super) fn reader(socket: &Path, root: &Path, slots: Option<u8>, findings: &mut Findings) {
    let folder = below(root, "/etc/reader.conf.d");
    let entry = entries(&folder).into_iter().find_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        text.contains("libifdcardea").then_some(text)
    });
    let Some(entry) = entry else {
        findings.fault(
            "reader-missing",
            "pcscd has no entry for the reader",
            Some(REGENERATE),
        );
        return;
    };
    let value = |key: &str| {
        let line = entry.lines().find_map(|line| line.trim().strip_prefix(key));
        line.map(|value| value.trim().trim_matches('"').to_owned())
    };
    let library = value("LIBPATH").unwrap_or_default();
    if !below(root, &library).exists() {
        // Renewed, the entry names the place where the handler is installed.
        let mends = below(root, HANDLER).exists();
        findings.fault(
            "reader-library",
            format!("pcscd's entry names {library}, which does not exist: reinstall the handler"),
            mends.then_some(REGENERATE),
        );
        return;
    }
    if let Some(other) = other_version(&below(root, &library)) {
        findings.fault(
            "reader-version",
            format!("pcscd's handler {library} has another version ({other}): reinstall it, then restart pcscd"),
            None,
        );
    }
    let device = value("DEVICENAME").unwrap_or_default();
    let device = device.strip_prefix("cardea:").unwrap_or(&device);
    let (path, count) = device.rsplit_once(':').unwrap_or((device, ""));
    if !path.is_empty() && Path::new(path) != socket {
        findings.fault(
            "reader-socket",
            format!(
                "pcscd's entry points to {path}, but the daemon's socket is {}",
                socket.display()
            ),
            Some(REGENERATE),
        );
    } else if slots.is_some_and(|slots| !count.is_empty() && count != slots.to_string()) {
        findings.advice(
            "reader-slots",
            format!("pcscd's entry has {count} slots, but the daemon has another number"),
            REGENERATE,
        );
    } else {
        findings.fine("reader", "pcscd has its entry for the reader");
    }
    if !below(root, "/run/pcscd/pcscd.comm").exists() {
        findings.fault(
            "pcscd-down",
            "pcscd is not running",
            Some("systemctl enable --now pcscd.socket"),
        );
    }
}

/// p11-kit's files of modules.
pub(super) fn module(root: &Path, findings: &mut Findings) {
    let folders = ["/usr/share/p11-kit/modules", "/etc/pkcs11/modules"];
    let files: Vec<(PathBuf, String)> = folders
        .iter()
        .flat_map(|folder| entries(&below(root, folder)))
        .filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)))
        .collect();
    let named = |word: &str| {
        let of: Vec<&(PathBuf, String)> = files
            .iter()
            .filter(|(path, _)| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(word)
            })
            .collect();
        of
    };
    let value = |files: &[&(PathBuf, String)], key: &str| {
        let mut lines = files.iter().flat_map(|(_, text)| text.lines());
        lines.find_map(|line| Some(line.trim().strip_prefix(key)?.trim().to_owned()))
    };
    let ours = named("cardea");
    let Some(path) = value(&ours, "module:") else {
        findings.fault(
            "module-missing",
            "p11-kit has no file for the PKCS#11 module: reinstall the module",
            None,
        );
        return;
    };
    if path.starts_with('/') && !below(root, &path).exists() {
        findings.fault(
            "module-path",
            format!("p11-kit's file names {path}, which does not exist: reinstall the module"),
            None,
        );
        return;
    }
    if path.starts_with('/')
        && let Some(other) = other_version(&below(root, &path))
    {
        findings.fault(
            "module-version",
            format!("the PKCS#11 module {path} has another version ({other}): reinstall it"),
            None,
        );
        return;
    }
    findings.fine("module", "p11-kit has the PKCS#11 module");
    registered_twice(root, &files, findings);
    let opensc = named("opensc");
    let limited = |files: &[&(PathBuf, String)]| {
        value(files, "enable-in:")
            .or_else(|| value(files, "disable-in:"))
            .is_some()
    };
    let opensc_conf =
        fs::read_to_string(below(root, "/etc/opensc/opensc.conf")).unwrap_or_default();
    let ignored = opensc_conf
        .lines()
        .any(|line| line.trim_start().starts_with("ignored_readers") && line.contains("Cardea"));
    if !opensc.is_empty() && !ignored && !limited(&ours) && !limited(&opensc) {
        findings.advice(
            "module-twice",
            "OpenSC's module is installed too: a program that loads both shows RSA keys twice",
            IGNORE,
        );
    }
}

/// Another file for our own module: programs show every card twice. A file of the same name in `/etc` stands for the
/// one in `/usr/share` (pkcs11.conf(5)).
fn registered_twice(root: &Path, files: &[(PathBuf, String)], findings: &mut Findings) {
    let is_ours = |text: &str| {
        let mut lines = text.lines();
        let module = lines.find_map(|line| line.trim().strip_prefix("module:"));
        module.is_some_and(|module| module.trim().ends_with("libcardea_pkcs11.so"))
    };
    let other = files.iter().find(|(path, text)| {
        let name = path.file_name().unwrap_or_default();
        name != "cardea.module"
            && path.extension().is_some_and(|end| end == "module")
            && is_ours(text)
    });
    let has_usual = files
        .iter()
        .any(|(path, _)| path.file_name().is_some_and(|name| name == "cardea.module"));
    if let Some((path, _)) = other.filter(|_| has_usual) {
        let path = Path::new("/").join(path.strip_prefix(root).unwrap_or(path));
        let path = path.display();
        findings.advice(
            "module-registered-twice",
            format!("{path} names Cardea's module too: programs show every card twice"),
            &format!("mv {path} {path}.disabled"),
        );
    }
}

/// Makes OpenSC's module ignore our reader.
const IGNORE: &str = "printf 'app %s {\\n    ignored_readers = \"Cardea Virtual Smart Card\";\\n}\\n' opensc-pkcs11 onepin-opensc-pkcs11 >> /etc/opensc/opensc.conf";

/// The version of the protocol in a library, if it is not ours. The library is not loaded for that.
fn other_version(library: &Path) -> Option<String> {
    let content = fs::read(library).unwrap_or_default();
    let (name, _) = MARK.split_once('=').unwrap_or((MARK, ""));
    let prefix = format!("{name}=");
    let mut marks = content
        .windows(MARK.len())
        .filter(|part| part.starts_with(prefix.as_bytes()));
    match marks.next() {
        Some(mark) if mark == MARK.as_bytes() => None,
        Some(mark) => Some(String::from_utf8_lossy(mark).into_owned()),
        None => Some("unknown".into()),
    }
}

/// The files of a folder in order of their names, without hidden ones, which pcscd and p11-kit pass over.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}
