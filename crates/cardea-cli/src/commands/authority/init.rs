//! `cardea attest authority init`: the folder appears with everything in it, or not at all.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cardea_attest::authority::{Signer, Term};
use cardea_pki::{Certificate, Curve, EcPrivateKey, PathCertificate, PrivateKey};
use zeroize::Zeroizing;

use super::files::{create, failed, invalid, read_certificates, sync_folder};
use super::folder::{
    ANSWERED, CERTIFICATE, FIRMWARE, INTERMEDIATES, KEY, PINS, RECORD, ROOTS, STATE_KEY,
};
use super::{DAY, no_random, now, pin_list, serial};
use crate::arguments::{AuthorityCurve, InitArguments};
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex;
use crate::terminal::clock::local;
use crate::terminal::output::note;

/// What the list of firmware says about itself.
const FIRMWARE_HEAD: &str = "\
# Firmware of TPMs that is not certified, one in each line: the maker's identifier, the model and the version, as the
# endorsement key's certificate has them. * is any.
# id:XXXXXXXX, MODEL, id:XXXXXXXX
";

pub(super) fn run(arguments: &InitArguments) -> Result<(), Failure> {
    require_new(&arguments.folder)?;
    let (key, chain) = match (&arguments.key, &arguments.certificate) {
        (Some(key), Some(certificate)) => existing(key, certificate)?,
        _ => generated(arguments)?,
    };
    let making = Making::begin(&arguments.folder)?;
    making.fill(&key, &chain)?;
    making.finish()?;
    let until = chain.first().map_or(0, PathCertificate::not_after);
    let folder = arguments.folder.display();
    note(&format!(
        "the authority is in {folder}, and its certificate in {folder}/{CERTIFICATE}, valid until {}",
        local(until)
    ));
    note(&format!(
        "put root certificates of TPM makers into {folder}/{ROOTS}, and those below them into {folder}/{INTERMEDIATES}"
    ));
    Ok(())
}

fn require_new(folder: &Path) -> Result<(), Failure> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(folder, "cannot be read", &error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!(
                "{} is not empty; name a new folder",
                folder.display()
            ))),
        },
    }
}

type Identity = (Zeroizing<Vec<u8>>, Vec<PathCertificate>);

/// A key and certificates that are there, checked against each other.
fn existing(key: &Path, certificate: &Path) -> Result<Identity, Failure> {
    let content = file::read(key)?;
    let parsed = PrivateKey::parse(&content, None).map_err(|error| invalid(key, &error))?;
    let chain = read_certificates(certificate)?;
    Signer::new(parsed, chain.clone()).map_err(|error| invalid(certificate, &error))?;
    Ok((content, chain))
}

fn generated(arguments: &InitArguments) -> Result<Identity, Failure> {
    let curve = match arguments.curve {
        AuthorityCurve::P256 => Curve::P256,
        AuthorityCurve::P384 => Curve::P384,
    };
    let key = random_key(curve)?;
    let serial = serial()?;
    let term = Term {
        serial: &serial,
        now: now(),
        seconds: i64::from(arguments.days) * DAY,
    };
    let bad = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error.to_string());
    let der = Signer::self_signed(&key, &arguments.subject, &term).map_err(|error| bad(&error))?;
    let own = PathCertificate::parse(&der).map_err(|error| bad(&error))?;
    let pem = key.to_pkcs8_pem();
    Ok((Zeroizing::new(pem.as_bytes().to_vec()), vec![own]))
}

fn random_key(curve: Curve) -> Result<EcPrivateKey, Failure> {
    let mut scalar = Zeroizing::new(vec![0; curve.field_len()]);
    // Nearly every number is a key; a source that gives none of them is broken.
    for _ in 0..64 {
        getrandom::fill(&mut scalar).map_err(|error| no_random(&error))?;
        if let Ok(key) = EcPrivateKey::new(curve, &scalar) {
            return Ok(key);
        }
    }
    Err(Failure::new(
        Exit::Failed,
        "the random numbers are not random",
    ))
}

/// The folder under another name, until everything is in it.
struct Making {
    wanted: PathBuf,
    made: PathBuf,
}

impl Making {
    fn begin(wanted: &Path) -> Result<Self, Failure> {
        // Without a slash at its end, a folder has a name.
        let wanted: PathBuf = wanted.components().collect();
        let Some(name) = wanted.file_name() else {
            let text = format!("{} cannot be the folder; name a new one", wanted.display());
            return Err(Failure::usage(text));
        };
        let mut other = OsString::from(".");
        other.push(name);
        other.push(format!(".new-{}", std::process::id()));
        let made = wanted.with_file_name(other);
        folder(&made).map_err(|error| failed(&made, "cannot be made", &error))?;
        Ok(Self { wanted, made })
    }

    fn fill(&self, key: &[u8], chain: &[PathCertificate]) -> Result<(), Failure> {
        let mut pem = String::new();
        for certificate in chain {
            let one = Certificate::parse(certificate.der());
            pem.push_str(&one.map_err(|error| invalid(&self.made, &error))?.to_pem());
        }
        let mut state_key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *state_key).map_err(|error| no_random(&error))?;
        let mut digits = Zeroizing::new(String::with_capacity(65));
        hex::push(&mut digits, &*state_key);
        digits.push('\n');
        let made = || -> io::Result<()> {
            for name in [ROOTS, INTERMEDIATES, ANSWERED] {
                folder(&self.made.join(name))?;
            }
            for (name, content) in [
                (KEY, key),
                (CERTIFICATE, pem.as_bytes()),
                (STATE_KEY, digits.as_bytes()),
                (PINS, pin_list::HEAD.as_bytes()),
                (FIRMWARE, FIRMWARE_HEAD.as_bytes()),
                (RECORD, b""),
            ] {
                create(&self.made.join(name), content)?;
            }
            Ok(())
        };
        made().map_err(|error| failed(&self.made, "cannot be filled", &error))
    }

    /// An empty folder is replaced, another is not.
    fn finish(self) -> Result<(), Failure> {
        let done = fs::rename(&self.made, &self.wanted).and_then(|()| sync_folder(&self.wanted));
        done.map_err(|error| failed(&self.wanted, "cannot be made", &error))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Gone already if it has got its name; a key without an authority must not stay.
        drop(fs::remove_dir_all(&self.made));
    }
}

fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}
