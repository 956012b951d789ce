//! The daemon, its TPM and its cards.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cardea_client::message::{
    CardDetails, CardRequest, CardState, CardSummary, CardsTaken, CounterCheck, FailureKind,
    ReaderRequest, Reply, Request, TpmRequest, TpmStatus,
};
use cardea_client::{Client, ClientError};
use cardea_terms::{CounterMode, NO_SESSION_LIMIT, PLATFORM, hierarchy_word};
use nix::unistd::{Gid, Group, User, getgrouplist};

use super::files::REGENERATE;
use super::{Findings, below};
use crate::daemon::cards_text;
use crate::duration::Seconds;
use crate::terminal::output::printable;

/// By how much the TPM's clock may differ, in thousandths; makers allow themselves less (TPM2_ClockRateAdjust).
const TOLERANCE: u32 = 150;

/// A healthy daemon answers sooner.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The kernel's resource manager.
const DEVICE: &str = "/dev/tpmrm0";

/// User ids from here are people's, but for one.
const FIRST_PERSON: u32 = 1000;
const NOBODY: u32 = 65_534;

/// The user that the daemon runs as.
const USER: &str = "cardea";

/// What else the daemon reports of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Slots of its reader.
    pub(super) slots: Option<u8>,
    /// Whether the caller may create and destroy cards.
    pub(super) administrator: bool,
    /// Whether whoever makes a card needs the TPM's owner authorisation.
    pub(super) owner_auth_set: bool,
}

/// The daemon, its TPM and its cards.
pub(super) fn look(socket: &Path, root: &Path, findings: &mut Findings) -> Told {
    let mut client = Client::new(socket);
    let slots = match client.call(&Request::Reader(ReaderRequest::Info), ANSWER_TIME) {
        Ok(Reply::Reader { slots }) => slots,
        Ok(_) => {
            findings.fault(
                "daemon-version",
                "the daemon has another version",
                Some("systemctl restart cardea"),
            );
            return Told::default();
        }
        Err(error) => {
            let (name, text) = match &error {
                ClientError::Protocol(_) => (
                    "daemon-version",
                    "the daemon has another version".to_owned(),
                ),
                ClientError::TimedOut => ("daemon-silent", "the daemon does not answer".to_owned()),
                _ => (
                    "daemon-down",
                    format!("the daemon cannot be reached: {error}"),
                ),
            };
            findings.fault(name, text, Some("systemctl restart cardea"));
            device(root, findings);
            return Told::default();
        }
    };
    findings.fine("daemon", "the daemon answers");
    // First, because it has the TPM tested.
    let tried = client.call(&Request::Tpm(TpmRequest::TryRoom), ANSWER_TIME);
    let (mut takes_counters, mut owner_auth_set) = (true, false);
    match client.call(&Request::Tpm(TpmRequest::Status), ANSWER_TIME) {
        Ok(Reply::Tpm(status)) => {
            tpm(&status, findings);
            owner_auth_set = status.owner_auth_set;
            let taken = status.cards.as_ref();
            takes_counters =
                taken.is_none_or(|taken| taken.mode.is_some_and(CounterMode::is_in_nv));
        }
        Ok(Reply::Failed(failure)) if failure.kind == FailureKind::NoTpm => {
            findings.fault(
                "tpm-away",
                format!(
                    "{} (`journalctl -u cardea` says since when)",
                    failure.message
                ),
                None,
            );
            device(root, findings);
        }
        Ok(Reply::Failed(failure)) => findings.fault("tpm", failure.message, None),
        _ => findings.fault(
            "daemon-silent",
            "the daemon does not answer",
            Some("systemctl restart cardea"),
        ),
    }
    if let Ok(cards) = client.cards(ANSWER_TIME) {
        for card in &cards {
            self::card(card, findings);
        }
        let lost = cards.iter().filter(|card| card.slot.is_none()).count();
        let usable =
            |card: &&CardSummary| matches!(card.state, CardState::Ready | CardState::Blocked);
        for card in cards.iter().filter(usable) {
            let request = Request::card(card.card_id.clone(), CardRequest::Show);
            if let Ok(Reply::Card(details)) = client.call(&request, ANSWER_TIME) {
                blocked(&details, findings);
                keys(&details, findings);
                service(&details, findings);
            }
        }
        let waiting = cards
            .iter()
            .filter(usable)
            .filter(|card| card.slot.is_none())
            .count();
        if waiting > 0 && cards.len() - lost >= usize::from(slots) {
            let text = format!("{waiting} cards have no slot in the reader, which has {slots}");
            let wanted = usize::from(slots) + waiting;
            match wanted <= MOST_SLOTS {
                true => findings.advice("slots-full", text, &with_slots(wanted)),
                false => findings.warning("slots-full", format!("{text}, of {MOST_SLOTS} at most")),
            }
        }
    }
    Told {
        slots: Some(slots),
        administrator: room(tried, takes_counters, findings),
        owner_auth_set,
    }
}

