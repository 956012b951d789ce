//! PIN, PUK and administrator: verified, changed, unblocked.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use insta::assert_snapshot;

use crate::support::{OTHER_USER, Place, Run};

const KEY: &str = "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123";
const OTHER_KEY: &str = "FEDCBA9876543210EFCDAB8967452301DEBC9A7856341290";

/// A daemon, a card, and files with secrets.
struct Scene {
    place: Place,
}

impl Scene {
    /// A card `work` with these options.
    fn new(options: &[&str]) -> Self {
        let place = Place::new();
        place.file("wrong", "999999");
        place.file("new", "654321");
        place.file("puk", "87654321");
        place.file("wrong-puk", "11111111");
        place.file("key", KEY);
        place.file("wrong-key", OTHER_KEY);
        let scene = Self { place };
        let options = scene.files(options);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        scene.place.create("work", &options);
        scene
    }

    fn with_puk() -> Self {
        Self::new(&["--puk-file", "@puk"])
    }

    fn with_administrator() -> Self {
        Self::new(&["--admin-key", "file:@key"])
    }

    /// `@name` is the file's path.
    fn files(&self, arguments: &[&str]) -> Vec<String> {
        let folder = format!(
            "{}/",
            self.place.path("").to_str().unwrap().trim_end_matches('/')
        );
        arguments
            .iter()
            .map(|argument| argument.replace('@', &folder))
            .collect()
    }

