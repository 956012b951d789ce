//! The owner authorisation that the service manager keeps for the daemon.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cardea_client::message;
use cardea_client::{MAX_AUTHORISATION_FILE, parse_authorisation};
use cardea_tpm::{Chip, Hierarchy, HierarchyAuth};
use zeroize::Zeroizing;

/// Name of the service credential with the owner authorisation (systemd.exec(5), `LoadCredentialEncrypted=`).
const CREDENTIAL: &str = "owner-auth";

/// The TPM with the owner's authorisation from the service's credential, if both have one.
pub(crate) fn for_keeper(chip: &Arc<dyn Chip>) -> Arc<dyn Chip> {
    let set = || chip.is_set(Hierarchy::Owner).is_ok_and(|set| set);
    chip.with_owner(credential().filter(|_| set()))
}

/// The owner authorisation that the service manager keeps for the daemon, in any form that the command takes.
pub(crate) fn credential() -> Option<HierarchyAuth> {
    let folder = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    let path = folder.join(CREDENTIAL);
    let read = || {
        let content = match read_secret(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| error.to_string())?,
        };
        let value = parse_authorisation(message::Hierarchy::Owner, &content)
            .map_err(|error| error.to_string())?;
        HierarchyAuth::new(value.expose())
            .map(Some)
            .map_err(|error| error.to_string())
    };
    read().unwrap_or_else(|error: String| {
        tracing::warn!(path = %path.display(), error, "service credential not used");
        None
    })
}

/// Filled in place, so that no grown allocation leaves a copy behind.
fn read_secret(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(vec![0; MAX_AUTHORISATION_FILE + 1]);
    let mut file = File::open(path)?;
    let mut length = 0;
    while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => length += count,
        }
    }
    if length > MAX_AUTHORISATION_FILE {
        return Err(io::Error::other("it is too long for an authorisation"));
    }
    content.truncate(length);
    Ok(content)
}
