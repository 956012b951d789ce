//! A terminal at which somebody answers what programs ask.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::process::{Outcome, PATIENCE};

/// What a program is told when the last line that it has shown has these words and ends in a colon, or in the choice
/// between yes and no.
pub type Answer<'a> = (&'a str, &'a str);

/// The end of a question that is answered by yes or no.
const CHOICE: &str = "[y/N]";

/// How a program at a terminal has ended.
#[derive(Clone, Debug)]
pub struct Dialogue {
    /// Its end, and all that was on the terminal.
    pub outcome: Outcome,
    /// How often it was answered.
    pub answers: usize,
}

/// Runs a program at a terminal of its own, and answers what it asks: with the echo off, or by yes or no.
///
/// The program is started by `setsid --ctty`, which `command` must end in: `Command::new("setsid").arg("--ctty")`,
/// then the program.
///
/// # Panics
///
/// When it cannot be started, or does not end in twice [`PATIENCE`].
pub fn converse(command: &mut Command, answers: &[Answer<'_>]) -> Dialogue {
    let name = format!("{command:?}");
    let (master, slave) = open();
    let mut child = command
        .stdin(slave.try_clone().expect("a descriptor"))
        .stdout(slave.try_clone().expect("a descriptor"))
        .stderr(slave)
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let mut screen = Screen {
        master: File::from(master),
        text: String::new(),
        seen: 0,
        answers: 0,
    };
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let status = ended(&mut child);
        while screen.read() {}
        if let Some(status) = status {
            return screen.end(status);
        }
        screen.answer(answers);
        if Instant::now() > deadline {
            drop(child.kill());
            panic!("{name} does not end:\n{}", screen.text);
        }
    }
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    child.try_wait().expect("the child is ours")
}

fn open() -> (OwnedFd, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).expect("a terminal");
    grantpt(&master).expect("a terminal");
    unlockpt(&master).expect("a terminal");
    let path = ptsname(&master, Vec::new()).expect("a terminal has a name");
    let path = path.into_string().expect("in ASCII");
    let slave = File::options().read(true).write(true).open(path);
    (master, slave.expect("the terminal opens"))
}

struct Screen {
    master: File,
    text: String,
    /// What was shown before the last answer.
    seen: usize,
    answers: usize,
}

impl Screen {
    /// Reads what is there, and waits a moment for it.
    fn read(&mut self) -> bool {
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 2_000_000,
        };
        if !matches!(poll(&mut ready, Some(&moment)), Ok(1..)) {
            return false;
        }
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            Ok(count @ 1..) => {
                let new = bytes.get(..count).unwrap_or_default();
                self.text.push_str(&String::from_utf8_lossy(new));
                true
            }
            // Nobody has the other end any more; the program is about to end.
            _ => {
                std::thread::sleep(Duration::from_millis(2));
                false
            }
        }
    }

    fn answer(&mut self, answers: &[Answer<'_>]) {
        let new = self.text.get(self.seen..).unwrap_or_default();
        let line = new.lines().next_back().unwrap_or_default().trim_end();
        let found = answers.iter().find(|(words, _)| line.contains(words));
        let is_choice = line.ends_with(CHOICE);
        let Some((_, answer)) = found.filter(|_| is_choice || line.ends_with(':')) else {
            return;
        };
        // Some drop what was typed before they turn the echo off. A choice may be seen.
        let mode = tcgetattr(&self.master).expect("a terminal has a mode");
        if !is_choice && mode.local_modes.contains(LocalModes::ECHO) {
            return;
        }
        let line = format!("{answer}\n");
        self.master.write_all(line.as_bytes()).expect("it is typed");
        self.seen = self.text.len();
        self.answers += 1;
    }

    fn end(self, status: ExitStatus) -> Dialogue {
        Dialogue {
            outcome: Outcome {
                success: status.success(),
                code: status.code(),
                text: self.text.replace('\r', ""),
            },
            answers: self.answers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, answers: &[Answer<'_>]) -> Dialogue {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "sh", "-c", script]);
        converse(&mut command, answers)
    }

    #[test]
    fn questions_are_answered_and_others_are_not() {
        let ask =
            "stty -echo; printf 'The word: '; read -r word; stty echo; echo; echo \"<$word>\"";
        let done = shell(&format!("{ask}; {ask}; exit 3"), &[("word", "swordfish")]);
        assert_eq!(done.outcome.code, Some(3));
        assert_eq!(done.answers, 2);
        assert_eq!(done.outcome.text.matches("<swordfish>").count(), 2);
        let choose = "printf 'Really? [y/N] '; read -r word; echo \"<$word>\"";
        let done = shell(choose, &[("Really", "y")]);
        assert_eq!(done.answers, 1);
        assert!(done.outcome.text.contains("<y>"), "{}", done.outcome.text);
        let done = shell("echo 'The word:'; tty", &[("word", "swordfish")]);
        assert_eq!(done.answers, 0, "{}", done.outcome.text);
        assert!(done.outcome.text.contains("/dev/pts/"));
    }
}
