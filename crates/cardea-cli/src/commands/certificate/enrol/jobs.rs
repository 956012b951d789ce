//! The jobs of the user, in the state folder.

use std::path::PathBuf;

use cardea_enrol::{FolderJournal, Job};
use serde_json::{Value, json};

use super::told;
use crate::arguments::OutputArguments;
use crate::exit::{Exit, Failure};
use crate::terminal::clock::local;
use crate::terminal::output::{note, print, print_json, printable};

/// Where jobs are: the XDG base directory specification's state folder.
pub(super) fn folder() -> Result<PathBuf, Failure> {
    let of = |name| std::env::var_os(name).map(PathBuf::from);
    let state = of("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| of("HOME").map(|home| home.join(".local/state")));
    match state {
        Some(state) => Ok(state.join("cardea/jobs")),
        None => Err(Failure::usage(
            "no place for the enrolment's file: set HOME or XDG_STATE_HOME",
        )),
    }
}

/// All that can be read; about others there is a warning.
pub(super) fn all() -> Result<Vec<Job>, Failure> {
    let (jobs, errors) = FolderJournal::list(&folder()?);
    for error in errors {
        note(&format!("warning: {error}"));
    }
    Ok(jobs)
}

pub(super) fn named(name: &str) -> Result<Job, Failure> {
    let mut jobs = all()?.into_iter();
    jobs.find(|job| job.id == name).ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            format!("there is no enrolment {name}; `cardea cert pending` lists them"),
        )
    })
}

pub(super) fn cancel(name: &str) -> Result<(), Failure> {
    let job = named(name)?;
    let journal = FolderJournal::open(&folder()?, &job.card).map_err(told)?;
    journal.remove(&job).map_err(told)?;
    match job.key {
        Some(key) if job.issued().is_err() => note(&format!(
            "enrolment given up; key {key:02X} stays on the card, `cardea key delete` removes it"
        )),
        _ => note("enrolment given up"),
    }
    Ok(())
}

pub(super) fn list(all_of_them: bool, output: OutputArguments) -> Result<(), Failure> {
    let jobs: Vec<Job> = all()?
        .into_iter()
        .filter(|job| all_of_them || !job.state.is_over())
        .collect();
    if output.json {
        return Ok(print_json(&Value::Array(
            jobs.iter().map(to_json).collect(),
        ))?);
    }
    if jobs.is_empty() {
        note("no enrolments");
        return Ok(());
    }
    let text: String = jobs.iter().map(text).collect();
    Ok(print(&text)?)
}

fn word(job: &Job) -> String {
    format!("{:?}", job.state).to_lowercase()
}

fn to_json(job: &Job) -> Value {
    json!({
        "job": job.id,
        "card": job.card,
        "key": job.key.map(|key| format!("{key:02X}")),
        "state": word(job),
        "authority": job.order.url,
        "profile": job.order.profile,
        "subject": job.order.subject,
        "renews": job.renewed.as_ref().map(|old| format!("{:02X}", old.key)),
        "begun": job.begun,
        "not_before": job.not_before,
        "attempts": job.attempts,
        "reason": job.reason,
    })
}

fn text(job: &Job) -> String {
    let mut lines = vec![
        ("card", job.card.clone()),
        ("authority", printable(&job.order.url)),
        ("subject", printable(&job.order.subject)),
        ("begun", local(job.begun)),
    ];
    if job.state == cardea_enrol::State::Pending {
        lines.push(("ask again", local(job.not_before)));
    }
    if let Some(reason) = &job.reason {
        lines.push(("reason", printable(reason)));
    }
    let lines: String = lines
        .iter()
        .map(|(label, value)| format!("  {:<11}{value}\n", format!("{label}:")))
        .collect();
    format!("{} {}\n{lines}", job.id, word(job))
}
