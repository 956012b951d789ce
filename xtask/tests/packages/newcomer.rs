//! A newcomer at a terminal of 80 columns, on a system with the packages: the README's commands in its order, five wrong
//! PINs and the PUK, then `cardea setup`. All that is shown is kept in `newcomer.txt`.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::System;

const PIN: &str = "271828";

/// Longest time from what is typed to what is awaited.
const PATIENCE: Duration = Duration::from_secs(120);

/// The end of the shell's prompt, before which it shows the exit code of the command before.
const PROMPT: &str = ">$ ";

/// What systemd does on a computer: starts the bus, the daemon and pcscd; then there is a shell.
const COMPUTER: &str = r#"
stty cols 80 rows 24
mount -t overlay -o lowerdir="$1",upperdir=changes,workdir=work system root
mkdir -p home root/root
mount --bind home root/root
mount -t proc proc root/proc
mount -t tmpfs dev root/dev
mount -t tmpfs run root/run
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 root/dev/${device%:*} c 1 ${device#*:}
done
mknod -m 666 root/dev/tty c 5 0
exec chroot root sh -ec '
    mkdir -p /run/dbus /run/pcscd
    install -d -o cardea -g cardea /run/cardea /var/lib/cardea
    dbus-daemon --system --fork
    setpriv --reuid=cardea --regid=cardea --init-groups cardea-daemon < /dev/null 2> /var/log/cardea &
    pcscd --foreground < /dev/null > /var/log/pcscd 2>&1 &
    until cardea card list && opensc-tool --list-readers | grep Cardea; do sleep 0.1; done > /dev/null 2>&1
    cd
    PS1="<\$?>\$ " exec sh -i +m
'
"#;

/// Follows the README.
pub(crate) fn follows_the_readme(system: &System) {
    let commands = readme();
    let (install, commands) = commands.split_first().unwrap();
    assert!(install.starts_with("apt install "), "{install}");
    system.does(&format!("cd /packages; {install}"));
    system.put(
        "etc/cardea/cardea.toml",
        b"tpm = \"simulator:/var/lib/cardea/software-tpm\"\n",
    );
    let mut terminal = Terminal::of(system);
    let mut puk = String::new();
    for command in commands {
        if command.starts_with("./") {
            // The source tree's own.
            continue;
        }
        let words: Vec<&str> = command.split(' ').collect();
        match words[..] {
            ["cardea", "card", "create", ..] => {
                let answers = [
                    ("PIN: ", PIN),
                    ("PIN again: ", PIN),
                    ("PUK [g/t/n]: ", "g"),
                    ("press Enter. ", ""),
                ];
                puk = shown_puk(&terminal.types(command, &answers, 0));
            }
            ["pkcs15-init", ..] => {
                terminal.types(command, &[("[UserPIN]: ", PIN)], 0);
            }
            ["cardea", "key", "generate", ..] | ["cardea", "csr", "create", ..] => {
                terminal.types(command, &[("PIN: ", PIN)], 0);
            }
            ["cardea", "cert", "import", ..] => {
                certify(&system.folder.join("home"));
                terminal.types(command, &[("PIN: ", PIN)], 0);
            }
            ["cardea", "pin", "unblock", ..] => {
                for _ in 0..4 {
                    terminal.types("cardea pin verify Alice", &[("PIN: ", "314159")], 4);
                }
                terminal.types("cardea pin verify Alice", &[("PIN: ", "314159")], 5);
                terminal.types("cardea pin verify Alice", &[], 5);
                let answers = [("PUK: ", &*puk), ("new PIN: ", PIN), ("again: ", PIN)];
                terminal.types(command, &answers, 0);
                terminal.types("cardea pin verify Alice", &[("PIN: ", PIN)], 0);
            }
            ["opensc-tool", ..] | ["cardea", "doctor"] => {
                terminal.types(command, &[], 0);
            }
            _ => panic!("the README has a command that nobody types here: {command}"),
        }
    }
    let answers = [
        // What it has found, as `cardea doctor` above: the TPM, polkit, OpenSC's module.
        ("run it [n/y]: ", ""),
        ("run it [n/y]: ", ""),
        ("run it [n/y]: ", ""),
        ("name of the card [Alice]: ", "Bob"),
        ("answer [g/t/a/n]: ", "g"),
        ("PIN: ", PIN),
        ("PIN again: ", PIN),
        ("press Enter. ", ""),
        ("p-384]: ", "p-256"),
        ("name of the key [work]: ", ""),
        ("PIN: ", PIN),
        ("answer [r/s/n]: ", "s"),
        ("subject [CN=Bob]: ", ""),
        ("PIN: ", PIN),
    ];
    let setup = terminal.types("cardea setup", &answers, 0);
    let second = shown_puk(&setup);
    terminal.types("cardea card list", &[], 0);
    let said = terminal.end();
    // What was typed is as long as it is.
    for line in said.lines().filter(|line| !line.starts_with('<')) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let said = kept(&said.replace(&puk, "[PUK]").replace(&second, "[PUK]"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/newcomer.txt");
    if std::env::var_os("CARDEA_RECORD").is_some() {
        fs::write(&path, &said).unwrap();
    }
    let before = fs::read_to_string(&path).unwrap();
    assert_eq!(said, before, "CARDEA_RECORD=1 makes it anew:\n{said}");
}

/// All commands of the README, without their comments.
fn readme() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    lines
        .map(|line| line.split("  #").next().unwrap().trim().to_owned())
        .collect()
}

fn shown_puk(said: &str) -> String {
    let (_, shown) = said.split_once("\nPUK: ").unwrap();
    shown.lines().next().unwrap().to_owned()
}

/// What the certification authority does with the request.
fn certify(home: &Path) {
    for arguments in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=CA",
        "x509 -req -in alice.csr -CA ca.pem -CAkey ca.key -set_serial 1 -days 30 -out alice.pem",
    ] {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(home)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// What was seen, without what differs from one walk to the next.
fn kept(said: &str) -> String {
    let mut kept = String::new();
    for line in said.lines() {
        let line = line.trim_end();
        // What takes its time says so.
        if line.ends_with('…') {
            continue;
        }
        let names = ["card id:", "created:", "PKCS#11 slot:", "URI:"];
        let listed = line
            .split_once("  ")
            .filter(|(id, _)| id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if let Some(rest) = line.strip_prefix('<') {
            let (code, command) = rest.split_once(PROMPT.trim_end()).unwrap();
            if code != "0" {
                kept += &format!("[exit code {code}]\n");
            }
            kept += format!("${command}").trim_end();
        } else if let Some(name) = names.iter().find(|name| line.starts_with(**name)) {
            kept += &format!("{name:<16} […]");
        } else if let Some((_, rest)) = listed {
            kept += &format!("xxxxxxxx  {rest}");
        } else if let Some((rest, _)) = line.split_once(" valid until ") {
            kept += &format!("{rest} valid until […]");
        } else {
            kept += line;
        }
        kept.push('\n');
    }
    kept
}

/// A shell in the system, and whoever types there.
struct Terminal {
    child: Child,
    shown: Receiver<Vec<u8>>,
    text: String,
    /// Where what is awaited may begin.
    at: usize,
}

impl Terminal {
    fn of(system: &System) -> Self {
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command"])
            .arg("exec unshare --mount --pid --fork --kill-child sh -ec \"$COMPUTER\" sh \"$BASE\"")
            .arg("/dev/null")
            .current_dir(&system.folder)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .env("NO_COLOR", "1")
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env("TZ", "UTC")
            .env("COMPUTER", COMPUTER)
            .env("BASE", &system.base)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut screen = child.stdout.take().unwrap();
        let (sender, shown) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if sender
                    .send(bytes.get(..count).unwrap_or_default().to_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        let mut terminal = Self {
            child,
            shown,
            text: String::new(),
            at: 0,
        };
        terminal.wait_for(PROMPT);
        terminal.text.drain(..terminal.text.rfind('<').unwrap());
        terminal.at = terminal.text.len();
        terminal
    }

    /// Types a command and answers what it asks; what was shown in between. It ends with this code.
    fn types(&mut self, command: &str, answers: &[(&str, &str)], code: i32) -> String {
        let begin = self.at;
        self.line(command);
        self.wait_for("\n");
        for (prompt, answer) in answers {
            self.wait_for(prompt);
            self.line(answer);
        }
        self.wait_for(PROMPT);
        let said = self.text[begin..self.at].replace('\r', "");
        let end = format!("\n<{code}{PROMPT}");
        assert!(said.ends_with(&end), "{command}:\n{said}");
        said
    }

    fn line(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    fn wait_for(&mut self, awaited: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.text[self.at..].find(awaited) {
                self.at += found + awaited.len();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.shown.recv_timeout(left) else {
                panic!("{awaited:?} is not shown:\n{}", self.text);
            };
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// All that was shown, up to the last prompt.
    fn end(mut self) -> String {
        self.line("exit");
        self.child.wait().unwrap();
        let shown = self.text[..self.at].replace('\r', "");
        shown[..shown.rfind('<').unwrap()].to_owned()
    }
}

impl Drop for Terminal {
    /// With everything that runs in the system.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
