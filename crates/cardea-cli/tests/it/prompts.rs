//! Secrets typed at a terminal.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::Place;

/// The command on a terminal of its own, made by script(1).
pub(crate) struct Terminal {
    child: Child,
    seen: Vec<u8>,
}

impl Terminal {
    pub(crate) fn run(place: &Place, arguments: &str) -> Self {
        Self::run_program(place, &place.program(), arguments)
    }

    pub(crate) fn run_program(place: &Place, program: &Path, arguments: &str) -> Self {
        Self::run_line(place, &format!("{} {arguments}", program.display()))
    }

    /// A line that a shell runs.
    pub(crate) fn run_line(place: &Place, command: &str) -> Self {
        let child = Command::new("script")
            .args(["-qec", command, "/dev/null"])
            .env("CARDEA_SOCKET", place.path("socket"))
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is installed");
        Self {
            child,
            seen: Vec::new(),
        }
    }

    /// Waits until the terminal shows this after what was awaited before, then types a line.
    pub(crate) fn answer(&mut self, prompt: &str, line: &str) {
        self.wait_for(prompt);
        self.type_line(line);
    }

    /// What was shown up to this.
    pub(crate) fn wait_for(&mut self, prompt: &str) -> String {
        let out = self.child.stdout.as_mut().unwrap();
        let (mut shown, mut byte) = (Vec::new(), [0]);
        while !shown.ends_with(prompt.as_bytes()) {
            let count = out.read(&mut byte).unwrap();
            assert_eq!(count, 1, "{}", String::from_utf8_lossy(&shown));
            shown.extend(byte);
        }
        self.seen.extend(&shown);
        String::from_utf8_lossy(&shown).into_owned()
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// The exit code and all that was on the terminal.
    pub(crate) fn end(mut self) -> (i32, String) {
        self.child
            .stdout
            .as_mut()
            .unwrap()
            .read_to_end(&mut self.seen)
            .unwrap();
        let status = self.child.wait().unwrap();
        let seen = String::from_utf8_lossy(&self.seen).into_owned();
        (status.code().unwrap(), seen)
    }
}

#[test]
fn pin_is_asked_twice_and_not_echoed() {
    let place = Place::new();
    let mut terminal = Terminal::run(&place, "card create --name typed");
    terminal.answer("PIN: ", "48151623");
    terminal.answer("PIN again: ", "48151623");
    terminal.answer("PUK [g/t/n]: ", "n");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert!(!seen.contains("48151623"), "{seen}");
    let mut terminal = Terminal::run(&place, "pin change typed");
    terminal.answer("PIN: ", "48151623");
    terminal.answer("new PIN: ", "123456");
    terminal.answer("new PIN again: ", "123456");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    // For whoever changes it because of a suspicion, and only where it was changed.
    assert!(
        seen.contains("if somebody else may know the old PIN"),
        "{seen}"
    );
    let mut terminal = Terminal::run(&place, "pin change typed");
    terminal.answer("PIN: ", "000000");
    terminal.answer("new PIN: ", "48151623");
    terminal.answer("new PIN again: ", "48151623");
    let (code, seen) = terminal.end();
    assert_eq!(code, 4, "{seen}");
    assert!(!seen.contains("if somebody else may know"), "{seen}");
}

#[test]
fn algorithm_is_asked_for_with_the_one_that_suits_everybody_first() {
    let place = Place::new();
    place.create("typed", &[]);
    for (options, answers, algorithm) in [
        (
            "",
            &[("", "algorithm [rsa-2048/rsa-3072/p-256/p-384]: ")][..],
            "rsa-2048",
        ),
        (
            "",
            &[
                ("rsa", "p-384]: "),
                ("P-256", "one of rsa-2048/rsa-3072/p-256/p-384: "),
            ],
            "p-256",
        ),
        ("--algorithm p-256", &[], "p-256"),
    ] {
        let command = format!("key generate typed --json {options}");
        let mut terminal = Terminal::run(&place, &command);
        for (typed, prompt) in answers {
            terminal.answer(prompt, typed);
        }
        terminal.answer("PIN: ", "123456");
        let (code, seen) = terminal.end();
        assert_eq!(code, 0, "{seen}");
        assert!(
            seen.contains(&format!("\"algorithm\": \"{algorithm}\"")),
            "{seen}"
        );
    }
}

/// The card is found before the prompt, and is not looked up by its name again.
#[test]
fn prompt_is_for_the_card_that_had_the_name_before_it() {
    let place = Place::new();
    let left = |card: &str| {
        let shown = place.run(&["card", "show", "--json", card]).json();
        shown["pin"]["left"].clone()
    };
    let first = place.create("work", &[]);
    let first = first["card_id"].as_str().unwrap();
    let mut terminal = Terminal::run(&place, "pin verify work");
    terminal.wait_for("PIN: ");
    let second = place.create("work", &[]);
    let second = second["card_id"].as_str().unwrap();
    terminal.type_line("000000");
    let (code, seen) = terminal.end();
    assert_eq!(code, 4, "{seen}");
    assert_eq!((left(first), left(second)), (4.into(), 5.into()));
    assert_eq!(place.run(&["card", "show", "work"]).code, 8);

    // The name has passed to the other card: the answer is for none.
    place.run(&["card", "destroy", second, "--yes"]);
    let mut terminal = Terminal::run(&place, "pin verify work");
    terminal.wait_for("PIN: ");
    place.run(&["card", "destroy", first, "--yes"]);
    let third = place.create("work", &[]);
    terminal.type_line("000000");
    let (code, seen) = terminal.end();
    assert_eq!(code, 7, "{seen}");
    assert_eq!(left(third["card_id"].as_str().unwrap()), 5);
}

/// Whoever may not create a card, or has no daemon for it, is not asked for its PIN; nor is anybody whose card would
/// be refused afterwards.
#[test]
fn creation_that_is_refused_asks_for_nothing() {
    let refused = |place: &Place, arguments: &str, code: i32, text: &str| {
        let (seen_code, seen) = Terminal::run(place, arguments).end();
        assert_eq!(seen_code, code, "{arguments}: {seen}");
        assert!(seen.contains(text), "{arguments}: {seen}");
        assert!(
            !seen.contains("PIN: ") && !seen.contains("phrase: "),
            "{seen}"
        );
    };
    let place = Place::without_daemon();
    refused(
        &place,
        "card create --name typed",
        3,
        "is cardea-daemon running",
    );
    refused(&place, "card create --name a:b", 2, "must not have a colon");
    let place = Place::new();
    let there = place.file("there", "");
    for (arguments, text) in [
        (format!("--admin-key escrowed:{there}"), "already exists"),
        (format!("--store {there}"), "is not a folder; --store"),
        ("--store /nonexistent".to_owned(), "/nonexistent"),
        ("--owner no-such-user".to_owned(), "no user no-such-user"),
    ] {
        let command = format!("card create --name typed {arguments}");
        let code = if text == "/nonexistent" { 1 } else { 2 };
        refused(&place, &command, code, text);
    }
    // The TPM would not let the card be made.
    let auth = place.path("auth");
    let provision = ["tpm", "provision", "--yes", "--out", auth.to_str().unwrap()];
    assert_eq!(place.run(&provision).code, 0);
    refused(
        &place,
        "card create --name typed",
        6,
        "--owner-auth-file or --owner-auth-fd",
    );
    assert_eq!(place.run(&["card", "list", "--json"]).out.trim(), "[]");
    let given = format!(
        "card create --name typed --no-puk --owner-auth-file {}",
        auth.display()
    );
    let mut terminal = Terminal::run(&place, &given);
    terminal.answer("PIN: ", "48151623");
    terminal.answer("PIN again: ", "48151623");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
}

#[test]
fn name_that_another_card_has_is_said_before_the_prompt() {
    let place = Place::new();
    let id = place.create("work", &[])["card_id"].clone();
    let mut terminal = Terminal::run(&place, "card create --name work");
    let seen = terminal.wait_for("PIN: ");
    assert!(seen.contains("already a card work"), "{seen}");
    assert!(seen.contains(id.as_str().unwrap()), "{seen}");
    terminal.type_line("\x03");
    assert_eq!(terminal.end().0, 1);
}

/// What blocked the PIN is known before anybody types one.
#[test]
fn blocked_pin_and_puk_are_said_before_the_prompt() {
    let place = Place::new();
    let puk = place.file("puk", "87654321");
    let wrong = place.file("wrong", "99999999");
    place.create(
        "with",
        &["--puk-file", &puk, "--pin-tries", "1", "--puk-tries", "1"],
    );
    place.create("without", &["--pin-tries", "1"]);
    place.create(
        "administered",
        &["--pin-tries", "1", "--admin-key", "default"],
    );
    for (card, way) in [
        ("with", "cardea pin unblock with"),
        ("without", "neither PUK nor administrator"),
        ("administered", "administrator can unblock it"),
    ] {
        place.run(&["pin", "verify", card, "--pin-file", &wrong]);
        for command in ["pin verify", "pin change", "key generate --algorithm p-256"] {
            let (code, seen) = Terminal::run(&place, &format!("{command} {card}")).end();
            assert_eq!(code, 5, "{command} {card}: {seen}");
            assert!(seen.contains(way) && !seen.contains("PIN: "), "{seen}");
        }
    }
    place.run(&["puk", "verify", "with", "--puk-file", &wrong]);
    for command in ["puk verify with", "puk change with", "pin unblock with"] {
        let (code, seen) = Terminal::run(&place, command).end();
        assert_eq!(code, 5, "{command}: {seen}");
        assert!(!seen.contains("PUK: "), "{seen}");
    }
}

/// Nobody loses a first card by five typing errors without having chosen that.
#[test]
fn puk_is_offered_and_shown_once() {
    let place = Place::new();
    let mut terminal = Terminal::run(&place, "card create --name typed");
    terminal.answer("PIN: ", "48151623");
    terminal.answer("PIN again: ", "48151623");
    let offer = terminal.wait_for("PUK [g/t/n]: ");
    assert!(offer.contains("the card and its keys are lost"), "{offer}");
    terminal.type_line("x");
    terminal.answer("one of g/t/n: ", "");
    let shown = terminal.wait_for("press Enter. ");
    assert_eq!(place.run(&["card", "list", "--json"]).out.trim(), "[]");
    terminal.type_line("");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    let puk = shown
        .split("PUK: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .trim();
    assert!(
        puk.len() == 12 && puk.bytes().all(|byte| byte.is_ascii_digit()),
        "{shown}"
    );
    assert_eq!(seen.matches(puk).count(), 1, "{seen}");
    let wrong = place.file("wrong", "00000000");
    for _ in 0..5 {
        place.run(&["pin", "verify", "typed", "--pin-file", &wrong]);
    }
    let (pin, puk) = (place.path("pin"), place.file("puk", puk));
    let unblock = ["pin", "unblock", "typed", "--puk-file", &puk];
    let unblock = [&unblock[..], &["--new-pin-file", pin.to_str().unwrap()]].concat();
    let run = place.run(&unblock);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn puk_is_typed_or_refused_knowingly() {
    let place = Place::new();
    let create = |name: &str, answer: &str, options: &str| {
        let command = format!("card create --name {name} {options}");
        let mut terminal = Terminal::run(&place, &command);
        terminal.answer("PIN: ", "48151623");
        terminal.answer("PIN again: ", "48151623");
        if !answer.is_empty() {
            terminal.answer("PUK [g/t/n]: ", answer);
        }
        if answer == "t" {
            terminal.answer("PUK: ", "87654321");
            terminal.answer("PUK again: ", "87654321");
        }
        let (code, seen) = terminal.end();
        assert_eq!(code, 0, "{seen}");
        let card = place.run(&["card", "show", "--json", name]).json();
        (!card["puk"].is_null(), seen)
    };
    assert!(create("typed", "t", "").0);
    assert!(!create("none", "N", "").0);
    let (has_puk, seen) = create("silent", "", "--no-puk");
    let (said, asked) = (seen.find("cannot be unblocked"), seen.find("PIN: "));
    assert!(!has_puk && said.unwrap() < asked.unwrap(), "{seen}");
    // Somebody else can unblock it.
    assert!(!create("administered", "", "--admin-key default").0);
}

#[test]
fn interrupt_while_the_puk_is_shown_makes_nothing() {
    let place = Place::new();
    for (answer, typed) in [("", "\x03"), ("\x03", "")] {
        let mut terminal = Terminal::run(&place, "card create --name typed");
        terminal.answer("PIN: ", "48151623");
        terminal.answer("PIN again: ", "48151623");
        terminal.answer("PUK [g/t/n]: ", answer);
        if !typed.is_empty() {
            terminal.answer("press Enter. ", typed);
        }
        let (code, seen) = terminal.end();
        assert_ne!(code, 0, "{seen}");
        assert_eq!(place.run(&["card", "list", "--json"]).out.trim(), "[]");
    }
}

#[test]
fn interrupt_at_a_prompt_makes_nothing() {
    let place = Place::new();
    let mut terminal = Terminal::run(&place, "card create --name typed");
    terminal.answer("PIN: ", "12\x03");
    let (code, seen) = terminal.end();
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains("interrupted"), "{seen}");
}

#[test]
fn two_different_entries_make_nothing() {
    let place = Place::new();
    let mut terminal = Terminal::run(&place, "card create --name typed");
    terminal.answer("PIN: ", "123456");
    terminal.answer("PIN again: ", "123457");
    let (code, seen) = terminal.end();
    assert_eq!(code, 2, "{seen}");
    assert!(seen.contains("do not match"), "{seen}");
    assert_eq!(place.run(&["card", "list", "--json"]).out.trim(), "[]");
}

#[test]
fn pin_against_the_policy_is_not_asked_again() {
    let place = Place::new();
    let mut terminal = Terminal::run(&place, "card create --name typed --pin-policy min=8 --puk");
    terminal.answer("PIN: ", "123456");
    let (code, seen) = terminal.end();
    assert_eq!(code, 2, "{seen}");
    assert!(seen.contains("6 bytes; it must have 8 to 127"), "{seen}");
}

#[test]
fn puk_is_asked_for_and_unblocks() {
    let place = Place::new();
    let mut terminal = Terminal::run(&place, "card create --name typed --puk");
    for (prompt, typed) in [("PIN: ", "48151623"), ("PUK: ", "87654321")] {
        terminal.answer(prompt, typed);
        terminal.answer(&prompt.replace(':', " again:"), typed);
    }
    assert_eq!(terminal.end().0, 0);
    let mut terminal = Terminal::run(&place, "pin unblock typed");
    terminal.answer("PUK: ", "87654321");
    terminal.answer("new PIN: ", "123456");
    terminal.answer("new PIN again: ", "123456");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert!(
        !seen.contains("87654321") && !seen.contains("123456"),
        "{seen}"
    );
    let mut terminal = Terminal::run(&place, "puk change typed");
    terminal.answer("PUK: ", "87654321");
    terminal.answer("new PUK: ", "11112222");
    terminal.answer("new PUK again: ", "11112222");
    assert_eq!(terminal.end().0, 0);
    for (command, prompt, typed) in [
        ("pin verify typed", "PIN: ", "123456"),
        ("puk verify typed", "PUK: ", "11112222"),
    ] {
        let mut terminal = Terminal::run(&place, command);
        terminal.answer(prompt, typed);
        let (code, seen) = terminal.end();
        assert_eq!(code, 0, "{seen}");
    }
}

#[test]
fn response_is_typed_with_blanks_to_the_challenge_shown() {
    let place = Place::new();
    let key = "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123";
    let file = format!("file:{}", place.file("key", key));
    let id = place.create("typed", &["--admin-key", &file])["card_id"].clone();
    let unblock = |typed: &dyn Fn(&str) -> String| {
        let mut terminal = Terminal::run(&place, "pin unblock typed --admin");
        let seen = terminal.wait_for("response: ");
        assert!(seen.contains(id.as_str().unwrap()), "{seen}");
        let challenge = seen.split("challenge: ").nth(1).unwrap();
        let challenge = challenge.lines().next().unwrap().trim().to_owned();
        terminal.type_line(&typed(&challenge));
        terminal
    };
    let terminal = unblock(&|_| "0011 2233 4455".into());
    let (code, seen) = terminal.end();
    assert_eq!(code, 2, "{seen}");
    assert!(seen.contains("16 hexadecimal digits"), "{seen}");
    let respond = |challenge: &str| {
        let digits = crate::secrets::respond(challenge, key);
        format!("{} {}", &digits[..4], &digits[4..])
    };
    let mut terminal = unblock(&respond);
    terminal.answer("new PIN: ", "654321");
    terminal.answer("new PIN again: ", "654321");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    let mut terminal = unblock(&|_| "0011223344556677".into());
    terminal.answer("new PIN: ", "111111");
    terminal.answer("new PIN again: ", "111111");
    let (code, seen) = terminal.end();
    assert_eq!(code, 4, "{seen}");
    let new = place.file("new", "654321");
    assert_eq!(
        place
            .run(&["pin", "verify", "typed", "--pin-file", &new])
            .code,
        0
    );
}

#[test]
fn passphrase_is_asked_only_for_files_that_need_one() {
    let place = Place::new();
    place.create("typed", &[]);
    let fixture = |name: &str| {
        format!(
            "{}/../cardea-pki/tests/data/{name}",
            env!("CARGO_MANIFEST_DIR")
        )
    };
    let mut terminal = Terminal::run(
        &place,
        &format!("key import typed {}", fixture("modern.p12")),
    );
    terminal.answer("passphrase of the file: ", "sesame");
    terminal.answer("PIN: ", "123456");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert!(!seen.contains("sesame"), "{seen}");
    let mut terminal = Terminal::run(
        &place,
        &format!("key import typed {}", fixture("p256.pkcs8.pem")),
    );
    terminal.answer("PIN: ", "123456");
    assert_eq!(terminal.end().0, 0);
    let mut terminal = Terminal::run(&place, "key delete typed 9E --pin-fd 0");
    terminal.answer("[y/N] ", "n");
    let (code, seen) = terminal.end();
    assert_eq!(code, 1, "{seen}");
    assert!(seen.contains("nothing deleted"), "{seen}");
    // DER is not for terminals.
    let mut terminal = Terminal::run(&place, "key delete typed 9E");
    terminal.answer("[y/N] ", "y");
    terminal.answer("PIN: ", "123456");
    assert_eq!(terminal.end().0, 0);
    let (code, seen) = Terminal::run(&place, "cert export typed 81 --format der").end();
    assert_eq!(code, 2, "{seen}");
}

#[test]
fn admin_key_is_asked_in_hexadecimal() {
    let place = Place::new();
    let key = "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123";
    let mut terminal = Terminal::run(&place, "card create --name typed --admin-key prompt");
    for prompt in ["digits): ", "digits) again: "] {
        terminal.answer(prompt, key);
    }
    terminal.answer("PIN: ", "123456");
    terminal.answer("PIN again: ", "123456");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    let card = place.run(&["card", "show", "--json", "typed"]).json();
    assert_eq!(card["administrator"], true);
    // The present key by a file, the new one typed.
    let file = place.file("key", key);
    let command = format!("admin change-key typed --admin-key-file {file}");
    let new = "FEDCBA9876543210EFCDAB8967452301DEBC9A7856341290";
    let mut terminal = Terminal::run(&place, &command);
    for prompt in ["digits): ", "digits) again: "] {
        terminal.answer(prompt, new);
    }
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert!(!seen.contains(new), "{seen}");
    let file = place.file("key", new);
    let verify = ["admin", "verify", "typed", "--admin-key-file", &file];
    assert_eq!(place.run(&verify).code, 0);
}

#[test]
fn destruction_is_asked_for() {
    let place = Place::new();
    place.create("work", &[]);
    let mut terminal = Terminal::run(&place, "card destroy work");
    terminal.answer("[y/N] ", "n");
    assert_eq!(terminal.end().0, 1);
    let mut terminal = Terminal::run(&place, "card destroy work");
    terminal.answer("[y/N] ", "y");
    assert_eq!(terminal.end().0, 0);
    assert_eq!(place.run(&["card", "show", "work"]).code, 7);
}

#[test]
fn colours_are_on_terminals_only_and_not_with_no_color() {
    let place = Place::new();
    place.create("work", &[]);
    let (_, seen) = Terminal::run(&place, "card list").end();
    assert!(seen.contains("\x1b[32mready"), "{seen:?}");
    let piped = place.run(&["card", "list"]);
    assert!(!piped.out.contains('\x1b'));
    let command = format!("env NO_COLOR=1 {} card list", place.program().display());
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("CARDEA_SOCKET", place.path("socket"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        seen.contains("ready") && !seen.contains("\x1b[32m"),
        "{seen:?}"
    );
}
