//! `cardea doctor`: what is wrong on this machine, and the command that mends it.
//!
//! It only looks: at the daemon's answers, and at the files by which pcscd and p11-kit find the cards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cardea_client::message::{CardState, CardSummary, FailureKind, Reply, Request, TpmStatus};
use cardea_client::{Client, ClientError};
use nix::unistd::{Gid, Group, User, getgrouplist};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output::{Colour, print, print_json, printable};

/// A daemon that is well answers sooner.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The kernel's resource manager.
const DEVICE: &str = "/dev/tpmrm0";

/// The user that the daemon runs as.
const USER: &str = "cardea";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It is as it should be.
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

/// One thing that was looked at. The name is stable.
#[derive(Debug)]
struct Finding {
    name: &'static str,
    weight: Weight,
    text: String,
    /// What mends it.
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

/// Looks at everything. `root` stands for the root of the file system.
pub(crate) fn run(socket: &Path, root: &Path, json: bool) -> Result<(), Failure> {
    let mut findings = Findings::default();
    let slots = daemon(socket, root, &mut findings);
    reader(socket, root, slots, &mut findings);
    module(root, &mut findings);
    tell(&findings, json)?;
    match findings.has_faults() {
        false => Ok(()),
        true => Err(Failure::new(Exit::Failed, "")),
    }
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
    let colour = Colour::of_stdout();
    let mut text = String::new();
    for finding in &findings.0 {
        let word = match finding.weight {
            Weight::Fault => colour.red(finding.weight.word()),
            weight => weight.word().to_owned(),
        };
        text.push_str(&format!("{word}: {}\n", printable(&finding.text)));
        if let Some(command) = &finding.command {
            text.push_str(&format!("    {}\n", printable(command)));
        }
    }
    print(&text)
}

/// The daemon, its TPM and its cards; the number of slots, if it tells.
fn daemon(socket: &Path, root: &Path, findings: &mut Findings) -> Option<u8> {
    let mut client = Client::new(socket);
    let slots = match client.call(&Request::ReaderInfo, ANSWER_TIME) {
        Ok(Reply::Reader { slots }) => slots,
        Ok(_) => {
            findings.fault(
                "daemon-version",
                "the daemon is of another version",
                Some("systemctl restart cardea"),
            );
            return None;
        }
        Err(error) => {
            let (name, text) = match &error {
                ClientError::Protocol(_) => (
                    "daemon-version",
                    "the daemon is of another version".to_owned(),
                ),
                ClientError::TimedOut => ("daemon-silent", "the daemon does not answer".to_owned()),
                _ => ("daemon-down", format!("the daemon is not there: {error}")),
            };
            findings.fault(name, text, Some("systemctl restart cardea"));
            device(root, findings);
            return None;
        }
    };
    findings.fine("daemon", "the daemon answers");
    match client.call(&Request::TpmStatus, ANSWER_TIME) {
        Ok(Reply::Tpm(status)) => tpm(&status, findings),
        Ok(Reply::Failed(failure)) if failure.kind == FailureKind::NoTpm => {
            findings.fault("tpm-away", failure.message, Some("journalctl -u cardea"));
            device(root, findings);
        }
        Ok(Reply::Failed(failure)) => findings.fault("tpm", failure.message, None),
        _ => findings.fault(
            "daemon-silent",
            "the daemon does not answer",
            Some("systemctl restart cardea"),
        ),
    }
    if let Ok(Reply::Cards(cards)) = client.call(&Request::ListCards, ANSWER_TIME) {
        for card in &cards {
            self::card(card, findings);
        }
        let lost = cards.iter().filter(|card| card.slot.is_none()).count();
        let usable =
            |card: &&CardSummary| matches!(card.state, CardState::Ready | CardState::Blocked);
        let waiting = cards
            .iter()
            .filter(usable)
            .filter(|card| card.slot.is_none())
            .count();
        if waiting > 0 && cards.len() - lost >= usize::from(slots) {
            findings.advice(
                "slots-full",
                format!("{waiting} cards have no place in the reader, which has {slots}"),
                "edit /etc/cardea/cardea.toml (slots), then systemctl restart cardea",
            );
        }
    }
    Some(slots)
}

fn tpm(status: &TpmStatus, findings: &mut Findings) {
    if status.in_lockout {
        findings.fault(
            "tpm-lockout",
            "the TPM is locked out for a while",
            Some("cardea tpm reset-lockout"),
        );
    } else {
        findings.fine("tpm", format!("the TPM answers ({})", status.manufacturer));
    }
    if !(status.owner_auth_set && status.lockout_auth_set) {
        findings.advice(
            "tpm-open",
            "the TPM has no authorisations: whoever reaches its device can delete cards",
            "cardea tpm provision",
        );
    }
    if status.card_indices > status.known_indices {
        let left = status.card_indices - status.known_indices;
        findings.advice(
            "nv-left",
            format!("{left} counters in the TPM belong to no card that is known"),
            "cardea tpm indices",
        );
    }
}

fn card(card: &CardSummary, findings: &mut Findings) {
    let name = &card.name;
    let destroy = format!("cardea card destroy {}", card.card_id);
    match card.state {
        CardState::Ready => findings.fine("card", format!("card {name} is ready")),
        CardState::Blocked => findings.advice(
            "card-blocked",
            format!("the PIN of card {name} is blocked"),
            &format!("cardea pin unblock {}", card.card_id),
        ),
        CardState::Foreign => findings.fault(
            "card-foreign",
            format!("card {name} was made by another TPM, or this one was cleared"),
            Some(&destroy),
        ),
        CardState::Lost => findings.fault(
            "card-lost",
            format!("card {name} is lost: {}", card.reason),
            Some(&destroy),
        ),
        CardState::NotTrusted | CardState::Unreadable => findings.fault(
            "card-file",
            format!("card {name} {}: {}", card.card_id, card.reason),
            Some(&destroy),
        ),
        CardState::TpmAway => findings.fault(
            "card-away",
            format!("card {name} waits: {}", card.reason),
            None,
        ),
    }
}

/// The TPM's device, where a daemon does not say more.
fn device(root: &Path, findings: &mut Findings) {
    use std::os::unix::fs::MetadataExt;
    let path = below(root, DEVICE);
    let Ok(metadata) = fs::metadata(&path) else {
        findings.fault(
            "tpm-absent",
            format!("there is no {DEVICE}: switch the TPM on in the firmware's setup, or configure another one"),
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
            format!("the user {USER} may not use {DEVICE}, which is the group {group}'s"),
            Some(&format!(
                "usermod --append --groups {group} {USER} && systemctl restart cardea"
            )),
        );
    }
}

/// The renewal of pcscd's entry.
const RENEW: &str = "cardea reader-conf > /etc/reader.conf.d/cardea && systemctl restart pcscd";

/// pcscd's entry for the reader.
fn reader(socket: &Path, root: &Path, slots: Option<u8>, findings: &mut Findings) {
    let folder = below(root, "/etc/reader.conf.d");
    let entry = entries(&folder).into_iter().find_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        text.contains("libifdcardea").then_some(text)
    });
    let Some(entry) = entry else {
        findings.fault(
            "reader-missing",
            "pcscd has no entry for the reader",
            Some(RENEW),
        );
        return;
    };
    let value = |key: &str| {
        let line = entry.lines().find_map(|line| line.trim().strip_prefix(key));
        line.map(|value| value.trim().trim_matches('"').to_owned())
    };
    let library = value("LIBPATH").unwrap_or_default();
    if !below(root, &library).exists() {
        findings.fault(
            "reader-library",
            format!("pcscd's entry names {library}, which is not there: install the handler again"),
            Some(RENEW),
        );
        return;
    }
    let device = value("DEVICENAME").unwrap_or_default();
    let device = device.strip_prefix("cardea:").unwrap_or(&device);
    let (path, count) = device.rsplit_once(':').unwrap_or((device, ""));
    if !path.is_empty() && Path::new(path) != socket {
        findings.fault(
            "reader-socket",
            format!(
                "pcscd's entry leads to {path}, and the daemon's socket is {}",
                socket.display()
            ),
            Some(RENEW),
        );
    } else if slots.is_some_and(|slots| !count.is_empty() && count != slots.to_string()) {
        findings.advice(
            "reader-slots",
            format!("pcscd's entry has {count} slots, and the daemon another number"),
            RENEW,
        );
    } else {
        findings.fine("reader", "pcscd has its entry for the reader");
    }
    if !below(root, "/run/pcscd/pcscd.comm").exists() {
        findings.fault(
            "pcscd-down",
            "pcscd is not there",
            Some("systemctl enable --now pcscd.socket"),
        );
    }
}

