//! The programs that use a module: processes of their own, told what to do line by line.
//!
//! A worker answers each line with one line of nanoseconds, one number for each call.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use cryptoki_sys::CKU_USER;

use crate::PIN;
use crate::driver::Module;

/// A worker seen from the benchmark.
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one that has found the token and logged in.
    pub(crate) fn start(environment: &[(&str, String)], module: &str, label: &str) -> Self {
        Self::of(command(environment).args(["--worker", module, label]))
    }

    /// One that a command starts.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self {
            child,
            input: Some(input),
            output: BufReader::new(output),
        }
    }

    pub(crate) fn send(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn receive(&mut self) -> Vec<Duration> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the worker has ended");
        let numbers = line.split_ascii_whitespace();
        numbers
            .map(|number| Duration::from_nanos(number.parse().unwrap()))
            .collect()
    }

    pub(crate) fn ask(&mut self, line: &str) -> Vec<Duration> {
        self.send(line);
        self.receive()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // At the end of its input it ends by itself, and its module leaves nothing in the TPM.
        drop(self.input.take());
        drop(self.child.wait());
    }
}

fn command(environment: &[(&str, String)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// From starting a process to its first RSA signature.
pub(crate) fn first_signature(
    environment: &[(&str, String)],
    module: &str,
    label: &str,
) -> Duration {
    let begin = Instant::now();
    let mut child = command(environment)
        .args(["--once", module, label])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let time = begin.elapsed();
    assert_eq!(line, "signed\n");
    drop(child.wait());
    time
}

/// The other side of [`first_signature`].
pub(crate) fn once(module: &str, label: &str) {
    let module = Module::load(module);
    module.initialize();
    let session = module.open(module.slot(label));
    module.login(session, CKU_USER, PIN).unwrap();
    let key = module.key(session, "rsa").unwrap();
    module.sign(session, key, true).unwrap();
    println!("signed");
    module.finalize();
}

/// The other side of [`Worker`].
pub(crate) fn serve(path: &str, label: &str) {
    let module = Module::load(path);
    module.initialize();
    let slot = module.slot(label);
    let session = module.open(slot);
    let cold = timed(|| module.login(session, CKU_USER, PIN).unwrap());
    answer(|words| {
        let count = |at: usize| words[at].parse::<usize>().unwrap();
        match words[0] {
            "cold" => vec![cold],
            "sign" => {
                let rsa = words[1] == "rsa";
                let key = module.key(session, words[1]).unwrap();
                let pause = Duration::from_millis(count(3) as u64);
                (0..count(2))
                    .map(|_| {
                        std::thread::sleep(pause);
                        timed(|| module.sign(session, key, rsa).unwrap())
                    })
                    .collect()
            }
            "turn" => {
                let keys: Vec<_> = (0..count(1))
                    .map(|number| module.key(session, &format!("key-{number}")).unwrap())
                    .collect();
                let turns = (0..count(2)).flat_map(|_| keys.iter());
                turns
                    .map(|key| timed(|| module.sign(session, *key, false).unwrap()))
                    .collect()
            }
            "login" => (0..count(1))
                .map(|_| {
                    module.logout(session).unwrap();
                    timed(|| module.login(session, CKU_USER, PIN).unwrap())
                })
                .collect(),
            "threads" => threads(&module, slot, words[1], count(2), count(3)),
            other => panic!("{other}"),
        }
    });
    module.finalize();
}

/// Answers each line of standard input, given as its words, with a line of nanoseconds.
pub(crate) fn answer(mut work: impl FnMut(&[&str]) -> Vec<Duration>) {
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let times = work(&words);
        let times: Vec<String> = times
            .iter()
            .map(|time| time.as_nanos().to_string())
            .collect();
        println!("{}", times.join(" "));
    }
}

/// The whole time first, then that of each signature; the time of a call that failed is 0.
fn threads(
    module: &Module,
    slot: cryptoki_sys::CK_SLOT_ID,
    label: &str,
    threads: usize,
    count: usize,
) -> Vec<Duration> {
    let barrier = Barrier::new(threads + 1);
    let rsa = label == "rsa";
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let session = module.open(slot);
                    let key = module.key(session, label);
                    barrier.wait();
                    (0..count)
                        .map(|_| {
                            let mut done = Ok(());
                            // tpm2-pkcs11 fails now and then when several look for a key at once.
                            let time = timed(|| {
                                done = key.and_then(|key| module.sign(session, key, rsa));
                            });
                            done.map_or(Duration::ZERO, |()| time)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        barrier.wait();
        let begin = Instant::now();
        let mut times = vec![Duration::ZERO];
        for worker in workers {
            times.extend(worker.join().unwrap());
        }
        times[0] = begin.elapsed();
        times
    })
}

pub(crate) fn timed(action: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    action();
    begin.elapsed()
}
