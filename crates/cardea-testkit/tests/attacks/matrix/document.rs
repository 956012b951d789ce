//! `docs/tpm-matrix.md`, written from the rows.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::captured::{HOLDERS, POWER, expected, kept};
use super::row::Object;
use super::row::{
    ARMED, Answered, BLOBS, EC_KEYS, How, INDICES, KEYS, OBJECTS, Row, SESSIONS, Seen,
};
use crate::raw::{COMMANDS, response_name};

const HEAD: &str = "\
# Every TPM command against a live card

Anyone who reaches the TPM device can send it any command.
This table lists every command of the TPM and what happens when it is tried against the objects of a live card.
The tests try each row on a software TPM, libtpms 0.9.2 (`crates/cardea-testkit/tests/attacks/matrix`).
They fail if the TPM has a command without a row, if a command takes an object without a row, and if an answer is not the one in the table.
After each attempt they also check that the card is whole, has all its tries and signs only after the PIN, unless the outcome says otherwise.
`cargo xtask tpms` tries them on the parts of [tpms.md](tpms.md) too.
Of cards whose counts only the owner reads ([design/tpm.md](design/tpm.md), section 16), the owner can read and certify an index (NV_Read and NV_Certify succeed; NV_ReadLock, PolicyNV and PolicyAuthorizeNV fail for other reasons), and there are no approvals that ask for no secret; all else is as in the table.

This file is generated: `CARDEA_RECORD=1 cargo test -p cardea-testkit --test attacks document` writes it.

What the attacker has, in addition to the TPM device:

- *device*: nothing else. Handles are shared with the daemon, as without a resource manager.
- *card file*: the card file and the host key.
- *recording*: a recording of the bus.
- *owner value*: the value of the owner, endorsement or lockout hierarchy, which is usually empty.
- *platform value*: the value of the platform hierarchy, which the firmware keeps; here it is empty.
- *PIN once*: the PIN, captured once.
- *active on the bus*: the ability to change answers.

An *always-class* key wants the PIN every time; the other keys are of the session class.
*Card keys* are an EC key, an always-class EC key, an RSA key and an imported EC key.
Each use of a key is tried in nine ways without the PIN: with the key's empty value; in an HMAC session, in one with a salt and in one bound to the key; in a policy session, and in policy sessions with PolicyPassword, PolicyAuthValue and PolicyOR; in a trial session.
Approvals (P3, A0 and others) have their names from [design/tpm.md](design/tpm.md).
`0x000` is success; the other response codes are named at the end.

| command | object | attacker has | tried | outcome |
|---|---|---|---|---|
";

const CAPTURED: &str = "
## A captured PIN

Anyone who has the PIN once and the TPM device can obtain proof of it that lasts: a ticket, or an armed session that is saved.
Nothing in the TPM revokes them; the table shows what ends them.
The second column is what the holder then does, the others what happens to the TPM after that: nothing, resume (from suspend to RAM), restart, reset, or a power cut without a shutdown.
A restart is a shutdown that saves the state, which anyone with the device can request before a power cut (Shutdown with STATE); a reset is an ordinary shutdown and start.
After a suspicion, therefore, first shut the machine down and switch it on again, then change the PIN.

| kept | the holder | nothing | resume | restart | reset | power cut |
|---|---|---|---|---|---|---|
";

const CODES: &str = "
## Response codes

| code | name |
|---|---|
";

/// The whole document.
fn document() -> String {
    let rows = super::rows();
    let mut codes = BTreeSet::new();
    let mut text = HEAD.to_owned();
    for (command, name) in COMMANDS {
        for row in rows.iter().filter(|row| row.command == *command) {
            write_row(&mut text, &mut codes, row, name);
        }
    }
    text += CAPTURED;
    for kept in kept() {
        for holder in HOLDERS {
            write!(text, "| {kept} | {holder} |").unwrap();
            for power in POWER {
                let code = expected(kept, holder, power);
                codes.insert(code);
                match code {
                    0 => text += " works |",
                    code => write!(text, " `{code:#05X}` |").unwrap(),
                }
            }
            text.push('\n');
        }
    }
    text += CODES;
    for code in codes {
        let name = response_name(code).unwrap_or_else(|| panic!("{code:#X} has no name"));
        writeln!(text, "| `{code:#05X}` | {name} |").unwrap();
    }
    text
}

fn write_row(text: &mut String, codes: &mut BTreeSet<u32>, row: &Row, name: &str) {
    let knowledge = row.knowledge;
    // Objects with the same outcome share a line.
    let mut lines: Vec<(&Seen, Vec<Object>)> = Vec::new();
    for (object, seen) in &row.cases {
        match lines.iter_mut().find(|(found, _)| *found == seen) {
            Some((_, objects)) => objects.push(*object),
            None => lines.push((seen, vec![*object])),
        }
    }
    for (seen, mut objects) in lines {
        objects.sort_unstable();
        let objects = name_all(&objects);
        let (tried, outcome) = match row.how {
            How::Tried(_) => {
                let outcome = outcome(codes, seen);
                (row.tried, outcome + row.after.words())
            }
            How::NotTried(reason) => ("–", format!("not tried: {reason}")),
            How::Absent(known) => ("–", format!("not on this TPM: {known}")),
        };
        writeln!(
            text,
            "| {name} | {objects} | {knowledge} | {tried} | {outcome} |"
        )
        .unwrap();
    }
}

/// Names of objects, the usual sets under one name.
fn name_all(objects: &[Object]) -> String {
    let sets: [(&[Object], &str); 7] = [
        (OBJECTS, "card keys, sealed admin key, storage root key"),
        (BLOBS, "card keys, sealed admin key"),
        (KEYS, "card keys"),
        (EC_KEYS, "EC keys"),
        (INDICES, "PIN, ADM and PUK index"),
        (SESSIONS, "armed sessions, channel"),
        (ARMED, "armed sessions"),
    ];
    if let Some((_, name)) = sets.iter().find(|(set, _)| *set == objects) {
        return (*name).to_owned();
    }
    let names: Vec<String> = objects.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Steps with the same answer share it.
fn outcome(codes: &mut BTreeSet<u32>, seen: &Seen) -> String {
    let mut steps = seen.0.iter().peekable();
    let mut parts = Vec::new();
    while let Some((first, answered)) = steps.next() {
        let mut last = first;
        let mut count = 1;
        while let Some((name, _)) = steps.next_if(|(_, next)| next == answered) {
            (last, count) = (name, count + 1);
        }
        let names = match (*first, count) {
            ("", _) => String::new(),
            (first, 1) => first.to_owned(),
            (first, 2) => format!("{first}, {last}"),
            (first, _) => format!("{first} … {last}"),
        };
        parts.push(match answered {
            Answered::Code(code) => {
                codes.insert(*code);
                format!("{names} `{code:#05X}`").trim_start().to_owned()
            }
            Answered::Words(words) => format!("{names}: {words}"),
        });
    }
    parts.join("; ")
}

#[cfg(not(feature = "weakened"))]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::document;

    #[test]
    fn document_is_what_the_rows_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tpm-matrix.md");
        let written = document();
        if std::env::var_os("CARDEA_RECORD").is_some() {
            fs::write(&path, &written).unwrap();
        }
        let found = fs::read_to_string(path).unwrap_or_default();
        let differs = written.lines().zip(found.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "CARDEA_RECORD=1 makes it anew");
        assert_eq!(found, written, "CARDEA_RECORD=1 makes it anew");
    }
}
