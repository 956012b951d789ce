//! A computer with a card that signs in to networks, by the commands of a page: what the pages of 802.1X and of VPNs
//! have in common.

use std::cell::Cell;
use std::fs;
use std::process::Command;

use cardea_testkit::installed::Installed;
use cardea_testkit::page::Page;
use cardea_testkit::process::{Outcome, Running, run};
use cardea_testkit::rig::PIN;
use cardea_testkit::workplace::Workplace;

/// The PIN on these pages.
const EXAMPLE: &str = "123456";

/// Its heading is the same on all of these pages.
const CERTIFICATE: &str = "A certificate on the card";

/// A computer on which the commands of one page run.
pub(crate) struct Computer {
    pub(crate) machine: Installed,
    pub(crate) workplace: Workplace,
    page: Page,
    /// How many commands were started.
    started: Cell<u32>,
}

impl Computer {
    /// With the card of the page, whose key is RSA-2048. What is changed below these folders of `/etc` is seen by
    /// this computer alone.
    pub(crate) fn with_card(page: &str, folders: &[&str]) -> Self {
        let workplace = Workplace::new();
        let machine = Installed::around(&workplace);
        for folder in folders {
            machine.does(&format!(
                "cp -a /etc/{folder} own-{folder}\nmount --bind own-{folder} /etc/{folder}"
            ));
        }
        let computer = Self {
            machine,
            workplace,
            page: Page::of_uses(page),
            started: Cell::new(0),
        };
        computer.follow(CERTIFICATE);
        computer
    }

    /// Puts a key on P-256, and its certificate of the same authority, in the place of the card's.
    pub(crate) fn change_to_p256(&self, label: &str) {
        self.workplace.delete(label);
        let commands = self.page.section(CERTIFICATE).replace("rsa-2048", "p-256");
        let (_, rest) = commands.split_once('\n').unwrap();
        let kept = rest.lines().filter(|line| !line.contains("-x509"));
        let script: Vec<_> = kept.collect();
        self.machine.does(&script.join("\n"));
    }

    /// Another authority, `other.pem`.
    pub(crate) fn another_authority(&self) {
        self.machine.does(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj '/CN=Other CA'",
        );
    }

    /// Puts a certificate of that authority in the place of the card's.
    pub(crate) fn certify_by(&self, authority: &str) {
        self.machine.does(&format!(
            "openssl x509 -req -in alice.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 2 \
             -extfile alice.ext -out again.pem\n\
             cardea cert import Alice again.pem --pin-file pin"
        ));
    }

    /// The commands of a section, with the card's PIN.
    pub(crate) fn section(&self, heading: &str) -> String {
        self.page.section(heading).replace(EXAMPLE, PIN)
    }

    /// The commands of a section, which must succeed.
    pub(crate) fn follow(&self, heading: &str) {
        self.machine.does(&self.section(heading));
    }

    /// Runs the commands of a section but for the last one, and returns that.
    pub(crate) fn prepare(&self, heading: &str) -> String {
        let section = self.section(heading);
        let (before, last) = section.trim_end().rsplit_once('\n').unwrap();
        self.machine.does(before);
        last.to_owned()
    }

    /// A command that goes on.
    pub(crate) fn start(&self, command: &str) -> Running {
        self.start_by(&mut self.machine.command("sh"), command)
    }

    /// The same by a certain shell. Each command has a log of its own.
    fn start_by(&self, shell: &mut Command, command: &str) -> Running {
        let number = self.started.get();
        self.started.set(number + 1);
        let log = self.workplace.path(&format!("log-{number}"));
        Running::start(shell.args(["-c", &format!("exec {command}")]), &log)
    }

    /// The line of the page that begins so, of those that are not run as they stand.
    pub(crate) fn line(&self, beginning: &str) -> String {
        self.page.line(beginning).unwrap().replace(EXAMPLE, PIN)
    }

    /// Replaces something in a file.
    pub(crate) fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.machine.path(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// Whether the page says this.
    pub(crate) fn says(&self, words: &str) -> bool {
        self.page.says(words)
    }

    /// What stands on the page in a block of that kind.
    pub(crate) fn block(&self, kind: &str) -> &str {
        self.page.block(kind).unwrap()
    }

    /// A program at its end.
    pub(crate) fn runs(&self, line: &str) -> Outcome {
        run(self.machine.command("sh").args(["-c", line]))
    }

    /// How many signatures the audit has.
    pub(crate) fn signatures(&self) -> usize {
        let audit = self.workplace.cardea(&["audit"]);
        let used = audit.lines().filter(|line| line.contains("key-used"));
        used.count()
    }
}

/// A server on a network of its own, joined to a computer's by a cable; it has the computer's files.
pub(crate) struct Gateway<'a> {
    computer: &'a Computer,
    holder: Running,
}

impl<'a> Gateway<'a> {
    /// The computer finds it as `vpn.example.org`.
    pub(crate) fn beside(computer: &'a Computer) -> Self {
        let script = "mount -t tmpfs run /run\nip link set lo up\necho made\nexec sleep infinity";
        let mut holder = computer.start(&format!(
            "unshare --net --mount --propagation private sh -e -c '{script}'"
        ));
        said(&mut holder, "made");
        let gateway = Self { computer, holder };
        computer.machine.does(&format!(
            "ip link add cable type veth peer name cable netns {}\n\
             ip address add 192.0.2.1/24 dev cable\nip link set cable up\n\
             echo 192.0.2.2 vpn.example.org >> /etc/hosts",
            gateway.holder.pid()
        ));
        gateway.does("ip address add 192.0.2.2/24 dev cable\nip link set cable up");
        gateway
    }

    fn shell(&self) -> Command {
        let mut command = self.computer.machine.command("nsenter");
        command
            .args(["--target", &self.holder.pid().to_string()])
            .args(["--net", "--mount"])
            .arg(format!("--wd={}", self.computer.workplace.text("")))
            .arg("sh");
        command
    }

    /// A shell's commands there, which must succeed.
    pub(crate) fn does(&self, script: &str) {
        let done = run(self.shell().args(["-e", "-c", script]));
        assert!(done.success, "{script}\n{}", done.text);
    }

    /// A command that goes on there.
    pub(crate) fn start(&self, command: &str) -> Running {
        self.computer.start_by(&mut self.shell(), command)
    }
}

/// Waits until a program has said something.
pub(crate) fn said(program: &mut Running, words: &str) {
    program.wait_ready(|program| program.log().contains(words));
}
