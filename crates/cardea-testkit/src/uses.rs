//! What cards are used for with programs that others wrote, as rows of `docs/uses/README.md`.
//!
//! A test that has shown a use says so by [`Use::shown`]; `cargo xtask uses` compares the table with what the
//! tests of a run have shown, or writes it.

use std::process::Command;

use crate::process::run;
use crate::rig::bin_dir;

/// The way by which the program reaches the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// A reader of pcscd's.
    PcSc,
    /// Our PKCS#11 module.
    Pkcs11,
}

impl Interface {
    fn name(self) -> &'static str {
        match self {
            Self::PcSc => "PC/SC",
            Self::Pkcs11 => "PKCS#11",
        }
    }
}

/// One use of a card.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Page in `docs/uses/`, without its ending.
    pub page: &'a str,
    /// What is done.
    pub title: &'a str,
    /// The program, as its makers call it.
    pub program: &'a str,
    /// Debian's package of it, which has the version.
    pub package: &'a str,
    /// How it reaches the card.
    pub interface: Interface,
    /// Types of the keys, as in "RSA-2048, P-256".
    pub keys: &'a str,
}

impl Use<'_> {
    /// Notes that the use has been shown: a file with the row, and the version on its second line.
    ///
    /// # Panics
    ///
    /// When the package is not installed or the file cannot be written.
    pub fn shown(&self) {
        let folder = bin_dir().join("uses");
        std::fs::create_dir_all(&folder).expect("a folder for the rows");
        let Self {
            page,
            title,
            program,
            package,
            interface,
            keys,
        } = *self;
        let interface = interface.name();
        let row =
            format!("| [{title}]({page}.md) | {program} {{}} | {interface} | {keys} | works |");
        let name: String = format!("{page} {title} {program} {interface}")
            .chars()
            .map(|letter| {
                if letter.is_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        let text = format!("{row}\n{}\n", version(package));
        std::fs::write(folder.join(name), text).expect("the row is written");
    }
}

/// The version of its makers, without Debian's epoch and revision.
fn version(package: &str) -> String {
    let asked = run(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]));
    assert!(asked.success, "{package}: {}", asked.text);
    let version = asked.text.trim();
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let version = version.rsplit_once('-').map_or(version, |(rest, _)| rest);
    // What Debian has taken out or added to the sources.
    let end = version.find(['+', '~']).unwrap_or(version.len());
    version[..end].to_owned()
}