/// As many slots as a reader of pcscd can have (docs/configuration.md).
const MOST_SLOTS: usize = 14;

/// Sets the number of slots, of the daemon and of pcscd's entry.
fn with_slots(count: usize) -> String {
    const FILE: &str = "/etc/cardea/cardea.toml";
    format!(
        "sed -i '/^ *slots *=/d' {FILE}; echo 'slots = {count}' >> {FILE}; systemctl restart cardea && \
         {REGENERATE}"
    )
}

/// A card whose PIN is blocked, and who can unblock it.
fn blocked(card: &CardDetails, findings: &mut Findings) {
    if card.summary.state != CardState::Blocked {
        return;
    }
    let text = format!("the PIN of card {} is blocked", card.summary.name);
    match card.puk.is_some() || card.administrator {
        true => findings.advice(
            "card-blocked",
            text,
            &format!("cardea pin unblock {}", card.summary.card_id),
        ),
        false => findings.warning(
            "card-blocked",
            format!("{text}, and it has neither PUK nor administrator: it cannot be unblocked"),
        ),
    }
}

/// Policies that open hierarchies without their authorisation. That of the platform is the firmware's.
fn policies(status: &TpmStatus, findings: &mut Findings) {
    let set = status.hierarchy_policies.iter().flatten();
    let set: Vec<_> = set
        .filter(|handle| **handle != PLATFORM)
        .map(|handle| hierarchy_word(*handle))
        .collect();
    if set.is_empty() {
        return;
    }
    let old = [
        (status.owner_auth_set, " --old-owner-auth-file FILE"),
        (status.lockout_auth_set, " --old-lockout-auth-file FILE"),
    ];
    let old: String = old
        .into_iter()
        .filter_map(|(set, option)| set.then_some(option))
        .collect();
    findings.fault(
        "tpm-policy",
        format!(
            "a policy opens these hierarchies of the TPM without their authorisation: {}; whoever set it can delete cards \
             or clear the TPM",
            set.join(", ")
        ),
        Some(&format!("cardea tpm provision --out NEW-FILE{old}")),
    );
}

/// Checks the keys of a card in use.
/// A service whose login ends has to be started again, or to give the PIN again.
fn service(card: &CardDetails, findings: &mut Findings) {
    let owner = card.summary.owner;
    let is_service = owner != 0 && (owner < FIRST_PERSON || owner == NOBODY);
    if is_service && (1..NO_SESSION_LIMIT).contains(&card.session_limit) {
        findings.warning(
            "service-session-limit",
            format!(
                "card {} belongs to a system account, and its logins end after {}: a service that does not log in \
                 again stops working then; a card with `--session-limit none` has no such limit",
                printable(&card.summary.name),
                Seconds(card.session_limit)
            ),
        );
    }
}

fn keys(card: &CardDetails, findings: &mut Findings) {
    for key in card.keys.iter().filter(|key| key.import_exposed) {
        findings.warning(
            "key-exposed",
            format!(
                "key {} of card {} was imported by an older version: whoever recorded the TPM's bus at that moment \
                 can recover this key; replace it",
                crate::on_card::title(key),
                card.summary.name
            ),
        );
    }
}

/// Reports it if the TPM has no room for another card. Returns whether the caller may ask, which administrators may.
fn room(tried: Result<Reply, ClientError>, takes_counters: bool, findings: &mut Findings) -> bool {
    let Ok(Reply::Failed(failure)) = tried else {
        return true;
    };
    match failure.kind {
        FailureKind::Denied => return false,
        FailureKind::Full if takes_counters => findings.fault(
            "nv-full",
            format!("the TPM has no room for another card: {}", failure.message),
            None,
        ),
        // Faults of the TPM, and what it lacks, have been reported.
        _ => {}
    }
    true
}

fn tpm(status: &TpmStatus, findings: &mut Findings) {
    if status.in_lockout {
        findings.fault(
            "tpm-lockout",
            "the TPM is in lockout",
            Some("cardea tpm reset-lockout"),
        );
    } else {
        findings.fine("tpm", format!("the TPM answers ({})", status.manufacturer));
    }
    if let Some(deviation) = status
        .clock_deviation
        .filter(|deviation| deviation.unsigned_abs() > TOLERANCE)
    {
        let (faster, end) = match deviation > 0 {
            true => ("faster", "sooner"),
            false => ("slower", "later"),
        };
        findings.fault(
            "tpm-clock",
            format!(
                "the TPM's clock runs {} % {faster} than the computer's: logins to cards end that much {end}",
                deviation.unsigned_abs() / 10
            ),
            None,
        );
    }
    if !(status.owner_auth_set && status.lockout_auth_set) {
        findings.advice(
            "tpm-open",
            "the TPM has no authorisations: anyone with access to its device can delete cards",
            "cardea tpm provision --out NEW-FILE",
        );
    }
    if !status.owner_enabled {
        findings.fault(
            "tpm-off",
            "the TPM's owner hierarchy is switched off until the computer is restarted; nothing is lost, and cards are \
             available again after the restart",
            None,
        );
    }
    policies(status, findings);
    match status.counters {
        // What they mean is told with the cards that it takes.
        CounterCheck::Absent
        | CounterCheck::Good
        | CounterCheck::Resets
        | CounterCheck::Unknown => {}
        CounterCheck::Outstanding => {
            findings.warning("tpm-counters", status.counters_reason.clone());
        }
        CounterCheck::Unsafe => {
            findings.fault("tpm-unsafe", status.counters_reason.clone(), None);
        }
    }
    if let Some(taken) = &status.cards {
        cards(taken, findings);
    }
    if status.card_indices > status.known_indices {
        let left = status.card_indices - status.known_indices;
        findings.warning(
            "nv-left",
            format!("{left} counters in the TPM do not belong to any known card; `cardea tpm indices` lists them"),
        );
    }
}

