//! The module in a program that gives it no rest (`programs/pkcs11-stress.c`): threads, processes, children made by
//! fork, and a daemon that is restarted under them. What was signed is verified by others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cardea_testkit::process::{self, Running};
use cardea_testkit::rig::{PIN, bin_dir};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};

use cardea_testkit::workplace::Workplace;

/// Digest and signature of one record.
const RECORD: usize = 32 + 64;

fn compiled(workplace: &Workplace) -> PathBuf {
    let program = workplace.path("pkcs11-stress");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs/pkcs11-stress.c");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g"])
        .args(["-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .arg("-ldl");
    let outcome = process::run(&mut compiler);
    assert!(outcome.success, "{}", outcome.text);
    program
}

/// The program's own arguments.
fn arguments(
    workplace: &Workplace,
    threads: u32,
    seconds: u32,
    forks: bool,
    folder: &str,
) -> Vec<String> {
    fs::create_dir_all(workplace.path(folder)).unwrap();
    vec![
        bin_dir().join("libcardea_pkcs11.so").display().to_string(),
        PIN.to_owned(),
        threads.to_string(),
        seconds.to_string(),
        u8::from(forks).to_string(),
        workplace.text(folder),
    ]
}

/// Verifies every signature that was kept, and counts them.
fn verified(workplace: &Workplace, folder: &str) -> usize {
    let public = workplace.public("ec");
    workplace.does(&format!(
        "openssl pkey -pubin -in {public} -outform DER -out ec.der"
    ));
    let der = fs::read(workplace.path("ec.der")).unwrap();
    // The point is the end of the SubjectPublicKeyInfo.
    let key = VerifyingKey::from_sec1_bytes(der.last_chunk::<65>().unwrap()).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(workplace.path(folder)).unwrap() {
        let path = entry.unwrap().path();
        let records = fs::read(&path).unwrap();
        assert_eq!(records.len() % RECORD, 0, "{}", path.display());
        for record in records.chunks_exact(RECORD) {
            let (digest, signature) = record.split_at(32);
            let signature = Signature::from_slice(signature).unwrap();
            let right = key.verify_prehash(digest, &signature).is_ok();
            assert!(right, "a wrong signature in {}", path.display());
            count += 1;
        }
    }
    count
}

#[test]
fn no_wrong_answer_while_the_daemon_is_restarted_every_second() {
    let mut workplace = Workplace::with_keys();
    let program = compiled(&workplace);
    let mut processes: Vec<Running> = (0..4)
        .map(|number| {
            let mut command = Command::new(&program);
            command
                .args(arguments(&workplace, 8, 60, true, "signed"))
                .env("CARDEA_SOCKET", workplace.daemon.socket());
            Running::start(
                &mut command,
                &workplace.path(&format!("stress-{number}.log")),
            )
        })
        .collect();
    let begin = Instant::now();
    let mut restarts = 0;
    while begin.elapsed() < Duration::from_secs(60) {
        let next = Instant::now() + Duration::from_secs(1);
        workplace.daemon.restart();
        restarts += 1;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
    let mut away = 0;
    for process in &mut processes {
        let status = process.wait();
        let log = process.log();
        assert!(status.success(), "{status}\n{log}");
        let told = log.lines().find_map(|line| {
            let (_, away) = line.split_once(" signatures, ")?;
            away.strip_suffix(" times away")?.parse::<u64>().ok()
        });
        away += told.unwrap();
    }
    assert!(restarts > 30, "{restarts} restarts");
    let signatures = verified(&workplace, "signed");
    assert!(
        signatures > 1000 && away > restarts,
        "{signatures} signatures, {away} times away in {restarts} restarts"
    );
    assert_eq!(workplace.tries_left(), 5);
}

#[test]
fn valgrind_finds_nothing_in_threads_and_children() {
    let workplace = Workplace::with_keys();
    let program = compiled(&workplace);
    let mut command = workplace.client("valgrind --quiet --error-exitcode=99 --fair-sched=yes");
    command
        .arg(&program)
        .args(arguments(&workplace, 3, 5, true, "signed"));
    let outcome = process::run(&mut command);
    assert!(
        outcome.success && !outcome.text.contains("=="),
        "{}",
        outcome.text
    );
    let signatures = verified(&workplace, "signed");
    assert!(signatures > 5, "{signatures} signatures");
}
