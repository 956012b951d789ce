//! `cardea tpm …`

mod endorsement;

use std::path::{Path, PathBuf};

use cardea_client::MAX_AUTHORISATION;
use cardea_client::message::{
    CounterCheck, Hierarchy, IndexSummary, Reply, Request, SecretBytes, TpmRequest, TpmStatus,
    collect,
};
use cardea_terms::{CounterMode, IndexRole, PLATFORM, hierarchy_word};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::arguments::{IndicesArguments, OutputArguments, ProvisionArguments, TpmVerb, Which};
use crate::daemon::{Daemon, cards_text};
use crate::exit::{Exit, Failure};
use crate::terminal::output::{note, print, print_json, printable};
use crate::terminal::prompt::confirm;
use crate::terminal::secret::{self, Source};
use crate::{file, hex};

pub(crate) fn run(verb: &TpmVerb, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        TpmVerb::Ek { output } => endorsement::show(*output, daemon),
        TpmVerb::Indices(arguments) => match arguments.remove {
            None => indices(arguments.output, daemon),
            Some(handle) => remove(handle.0, arguments, daemon),
        },
        TpmVerb::Provision(arguments) => provision(arguments, daemon),
        TpmVerb::ResetLockout { auth } => {
            let auth = present(Hierarchy::Lockout, &auth.source())?;
            daemon.order(
                &Request::Tpm(TpmRequest::ResetLockout { auth }),
                "resetting the lockout",
            )?;
            note("lockout reset");
            Ok(())
        }
        TpmVerb::Status { output } => status(*output, daemon),
    }
}

/// An authorisation that may not be set; then it is empty.
fn present(hierarchy: Hierarchy, source: &Source<'_>) -> Result<SecretBytes, Failure> {
    let given = secret::hierarchy_auth(hierarchy, source)?;
    Ok(given.unwrap_or_else(|| SecretBytes::new(Vec::new())))
}

/// An authorisation that is going to be set.
struct Change {
    hierarchy: Hierarchy,
    old: SecretBytes,
    new: SecretBytes,
}

/// What `tpm provision` is going to do.
struct Plan {
    changes: Vec<Change>,
    /// Present lockout authorisation, tries, recovery, recovery of the authorisation.
    parameters: Option<(SecretBytes, [u32; 3])>,
    /// Whether nobody has asked for these parameters.
    is_proposed: bool,
    /// The random values, for the file.
    kept: Zeroizing<String>,
}

/// The lockout of the reference code, which TPMs in firmware are delivered with: failures, seconds until one is
/// forgotten, seconds for which a wrong lockout authorisation disables itself. With so few failures others keep cards in
/// object mode from being used.
const UNSET_LOCKOUT: [u32; 3] = [3, 1000, 1000];

/// What discrete chips are delivered with, and what Windows sets.
const USUAL_LOCKOUT: [u32; 3] = [32, 7200, 86_400];

/// Sets random or given values. Random ones are on the disk before the TPM has them: an unused file is
/// harmless, a TPM with a lost authorisation is not.
fn provision(arguments: &ProvisionArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let status = ask_status(daemon)?;
    // A caller without the right fails here, before a question or a file.
    daemon.call(
        &Request::Tpm(TpmRequest::ListIndices { from: None }),
        "asking the TPM",
    )?;
    let plan = plan(arguments, &status)?;
    if let (Some((_, [tries, recovery, lockout_recovery])), true) =
        (&plan.parameters, plan.is_proposed)
    {
        let [present, ..] = UNSET_LOCKOUT;
        note(&format!(
            "nobody has set up the TPM's lockout: it locks after {present} failures of all programs together; it is \
             going to be set to {tries} failures, one of them forgotten every {recovery} s, and a wrong lockout \
             authorisation disables that for {lockout_recovery} s (others: --max-tries, --recovery-time, \
             --lockout-recovery; as it is: --keep-lockout)"
        ));
    }
    if !arguments.yes {
        confirm(
            "set the TPM's authorisations? Creating and destroying cards will need the owner authorisation, and \
             ending a lockout the lockout authorisation; if they are lost, the TPM can only be cleared in the \
             firmware setup, which destroys all cards",
            "nothing set",
        )?;
    }
    let out = arguments.out.as_deref().filter(|_| !plan.kept.is_empty());
    if let Some(out) = out {
        file::write_secret(out, plan.kept.as_bytes())?;
        note(&format!(
            "{} contains the values; keep it in a safe place, not on this machine",
            out.display()
        ));
    }
    let mut set = Vec::new();
    carry_out(plan, &mut set, daemon).map_err(|failure| match out {
        None => failure,
        Some(out) => failure.and(&whats_next(&set, out)),
    })
}

