//! Which crate may need which, and which room of a crate.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use super::graph::Graph;

/// Where a crate of ours stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    /// No I/O, no clock, no global state.
    Core,
    /// Does I/O.
    Platform,
    /// Works for every door.
    Service,
    /// What people install.
    Product,
    /// For development; may need everything and is needed by nobody.
    Internal,
}

struct Rule {
    name: &'static str,
    tier: Tier,
    /// Loaded into other people's processes.
    cdylib: bool,
    /// Crates of the same tier that it may need.
    beside: &'static [&'static str],
    /// Crates of lower tiers that it must not need directly.
    not: &'static [&'static str],
}

impl Rule {
    const fn new(name: &'static str, tier: Tier) -> Self {
        Self {
            name,
            tier,
            cdylib: false,
            beside: &[],
            not: &[],
        }
    }
}

/// Every crate of the workspace, those to come included.
const RULES: &[Rule] = &[
    Rule::new("cardea-terms", Tier::Core),
    Rule::new("cardea-iso7816", Tier::Core),
    Rule {
        beside: &["cardea-iso7816", "cardea-terms"],
        ..Rule::new("cardea-card", Tier::Core)
    },
    Rule {
        // Keys and certificates as files: what a card is, the programs know.
        beside: &["cardea-terms"],
        not: &["cardea-card"],
        ..Rule::new("cardea-pki", Tier::Core)
    },
    Rule {
        // What a TPM says of a card, for whoever has neither.
        beside: &["cardea-pki", "cardea-terms"],
        ..Rule::new("cardea-attest", Tier::Core)
    },
    Rule {
        // A protocol on the wire: what a card is, the service knows.
        beside: &["cardea-terms"],
        ..Rule::new("cardea-dcom", Tier::Core)
    },
    Rule {
        // A TPM does not know APDUs.
        not: &["cardea-iso7816"],
        ..Rule::new("cardea-tpm", Tier::Platform)
    },
    Rule {
        not: &["cardea-iso7816"],
        ..Rule::new("cardea-store", Tier::Platform)
    },
    Rule {
        // It comes into other people's processes: the card stays on the daemon's side.
        not: &["cardea-card", "cardea-iso7816"],
        ..Rule::new("cardea-client", Tier::Platform)
    },
    Rule {
        // Who is at the other end; what a card is, the programs know.
        not: &["cardea-card", "cardea-iso7816"],
        ..Rule::new("cardea-rpc", Tier::Platform)
    },
    Rule {
        // The other end of what the service for other machines does; neither knows what a card is made of.
        beside: &["cardea-rpc"],
        not: &["cardea-card", "cardea-iso7816", "cardea-pki"],
        ..Rule::new("cardea-remote", Tier::Platform)
    },
    Rule {
        // Lines that people type; what they are for, the programs know.
        not: &["cardea-card", "cardea-iso7816", "cardea-pki"],
        ..Rule::new("cardea-terminal", Tier::Platform)
    },
    // What a card is, whoever gives it one knows.
    Rule {
        not: &["cardea-card", "cardea-iso7816"],
        ..Rule::new("cardea-enrol", Tier::Platform)
    },
    // The daemon speaks to no network.
    Rule {
        not: &["cardea-enrol"],
        ..Rule::new("cardea-host", Tier::Service)
    },
    Rule {
        not: &["cardea-enrol"],
        ..Rule::new("cardea-daemon", Tier::Product)
    },
    Rule {
        cdylib: true,
        ..Rule::new("cardea-ifd", Tier::Product)
    },
    Rule {
        cdylib: true,
        ..Rule::new("cardea-pkcs11", Tier::Product)
    },
    Rule::new("cardea-agent", Tier::Product),
    Rule::new("cardea-cli", Tier::Product),
    Rule::new("cardea-tpmvsc", Tier::Product),
    Rule::new("cardea-fleet", Tier::Product),
    Rule::new("cardea-testkit", Tier::Internal),
    // An example: what applications write.
    Rule {
        not: &[
            "cardea-card",
            "cardea-client",
            "cardea-iso7816",
            "cardea-pki",
            "cardea-store",
            "cardea-tpm",
        ],
        ..Rule::new("manage-card", Tier::Product)
    },
    Rule::new("xtask", Tier::Internal),
];

