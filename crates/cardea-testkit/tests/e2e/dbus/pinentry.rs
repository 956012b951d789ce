//! The PIN is typed into a real pinentry on a terminal, and goes to the TPM past the programs that want it.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use cardea_testkit::bus::{BusClient, Dictionary};
use cardea_testkit::pcscd::Pcscd;
use cardea_testkit::process::{Running, wait_for};
use cardea_testkit::rig::{bin_dir, opensc_module};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::Bench;
use super::bench::{NEW_PIN, OWNER, PIN, PUK, answer};

/// A terminal that a person sits at.
pub(super) struct Terminal {
    master: Arc<OwnedFd>,
    path: String,
    /// What was shown.
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(super) fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // The agent may be another user's.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(&path, open).unwrap();
        let size = rustix::termios::Winsize {
            ws_row: 40,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).unwrap();
        let master = Arc::new(master);
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (own, screen) = (Arc::clone(&master), Arc::clone(&shown));
        // The other end is open as long as this is.
        let other = fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        std::thread::spawn(move || {
            let _other = other;
            let mut file = fs::File::from(own.as_fd().try_clone_to_owned().unwrap());
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = file.read(&mut bytes) {
                screen.lock().unwrap().extend(bytes.iter().take(count));
            }
        });
        Self {
            master,
            path,
            shown,
        }
    }

    /// Waits until this was shown since the last time.
    pub(super) fn expect(&self, text: &str) {
        wait_for(&format!("{text:?} on the terminal"), || {
            let shown = String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned();
            plain(&shown).contains(text)
        });
        self.shown.lock().unwrap().clear();
    }

    pub(super) fn enter(&self, text: &[u8]) {
        let mut file = fs::File::from(self.master.as_fd().try_clone_to_owned().unwrap());
        file.write_all(&[text, b"\r"].concat()).unwrap();
    }
}

/// Without escape sequences and what curses draws boxes with.
fn plain(shown: &str) -> String {
    let mut text = String::new();
    let mut rest = shown.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' if rest.next_if_eq(&'(').is_some() => drop(rest.next()),
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                let end = rest.by_ref().find(char::is_ascii_alphabetic);
                // A move of the cursor.
                if end == Some('H') {
                    text.push(' ');
                }
            }
            '\u{1b}' => drop(rest.next()),
            other => text.push(other),
        }
    }
    text
}

/// `cardea-agent` of a user, with the real pinentry-curses.
pub(super) fn agent(bench: &Bench, uid: u32, terminal: &Terminal) -> Running {
    let log = bench.folder.path().join("agent.log");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &uid.to_string(), "--clear-groups"])
        .arg(bench.program("cardea-agent"))
        .args(["--pinentry", "pinentry-curses", "--tty", &terminal.path])
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bench.address)
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8");
    let mut agent = Running::start(&mut command, &log);
    agent.wait_ready(|agent| agent.log().contains("registered"));
    agent
}

/// Runs a program of the owner's in the background, with everything that it says to the kernel recorded.
fn traced(bench: &Bench, trace: &Path, module: &Path, arguments: &[&str]) -> Running {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &OWNER.to_string(), "--clear-groups"])
        .args(["strace", "-f", "-qq", "-s", "100000", "-xx", "-o"])
        .arg(trace)
        .args(["pkcs11-tool", "--module"])
        .arg(module)
        .args(arguments)
        .env("CARDEA_SOCKET", bench.daemon.socket());
    Running::start(&mut command, &bench.folder.path().join("tool.log"))
}

/// As strace writes it with `-xx`.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

fn scratch(bench: &Bench, name: &str) -> PathBuf {
    let folder = bench.folder.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&folder, open).unwrap();
    folder
}

fn with_pin_pad(bench: &Bench, card: &str) {
    let name = bench.client(0).text(card, "Card", "FriendlyName");
    let set = bench
        .daemon
        .cardea(&["card", "set", &name, "--pin-pad", "on"]);
    assert!(set.success, "{}", set.text);
}

