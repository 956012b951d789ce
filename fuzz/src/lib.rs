//! Fuzz targets: what a peer may send, and what must hold whatever it sends.
//!
//! What: for each target a function from bytes to a panic or none, its seeds and its dictionary.
//! What not: no fuzzer; with the feature `libfuzzer` the programs in `targets/` join these to libFuzzer.
//! Begin with [`TARGETS`]; `cargo xtask fuzz` builds and runs them, the tests of `xtask` replay what was found.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod apdu;
pub mod apdu_parse;
mod authentication;
pub mod card_file;
pub mod dcom_activation;
pub mod dcom_message;
pub mod dcom_reference;
pub mod enrolment;
pub mod evidence;
pub mod exchange;
pub mod kerberos;
pub mod ntlm;
pub mod rpc_packet;
pub mod secret_files;
mod seeds;
pub mod socket_message;
pub mod spnego;
pub mod tlv;

use std::fs;
use std::path::Path;

/// A target.
pub struct Target {
    /// Name of the program and of the folders.
    pub name: &'static str,
    /// Panics when what must hold does not.
    pub run: fn(&[u8]),
    /// Inputs to begin with: well-formed, each with another part of the work.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Byte strings worth putting into an input.
    pub words: &'static [&'static [u8]],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    apdu::TARGET,
    apdu_parse::TARGET,
    card_file::TARGET,
    dcom_activation::TARGET,
    dcom_message::TARGET,
    dcom_reference::TARGET,
    enrolment::TARGET,
    evidence::TARGET,
    exchange::TARGET,
    kerberos::TARGET,
    ntlm::TARGET,
    rpc_packet::TARGET,
    secret_files::TARGET,
    socket_message::TARGET,
    spnego::TARGET,
    tlv::TARGET,
];

/// Environment variable that names the folder for the seeds.
pub const SEED_FOLDER: &str = "CARDEA_FUZZ_SEEDS";

/// Writes the seeds and the dictionary of a target where [`SEED_FOLDER`] says, if it says so.
///
/// Called by a fuzzing program before it reads its corpus.
///
/// # Panics
///
/// When they cannot be written.
pub fn seed(target: &Target) {
    if let Some(folder) = std::env::var_os(SEED_FOLDER) {
        write(target, Path::new(&folder)).expect("the seeds cannot be written");
    }
}

fn write(target: &Target, folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:03}")), seed)?;
    }
    let words: String = target.words.iter().map(|word| entry(word)).collect();
    fs::write(folder.with_extension("dict"), words)
}

/// A line of libFuzzer's dictionary.
fn entry(word: &[u8]) -> String {
    let escaped: String = word.iter().map(|byte| format!("\\x{byte:02X}")).collect();
    format!("\"{escaped}\"\n")
}