/// How to continue with a file of random values after a failure.
fn whats_next(set: &[Hierarchy], out: &Path) -> String {
    let set: Vec<_> = set.iter().map(|hierarchy| hierarchy.word()).collect();
    let set = match set.as_slice() {
        [] => "set so far: nothing".to_owned(),
        words => format!("set so far: {}", words.join(", ")),
    };
    let out = out.display();
    format!(
        "{set}; `cardea tpm status` shows what is set; to continue with the values in {out}, pass it as \
         --owner-auth-file and --lockout-auth-file instead of --out, with --only for one of them"
    )
}

fn plan(arguments: &ProvisionArguments, status: &TpmStatus) -> Result<Plan, Failure> {
    fn file(path: &Option<PathBuf>) -> Source<'_> {
        Source {
            file: path.as_deref(),
            fd: None,
            options: "a file",
        }
    }
    let old_lockout = file(&arguments.old_lockout_auth_file);
    let both = [
        (
            Which::Lockout,
            Hierarchy::Lockout,
            file(&arguments.lockout_auth_file),
            old_lockout,
        ),
        (
            Which::Owner,
            Hierarchy::Owner,
            file(&arguments.owner_auth_file),
            file(&arguments.old_owner_auth_file),
        ),
    ];
    let mut changes = Vec::new();
    // Room for all of it, so that no grown allocation leaves a copy behind.
    let mut kept = Zeroizing::new(String::with_capacity(256));
    for (_, hierarchy, new, old) in both
        .into_iter()
        .filter(|(which, ..)| arguments.only.is_none_or(|only| only == *which))
    {
        fits(status, hierarchy, &old)?;
        let old = present(hierarchy, &old)?;
        let new = match secret::hierarchy_auth(hierarchy, &new)? {
            Some(given) => given,
            None => random(hierarchy, &mut kept)?,
        };
        changes.push(Change {
            hierarchy,
            old,
            new,
        });
    }
    if !kept.is_empty() && arguments.out.is_none() {
        return Err(Failure::usage(
            "random values need a file: pass --out FILE, or files with the values to set",
        ));
    }
    let parameters = [
        arguments.max_tries,
        arguments.recovery_time.map(|time| time.0),
        arguments.lockout_recovery.map(|time| time.0),
    ];
    let present_parameters = [
        status.lockout_max,
        status.lockout_recovery,
        status.lockout_auth_recovery,
    ];
    let is_asked_for = parameters.iter().any(Option::is_some);
    // Values that somebody has chosen stay.
    let is_proposed = !is_asked_for
        && !arguments.keep_lockout
        && arguments.only != Some(Which::Owner)
        && present_parameters == UNSET_LOCKOUT;
    let parameters = if is_asked_for || is_proposed {
        fits(status, Hierarchy::Lockout, &old_lockout)?;
        let mut values = if is_proposed {
            USUAL_LOCKOUT
        } else {
            present_parameters
        };
        for (value, given) in values.iter_mut().zip(parameters) {
            *value = given.unwrap_or(*value);
        }
        Some((present(Hierarchy::Lockout, &old_lockout)?, values))
    } else {
        None
    };
    Ok(Plan {
        changes,
        parameters,
        is_proposed,
        kept,
    })
}

/// Whether the present value is given if there is one, and only then: checked before there is a file.
fn fits(status: &TpmStatus, hierarchy: Hierarchy, old: &Source<'_>) -> Result<(), Failure> {
    let set = match hierarchy {
        Hierarchy::Lockout => status.lockout_auth_set,
        Hierarchy::Owner => status.owner_auth_set,
    };
    let word = hierarchy.word();
    match (set, old.is_given()) {
        (true, false) => Err(Failure::usage(format!(
            "the TPM's {word} authorisation is already set: pass it with --old-{word}-auth-file, or leave it \
             unchanged with --only"
        ))),
        (false, true) => Err(Failure::usage(format!(
            "the TPM has no {word} authorisation: omit --old-{word}-auth-file"
        ))),
        _ => Ok(()),
    }
}

