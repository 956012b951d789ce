//! Files of secrets: systemd credentials, or files of the service's user alone.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Why a file is not one of secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Others than its owner may read or change it.
    #[error(
        "{} is accessible to others (mode {mode:04o}), and whoever reads it can act as those whose secrets are in it: \
         chmod 0400",
        path.display()
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, who is neither root nor the user of this process", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is longer than any such file.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that it may have.
        limit: usize,
    },
}

/// Reads a file of `limit` bytes at most, whose owner and mode are checked first.
///
/// # Errors
///
/// [`Fault`].
pub fn read(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let failed = |source| Fault::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    let owner = about.uid();
    if owner != 0 && owner != own {
        let path = path.to_owned();
        return Err(Fault::Owner { path, owner });
    }
    // A credential is 0440 with an entry of the service's user in its ACL, whose mask shows up as the group's bits
    // (systemd.exec(5), "LoadCredential="); its folder is closed to others.
    let is_credential = std::env::var_os("CREDENTIALS_DIRECTORY")
        .is_some_and(|folder| path.parent() == Some(Path::new(&folder)));
    let forbidden = if is_credential { 0o337 } else { 0o077 };
    if about.mode() & forbidden != 0 {
        let mode = about.mode() & 0o7777;
        let path = path.to_owned();
        return Err(Fault::Mode { path, mode });
    }
    // Not grown, so that nothing of it stays behind in freed memory.
    let mut content = Zeroizing::new(Vec::with_capacity(limit + 1));
    let one_more = u64::try_from(limit + 1).unwrap_or(u64::MAX);
    let mut file = file.take(one_more);
    file.read_to_end(&mut content).map_err(failed)?;
    match content.len() > limit {
        true => Err(Fault::TooLong {
            path: path.to_owned(),
            limit,
        }),
        false => Ok(content),
    }
}