/// The crates of ours that a cdylib may need.
const CDYLIB_OURS: &[&str] = &["cardea-client", "cardea-terms"];

/// What a cdylib may need directly from others: ABI definitions, pure hash and signature-verification
/// crates with their arithmetic, errors, erasure of secrets, random bytes, and system calls.
const CDYLIB_MAY_NEED: &[&str] = &[
    "base16ct",
    "crypto-bigint",
    "cryptoki-sys",
    "ecdsa",
    "getrandom",
    "p256",
    "p384",
    "rsa",
    "rustix",
    "sha1",
    "sha2",
    "subtle",
    "thiserror",
    "zeroize",
];

/// What must not come into a foreign process at any distance: runtimes, and loggers of the whole process.
const CDYLIB_NEVER: &[&str] = &[
    "async-global-executor",
    "async-std",
    "env_logger",
    "mio",
    "rayon",
    "ring",
    "rustls",
    "signal-hook",
    "smol",
    "tokio",
    "tracing-subscriber",
    "ureq",
];

/// What speaks to networks: not in the daemon, at any distance.
const NETWORK: &[&str] = &["ring", "rustls", "ureq"];

/// What does I/O, reads clocks or draws randomness.
const CORE_NEVER: &[&str] = &[
    "getrandom",
    "libc",
    "mio",
    "nix",
    "rand",
    "rustix",
    "signal-hook",
    "socket2",
    "tokio",
    "uzers",
];

/// A room of a crate: a folder with the file of its name beside it, or a file.
pub(super) struct Room {
    /// The crate.
    pub(super) within: &'static str,
    /// Below `src`: `engine` for a folder, `card.rs` for a file.
    pub(super) name: &'static str,
    /// Rooms of the same crate that it may use.
    pub(super) may: &'static [&'static str],
    /// The crates of ours that it may use, if fewer than its crate may.
    pub(super) crates: Option<&'static [&'static str]>,
}

impl Room {
    const fn new(within: &'static str, name: &'static str, may: &'static [&'static str]) -> Self {
        Self {
            within,
            name,
            may,
            crates: None,
        }
    }

    /// Whether a file, relative to the crate's folder, is in the room.
    pub(super) fn contains(&self, file: &Path) -> bool {
        let room = Path::new("src").join(self.name);
        file.starts_with(&room) || file == room.with_extension("rs")
    }
}

