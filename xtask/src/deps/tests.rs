//! Small workspaces in temporary folders, with one thing wrong in each.

use std::fs;

use super::*;

/// Nothing is known of these workspaces.
const NOTHING: Known = Known {
    edges: &[],
    cycles: &[],
};

struct Crate {
    name: &'static str,
    needs: &'static [&'static str],
    files: &'static [(&'static str, &'static str)],
}

/// A crate whose root declares nothing but what is given.
fn package(name: &'static str, files: &'static [(&'static str, &'static str)]) -> Crate {
    Crate {
        name,
        needs: &[],
        files,
    }
}

fn wrong(crates: &[Crate], known: &Known) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    fs::write(
        root.join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n",
    )
    .unwrap();
    for package in crates {
        let folder = root.join("crates").join(package.name);
        let mut manifest = format!(
            "[package]\nname = \"{}\"\nedition = \"2024\"\n\n[dependencies]\n",
            package.name
        );
        for needed in package.needs {
            manifest.push_str(&format!("{needed} = {{ path = \"../{needed}\" }}\n"));
        }
        for (file, text) in package.files {
            let file = folder.join("src").join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    }
    let graph = read(shell::cargo().current_dir(&root).arg("--offline")).unwrap();
    violations(&graph, &root, known).unwrap()
}

