//! Whether the daemon is on the system bus.

use std::process::{Command, Stdio};

use super::Findings;

/// The daemon's name.
const NAME: &str = "org.cardea.VirtualSmartCard1";

/// Asks the bus, where there is one.
pub(super) fn look(findings: &mut Findings) {
    let asked = Command::new("busctl")
        .args(["--system", "--timeout=5", "call"])
        .args(["org.freedesktop.DBus", "/org/freedesktop/DBus"])
        .args(["org.freedesktop.DBus", "NameHasOwner", "s", NAME])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    // Without a bus there is nothing to be on; polkit has been reported then.
    let Ok(answer) = asked else { return };
    match answer.stdout.trim_ascii() {
        b"b true" => findings.fine("bus-name", "the daemon is on the system bus"),
        b"b false" => findings.advice(
            "bus-name",
            "the daemon is not on the system bus: applications cannot manage cards over D-Bus, and cardea-agent cannot \
             ask for PINs (`bus` in /etc/cardea/cardea.toml is on by default)",
            "systemctl reload dbus && systemctl restart cardea",
        ),
        _ => {}
    }
}