/// Makes a key for the owner.
pub(super) fn with_key(bench: &Bench) {
    let pin = bench.folder.path().join("pin");
    fs::write(&pin, PIN).unwrap();
    let pin = pin.display().to_string();
    let made = bench.daemon.cardea(&[
        "key",
        "generate",
        "card",
        "--algorithm",
        "rsa-2048",
        "--pin-file",
        &pin,
    ]);
    assert!(made.success, "{}", made.text);
}

#[test]
fn pkcs11_program_signs_with_a_pin_typed_into_pinentry_only() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    with_pin_pad(&bench, &card);
    with_key(&bench);
    let terminal = Terminal::new();
    let agent = agent(&bench, OWNER, &terminal);
    let module = bench.program("libcardea_pkcs11.so");
    let folder = scratch(&bench, "signing");
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(path("data"), "signed").unwrap();
    let (data, signature, trace) = (path("data"), path("signature"), folder.join("trace"));
    let mut tool = traced(
        &bench,
        &trace,
        &module,
        &[
            "--login",
            "--sign",
            "--mechanism",
            "SHA256-RSA-PKCS",
            "-i",
            &data,
            "-o",
            &signature,
        ],
    );
    terminal.expect("pkcs11-tool");
    // It cannot be right, and costs nothing.
    terminal.enter(b"123");
    terminal.expect("6 to 127 characters");
    terminal.enter(b"999999");
    terminal.expect("4 tries left");
    terminal.enter(PIN);
    let status = tool.wait();
    assert!(status.success(), "{}", tool.log());
    assert_eq!(fs::read(&signature).unwrap().len(), 256);
    let said = fs::read_to_string(&trace).unwrap();
    assert!(
        said.contains("cardea.sock") || said.len() > 10_000,
        "nothing was recorded"
    );
    for pin in [PIN, b"999999"] {
        assert!(!said.contains(&hexadecimal(pin)), "the program had the PIN");
    }
    drop(agent);
}

#[test]
fn opensc_signs_with_a_pin_typed_into_pinentry_only() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    with_pin_pad(&bench, &card);
    with_key(&bench);
    let library = bin_dir().join("libifdcardea.so").display().to_string();
    let entry = bench.daemon.cardea(&["reader-conf", "--library", &library]);
    assert!(entry.success, "{}", entry.text);
    let pcscd = Pcscd::start(bench.folder.path(), &entry.text);
    let terminal = Terminal::new();
    let _agent = agent(&bench, OWNER, &terminal);
    let folder = scratch(&bench, "signing");
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(path("data"), "signed").unwrap();
    let (data, signature, trace) = (path("data"), path("signature"), path("trace"));
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-s", "100000", "-xx", "-o", &trace])
        .args(["pkcs11-tool", "--module"])
        .arg(opensc_module())
        .args(["--login", "--sign", "--mechanism", "SHA256-RSA-PKCS"])
        .args(["-i", &data, "-o", &signature])
        .env("PCSCLITE_CSOCK_NAME", pcscd.socket())
        .env("OPENSC_CONF", opensc_conf(&folder));
    let mut tool = Running::start(&mut command, &folder.join("tool.log"));
    terminal.expect("A program at the card reader asks for the PIN");
    terminal.enter(PIN);
    let status = tool.wait();
    assert!(status.success(), "{}", tool.log());
    assert_eq!(fs::read(&signature).unwrap().len(), 256);
    let said = fs::read_to_string(&trace).unwrap();
    assert!(
        said.len() > 10_000 && !said.contains(&hexadecimal(PIN)),
        "the program had the PIN"
    );
    let apdus: String = PIN.iter().map(|byte| format!("{byte:02X} ")).collect();
    assert!(
        pcscd.log().contains("APDU") && !pcscd.log().contains(&apdus),
        "pcscd had the PIN"
    );
}

/// OpenSC's own settings, so that the machine's do not matter.
fn opensc_conf(folder: &Path) -> PathBuf {
    let path = folder.join("opensc.conf");
    fs::write(
        &path,
        "app default {\n  reader_driver pcsc { enable_pinpad = true; }\n}\n",
    )
    .unwrap();
    path
}

