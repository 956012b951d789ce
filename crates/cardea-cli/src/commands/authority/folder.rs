//! The folder of an authority: what is in it, and the lock.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cardea_attest::BadFirmware;
use cardea_attest::authority::Signer;
use cardea_pki::{PathCertificate, PrivateKey};
use zeroize::Zeroizing;

use super::files::{WholeFile, create, failed, invalid, lines_of, read_certificates};
use super::pin_list;
use super::record::{self, Entry};
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex::plain;

/// The authority's private key.
pub(super) const KEY: &str = "authority.key";
/// Its certificate, and those above it.
pub(super) const CERTIFICATE: &str = "authority.pem";
/// The key of the MAC over what travels with a challenge.
pub(super) const STATE_KEY: &str = "state.key";
/// Root certificates of TPM makers.
pub(super) const ROOTS: &str = "roots";
/// Certificates between those and endorsement keys.
pub(super) const INTERMEDIATES: &str = "intermediates";
/// Endorsement keys that are known by themselves.
pub(super) const PINS: &str = "pins";
/// Firmware that is not certified.
pub(super) const FIRMWARE: &str = "firmware";
/// What was issued.
pub(super) const RECORD: &str = "issued.jsonl";
/// Challenges that were answered: an empty name for each, so that no answer is good twice.
pub(super) const ANSWERED: &str = "answered";
/// Held by whoever changes the folder.
pub(super) const LOCK: &str = "lock";

/// The folder of an authority.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if !path.join(CERTIFICATE).is_file() || !path.join(STATE_KEY).is_file() {
            return Err(Failure::usage(format!(
                "{0} is not the folder of an authority; make one with `cardea attest authority init --folder {0}`",
                path.display()
            )));
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Waits until nobody else changes the folder.
    pub(super) fn lock(&self) -> Result<Locked<'_>, Failure> {
        let path = self.file(LOCK);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = file.and_then(|file| file.lock().map(|()| file));
        let file = file.map_err(|error| failed(&path, "cannot be locked", &error))?;
        Ok(Locked {
            folder: self,
            _file: file,
        })
    }

    pub(super) fn signer(&self) -> Result<Signer, Failure> {
        let content = self.secret(KEY)?;
        let bad = |error: &dyn std::fmt::Display| invalid(&self.file(KEY), error);
        let key = PrivateKey::parse(&content, None).map_err(|error| bad(&error))?;
        let chain = read_certificates(&self.file(CERTIFICATE))?;
        Signer::new(key, chain).map_err(|error| bad(&error))
    }

    pub(super) fn state_key(&self) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let content = self.secret(STATE_KEY)?;
        crate::hex::parse(&content)
            .ok_or_else(|| invalid(&self.file(STATE_KEY), &"it is not 64 hexadecimal digits"))
    }

    /// A file that only its owner may read.
    fn secret(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let path = self.file(name);
        let content = file::read(&path)?;
        let mode = fs::metadata(&path).map(|found| found.permissions().mode());
        let mode = mode.map_err(|error| failed(&path, "cannot be read", &error))?;
        if mode & 0o077 != 0 {
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "{0} can be read or written by others; run `chmod 600 {0}`, and make a new authority if somebody \
                     may have read it",
                    path.display()
                ),
            ));
        }
        Ok(content)
    }

    /// All certificates of the files in a folder; a folder that is not there has none.
    pub(super) fn certificates(&self, name: &str) -> Result<Vec<PathCertificate>, Failure> {
        let path = self.file(name);
        let listed = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        let listed = listed.map_err(|error| failed(&path, "cannot be read", &error))?;
        let mut files: Vec<_> = listed.iter().map(fs::DirEntry::path).collect();
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default();
            !name.as_encoded_bytes().starts_with(b".") && file.is_file()
        });
        files.sort();
        let mut all = Vec::new();
        for file in files {
            all.extend(read_certificates(&file)?);
        }
        Ok(all)
    }

    /// The pins with the names of their assets.
    pub(super) fn pins(&self) -> Result<Vec<([u8; 32], String)>, Failure> {
        let path = self.file(PINS);
        pin_list::parse(&lines_of(&path)?).map_err(|error| invalid(&path, &error))
    }

    pub(super) fn bad_firmware(&self) -> Result<Vec<BadFirmware>, Failure> {
        let path = self.file(FIRMWARE);
        let mut all = Vec::new();
        for (number, line) in (1..).zip(lines_of(&path)?.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut parts = line.split(',').map(str::trim);
            let manufacturer = parts.next().filter(|id| is_identifier(id));
            let any = |part: Option<&str>| part.filter(|part| *part != "*").map(str::to_owned);
            let (model, version) = (any(parts.next()), any(parts.next()));
            match (manufacturer, parts.next()) {
                (Some(manufacturer), None) => all.push(BadFirmware {
                    manufacturer: manufacturer.to_owned(),
                    model,
                    version,
                }),
                _ => {
                    let what = format!("line {number} is not `id:XXXXXXXX, MODEL, id:VERSION`");
                    return Err(invalid(&path, &what));
                }
            }
        }
        Ok(all)
    }
}

/// `id:` and eight hexadecimal digits, as certificates of TPMs have them: capital letters.
fn is_identifier(text: &str) -> bool {
    text.strip_prefix("id:").is_some_and(|digits| {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
        digits.len() == 8 && digits.bytes().all(is_digit)
    })
}

/// The folder while nobody else changes it.
pub(super) struct Locked<'a> {
    folder: &'a Folder,
    _file: File,
}

impl Locked<'_> {
    fn mark(&self, challenge: &[u8; 32]) -> PathBuf {
        self.folder.file(ANSWERED).join(plain(challenge))
    }

    pub(super) fn is_answered(&self, challenge: &[u8; 32]) -> bool {
        // What cannot be looked at is not answered again.
        !matches!(self.mark(challenge).try_exists(), Ok(false))
    }

    /// On the disk when this returns.
    pub(super) fn mark_answered(&self, challenge: &[u8; 32], serial: &[u8]) -> Result<(), Failure> {
        let path = self.mark(challenge);
        let made = create(&path, format!("{}\n", plain(serial)).as_bytes());
        made.map_err(|error| failed(&path, "cannot be written", &error))
    }

    /// Appends to the record; on the disk when this returns.
    pub(super) fn record(&self, entry: &Entry<'_>) -> Result<(), Failure> {
        let path = self.folder.file(RECORD);
        record::append(&path, entry).map_err(|error| failed(&path, "cannot be written", &error))
    }

    /// Replaces the list of pins.
    pub(super) fn write_pins(&self, pins: &[([u8; 32], String)]) -> Result<(), Failure> {
        let text = pin_list::to_text(pins);
        WholeFile::begin(&self.folder.file(PINS), text.as_bytes())?.finish()
    }
}