/// The rooms that have a direction. A room that does not exist yet has no effect.
pub(super) const ROOMS: &[Room] = &[
    // The engine does not know the applications; only card.rs knows which ones a card has.
    Room::new("cardea-card", "engine", &[]),
    Room::new("cardea-card", "gids", &["engine"]),
    Room::new("cardea-card", "piv", &["engine"]),
    Room::new("cardea-card", "holder", &["engine"]),
    Room::new("cardea-card", "card.rs", &["engine", "gids", "piv"]),
    // Commands do not use each other; what they share is below them.
    Room::new(
        "cardea-cli",
        "commands",
        &[
            "admin_key",
            "arguments",
            "daemon.rs",
            "describe.rs",
            "machine.rs",
            "on_card.rs",
            "terminal",
            "token",
            "uri.rs",
        ],
    ),
    Room::new(
        "cardea-cli",
        "doctor",
        &["daemon.rs", "describe.rs", "on_card.rs", "terminal"],
    ),
    Room::new("cardea-cli", "completion.rs", &["arguments"]),
    Room::new(
        "cardea-cli",
        "setup",
        &["arguments", "daemon.rs", "doctor", "on_card.rs", "terminal"],
    ),
    Room::new(
        "cardea-cli",
        "redirect",
        &["arguments", "daemon.rs", "terminal"],
    ),
    Room::new(
        "cardea-cli",
        "tpmvscmgr",
        &["admin_key", "machine.rs", "terminal"],
    ),
    Room::new("cardea-cli", "machine.rs", &["terminal"]),
    Room::new(
        "cardea-cli",
        "describe.rs",
        &["arguments", "daemon.rs", "on_card.rs", "terminal", "uri.rs"],
    ),
    Room::new("cardea-cli", "uri.rs", &["on_card.rs"]),
    Room::new("cardea-cli", "on_card.rs", &["daemon.rs", "terminal"]),
    Room::new(
        "cardea-cli",
        "admin_key",
        &["arguments", "daemon.rs", "terminal", "token"],
    ),
    Room::new("cardea-cli", "daemon.rs", &["terminal"]),
    Room::new("cardea-cli", "arguments", &["machine.rs", "terminal"]),
    Room::new("cardea-cli", "token", &["terminal"]),
    Room::new("cardea-cli", "terminal", &[]),
    // The counter is the only way in: it calls the rooms, and they do not know the caller.
    Room::new("cardea-host", "host", &[]),
    Room::new("cardea-host", "lifecycle", &["host"]),
    Room::new("cardea-host", "holder", &["host"]),
    Room::new("cardea-host", "counter", &["host", "lifecycle", "holder"]),
    Room::new("cardea-host", "doors", &["counter"]),
    // Doors translate, and know nothing below the counter.
    Room {
        crates: Some(&["cardea-client", "cardea-host", "cardea-terms"]),
        ..Room::new("cardea-daemon", "doors", &[])
    },
    // Each layer of the protocol knows those below it.
    Room::new("cardea-dcom", "pdu", &[]),
    Room::new("cardea-dcom", "ndr", &["pdu"]),
    Room::new("cardea-dcom", "dcom", &["ndr", "pdu"]),
    Room::new("cardea-dcom", "exporter", &["dcom"]),
    Room::new("cardea-dcom", "tpmvsc", &["dcom", "ndr"]),
    // Who a caller is and what a packet means are decided apart; what a call does is above both.
    Room::new("cardea-rpc", "auth", &["secret_file"]),
    Room::new("cardea-rpc", "rpc", &["auth", "stream"]),
    Room::new("cardea-rpc", "server", &["rpc", "stream"]),
    Room::new("cardea-tpmvsc", "service", &["accounts", "manager"]),
    // Doubles know no fixtures, and each fixture that is a folder stands alone.
    Room::new("cardea-testkit", "machine", &[]),
    Room::new("cardea-testkit", "multiplexer", &[]),
    Room::new("cardea-testkit", "rdp", &[]),
    Room::new("cardea-testkit", "software", &[]),
    Room::new("cardea-testkit", "suite", &["software", "transcript"]),
    Room::new("cardea-testkit", "transcript", &["software"]),
];

/// Crates whose other files are the vocabulary of the rooms and must not use any room. The crate's root may, for
/// its re-exports.
pub(super) const VOCABULARY_BELOW: &[&str] = &["cardea-card", "cardea-cli", "cardea-host"];

/// What is wrong with the graph, in words.
pub(super) fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (name, package) in graph.iter().filter(|(_, package)| package.member) {
        let Some(rule) = rule(name) else {
            found.push(format!(
                "{name} has no tier; give it one in xtask/src/deps/rules.rs"
            ));
            continue;
        };
        if rule.cdylib != package.cdylib {
            found.push(match rule.cdylib {
                true => format!("{name} must be a cdylib"),
                false => format!("{name} must not be a cdylib"),
            });
        }
        for needed in &package.needs {
            if let Some(reason) = refused(rule, needed) {
                found.push(format!("{name} needs {needed}: {reason}"));
            }
        }
        if name == "cardea-daemon" {
            let all = closure(graph, name);
            let network = all
                .iter()
                .filter(|needed| NETWORK.contains(&needed.as_str()));
            found.extend(network.map(|needed| {
                format!("{name} needs {needed} through others: the daemon speaks to no network")
            }));
        }
        if rule.cdylib {
            let all = closure(graph, name);
            let strangers = all.iter().filter(|needed| {
                CDYLIB_NEVER.contains(&needed.as_str())
                    || (is_member(graph, needed)
                        && !CDYLIB_OURS.contains(&needed.as_str())
                        && !package.needs.contains(needed))
            });
            found.extend(strangers.map(|stranger| {
                format!("{name} needs {stranger} through others: not in a foreign process")
            }));
        }
    }
    found
}

