//! The example programs do all that they say.

use std::path::Path;
use std::process::Command;

use cardea_testkit::process::run;

use super::Bench;
use super::bench::OPERATOR;

fn does_all_seven(bench: &Bench, program: &Path) {
    let done = run(Command::new("setpriv")
        .args(["--reuid", &OPERATOR.to_string(), "--clear-groups"])
        .arg(program)
        .env("HOME", bench.folder.path())
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bench.address));
    assert!(done.success, "{}", done.text);
    for step in 1..=7 {
        assert!(
            done.text.contains(&format!("{step}. ")),
            "{step}: {}",
            done.text
        );
    }
    let list = bench.daemon.cardea(&["card", "list"]);
    assert!(list.text.contains("no cards"), "{}", list.text);
}

#[test]
fn python_program_does_all_seven() {
    let bench = Bench::new();
    // Where every user can read it.
    let program = bench.folder.path().join("manage-card.py");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/manage-card.py");
    std::fs::copy(source, &program).unwrap();
    does_all_seven(&bench, &program);
}

#[test]
fn python_program_takes_a_card_that_is_there() {
    let bench = Bench::new();
    let card = bench.card("given", cardea_testkit::bus::Dictionary::new());
    let id = bench.client(0).text(&card, "Card", "CardId");
    let key: String = super::bench::ADMIN_KEY
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let input = bench.folder.path().join("key");
    std::fs::write(&input, key).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/manage-card.py");
    let done = run(Command::new("sh")
        .args(["-c", "\"$0\" \"$1\" <\"$2\""])
        .arg(program)
        .arg(id)
        .arg(input)
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bench.address));
    assert!(
        done.success && done.text.contains("Select a card"),
        "{}",
        done.text
    );
    let list = bench.daemon.cardea(&["card", "list"]);
    assert!(list.text.contains("no cards"), "{}", list.text);
}

#[test]
fn rust_program_does_all_seven() {
    let bench = Bench::new();
    does_all_seven(&bench, &bench.program("manage-card"));
}
