//! The endpoint mapper, asked by programs of others.

use std::path::Path;
use std::process::{Command, Stdio};

use cardea_testkit::process::run;

use crate::cards::Target;

/// An address of this machine that nobody else uses: Samba asks at port 135 alone.
const HOST: &str = "127.0.0.135";

#[test]
fn impacket_and_samba_find_the_interfaces_and_no_others() {
    let addresses = format!("listen = ['127.0.0.1:0', '{HOST}:135']\n");
    let target = Target::listening(&addresses, Stdio::null());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/endpoint_client.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(script).arg(target.port());
    let interfaces = [
        // The resolver, the manager, another version of it, nobody's.
        "99FCFEC4-5260-101B-BBCB-00AA0021347A,0.0",
        "112B1DFF-D9DC-41F7-869F-D67FEE7CB591,0.0",
        "112B1DFF-D9DC-41F7-869F-D67FEE7CB591,1.0",
        "112B1DFF-D9DC-41F7-869F-D67FEE7CB592,0.0",
    ];
    let said = run(command.args(interfaces));
    assert!(said.success, "{}", said.text);
    let found = format!("ncacn_ip_tcp:127.0.0.1[{}]", target.port());
    let lines: Vec<_> = said.text.lines().collect();
    assert_eq!(lines[..2], [&found, &found], "{}", said.text);
    for line in &lines[2..] {
        assert!(
            line.contains("ept_s_not_registered") || line.contains("16c9a0d6"),
            "{line}"
        );
    }
    let samba = |interface: &str| {
        let mut command = Command::new("rpcclient");
        command.args(["--configfile=/dev/null", "--no-pass", "--user=%"]);
        command.arg(format!("ncacn_ip_tcp:{HOST}"));
        command.arg(format!("--command=epmmap {interface} ncacn_ip_tcp"));
        run(&mut command).text
    };
    let found = samba("IOXIDResolver");
    assert!(
        found.contains(&format!("ncacn_ip_tcp:{HOST}[135,")),
        "{found}"
    );
    let missing = samba("winreg");
    assert!(missing.contains("0x16C9A0D6"), "{missing}");
}