    fn run(&self, line: &str) -> Run {
        let words: Vec<&str> = line.split(' ').collect();
        let words = self.files(&words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.place.run(&words)
    }

    /// What a command says; it must end with this code.
    fn says(&self, line: &str, code: i32) -> String {
        let run = self.run(line);
        assert_eq!(run.code, code, "{line}: {run:?}");
        assert_eq!(run.out, "", "{line}");
        run.notes()
    }

    fn left(&self, of: &str) -> u64 {
        let card = self.run("card show work --json").json();
        let left = card.get(of).and_then(|tries| tries["left"].as_u64());
        left.unwrap()
    }

    fn block(&self) {
        while self.left("pin") > 0 {
            self.run("pin verify work --pin-file @wrong");
        }
    }
}

/// 3DES of a challenge by somebody else's hand.
pub(crate) fn respond(challenge: &str, key: &str) -> String {
    // Without the check digit.
    let challenge = challenge.split('-').next().unwrap();
    let digits = challenge.replace(' ', "");
    let bytes: Vec<u8> = (0..digits.len() / 2)
        .map(|index| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).unwrap())
        .collect();
    let mut child = Command::new("openssl")
        .args(["enc", "-des-ede3", "-nopad", "-K", key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output
        .stdout
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn correct_pin_costs_no_try_and_a_wrong_one_does() {
    let scene = Scene::new(&[]);
    let mut said = scene.says("pin verify work --pin-file @pin", 0);
    for _ in 0..4 {
        said += &scene.says("pin verify work --pin-file @wrong", 4);
    }
    said += &scene.says("pin verify work --pin-file @wrong", 5);
    said += &scene.says("pin verify work --pin-file @pin", 5);
    assert_snapshot!("verify", said);
    assert_eq!(scene.left("pin"), 0);
}

#[test]
fn no_prompt_for_a_card_that_does_not_exist_or_has_no_such_secret() {
    let scene = Scene::new(&[]);
    for verb in [
        "pin verify",
        "pin change",
        "pin unblock",
        "puk verify",
        "puk change",
        "admin verify",
        "admin challenge",
        "admin change-key",
    ] {
        let mut words: Vec<&str> = verb.split(' ').collect();
        words.push("nothing");
        assert_eq!(scene.place.run(&words).code, 7, "{verb}");
    }
    // Told before a file is read or a prompt appears.
    let mut said = String::new();
    for line in [
        "puk verify work --puk-file /nonexistent",
        "puk change work",
        "pin unblock work",
        "pin unblock work --puk",
        "pin unblock work --admin",
        "admin challenge work",
        "admin verify work --admin-key-file /nonexistent",
        "admin change-key work",
    ] {
        said += &scene.says(line, 2);
    }
    assert_snapshot!("has_none", said);
}

#[test]
fn prompts_without_a_terminal_are_refused() {
    let scene = Scene::with_puk();
    for (line, option) in [
        ("pin verify work", "--pin-file or --pin-fd"),
        ("pin change work", "--pin-file or"),
        ("pin change work --pin-file @pin", "--new-pin-file or"),
        ("pin unblock work", "--puk-file or"),
        ("pin unblock work --puk-file @puk", "--new-pin-file or"),
        ("puk verify work", "--puk-file or"),
        ("puk change work --puk-file @puk", "--new-puk-file or"),
        ("card create --name new", "--pin-file or --pin-fd"),
        (
            "card create --name new --pin-file @pin --generate-puk",
            "--puk-file or --no-puk",
        ),
    ] {
        let mut command = scene.place.command(&[]);
        command.args(scene.files(&line.split(' ').collect::<Vec<_>>()));
        // A session of its own has no terminal.
        let run = Run::of(
            Command::new("setsid")
                .arg("--wait")
                .arg(command.get_program())
                .args(command.get_args())
                .env("CARDEA_SOCKET", scene.place.path("socket"))
                .stdin(Stdio::null())
                .output()
                .unwrap(),
        );
        assert_eq!(run.code, 2, "{line}: {run:?}");
        assert!(run.err.contains(&format!("use {option}")), "{run:?}");
    }
    assert_eq!((scene.left("pin"), scene.left("puk")), (5, 10));
}

#[test]
fn descriptor_that_is_closed_early_costs_no_try() {
    let scene = Scene::new(&[]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(writer);
    let output = scene
        .place
        .command(&["pin", "verify", "work", "--pin-fd", "0"])
        .stdin(reader)
        .output()
        .unwrap();
    let run = Run::of(output);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("the PIN has 0 bytes"), "{run:?}");
    // Not open at all.
    assert_eq!(scene.run("pin verify work --pin-fd 77").code, 2);
    assert_eq!(scene.left("pin"), 5);
}

#[test]
fn descriptors_serve_users_who_are_not_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    place.create("own", &["--owner", "daemon"]);
    let program = place.program();
    let script = format!(
        "echo 123456 | {} pin verify own --pin-fd 0",
        program.display()
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("CARDEA_SOCKET", place.path("socket"))
        .uid(OTHER_USER)
        .gid(OTHER_USER)
        .current_dir("/")
        .output()
        .unwrap();
    let run = Run::of(output);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn no_option_takes_a_secret_and_none_is_repeated() {
    let scene = Scene::with_puk();
    for line in [
        "pin verify work --pin 48151623",
        "pin verify work --pin=48151623",
        "pin unblock work --puk=48151623",
        "pin unblock work --new-pin 48151623",
        "puk change work --new-puk=48151623",
        "admin change-key work --new-key=48151623",
        "key import work file --passphrase=48151623",
        "card create --name x --puk=48151623",
    ] {
        let run = scene.run(line);
        assert_eq!(run.code, 2, "{line}: {run:?}");
        let shown = run.err.contains("48151623");
        // clap repeats a value that it was given for a switch.
        assert!(!shown || line.contains("--puk="), "{line}: {run:?}");
    }
    assert_eq!((scene.left("pin"), scene.left("puk")), (5, 10));
}

#[test]
fn puk_is_verified_and_changed() {
    let scene = Scene::with_puk();
    let mut said = scene.says("puk verify work --puk-file @puk", 0);
    said += &scene.says("puk verify work --puk-file @wrong-puk", 4);
    scene.place.file("short", "1234567");
    said += &scene.says("puk change work --puk-file @puk --new-puk-file @short", 2);
    scene.place.file("new-puk", "12348765");
    said += &scene.says(
        "puk change work --puk-file @wrong-puk --new-puk-file @new-puk",
        4,
    );
    said += &scene.says("puk change work --puk-file @puk --new-puk-file @new-puk", 0);
    said += &scene.says("puk verify work --puk-file @puk", 4);
    said += &scene.says("puk verify work --puk-file @new-puk", 0);
    assert_eq!(scene.left("puk"), 10);
    for _ in 0..9 {
        scene.says("puk verify work --puk-file @puk", 4);
    }
    said += &scene.says("puk verify work --puk-file @puk", 5);
    said += &scene.says("puk verify work --puk-file @new-puk", 5);
    said += &scene.says(
        "pin unblock work --puk-file @new-puk --new-pin-file @new",
        5,
    );
    assert_snapshot!("puk", said);
}

#[test]
fn puk_unblocks_the_pin() {
    let scene = Scene::with_puk();
    scene.block();
    let wrong = scene.says(
        "pin unblock work --puk-file @wrong-puk --new-pin-file @new",
        4,
    );
    assert!(wrong.contains("wrong PUK; 9 tries left"), "{wrong}");
    scene.place.file("short", "123");
    scene.says("pin unblock work --puk-file @puk --new-pin-file @short", 2);
    let admin = scene.says(
        "pin unblock work --admin-key-file @key --new-pin-file @new",
        2,
    );
    assert!(admin.contains("the PUK unblocks its PIN"), "{admin}");
    assert_eq!((scene.left("pin"), scene.left("puk")), (0, 9));
    let done = scene.says("pin unblock work --puk-file @puk --new-pin-file @new", 0);
    assert_eq!(done, "PIN of work unblocked\n");
    assert_eq!((scene.left("pin"), scene.left("puk")), (5, 10));
    scene.says("pin verify work --pin-file @new", 0);
    scene.says("pin verify work --pin-file @pin", 4);
}

#[test]
fn admin_key_unblocks_the_pin() {
    let scene = Scene::with_administrator();
    scene.block();
    let wrong = scene.says(
        "pin unblock work --admin-key-file @wrong-key --new-pin-file @new",
        4,
    );
    assert!(wrong.contains("wrong response"), "{wrong}");
    scene.says("pin unblock work --puk-file @puk --new-pin-file @new", 2);
    assert_eq!(scene.left("pin"), 0);
    scene.says(
        "pin unblock work --admin-key-file @key --new-pin-file @new",
        0,
    );
    scene.says("pin verify work --pin-file @new", 0);
    // The same by a file of 24 bytes.
    let bytes: Vec<u8> = (0..24)
        .map(|index| u8::from_str_radix(&KEY[2 * index..2 * index + 2], 16).unwrap())
        .collect();
    std::fs::write(scene.place.path("bytes"), bytes).unwrap();
    scene.says(
        "pin unblock work --admin-key-file @bytes --new-pin-file @pin",
        0,
    );
    scene.says("pin verify work --pin-file @pin", 0);
}

#[test]
fn challenge_is_answered_elsewhere() {
    let scene = Scene::with_administrator();
    scene.block();
    let id = scene.run("card show work --json").json()["card_id"].clone();
    let challenge = || {
        let value = scene.run("admin challenge work --json").json();
        assert_eq!(value["card_id"], id);
        value["challenge"].as_str().unwrap().to_owned()
    };
    let answered = |verb: &str, challenge: &str, response: &str, code: i32| {
        let words: Vec<&str> = verb.split(' ').collect();
        let mut words = scene.files(&words);
        words.extend(["--challenge", challenge, "--response", response].map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = scene.place.run(&words);
        assert_eq!(run.code, code, "{verb}: {run:?}");
    };
    // Grouped in text, with a check digit; it stays good until it is answered.
    let text = scene.run("admin challenge work").out;
    assert_eq!(
        text.trim().split(' ').map(str::len).collect::<Vec<_>>(),
        [4, 4, 4, 6]
    );
    answered(
        "admin verify work",
        text.trim(),
        &respond(text.trim(), KEY),
        0,
    );

    let (first, wrong) = (challenge(), respond(&challenge(), OTHER_KEY));
    answered("admin verify work", &first, &wrong, 4);
    let unblock = "pin unblock work --new-pin-file @new";
    answered(unblock, &first, &wrong, 4);
    assert_eq!(scene.left("pin"), 0);
    let first = challenge();
    let right = respond(&first, KEY);
    answered(unblock, &first, &right, 0);
    scene.says("pin verify work --pin-file @new", 0);
    // It served once.
    answered(unblock, &first, &right, 4);
    for (challenge, response) in [("00", "0011223344556677"), ("0011223344556677", "xyz")] {
        answered("admin verify work", challenge, response, 2);
    }
    // One without the other, and a key beside them.
    for line in [
        "admin verify work --challenge 0011223344556677",
        "admin verify work --response 0011223344556677",
        "admin verify work --challenge 0011223344556677 --response 0011223344556677 --admin-key-file @key",
        "pin unblock work --admin --puk-file @puk",
        "pin unblock work --puk --admin-key-file @key",
    ] {
        assert_eq!(scene.run(line).code, 2, "{line}");
    }
}

#[test]
fn admin_key_is_changed_by_a_file() {
    let scene = Scene::with_administrator();
    scene.says("admin verify work --admin-key-file @wrong-key", 4);
    scene.says(
        "admin change-key work --admin-key-file @wrong-key --new-key-file @wrong-key",
        4,
    );
    let change = "admin change-key work --admin-key-file @key --new-key-file";
    scene.says(&format!("{change} @pin"), 2);
    scene.says(&format!("{change} @wrong-key"), 0);
    scene.says("admin verify work --admin-key-file @key", 4);
    scene.says("admin verify work --admin-key-file @wrong-key", 0);
    let weak = scene.place.file("weak", &"0123456789ABCDEF".repeat(3));
    let said = scene.says(
        &format!("admin change-key work --admin-key-file @wrong-key --new-key-file {weak}"),
        0,
    );
    assert!(said.contains("single DES"), "{said}");
}

#[test]
fn random_admin_key_is_in_its_file_before_the_card_has_it() {
    let scene = Scene::with_administrator();
    let change = "admin change-key work --admin-key-file @key --new-key-random";
    scene.says(change, 2);
    scene.says("admin change-key work --admin-key-file @key --out @made", 2);
    let said = scene.says(&format!("{change} --out @made"), 0);
    assert!(said.contains("keep it safe"), "{said}");
    let made = scene.place.path("made");
    let mode = std::fs::metadata(&made).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let digits = std::fs::read_to_string(&made).unwrap();
    assert_eq!(digits.trim_end().len(), 48, "{digits}");
    scene.says("admin verify work --admin-key-file @made", 0);
    scene.says("admin verify work --admin-key-file @key", 4);
    // A file that is there is left alone, and so is the card.
    let change = "admin change-key work --admin-key-file @made --new-key-random --out";
    let said = scene.says(&format!("{change} @made"), 2);
    assert!(said.contains("already exists"), "{said}");
    scene.says(&format!("{change} /nonexistent/made"), 1);
    scene.says("admin verify work --admin-key-file @made", 0);
    // Refused by the card: the file is worth nothing and goes.
    scene.says(
        "admin change-key work --admin-key-file @key --new-key-random --out @never",
        4,
    );
    assert!(!scene.place.path("never").exists());
}

#[test]
fn puk_that_cannot_be_one_was_not_tried_and_that_is_said() {
    let scene = Scene::with_puk();
    scene.place.file("short-puk", "1234567");
    for line in [
        "puk verify work --puk-file @short-puk",
        "pin unblock work --puk-file @short-puk --new-pin-file @pin",
        "puk change work --puk-file @short-puk --new-puk-file @puk",
    ] {
        let run = scene.run(line);
        assert_eq!(run.code, 4, "{line}: {run:?}");
        let said = run.notes();
        assert!(
            said.contains(
                "the PUK must have 8 to 127 bytes; this one was not tried, 10 tries left"
            ),
            "{line}: {said}"
        );
    }
    // One that could be it costs a try, and is reported as wrong.
    let run = scene.run("puk verify work --puk-file @wrong-puk");
    assert!(run.notes().contains("wrong PUK; 9 tries left"), "{run:?}");
}
