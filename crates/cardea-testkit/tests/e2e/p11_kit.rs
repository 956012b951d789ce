//! p11-kit's configuration of a test's own, below the folder of the test.

use std::fs;
use std::path::Path;

use cardea_testkit::workplace::module;

/// What a program stands behind to see that configuration. p11-kit has no variable for its folders, so they
/// are mounted over the machine's, in a namespace of the program's own.
pub(crate) const KIT: &str = "unshare --mount --propagation private sh kit.sh";

/// Makes the configuration: in `modules` our module's file as it is installed, and in `etc` what stands for `/etc`.
pub(crate) fn configure(folder: &Path) {
    let script =
        "mount --bind modules /usr/share/p11-kit/modules && mount --bind etc /etc && exec \"$@\"\n";
    fs::write(folder.join("kit.sh"), script).unwrap();
    fs::create_dir(folder.join("modules")).unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/cardea.module");
    let text = fs::read_to_string(file).unwrap();
    let installed = "@libraries@/pkcs11/libcardea_pkcs11.so";
    assert!(text.contains(installed), "{text}");
    fs::write(
        folder.join("modules/cardea.module"),
        text.replace(installed, &module()),
    )
    .unwrap();
    // p11-kit has nothing there unless a test writes it, and OpenSC what Debian ships.
    fs::create_dir_all(folder.join("etc/opensc")).unwrap();
    fs::create_dir_all(folder.join("etc/pkcs11/modules")).unwrap();
    for file in ["opensc/opensc.conf", "passwd"] {
        fs::copy(Path::new("/etc").join(file), folder.join("etc").join(file)).unwrap();
    }
    // The machine's services would look for their configuration there.
    fs::write(folder.join("etc/nsswitch.conf"), "passwd: files\n").unwrap();
}

/// Values of the lines "URL:" of `p11tool`.
pub(crate) fn urls(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("URL: "))
        .collect()
}
