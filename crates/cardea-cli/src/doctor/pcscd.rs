//! The user that pcscd runs as, which the daemon has to know: commands to a card's reader are accepted from no other.

use std::fs;
use std::path::Path;

use nix::unistd::{Uid, User};

use super::{Findings, below};

/// Whom the daemon takes for pcscd without a setting, besides root.
const USUAL: &str = "pcscd";

const CONFIGURATION: &str = "/etc/cardea/cardea.toml";

pub(super) fn look(root: &Path, findings: &mut Findings) {
    let Some(uid) = running(root) else { return };
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.map_or_else(|| uid.to_string(), |user| user.name);
    let text = fs::read_to_string(below(root, CONFIGURATION)).unwrap_or_default();
    let is_known = match (setting(&text, "pcscd_user"), setting(&text, "pcscd_uid")) {
        (Some(configured), _) => configured == name,
        (None, Some(configured)) => configured == uid.to_string(),
        (None, None) => name == USUAL,
    };
    if uid == 0 || is_known {
        findings.fine(
            "pcscd",
            format!("pcscd runs as {name}, as the daemon expects"),
        );
        return;
    }
    findings.fault(
        "pcscd-user",
        format!("pcscd runs as {name}, whom the daemon does not take for it: every card is unresponsive in the reader"),
        Some(&format!(
            "sed -i '/^ *pcscd_u/d' {CONFIGURATION}; echo 'pcscd_user = \"{name}\"' >> {CONFIGURATION}; systemctl restart cardea"
        )),
    );
}

/// The user id of the running pcscd.
fn running(root: &Path) -> Option<u32> {
    fs::read_dir(below(root, "/proc"))
        .ok()?
        .flatten()
        .find_map(|process| {
            let status = fs::read_to_string(process.path().join("status")).ok()?;
            let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
            if value("Name:")?.trim() != "pcscd" {
                return None;
            }
            // Real, effective, saved, file system.
            value("Uid:")?.split_whitespace().nth(1)?.parse().ok()
        })
}

/// The value of a key at the beginning of a line.
pub(super) fn setting(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let value = line.trim_start().strip_prefix(key)?.trim_start();
        let value = value.strip_prefix('=')?.split('#').next()?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_toml_has_them() {
        let text = "# pcscd_user = \"no\"\npcscd_user = \"card\" # why\npcscd_uid=12\n";
        assert_eq!(setting(text, "pcscd_user").as_deref(), Some("card"));
        assert_eq!(setting(text, "pcscd_uid").as_deref(), Some("12"));
        assert_eq!(setting(text, "slots"), None);
    }
}
