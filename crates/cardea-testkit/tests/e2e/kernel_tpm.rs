//! A TPM behind the kernel's driver and resource manager, in a virtual machine: what software TPMs on a
//! socket do not have.

#![expect(clippy::print_stdout, reason = "measurements are for people")]

use std::path::Path;
use std::time::Duration;

use cardea_testkit::machine::{Interface, Machine, Report};
use cardea_testkit::rig::bin_dir;
use rsa::{BoxedUint, Pkcs1v15Sign, PublicKey};

/// Keys of the first card, as the program in the machine makes them.
const KEYS: usize = 5;

/// The resource manager gives a client this many objects and sessions of each kind
/// (Linux, `include/linux/tpm.h`, `struct tpm_space`).
const SLOTS: &str = "3";

#[test]
fn cards_live_behind_the_kernels_resource_manager_and_through_a_power_cut() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let programs = [
        Path::new(env!("CARGO_BIN_EXE_kernel-tpm-guest")),
        &bin_dir().join("cardea-daemon"),
        &bin_dir().join("cardea"),
    ];
    let machine = Machine::new(folder.path(), cache, &programs);

    let mut boot = machine.boot(Interface::Crb, "first");
    let first = boot.report();
    tell("first boot", boot.age(), &first);
    drop(boot.cut_power());
    assert_eq!(first.get("driver"), "tpm_crb");
    for room in ["room.managed.objects", "room.managed.sessions"] {
        assert_eq!(first.get(room), SLOTS, "{room}");
    }
    let keys = public_keys(&first);
    for when in ["made", "beside"] {
        check_signatures(&first, when, &keys);
    }
    check_signatures(&first, "restarted", &keys[..1]);
    let tries = ["fresh", "wrong", "restarted", "right", "before_power_cut"]
        .map(|when| first.get(&format!("left.{when}")));
    assert_eq!(tries, ["5", "4", "4", "5", "4"]);
    assert_eq!(first.get("wrong"), "63c4");
    assert_eq!(first.get("unverified"), "6982");
    assert_eq!(first.get("right"), "9000");
    assert_eq!(first.get("lockout.count"), "0");
    assert_eq!(first.get("indices"), "3");

    let mut boot = machine.boot(Interface::Tis, "second");
    let second = boot.report();
    tell("second boot", boot.age(), &second);
    boot.wait_off();
    assert_eq!(second.get("driver"), "tpm_tis");
    assert_eq!(second.get("state"), "Ready");
    assert_eq!(second.get("left.after_power_cut"), "4");
    assert_eq!(second.get("right"), "9000");
    assert_eq!(second.get("left.right"), "5");
    check_signatures(&second, "kept", &keys);
    assert_eq!(second.get("lockout.count"), "0");
    assert_eq!(second.get("indices"), "0");
}

fn public_keys(report: &Report) -> Vec<PublicKey> {
    let number = |fact: String| BoxedUint::from_be_slice_vartime(&report.bytes(&fact));
    let keys: Vec<PublicKey> = (0..KEYS)
        .map(|key| {
            let modulus = number(format!("modulus.{key}"));
            PublicKey::new(modulus, number(format!("exponent.{key}"))).unwrap()
        })
        .collect();
    let next = keys.iter().skip(1);
    assert!(keys.iter().zip(next).all(|(key, next)| key != next));
    keys
}

/// Each key has signed a digest of its own.
fn check_signatures(report: &Report, when: &str, keys: &[PublicKey]) {
    const DIGEST_INFO: [u8; 19] = [
        0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    for (number, key) in (0u8..).zip(keys) {
        let signature = report.bytes(&format!("signature.{when}.{number}"));
        let signed = [&DIGEST_INFO[..], &[number; 32]].concat();
        let verified = key.verify(Pkcs1v15Sign::new_unprefixed(), &signed, &signature);
        assert!(verified.is_ok(), "key {number} {when}: {verified:?}");
    }
}

/// What `docs/kernel-tpm.md` quotes.
fn tell(boot: &str, age: Duration, report: &Report) {
    println!("{boot}: {:.1} s", age.as_secs_f64());
    for beginning in [
        "kernel",
        "uptime",
        "room.",
        "refusal.",
        "slots",
        "time.",
        "commands.",
    ] {
        for (rest, value) in report.all(beginning) {
            println!("{beginning}{rest}={value}");
        }
    }
}
