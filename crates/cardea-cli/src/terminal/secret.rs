//! Secrets from files, descriptors and the terminal. Never from arguments.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use cardea_client::dictation::from_dictation;
use cardea_client::message::{Hierarchy, SecretBytes};
use cardea_client::parse_authorisation;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::hex;
use crate::policy::Policy;

/// Longest PIN and PUK (GIDS 2.0).
const MAX_PIN: usize = 127;

/// Longest secret file: a password of Windows, and a newline. Keys in hexadecimal digits, PINs and passphrases are
/// shorter.
const MAX_FILE: usize = 512;

const ADMIN_KEY_LENGTH: usize = 24;

/// A 3DES key.
pub(crate) type AdminKey = Zeroizing<[u8; ADMIN_KEY_LENGTH]>;

/// Where one secret comes from: file before descriptor before terminal.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: Option<&'a Path>,
    pub(crate) fd: Option<u32>,
    /// The options that name the two, for whoever has no terminal.
    pub(crate) options: &'static str,
}

impl Source<'_> {
    /// Whether it is a file or a descriptor.
    pub(crate) fn is_given(&self) -> bool {
        self.file.is_some() || self.fd.is_some()
    }

    /// `None`: it is to be asked for.
    fn path(&self) -> Option<PathBuf> {
        // Opening by this name duplicates what the descriptor refers to; no descriptor is taken over.
        let of_fd = || {
            self.fd
                .map(|fd| PathBuf::from(format!("/proc/self/fd/{fd}")))
        };
        self.file.map(Path::to_owned).or_else(of_fd)
    }
}

/// A present PIN or PUK, to be compared. `what` is its name in prompts and errors.
pub(crate) fn present(what: &str, source: &Source<'_>) -> Result<SecretBytes, Failure> {
    let typed = match source.path() {
        Some(path) => read(&path, what)?,
        None => prompt(&format!("{what}: "), what, source)?,
    };
    if typed.is_empty() || typed.len() > MAX_PIN {
        return Err(Failure::usage(format!(
            "the {what} has {} bytes; it must have 1 to {MAX_PIN}",
            typed.len()
        )));
    }
    Ok(SecretBytes::new(typed.to_vec()))
}

/// A new PIN or PUK: asked for twice, and checked before it is sent.
pub(crate) fn new(
    what: &str,
    source: &Source<'_>,
    policy: &Policy,
) -> Result<SecretBytes, Failure> {
    let check = |typed: &[u8]| policy.check(what, typed).map_err(Failure::usage);
    let typed = match source.path() {
        Some(path) => {
            let typed = read(&path, what)?;
            check(&typed)?;
            typed
        }
        None => ask_twice(what, source, check)?,
    };
    Ok(SecretBytes::new(typed.to_vec()))
}

/// The passphrase of a file.
pub(crate) fn passphrase(source: &Source<'_>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match source.path() {
        Some(path) => read(&path, "passphrase"),
        None => prompt("passphrase of the file: ", "passphrase", source),
    }
}

/// The password of an account on another machine.
pub(crate) fn password(what: &str, source: &Source<'_>) -> Result<Zeroizing<String>, Failure> {
    let typed = match source.path() {
        Some(path) => read(&path, what)?,
        None => prompt(&format!("{what}: "), what, source)?,
    };
    match std::str::from_utf8(&typed) {
        Ok("") => Err(Failure::usage(format!("the {what} is empty"))),
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Failure::usage(format!("the {what} is not valid UTF-8"))),
    }
}

/// A new passphrase: asked for twice, at least eight bytes.
pub(crate) fn new_passphrase(source: &Source<'_>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let long_enough = |typed: &[u8]| match typed.len() {
        0..8 => Err(Failure::usage("a passphrase must have at least 8 bytes")),
        _ => Ok(()),
    };
    match source.path() {
        Some(path) => {
            let typed = read(&path, "passphrase")?;
            long_enough(&typed)?;
            Ok(typed)
        }
        None => ask_twice("passphrase", source, long_enough),
    }
}

/// An admin key: 48 hexadecimal digits, in a file also 24 bytes. Asked for twice: prompts only ask for new keys.
pub(crate) fn admin_key(what: &str, source: &Source<'_>) -> Result<AdminKey, Failure> {
    let content = match source.path() {
        Some(path) => read_whole(&path, what)?,
        None => ask_twice(&format!("{what} (48 hexadecimal digits)"), source, |_| {
            Ok(())
        })?,
    };
    if source.is_given()
        && let Ok(bytes) = content.as_slice().try_into()
    {
        return Ok(Zeroizing::new(bytes));
    }
    hex::parse(&content).ok_or_else(|| {
        Failure::usage("an admin key is 48 hexadecimal digits (in a file also 24 bytes)")
    })
}

/// An admin key that a card has, from its file.
pub(crate) fn present_admin_key(source: &Source<'_>) -> Result<AdminKey, Failure> {
    admin_key("admin key", source)
}

/// The TPM's owner authorisation, if one is given.
pub(crate) fn owner_auth(source: &Source<'_>) -> Result<Option<SecretBytes>, Failure> {
    hierarchy_auth(Hierarchy::Owner, source)
}

