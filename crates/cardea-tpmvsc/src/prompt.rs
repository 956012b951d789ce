//! A password typed at the terminal, twice, without being shown.
//!
//! The line is edited here and not by the terminal, so that control-C leaves the terminal as it was.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize, Zeroizing};

/// Longest password: that of Windows, in UTF-8.
const MAX_LINE: usize = 4 * 127;

/// Asks on the controlling terminal.
///
/// # Errors
///
/// Without a terminal; `Interrupted` for control-C; `InvalidInput` for a line that cannot be a password, or two that differ.
pub fn new_password() -> io::Result<Zeroizing<String>> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let silence = Silence::begin(&terminal)?;
    let first = ask(&terminal, "password: ")?;
    let again = ask(&terminal, "password again: ")?;
    drop(silence);
    if first.is_empty() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "an empty password lets everybody in",
        ));
    }
    if *first != *again {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "the two entries do not match",
        ));
    }
    match std::str::from_utf8(&first) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "the password is not valid UTF-8",
        )),
    }
}

fn ask(mut terminal: &File, prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    terminal.write_all(prompt.as_bytes())?;
    let line = read_line(terminal);
    // The newline that was typed was not shown.
    terminal.write_all(b"\n")?;
    line
}

/// The terminal without echo; as before on drop.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn begin(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal.as_fd())?;
        let mut silent = before.clone();
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(terminal.as_fd(), OptionalActions::Drain, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // A terminal that is gone need not be restored.
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Drain, &self.before);
    }
}

/// Bytes up to the end of the line, with the usual keys for corrections.
fn read_line(mut input: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Never grown, so that no copy stays behind.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    let mut byte = Zeroizing::new([0]);
    loop {
        let count = match input.read(&mut *byte) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        let [typed] = *byte;
        match (count, typed) {
            (0, _) => return Err(ErrorKind::UnexpectedEof.into()),
            (_, b'\n' | b'\r') => return Ok(line),
            (_, INTERRUPT) => return Err(ErrorKind::Interrupted.into()),
            (_, BACKSPACE | DELETE) => erase_character(&mut line),
            (_, ERASE_LINE) => line.zeroize(),
            _ if line.len() == MAX_LINE => {
                return Err(io::Error::new(
                    ErrorKind::InvalidInput,
                    "the password is too long",
                ));
            }
            _ => line.push(typed),
        }
    }
}

/// All bytes of the last character in UTF-8.
fn erase_character(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if !(0x80..0xC0).contains(&byte) {
            break;
        }
    }
}

const INTERRUPT: u8 = 3;
const BACKSPACE: u8 = 8;
const ERASE_LINE: u8 = 21;
const DELETE: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_corrected_as_at_a_terminal() {
        let typed = |bytes: &[u8]| read_line(bytes).map(|line| line.to_vec());
        assert_eq!(typed(b"secret\n").unwrap(), b"secret");
        assert_eq!(typed("secr\u{e4}\u{7f}et\r".as_bytes()).unwrap(), b"secret");
        assert_eq!(typed(b"wrong\x15secret\n").unwrap(), b"secret");
        let interrupted = typed(b"sec\x03").unwrap_err();
        assert_eq!(interrupted.kind(), ErrorKind::Interrupted);
        assert_eq!(typed(b"sec").unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let long = typed(&[b'x'; MAX_LINE + 1]).unwrap_err();
        assert_eq!(long.kind(), ErrorKind::InvalidInput);
    }
}
