//! Files of secrets: systemd credentials, or files of the service's user alone.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

/// Why a file is not one of secrets.
pub enum Fault {
    /// Others than its owner may read or change it: its mode.
    Mode(u32),
    /// It belongs to this user.
    Owner(u32),
    /// It cannot be read.
    Read(io::Error),
    /// It is longer than it may be.
    TooLong,
}

/// Reads a file of `limit` bytes at most, whose owner and mode are checked first.
pub fn read(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let file = File::open(path).map_err(Fault::Read)?;
    let about = file.metadata().map_err(Fault::Read)?;
    let own = rustix::process::geteuid().as_raw();
    if about.uid() != 0 && about.uid() != own {
        return Err(Fault::Owner(about.uid()));
    }
    // A credential is 0440 with an entry of the service's user in its ACL, whose mask shows up as the group's bits
    // (systemd.exec(5), "LoadCredential="); its folder is closed to others.
    let is_credential = std::env::var_os("CREDENTIALS_DIRECTORY")
        .is_some_and(|folder| path.parent() == Some(Path::new(&folder)));
    let forbidden = if is_credential { 0o337 } else { 0o077 };
    if about.mode() & forbidden != 0 {
        return Err(Fault::Mode(about.mode() & 0o7777));
    }
    // Not grown, so that nothing of it stays behind in freed memory.
    let mut content = Zeroizing::new(Vec::with_capacity(limit + 1));
    let one_more = u64::try_from(limit + 1).unwrap_or(u64::MAX);
    let mut file = file.take(one_more);
    file.read_to_end(&mut content).map_err(Fault::Read)?;
    match content.len() > limit {
        true => Err(Fault::TooLong),
        false => Ok(content),
    }
}