/// 32 random bytes, and a line for the file.
fn random(hierarchy: Hierarchy, kept: &mut String) -> Result<SecretBytes, Failure> {
    let mut random = vec![0; MAX_AUTHORISATION];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random bytes: {error}")))?;
    let random = SecretBytes::new(random);
    kept.push_str(hierarchy.word());
    kept.push_str("-auth hex:");
    hex::push(kept, random.expose());
    kept.push('\n');
    Ok(random)
}

fn carry_out(plan: Plan, set: &mut Vec<Hierarchy>, daemon: &mut Daemon) -> Result<(), Failure> {
    // While the lockout authorisation is still the present one.
    if let Some((auth, [max_tries, recovery, lockout_recovery])) = plan.parameters {
        let request = Request::Tpm(TpmRequest::SetLockoutParameters {
            auth,
            max_tries,
            recovery,
            lockout_recovery,
        });
        daemon.order(&request, "setting the lockout")?;
        note("lockout parameters set");
    }
    let (mut left, mut endorsement_left) = (Vec::new(), None);
    for Change {
        hierarchy,
        old,
        new,
    } in plan.changes
    {
        let request = Request::Tpm(TpmRequest::SetHierarchyAuth {
            hierarchy,
            old,
            new,
        });
        let word = hierarchy.word();
        let what = format!("setting the {word} authorisation");
        let Reply::AuthorisationSet {
            policy,
            endorsement,
        } = daemon.call(&request, &what)?
        else {
            return Err(Daemon::unexpected());
        };
        set.push(hierarchy);
        note(&format!("{word} authorisation set"));
        if let Some(reason) = policy {
            left.push(format!(
                "the {word} hierarchy's policy was not emptied ({reason})"
            ));
        }
        // Each reply reports it; the last one counts.
        endorsement_left = endorsement;
    }
    if let Some(reason) = endorsement_left {
        note(&format!(
            "warning: the policy of the endorsement hierarchy, which cards do not need, was not emptied: {reason}"
        ));
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!(
            "{}; whoever set that policy needs no authorisation: `cardea tpm status` shows whether one is set, and \
             repeating this command with the present values as the old ones empties it",
            left.join("; ")
        ),
    ))
}

fn indices(output: OutputArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let (_, indices) = collect(|from| {
        let request = Request::Tpm(TpmRequest::ListIndices { from });
        match daemon.call(&request, "reading the TPM's indices")? {
            Reply::Indices(page) => Ok::<_, Failure>(page),
            _ => Err(Daemon::unexpected()),
        }
    })?;
    if output.json {
        print_json(&Value::Array(indices.iter().map(index_json).collect()))?;
    } else if indices.is_empty() {
        note("no indices in the range of cards");
    } else {
        let lines: String = indices.iter().map(index_text).collect();
        print(&lines)?;
    }
    Ok(())
}

fn index_json(index: &IndexSummary) -> Value {
    json!({
        "handle": format!("0x{:08X}", index.handle),
        "written": index.written,
        "card_id": index.card,
        "name": index.name,
        "role": index.role.map(IndexRole::word),
        "unfinished": index.unfinished,
        "card_form": index.card_form,
    })
}

fn index_text(index: &IndexSummary) -> String {
    let whose = match (&index.card, &index.name, &index.role) {
        (Some(card), name, role) => format!(
            "{} of {} ({})",
            role.map_or("policies", IndexRole::word),
            printable(name.as_deref().unwrap_or_default()),
            printable(card)
        ),
        _ if index.unfinished => "of an unfinished operation".to_owned(),
        _ if !index.card_form => "unknown: made by other software".to_owned(),
        _ => "unknown: of a card that is not here, or left behind by one".to_owned(),
    };
    let written = if index.written { "" } else { ", not written" };
    format!("0x{:08X}  {whose}{written}\n", index.handle)
}

