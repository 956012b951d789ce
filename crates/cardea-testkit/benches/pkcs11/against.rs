//! This build and another one, block by block in one run: `cargo xtask bench --against FOLDER`.
//!
//! Each build has a software TPM, a daemon and a pcscd of its own, and is driven by its own programs, module and
//! reader driver alone: what it speaks inside may differ.
//! Signatures are compared as ratios to the bare TPM's beside them, everything else with each other.

use std::path::Path;
use std::time::Duration;

use cardea_testkit::rig::{PIN, Rig, bin_dir};
use tempfile::TempDir;

use crate::driver::DIGEST_INFO;
use crate::floor::Floor;
use crate::statistics::{median, percentiles};
use crate::worker::{Worker, answer, first_signature, timed};
use crate::{Blocks, Crowd, LABEL, Measured, rate, together};

/// Compares with the build in a folder.
pub(crate) fn run(other: &Path, part: usize) {
    let folder = tempfile::tempdir().unwrap();
    let floor = Floor::start(&folder.path().join("floor"));
    let start = |_| [Build::start(&bin_dir()), Build::start(other)];
    let pairs: Vec<[Build; 2]> = (0..PAIRS).map(start).collect();
    println!("This build beside that in {}.", other.display());
    println!();
    signatures(&floor, &pairs, part);
    crowds(&floor, &pairs[0], part);
    others(&pairs, part);
}

/// Daemons of the same build differ by up to 3 % for as long as they live. So that this is not taken for a difference
/// between builds, there are several of each.
const PAIRS: usize = 5;

/// What is compared.
const PROGRAMS: [&str; 4] = [
    "cardea",
    "cardea-daemon",
    "libcardea_pkcs11.so",
    "libifdcardea.so",
];

/// One of the two, with a card that has two keys.
struct Build {
    rig: Rig,
    /// Copies of its programs. A library that a linker wrote lies in other pages than its copy, which starts 1 % faster.
    programs: TempDir,
    /// References of the keys "rsa" and "ec" in APDUs.
    references: [String; 2],
}

impl Build {
    fn start(build: &Path) -> Self {
        let programs = tempfile::tempdir().unwrap();
        for name in PROGRAMS {
            std::fs::copy(build.join(name), programs.path().join(name)).unwrap();
        }
        let mut rig = Rig::from_build(programs.path(), 1);
        rig.create(LABEL, &[]);
        let folder = tempfile::tempdir().unwrap();
        let pin = folder.path().join("pin");
        std::fs::write(&pin, PIN).unwrap();
        let references = [("rsa", "rsa-2048"), ("ec", "p-256")].map(|(label, algorithm)| {
            let made = rig.daemon.printed(&[
                "key",
                "generate",
                LABEL,
                "--label",
                label,
                "--algorithm",
                algorithm,
                "--json",
                "--pin-file",
                &pin.display().to_string(),
            ]);
            let made: serde_json::Value = serde_json::from_str(&made).unwrap();
            made["reference"].as_str().unwrap().to_owned()
        });
        Self {
            rig,
            programs,
            references,
        }
    }

    fn module(&self) -> String {
        let module = self.programs.path().join("libcardea_pkcs11.so");
        module.display().to_string()
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![(
            "CARDEA_SOCKET",
            self.rig.daemon.socket().display().to_string(),
        )]
    }

    /// A program with the module, logged in.
    fn program(&self) -> Worker {
        Worker::start(&self.environment(), &self.module(), LABEL)
    }

    /// A program with the reader, that has verified the PIN.
    fn reader(&self) -> Worker {
        let own = std::env::current_exe().unwrap().display().to_string();
        let mut command = self.rig.client(&own);
        Worker::of(command.arg("--reader").args(&self.references))
    }
}

/// All orders of this build, the other one and the bare TPM. A build is slower after the bare TPM than after the other
/// build, which has run much of the same code: in a rotation, one of them would always be.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [1, 0, 2],
    [0, 2, 1],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// One signature after the other, by PKCS#11 and by APDUs.
fn signatures(floor: &Floor, pairs: &[[Build; 2]], part: usize) {
    println!(
        "| one after the other | floor p50 µs | this p50 µs (p95) | other p50 µs (p95) | this/floor | other/floor | difference | at most | of each pair |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (way, start) in WAYS {
        let mut workers: Vec<_> = pairs
            .iter()
            .map(|pair| pair.each_ref().map(start))
            .collect();
        for (label, name, block) in [("rsa", "RSA-2048", 4), ("ec", "P-256", 12)] {
            for (pause, how) in [(1, "1 ms apart"), (0, "back to back")] {
                let order = format!("sign {label} {block} {pause}");
                let bare = || {
                    let one = |_| {
                        std::thread::sleep(Duration::from_millis(pause));
                        floor.sign(label)
                    };
                    (0..block).map(one).collect()
                };
                let rounds = 6 * part;
                let measured = workers
                    .iter_mut()
                    .map(|pair| in_turn(pair, &order, bare, rounds));
                let measured: Vec<_> = measured.collect();
                print_signatures(&format!("{way}, {name}, {how}"), &measured);
            }
        }
    }
    println!();
}

