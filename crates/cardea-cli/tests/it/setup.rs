//! The guided first run, on a terminal.

use std::fs;

use crate::doctor::machine;
use crate::prompts::Terminal;
use crate::support::Place;

/// The walk in the folder of the place, where its files go.
fn walk(place: &Place, root: &str) -> Terminal {
    let line = format!(
        "cd {} && {} setup --root {root}",
        place.path("").display(),
        place.program().display()
    );
    Terminal::run_line(place, &line)
}

/// What this machine lacks: authorisations of its TPM, and polkit.
const MACHINE: [(&str, &str); 2] = [("run it [n/y]: ", ""), ("run it [n/y]: ", "n")];

fn answer(terminal: &mut Terminal, answers: &[(&str, &str)]) {
    for (prompt, typed) in answers {
        terminal.answer(prompt, typed);
    }
}

/// What there is: cards, keys of the first one, certificates, files that a step has written.
fn made(place: &Place) -> (usize, usize, usize, usize) {
    let count = |run: crate::support::Run| run.json().as_array().unwrap().len();
    let cards = count(place.run(&["card", "list", "--json"]));
    let of = |noun: &str| match cards {
        0 => 0,
        _ => count(place.run(&[noun, "list", "Alice", "--json"])),
    };
    let files = ["Alice.csr", "Alice-admin-key", "cardea-tpm-authorisations"];
    let files = files.iter().filter(|name| place.path(name).exists());
    (cards, of("key"), of("cert"), files.count())
}

#[test]
fn walk_makes_a_card_a_key_and_a_request_whatever_is_typed_at_first() {
    let place = Place::new();
    let root = machine(&place);
    place.file("there.csr", "");
    let mut terminal = walk(&place, &root);
    answer(&mut terminal, &MACHINE);
    answer(
        &mut terminal,
        &[
            ("name of the card [root]: ", "a:b"),
            ("name of the card [root]: ", "Alice"),
            ("answer [g/t/a/n]: ", "x"),
            ("one of g/t/a/n: ", ""),
            ("PIN: ", "271828"),
            ("PIN again: ", "271829"),
            ("try again [y/n]: ", ""),
            ("PIN: ", "271828"),
            ("PIN again: ", "271828"),
            ("press Enter. ", ""),
            ("p-384]: ", "p-256"),
            ("name of the key [work]: ", "-x"),
            ("name of the key [work]: ", ""),
            ("PIN: ", "000000"),
            ("try again [y/n]: ", "y"),
            ("PIN: ", "271828"),
            ("answer [r/s/n]: ", ""),
            ("subject [CN=Alice]: ", "nonsense"),
            ("subject [CN=Alice]: ", ""),
            ("file of the request [Alice.csr]: ", "there.csr"),
            ("file of the request [Alice.csr]: ", ""),
            ("PIN: ", "271828"),
        ],
    );
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert_eq!(made(&place), (1, 1, 0, 1));
    let request = fs::read_to_string(place.path("Alice.csr")).unwrap();
    assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    for shown in [
        "$ cardea tpm provision --out cardea-tpm-authorisations",
        "a name must not have a colon",
        "$ cardea card create --name=Alice --generate-puk",
        "the two entries of the PIN do not match",
        "$ cardea key generate Alice --algorithm p-256 --label work",
        "wrong PIN; 4 tries left",
        "there.csr already exists",
        "$ cardea csr create Alice --key work --subject=CN=Alice --out=Alice.csr",
        "cardea cert import Alice CERTIFICATE",
    ] {
        assert!(seen.contains(shown), "{shown}: {seen}");
    }

    // Again: what there is stays, and what is missing is made.
    let mut terminal = walk(&place, &root);
    answer(&mut terminal, &MACHINE);
    answer(
        &mut terminal,
        &[
            ("name of the card [Alice]: ", ""),
            ("answer [r/s/n]: ", "s"),
            ("subject [CN=Alice]: ", "CN=Alice Liddell"),
            ("PIN: ", "271828"),
        ],
    );
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    let command = "$ cardea cert self-sign Alice --key work '--subject=CN=Alice Liddell'";
    assert!(seen.contains(command), "{seen}");
    assert_eq!(made(&place), (1, 1, 1, 1));
    let mut terminal = walk(&place, &root);
    answer(&mut terminal, &MACHINE);
    answer(&mut terminal, &[("name of the card [Alice]: ", "")]);
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
}

