//! Files that are read and written.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};

/// A file with a key, a certificate or evidence, whole; what it held is erased from memory when it is dropped.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    const ROOM: usize = cardea_pki::MAX_INPUT + 1;
    let fail =
        |error: io::Error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
    // Filled in place, so that no grown allocation leaves a copy behind.
    let mut content = Zeroizing::new(vec![0; ROOM]);
    let mut length = 0;
    let mut file = File::open(path).map_err(fail)?;
    while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(fail(error)),
        }
    }
    // A file of full length is too long by one, and refused by the caller.
    content.truncate(length);
    Ok(content)
}

/// Writes to a file, which may exist, or to stdout.
pub(crate) fn write(path: Option<&Path>, data: &[u8]) -> Result<(), Failure> {
    let Some(path) = path else {
        let mut out = io::stdout().lock();
        out.write_all(data)?;
        return Ok(out.flush()?);
    };
    File::create(path)
        .and_then(|mut file| file.write_all(data))
        .map_err(|error| not_written(path, &error))
}

/// Refuses to write bytes that a terminal would interpret.
pub(crate) fn not_to_terminal(path: Option<&Path>) -> Result<(), Failure> {
    if path.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "refusing to write DER to a terminal; use --out FILE or --format pem",
        ));
    }
    Ok(())
}

/// A new file that only its owner can read; on the disk when this returns.
pub(crate) fn write_secret(path: &Path, data: &[u8]) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => not_written(path, &error),
        })?;
    let written = file
        .write_all(data)
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(folder_of(path))?.sync_all());
    written.map_err(|error| {
        // An incomplete key must not stay.
        let _ = std::fs::remove_file(path);
        not_written(path, &error)
    })
}

/// A file that was to be new.
pub(crate) fn exists(path: &Path) -> Failure {
    Failure::usage(format!(
        "{} already exists; name a new file",
        path.display()
    ))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("{} cannot be written: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secret_files_are_new_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_secret(&path, b"key").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = write_secret(&path, b"other").unwrap_err();
        assert_eq!(again.exit, Exit::Usage);
        assert_eq!(std::fs::read(&path).unwrap(), b"key");
        assert!(write_secret(&folder.path().join("no/key"), b"key").is_err());
    }

    #[test]
    fn input_files_have_a_limit() {
        let content = read(Path::new("/dev/zero")).unwrap();
        assert_eq!(content.len(), cardea_pki::MAX_INPUT + 1);
        assert!(read(Path::new("/nonexistent")).is_err());
    }
}