/// What cards the TPM takes.
fn cards(taken: &CardsTaken, findings: &mut Findings) {
    const NAME: &str = "tpm-cards";
    let text = format!("cards on this TPM: {}", cards_text(taken));
    match taken.mode {
        Some(CounterMode::Nv) => findings.fine(NAME, text),
        Some(CounterMode::NvOwner | CounterMode::Object) => findings.warning(NAME, text),
        None => findings.fault(NAME, text, None),
    }
}

fn card(card: &CardSummary, findings: &mut Findings) {
    let name = &card.name;
    for part in &card.gone {
        let text = crate::daemon::part_gone(*part);
        findings.fault("card-part", format!("card {name}: {text}"), None);
    }
    if card.counted_here {
        let text = crate::daemon::COUNTED_HERE;
        findings.fault("card-counted", format!("card {name}: {text}"), None);
    }
    match card.state {
        CardState::Ready => findings.fine("card", format!("card {name} is ready")),
        // It needs to be known who can unblock it.
        CardState::Blocked => {}
        CardState::DriveAway => {
            findings.fine(
                "card",
                format!("card {name} is on a drive that is not attached"),
            );
        }
        CardState::Foreign => findings.fault(
            "card-foreign",
            format!(
                "card {name} was made by another TPM, or this one was cleared; {}",
                last_resort(TPM_FIRST, card)
            ),
            None,
        ),
        CardState::Lost => findings.fault(
            "card-lost",
            format!(
                "card {name} is lost: {}; {}",
                card.reason,
                last_resort(TPM_FIRST, card)
            ),
            None,
        ),
        CardState::NotTrusted | CardState::Unreadable => findings.fault(
            "card-file",
            format!(
                "card {name} {}: {}; {}",
                card.card_id,
                card.reason,
                last_resort(FILE_FIRST, card)
            ),
            None,
        ),
        CardState::SwitchedOff => findings.fault(
            "card-off",
            format!("card {name} is waiting: {}", card.reason),
            None,
        ),
        CardState::TpmAway => findings.fault(
            "card-away",
            format!("card {name} is waiting: {}", card.reason),
            None,
        ),
        CardState::UnsafeTpm => findings.fault(
            "card-unsafe",
            format!("card {name} is not used: {}", card.reason),
            None,
        ),
    }
}

/// What to try first if the TPM seems to be another one.
const TPM_FIRST: &str = "first switch the computer off completely (a full power cycle) and on again, make sure that \
     this is the computer that the card was made on, and check in the firmware setup whether the TPM was replaced, \
     cleared or switched off";

/// What to try first if only the file is invalid.
const FILE_FIRST: &str =
    "first restore the card file from a backup, or install the version of Cardea that wrote it";

/// Destruction is never the command of a finding: whoever runs what is printed would lose keys that may come back.
fn last_resort(first: &str, card: &CardSummary) -> String {
    format!(
        "{first}; only if nothing helps, `cardea card destroy {}` removes what is left, which cannot be undone",
        card.card_id
    )
}

/// The TPM's device, if the daemon does not say more.
fn device(root: &Path, findings: &mut Findings) {
    use std::os::unix::fs::MetadataExt;
    let path = below(root, DEVICE);
    let Ok(metadata) = fs::metadata(&path) else {
        findings.fault(
            "tpm-absent",
            format!("there is no {DEVICE}: switch the TPM on in the firmware setup, or configure another one"),
            None,
        );
        return;
    };
    let group = Gid::from_raw(metadata.gid());
    let member = User::from_name(USER).ok().flatten().is_none_or(|user| {
        let name = std::ffi::CString::new(user.name).unwrap_or_default();
        getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group))
    });
    if !member {
        let group = Group::from_gid(group).ok().flatten();
        let group = group.map_or_else(|| metadata.gid().to_string(), |group| group.name);
        findings.fault(
            "tpm-group",
            format!("the user {USER} may not use {DEVICE}, which belongs to the group {group}"),
            Some(&format!(
                "usermod --append --groups {group} {USER} && systemctl restart cardea"
            )),
        );
    }
}