/// Blocks of both builds of a pair, and of the bare TPM.
fn in_turn(
    pair: &mut [Worker; 2],
    order: &str,
    bare: impl Fn() -> Vec<Duration>,
    rounds: usize,
) -> [Blocks; 3] {
    pair.iter_mut().for_each(|worker| drop(worker.ask(order)));
    let mut rows = [const { Blocks(Vec::new()) }; 3];
    for round in 0..rounds {
        for who in ORDERS[round % ORDERS.len()] {
            rows[who].add(match pair.get_mut(who) {
                Some(worker) => worker.ask(order),
                None => bare(),
            });
        }
    }
    rows
}

type Start = fn(&Build) -> Worker;

/// A way to a card, and what starts a program that goes it.
const WAYS: [(&str, Start); 2] = [
    ("PKCS#11", Build::program),
    ("APDU through pcscd", Build::reader),
];

fn print_signatures(title: &str, pairs: &[[Blocks; 3]]) {
    let of_pair = |[this, other, floor]: &[Blocks; 3]| -> Vec<[f64; 3]> {
        let rounds = this.0.iter().zip(&other.0).zip(&floor.0);
        rounds
            .map(|((this, other), floor)| {
                let (this, other) = (middle(this) / middle(floor), middle(other) / middle(floor));
                [this, other, this - other]
            })
            .collect()
    };
    let ratios: Vec<Vec<[f64; 3]>> = pairs.iter().map(of_pair).collect();
    let [this, other, difference] =
        [0, 1, 2].map(|at| median(ratios.iter().flatten().map(|ratio| ratio[at]).collect()));
    let each = ratios.iter().map(|pair| {
        let difference = median(pair.iter().map(|ratio| ratio[2]).collect());
        format!("{difference:+.3}")
    });
    println!(
        "| {title} | {:.0} | {} | {} | {this:.3} | {other:.3} | {difference:+.3} | +0.02 | {} |",
        all(pairs, 2).percentiles().0,
        both(&all(pairs, 0)),
        both(&all(pairs, 1)),
        each.collect::<Vec<_>>().join(" ")
    );
}

/// Median and 95th percentile.
fn both(blocks: &Blocks) -> String {
    let (p50, p95) = blocks.percentiles();
    format!("{p50:.0} ({p95:.0})")
}

/// Threads and processes at once: what of the bare TPM's signatures in a second they make.
fn crowds(floor: &Floor, builds: &[Build; 2], part: usize) {
    println!("| at once | floor 1/s | this share | other share | difference | failed | at least |");
    println!("|---|---|---|---|---|---|---|");
    for (label, name, each) in [("rsa", "RSA-2048", 5_usize), ("ec", "P-256", 25)] {
        let mut threads = builds.each_ref().map(|build| vec![build.program()]);
        let mut processes = builds
            .each_ref()
            .map(|build| (0..4).map(|_| build.program()).collect::<Vec<_>>());
        let eight = format!("threads {label} 8 {each}");
        let four = format!("sign {label} {} 0", 2 * each);
        for (title, workers, order) in [
            ("8 threads", &mut threads, &eight),
            ("4 processes", &mut processes, &four),
        ] {
            let mut measured = [const { Vec::new() }; 2];
            for round in 0..4 * part {
                for turn in 0..2 {
                    let who = (round + turn) % 2;
                    let before = rate(floor, label, 2 * each);
                    let crowd = match workers[who].as_mut_slice() {
                        [alone] => Crowd::of(&alone.ask(order)),
                        several => together(several, order),
                    };
                    measured[who].push(Measured {
                        crowd,
                        floor: (before + rate(floor, label, 2 * each)) / 2.0,
                        single: 0.0,
                    });
                }
            }
            print_crowds(&format!("{title}, {name}"), &measured);
        }
    }
    println!();
}

fn print_crowds(title: &str, [this, other]: &[Vec<Measured>; 2]) {
    let share = |all: &[Measured]| median(all.iter().map(Measured::share).collect());
    let differences = this.iter().zip(other);
    let differences = differences.map(|(this, other)| this.share() - other.share());
    let failed = this.iter().map(|one| one.crowd.failed).sum::<usize>();
    println!(
        "| {title} | {:.0} | {:.1} % | {:.1} % | {:+.1} % | {failed} | -3 % |",
        median(this.iter().map(|one| one.floor).collect()),
        share(this),
        share(other),
        median(differences.collect())
    );
}

