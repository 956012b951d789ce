//! Tickets of whoever runs this program, from MIT's own programs: they know every kind of cache, and how to find a KDC.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cardea_rpc::auth::{AuthError, Ticket};
use cardea_rpc::random;
use zeroize::Zeroizing;

use crate::account::Account;

/// Why there is no ticket for a machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoTicket {
    /// What was written cannot be read, or is of no use.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A machine's ticket is for its name.
    #[error("a ticket is for a machine by its name, and {0} is not one")]
    Name(String),
    /// The KDC does not give one.
    #[error("no ticket for host/{host}: {reason}")]
    Refused {
        /// The machine.
        host: String,
        /// What the program said.
        reason: String,
    },
    /// The program is not there, or there is no room for its file.
    #[error("cannot ask for a ticket: {0}")]
    System(#[from] io::Error),
}

/// Whether there are tickets that are still valid.
#[must_use]
pub fn has_tickets() -> bool {
    let mut command = Command::new("klist");
    command.arg("-s");
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl Account {
    /// Whoever the tickets of this process are of.
    ///
    /// # Errors
    ///
    /// [`NoTicket`].
    pub fn with_tickets(host: &str) -> Result<Self, NoTicket> {
        // Nothing that means something to the program, or in a name of Kerberos.
        let is_name = host.parse::<std::net::IpAddr>().is_err()
            && host.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && host
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || ".-_".contains(letter));
        if !is_name {
            return Err(NoTicket::Name(host.to_owned()));
        }
        let folder = Folder::new()?;
        let path = folder.0.join("tickets");
        let mut cache = OsStr::new("FILE:").to_owned();
        cache.push(&path);
        let mut command = Command::new("kvno");
        command.args(["-q", "--out-cache"]).arg(cache);
        // The empty realm: the KDC says which one the machine is in. No name is looked up for it, as whoever answers
        // such questions could name another machine.
        command.arg(format!("host/{}@", host.to_ascii_lowercase()));
        let done = command.stdin(Stdio::null()).output()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            let reason = said.lines().next_back().unwrap_or_default().trim();
            return Err(NoTicket::Refused {
                host: host.to_owned(),
                reason: reason.chars().take(300).collect(),
            });
        }
        let ticket = Ticket::find(&read(&path)?, "host", host)?;
        Ok(Self::Kerberos(Box::new(ticket)))
    }
}

/// The file, in a buffer that is not grown: there is a session key in it.
fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    const MAX_FILE: usize = 256 * 1024;
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    let limit = u64::try_from(MAX_FILE).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut content)?;
    Ok(content)
}

/// A folder for nobody else, in memory where the system has such a place; it is gone on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let number: [u8; 16] = random::bytes()?;
        let name = format!("cardea-{}", base16ct::lower::encode_string(&number));
        let place = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let place = place.filter(|place| place.is_absolute() && place.is_dir());
        let place = place.unwrap_or_else(std::env::temp_dir).join(name);
        DirBuilder::new().mode(0o700).create(&place)?;
        Ok(Self(place))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is for nobody else, and of use for hours only.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_for_names_alone() {
        for host in ["10.0.0.1", "::1", "", "-x", "a/b", "a@b", "a b", "a\\b"] {
            let refused = Account::with_tickets(host).err().unwrap();
            assert!(matches!(refused, NoTicket::Name(_)), "{host}");
        }
    }

    #[test]
    fn folder_is_for_nobody_else_and_goes_away() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new().unwrap();
        let path = folder.0.clone();
        fs::write(path.join("tickets"), "x").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
