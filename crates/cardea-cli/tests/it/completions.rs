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

#[test]
fn other_shells_are_refused() {
    let place = Place::without_daemon();
    assert_eq!(place.run(&["completions", "csh"]).code, 2);
}