/// What is not a signature.
fn others(pairs: &[[Build; 2]], part: usize) {
    println!(
        "| other work | this p50 µs (p95) | other p50 µs (p95) | this/other | at most | of each pair |"
    );
    println!("|---|---|---|---|---|---|");
    // The shorter the work, the more blocks: a change of processor takes as long as an APDU.
    for (title, start, order, blocks) in [
        ("PIN verification, C_Login", WAYS[0].1, "login 5", 20),
        (
            "PIN verification, VERIFY through pcscd",
            WAYS[1].1,
            "verify 5",
            60,
        ),
        ("APDU round trip, GET DATA", WAYS[1].1, "data 100", 60),
    ] {
        let mut workers: Vec<_> = pairs
            .iter()
            .map(|pair| pair.each_ref().map(start))
            .collect();
        let measured = workers
            .iter_mut()
            .map(|pair| compared(blocks * part, |who| pair[who].ask(order)));
        print_others(title, &measured.collect::<Vec<_>>());
    }
    let measured = pairs.iter().map(|pair| {
        compared(6 * part, |who| {
            let build = &pair[who];
            vec![first_signature(
                &build.environment(),
                &build.module(),
                LABEL,
            )]
        })
    });
    let title = "process start to first RSA signature";
    print_others(title, &measured.collect::<Vec<_>>());
}

/// Blocks of both builds of a pair.
fn compared(rounds: usize, mut block: impl FnMut(usize) -> Vec<Duration>) -> [Blocks; 2] {
    (0..2).for_each(|who| drop(block(who)));
    let mut rows = [const { Blocks(Vec::new()) }; 2];
    for round in 0..rounds {
        for turn in 0..2 {
            let who = (round + turn) % 2;
            rows[who].add(block(who));
        }
    }
    rows
}

fn print_others(title: &str, pairs: &[[Blocks; 2]]) {
    let of_pair = |[this, other]: &[Blocks; 2]| -> Vec<f64> {
        let rounds = this.0.iter().zip(&other.0);
        rounds
            .map(|(this, other)| middle(this) / middle(other))
            .collect()
    };
    let ratios: Vec<Vec<f64>> = pairs.iter().map(of_pair).collect();
    let each = ratios
        .iter()
        .map(|pair| format!("{:.3}", median(pair.clone())));
    println!(
        "| {title} | {} | {} | {:.3} | 1.03 | {} |",
        both(&all(pairs, 0)),
        both(&all(pairs, 1)),
        median(ratios.iter().flatten().copied().collect()),
        each.collect::<Vec<_>>().join(" ")
    );
}

/// The middle of a block.
fn middle(block: &[Duration]) -> f64 {
    percentiles(&mut block.to_owned()).0
}

/// The blocks of one side of all pairs.
fn all<const N: usize>(pairs: &[[Blocks; N]], at: usize) -> Blocks {
    Blocks(
        pairs
            .iter()
            .flat_map(|pair| pair[at].0.iter().cloned())
            .collect(),
    )
}

/// The other side of [`Build::reader`]; the arguments are the references of the keys "rsa" and "ec".
pub(crate) fn serve_reader(references: &[String]) {
    let context = pcsc::Context::establish(pcsc::Scope::System).unwrap();
    let readers = context.list_readers_owned().unwrap();
    let card = context
        .connect(&readers[0], pcsc::ShareMode::Shared, pcsc::Protocols::ANY)
        .unwrap();
    let transmit = |apdu: &[u8]| {
        let mut buffer = [0; 258];
        let response = card.transmit(apdu, &mut buffer).unwrap();
        assert!(
            response.ends_with(&[0x90, 0]),
            "{apdu:02X?}: {response:02X?}"
        );
    };
    let verify = [&[0x00, 0x20, 0, 0x80, PIN.len() as u8], PIN.as_bytes()].concat();
    let read_card_id = [0x00, 0xCB, 0xA0, 0x12, 4, 0x5C, 2, 0xDF, 0x20, 0];
    transmit(&verify);
    answer(|words| {
        let count = words[words.len().min(3) - 1].parse::<usize>().unwrap();
        let repeat = |pause, apdu: &[u8]| {
            let one = |_| {
                std::thread::sleep(pause);
                timed(|| transmit(apdu))
            };
            (0..count).map(one).collect()
        };
        match words[0] {
            "verify" => repeat(Duration::ZERO, &verify),
            "data" => repeat(Duration::ZERO, &read_card_id),
            "sign" => {
                let (at, mechanism, prefix) = match words[1] {
                    "rsa" => (0, 0x57, &DIGEST_INFO[..]),
                    _ => (1, 0x1C, &[][..]),
                };
                let reference = u8::from_str_radix(&references[at], 16).unwrap();
                transmit(&[
                    0x00, 0x22, 0x41, 0xB6, 6, 0x80, 1, mechanism, 0x84, 1, reference,
                ]);
                let length = (prefix.len() + 32) as u8;
                let head = [0x00, 0x2A, 0x9E, 0x9A, length];
                let sign = [&head[..], prefix, &[0x5A; 32], &[0]].concat();
                repeat(Duration::from_millis(words[3].parse().unwrap()), &sign)
            }
            other => panic!("{other}"),
        }
    });
}