fn remove(handle: u32, arguments: &IndicesArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let owner_auth = secret::owner_auth(&arguments.owner.source())?;
    if !arguments.yes {
        let question = format!(
            "remove 0x{handle:08X}? If it belongs to a card on a drive that is not attached, that card is lost"
        );
        confirm(&question, "nothing removed")?;
    }
    let request = Request::Tpm(TpmRequest::RemoveIndex { handle, owner_auth });
    daemon.order(&request, "removing the index")?;
    note(&format!("0x{handle:08X} removed"));
    Ok(())
}

fn ask_status(daemon: &mut Daemon) -> Result<TpmStatus, Failure> {
    match daemon.call(&Request::Tpm(TpmRequest::Status), "asking the TPM")? {
        Reply::Tpm(status) => Ok(*status),
        _ => Err(Daemon::unexpected()),
    }
}

fn status(output: OutputArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let status = ask_status(daemon)?;
    if output.json {
        print_json(&to_json(&status))?;
    } else {
        print(&to_text(&status))?;
    }
    Ok(())
}

fn algorithms(status: &TpmStatus) -> Vec<&'static str> {
    let algorithms = status.algorithms.iter();
    algorithms.map(|algorithm| algorithm.word()).collect()
}

fn to_json(status: &TpmStatus) -> Value {
    let policies = status.hierarchy_policies.as_ref().map(|handles| {
        let words = handles.iter().map(|handle| hierarchy_word(*handle));
        words.collect::<Vec<_>>()
    });
    json!({
        "address": status.address,
        "manufacturer": status.manufacturer,
        "vendor": status.vendor,
        "firmware": firmware(status.firmware),
        "revision": f64::from(status.revision) / 100.0,
        "transient_slots": status.transient_slots,
        "session_slots": status.session_slots,
        "nv_indices": status.nv_indices,
        "card_indices": status.card_indices,
        "known_indices": status.known_indices,
        "clock_deviation_permille": status.clock_deviation,
        "algorithms": algorithms(status),
        "lacking_commands": status.lacking,
        "context_gap": (status.context_gap > 0).then_some(status.context_gap),
        "persistent_left": status.persistent_left,
        "specification_date": date(status),
        "owner_auth_set": status.owner_auth_set,
        "endorsement_auth_set": status.endorsement_auth_set,
        "lockout_auth_set": status.lockout_auth_set,
        "hierarchy_policies": policies,
        "owner_enabled": status.owner_enabled,
        "counters": status.counters.word(),
        "counters_reason": (!status.counters_reason.is_empty()).then_some(&status.counters_reason),
        "cards": status.cards.as_ref().map(|cards| json!({
            "counter_mode": cards.mode.map(CounterMode::word),
            "reason": (!cards.reason.is_empty()).then_some(&cards.reason),
        })),
        "lockout": {
            "locked": status.in_lockout,
            "count": status.lockout_count,
            "max": status.lockout_max,
            "recovery_seconds": status.lockout_recovery,
            "auth_recovery_seconds": status.lockout_auth_recovery,
            "longest_seconds": longest(status),
        },
    })
}

fn to_text(status: &TpmStatus) -> String {
    [
        ("address", printable(&status.address)),
        (
            "manufacturer",
            format!(
                "{} {}",
                printable(&status.manufacturer),
                printable(&status.vendor)
            )
            .trim_end()
            .to_owned(),
        ),
        ("firmware", firmware(status.firmware)),
        (
            "revision",
            match date(status) {
                Some(date) => format!("{} of {date}", revision(status)),
                None => revision(status),
            },
        ),
        (
            "slots",
            format!(
                "{} objects, {} sessions",
                status.transient_slots, status.session_slots
            ),
        ),
        ("persistent", persistent_text(status)),
        ("context gap", gap_text(status)),
        (
            "NV indices",
            format!(
                "{}, {} of them in the range of cards, {} of cards known here; this TPM does not report how many \
                 more cards fit",
                status.nv_indices, status.card_indices, status.known_indices
            ),
        ),
        ("algorithms", algorithms(status).join(", ")),
        ("commands", commands_text(status)),
        ("owner auth", owner_text(status).to_owned()),
        (
            "endorsement",
            if status.endorsement_auth_set {
                "authorisation set"
            } else {
                "no authorisation; cards do not need one"
            }
            .to_owned(),
        ),
        ("lockout auth", lockout_auth_text(status)),
        ("policies", policies_text(status)),
        ("PIN counters", counters_text(status)),
        (
            "cards",
            match &status.cards {
                None => "not tested yet".to_owned(),
                Some(cards) => cards_text(cards),
            },
        ),
        ("lockout", lockout_text(status)),
    ]
    .iter()
    .map(|(label, value)| format!("{:<15}{value}\n", format!("{label}:")))
    .collect()
}