/// A part of the walk, what there is before it, and the question behind it.
type Part<'a> = (
    &'a [(&'a str, &'a str)],
    (usize, usize, usize, usize),
    Option<&'a str>,
);

/// Control-C at every question: the step before it is whole, the one behind it was not begun.
#[test]
fn walk_that_is_interrupted_leaves_nothing_half_made() {
    let place = Place::new();
    let root = machine(&place);
    let first = [
        ("name of the card [root]: ", "Alice"),
        ("answer [g/t/a/n]: ", "g"),
        ("PIN: ", "271828"),
        ("PIN again: ", "271828"),
        ("press Enter. ", ""),
    ];
    let kept = [
        ("name of the card [root]: ", "Alice"),
        ("answer [g/t/a/n]: ", "a"),
        ("passphrase: ", "correct horse"),
        ("passphrase again: ", "correct horse"),
        ("PIN: ", "271828"),
        ("PIN again: ", "271828"),
    ];
    let key = [
        ("name of the card [Alice]: ", ""),
        ("p-384]: ", "p-256"),
        ("name of the key [work]: ", ""),
        ("PIN: ", "271828"),
    ];
    let request = [
        ("name of the card [Alice]: ", ""),
        ("answer [r/s/n]: ", "r"),
        ("subject [CN=Alice]: ", ""),
        ("file of the request [Alice.csr]: ", ""),
        ("PIN: ", "271828"),
    ];
    let parts: [Part<'_>; 4] = [
        (&kept, (0, 0, 0, 0), None),
        (&first, (0, 0, 0, 0), Some("p-384]: ")),
        (&key, (1, 0, 0, 0), Some("answer [r/s/n]: ")),
        (&request, (1, 1, 0, 0), None),
    ];
    for (part, before, next) in parts {
        let whole = [&MACHINE, part].concat();
        for index in 0..whole.len() {
            let mut terminal = walk(&place, &root);
            answer(&mut terminal, &whole[..index]);
            terminal.answer(whole[index].0, "\x03");
            let (code, seen) = terminal.end();
            assert_ne!(code, 0, "{seen}");
            assert_eq!(made(&place), before, "{index}: {seen}");
        }
        if let Some(next) = next {
            let mut terminal = walk(&place, &root);
            answer(&mut terminal, &whole);
            terminal.answer(next, "\x03");
            assert_ne!(terminal.end().0, 0);
        }
    }
    assert_eq!(made(&place), (1, 1, 0, 0));
}

#[test]
fn command_that_mends_is_run_when_it_is_wanted() {
    let place = Place::new();
    let root = machine(&place);
    let mut terminal = walk(&place, &root);
    terminal.answer("run it [n/y]: ", "y");
    terminal.answer("[y/N] ", "y");
    terminal.answer("run it [n/y]: ", "");
    terminal.answer("name of the card [root]: ", "\x03");
    let (code, seen) = terminal.end();
    assert_ne!(code, 0, "{seen}");
    assert_eq!(made(&place), (0, 0, 0, 1));
    let status = place.run(&["tpm", "status", "--json"]).json();
    assert_eq!(status["owner_auth_set"], true, "{seen}");
}

#[test]
fn walk_needs_a_terminal_and_a_daemon() {
    let place = Place::without_daemon();
    let root = machine(&place);
    let mut command = std::process::Command::new("setsid");
    command.arg("--wait").arg(place.program()).arg("setup");
    let run = crate::support::Run::of(command.output().unwrap());
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("cardea card create"), "{run:?}");
    let mut terminal = walk(&place, &root);
    terminal.answer("run it [y/n]: ", "n");
    answer(&mut terminal, &MACHINE[1..]);
    let (code, seen) = terminal.end();
    assert_eq!(code, 3, "{seen}");
    assert!(seen.contains("is cardea-daemon running"), "{seen}");
}
