//! Policies that open hierarchies without their authorisation, and what provisioning does to them.

use cardea_testkit::multiplexer::{Fault, Trigger};
use serde_json::Value;

use crate::Place;

const SET_PRIMARY_POLICY: u32 = 0x12E;

/// TPM_RC_POLICY: any refusal.
const REFUSED: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0x01, 0x26];

impl Place {
    fn tool(&self, program: &str, arguments: &[&str]) {
        let done = self.tpm.tpm2(program, arguments);
        assert!(done.success, "{program}: {}", done.text);
        // There is no resource manager: what the tools have loaded takes the daemon's slots.
        assert!(self.tpm.tpm2("tpm2_flushcontext", &["-l"]).success);
    }

    /// Gives a hierarchy a policy, as whoever has the device can while its authorisation is empty.
    fn set_policy(&self, hierarchy: &str) {
        let folder = tempfile::tempdir().unwrap();
        let digest = folder.path().join("digest").display().to_string();
        std::fs::write(&digest, [7; 32]).unwrap();
        let arguments = ["-C", hierarchy, "-L", &digest, "-g", "sha256"];
        self.tool("tpm2_setprimarypolicy", &arguments);
    }

    fn policies(&self) -> Vec<String> {
        let status = self.daemon.printed(&["tpm", "status", "--json"]);
        let status: Value = serde_json::from_str(&status).unwrap();
        let policies = status["hierarchy_policies"].as_array().unwrap().iter();
        policies
            .map(|hierarchy| hierarchy.as_str().unwrap().to_owned())
            .collect()
    }

    /// What the doctor says of the policies.
    fn advice(&self) -> Option<Value> {
        let looked = self.daemon.cardea(&["doctor", "--json"]).text;
        let end = looked.rfind(']').unwrap();
        let findings: Value = serde_json::from_str(&looked[..=end]).unwrap();
        let mut findings = findings.as_array().unwrap().iter();
        findings
            .find(|finding| finding["name"] == "tpm-policy")
            .cloned()
    }
}

/// Where the values go.
fn safe(folder: &tempfile::TempDir) -> String {
    folder.path().join("safe").display().to_string()
}

#[test]
fn policies_from_before_are_shown_and_emptied_by_provisioning() {
    let place = Place::new();
    let folder = tempfile::tempdir().unwrap();
    assert!(place.policies().is_empty() && place.advice().is_none());
    for hierarchy in ["o", "l", "e"] {
        place.set_policy(hierarchy);
    }
    let mut shown = place.policies();
    shown.sort();
    assert_eq!(shown, ["endorsement", "lockout", "owner"]);
    let text = place.daemon.printed(&["tpm", "status"]);
    assert!(
        text.contains("anyone who satisfies it needs no authorisation"),
        "{text}"
    );
    let advice = place.advice().unwrap();
    assert_eq!(advice["weight"], "fault");
    assert_eq!(advice["command"], "cardea tpm provision --out NEW-FILE");

    let out = safe(&folder);
    let done = place
        .daemon
        .cardea(&["tpm", "provision", "--yes", "--out", &out]);
    assert!(done.success, "{}", done.text);
    assert!(!done.text.contains("not emptied"), "{}", done.text);
    assert!(place.policies().is_empty() && place.advice().is_none());
    let text = place.daemon.printed(&["tpm", "status"]);
    assert!(text.contains("only its authorisation opens"), "{text}");
}

#[test]
fn policy_that_is_left_is_told_beside_what_was_set() {
    let place = Place::new();
    let folder = tempfile::tempdir().unwrap();
    // The daemon has started the TPM by then.
    assert!(place.policies().is_empty());
    place.set_policy("l");
    let out = safe(&folder);
    // The lockout's comes first.
    let refusal = Fault::Replace(REFUSED.to_vec());
    place
        .tpm
        .inject(Trigger::command(SET_PRIMARY_POLICY), refusal);
    let done = place
        .daemon
        .cardea(&["tpm", "provision", "--yes", "--out", &out]);
    assert!(!done.success);
    for told in [
        "lockout authorisation set",
        "owner authorisation set",
        "the lockout hierarchy's policy was not emptied",
        "set so far: lockout, owner",
    ] {
        assert!(done.text.contains(told), "{told}: {}", done.text);
    }
    assert_eq!(place.policies(), ["lockout"]);
    let command = place.advice().unwrap()["command"].clone();
    let command = command.as_str().unwrap();
    assert!(command.contains("--old-lockout-auth-file"), "{command}");
    let again = [
        &["tpm", "provision", "--yes", "--only", "lockout"][..],
        &["--lockout-auth-file", &out, "--old-lockout-auth-file", &out],
    ];
    let done = place.daemon.cardea(&again.concat());
    assert!(done.success, "{}", done.text);
    assert!(place.policies().is_empty());
}

#[test]
fn endorsement_of_other_software_is_told_and_provisioning_goes_on() {
    let place = Place::new();
    let folder = tempfile::tempdir().unwrap();
    assert!(place.policies().is_empty());
    place.set_policy("e");
    place.tool("tpm2_changeauth", &["-c", "e", "theirs"]);
    let out = safe(&folder);
    let done = place
        .daemon
        .cardea(&["tpm", "provision", "--yes", "--out", &out]);
    assert!(done.success, "{}", done.text);
    assert!(
        done.text
            .contains("endorsement authorisation was set by other software"),
        "{}",
        done.text
    );
    assert_eq!(place.policies(), ["endorsement"]);
}