/// What policies mean that open hierarchies besides their authorisations.
fn policies_text(status: &TpmStatus) -> String {
    let Some(policies) = &status.hierarchy_policies else {
        return "unknown: this TPM does not report which hierarchies a policy opens; tpm provision empties them"
            .to_owned();
    };
    let others = policies.iter().filter(|handle| **handle != PLATFORM);
    let others: Vec<_> = others.map(|handle| hierarchy_word(*handle)).collect();
    let mut text = match others.as_slice() {
        [] => "none; only its authorisation opens a hierarchy".to_owned(),
        others => format!(
            "set for {}: anyone who satisfies it needs no authorisation there; tpm provision empties it",
            others.join(", ")
        ),
    };
    if policies.contains(&PLATFORM) {
        text.push_str("; the platform hierarchy, which is the firmware's, has one");
    }
    text
}

fn revision(status: &TpmStatus) -> String {
    format!("{}.{:02}", status.revision / 100, status.revision % 100)
}

/// Date of the specification, as ISO 8601 has it; the year alone where the TPM reports no possible day.
fn date(status: &TpmStatus) -> Option<String> {
    let (year, mut day) = status.date;
    if year == 0 {
        return None;
    }
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = 28 + u32::from(is_leap);
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    for (month, length) in (1..).zip(months) {
        if (1..=length).contains(&day) {
            return Some(format!("{year:04}-{month:02}-{day:02}"));
        }
        day = day.saturating_sub(length);
    }
    Some(format!("{year:04}"))
}

fn persistent_text(status: &TpmStatus) -> String {
    match status.persistent_left {
        None => "this TPM does not report how many more objects it can keep".to_owned(),
        Some(0) => "no more objects can be kept".to_owned(),
        Some(1) => "one more object can be kept; cards need one in all".to_owned(),
        Some(left) => format!("{left} more objects can be kept; cards need one in all"),
    }
}

fn gap_text(status: &TpmStatus) -> String {
    match status.context_gap {
        0 => "this TPM does not report how long saved sessions of other programs last".to_owned(),
        gap => format!("sessions that other programs have saved last for {gap} saves"),
    }
}

/// Commands that not every TPM has.
fn commands_text(status: &TpmStatus) -> String {
    match status.lacking.as_deref() {
        None => "not tested yet".to_owned(),
        Some([]) => "all that cards use".to_owned(),
        Some(lacking) => format!("lacks {}", printable(&lacking.join(", "))),
    }
}

/// Whether wrong PINs are counted.
fn counters_text(status: &TpmStatus) -> String {
    match status.counters {
        CounterCheck::Absent => {
            "none: this TPM has no counters for PINs; wrong PINs of cards with `--counter-mode object` are counted in their files"
                .to_owned()
        }
        CounterCheck::Resets => format!("set back: {}", printable(&status.counters_reason)),
        CounterCheck::Good => "tested: wrong PINs are counted and block the PIN".to_owned(),
        CounterCheck::Outstanding => {
            format!("not tested yet: {}", printable(&status.counters_reason))
        }
        CounterCheck::Unknown => {
            "not tested yet: this is done before the first card is used".to_owned()
        }
        CounterCheck::Unsafe => format!("unsafe: {}", printable(&status.counters_reason)),
    }
}

fn owner_text(status: &TpmStatus) -> &'static str {
    if !status.owner_enabled {
        "the hierarchy is switched off until the computer is restarted; cards are available again after that"
    } else if status.owner_auth_set {
        "set; needed to create and destroy cards (--owner-auth-file), not for daily use"
    } else {
        "empty; anyone with access to the TPM's device can delete cards, but not use them"
    }
}