#[test]
fn tree_without_a_violation_passes() {
    let card = package(
        "cardea-card",
        &[
            (
                "lib.rs",
                "mod card; mod engine; mod gids; mod pin; pub use card::Card; pub use engine::Engine;",
            ),
            (
                "card.rs",
                "use crate::engine::Engine; use crate::gids; pub struct Card(Engine, gids::State);",
            ),
            (
                "engine.rs",
                "mod pins; use crate::pin::Pin; pub struct Engine(pins::Pins, Pin); pub struct Part;",
            ),
            ("engine/pins.rs", "use super::Part; pub struct Pins(Part);"),
            (
                "gids.rs",
                "use crate::{Engine, pin}; pub struct State(Engine, pin::Pin);",
            ),
            (
                "pin.rs",
                "pub struct Pin;
                 #[cfg(test)]
                 mod tests { use crate::card::Card; use crate::gids::State; }",
            ),
        ],
    );
    let host = Crate {
        needs: &["cardea-card"],
        ..package("cardea-host", &[("lib.rs", "use cardea_card::Card;")])
    };
    let daemon = Crate {
        needs: &["cardea-host"],
        ..package(
            "cardea-daemon",
            &[
                ("main.rs", "mod doors; fn main() { doors::open() }"),
                ("doors.rs", "mod socket; pub fn open() { socket::open() }"),
                ("doors/socket.rs", "use cardea_host::x; pub fn open() {}"),
            ],
        )
    };
    let found = wrong(&[card, host, daemon], &NOTHING);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn product_that_imports_a_product_fails() {
    let cli = Crate {
        needs: &["cardea-daemon"],
        ..package(
            "cardea-cli",
            &[
                ("lib.rs", "mod card;"),
                ("card.rs", "\nuse cardea_daemon::config::Config;\n"),
            ],
        )
    };
    let daemon = package("cardea-daemon", &[("lib.rs", "pub mod config {}")]);
    assert_eq!(
        wrong(&[cli, daemon], &NOTHING),
        [
            "cardea-cli needs cardea-daemon: sideways within Product",
            "crates/cardea-cli/src/card.rs:2: cardea-cli needs cardea-daemon: sideways within Product \
             (cardea_daemon::config::Config)",
        ]
    );
}

#[test]
fn host_that_imports_a_door_or_what_is_above_it_fails() {
    let host = package(
        "cardea-host",
        &[
            ("lib.rs", "mod host; mod lifecycle; mod counter; mod doors;"),
            ("doors/mod.rs", "pub mod socket;"),
            ("doors/socket.rs", "pub struct Socket;"),
            ("counter.rs", "use crate::host::slots::Slots;"),
            ("host.rs", "mod slots;"),
            (
                "host/slots.rs",
                "use std::fmt;\nuse crate::{\n    doors::socket::Socket,\n    lifecycle,\n};\n\
                 pub struct Slots(Socket);\nfn f() { lifecycle::create() }\n",
            ),
            ("lifecycle.rs", "mod create; pub use self::create::create;"),
            ("lifecycle/create.rs", "pub fn create() {}"),
        ],
    );
    assert_eq!(
        wrong(&[host], &NOTHING),
        [
            "crates/cardea-host/src/host/slots.rs:3: host must not use doors (crate::doors::socket::Socket)",
            "crates/cardea-host/src/host/slots.rs:7: host must not use lifecycle (lifecycle::create)",
        ]
    );
}

/// An engine with one import of GIDS, by way of a re-export.
const ENGINE: &[(&str, &str)] = &[
    ("lib.rs", "mod engine; mod gids; mod event;"),
    ("event.rs", "pub struct Event;"),
    ("engine.rs", "mod keys;"),
    (
        "engine/keys.rs",
        "use crate::event::Event;\n\nuse crate::gids::Reference;\nfn f() -> Reference { Reference::new() }",
    ),
    ("gids.rs", "mod reference; pub use reference::*;"),
    ("gids/reference.rs", "pub struct Reference;"),
];

#[test]
fn engine_that_imports_an_application_fails() {
    assert_eq!(
        wrong(&[package("cardea-card", ENGINE)], &NOTHING),
        [
            "crates/cardea-card/src/engine/keys.rs:3: engine must not use gids (crate::gids::Reference); \
             also in 4"
        ]
    );
}

#[test]
fn known_edge_passes_and_fails_when_it_is_gone() {
    let known = Known {
        edges: &[
            ("cardea-card", "src/engine/keys.rs", "src/gids/reference.rs"),
            ("cardea-card", "src/engine.rs", "src/gids.rs"),
        ],
        cycles: &[],
    };
    assert_eq!(
        wrong(&[package("cardea-card", ENGINE)], &known),
        [
            "cardea-card: src/engine.rs no longer uses src/gids.rs; remove it from the list in \
             xtask/src/deps/known.rs"
        ]
    );
}

#[test]
fn vocabulary_that_uses_a_room_fails() {
    let card = package(
        "cardea-card",
        &[
            (
                "lib.rs",
                "mod engine; mod token; pub use engine::keys::Key;",
            ),
            ("token.rs", "use crate::Key;"),
            ("engine.rs", "pub mod keys;"),
            ("engine/keys.rs", "pub struct Key;"),
        ],
    );
    assert_eq!(
        wrong(&[card], &NOTHING),
        [
            "crates/cardea-card/src/token.rs:1: a file outside all rooms must not use engine (crate::Key)"
        ]
    );
}

#[test]
fn door_that_works_itself_fails() {
    let daemon = Crate {
        needs: &["cardea-tpm", "cardea-client"],
        ..package(
            "cardea-daemon",
            &[
                ("lib.rs", "mod doors;"),
                ("doors.rs", "mod socket;"),
                (
                    "doors/socket.rs",
                    "use cardea_client::Client;\nuse cardea_tpm::Service;",
                ),
            ],
        )
    };
    let tpm = package("cardea-tpm", &[("lib.rs", "")]);
    let client = package("cardea-client", &[("lib.rs", "")]);
    assert_eq!(
        wrong(&[daemon, tpm, client], &NOTHING),
        [
            "crates/cardea-daemon/src/doors/socket.rs:2: doors must not use cardea-tpm (cardea_tpm::Service)"
        ]
    );
}

/// `a` → `b` → `c` → `a`, with a parent that is not part of it.
const CYCLE: &[(&str, &str)] = &[
    ("lib.rs", "mod a; mod b; mod c; pub use a::A;"),
    ("a.rs", "use crate::b::B;\npub struct A(B);"),
    ("b.rs", "pub struct B(super::c::C);"),
    (
        "c.rs",
        "\n\nmacro_rules! m { () => { $crate::A } }\npub struct C;",
    ),
];

#[test]
fn cycle_of_three_modules_fails() {
    assert_eq!(
        wrong(&[package("cardea-pki", CYCLE)], &NOTHING),
        ["cardea-pki: a cycle of 3 files\
          \n  crates/cardea-pki/src/a.rs:1: uses src/b.rs (crate::b::B)\
          \n  crates/cardea-pki/src/b.rs:1: uses src/c.rs (super::c::C)\
          \n  crates/cardea-pki/src/c.rs:3: uses src/a.rs (crate::A)"]
    );
}

#[test]
fn known_cycle_passes() {
    let known = Known {
        edges: &[],
        cycles: &[("cardea-pki", &["src/a.rs", "src/b.rs", "src/c.rs"])],
    };
    let found = wrong(&[package("cardea-pki", CYCLE)], &known);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn known_cycle_that_grows_fails() {
    let known = Known {
        edges: &[],
        cycles: &[("cardea-pki", &["src/a.rs", "src/b.rs"])],
    };
    let found = wrong(&[package("cardea-pki", CYCLE)], &known);
    assert_eq!(
        found,
        ["cardea-pki: a known cycle has grown by \"src/c.rs\"\
          \n  crates/cardea-pki/src/c.rs:3: uses src/a.rs (crate::A)\
          \n  crates/cardea-pki/src/a.rs:1: uses src/b.rs (crate::b::B)\
          \n  crates/cardea-pki/src/b.rs:1: uses src/c.rs (super::c::C)"]
    );
}

#[test]
fn known_cycle_that_shrinks_or_goes_fails() {
    let known = Known {
        edges: &[],
        cycles: &[
            (
                "cardea-pki",
                &["src/a.rs", "src/b.rs", "src/c.rs", "src/d.rs"],
            ),
            ("cardea-pki", &["src/e.rs", "src/f.rs"]),
            ("cardea-tpm", &["src/g.rs", "src/h.rs"]),
        ],
    };
    assert_eq!(
        wrong(&[package("cardea-pki", CYCLE)], &known),
        [
            "cardea-pki: a known cycle has shrunk; what is left to list in xtask/src/deps/known.rs: \
             \"src/a.rs\", \"src/b.rs\", \"src/c.rs\"",
            "cardea-pki: the cycle of \"src/e.rs\", \"src/f.rs\" is gone; remove it from \
             xtask/src/deps/known.rs",
            "cardea-tpm is in xtask/src/deps/known.rs and not in the workspace",
        ]
    );
}

#[test]
fn parent_may_use_its_children_and_they_it_but_not_each_other() {
    let family = package(
        "cardea-pki",
        &[
            ("lib.rs", "mod a; pub struct Root;"),
            ("a.rs", "mod b; mod c; pub struct A(b::B, c::C);"),
            ("a/b.rs", "use super::A; use super::c::C; pub struct B(C);"),
            ("a/c.rs", "pub struct C(super::A);"),
        ],
    );
    let found = wrong(&[family], &NOTHING);
    assert!(found.is_empty(), "{found:?}");
    let siblings = package(
        "cardea-pki",
        &[
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; mod c; pub struct A(b::B, c::C);"),
            ("a/b.rs", "use super::A;\nuse super::c::C; pub struct B(C);"),
            ("a/c.rs", "pub struct C(super::A, super::b::B);"),
        ],
    );
    assert_eq!(
        wrong(&[siblings], &NOTHING),
        ["cardea-pki: a cycle of 2 files\
          \n  crates/cardea-pki/src/a/b.rs:2: uses src/a/c.rs (super::c::C)\
          \n  crates/cardea-pki/src/a/c.rs:1: uses src/a/b.rs (super::b::B)"]
    );
}

#[test]
fn stranger_in_a_family_fails() {
    let found = wrong(
        &[package(
            "cardea-pki",
            &[
                ("lib.rs", "mod a; mod d;"),
                ("a.rs", "mod b; pub use b::B; pub struct A;"),
                ("a/b.rs", "use super::A; use crate::d::D; pub struct B(D);"),
                ("d.rs", "use crate::a::A; pub struct D(A);"),
            ],
        )],
        &NOTHING,
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("cardea-pki: a cycle of 3 files\n"),
        "{found:?}"
    );
}

#[test]
fn module_without_a_file_is_an_error_that_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lib.rs");
    fs::write(&root, "mod missing;").unwrap();
    let error = modules::needs(folder.path(), &[root]).unwrap_err();
    assert_eq!(error.to_string(), "lib.rs: module missing has no file");
}
