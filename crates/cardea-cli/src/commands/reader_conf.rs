//! The entry for `/etc/reader.conf.d` that makes pcscd load the handler for one daemon (reader.conf(5)).

use std::path::Path;

use cardea_client::message::{ReaderRequest, Reply, Request};

use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::terminal::output::print;

/// pcscd shows the readers as this, the number of the reader and the slot; the daemon names them alike.
const FRIENDLY_NAME: &str = "Cardea Virtual Smart Card";

pub(crate) fn run(
    socket: &Path,
    library: &Path,
    slots: Option<u8>,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let socket = value("socket", socket)?;
    let library = value("library", library)?;
    if library.contains(char::is_whitespace) {
        // It would look for a file with the quotes in its name.
        return Err(Failure::usage(
            "pcscd cannot load a library whose path has spaces",
        ));
    }
    let slots = match slots {
        Some(slots) => slots,
        None => match daemon.call(&Request::Reader(ReaderRequest::Info), "asking the daemon")? {
            Reply::Reader { slots } => slots,
            _ => return Err(Daemon::unexpected()),
        },
    };
    print(&entry(&socket, &library, slots))?;
    Ok(())
}

/// The number of slots behind the colon lets pcscd start before the daemon: it does not look for a file of
/// a name with a colon, and the handler need not ask.
fn entry(socket: &str, library: &str, slots: u8) -> String {
    let device = quoted(format!("{socket}:{slots}"));
    format!("FRIENDLYNAME \"{FRIENDLY_NAME}\"\nDEVICENAME   {device}\nLIBPATH      {library}\n")
}

/// A value with spaces needs quotes, which pcscd hands over and the handler takes off.
fn quoted(value: String) -> String {
    if value.contains(char::is_whitespace) {
        format!("\"{value}\"")
    } else {
        value
    }
}

/// A path as pcscd can read it: absolute, one line, without what ends a value.
fn value(what: &str, path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("invalid path of the {what}: {error}")))?;
    match path.to_str() {
        Some(text) if !text.contains(|c: char| c.is_control() || matches!(c, '"' | '\'' | '#')) => {
            Ok(text.to_owned())
        }
        _ => Err(Failure::usage(format!(
            "pcscd cannot read the path of the {what} in its configuration"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_names_socket_slots_and_library() {
        assert_eq!(
            entry("/run/cardea/cardea.sock", "/usr/lib/libifdcardea.so", 4),
            "FRIENDLYNAME \"Cardea Virtual Smart Card\"\n\
             DEVICENAME   /run/cardea/cardea.sock:4\n\
             LIBPATH      /usr/lib/libifdcardea.so\n"
        );
        assert!(entry("/my run/s", "/l", 14).contains("DEVICENAME   \"/my run/s:14\"\n"));
    }

    #[test]
    fn paths_become_absolute_and_those_that_pcscd_cannot_read_are_refused() {
        assert_eq!(value("socket", Path::new("/a/b")).unwrap(), "/a/b");
        assert!(value("socket", Path::new("b")).unwrap().ends_with("/b"));
        for bad in ["/a\"b", "/a\nb", "/a#b", ""] {
            assert!(value("socket", Path::new(bad)).is_err(), "{bad:?}");
        }
    }
}
