//! `cardea tpm …`

use std::path::PathBuf;

use cardea_client::message::{Hierarchy, IndexSummary, Reply, Request, SecretBytes, TpmStatus};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::arguments::{IndicesArguments, OutputArguments, ProvisionArguments, TpmVerb, Which};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{note, print, print_json, printable};
use crate::prompt::confirm;
use crate::secret::{self, Source};
use crate::{file, hex};

pub(crate) fn run(verb: &TpmVerb, connection: &mut Connection) -> Result<(), Failure> {
    match verb {
        TpmVerb::Indices(arguments) => match arguments.remove {
            None => indices(arguments.output, connection),
            Some(handle) => remove(handle.0, arguments, connection),
        },
        TpmVerb::Provision(arguments) => provision(arguments, connection),
        TpmVerb::ResetLockout { auth } => {
            let auth = present("lockout", &auth.source())?;
            done(
                &Request::ResetLockout { auth },
                "resetting the lockout",
                connection,
            )?;
            note("lockout reset")?;
            Ok(())
        }
        TpmVerb::Status { output } => status(*output, connection),
    }
}

fn done(request: &Request, what: &str, connection: &mut Connection) -> Result<(), Failure> {
    match connection.call(request, what)? {
        Reply::Done => Ok(()),
        _ => Err(Connection::unexpected()),
    }
}

/// An authorisation that may not be set; then it is empty.
fn present(name: &str, source: &Source<'_>) -> Result<SecretBytes, Failure> {
    let given = secret::hierarchy_auth(name, source)?;
    Ok(given.unwrap_or_else(|| SecretBytes::new(Vec::new())))
}

/// Random or given values. Random ones are on the disk before the TPM has them: a file without effect is
/// harmless, a TPM whose authorisation nobody knows is not.
fn provision(arguments: &ProvisionArguments, connection: &mut Connection) -> Result<(), Failure> {
    fn file(path: &Option<PathBuf>) -> Source<'_> {
        Source {
            file: path.as_deref(),
            fd: None,
        }
    }
    let both = [
        (
            Which::Lockout,
            "lockout",
            Hierarchy::Lockout,
            file(&arguments.lockout_auth_file),
            file(&arguments.old_lockout_auth_file),
        ),
        (
            Which::Owner,
            "owner",
            Hierarchy::Owner,
            file(&arguments.owner_auth_file),
            file(&arguments.old_owner_auth_file),
        ),
    ];
    let wanted = both
        .iter()
        .filter(|(which, ..)| arguments.only.is_none_or(|only| only == *which));
    let mut changes = Vec::new();
    let mut kept = Zeroizing::new(String::new());
    for (_, name, hierarchy, new, old) in wanted {
        let old = present(name, old)?;
        let new = match secret::hierarchy_auth(name, new)? {
            Some(given) => given,
            None => {
                let mut random = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *random).map_err(|error| {
                    Failure::new(Exit::Failed, format!("no random bytes: {error}"))
                })?;
                kept.push_str(&format!("{name}-auth hex:{}\n", hex::plain(&*random)));
                SecretBytes::new(random.to_vec())
            }
        };
        changes.push((*name, *hierarchy, old, new));
    }
    if !kept.is_empty() && arguments.out.is_none() {
        return Err(Failure::usage(
            "random values need a file to go to: give --out FILE, or the values themselves",
        ));
    }
    if !arguments.yes {
        confirm(
            "set the TPM's authorisations? Without them nobody makes or destroys cards, or ends a lockout",
            "nothing set",
        )?;
    }
    // Who may not do this, or has no TPM, learns it before there is a file.
    connection.call(&Request::ListIndices, "asking the TPM")?;
    if let (false, Some(out)) = (kept.is_empty(), &arguments.out) {
        file::write_secret(out, kept.as_bytes())?;
        note(&format!(
            "{} holds the values; keep it in a safe place, not on this machine",
            out.display()
        ))?;
    }
    // While the lockout authorisation is still the present one.
    if let (Some(max_tries), Some(recovery), Some(lockout_recovery)) = (
        arguments.max_tries,
        arguments.recovery_time,
        arguments.lockout_recovery_time,
    ) {
        let old = file(&arguments.old_lockout_auth_file);
        let request = Request::SetLockoutParameters {
            auth: present("lockout", &old)?,
            max_tries,
            recovery: recovery.0,
            lockout_recovery: lockout_recovery.0,
        };
        done(&request, "setting the lockout", connection)?;
        note("lockout parameters set")?;
    }
    for (name, hierarchy, old, new) in changes {
        let request = Request::SetHierarchyAuth {
            hierarchy,
            old,
            new,
        };
        done(
            &request,
            &format!("setting the {name} authorisation"),
            connection,
        )?;
        note(&format!("{name} authorisation set"))?;
    }
    Ok(())
}

fn indices(output: OutputArguments, connection: &mut Connection) -> Result<(), Failure> {
    let indices = match connection.call(&Request::ListIndices, "reading the TPM's indices")? {
        Reply::Indices(indices) => indices,
        _ => return Err(Connection::unexpected()),
    };
    if output.json {
        print_json(&Value::Array(indices.iter().map(index_json).collect()))?;
    } else if indices.is_empty() {
        note("no indices in the range of cards")?;
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
        "role": index.role,
        "unfinished": index.unfinished,
    })
}