fn lockout_auth_text(status: &TpmStatus) -> String {
    if !status.lockout_auth_set {
        return "empty; root can clear the TPM and reset its lockout (tpm provision sets one)"
            .into();
    }
    match status.lockout_auth_recovery {
        0 => "set; a wrong one disables it until the machine is restarted".into(),
        seconds => format!("set; a wrong one disables it for {seconds} s"),
    }
}

/// A longer lockout is shown as one that only an administrator ends.
const YEAR: u64 = 365 * 24 * 60 * 60;

/// Seconds that a lockout lasts at most; none when only the administrator ends it.
fn longest(status: &TpmStatus) -> Option<u64> {
    if !status.in_lockout {
        return Some(0);
    }
    let beyond = u64::from(status.lockout_count.saturating_sub(status.lockout_max)) + 1;
    match status.lockout_recovery {
        0 => None,
        seconds => Some(beyond * u64::from(seconds)).filter(|longest| *longest <= YEAR),
    }
}

fn lockout_text(status: &TpmStatus) -> String {
    let counted = format!(
        "{} of {} failures",
        status.lockout_count, status.lockout_max
    );
    let forgotten = match status.lockout_recovery {
        0 => "none is ever forgotten".to_owned(),
        seconds => format!("one forgotten every {seconds} s"),
    };
    let locked = match (status.in_lockout, longest(status)) {
        (false, _) => "",
        (true, None) => {
            "; locked until the administrator resets it (tpm reset-lockout); cards are not affected"
        }
        (true, Some(seconds)) => {
            return format!(
                "{counted}, {forgotten}; locked for at most {seconds} s, or until the administrator resets it \
                 (tpm reset-lockout); cards are not affected"
            );
        }
    };
    format!("{counted}, {forgotten}{locked}")
}

/// Four 16-bit parts, as vendors write them.
fn firmware(version: u64) -> String {
    let part = |shift: u32| (version >> shift) & 0xFFFF;
    format!("{}.{}.{}.{}", part(48), part(32), part(16), part(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> TpmStatus {
        TpmStatus {
            address: String::new(),
            manufacturer: String::new(),
            vendor: String::new(),
            firmware: 0,
            revision: 164,
            transient_slots: 3,
            session_slots: 3,
            nv_indices: 0,
            card_indices: 0,
            known_indices: 0,
            clock_deviation: None,
            lockout_count: 33,
            lockout_max: 32,
            lockout_recovery: 600,
            lockout_auth_recovery: 0,
            in_lockout: true,
            owner_auth_set: false,
            endorsement_auth_set: false,
            lockout_auth_set: false,
            hierarchy_policies: None,
            owner_enabled: true,
            counters: cardea_client::message::CounterCheck::Unknown,
            counters_reason: String::new(),
            algorithms: Vec::new(),
            lacking: None,
            context_gap: 0,
            persistent_left: None,
            date: (0, 0),
            cards: None,
        }
    }

    #[test]
    fn firmware_is_four_numbers() {
        assert_eq!(firmware(0x0001_0002_000A_FFFF), "1.2.10.65535");
    }

    #[test]
    fn date_of_the_specification_is_shown_as_far_as_it_is_reported() {
        let shown = |year, day| {
            let status = TpmStatus {
                date: (year, day),
                ..status()
            };
            date(&status)
        };
        assert_eq!(shown(0, 8), None);
        assert_eq!(shown(2018, 0).as_deref(), Some("2018"));
        assert_eq!(shown(2018, 8).as_deref(), Some("2018-01-08"));
        assert_eq!(shown(2020, 275).as_deref(), Some("2020-10-01"));
        assert_eq!(shown(2019, 365).as_deref(), Some("2019-12-31"));
        assert_eq!(shown(2019, 366).as_deref(), Some("2019"));
    }

    #[test]
    fn longest_lockout_follows_from_count_and_recovery() {
        let mut status = status();
        assert_eq!(longest(&status), Some(1200));
        assert!(lockout_text(&status).contains("at most 1200 s"));
        for never in [0, u32::MAX] {
            status.lockout_recovery = never;
            assert_eq!(longest(&status), None);
            assert!(lockout_text(&status).contains("locked until the administrator"));
        }
        status.in_lockout = false;
        assert_eq!(longest(&status), Some(0));
    }
}
