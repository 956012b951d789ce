//! p11-kit's configuration of a test's own, below the folder of the test.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::desk::module;

/// What a program stands behind to see that configuration. p11-kit has no variable for its folders, so they
/// are mounted over the machine's, in a namespace of the program's own.
pub(crate) const KIT: &str = "unshare --mount --propagation private sh kit.sh";

/// Makes the configuration: in `modules` our module's file as it is installed, and the copy `etc` of `/etc`.
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
    let etc = folder.join("etc");
    let copied = Command::new("cp").args(["-a", "/etc"]).arg(&etc).status();
    assert!(copied.unwrap().success());
    drop(fs::remove_dir_all(etc.join("pkcs11")));
}

/// Values of the lines "URL:" of `p11tool`.
pub(crate) fn urls(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("URL: "))
        .collect()
}
