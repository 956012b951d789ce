//! Connecting to a socket, and who serves it.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::stat;

/// Connects to the daemon.
///
/// # Errors
///
/// Those of connect(2); [`io::ErrorKind::PermissionDenied`] when somebody else than the daemon serves the socket.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    check_server(path)?;
    Ok(stream)
}

/// Refuses a socket that was made by somebody who is neither root nor the owner of its folder. There, nobody else can
/// put a socket in the daemon's place, unless the folder is everybody's.
///
/// The file's owner is asked for and not the peer's credentials: those have no process id where the daemon is in
/// another PID namespace, which rustix cannot express.
pub(crate) fn check_server(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let (server, owner) = (stat(path)?.st_uid, stat(folder)?.st_uid);
    if server == 0 || server == owner {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "it is served by user {server}, who is neither root nor the owner of {}",
            folder.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_root_and_the_owner_of_the_folder_serve_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        connect(&path).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(65_534), None).unwrap();
            let refused = connect(&path).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            assert!(refused.to_string().contains("user 65534"), "{refused}");
            chown(folder.path(), Some(65_534), None).unwrap();
            connect(&path).unwrap();
        }
    }
}
