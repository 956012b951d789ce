//! The commands of `docs/tasks/` do what the pages say: each block is run by a shell that stops at the first
//! failure, in the order of the page.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Place, Run};

/// The blocks of shell commands of a page.
fn blocks(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/tasks")
        .join(page);
    let text = fs::read_to_string(path).unwrap();
    let parts = text.split("```sh\n").skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

fn scene() -> Place {
    let place = Place::new();
    for (name, content) in [
        ("new-pin", "654321\n"),
        ("puk", "87654321\n"),
        (
            "admin-key",
            "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123\n",
        ),
    ] {
        place.file(name, content);
    }
    place
}

/// Runs blocks in the folder with the secrets; what they print.
fn run(place: &Place, blocks: &[String]) -> String {
    let mut printed = String::new();
    for block in blocks {
        let path = format!(
            "{}:{}",
            place.path("").display(),
            std::env::var("PATH").unwrap()
        );
        let output = Command::new("sh")
            .args(["-e", "-c", block])
            .current_dir(place.path(""))
            .env("PATH", path)
            .env("CARDEA_SOCKET", place.path("socket"))
            .output()
            .unwrap();
        let run = Run::of(output);
        assert_eq!(run.code, 0, "{block}\n{run:?}");
        printed += &run.out;
    }
    printed
}

/// A page whose commands need nothing between them.
fn page(name: &str) -> String {
    let blocks = blocks(name);
    assert!(!blocks.is_empty(), "{name} has no commands");
    run(&scene(), &blocks)
}

#[test]
fn first_card() {
    assert!(page("first-card.md").contains("work"));
}

#[test]
fn pin_lost() {
    page("pin-lost.md");
}

#[test]
fn pin_known() {
    page("pin-known.md");
}

#[test]
fn new_administrator() {
    page("new-administrator.md");
}

#[test]
fn new_machine() {
    assert!(page("new-machine.md").contains("imported"));
}

#[test]
fn lost_machine() {
    assert!(page("lost-machine.md").contains("serial="));
}

#[test]
fn recovery() {
    assert!(page("recovery.md").contains("imported"));
}

#[test]
fn attestation() {
    let printed = page("attestation.md");
    assert!(printed.contains("PC 17"), "{printed}");
    assert!(printed.contains("accepted, level 1"), "{printed}");
}

#[test]
fn tpm_replaced() {
    let blocks = blocks("tpm-replaced.md");
    let (before, after) = blocks.split_at(1);
    let mut place = scene();
    run(&place, before);
    place.exchange_tpm();
    assert!(run(&place, after).contains("foreign"));
}

#[test]
fn shared_computer() {
    assert!(page("shared-computer.md").contains("owner-session"));
}

#[test]
fn retiring_a_card() {
    page("retiring-a-card.md");
}

#[test]
fn every_page_is_run_and_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tasks");
    let list = fs::read_to_string(folder.join("README.md")).unwrap();
    let tests = include_str!("tasks.rs");
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "README.md" {
            assert!(list.contains(&format!("({name})")), "{name} is not listed");
            assert!(tests.contains(&format!("\"{name}\"")), "{name} is not run");
        }
    }
}
