//! The commands of `docs/tasks/` do what the pages say: each block is run by a shell that stops at the first
//! failure, in the order of the page.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use cardea_testkit::process::Running;

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
fn enrolment() {
    let place = scene();
    place.file("password", "sesame\n");
    let folder = place.path("");
    // Free a moment ago.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let authority = "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=TestCA
         openssl req -new -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost
         echo subjectAltName=DNS:localhost > server.ext
         openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile server.ext -out server.pem";
    run(&place, &[authority.to_owned()]);
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../cardea-testkit/tests/e2e/programs/est_server.py");
    let mut command = Command::new("python3");
    command.args(["-W", "ignore"]).arg(program);
    command.arg(&folder).arg(port.to_string());
    let mut server = Running::start(&mut command, &place.path("est.log"));
    server.wait_ready(|_| place.path("log").exists());
    let blocks: Vec<String> = blocks("enrolment.md")
        .iter()
        .map(|block| {
            let url = format!("https://localhost:{port}");
            format!(
                "export HOME=\"$PWD\"\n{}",
                block.replace("https://ca.example.org", &url)
            )
        })
        .collect();
    let printed = run(&place, &blocks);
    assert_eq!(
        printed.matches("upn:alice@EXAMPLE.ORG").count(),
        1,
        "{printed}"
    );
    let log = fs::read_to_string(place.path("log")).unwrap();
    assert!(log.contains("simplereenroll 200"), "{log}");
    assert_eq!(log.matches("simpleenroll 200").count(), 2, "{log}");
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
