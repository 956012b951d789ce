//! Fixtures, and OpenSSL as a second opinion.

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const PASSPHRASE: Option<&[u8]> = Some(b"sesame");

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

pub(crate) fn data(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn text(name: &str) -> String {
    String::from_utf8(data(name)).unwrap()
}

/// Standard output of `openssl` with arguments; it must succeed.
pub(crate) fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // `req -verify` succeeds even if the signature is wrong, and says so.
    if arguments.contains(&"-verify") {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("verify OK"), "openssl {arguments:?}: {said}");
    }
    output.stdout
}

/// Like [`openssl`], for people.
pub(crate) fn openssl_text(arguments: &[&str]) -> String {
    String::from_utf8(openssl(arguments)).unwrap()
}
