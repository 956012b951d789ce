//! Behaviours of a PKCS#11 module, against the standard (2.40 and 3.1): `pkcs11-suite --module PATH --label TOKEN
//! --pin PIN --so-pin PIN [NAME…]`.
//!
//! One line for each behaviour: `ok NAME` or `differs NAME: what was seen`. Each is tried in a process of its own,
//! so a module that dies of one is asked for the next. The token must be ours alone; two keys are made on it first.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of the tests, which fails by ending"
)]
#![expect(
    unsafe_code,
    reason = "the interface is C; each pointer is to something that outlives its call, or wrong on purpose"
)]

mod arguments;
mod context;
mod decryption;
mod general;
mod keys;
mod module;
mod objects;
mod order;
mod pins;
mod sessions;
mod signing;

use std::process::{Command, Stdio};

use context::{Context, Outcome, Token};

/// A behaviour: what it is called, and what finds out whether it is so.
type Behaviour = (String, Box<dyn Fn(&Context) -> Outcome>);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut token = Token::default();
    let (mut names, mut one, mut make) = (Vec::new(), None, false);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value");
        match argument.as_str() {
            "--module" => token.module = value(),
            "--label" => token.label = value(),
            "--pin" => token.pin = value(),
            "--so-pin" => token.so_pin = value(),
            "--one" => one = Some(value()),
            "--make-keys" => make = true,
            name => names.push(name.to_owned()),
        }
    }
    if make {
        return Context::begin(token).make_keys();
    }
    if let Some(name) = one {
        let behaviours = behaviours();
        let (_, find_out) = behaviours
            .iter()
            .find(|(known, _)| *known == name)
            .expect("a known behaviour");
        match find_out(&Context::begin(token)) {
            Ok(()) => println!("ok {name}"),
            Err(seen) => println!("differs {name}: {seen}"),
        }
        return;
    }
    let own = std::env::current_exe().unwrap();
    let again = |further: &[&str]| {
        let mut command = Command::new(&own);
        command
            .args(["--module", &token.module, "--label", &token.label])
            .args(["--pin", &token.pin, "--so-pin", &token.so_pin])
            .args(further)
            .stdin(Stdio::null());
        command.output().unwrap()
    };
    let made = again(&["--make-keys"]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    for (name, _) in behaviours() {
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let tried = again(&["--one", &name]);
        let said = String::from_utf8_lossy(&tried.stdout);
        let told = said
            .lines()
            .find(|line| line.starts_with("ok ") || line.starts_with("differs "));
        match told {
            Some(line) if tried.status.success() => println!("{line}"),
            _ => println!("differs {name}: the module died ({})", tried.status),
        }
    }
}

/// All of them; those that spend PIN tries last.
fn behaviours() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for chapter in [
        general::behaviours,
        sessions::behaviours,
        objects::behaviours,
        signing::behaviours,
        decryption::behaviours,
        keys::behaviours,
        order::behaviours,
        arguments::behaviours,
        pins::behaviours,
    ] {
        all.extend(chapter());
    }
    all
}
