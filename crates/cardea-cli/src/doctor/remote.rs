//! The service that makes cards for other machines: whether it is on, who can reach it, and how its accounts are kept.
//!
//! All of it is read from files, as systemd and the service read them; what only root can look into is passed over for
//! others.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::pcscd::setting;
use super::{Findings, below};

const SOCKET: &str = "cardea-tpmvsc.socket";
const SERVICE: &str = "cardea-tpmvsc.service";

/// The daemon's, and its credential with the TPM's owner authorisation.
const DAEMON: &str = "cardea.service";
const OWNER_AUTH: &str = "owner-auth";

/// Where units and their drop-ins are, the most important folder first (systemd.unit(5)).
const UNITS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// How administrators enable the socket.
const WANTED: &str = "/etc/systemd/system/sockets.target.wants/cardea-tpmvsc.socket";

const CONFIGURATION: &str = "/etc/cardea/tpmvsc.toml";

/// The keys of a machine that is in a realm.
const MACHINE_KEYTAB: &str = "/etc/krb5.keytab";

/// What an account with the hash of a password begins with.
const NTLM: &str = "ntlm";

/// `owner_auth_set`: whether cards are made with the TPM's owner authorisation alone.
pub(super) fn look(root: &Path, owner_auth_set: bool, findings: &mut Findings) {
    let Some(socket) = Unit::read(root, SOCKET) else {
        return;
    };
    if below(root, WANTED).symlink_metadata().is_err() {
        findings.fine(
            "remote-cards",
            "the service that makes cards for other machines is installed and off",
        );
        return;
    }
    let addresses = socket.list("ListenStream");
    findings.fine(
        "remote-cards",
        format!(
            "administrators with an account can make and destroy cards from other machines through {}",
            shown(&addresses)
        ),
    );
    // A firewall cannot be asked in general.
    let is_limited = !socket.list("IPAddressDeny").is_empty();
    if addresses.iter().any(|address| is_everywhere(address)) && !is_limited {
        findings.warning(
            "remote-cards-reach",
            format!(
                "nothing but a firewall limits who reaches the service for other machines: limit it to the \
                 administrators' network with IPAddressDeny=any and IPAddressAllow= (`systemctl edit {SOCKET}`), or to \
                 one address with ListenStream="
            ),
        );
    }
    let daemon = Unit::read(root, DAEMON).unwrap_or_default();
    if owner_auth_set && daemon.credential(OWNER_AUTH).is_none() {
        findings.warning(
            "remote-cards-owner",
            format!(
                "no card can be made from other machines: that takes the TPM's owner authorisation, which the daemon \
                 needs as the credential `{OWNER_AUTH}` (`systemctl edit {DAEMON}`)"
            ),
        );
    }
    let service = Unit::read(root, SERVICE).unwrap_or_default();
    let configuration = fs::read_to_string(below(root, CONFIGURATION)).unwrap_or_default();
    let secret = |name: &str| setting(&configuration, name).or_else(|| service.credential(name));
    for name in ["accounts", "callback", "keytab"] {
        if let Some(path) = secret(name) {
            kept_private(root, &path, findings);
        }
    }
    match secret("accounts") {
        Some(path) => accounts(root, &path, secret("keytab").is_some(), findings),
        None => findings.fault(
            "remote-cards-accounts",
            format!("the service for other machines has no file of accounts: {SERVICE} has no credential `accounts`, and {CONFIGURATION} names none"),
            None,
        ),
    }
}

/// Who is let in, and by what.
fn accounts(root: &Path, path: &str, has_keytab: bool, findings: &mut Findings) {
    let text = match fs::read_to_string(below(root, path)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return,
        // As good as empty: the service says more.
        text => text.unwrap_or_default(),
    };
    let lines = text.lines().map(str::trim);
    let accounts: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    if accounts.is_empty() {
        findings.fault(
            "remote-cards-accounts",
            format!(
                "the service for other machines has no account and does not start: make one with `cardea-tpmvsc hash \
                 NAME >> {path}`, or `systemctl disable --now {SOCKET}`"
            ),
            None,
        );
        return;
    }
    let passwords = accounts
        .iter()
        .filter(|line| line.split_whitespace().next() == Some(NTLM))
        .count();
    if passwords == 0 {
        return;
    }
    let what = match passwords {
        1 => "an account".to_owned(),
        _ => format!("{passwords} accounts"),
    };
    if has_keytab {
        findings.warning(
            "remote-cards-ntlm",
            format!("the service for other machines speaks Kerberos, and {what} in {path} can use NTLM all the same: replace the lines with principals"),
        );
    } else if below(root, MACHINE_KEYTAB).exists() {
        findings.warning(
            "remote-cards-ntlm",
            format!("this machine has keys for Kerberos ({MACHINE_KEYTAB}), but {what} of the service for other machines can use NTLM: give the service a keytab of its own, and principals instead of passwords"),
        );
    }
}