/// An authorisation of the TPM, in any form of [`parse_authorisation`]. There is no prompt for it: most TPMs have
/// none.
pub(crate) fn hierarchy_auth(
    hierarchy: Hierarchy,
    source: &Source<'_>,
) -> Result<Option<SecretBytes>, Failure> {
    let Some(path) = source.path() else {
        return Ok(None);
    };
    let what = format!("{} authorisation", hierarchy.word());
    let content = read_whole(&path, &what)?;
    parse_authorisation(hierarchy, &content)
        .map(Some)
        .map_err(|error| Failure::usage(format!("the {what} in {} {error}", path.display())))
}

/// The content without one line end, of Unix or of Windows.
fn read(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let content = read_whole(path, what)?;
    Ok(Zeroizing::new(without_newline(&content).to_vec()))
}

fn read_whole(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let fail = |error: std::io::Error| {
        Failure::usage(format!(
            "the {what} cannot be read from {}: {error}",
            path.display()
        ))
    };
    // Filled in place, so that no grown allocation leaves a copy behind.
    let mut content = Zeroizing::new(vec![0; MAX_FILE + 1]);
    let mut length = 0;
    let mut file = File::open(path).map_err(fail)?;
    while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(fail)? {
            0 => break,
            count => length += count,
        }
    }
    if length > MAX_FILE {
        return Err(Failure::usage(format!(
            "{} is too long for a {what}",
            path.display()
        )));
    }
    content.truncate(length);
    Ok(content)
}

fn without_newline(content: &[u8]) -> &[u8] {
    content
        .strip_suffix(b"\r\n")
        .or_else(|| content.strip_suffix(b"\n"))
        .unwrap_or(content)
}

fn ask_twice(
    what: &str,
    source: &Source<'_>,
    check: impl FnOnce(&[u8]) -> Result<(), Failure>,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let first = prompt(&format!("{what}: "), what, source)?;
    check(&first)?;
    let again = prompt(&format!("{what} again: "), what, source)?;
    if *first != *again {
        return Err(Failure::usage(format!(
            "the two entries of the {what} do not match"
        )));
    }
    Ok(first)
}

fn prompt(text: &str, what: &str, source: &Source<'_>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    crate::terminal::prompt::ask(text).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => Failure::interrupted(),
        _ => Failure::usage(format!(
            "cannot ask for the {what} on a terminal ({error}); use {}",
            source.options
        )),
    })
}

/// An administrator's response to a challenge: shown while it is typed, because it is long and valid once.
pub(crate) fn response() -> Result<hex::Block, Failure> {
    let typed = crate::terminal::prompt::ask_shown("response: ").map_err(|error| {
        Failure::usage(format!(
            "cannot ask for the response on a terminal ({error}); use --admin-key-file, or \
             --challenge and --response"
        ))
    })?;
    from_dictation(&typed)
        .map(hex::Block)
        .map_err(|error| Failure::usage(format!("the response: {error}")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn from_file(content: &[u8]) -> Result<SecretBytes, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        let source = Source {
            file: Some(&path),
            fd: None,
            options: "",
        };
        present("PIN", &source)
    }

    fn key_from_file(content: &[u8]) -> Result<AdminKey, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, content).unwrap();
        let source = Source {
            file: Some(&path),
            fd: None,
            options: "",
        };
        admin_key("admin key", &source)
    }

    #[test]
    fn one_line_end_does_not_count() {
        assert_eq!(from_file(b"123456").unwrap().expose(), b"123456");
        assert_eq!(from_file(b"123456\n").unwrap().expose(), b"123456");
        assert_eq!(from_file(b"123456\n\n").unwrap().expose(), b"123456\n");
        // As Windows writes it: the carriage return is part of the line end.
        assert_eq!(from_file(b" 12 \r\n").unwrap().expose(), b" 12 ");
        assert_eq!(from_file(b"12\r\n\r\n").unwrap().expose(), b"12\r\n");
        assert_eq!(from_file(b"12\r").unwrap().expose(), b"12\r");
    }

    #[test]
    fn pins_of_wrong_length_are_refused() {
        for content in [&b""[..], b"\n", &[b'1'; 128], &[b'1'; 5000]] {
            assert!(from_file(content).is_err());
        }
        assert_eq!(from_file(&[b'1'; 127]).unwrap().expose().len(), 127);
    }

    #[test]
    fn pin_comes_from_a_descriptor() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"4711\n").unwrap();
        drop(writer);
        let source = Source {
            file: None,
            fd: Some(u32::try_from(std::os::fd::AsRawFd::as_raw_fd(&reader)).unwrap()),
            options: "",
        };
        let secret = present("PIN", &source).unwrap();
        assert_eq!(secret.expose(), b"4711");
    }

    #[test]
    fn admin_key_is_24_bytes_or_48_digits() {
        let digits = b"0123456789ABCDEF23456789abcdef01456789ABCDEF0123";
        let key = key_from_file(digits).unwrap();
        assert_eq!(key.first(), Some(&0x01));
        assert_eq!(key.last(), Some(&0x23));
        assert_eq!(*key_from_file(&[7; 24]).unwrap(), [7; 24]);
        let mut line = digits.to_vec();
        line.push(b'\n');
        assert_eq!(key_from_file(&line).unwrap(), key);
        for bad in [
            &digits[1..],
            &[7; 25],
            b"",
            b"zz23456789ABCDEF23456789abcdef01456789ABCDEF0123",
        ] {
            assert!(key_from_file(bad).is_err());
        }
    }
}
