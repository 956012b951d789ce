//! Another machine makes and destroys a card through port 135 of the running system, with impacket.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use cardea_testkit::machine::{Boot, Report};
use cardea_testkit::page::Page;
use serde_json::{Value, json};

use super::{Shown, has, is};

/// How the page makes an account.
pub(super) const ACCOUNT: &str = "cardea-tpmvsc hash ann >> /etc/cardea/tpmvsc/accounts";

/// How it opens the port.
pub(super) const SOCKET: &str = "systemctl enable --now cardea-tpmvsc.socket";

/// How it says who may call, with the network that the machine is in.
pub(super) const LIMIT: &str = "[Socket]\nIPAddressDeny=any\nIPAddressAllow=10.0.2.0/24\n";

/// Typed twice for the account.
pub(super) const PASSWORD: &str = "battery staple";

/// What `systemd-analyze security` may find at most; 10 is not confined at all.
const EXPOSURE: f64 = 1.5;

pub(super) fn are_on_their_page() {
    let page = Page::of_docs("remote-cards");
    for command in [ACCOUNT, SOCKET, "IPAddressDeny=any", "IPAddressAllow=10."] {
        assert!(page.says(command), "{command} is not on the page");
    }
}

/// Makes a card and destroys it, as soon as the port is open.
pub(super) fn by_another_machine(boot: &mut Boot) {
    boot.wait_fact("remote-ready");
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../cardea-tpmvsc/tests/remote_cards.py");
    let mut client = boot
        .beside("/usr/bin/python3")
        .arg("-B")
        .arg(script)
        .args(["135", "ntlm", "privacy", "ann", PASSWORD, "1", "remote"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut orders = client.stdin.take().unwrap();
    let mut answers = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut answer =
        || -> Value { serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap() };
    assert_eq!(answer().get("activated"), Some(&json!(true)));
    let create = json!({"call": "create", "method": 1, "name": "Far"});
    writeln!(orders, "{create}").unwrap();
    let card = answer();
    assert_eq!(card.get("result"), Some(&json!(0)), "{card}");
    let destroy = json!({"call": "destroy", "instance": card.get("instance")});
    writeln!(orders, "{destroy}").unwrap();
    assert_eq!(answer().get("result"), Some(&json!(0)));
    drop(orders);
    assert!(client.wait().unwrap().success());
}

pub(super) fn made(first: &Report, shown: &mut Shown) {
    is(first, "remote-without-account", "failed");
    is(first, "remote-folder", "root root 700");
    has(first, "remote-account", "ntlm ");
    is(first, "remote-ready", "active enabled open");
    is(first, "remote-strangers", "ended with 124");
    for event in ["card-created", "card-destroyed"] {
        let record = first.get(&format!("remote-{event}"));
        for part in [
            r#""principal":"ann""#,
            r#""address":"10.0.2.2""#,
            r#""name":"Far""#,
        ] {
            assert!(record.contains(part), "{part} is not in {record}");
        }
        // The daemon has its own word on the service.
        assert!(
            record.contains(r#""unit":"cardea-tpmvsc.service""#),
            "{record}"
        );
    }
    is(first, "remote-user", "cardea-tpmvsc");
    is(first, "remote-capabilities", "0000000000000000");
    is(first, "remote-apparmor", "cardea-tpmvsc (enforce)");
    let exposure: f64 = first.get("remote-exposure").trim().parse().unwrap();
    assert!(exposure <= EXPOSURE, "{exposure}");
    shown.passed("impacket on another machine makes and destroys a card through port 135, with an account as credential, confined by AppArmor");
}
