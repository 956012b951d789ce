//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::exit::{Exit, Failure};
use crate::terminal::output::{note, printable};

pub(crate) use cardea_terminal::{ask, ask_shown, require_terminal};

/// Why a command that only asks questions cannot run.
pub(crate) const NEEDS_TERMINAL: &str = "questions are asked on a terminal, and there is none";

/// Asks for a line until it is valid. An empty one is `usual`.
pub(crate) fn ask_line(
    what: &str,
    usual: &str,
    invalid: impl Fn(&str) -> Option<String>,
) -> Result<String, Failure> {
    loop {
        let typed = ask_shown(&format!("{what} [{}]: ", printable(usual)))
            .map_err(|error| Failure::usage(format!("{NEEDS_TERMINAL} ({error})")))?;
        let reason = match std::str::from_utf8(typed.trim_ascii()) {
            Ok(text) => {
                let text = if text.is_empty() { usual } else { text };
                match invalid(text) {
                    None => return Ok(text.to_owned()),
                    Some(reason) => reason,
                }
            }
            Err(_) => "this is not valid UTF-8".to_owned(),
        };
        note(&reason);
    }
}

/// What somebody should know who chooses an algorithm.
pub(crate) const ALGORITHMS: &str =
    "rsa-2048 works with every program; p-256 is faster (not with OpenSC or Windows).\n";

/// Asks for one of several answers, the first of which is also that of an empty line. `text` explains them; `options`
/// say the same without a terminal.
pub(crate) fn choose<T: Copy>(
    text: &str,
    what: &str,
    answers: &[(&str, T)],
    options: &str,
) -> Result<T, Failure> {
    let words: Vec<_> = answers.iter().map(|(word, _)| *word).collect();
    let words = words.join("/");
    let mut prompt = format!("{text}{what} [{words}]: ");
    loop {
        let typed = ask_shown(&prompt).map_err(|error| {
            Failure::usage(format!(
                "cannot ask for the {what} on a terminal ({error}); use {options}"
            ))
        })?;
        let typed = typed.trim_ascii();
        let chosen = answers
            .iter()
            .find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(typed));
        match chosen.or(answers.first().filter(|_| typed.is_empty())) {
            Some((_, answer)) => return Ok(*answer),
            None => prompt = format!("please answer with one of {words}: "),
        }
    }
}

/// Asks before a change that cannot be undone. `refused` says what was not done.
pub(crate) fn confirm(question: &str, refused: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "confirmation needed and there is no terminal; pass --yes",
        ));
    }
    let mut err = io::stderr().lock();
    err.write_all(format!("{} [y/N] ", printable(question)).as_bytes())?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, refused)),
    }
}
