//! Secrets from files, descriptors and the terminal. Never from arguments.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use cardea_client::message::SecretBytes;
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};

/// Longest PIN and PUK (GIDS 2.0).
const MAX_PIN: usize = 127;

/// Longest secret file: a key in hexadecimal digits, a PIN, a newline.
const MAX_FILE: usize = 256;

const ADMIN_KEY_LENGTH: usize = 24;

/// Where one secret comes from: file before descriptor before terminal.
pub(crate) struct Source<'a> {
    pub(crate) file: Option<&'a Path>,
    pub(crate) fd: Option<u32>,
}

/// Whether a secret is compared or set: one that is set is asked twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Compare,
    Set,
}

/// A PIN or PUK. `what` is its name in prompts and errors.
pub(crate) fn pin(
    what: &str,
    source: &Source<'_>,
    purpose: Purpose,
) -> Result<SecretBytes, Failure> {
    let typed = match (source.file, source.fd) {
        (Some(path), _) => read(path, what)?,
        // Opening by this name duplicates what the descriptor refers to; no descriptor is taken over.
        (None, Some(fd)) => read(&PathBuf::from(format!("/proc/self/fd/{fd}")), what)?,
        (None, None) => ask(what, purpose)?,
    };
    if typed.is_empty() || typed.len() > MAX_PIN {
        return Err(Failure::usage(format!(
            "the {what} has {} bytes; 1 to {MAX_PIN} are possible",
            typed.len()
        )));
    }
    Ok(SecretBytes::new(typed.to_vec()))
}

/// An admin key from a file of 48 hexadecimal digits or of 24 bytes.
pub(crate) fn admin_key_from_file(path: &Path) -> Result<SecretBytes, Failure> {
    let content = read_whole(path, "admin key")?;
    if content.len() == ADMIN_KEY_LENGTH {
        return Ok(SecretBytes::new(content.to_vec()));
    }
    admin_key_from_digits(without_newline(&content))
}

/// An admin key typed as 48 hexadecimal digits, twice.
pub(crate) fn admin_key_from_terminal() -> Result<SecretBytes, Failure> {
    admin_key_from_digits(&ask("admin key (48 hexadecimal digits)", Purpose::Set)?)
}

fn admin_key_from_digits(digits: &[u8]) -> Result<SecretBytes, Failure> {
    let wrong =
        || Failure::usage("an admin key is 48 hexadecimal digits (in a file also 24 bytes)");
    if digits.len() != 2 * ADMIN_KEY_LENGTH {
        return Err(wrong());
    }
    let mut key = Zeroizing::new([0; ADMIN_KEY_LENGTH]);
    for (target, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        for &digit in pair {
            let nibble = char::from(digit).to_digit(16).ok_or_else(wrong)?;
            *target = *target << 4 | u8::try_from(nibble).unwrap_or_default();
        }
    }
    Ok(SecretBytes::new(key.to_vec()))
}

/// The content without one newline at its end.
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
    content.strip_suffix(b"\n").unwrap_or(content)
}

fn ask(what: &str, purpose: Purpose) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let first = prompt(&format!("{what}: "), what)?;
    if purpose == Purpose::Set {
        let again = prompt(&format!("{what} again: "), what)?;
        if *first != *again {
            return Err(Failure::usage(format!(
                "the two entries of the {what} differ"
            )));
        }
    }
    Ok(first)
}

fn prompt(text: &str, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    crate::prompt::ask(text).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => Failure::new(Exit::Failed, "interrupted"),
        _ => Failure::usage(format!(
            "the {what} cannot be asked for on a terminal ({error}); use a file or a descriptor"
        )),
    })
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
        };
        pin("PIN", &source, Purpose::Set)
    }

    fn key_from_file(content: &[u8]) -> Result<SecretBytes, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, content).unwrap();
        admin_key_from_file(&path)
    }

    #[test]
    fn one_newline_at_the_end_does_not_count() {
        assert_eq!(from_file(b"123456").unwrap().expose(), b"123456");
        assert_eq!(from_file(b"123456\n").unwrap().expose(), b"123456");
        assert_eq!(from_file(b"123456\n\n").unwrap().expose(), b"123456\n");
        assert_eq!(from_file(b" 12 \r\n").unwrap().expose(), b" 12 \r");
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
        };
        let secret = pin("PIN", &source, Purpose::Set).unwrap();
        assert_eq!(secret.expose(), b"4711");
    }

    #[test]
    fn admin_key_is_24_bytes_or_48_digits() {
        let digits = b"0123456789ABCDEF23456789abcdef01456789ABCDEF0123";
        let key = key_from_file(digits).unwrap();
        assert_eq!(key.expose().first(), Some(&0x01));
        assert_eq!(key.expose().last(), Some(&0x23));
        assert_eq!(key.expose().len(), 24);
        assert_eq!(key_from_file(&[7; 24]).unwrap().expose(), [7; 24]);
        let mut line = digits.to_vec();
        line.push(b'\n');
        assert_eq!(key_from_file(&line).unwrap(), key);
        for bad in [
            &digits[1..],
            b"",
            b"zz23456789ABCDEF23456789abcdef01456789ABCDEF0123",
        ] {
            assert!(key_from_file(bad).is_err());
        }
    }
}
