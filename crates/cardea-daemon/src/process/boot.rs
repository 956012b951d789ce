//! A service that starts early in the boot, so that cards can open disk volumes: what is not there yet, and
//! whether it will be.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cardea_tpm::Address;

/// Between two looks at the device.
const INTERVAL: Duration = Duration::from_millis(50);

/// Where systemd reads units, in order of weight (systemd.unit(5), “Unit File Load Path”).
const UNIT_FOLDERS: [&str; 4] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// Waits until the TPM's driver has made the device and udev has given it to our group. A TPM that takes longer
/// is waited for like one that has gone.
pub(crate) fn await_device(address: &Address, limit: Duration) {
    let Address::Device(path) = address else {
        return;
    };
    let start = Instant::now();
    while let Err(error) = File::options().read(true).write(true).open(path) {
        if start.elapsed() > limit {
            tracing::warn!(path = %path.display(), %error, "no TPM yet");
            return;
        }
        thread::sleep(INTERVAL);
    }
}

/// Whether systemd runs below `root` and has a bus that it will start.
pub(crate) fn bus_is_coming(root: &Path) -> bool {
    if !root.join("run/systemd/system").is_dir() {
        return false;
    }
    let mut units = UNIT_FOLDERS.iter().map(|folder| root.join(folder));
    let unit = units.find_map(|folder| fs::metadata(folder.join("dbus.socket")).ok());
    // A masked unit is a link to /dev/null.
    unit.is_some_and(|unit| unit.is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn device_is_waited_for_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tpm");
        let address = Address::Device(path.clone());
        await_device(&address, Duration::from_millis(120));
        let maker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            fs::write(path, "").unwrap();
        });
        let limit = Duration::from_secs(600);
        await_device(&address, limit);
        maker.join().unwrap();
        await_device(&Address::Simulator(None), limit);
    }

    #[test]
    fn bus_comes_where_systemd_has_its_unit() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("usr/lib/systemd/system")).unwrap();
        fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
        fs::write(root.join("usr/lib/systemd/system/dbus.socket"), "").unwrap();
        assert!(!bus_is_coming(root), "systemd is installed, another runs");
        fs::create_dir_all(root.join("run/systemd/system")).unwrap();
        assert!(bus_is_coming(root));
        symlink("/dev/null", root.join("etc/systemd/system/dbus.socket")).unwrap();
        assert!(!bus_is_coming(root), "masked");
        fs::remove_file(root.join("etc/systemd/system/dbus.socket")).unwrap();
        fs::remove_file(root.join("usr/lib/systemd/system/dbus.socket")).unwrap();
        assert!(!bus_is_coming(root), "not installed");
    }
}
