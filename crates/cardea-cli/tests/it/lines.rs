//! Command lines as text, a card `work`, key files, and OpenSSL.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Place, Run};

/// Files made by `make.sh` of cardea-pki.
pub(crate) fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../cardea-pki/tests/data")
        .join(name)
        .to_str()
        .unwrap()
        .to_owned()
}

/// Runs a command line of words; `@name` is a file of the place, `%name` a fixture.
pub(crate) fn run(place: &Place, line: &str) -> Run {
    let folder = place
        .path("x")
        .to_str()
        .unwrap()
        .trim_end_matches('x')
        .to_owned();
    let words: Vec<String> = line
        .split(' ')
        .map(
            |word| match (word.strip_prefix('%'), word.strip_prefix('@')) {
                (Some(name), _) => fixture(name),
                (_, Some(name)) => format!("{folder}{name}"),
                _ => word.to_owned(),
            },
        )
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    place.run(&words)
}

/// The same; it must end with this code. Gives what was said.
pub(crate) fn says(place: &Place, line: &str, code: i32) -> String {
    let run = run(place, line);
    assert_eq!(run.code, code, "{line}: {run:?}");
    run.notes().replace(&fixture(""), "")
}

pub(crate) fn data(place: &Place, line: &str) -> String {
    let run = run(place, line);
    assert_eq!(run.code, 0, "{line}: {run:?}");
    run.out
}

pub(crate) fn json(place: &Place, line: &str) -> Value {
    serde_json::from_str(&data(place, line)).unwrap()
}

pub(crate) fn place() -> Place {
    let place = Place::new();
    place.create("work", &[]);
    place.file("wrong", "999999");
    place.file("sesame", "sesame\n");
    place
}

pub(crate) fn tries(place: &Place) -> u64 {
    let card = json(place, "card show work --json");
    card.pointer("/pin/left").and_then(Value::as_u64).unwrap()
}

/// Standard output and standard error of `openssl`; it must succeed.
pub(crate) fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "openssl {arguments:?}: {text:?}");
    text.concat()
}
