//! Completions, loaded in the shells that they are for.

use std::process::Command;

use crate::support::{Place, Run};

/// The script in its file.
fn script(place: &Place, shell: &str, name: &str) -> String {
    let printed = place.run(&["completions", shell]);
    assert_eq!(printed.code, 0, "{printed:?}");
    place.file(name, &printed.out)
}

fn run(shell: &str, arguments: &[&str]) -> String {
    let output = Command::new(shell)
        .args(arguments)
        .env("TERM", "dumb")
        .output();
    let run = Run::of(output.unwrap_or_else(|error| panic!("{shell}: {error}")));
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{shell}: {run:?}");
    run.out
}

#[test]
fn bash_completes_verbs() {
    let place = Place::without_daemon();
    let path = script(&place, "bash", "cardea.bash");
    let ask = format!(
        "source {path}; COMP_WORDS=(cardea card des); COMP_CWORD=2; _cardea cardea des card; echo \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(run("bash", &["--norc", "-c", &ask]).trim(), "destroy");
}

#[test]
fn fish_completes_verbs() {
    let place = Place::without_daemon();
    let path = script(&place, "fish", "cardea.fish");
    let ask = format!("source {path}; complete --do-complete 'cardea card de'");
    let offered = run("fish", &["--no-config", "-c", &ask]);
    assert!(offered.starts_with("destroy"), "{offered}");
}

#[test]
fn zsh_loads_the_function() {
    let place = Place::without_daemon();
    script(&place, "zsh", "_cardea");
    let folder = place.path("");
    let ask = format!(
        "fpath=({} $fpath); autoload -Uz compinit; compinit -D -u; autoload +X _cardea; print -r -- $_comps[cardea]",
        folder.display()
    );
    assert_eq!(run("zsh", &["-f", "-c", &ask]).trim(), "_cardea");
}

/// A daemon with two cards, of which one has a key; the shell finds the program and the daemon.
fn scene() -> Place {
    let place = Place::new();
    place.create("Alice", &[]);
    place.create("Bob's card", &[]);
    let pin = place.path("pin");
    let generate = [
        "key",
        "generate",
        "Alice",
        "--algorithm",
        "p-256",
        "--label",
        "work",
    ];
    let generate = [&generate[..], &["--pin-file", pin.to_str().unwrap()]].concat();
    assert_eq!(place.run(&generate).code, 0);
    place
}

fn run_in(place: &Place, shell: &str, arguments: &[&str]) -> String {
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(shell)
        .args(arguments)
        .env("TERM", "dumb")
        .env("PATH", format!("{}:{path}", place.path("").display()))
        .env("CARDEA_SOCKET", place.path("socket"))
        .output();
    let run = Run::of(output.unwrap_or_else(|error| panic!("{shell}: {error}")));
    assert_eq!(run.code, 0, "{shell}: {run:?}");
    run.out
}

/// What the scripts ask.
#[test]
fn names_of_cards_and_keys_are_offered() {
    let place = scene();
    let names = |words: &[&str]| {
        let run = place.run(&[&["complete", "--"], words].concat());
        assert_eq!((run.code, run.notes().as_str()), (0, ""));
        run.out
    };
    assert_eq!(names(&["card", "show", ""]), "Alice\nBob's card\n");
    assert_eq!(names(&["card", "show", "A"]), "Alice\n");
    assert_eq!(names(&["cert", "show", "Alice", ""]), "work\n");
    assert_eq!(names(&["cert", "show", "Bob\\'s\\ card", ""]), "");
    assert_eq!(names(&["cert", "show", "nobody", ""]), "");
    assert_eq!(names(&["card", "create", "--name", ""]), "");
    // Without a daemon there are none, and nothing is said.
    let away = Place::without_daemon();
    let run = away.run(&["complete", "--", "card", "show", ""]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
}

#[test]
fn bash_completes_names() {
    let place = scene();
    let path = script(&place, "bash", "cardea.bash");
    for (words, index, wanted) in [
        ("cardea card show Al", 3, "Alice"),
        ("cardea card show Bo", 3, r"Bob\'s\ card"),
        ("cardea csr create Alice --key w", 5, "work"),
    ] {
        let ask = format!(
            "source {path}; COMP_WORDS=({words}); COMP_CWORD={index}; _cardea_names cardea \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; printf '%s' \"${{COMPREPLY[*]}}\""
        );
        let offered = run_in(&place, "bash", &["--norc", "-c", &ask]);
        assert_eq!(offered, wanted, "{words}");
    }
}

#[test]
fn fish_completes_names() {
    let place = scene();
    let path = script(&place, "fish", "cardea.fish");
    for (line, wanted) in [
        ("card show Al", "Alice"),
        ("csr create Alice --key w", "work"),
    ] {
        let ask = format!("source {path}; complete --do-complete 'cardea {line}'");
        let offered = run_in(&place, "fish", &["--no-config", "-c", &ask]);
        let mut lines = offered.lines().map(|line| line.split('\t').next().unwrap());
        assert!(lines.any(|name| name == wanted), "{line}: {offered}");
    }
}

/// The function that the shell calls, with what it would set.
#[test]
fn zsh_completes_names() {
    let place = scene();
    script(&place, "zsh", "_cardea");
    let ask = format!(
        "fpath=({} $fpath); autoload -Uz compinit; compinit -D -u; compadd() {{ shift; print -rl -- ${{(P)1}}; }}; \
         autoload +X _cardea; _cardea_static() {{ :; }}; words=(cardea card show Al); CURRENT=4; _cardea",
        place.path("").display()
    );
    // Loaded for the first time, the file runs itself.
    let offered = run_in(&place, "zsh", &["-f", "-c", &ask]);
    assert!(offered.lines().any(|name| name == "Alice"), "{offered}");
}

#[test]
fn other_shells_are_refused() {
    let place = Place::without_daemon();
    assert_eq!(place.run(&["completions", "csh"]).code, 2);
}
