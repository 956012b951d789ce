//! The bus and polkit, which decide who may manage cards over D-Bus.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Findings, below};

/// The bus's policy for our name, and polkit's description of our actions.
const FILES: [(&str, &str); 2] = [
    (
        "bus-policy",
        "/usr/share/dbus-1/system.d/org.cardea.VirtualSmartCard1.conf",
    ),
    (
        "polkit-actions",
        "/usr/share/polkit-1/actions/org.cardea.virtualsmartcard.policy",
    ),
];

/// The action that administrators need first.
const ACTION: &str = "org.cardea.virtualsmartcard.create-card";

/// Whether applications can manage cards for this caller as the command can.
pub(super) fn look(root: &Path, administrator: bool, findings: &mut Findings) {
    for (name, path) in FILES {
        if !below(root, path).exists() {
            findings.warning(
                name,
                format!("{path} does not exist: applications cannot manage cards over D-Bus; reinstall Cardea"),
            );
            return;
        }
    }
    let asked = Command::new("pkcheck")
        .args(["--action-id", ACTION, "--process"])
        .arg(std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // pkcheck(1): 0 yes, 1 no, 2 after authentication, 3 authentication dismissed; else it could not ask.
    match asked.ok().and_then(|status| status.code()) {
        Some(0 | 2 | 3) => findings.fine("polkit", "polkit knows Cardea's actions"),
        Some(1) if administrator => findings.fault(
            "polkit-refuses",
            "you may manage cards with this command, but polkit denies it to your applications: a rule in \
             /etc/polkit-1/rules.d does, or the actions were changed (`pkaction --verbose --action-id \
             org.cardea.virtualsmartcard.create-card`)",
            None,
        ),
        Some(1) => {}
        _ => findings.advice(
            "polkit-away",
            "polkit does not answer: only root can manage cards over D-Bus",
            "systemctl start polkit",
        ),
    }
}
