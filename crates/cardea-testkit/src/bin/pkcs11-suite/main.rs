//! Behaviours of a PKCS#11 module, compared with the standard (2.40 and 3.1):
//! `pkcs11-suite --module PATH --label TOKEN --pin PIN --so-pin PIN [NAME…]`.
//!
//! Prints one line for each behaviour: `ok NAME` or `differs NAME: what was seen`. Each is tried in a process of its
//! own, so that a module that crashes in one is tried with the next. The suite generates two keys first, and must be
//! the only user of the token.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of the tests, which fails by ending"
)]
#![expect(
    unsafe_code,
    reason = "the interface is C; each pointer is to something that outlives its call, or invalid on purpose"
)]

mod actions;
mod arguments;
mod context;
mod decryption;
mod general;
mod keys;
mod module;
mod objects;
mod order;
mod pins;
mod reference;
mod session;
mod session_objects;
mod sessions;
mod signing;

use std::process::{Command, Stdio};

use context::{Context, Outcome, Token};

/// A behaviour: its name, and what tries it.
struct Behaviour {
    name: String,
    check: Box<dyn Fn(&Context) -> Outcome>,
}

impl Behaviour {
    fn new(name: &str, check: impl Fn(&Context) -> Outcome + 'static) -> Self {
        Self {
            name: name.to_owned(),
            check: Box::new(check),
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut token = Token::default();
    let (mut names, mut one, mut make, mut action) = (Vec::new(), None, false, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value");
        match argument.as_str() {
            "--module" => token.module = value(),
            "--label" => token.label = value(),
            "--pin" => token.pin = value(),
            "--so-pin" => token.so_pin = value(),
            "--one" => one = Some(value()),
            "--do" => action = Some(value()),
            "--make-keys" => make = true,
            name => names.push(name.to_owned()),
        }
    }
    if make {
        return Context::begin(token).make_keys();
    }
    if let Some(action) = action {
        println!("{}", actions::act(&Context::begin(token), &action));
        return;
    }
    if let Some(name) = one {
        let mut all = behaviours().into_iter();
        let found = all.find(|behaviour| behaviour.name == name);
        match (found.expect("a known behaviour").check)(&Context::begin(token)) {
            Ok(()) => println!("ok {name}"),
            Err(seen) => println!("differs {name}: {}", seen.0),
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
    let error = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{error}");
    for Behaviour { name, .. } in behaviours() {
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let tried = again(&["--one", &name]);
        let output = String::from_utf8_lossy(&tried.stdout);
        let mut lines = output.lines();
        let line = lines.find(|line| line.starts_with("ok ") || line.starts_with("differs "));
        match line {
            Some(line) if tried.status.success() => println!("{line}"),
            _ => println!("differs {name}: the module crashed ({})", tried.status),
        }
    }
}

/// All of them; those that spend PIN tries last.
fn behaviours() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for rows in [general::ROWS, sessions::ROWS, objects::ROWS] {
        all.extend(rows.iter().map(|(name, check)| Behaviour::new(name, check)));
    }
    for row in objects::READS {
        all.push(Behaviour::new(row.0, |c| {
            objects::others_are_filled_in(c, *row)
        }));
    }
    for (name, kind, hash) in signing::SCHEMES {
        all.push(Behaviour::new(name, |c| signing::signs(c, *kind, *hash)));
    }
    for row in decryption::OAEP {
        all.push(Behaviour::new(row.0, |c| {
            decryption::oaep_is_decrypted(c, *row)
        }));
    }
    for row in keys::REFUSED {
        all.push(Behaviour::new(row.0, |c| keys::is_not_generated(c, *row)));
    }
    for (name, mechanism) in arguments::PARAMETERS {
        let check = |c: &Context| arguments::parameter_is_refused(c, &mechanism());
        all.push(Behaviour::new(name, check));
    }
    for function in order::OF_MODULE.iter().chain(order::OF_SESSION) {
        let name = format!("{}_after_finalize_is_refused", function.0);
        all.push(Behaviour::new(&name, |c| {
            order::after_finalize(c, *function)
        }));
    }
    for function in order::OF_SESSION {
        let name = format!("{}_without_session_is_refused", function.0);
        all.push(Behaviour::new(&name, |c| {
            order::without_session(c, *function)
        }));
    }
    for function in order::OF_OPERATION {
        let name = format!("{function}_before_its_init_is_refused");
        all.push(Behaviour::new(&name, |c| order::before_init(c, function)));
    }
    for rows in [
        signing::ROWS,
        decryption::ROWS,
        keys::ROWS,
        session_objects::ROWS,
        arguments::ROWS,
        pins::ROWS,
    ] {
        all.extend(rows.iter().map(|(name, check)| Behaviour::new(name, check)));
    }
    all
}