/// Why a path in a crate's sources must not lead into another crate of ours.
pub(super) fn refused_source(name: &str, needed: &str) -> Option<String> {
    if name == needed || !is_ours(needed) {
        return None;
    }
    refused(rule(name)?, needed)
}

/// Whether a crate belongs to this workspace, now or later.
pub(super) fn is_ours(name: &str) -> bool {
    rule(name).is_some()
}

/// Why a crate may not need another directly.
fn refused(rule: &Rule, needed: &str) -> Option<String> {
    let Some(other) = self::rule(needed) else {
        if rule.cdylib && !CDYLIB_MAY_NEED.contains(&needed) {
            return Some("a cdylib needs cardea-client and pure crates only".to_owned());
        }
        if rule.tier == Tier::Core && CORE_NEVER.contains(&needed) {
            return Some("the core does no I/O and has no clock".to_owned());
        }
        return None;
    };
    if rule.tier == Tier::Internal {
        return None;
    }
    if rule.cdylib && !CDYLIB_OURS.contains(&needed) {
        return Some("a cdylib needs cardea-client and pure crates only".to_owned());
    }
    if rule.not.contains(&needed) {
        return Some("they do not know each other".to_owned());
    }
    match rule.tier.cmp(&other.tier) {
        std::cmp::Ordering::Greater => None,
        std::cmp::Ordering::Equal if rule.beside.contains(&needed) => None,
        std::cmp::Ordering::Equal => Some(format!("sideways within {:?}", rule.tier)),
        std::cmp::Ordering::Less => {
            Some(format!("upwards from {:?} to {:?}", rule.tier, other.tier))
        }
    }
}

fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

fn is_member(graph: &Graph, name: &str) -> bool {
    graph.get(name).is_some_and(|package| package.member)
}

