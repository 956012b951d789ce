//! `cardea-tpmvsc hash`: a password becomes the line of an account.

use std::process::Command;

use cardea_rpc::auth::Directory;
use cardea_testkit::terminal::converse;
use cardea_tpmvsc::accounts::Accounts;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cardea-tpmvsc");

fn typed(name: &str, first: &str, again: &str) -> (bool, String) {
    let mut command = Command::new("setsid");
    command.args(["--ctty", PROGRAM, "hash", name]);
    let dialogue = converse(
        &mut command,
        &[("password again", again), ("password", first)],
    );
    (dialogue.outcome.success, dialogue.outcome.text)
}

#[test]
fn password_typed_twice_becomes_a_line_of_the_file() {
    let (success, shown) = typed("ann", "Password", "Password");
    assert!(success, "{shown}");
    assert!(!shown.contains("Password\n"), "it was shown: {shown}");
    let line = shown.lines().find(|line| line.starts_with("ntlm")).unwrap();
    let accounts = Accounts::parse(line).unwrap();
    let hash = accounts.nt_hash("ann").unwrap();
    assert_eq!(*hash.to_hex(), "a4f49c406510bdcab6824ee7c30fd852");
}

#[test]
fn entries_that_differ_and_names_that_cannot_be_are_refused() {
    let (success, shown) = typed("ann", "Password", "password");
    assert!(!success && shown.contains("do not match"), "{shown}");
    let (success, shown) = typed("FIRM\\ann", "", "");
    assert!(!success && shown.contains("without its domain"), "{shown}");
}
