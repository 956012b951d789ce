//! A newcomer types the README's commands, in its order, on a terminal of 80 columns; then five wrong PINs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::prompts::Terminal;
use crate::support::{Place, redact};

const PIN: &str = "271828";

/// The commands of this program in the README, without their comments.
fn commands() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    lines
        .filter(|line| line.starts_with("cardea "))
        .map(|line| line.split("  #").next().unwrap().trim().to_owned())
        .collect()
}

/// What a command asks, and what is typed.
fn answers(command: &str) -> &'static [(&'static str, &'static str)] {
    let verb: Vec<&str> = command.split(' ').skip(1).take(2).collect();
    match *verb {
        ["card", "create"] => &[
            ("PIN: ", PIN),
            ("PIN again: ", PIN),
            ("PUK [g/t/n]: ", ""),
            ("press Enter. ", ""),
        ],
        ["key", "generate"] if !command.contains("--algorithm") => {
            &[("p-384]: ", ""), ("PIN: ", PIN)]
        }
        ["key", "generate"] | ["csr", "create"] | ["cert", "import"] => &[("PIN: ", PIN)],
        _ => &[],
    }
}

/// Types a command; what was seen.
fn types(place: &Place, command: &str, answers: &[(&str, &str)]) -> (i32, String) {
    let folder = place.path("");
    let line = format!(
        "stty cols 80 rows 24; export NO_COLOR=1; cd {0} && PATH={0}:$PATH && {command}",
        folder.display()
    );
    let mut terminal = Terminal::run_line(place, &line);
    for (prompt, typed) in answers {
        terminal.answer(prompt, typed);
    }
    let (code, seen) = terminal.end();
    let seen = seen.replace("\r\n", "\n");
    // A command is one line, to be copied.
    for line in seen.lines().filter(|line| !line.starts_with("    ")) {
        assert!(line.chars().count() <= 80, "{command}: {line}");
    }
    (code, seen)
}

/// What the certification authority does with the request.
fn certify(place: &Place) {
    for arguments in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=CA",
        "x509 -req -in alice.csr -CA ca.pem -CAkey ca.key -set_serial 1 -days 30 -out alice.pem",
    ] {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(place.path(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn readme_is_followed_by_a_newcomer_whose_card_survives_five_wrong_pins() {
    let place = Place::new();
    let commands = commands();
    assert!(commands.len() >= 5, "{commands:?}");
    let mut puk = String::new();
    let mut seen = String::new();
    for command in &commands {
        if command.starts_with("cardea cert import") {
            certify(&place);
        }
        if command.starts_with("cardea pin unblock") {
            for _ in 0..5 {
                let (_, told) = types(&place, "cardea pin verify Alice", &[("PIN: ", "314159")]);
                seen += &format!("$ cardea pin verify Alice\n{told}");
            }
            let (code, told) = types(&place, "cardea pin verify Alice", &[]);
            assert_eq!(code, 5, "{told}");
            seen += &format!("$ cardea pin verify Alice\n{told}");
            let unblock = [("PUK: ", &*puk), ("PIN: ", PIN), ("again: ", PIN)];
            let (code, told) = types(&place, command, &unblock);
            assert_eq!(code, 0, "{told}");
            seen += &format!("$ {command}\n{told}");
            continue;
        }
        let (code, told) = types(&place, command, answers(command));
        if command.starts_with("cardea doctor") {
            // What it finds is this machine's; that it fits was seen.
            continue;
        }
        assert_eq!(code, 0, "{command}: {told}");
        if let Some((_, shown)) = told.split_once("\nPUK: ") {
            shown.lines().next().unwrap().clone_into(&mut puk);
        }
        seen += &format!("$ {command}\n{told}");
    }
    let pin = place.path("pin");
    fs::write(&pin, PIN).unwrap();
    let verify = [
        "pin",
        "verify",
        "Alice",
        "--pin-file",
        pin.to_str().unwrap(),
    ];
    assert_eq!(place.run(&verify).code, 0);
    let card = place.run(&["card", "show", "Alice", "--json"]).json();
    let kept: String = redact(&seen.replace(&puk, "[PUK]"), &card)
        .lines()
        .filter(|line| !line.ends_with('…'))
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    insta::assert_snapshot!("newcomer", kept);
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/first-card.cast");
    let made = asciicast(&kept);
    if std::env::var_os("CARDEA_RECORD").is_some() {
        fs::write(&recording, &made).unwrap();
    }
    assert_eq!(
        fs::read_to_string(recording).unwrap(),
        made,
        "CARDEA_RECORD=1 makes it anew"
    );
}

/// What was seen as a recording for asciinema, version 2 of its format: typed at a person's pace, the same each time.
fn asciicast(seen: &str) -> String {
    let header = serde_json::json!({
        "version": 2, "width": 80, "height": 30, "title": "A first card with Cardea",
    });
    let mut recording = format!("{header}\n");
    let mut now = 0_u32;
    let mut show = |milliseconds: u32, text: &str| {
        now += milliseconds;
        let text = serde_json::to_string(text).unwrap();
        recording += &format!("[{}.{:03}, \"o\", {text}]\n", now / 1000, now % 1000);
    };
    for line in seen.lines() {
        let Some(command) = line.strip_prefix("$ ") else {
            show(60, line);
            // An answer is typed, without an echo.
            show(if line.ends_with(':') { 1200 } else { 0 }, "\r\n");
            continue;
        };
        show(900, "$ ");
        for letter in command.chars() {
            show(45, letter.encode_utf8(&mut [0; 4]));
        }
        show(500, "\r\n");
    }
    recording
}