fn index_text(index: &IndexSummary) -> String {
    let whose = match (&index.card, &index.name, &index.role) {
        (Some(card), name, role) => format!(
            "{} of {} ({})",
            role.as_deref().unwrap_or("index"),
            printable(name.as_deref().unwrap_or_default()),
            printable(card)
        ),
        _ if index.unfinished => "an unfinished operation's".to_owned(),
        _ => "unknown: of a card that is not here, or left behind".to_owned(),
    };
    let written = if index.written { "" } else { ", not written" };
    format!("0x{:08X}  {whose}{written}\n", index.handle)
}

fn remove(
    handle: u32,
    arguments: &IndicesArguments,
    connection: &mut Connection,
) -> Result<(), Failure> {
    let owner_auth = secret::owner_auth(&arguments.owner.source())?;
    if !arguments.yes {
        let question = format!(
            "remove 0x{handle:08X}? If it is that of a card on a drive that is away, that card is lost"
        );
        confirm(&question, "nothing removed")?;
    }
    let request = Request::RemoveIndex { handle, owner_auth };
    done(&request, "removing the index", connection)?;
    note(&format!("0x{handle:08X} removed"))?;
    Ok(())
}

fn status(output: OutputArguments, connection: &mut Connection) -> Result<(), Failure> {
    let status = match connection.call(&Request::TpmStatus, "asking the TPM")? {
        Reply::Tpm(status) => status,
        _ => return Err(Connection::unexpected()),
    };
    if output.json {
        print_json(&to_json(&status))?;
    } else {
        print(&to_text(&status))?;
    }
    Ok(())
}

fn to_json(status: &TpmStatus) -> Value {
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
        "algorithms": status.algorithms,
        "owner_auth_set": status.owner_auth_set,
        "endorsement_auth_set": status.endorsement_auth_set,
        "lockout_auth_set": status.lockout_auth_set,
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
            "maker",
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
            format!("{}.{:02}", status.revision / 100, status.revision % 100),
        ),
        (
            "slots",
            format!(
                "{} objects, {} sessions",
                status.transient_slots, status.session_slots
            ),
        ),
        (
            "NV indices",
            format!(
                "{}, {} of them in the range of cards; how many more fit, no TPM tells",
                status.nv_indices, status.card_indices
            ),
        ),
        ("algorithms", status.algorithms.join(", ")),
        ("owner auth", owner_text(status.owner_auth_set).to_owned()),
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
        ("lockout", lockout_text(status)),
    ]
    .iter()
    .map(|(label, value)| format!("{:<15}{value}\n", format!("{label}:")))
    .collect()
}

fn owner_text(set: bool) -> &'static str {
    if set {
        "set; creating and destroying cards takes it (--owner-auth-file), daily use does not"
    } else {
        "empty; whoever has the TPM's device can delete cards, though not use them"
    }
}

fn lockout_auth_text(status: &TpmStatus) -> String {
    if !status.lockout_auth_set {
        return "empty; root can clear the TPM and reset its lockout (tpm provision sets one)"
            .into();
    }
    match status.lockout_auth_recovery {
        0 => "set; a wrong one shuts it until the machine starts anew".into(),
        seconds => format!("set; a wrong one shuts it for {seconds} s"),
    }
}

/// Seconds that a lockout lasts at most; none when only the administrator ends it.
fn longest(status: &TpmStatus) -> Option<u64> {
    if !status.in_lockout {
        return Some(0);
    }
    let beyond = u64::from(status.lockout_count.saturating_sub(status.lockout_max)) + 1;
    match status.lockout_recovery {
        0 => None,
        seconds => Some(beyond * u64::from(seconds)),
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
        (true, None) => "; locked until the administrator resets it (tpm reset-lockout)",
        (true, Some(seconds)) => {
            return format!(
                "{counted}, {forgotten}; locked for at most {seconds} s (cards are not affected)"
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

    #[test]
    fn firmware_is_four_numbers() {
        assert_eq!(firmware(0x0001_0002_000A_FFFF), "1.2.10.65535");
    }

    #[test]
    fn longest_lockout_follows_from_count_and_recovery() {
        let mut status = TpmStatus {
            address: String::new(),
            manufacturer: String::new(),
            vendor: String::new(),
            firmware: 0,
            revision: 164,
            transient_slots: 3,
            session_slots: 3,
            nv_indices: 0,
            card_indices: 0,
            lockout_count: 33,
            lockout_max: 32,
            lockout_recovery: 600,
            lockout_auth_recovery: 0,
            in_lockout: true,
            owner_auth_set: false,
            endorsement_auth_set: false,
            lockout_auth_set: false,
            algorithms: Vec::new(),
        };
        assert_eq!(longest(&status), Some(1200));
        assert!(lockout_text(&status).contains("at most 1200 s"));
        status.lockout_recovery = 0;
        assert_eq!(longest(&status), None);
        assert!(lockout_text(&status).contains("until the administrator"));
        status.in_lockout = false;
        assert_eq!(longest(&status), Some(0));
    }
}
