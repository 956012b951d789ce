//! What `cardea tpm status` and `cardea doctor` say on each part, as text files in `shown`.

use std::path::PathBuf;

use cardea_testkit::multiplexer::Profile;
use cardea_testkit::workplace::Workplace;
use serde_json::Value;

/// Findings of the doctor that are about the TPM and its cards; the rest is about the machine.
const FINDINGS: [&str; 5] = ["card", "key", "nv-", "slots", "tpm"];

/// Writes the file of a part if that is wanted; else it must say the same.
pub(crate) fn compare(name: &str, workplace: &Workplace) {
    let text = format!(
        "$ cardea tpm status\n{}\n$ cardea doctor\n{}",
        status(name, workplace),
        findings(workplace)
    );
    let path = path(name);
    if std::env::var_os("CARDEA_RECORD").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, text, "{}: CARDEA_RECORD=1 writes it", path.display());
}

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tpms/shown"));
    folder.join(format!("{name}.txt"))
}

/// Without where the TPM is, and without the version of software that differs from machine to machine.
fn status(name: &str, workplace: &Workplace) -> String {
    let is_own = Profile::named(name).firmware.is_none();
    let printed = workplace.daemon.printed(&["tpm", "status"]);
    let lines = printed.lines().map(|line| {
        let label = line.split_inclusive(':').next().unwrap_or(line);
        match label {
            "address:" => format!("{label:<15}…\n"),
            "firmware:" | "revision:" if is_own => format!("{label:<15}…\n"),
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

fn findings(workplace: &Workplace) -> String {
    let looked = workplace.daemon.cardea(&["doctor", "--json"]).text;
    let end = looked.rfind(']').unwrap();
    let Value::Array(findings) = serde_json::from_str(looked.get(..=end).unwrap()).unwrap() else {
        panic!("{looked}");
    };
    let of = |finding: &Value, member: &str| {
        let text = finding.get(member).and_then(Value::as_str);
        text.map(str::to_owned)
    };
    let mut text = String::new();
    for finding in &findings {
        let name = of(finding, "name").unwrap();
        if !FINDINGS.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let (weight, said) = (of(finding, "weight").unwrap(), of(finding, "text").unwrap());
        text.push_str(&format!("{weight}: {said}\n"));
        if let Some(command) = of(finding, "command") {
            text.push_str(&format!("    {command}\n"));
        }
    }
    text
}

#[test]
fn each_part_has_a_file_and_there_are_no_others() {
    let folder = path("any");
    let mut kept: Vec<String> = std::fs::read_dir(folder.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort_unstable();
    let mut expected: Vec<String> = Profile::names().map(|name| format!("{name}.txt")).collect();
    expected.sort_unstable();
    assert_eq!(kept, expected);
}