#[test]
fn blocked_pin_leads_to_the_puk() {
    let bench = Bench::new();
    let card = bench.card(
        "card",
        [cardea_testkit::bus::secret_option("puk-fd", PUK)].into(),
    );
    let owner = bench.client(OWNER);
    super::provisioning::block(&owner, &card);
    let terminal = Terminal::new();
    let _agent = agent(&bench, OWNER, &terminal);
    let done = change_in_background(&bench, &card);
    terminal.expect("Unblock it with the PUK");
    terminal.enter(b"00000000");
    type_new(&terminal, NEW_PIN);
    terminal.expect("wrong PUK");
    terminal.enter(PUK);
    type_new(&terminal, NEW_PIN);
    // The PIN change goes on with the PIN that is right now.
    type_new(&terminal, PIN);
    assert_eq!(done.join().unwrap(), Ok(true));
}

#[test]
fn blocked_pin_leads_to_the_help_desk() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let mut owner = bench.client(OWNER);
    super::provisioning::block(&owner, &card);
    let terminal = Terminal::new();
    let _agent = agent(&bench, OWNER, &terminal);
    let done = change_in_background(&bench, &card);
    // The challenge as it stands on the screen; the help desk has only that.
    wait_for("a challenge", || challenge_on(&terminal).is_some());
    let challenge = challenge_on(&terminal).unwrap();
    terminal.enter(b"12 34");
    terminal.expect("16 hexadecimal digits");
    let response: String = answer(&challenge)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    terminal.enter(response.as_bytes());
    type_new(&terminal, NEW_PIN);
    type_new(&terminal, PIN);
    assert_eq!(done.join().unwrap(), Ok(true));
    owner.signal("PropertiesChanged");
}

/// What is read to the help desk: four groups of four digits.
pub(super) fn challenge_on(terminal: &Terminal) -> Option<Vec<u8>> {
    let shown = String::from_utf8_lossy(&terminal.shown.lock().unwrap()).into_owned();
    let text = plain(&shown);
    let words: Vec<&str> = text
        .split_whitespace()
        // The check digit comes after the last group.
        .map(|word| word.split('-').next().unwrap_or_default())
        .collect();
    let is_group =
        |word: &&str| word.len() == 4 && word.chars().all(|digit| digit.is_ascii_hexdigit());
    let groups = words.windows(4).find(|four| four.iter().all(is_group))?;
    let digits = groups.concat();
    (0..8)
        .map(|at| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok())
        .collect()
}

/// Twice, in two dialogs: the second field that pinentry-curses may have is not used.
pub(super) fn type_new(terminal: &Terminal, pin: &[u8]) {
    terminal.expect("New PIN");
    terminal.enter(pin);
    terminal.expect("Again:");
    terminal.enter(pin);
}

#[test]
fn new_pin_that_is_not_typed_twice_alike_is_asked_again() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let terminal = Terminal::new();
    let _agent = agent(&bench, OWNER, &terminal);
    let done = change_in_background(&bench, &card);
    terminal.expect("asks for the PIN");
    terminal.enter(PIN);
    terminal.expect("New PIN");
    terminal.enter(NEW_PIN);
    terminal.expect("Again:");
    terminal.enter(b"314150");
    terminal.expect("do not match");
    // The second field of pinentry-curses 1.3 has no room for as many characters.
    let long = b"27182818284590452353602874713526624977572470936999";
    terminal.enter(long);
    terminal.expect("Again:");
    terminal.enter(long);
    assert_eq!(done.join().unwrap(), Ok(true));
}

/// A change of the PIN at the agent: old, then new.
fn change_in_background(
    bench: &Bench,
    card: &str,
) -> std::thread::JoinHandle<Result<bool, String>> {
    let client: BusClient = bench.client(OWNER);
    let card = card.to_owned();
    std::thread::spawn(move || {
        let options = Dictionary::new();
        let done = client.get::<bool, _>(&card, "Provisioning.RequestPinChange", &options);
        done.map_err(|refusal| refusal.1)
    })
}
