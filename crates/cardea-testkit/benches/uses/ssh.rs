//! From `ssh` to a shell: OpenSSH's client and server on one machine, the card beside a key file of the same kind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cardea_testkit::installed::{Installed, SERVER};
use cardea_testkit::rig::PIN;
use cardea_testkit::workplace::{KEYS, Workplace, module};

use crate::statistics::percentiles;

/// Where the private key is; `agent` is one that has it already.
const WAYS: [&str; 4] = ["file", "card", "file-agent", "card-agent"];

/// Signs in with each key each way in turn; the clock is the shell's own, so that no process is started beside `ssh`.
const MEASURE: &str = r#"
eval $(ssh-agent -s) > /dev/null
trap 'kill $SSH_AGENT_PID' EXIT
ssh-add -q rsa.file ec.file
ssh-add -s $(pkg-config --variable=module cardea-pkcs11) 2> /dev/null || exit 1
rounds=$1
shift
for ((round = 0; round <= rounds; round++)); do
    for ((turn = 0; turn < $#; turn++)); do
        which=$(((round + turn) % $# + 1))
        way=${!which}
        begin=${EPOCHREALTIME/./}
        ssh $way true || exit 1
        end=${EPOCHREALTIME/./}
        # The first round is for warming up.
        ((round == 0)) || echo $way $((end - begin))
    done
done
"#;

pub(crate) fn run(quick: bool) {
    let workplace = Workplace::with_keys();
    let machine = Installed::around(&workplace);
    let _server = machine.ssh_server();
    let mut known = String::new();
    let mut hosts = String::new();
    machine.does("ssh-keygen -q -t rsa -b 2048 -N '' -f rsa.file; ssh-keygen -q -t ecdsa -b 256 -N '' -f ec.file");
    for key in KEYS {
        let public = workplace.text(&format!("{key}.pub"));
        let export = ["key", "export-public", "Alice", key, "--format", "ssh"];
        workplace.cardea(&[&export[..], &["--out", &public]].concat());
        let home = workplace.text("");
        for way in WAYS {
            let own = match way {
                "file" => format!("IdentityFile {home}/{key}.file\nIdentityAgent none\n"),
                "card" => format!(
                    "PKCS11Provider {}\nIdentityFile {home}/{key}.pub\nIdentityAgent none\n",
                    module()
                ),
                "file-agent" => format!("IdentityFile {home}/{key}.file.pub\n"),
                _ => format!("IdentityFile {home}/{key}.pub\n"),
            };
            hosts += &format!(
                "Host {key}-{way}\nHostName {SERVER}\nUser alice\nIdentitiesOnly yes\n{own}"
            );
        }
        for file in [public, workplace.text(&format!("{key}.file.pub"))] {
            known += &fs::read_to_string(file).unwrap();
        }
    }
    machine.give_alice(".ssh/authorized_keys", &known);
    fs::create_dir(workplace.path(".ssh")).unwrap();
    fs::write(workplace.path(".ssh/config"), hosts).unwrap();
    let ask = workplace.path("askpass");
    fs::write(&ask, format!("#!/bin/sh\necho {PIN}\n")).unwrap();
    fs::set_permissions(&ask, fs::Permissions::from_mode(0o755)).unwrap();

    let rounds = if quick { "5" } else { "60" };
    let mut command = machine.command("bash");
    command
        .env("SSH_ASKPASS", ask)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .args(["-c", MEASURE, "bash", rounds]);
    for key in KEYS {
        command.args(WAYS.map(|way| format!("{key}-{way}")));
    }
    // Several hundred sign-ins take longer than a test may.
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut times: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (way, micros) = line.split_once(' ').unwrap();
        let time = Duration::from_micros(micros.parse().unwrap());
        times.entry(way.to_owned()).or_default().push(time);
    }
    println!("| `ssh` to a shell | key file p50 ms (p95) | card p50 ms (p95) | ratio p50 |");
    println!("|---|---|---|---|");
    for (key, kind) in KEYS.iter().zip(["RSA-2048", "P-256"]) {
        for (suffix, name) in [("", "by itself"), ("-agent", "through ssh-agent")] {
            let mut of = |place: &str| {
                let times = times.get_mut(&format!("{key}-{place}{suffix}"));
                let (p50, p95) = percentiles(times.unwrap());
                (p50 / 1000.0, p95 / 1000.0)
            };
            let (file, card) = (of("file"), of("card"));
            println!(
                "| {kind}, {name} | {:.0} ({:.0}) | {:.0} ({:.0}) | {:.2} |",
                file.0,
                file.1,
                card.0,
                card.1,
                card.0 / file.0
            );
        }
    }
    println!();
}
