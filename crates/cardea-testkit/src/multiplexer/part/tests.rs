use tempfile::TempDir;

use super::*;
use crate::multiplexer::{Multiplexer, PowerEvent};
use crate::process::Outcome;
use crate::swtpm::Swtpm;

struct Bench {
    mux: Multiplexer,
    _tpm: Swtpm,
    folder: TempDir,
}

/// A TPM that plays a part.
fn bench(name: &str) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let mux = Multiplexer::start(&folder.path().join("mux"), &tpm);
    mux.play(Part::new(Profile::named(name)));
    mux.transact(&crate::multiplexer::startup_type(0x144, 0))
        .unwrap();
    Bench {
        mux,
        _tpm: tpm,
        folder,
    }
}

impl Bench {
    /// Without a resource manager a tool leaves its objects behind.
    fn run(&self, program: &str, arguments: &[&str]) -> Outcome {
        let outcome = self.mux.tpm2(program, arguments);
        let flushed = self.mux.tpm2("tpm2_flushcontext", &["-t"]);
        assert!(flushed.success, "{}", flushed.text);
        outcome
    }

    fn done(&self, program: &str, arguments: &[&str]) {
        self.shown(program, arguments);
    }

    fn shown(&self, program: &str, arguments: &[&str]) -> String {
        let outcome = self.run(program, arguments);
        assert!(outcome.success, "{}", outcome.text);
        outcome.text
    }

