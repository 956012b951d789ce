//! A line typed at the terminal, shown or not.
//!
//! What: the controlling terminal without echo, the keys for corrections, control-C.
//! What not: what is asked for, and what becomes of the answer.
//! Begin with [`ask`].
//!
//! The echo is switched off before the prompt appears, so that input that comes at once is not shown either.
//! The line is edited here and not by the terminal, so that an interrupt leaves the terminal as it was.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize, Zeroizing};

/// Longest line: a password of Windows in UTF-8. Everything else that is asked for is shorter.
pub const MAX_LINE: usize = 4 * 127;

/// Asks on the controlling terminal.
///
/// # Errors
///
/// Without a terminal; `Interrupted` for control-C; `InvalidInput` for a line that is too long.
pub fn ask(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let silence = Silence::begin(&terminal)?;
    (&terminal).write_all(prompt.as_bytes())?;
    let line = read_line(&terminal);
    // The newline that was typed was not shown.
    (&terminal).write_all(b"\n")?;
    drop(silence);
    line
}

/// Asks for a line that may be seen; the terminal edits it.
///
/// # Errors
///
/// As [`ask`]; control-C ends the program.
pub fn ask_shown(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    (&terminal).write_all(prompt.as_bytes())?;
    read_line(&terminal)
}

/// Whether somebody can be asked.
///
/// # Errors
///
/// Without a terminal.
pub fn require_terminal() -> io::Result<()> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map(drop)
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
            (0, _) | (_, END) if line.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
            (0, _) | (_, END | b'\n' | b'\r') => return Ok(line),
            (_, INTERRUPT) => return Err(ErrorKind::Interrupted.into()),
            (_, BACKSPACE | DELETE) => erase_character(&mut line),
            (_, ERASE_LINE) => line.zeroize(),
            _ if line.len() == MAX_LINE => {
                return Err(io::Error::new(
                    ErrorKind::InvalidInput,
                    "the line is too long",
                ));
            }
            _ => line.push(typed),
        }
    }
}

/// One character of UTF-8: its continuation bytes and its first one.
fn erase_character(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0xC0 != 0x80 {
            break;
        }
    }
}

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const ERASE_LINE: u8 = 0x15;
const DELETE: u8 = 0x7F;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Result<Vec<u8>, ErrorKind> {
        read_line(keys)
            .map(|line| line.to_vec())
            .map_err(|error| error.kind())
    }

    #[test]
    fn line_ends_at_enter_or_at_the_end_of_input() {
        for keys in [&b"1234\rrest"[..], b"1234\nrest", b"1234\x04", b"1234"] {
            assert_eq!(typed(keys).unwrap(), b"1234");
        }
        assert_eq!(typed(b"\n").unwrap(), b"");
        assert_eq!(typed(b""), Err(ErrorKind::UnexpectedEof));
        assert_eq!(typed(b"\x04"), Err(ErrorKind::UnexpectedEof));
    }

    #[test]
    fn corrections_take_whole_characters_back() {
        assert_eq!(typed(b"12x\x7f34\n").unwrap(), b"1234");
        assert_eq!(typed("1ä€\x08\x7f2\n".as_bytes()).unwrap(), b"12");
        assert_eq!(typed(b"wrong\x151234\n").unwrap(), b"1234");
        assert_eq!(typed(b"\x7f\x7f1\n").unwrap(), b"1");
    }

    #[test]
    fn interrupt_and_overlong_lines_are_refused() {
        assert_eq!(typed(b"12\x0334\n"), Err(ErrorKind::Interrupted));
        let mut keys = [b'1'; MAX_LINE + 1];
        assert_eq!(typed(&keys), Err(ErrorKind::InvalidInput));
        keys[MAX_LINE] = b'\n';
        assert_eq!(typed(&keys).unwrap().len(), MAX_LINE);
    }
}
