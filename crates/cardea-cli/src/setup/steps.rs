//! One step of the walk: a command that is shown, run, and offered again when it fails.

use std::path::Path;
use std::process::Command;

use clap::Parser;

use crate::arguments::Cli;
use crate::exit::{Exit, Failure};
use crate::terminal::output::{note, note_command};
use crate::terminal::prompt;

/// Runs commands.
pub(super) struct Steps<'a> {
    socket: &'a Path,
    run: &'a mut dyn FnMut(&Cli) -> Result<(), Failure>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(
        socket: &'a Path,
        run: &'a mut dyn FnMut(&Cli) -> Result<(), Failure>,
    ) -> Self {
        Self { socket, run }
    }

    /// A command of this program; repeated as long as it fails and the person wishes so.
    pub(super) fn take(&mut self, words: &[&str]) -> Result<(), Failure> {
        let shown: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        let shown = shown.join(" ");
        loop {
            note_command(&format!("cardea {shown}"));
            let Err(failure) = self.execute(words) else {
                return Ok(());
            };
            if failure.is_interruption() {
                return Err(failure);
            }
            note(&failure.to_string());
            let again = [("y", true), ("n", false)];
            if !prompt::choose("", "try again", &again, "the command")? {
                return Err(Failure::new(
                    failure.exit,
                    "stopped here; `cardea setup` goes on with what there is",
                ));
            }
        }
    }

    /// A command that fixes something, if the person wishes it. What does not work is said; the walk goes on.
    pub(super) fn offer(&mut self, command: &str, is_urgent: bool) -> Result<(), Failure> {
        note_command(command);
        let mut answers = [("y", true), ("n", false)];
        if !is_urgent {
            answers.reverse();
        }
        if !prompt::choose("", "run it", &answers, "the command")? {
            return Ok(());
        }
        let words: Vec<&str> = command.split(' ').collect();
        let is_plain = command
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " -_./".contains(c));
        let done = match words.split_first() {
            Some((&"cardea", words)) if is_plain => self.execute(words),
            _ => shell(command),
        };
        match done {
            Err(failure) if failure.is_interruption() => Err(failure),
            Err(failure) => {
                note(&failure.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn execute(&mut self, words: &[&str]) -> Result<(), Failure> {
        let socket = self.socket.as_os_str();
        let program = ["cardea".as_ref(), "--socket".as_ref(), socket];
        let line = program.into_iter().chain(words.iter().map(AsRef::as_ref));
        let cli = Cli::try_parse_from(line)
            .map_err(|error| Failure::usage(error.to_string().trim_end()))?;
        (self.run)(&cli)
    }
}

fn shell(command: &str) -> Result<(), Failure> {
    let status = Command::new("sh").args(["-c", command]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(Exit::Failed, format!("it failed: {status}"))),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("it could not be run: {error}"),
        )),
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, shown) in [
            ("Alice", "Alice"),
            ("--name", "--name"),
            ("CN=Alice,O=x", "CN=Alice,O=x"),
            ("Alice's card", r"'Alice'\''s card'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), shown);
        }
    }
}
