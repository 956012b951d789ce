//! A card's own random admin key, exported once, under a passphrase or for the holder of a certificate.
//!
//! The file is one of `openssl enc` ([`cardea_pki::escrow`]) or CMS ([`cardea_pki::envelope`]); in it are three lines:
//! what it is, the card id, the key.

use std::path::{Path, PathBuf};

use cardea_pki::{Certificate, envelope, escrow};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex;
use crate::terminal::secret::AdminKey;

/// First line of the content.
const TITLE: &str = "cardea admin key";

/// Who can open the file.
pub(crate) enum Keeper {
    /// The holder of its private key.
    Certificate(Box<Certificate>),
    /// Whoever knows it.
    Passphrase(Zeroizing<Vec<u8>>),
}

/// Where the key of that card is kept: `%` in the path is the card id, so that one setting serves many cards.
pub(crate) fn place(path: &Path, card: &[u8; 16]) -> PathBuf {
    let id = hex::plain(card).to_ascii_lowercase();
    PathBuf::from(path.to_string_lossy().replace('%', &id))
}

/// The administrator's certificate.
pub(crate) fn certificate(path: &Path) -> Result<Certificate, Failure> {
    Certificate::parse(&file::read(path)?)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Makes a random key for a card and keeps it in a new file, on the disk when this returns.
pub(crate) fn make(path: &Path, keeper: &Keeper, card: &[u8; 16]) -> Result<AdminKey, Failure> {
    let mut key: AdminKey = Zeroizing::new([0; 24]);
    random(&mut *key)?;
    let mut content = Zeroizing::new(String::with_capacity(128));
    content.push_str(TITLE);
    content.push('\n');
    hex::push(&mut content, card);
    content.push('\n');
    hex::push(&mut content, &*key);
    content.push('\n');
    file::write_secret(path, &seal(content.as_bytes(), keeper)?)?;
    Ok(key)
}

/// Refuses a place where a file is, before anybody types a passphrase for it.
pub(crate) fn must_be_new(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => Err(file::exists(path)),
        Err(_) => Ok(()),
    }
}

fn seal(content: &[u8], keeper: &Keeper) -> Result<Vec<u8>, Failure> {
    match keeper {
        Keeper::Certificate(certificate) => {
            let mut bytes = envelope::Random {
                key: Zeroizing::default(),
                iv: [0; 16],
                seed: Zeroizing::default(),
            };
            random(&mut *bytes.key)?;
            random(&mut bytes.iv)?;
            random(&mut *bytes.seed)?;
            envelope::seal(content, certificate, &bytes)
                .map(String::into_bytes)
                .map_err(|error| {
                    Failure::usage(format!("the admin key cannot be encrypted: {error}"))
                })
        }
        Keeper::Passphrase(passphrase) => {
            let mut salt = [0; escrow::SALT];
            random(&mut salt)?;
            escrow::seal(content, passphrase, salt)
                .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
        }
    }
}

fn random(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))
}

/// Card id and key in such a file. One that `openssl cms -decrypt` has opened already needs no passphrase.
pub(crate) fn open(
    path: &Path,
    passphrase: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, Failure>,
) -> Result<([u8; 16], AdminKey), Failure> {
    let wrong = || {
        Failure::usage(format!(
            "{} cannot be opened: wrong passphrase, or not an escrowed admin key",
            path.display()
        ))
    };
    let file = file::read(path)?;
    if file.starts_with(b"-----BEGIN CMS-----") {
        return Err(Failure::usage(format!(
            "{} is encrypted to a certificate: open it with `openssl cms -decrypt -inform PEM -in FILE -inkey KEY`, \
             and pass its output as the file",
            path.display()
        )));
    }
    let content = match file.starts_with(TITLE.as_bytes()) {
        true => file,
        false => escrow::open(&file, &passphrase()?).map_err(|_| wrong())?,
    };
    let mut lines = content.split(|byte| *byte == b'\n');
    if lines.next() != Some(TITLE.as_bytes()) {
        return Err(wrong());
    }
    let id = lines.next().and_then(hex::parse).ok_or_else(wrong)?;
    let key = lines.next().and_then(hex::parse).ok_or_else(wrong)?;
    Ok((*id, key))
}
