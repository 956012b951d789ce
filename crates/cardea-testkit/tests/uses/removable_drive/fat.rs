//! The same on FAT, which has no journal, owners or modes: in a virtual machine, because the kernel that runs the
//! tests may not know FAT. Its drive is a disk of its own, and its power is cut in the middle of writes.

use std::path::Path;
use std::process::Command;

use cardea_testkit::machine::{Interface, Machine};
use cardea_testkit::process::run;
use cardea_testkit::rig::bin_dir;

#[test]
fn card_on_fat_survives_a_power_cut_in_the_middle_of_its_writes() {
    let folder = tempfile::tempdir().unwrap();
    let drive = folder.path().join("drive");
    std::fs::File::create(&drive)
        .unwrap()
        .set_len(16 << 20)
        .unwrap();
    let made = run(Command::new("/sbin/mkfs.vfat")
        .args(["-n", "STICK"])
        .arg(&drive));
    assert!(made.success, "{}", made.text);
    let programs = [
        Path::new(env!("CARGO_BIN_EXE_drive-guest")),
        &bin_dir().join("cardea-daemon"),
        &bin_dir().join("cardea"),
    ];
    let machine = |name: &str| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Machine::with_drive(&folder, cache, &programs, &drive)
    };

    let home = machine("home");
    let mut boot = home.boot(Interface::Crb, "made");
    let first = boot.report();
    assert_eq!(first.get("state"), "ready");
    assert_eq!(first.get("unmounted"), "drive-away");
    // It goes on changing the card.
    let last = boot.cut_power();
    let acknowledged: Vec<String> = last.all("key-").map(|(key, _)| key.to_owned()).collect();
    assert!(acknowledged.len() >= 3, "{acknowledged:?}");

    let mut boot = home.boot(Interface::Crb, "back");
    let back = boot.report();
    boot.wait_off();
    assert_eq!(back.get("before"), "drive-away");
    assert_eq!(back.get("state"), "ready");
    assert_eq!(back.get("tries"), "true");
    for key in &acknowledged {
        assert_eq!(
            back.get(&format!("key-{key}")),
            "true",
            "{key} was acknowledged"
        );
    }

    // And in a machine with another TPM.
    let away = machine("away");
    let mut boot = away.boot(Interface::Crb, "stranger");
    let stranger = boot.report();
    boot.wait_off();
    assert_eq!(stranger.get("state"), "foreign");
    assert!(
        stranger.get("told").contains("made by another TPM"),
        "{stranger:?}"
    );
    assert_eq!(stranger.get("adopted"), "false");
}