/// p11-kit's files of modules.
fn module(root: &Path, findings: &mut Findings) {
    let folders = ["/usr/share/p11-kit/modules", "/etc/pkcs11/modules"];
    let files: Vec<(PathBuf, String)> = folders
        .iter()
        .flat_map(|folder| entries(&below(root, folder)))
        .filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)))
        .collect();
    let named = |word: &str| {
        let of: Vec<&(PathBuf, String)> = files
            .iter()
            .filter(|(path, _)| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(word)
            })
            .collect();
        of
    };
    let value = |files: &[&(PathBuf, String)], key: &str| {
        let mut lines = files.iter().flat_map(|(_, text)| text.lines());
        lines.find_map(|line| Some(line.trim().strip_prefix(key)?.trim().to_owned()))
    };
    let ours = named("cardea");
    let Some(path) = value(&ours, "module:") else {
        findings.fault(
            "module-missing",
            "p11-kit has no file for the PKCS#11 module: install it again",
            Some("p11-kit list-modules"),
        );
        return;
    };
    if path.starts_with('/') && !below(root, &path).exists() {
        findings.fault(
            "module-path",
            format!("p11-kit's file names {path}, which is not there: install the module again"),
            Some("p11-kit list-modules"),
        );
        return;
    }
    findings.fine("module", "p11-kit has the PKCS#11 module");
    let opensc = named("opensc");
    let limited = |files: &[&(PathBuf, String)]| {
        value(files, "enable-in:")
            .or_else(|| value(files, "disable-in:"))
            .is_some()
    };
    let opensc_conf =
        fs::read_to_string(below(root, "/etc/opensc/opensc.conf")).unwrap_or_default();
    let ignored = opensc_conf
        .lines()
        .any(|line| line.trim_start().starts_with("ignored_readers") && line.contains("Cardea"));
    if !opensc.is_empty() && !ignored && !limited(&ours) && !limited(&opensc) {
        findings.advice(
            "module-twice",
            "OpenSC's module is there too: a program that has both shows RSA keys twice",
            IGNORE,
        );
    }
}

/// Has OpenSC's module leave our reader alone.
const IGNORE: &str = "printf 'app %s {\\n    ignored_readers = \"Cardea Virtual Smart Card\";\\n}\\n' opensc-pkcs11 onepin-opensc-pkcs11 >> /etc/opensc/opensc.conf";

/// The files of a folder, in order of their names.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A path of the machine below another root.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
