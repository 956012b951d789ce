//! The library in a real pcscd, in a mount namespace of its own, with PC/SC applications.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::build::{library, program};
use crate::daemon::{ATR, Daemon};
use crate::support::{LIMIT, Process, until};

/// A change of a slot is seen by applications within this time.
const SEEN: Duration = Duration::from_millis(100);

const NAME: &str = "Cardea Virtual Smart Card";

struct Pcscd {
    process: Process,
}

impl Pcscd {
    /// With the reader of this daemon, which need not run.
    fn start(daemon: &Daemon) -> Self {
        Self::start_with(daemon, &daemon.device())
    }

    fn start_with(daemon: &Daemon, device: &str) -> Self {
        let configuration = daemon.folder().join("reader.conf.d");
        fs::create_dir_all(&configuration).unwrap();
        let library = library();
        let text = format!(
            "FRIENDLYNAME \"{NAME}\"\nDEVICENAME {device}\nLIBPATH {}\n",
            library.display()
        );
        fs::write(configuration.join("cardea"), text).unwrap();
        let log = fs::File::create(daemon.folder().join("pcscd.log")).unwrap();
        let script = "mkdir -p /run/pcscd && mount -t tmpfs pcscd /run/pcscd && exec pcscd --foreground -c \"$0\"";
        let mut command = Command::new("unshare");
        // Without the rights of root, as root of a namespace of users.
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command
            .args(["--mount", "sh", "-c", script])
            .arg(&configuration)
            .stderr(log.try_clone().unwrap());
        // pcscd logs to stdout; nobody would read the pipe of a `Process`.
        let mut process = Process::start(&mut command);
        let socket = socket(&process);
        until("pcscd listens", || {
            assert!(process.is_running(), "pcscd ended");
            fs::exists(&socket).unwrap_or_default()
        });
        Self { process }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PCSCLITE_CSOCK_NAME", socket(&self.process));
        command
    }

    fn client(&self, arguments: &[&str]) -> Process {
        Process::start(self.command(program("client")).args(arguments))
    }

    fn talk(&self, slot: u8) -> Talk {
        Talk(self.client(&["talk", &reader(slot)]))
    }

    fn watch(&self) -> Watch {
        Watch(self.client(&["watch"]))
    }