    fn refused(&self, code: &str, program: &str, arguments: &[&str]) {
        let outcome = self.run(program, arguments);
        assert!(!outcome.success, "{program}: {}", outcome.text);
        let text = outcome.text.to_lowercase();
        assert!(text.contains(code), "{program}: {text}");
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

const PIN_FAIL: &str = "nt=pinfail|ownerwrite|ownerread|no_da|authread";

#[test]
fn commands_and_key_sizes_that_the_part_lacks_are_hidden_and_refused() {
    let bench = bench("slb9670-7.40");
    let commands = bench.shown("tpm2_getcap", &["commands"]);
    assert!(commands.contains("TPM2_CC_PolicySecret"));
    for missing in ["TPM2_CC_PolicyTicket", "TPM2_CC_NV_Certify"] {
        assert!(!commands.contains(missing), "{missing}");
    }
    let ticket = [&[0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x72][..], &[3, 0, 0, 0]].concat();
    let answer = bench.mux.transact(&ticket).unwrap();
    assert_eq!(code_of(&answer), COMMAND_CODE);
    let curves = bench.shown("tpm2_getcap", &["ecc-curves"]);
    assert!(
        curves.contains("P256") && !curves.contains("P384"),
        "{curves}"
    );
    let context = bench.path("context");
    let create = |kind| {
        bench.run(
            "tpm2_createprimary",
            &["-C", "o", "-G", kind, "-c", &context],
        )
    };
    assert!(create("ecc256").success);
    assert!(!create("ecc384").success);
    assert!(create("rsa2048").success);
    assert!(!create("rsa3072").success);
}

#[test]
fn part_says_who_it_is() {
    let bench = bench("amd-3");
    let properties = bench.shown("tpm2_getcap", &["properties-fixed"]);
    let after = |name: &str| properties.split(name).nth(1).unwrap_or_default().to_owned();
    for (name, value) in [
        ("TPM2_PT_REVISION", "1.38"),
        ("TPM2_PT_MANUFACTURER", "AMD"),
        ("TPM2_PT_YEAR", "0x7E2"),
        ("TPM2_PT_CONTEXT_GAP_MAX", "0xFF"),
    ] {
        let lines = after(name);
        assert!(
            lines.lines().take(3).any(|line| line.contains(value)),
            "{name}: {properties}"
        );
    }
}

#[test]
fn old_part_knows_no_counters_and_a_small_one_has_no_room() {
    let old = bench("npct65x");
    let define = ["-C", "o", "-s", "8", "-a", PIN_FAIL];
    old.refused(
        "2e1",
        "tpm2_nvdefine",
        &[&define[..], &["0x01c20000"]].concat(),
    );
    let plain = ["-C", "o", "-s", "8", "0x01c20000"];
    old.done("tpm2_nvdefine", &plain);

    let small = bench("ptt-600");
    for number in 0..6 {
        let index = format!("0x01c2000{number}");
        let made = small.run("tpm2_nvdefine", &[&define[..], &[&*index]].concat());
        assert!(made.success, "{}", made.text);
    }
    small.refused(
        "14b",
        "tpm2_nvdefine",
        &[&define[..], &["0x01c20006"]].concat(),
    );
    small.done("tpm2_nvundefine", &["-C", "o", "0x01c20000"]);
    small.done("tpm2_nvdefine", &[&define[..], &["0x01c20006"]].concat());
}

#[test]
fn persistent_slots_run_out() {
    let bench = bench("amd-3");
    let context = bench.path("context");
    bench.done("tpm2_createprimary", &["-C", "o", "-c", &context]);
    let evict = |handle| bench.run("tpm2_evictcontrol", &["-C", "o", "-c", &context, handle]);
    let left = || bench.shown("tpm2_getcap", &["properties-variable"]);
    assert!(left().contains("TPM2_PT_HR_PERSISTENT_AVAIL: 0x2\n"));
    assert!(evict("0x81000001").success);
    assert!(evict("0x81000002").success);
    assert!(left().contains("TPM2_PT_HR_PERSISTENT_AVAIL: 0x0\n"));
    assert!(!evict("0x81000003").success);
    bench.done("tpm2_evictcontrol", &["-C", "o", "-c", "0x81000002"]);
    assert!(evict("0x81000003").success);
}

#[test]
fn lockout_is_as_the_part_leaves_its_factory() {
    let bench = bench("pluton");
    let properties = bench.shown("tpm2_getcap", &["properties-variable"]);
    assert!(
        properties.contains("TPM2_PT_MAX_AUTH_FAIL: 0x3\n"),
        "{properties}"
    );
    assert!(
        properties.contains("TPM2_PT_LOCKOUT_INTERVAL: 0x3E8"),
        "{properties}"
    );
}

#[test]
fn failure_mode_ends_with_the_power() {
    let bench = bench("slb9670-7.40");
    // The header, two handles, the size of the area; then an HMAC session that the TPM need not know.
    let mut command = vec![0x80, 2, 0, 0, 0, 31, 0, 0, 1, 0x51];
    command.extend_from_slice(&[
        0x40, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let random = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 4];
    let code = |command: &[u8]| code_of(&bench.mux.transact(command).unwrap());
    assert_eq!(code(&random), 0);
    assert_eq!(code(&command), FAILURE);
    assert_eq!(code(&random), FAILURE);
    bench.mux.power(PowerEvent::Cut);
    assert_eq!(code(&random), 0);
}

#[test]
fn forgotten_session_stops_all_saves_until_it_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let mux = Multiplexer::start(&folder.path().join("mux"), &tpm);
    mux.play(Part::new(Profile::named("amd-3")));
    mux.transact(&crate::multiplexer::startup_type(0x144, 0))
        .unwrap();
    let start = {
        // StartAuthSession without salt and binding: a nonce of 16 bytes, HMAC, no cipher, SHA-256.
        let mut command = vec![0x80, 1, 0, 0, 0, 0, 0, 0, 1, 0x76];
        command.extend_from_slice(&[0x40, 0, 0, 7, 0x40, 0, 0, 7, 0, 16]);
        command.extend_from_slice(&[7; 16]);
        command.extend_from_slice(&[0, 0, 0, 0, 0x10, 0, 0x0B]);
        command[5] = u8::try_from(command.len()).unwrap();
        command
    };
    let begin = || {
        let response = mux.transact(&start).unwrap();
        assert_eq!(code_of(&response), 0);
        u32_at(&response, 10).unwrap()
    };
    let save = |handle: u32| {
        let mut command = vec![0x80, 1, 0, 0, 0, 14];
        command.extend_from_slice(&CONTEXT_SAVE.to_be_bytes());
        command.extend_from_slice(&handle.to_be_bytes());
        mux.transact(&command).unwrap()
    };
    let load = |saved: &[u8]| {
        let mut command = vec![0x80, 1];
        let length = u32::try_from(saved.len()).unwrap();
        command.extend_from_slice(&length.to_be_bytes());
        command.extend_from_slice(&CONTEXT_LOAD.to_be_bytes());
        command.extend_from_slice(&saved[10..]);
        assert_eq!(code_of(&mux.transact(&command).unwrap()), 0);
    };
    let (one, two) = (begin(), begin());
    let idle = save(one);
    let mut busy = save(two);
    let mut saves = 1;
    loop {
        load(&busy);
        busy = save(two);
        if code_of(&busy) != 0 {
            break;
        }
        saves += 1;
    }
    assert_eq!((code_of(&busy), saves), (CONTEXT_GAP, 255));
    load(&idle);
    assert_eq!(code_of(&save(one)), 0);
    assert_eq!(code_of(&save(two)), 0);
}
