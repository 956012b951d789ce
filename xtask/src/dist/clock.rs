//! Times, as the program `date` reads and writes them.

use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// A time in UTC, without the names of another language.
pub(super) fn shown(epoch: u64, format: &str) -> Result<String> {
    date(&format!("@{epoch}"), format)
}

/// Seconds from 1970 to a day.
pub(super) fn epoch(day: &str) -> Result<u64> {
    let text = date(day, "+%s")?;
    text.parse().with_context(|| format!("{day} is not a day"))
}

fn date(time: &str, format: &str) -> Result<String> {
    let text = shell::output(Command::new("date").env("LC_ALL", "C").args([
        "--utc",
        &format!("--date={time}"),
        format,
    ]))?;
    Ok(text.trim().to_owned())
}