/// Everything that comes with a crate, itself left out.
fn closure(graph: &Graph, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut queue = VecDeque::from([name]);
    while let Some(next) = queue.pop_front() {
        for needed in graph
            .get(next)
            .into_iter()
            .flat_map(|package| &package.needs)
        {
            if needed != name && found.insert(needed.clone()) {
                queue.push_back(needed);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::graph::Package;
    use super::*;

    /// Members and what they need; whatever is needed and not a member comes from elsewhere.
    fn graph(members: &[(&str, &[&str])]) -> Graph {
        let mut graph = Graph::new();
        for (name, needs) in members {
            for needed in *needs {
                graph.entry((*needed).to_owned()).or_default();
            }
            let package = Package {
                member: true,
                cdylib: ["cardea-ifd", "cardea-pkcs11"].contains(name),
                needs: needs.iter().map(|needed| (*needed).to_owned()).collect(),
                ..Package::default()
            };
            graph.insert((*name).to_owned(), package);
        }
        graph
    }

    fn wrong(members: &[(&str, &[&str])]) -> Vec<String> {
        violations(&graph(members))
    }

    #[test]
    fn layers_as_designed_have_no_violation() {
        let found = wrong(&[
            ("cardea-iso7816", &["thiserror", "zeroize"]),
            ("cardea-card", &["cardea-iso7816", "tracing"]),
            ("cardea-client", &["minicbor", "rustix"]),
            ("cardea-store", &["cardea-card", "rustix"]),
            ("cardea-tpm", &["cardea-card", "getrandom"]),
            ("cardea-pki", &["cardea-terms", "der"]),
            (
                "cardea-daemon",
                &[
                    "cardea-card",
                    "cardea-client",
                    "cardea-pki",
                    "cardea-store",
                    "cardea-tpm",
                    "tokio",
                ],
            ),
            ("cardea-ifd", &["cardea-client", "zeroize"]),
            ("cardea-cli", &["cardea-client", "cardea-pki", "clap"]),
            (
                "cardea-testkit",
                &["cardea-daemon", "cardea-ifd", "cardea-iso7816"],
            ),
            ("xtask", &["cardea-testkit", "anyhow"]),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn upward_dependency_is_found() {
        assert_eq!(
            wrong(&[("cardea-card", &["cardea-tpm"]), ("cardea-tpm", &[])]),
            ["cardea-card needs cardea-tpm: upwards from Core to Platform"]
        );
        assert_eq!(
            wrong(&[("cardea-store", &["cardea-daemon"]), ("cardea-daemon", &[])]),
            ["cardea-store needs cardea-daemon: upwards from Platform to Product"]
        );
    }

    #[test]
    fn sideways_dependency_is_found_between_products_and_platform_crates() {
        assert_eq!(
            wrong(&[("cardea-cli", &["cardea-daemon"]), ("cardea-daemon", &[])]),
            ["cardea-cli needs cardea-daemon: sideways within Product"]
        );
        assert_eq!(
            wrong(&[("cardea-tpm", &["cardea-store"]), ("cardea-store", &[])]),
            ["cardea-tpm needs cardea-store: sideways within Platform"]
        );
        assert_eq!(
            wrong(&[("cardea-iso7816", &["cardea-card"]), ("cardea-card", &[])]),
            ["cardea-iso7816 needs cardea-card: sideways within Core"]
        );
    }

    #[test]
    fn tpm_crate_that_knows_apdus_is_found() {
        assert_eq!(
            wrong(&[("cardea-tpm", &["cardea-iso7816"]), ("cardea-iso7816", &[])]),
            ["cardea-tpm needs cardea-iso7816: they do not know each other"]
        );
    }

    #[test]
    fn key_files_that_know_cards_are_found() {
        assert_eq!(
            wrong(&[("cardea-pki", &["cardea-card"]), ("cardea-card", &[])]),
            ["cardea-pki needs cardea-card: they do not know each other"]
        );
    }

    #[test]
    fn testkit_in_a_product_is_found() {
        assert_eq!(
            wrong(&[
                ("cardea-daemon", &["cardea-testkit"]),
                ("cardea-testkit", &[])
            ]),
            ["cardea-daemon needs cardea-testkit: upwards from Product to Internal"]
        );
    }

    #[test]
    fn cdylib_with_more_than_the_client_is_found() {
        assert_eq!(
            wrong(&[("cardea-ifd", &["cardea-card"]), ("cardea-card", &[])]),
            ["cardea-ifd needs cardea-card: a cdylib needs cardea-client and pure crates only"]
        );
        assert_eq!(
            wrong(&[("cardea-pkcs11", &["tracing-subscriber"])]),
            [
                "cardea-pkcs11 needs tracing-subscriber: a cdylib needs cardea-client and pure crates only",
                "cardea-pkcs11 needs tracing-subscriber through others: not in a foreign process"
            ]
        );
    }

    #[test]
    fn runtime_that_comes_into_a_cdylib_through_the_client_is_found() {
        let mut graph = graph(&[
            ("cardea-ifd", &["cardea-client"]),
            ("cardea-client", &["some-crate"]),
        ]);
        let package = Package {
            needs: vec!["tokio".to_owned()],
            ..Package::default()
        };
        graph.insert("some-crate".to_owned(), package);
        assert_eq!(
            violations(&graph),
            ["cardea-ifd needs tokio through others: not in a foreign process"]
        );
    }

    #[test]
    fn io_in_the_core_is_found() {
        assert_eq!(
            wrong(&[("cardea-card", &["getrandom"])]),
            ["cardea-card needs getrandom: the core does no I/O and has no clock"]
        );
    }

    #[test]
    fn crate_without_tier_is_found() {
        let found = wrong(&[("cardea-new", &[])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("cardea-new has no tier"), "{found:?}");
    }

    #[test]
    fn cdylib_is_found_where_none_belongs_and_missed_where_one_does() {
        let mut graph = graph(&[("cardea-daemon", &[]), ("cardea-ifd", &[])]);
        for package in graph.values_mut() {
            package.cdylib = !package.cdylib;
        }
        assert_eq!(
            violations(&graph),
            [
                "cardea-daemon must not be a cdylib",
                "cardea-ifd must be a cdylib"
            ]
        );
    }

    #[test]
    fn dependencies_that_go_in_circles_are_walked_once() {
        let graph = graph(&[("a", &["b"]), ("b", &["a", "c"])]);
        assert_eq!(
            closure(&graph, "a").into_iter().collect::<Vec<_>>(),
            ["b", "c"]
        );
    }
}
