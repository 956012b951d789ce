//! A C program that loads the library: odd pointers, threads, fork, unloading, a daemon that dies.

use std::process::Command;

use crate::build::{library, program};
use crate::daemon::Daemon;
use crate::support::Process;

/// Whether the C program runs under valgrind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Checked,
    Plain,
}

const RUNS: [Run; 2] = [Run::Plain, Run::Checked];

fn start(run: Run, daemon: &Daemon, what: &str) -> Process {
    let mut command = match run {
        Run::Checked => {
            let mut command = Command::new("valgrind");
            command
                .args(["--quiet", "--error-exitcode=99", "--keep-debuginfo=yes"])
                .args(["--errors-for-leak-kinds=definite"])
                // A child loses what only the parent's other threads hold.
                .arg(format!(
                    "--leak-check={}",
                    if what == "fork" { "no" } else { "full" }
                ))
                .arg(program("host"));
            command
        }
        Run::Plain => Command::new(program("host")),
    };
    command
        .arg(library())
        .arg(daemon.device())
        .arg(what)
        .env("CARDEA_SOCKET", daemon.socket());
    Process::start(&mut command)
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn runs() -> impl Iterator<Item = Run> {
    let valgrind = is_installed("valgrind");
    RUNS.into_iter()
        .filter(move |&run| run == Run::Plain || valgrind)
}

/// With this many slots, and cards in these.
fn simple(what: &str, slots: usize, cards: &str) {
    for run in runs() {
        let mut daemon = Daemon::started(slots);
        daemon.tell(&format!("insert {cards}"));
        start(run, &daemon, what).finish();
    }
}

#[test]
fn odd_pointers_and_lengths_are_errors() {
    simple("pointers", 2, "0");
}

#[test]
fn slots_are_used_from_many_threads_at_once() {
    simple("threads", 4, "0 1 2 3");
}

#[test]
fn children_get_connections_of_their_own_and_leave_the_parents_alone() {
    simple("fork", 2, "0 1");
}

#[test]
fn library_can_be_unloaded_and_leaves_nothing() {
    simple("unload", 2, "0 1");
}

#[test]
fn dead_daemon_ends_what_is_under_way_and_the_card_comes_back_with_the_next() {
    for run in runs() {
        let mut daemon = Daemon::started(1);
        daemon.tell("insert 0");
        let mut host = start(run, &daemon, "death");
        for _ in 0..3 {
            host.line_after("blocked");
            daemon.kill();
            host.tell("killed");
            host.line_after("dead");
            daemon.start();
            daemon.tell("insert 0");
            host.tell("started");
        }
        daemon.await_end();
        host.finish();
    }
}

#[test]
fn log_tells_events_and_no_data() {
    let mut daemon = Daemon::started(2);
    daemon.tell("insert 0");
    let log = daemon.folder().join("log");
    let status = Command::new(program("host"))
        .arg(library())
        .arg(daemon.device())
        .arg("pointers")
        .env("CARDEA_SOCKET", daemon.socket())
        .env("CARDEA_IFD_LOG", &log)
        .output()
        .unwrap();
    assert!(status.status.success());
    assert!(status.stdout.is_empty() && status.stderr.is_empty());
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("slot=0 power=Up answer=ok"), "{text}");
    assert!(text.contains("slot=0 command=4 response=65536"), "{text}");
    assert!(text.lines().all(|line| line.len() < 200), "{text}");
}
