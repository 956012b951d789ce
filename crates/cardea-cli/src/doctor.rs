//! `cardea doctor`: faults of this machine, and the commands that fix them.
//!
//! It checks the daemon's replies and the files by which pcscd, p11-kit and the bus find the cards, and has the
//! daemon test whether the TPM has room for another card, which leaves nothing behind.

mod bus;
mod daemon;
mod files;
mod marks;
mod pcscd;
mod polkit;
mod remote;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use self::marks::Marks;
use crate::exit::{Exit, Failure};
use crate::terminal::output::{Colour, print, print_json, printable};
use crate::terminal::width::{continued, of_terminal, wrapped};

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Correct.
    Fine,
    /// It works, and could be better.
    Advice,
    /// It does not work.
    Fault,
}

impl Weight {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Advice => "advice",
            Self::Fault => "fault",
        }
    }
}

/// The result of one check. The name is stable.
#[derive(Debug)]
struct Finding {
    name: &'static str,
    weight: Weight,
    text: String,
    /// The command that fixes it, as it can be run. Never one that only shows more.
    command: Option<String>,
}

/// What was found.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn fine(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Weight::Fine, text, None);
    }

    fn advice(&mut self, name: &'static str, text: impl Into<String>, command: &str) {
        self.add(name, Weight::Advice, text, Some(command));
    }

    /// Advice that no single command follows.
    fn warning(&mut self, name: &'static str, text: impl Into<String>) {
        self.add(name, Weight::Advice, text, None);
    }

    fn fault(&mut self, name: &'static str, text: impl Into<String>, command: Option<&str>) {
        self.add(name, Weight::Fault, text, command);
    }

    fn add(
        &mut self,
        name: &'static str,
        weight: Weight,
        text: impl Into<String>,
        command: Option<&str>,
    ) {
        self.0.push(Finding {
            name,
            weight,
            text: text.into(),
            command: command.map(str::to_owned),
        });
    }

    fn has_faults(&self) -> bool {
        self.0.iter().any(|finding| finding.weight == Weight::Fault)
    }
}

/// Runs all checks. `root` stands for the root of the file system.
pub(crate) fn run(socket: &Path, root: &Path, json: bool) -> Result<(), Failure> {
    let findings = look(socket, root);
    tell(&findings, json)?;
    match findings.has_faults() {
        false => Ok(()),
        true => Err(Failure::new(Exit::Failed, "")),
    }
}

fn look(socket: &Path, root: &Path) -> Findings {
    let mut findings = Findings::default();
    let daemon = daemon::look(socket, root, &mut findings);
    polkit::look(root, daemon.administrator, &mut findings);
    if daemon.slots.is_some() {
        bus::look(&mut findings);
    }
    files::reader(socket, root, daemon.slots, &mut findings);
    pcscd::look(root, &mut findings);
    files::module(root, &mut findings);
    remote::look(root, daemon.owner_auth_set, &mut findings);
    findings
}

/// Something that is not as it should be, and the command that fixes it.
pub(crate) struct Mendable {
    pub(crate) text: String,
    pub(crate) command: String,
    pub(crate) is_fault: bool,
}

/// Runs all checks, shows what cannot be fixed by a command, and returns what can.
pub(crate) fn mendable(socket: &Path, root: &Path) -> io::Result<Vec<Mendable>> {
    let (mut shown, mut mendable) = (Findings::default(), Vec::new());
    for finding in look(socket, root).0 {
        match finding.command {
            Some(command) => mendable.push(Mendable {
                text: finding.text,
                command,
                is_fault: finding.weight == Weight::Fault,
            }),
            None => shown.0.push(finding),
        }
    }
    tell(&shown, false)?;
    Ok(mendable)
}

fn tell(findings: &Findings, json: bool) -> io::Result<()> {
    if json {
        let list = findings.0.iter().map(|finding| {
            json!({
                "name": finding.name,
                "weight": finding.weight.word(),
                "text": finding.text,
                "command": finding.command,
            })
        });
        return print_json(&list.collect());
    }
    let (colour, marks) = (Colour::of_stdout(), Marks::of_locale());
    let columns = of_terminal(io::stdout());
    let mut text = String::new();
    for finding in &findings.0 {
        let mark = match finding.weight {
            Weight::Advice => colour.yellow(marks.advice),
            Weight::Fault => colour.red(marks.fault),
            Weight::Fine => colour.green(marks.fine),
        };
        // Colours have no width: the line is broken as if the mark were one character, which it is.
        let line = wrapped(&format!("x {}", printable(&finding.text)), 2, columns);
        text.push_str(&mark);
        text.push_str(line.get(1..).unwrap_or_default());
        text.push('\n');
        if let Some(command) = &finding.command {
            let room = columns.map(|columns| columns.saturating_sub(4));
            for line in continued(&printable(command), room) {
                text.push_str(&format!("    {line}\n"));
            }
        }
    }
    print(&text)
}

/// A path of the machine below another root.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