/// Whether a file of secrets is accessible to nobody but its owner: by itself, or by its folder.
fn kept_private(root: &Path, path: &str, findings: &mut Findings) {
    let mode = |path: &Path| fs::metadata(path).map(|about| about.mode());
    let file = below(root, path);
    let Ok(own) = mode(&file) else { return };
    let folder = file.parent().and_then(|folder| mode(folder).ok());
    // Who cannot search the folder cannot open the file.
    let searched = folder.unwrap_or(0o777);
    let group = own & 0o070 != 0 && searched & 0o010 != 0;
    let others = own & 0o007 != 0 && searched & 0o001 != 0;
    if group || others {
        findings.fault(
            "remote-cards-readable",
            format!(
                "{path} has secrets of the service for other machines, and is accessible to others"
            ),
            Some(&format!("chmod go= {path}")),
        );
    }
}

/// The lines of a unit with its drop-ins.
#[derive(Debug, Default)]
struct Unit {
    lines: Vec<String>,
}

impl Unit {
    fn read(root: &Path, name: &str) -> Option<Self> {
        let main = UNITS
            .iter()
            .find_map(|folder| fs::read_to_string(below(root, folder).join(name)).ok())?;
        // In the order of their names; of those with the same name the most important one.
        let mut drop_ins: Vec<PathBuf> = Vec::new();
        for folder in UNITS {
            let entries = fs::read_dir(below(root, folder).join(format!("{name}.d")));
            for entry in entries.into_iter().flatten().flatten() {
                let known = drop_ins
                    .iter()
                    .any(|path| path.file_name() == Some(&entry.file_name()));
                if !known && entry.path().extension().is_some_and(|end| end == "conf") {
                    drop_ins.push(entry.path());
                }
            }
        }
        drop_ins.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
        let more = drop_ins
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok());
        let lines = [main].into_iter().chain(more);
        let lines = lines.flat_map(|text| {
            text.lines()
                .map(|line| line.trim().to_owned())
                .collect::<Vec<_>>()
        });
        Some(Self {
            lines: lines.collect(),
        })
    }

    /// A setting that is a list: an empty value clears it.
    fn list(&self, key: &str) -> Vec<String> {
        let mut values = Vec::new();
        for line in &self.lines {
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            match value.trim() {
                _ if name.trim() != key => {}
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
        values
    }

    /// The file that systemd passes as this credential.
    fn credential(&self, name: &str) -> Option<String> {
        let mut credentials = self.list("LoadCredential");
        credentials.extend(self.list("LoadCredentialEncrypted"));
        let paths = credentials
            .iter()
            .rev()
            .filter_map(|value| value.split_once(':'));
        let mut paths = paths.filter(|(id, path)| *id == name && path.starts_with('/'));
        paths.next().map(|(_, path)| path.to_owned())
    }
}

/// Whether an address to listen on is that of every network (systemd.socket(5)).
fn is_everywhere(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    ["", "0.0.0.0", "*", "[::]"].contains(&host)
}

fn shown(addresses: &[String]) -> String {
    let one = |address: &String| match address.parse::<u16>() {
        Ok(port) => format!("port {port} on every address"),
        Err(_) => address.clone(),
    };
    let shown: Vec<String> = addresses.iter().map(one).collect();
    shown.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_network_are_told_from_others() {
        for address in ["135", "0.0.0.0:135", "[::]:135"] {
            assert!(is_everywhere(address), "{address}");
        }
        for address in ["10.0.0.5:135", "[fd00::5]:135", "127.0.0.1:135"] {
            assert!(!is_everywhere(address), "{address}");
        }
        let addresses = ["135", "10.0.0.5:136"].map(str::to_owned);
        assert_eq!(
            shown(&addresses),
            "port 135 on every address and 10.0.0.5:136"
        );
    }
}