    /// What a program prints that must succeed.
    fn output(&self, program: &str, arguments: &[&str]) -> String {
        let output = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn socket(process: &Process) -> String {
    format!("/proc/{}/root/run/pcscd/pcscd.comm", process.id())
}

fn reader(slot: u8) -> String {
    format!("{NAME} 00 {slot:02X}")
}

/// An application that uses one reader.
struct Talk(Process);

impl Talk {
    /// Return code and bytes, in hexadecimal.
    fn say(&mut self, command: &str) -> (String, String) {
        self.0.tell(command);
        let line = self.0.line();
        let (code, bytes) = line.split_once(' ').unwrap();
        (code.to_owned(), bytes.to_owned())
    }

    fn apdu(&mut self, apdu: &str) -> (String, String) {
        self.say(&format!("apdu {apdu}"))
    }

    fn expect(&mut self, command: &str, bytes: &str) {
        assert_eq!(
            self.say(command),
            (SUCCESS.into(), bytes.into()),
            "{command}"
        );
    }

    /// Connects as soon as there is a card.
    fn connect(&mut self) {
        until("a card is there", || self.say("connect").0 == SUCCESS);
    }
}

const SUCCESS: &str = "00000000";
const W_REMOVED_CARD: &str = "80100069";
const E_NO_SMARTCARD: &str = "8010000c";

/// An application that watches all readers.
struct Watch(Process);

impl Watch {
    /// How long it takes until the reader changes; gives its count of events too.
    fn await_change(&self, slot: u8, state: &str) -> (Duration, u32) {
        let start = Instant::now();
        let beginning = format!("{} {state} ", reader(slot));
        let events = self.0.line_after(&beginning);
        (start.elapsed(), events.parse().unwrap())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    *times.get(times.len() / 2).unwrap()
}

#[test]
fn opensc_finds_the_readers_and_talks_to_the_card() {
    let mut daemon = Daemon::started(2);
    daemon.tell("insert 1");
    let pcscd = Pcscd::start(&daemon);
    pcscd.watch().await_change(1, "present");
    let list = pcscd.output("opensc-tool", &["-l"]);
    assert!(
        list.contains(&reader(0)) && list.contains(&reader(1)),
        "{list}"
    );
    assert!(!list.contains(&reader(2)), "{list}");
    let atr = pcscd.output("opensc-tool", &["-r", "1", "-a"]);
    assert_eq!(atr.trim(), ATR);
    let answer = pcscd.output(
        "opensc-tool",
        &["-r", "1", "-c", "default", "-s", "80:01:00:04"],
    );
    assert!(answer.contains("SW1=0x90, SW2=0x00"), "{answer}");
    assert!(answer.contains("00 01 02 03"), "{answer}");
    // No card, no answer.
    let empty = pcscd
        .command("opensc-tool")
        .args(["-r", "0", "-a"])
        .output()
        .unwrap();
    assert!(!empty.status.success(), "{empty:?}");
}

#[test]
fn cards_appear_and_disappear_at_once() {
    let mut daemon = Daemon::started(2);
    let pcscd = Pcscd::start(&daemon);
    let watch = pcscd.watch();
    watch.await_change(0, "empty");
    watch.await_change(1, "empty");
    let mut last = 0;
    let (mut insertions, mut removals) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        daemon.tell("insert 1");
        let (time, events) = watch.await_change(1, "present");
        assert!(events > last, "{events} {last}");
        insertions.push(time);
        daemon.tell("remove 1");
        let (time, events) = watch.await_change(1, "empty");
        removals.push(time);
        last = events;
    }
    let (insertion, removal) = (median(insertions), median(removals));
    println!("card seen after {insertion:?}, its removal after {removal:?}");
    assert!(
        insertion < SEEN && removal < SEEN,
        "{insertion:?} {removal:?}"
    );
}

#[test]
fn replaced_card_is_a_removal_and_an_insertion() {
    let mut daemon = Daemon::started(1);
    let pcscd = Pcscd::start(&daemon);
    let watch = pcscd.watch();
    watch.await_change(0, "empty");
    // Applications cannot see a replacement while pcscd's count of events is 0.
    daemon.tell("insert 0");
    let (_, before) = watch.await_change(0, "present");
    let mut talk = pcscd.talk(0);
    talk.connect();
    talk.expect("apdu 80200000", "9000");
    talk.expect("apdu 80210000", "9000");
    daemon.tell("replace 0");
    let start = Instant::now();
    while watch.await_change(0, "present").1 < before + 2 {
        assert!(start.elapsed() < LIMIT);
    }
    let (code, _) = talk.apdu("80210000");
    assert_eq!(code, W_REMOVED_CARD);
    talk.say("disconnect");
    talk.connect();
    talk.expect("apdu 80210000", "6982");
}

#[test]
fn reset_and_power_down_forget_what_was_verified() {
    let mut daemon = Daemon::started(1);
    daemon.tell("insert 0");
    let pcscd = Pcscd::start(&daemon);
    let mut talk = pcscd.talk(0);
    talk.connect();
    talk.expect("apdu 80210000", "6982");
    talk.expect("apdu 80200000", "9000");
    talk.expect("apdu 80210000", "9000");
    talk.expect("reconnect", "");
    talk.expect("apdu 80210000", "6982");
}

#[test]
fn attributes_and_long_apdus_pass_through_pcscd() {
    let mut daemon = Daemon::started(1);
    daemon.tell("insert 0");
    let pcscd = Pcscd::start(&daemon);
    let mut talk = pcscd.talk(0);
    talk.connect();
    talk.expect("attribute 90303", "3b80800101");
    talk.expect("attribute 10100", "43617264656100");
    talk.expect("attribute 90300", "02");
    // SCARD_E_UNSUPPORTED_FEATURE
    assert_eq!(talk.say("attribute 12345").0, "8010001f");
    let command = format!("apdu 80060000{}", "00".repeat(65_540));
    talk.expect(&command, "000100089000");
    let (code, bytes) = talk.apdu("8001fffe");
    assert_eq!((code.as_str(), bytes.len()), (SUCCESS, 2 * 65_536));
}

#[test]
fn killed_daemon_is_a_removed_card_and_the_next_one_brings_it_back() {
    let mut daemon = Daemon::new(2);
    // pcscd is there first.
    let pcscd = Pcscd::start(&daemon);
    let watch = pcscd.watch();
    watch.await_change(0, "empty");
    let mut talk = pcscd.talk(0);
    assert_eq!(talk.say("connect").0, E_NO_SMARTCARD);
    for _ in 0..3 {
        daemon.start();
        daemon.tell("insert 0");
        let (back, _) = watch.await_change(0, "present");
        talk.connect();
        talk.expect("apdu 80200000", "9000");
        talk.expect("apdu 80210000", "9000");
        daemon.kill();
        let (gone, _) = watch.await_change(0, "empty");
        println!("daemon gone: seen after {gone:?}; daemon back: card seen after {back:?}");
        assert!(gone < Duration::from_secs(2) && back < Duration::from_secs(2));
        assert_ne!(talk.apdu("80210000").0, SUCCESS);
        talk.say("disconnect");
    }
    assert!(pcscd.output("opensc-tool", &["-l"]).contains(&reader(1)));
}

#[test]
fn daemon_that_is_killed_by_a_command_fails_it_at_once() {
    let mut daemon = Daemon::started(1);
    daemon.tell("insert 0");
    let pcscd = Pcscd::start(&daemon);
    let mut talk = pcscd.talk(0);
    talk.connect();
    let start = Instant::now();
    assert_ne!(talk.apdu("80040000").0, SUCCESS);
    assert!(start.elapsed() < Duration::from_secs(5));
    daemon.await_end();
    daemon.start();
    daemon.tell("insert 0");
    talk.say("disconnect");
    talk.connect();
    talk.expect("apdu 80210000", "6982");
}

#[test]
fn daemon_that_does_not_answer_keeps_neither_pcscd_nor_the_reader_away() {
    let mut daemon = Daemon::started(2);
    daemon.tell("insert 1");
    daemon.freeze(true);
    let start = Instant::now();
    let pcscd = Pcscd::start(&daemon);
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    let watch = pcscd.watch();
    watch.await_change(1, "empty");
    daemon.freeze(false);
    watch.await_change(1, "present");
    let mut talk = pcscd.talk(1);
    talk.connect();
    talk.expect("apdu 80210000", "6982");
}

#[test]
fn slow_card_does_not_hold_up_the_other_slots() {
    let mut daemon = Daemon::started(2);
    daemon.tell("insert 0 1");
    let pcscd = Pcscd::start(&daemon);
    let (mut slow, mut quick) = (pcscd.talk(0), pcscd.talk(1));
    slow.connect();
    quick.connect();
    slow.0.tell("apdu 80020000");
    for _ in 0..20 {
        quick.expect("apdu 80210000", "6982");
    }
    // The gate is opened until the command has come to it.
    let mut open = pcscd.talk(1);
    open.connect();
    let mut answer = None;
    until("the slow command ends", || {
        open.expect("apdu 80050000", "9000");
        answer = slow.0.try_line();
        answer.is_some()
    });
    assert_eq!(answer.unwrap(), "00000000 9000");
}

#[test]
fn fourteen_slots_fit_and_a_fifteenth_is_refused() {
    let mut daemon = Daemon::started(14);
    daemon.tell("insert 0 1 2 3 4 5 6 7 8 9 10 11 12 13");
    let pcscd = Pcscd::start(&daemon);
    let watch = pcscd.watch();
    for slot in 0..14 {
        let mut talk = pcscd.talk(slot);
        talk.connect();
        talk.expect("apdu 80010002", "00019000");
    }
    daemon.tell("remove 13");
    watch.await_change(13, "empty");
    assert_eq!(list(&pcscd).len(), 14);
    drop(pcscd);
    let refused = Pcscd::start_with(&daemon, &format!("{}:15", daemon.socket().display()));
    assert_eq!(list(&refused), Vec::<String>::new());
    drop(refused);
    // Without a number in the name the daemon tells it.
    let asked = Pcscd::start_with(&daemon, &format!("cardea:{}", daemon.socket().display()));
    until("all slots are there", || list(&asked).len() == 14);
}

fn list(pcscd: &Pcscd) -> Vec<String> {
    let output = pcscd
        .command(program("client"))
        .arg("list")
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}
