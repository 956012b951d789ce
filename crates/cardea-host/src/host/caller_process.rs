//! What the kernel tells a daemon without privileges of a caller's process.
//!
//! The executable of another user's process is not readable (ptrace(2), `PTRACE_MODE_READ_FSCREDS`); its name, its start
//! and its control group are. The name is the process's to choose, the unit its service manager's.

use cardea_client::Process;
use cardea_terms::tame;

/// Longest path of a program in the audit.
const MAX_PROGRAM: usize = 500;
/// Longest name of a unit that is kept.
const MAX_UNIT: usize = 128;

/// A process, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallerProcess {
    /// Path of the executable; else the name that the process has given itself, in brackets; else empty.
    pub(crate) program: String,
    /// The unit of systemd that it belongs to: a service or the scope of an application or session; else empty.
    pub(crate) unit: String,
    /// When it started, in clock ticks since the start of the computer; 0 where that is not known. Another process with
    /// the same id has another one.
    pub(crate) started: u64,
}

impl CallerProcess {
    /// The process with this id, as it is now.
    pub(crate) fn of(pid: u32) -> Self {
        Process::find(pid)
            .and_then(|process| Self::read(&process))
            .unwrap_or_default()
    }

    fn read(process: &Process) -> Option<Self> {
        Some(Self {
            started: process.start()?,
            program: process
                .executable()
                .map(|path| path.chars().take(MAX_PROGRAM).collect())
                .or_else(|| own_name(process))
                .unwrap_or_default(),
            unit: unit(process).unwrap_or_default(),
        })
    }
}

fn own_name(process: &Process) -> Option<String> {
    let name = process.read("comm")?;
    let name = String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned();
    (!name.is_empty()).then(|| format!("[{}]", tame(&name)))
}

/// The last service or scope in the path of the control group.
fn unit(process: &Process) -> Option<String> {
    let text = process.read("cgroup")?;
    unit_of(std::str::from_utf8(&text).ok()?)
}

/// Out of lines `hierarchy:controllers:path` (cgroups(7)).
fn unit_of(text: &str) -> Option<String> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut parts = paths.flat_map(|path| path.rsplit('/'));
    let unit = parts.find(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
    Some(tame(unit).chars().take(MAX_UNIT).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_known_and_one_that_is_gone_is_not() {
        let own = CallerProcess::of(std::process::id());
        assert!(own.program.starts_with('/'), "{own:?}");
        assert!(own.started > 0);
        assert_eq!(own, CallerProcess::of(std::process::id()));

        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let sleeping = CallerProcess::of(child.id());
        assert!(sleeping.started >= own.started, "{sleeping:?}");
        let process = Process::find(child.id()).unwrap();
        assert_eq!(own_name(&process).as_deref(), Some("[sleep]"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(CallerProcess::of(child.id()), CallerProcess::default());
        assert_eq!(CallerProcess::of(0), CallerProcess::default());
    }

    #[test]
    fn unit_is_the_innermost_service_or_scope() {
        for (text, unit) in [
            ("0::/system.slice/ssh.service\n", Some("ssh.service")),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-7.scope/inner\n",
                Some("app-firefox-7.scope"),
            ),
            (
                "1:name=systemd:/user.slice/session-3.scope\n0::/\n",
                Some("session-3.scope"),
            ),
            ("0::/\n", None),
            ("", None),
            ("0::/a\u{202E}.service", Some("a\u{FFFD}.service")),
        ] {
            assert_eq!(unit_of(text).as_deref(), unit, "{text:?}");
        }
    }
}
