//! Files that are written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::exit::{Exit, Failure};

/// A new file that only its owner can read; on the disk when this returns.
pub(crate) fn write_secret(path: &Path, data: &[u8]) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::usage(format!(
                "{} is there already; name a new file",
                path.display()
            )),
            _ => not_written(path, &error),
        })?;
    let written = file
        .write_all(data)
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(folder_of(path))?.sync_all());
    written.map_err(|error| {
        // Half a key is none.
        let _ = std::fs::remove_file(path);
        not_written(path, &error)
    })
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
    fn secret_files_are_new_and_their_owners_only() {
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
}
