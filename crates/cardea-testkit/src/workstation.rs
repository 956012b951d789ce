//! A computer of a test's own, set up as the pages of `docs/uses/` say: with the files and services of its
//! `/etc`, with people, and with Cardea where it is installed.
//!
//! What: the network and mount namespace of [`Namespace`], in which `/etc`, `/run`, `/var/log` and
//! what a test names are private, the daemon's socket and the module are at their installed places, and pcscd
//! runs. So the commands of a page are run as they are written. What not: an init; a test starts services itself.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its fixtures too"
)]

use std::fs;
use std::process::Command;

use crate::namespace::Namespace;
use crate::process::{self, Outcome, Running};
use crate::rig::{bin_dir, opensc_module};
use crate::workplace::{Workplace, module};

/// The people who have an account, beside root.
pub const PEOPLE: [&str; 2] = ["alice", "bob"];

/// Its address in its network: Samba does not serve where there is none but that of the loopback.
const ADDRESS: &str = "192.0.2.1";

/// What is done inside at first.
const SETUP: &str = r#"
mkdir $root
mount -t tmpfs cardea $root
for folder in /etc $libraries/pkcs11 $folders; do
    mkdir -p $root$folder
    cp -a $folder/. $root$folder
    mount --bind $root$folder $folder
done
for folder in /run /var/log; do
    mount -t tmpfs cardea $folder
done

ip address add $address/24 dev lo
printf '127.0.0.1 localhost\n%s %s\n' $address "$names" > /etc/hosts
rm -f /etc/resolv.conf
: > /etc/resolv.conf
mkdir /run/home
for person in $people; do
    id $person > /dev/null 2>&1 || useradd --no-log-init --shell /bin/sh $person
    mkdir /run/home/$person
    chown $person /run/home/$person
done

mkdir /run/cardea /run/pcscd
mount --bind $daemon /run/cardea
: > $libraries/pkcs11/libcardea_pkcs11.so
mount --bind $module $libraries/pkcs11/libcardea_pkcs11.so
mkdir -p /etc/reader.conf.d
rm -f /etc/reader.conf.d/*
$bin/cardea reader-conf --library $bin/libifdcardea.so > /etc/reader.conf.d/cardea
"#;

/// Where the tests have the pages.
const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/uses");

/// A workplace in a computer of its own.
pub struct Workstation {
    /// pcscd; goes first.
    _pcscd: Running,
    /// The namespaces.
    namespace: Namespace,
    /// The daemon and the folder in which root's commands run.
    pub workplace: Workplace,
}

impl Workstation {
    /// Without a card; it has these names in the network, and the test may write into these folders, whose
    /// content is the machine's at first. Nothing is written to a disk.
    #[must_use]
    pub fn new(names: &[&str], folders: &[&str]) -> Self {
        let workplace = Workplace::new();
        let script = format!(
            "root={} folders='{}' names='{}' people='{}' address={ADDRESS}\n\
             bin={} libraries=$(dirname {}) daemon={} module={}\n{SETUP}",
            workplace.text("root"),
            folders.join(" "),
            names.join(" "),
            PEOPLE.join(" "),
            bin_dir().display(),
            opensc_module(),
            workplace.daemon.socket().parent().unwrap().display(),
            module(),
        );
        let namespace = Namespace::new(workplace.path("").as_path(), &script);
        let mut pcscd = Running::start(
            namespace.command("pcscd").arg("--foreground"),
            &workplace.path("pcscd.log"),
        );
        let there = |path: &str| process::run(namespace.command("test").args(["-S", path])).success;
        pcscd.wait_ready(|_| there("/run/pcscd/pcscd.comm"));
        Self {
            _pcscd: pcscd,
            namespace,
            workplace,
        }
    }

    /// Waits until pcscd shows the card that has just been made.
    pub fn wait_for_card(&self) {
        let mut look = self.service("opensc-tool --reader 0 --atr");
        process::wait_for("the card's insertion", || process::run(&mut look).success);
    }

    /// Whether a file is there.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        process::run(self.namespace.command("test").args(["-e", path])).success
    }

    /// A program of root's inside, not yet started: its name and its arguments, with blanks between.
    #[must_use]
    pub fn service(&self, line: &str) -> Command {
        let mut words = line.split_ascii_whitespace();
        let mut command = self.namespace.command(words.next().unwrap());
        command.args(words).env("LC_ALL", "C");
        command
    }

    /// Starts a service and waits until it is ready.
    #[must_use]
    pub fn start(&self, line: &str, mut ready: impl FnMut(&Running) -> bool) -> Running {
        let name = line.split_ascii_whitespace().next().unwrap();
        let log = self.workplace.path(&format!("{name}.log"));
        let mut service = Running::start(&mut self.service(line), &log);
        service.wait_ready(&mut ready);
        service
    }

    /// Runs shell commands as somebody who types `answer` when asked: root in the workplace's folder, people at home.
    #[must_use]
    pub fn types(&self, user: &str, answer: &str, script: &str) -> Outcome {
        let home = match user {
            "root" => self.workplace.text(""),
            _ => format!("/run/home/{user}"),
        };
        let shell = "cd \"$HOME\" && printf '%s\\n' \"$1\" | sh -e -c \"$2\"";
        let mut command = self.namespace.command("setpriv");
        command
            .args([
                "--reuid",
                user,
                "--regid",
                user,
                "--init-groups",
                "env",
                "-i",
            ])
            .args(["LC_ALL=C", "KRB5_TRACE=trace", "KRB5CCNAME=tickets"])
            .arg(format!("HOME={home}"))
            .arg(format!("USER={user}"))
            .arg(format!(
                "PATH={}:/usr/sbin:/usr/bin:/sbin:/bin",
                bin_dir().display()
            ))
            .args(["sh", "-c", shell, "sh", answer, script]);
        process::run(&mut command)
    }

    /// Runs shell commands of root's, which must succeed; what they print.
    pub fn does(&self, script: &str) -> String {
        let outcome = self.types("root", "", script);
        assert!(outcome.success, "{script}\nfailed:\n{}", outcome.text);
        outcome.text
    }

    /// Runs the commands of a section of a page as root.
    pub fn follow(&self, page: &str, section: &str) -> String {
        self.does(&commands(page, section))
    }
}

/// The text of a page.
#[must_use]
pub fn page(name: &str) -> String {
    fs::read_to_string(format!("{PAGES}/{name}.md")).unwrap()
}

/// The shell commands of a section of a page.
#[must_use]
pub fn commands(name: &str, section: &str) -> String {
    let text = page(name);
    let found = text.split("\n## ").find_map(|part| {
        let (title, rest) = part.split_once('\n')?;
        (title == section).then_some(rest)
    });
    let found = found.unwrap_or_else(|| panic!("no section {section} in {name}.md"));
    let blocks: Vec<_> = found
        .split("```sh\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .collect();
    assert!(!blocks.is_empty(), "no commands in {section} of {name}.md");
    blocks.concat()
}
