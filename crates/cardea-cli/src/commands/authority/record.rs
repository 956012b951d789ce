//! The record of what an authority issued: a JSON object in each line, and nothing is ever taken out.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cardea_attest::Name;
use cardea_attest::authority::KnownTpm;
use cardea_pki::{Certificate, PathCertificate};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::files::sync_folder;
use crate::hex::plain;

/// A certificate that was issued.
pub(super) struct Entry<'a> {
    pub(super) time: i64,
    pub(super) certificate: &'a PathCertificate,
    /// The attestation key's Name.
    pub(super) name: &'a Name,
    pub(super) tpm: &'a KnownTpm,
    pub(super) asset: Option<&'a str>,
    pub(super) is_sealed: bool,
    pub(super) card: Option<&'a str>,
    pub(super) challenge: &'a [u8; 32],
}

impl Entry<'_> {
    fn json(&self) -> Value {
        let pem = Certificate::parse(self.certificate.der()).map(|one| one.to_pem());
        let identity = &self.tpm.identity;
        json!({
            "time": moment(self.time),
            "serial": plain(self.certificate.serial()),
            "not_after": moment(self.certificate.not_after()),
            "attestation_key": plain(self.name),
            "ek": self.tpm.origin.word(),
            "ek_pin": plain(&self.tpm.pin),
            "ek_root": self.tpm.root,
            "asset": self.asset,
            "tpm": {
                "manufacturer": identity.manufacturer,
                "model": identity.model,
                "version": identity.version,
            },
            "form": if self.is_sealed { "sealed" } else { "approved" },
            "card": self.card,
            "challenge": plain(self.challenge),
            "certificate": pem.ok(),
        })
    }
}

fn moment(seconds: i64) -> Option<String> {
    let time = Timestamp::from_second(seconds).ok()?;
    Some(time.to_string())
}

/// Appends a line; on the disk when this returns.
pub(super) fn append(path: &Path, entry: &Entry<'_>) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let mut line = format!("{}\n", entry.json());
    // The computer may have stopped within a line; the next one is whole all the same.
    let length = file.seek(SeekFrom::End(0))?;
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, '\n');
        }
    }
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    sync_folder(path)
}
