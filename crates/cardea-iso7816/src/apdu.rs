//! Command APDUs (ISO 7816-4 §5.1 and §5.2, all four cases, short and extended).

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// Most bytes that a short Le field can ask for; `00` on the wire.
pub const MAX_NE_SHORT: usize = 256;

/// Most bytes that an extended Le field can ask for; `00 00` on the wire.
pub const MAX_NE_EXTENDED: usize = 65_536;

/// A command as it stands on the wire.
///
/// Its `Debug` form shows the length of the data field only: it may be a PIN.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CommandApdu<'a> {
    /// The class byte; [`Class::from_byte`](crate::Class::from_byte) reads it.
    pub cla: u8,
    /// The instruction byte.
    pub ins: u8,
    /// The first parameter byte.
    pub p1: u8,
    /// The second parameter byte.
    pub p2: u8,
    /// The data field; empty when the command has none.
    pub data: &'a [u8],
    /// Ne, the most bytes the sender takes: 256 (65 536 in the extended form) for zero on the wire, `None`
    /// without an Le field.
    pub ne: Option<usize>,
    /// How the length fields are written. A command without length fields is short.
    pub form: Form,
}

/// How the length fields of a command are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One byte each.
    Short,
    /// Two bytes each, a zero byte before the first.
    Extended,
}

/// Why bytes are not a command, or a command not bytes.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApduError {
    /// Fewer than the four bytes of the header.
    #[error("a command has at least 4 bytes, not {0}")]
    Header(usize),
    /// The length fields and the number of bytes do not fit each other.
    #[error("the length fields of the command do not fit its {0} bytes")]
    Length(usize),
    /// More data than a command can carry.
    #[error("{0} bytes of data do not fit a command")]
    TooMuchData(usize),
    /// A length asked for that Le cannot express.
    #[error("a command cannot ask for {0} bytes")]
    Ne(usize),
}

impl<'a> CommandApdu<'a> {
    /// A command without data and without Le (case 1).
    #[must_use]
    pub const fn new(cla: u8, ins: u8, p1: u8, p2: u8) -> Self {
        Self {
            cla,
            ins,
            p1,
            p2,
            data: &[],
            ne: None,
            form: Form::Short,
        }
    }

    /// The same command with a data field.
    #[must_use]
    pub const fn with_data(self, data: &'a [u8]) -> Self {
        Self { data, ..self }
    }

    /// The same command, asking for at most `ne` bytes.
    #[must_use]
    pub const fn with_ne(self, ne: usize) -> Self {
        Self {
            ne: Some(ne),
            ..self
        }
    }

    /// The same command with extended length fields, whether it needs them or not.
    #[must_use]
    pub const fn extended(self) -> Self {
        Self {
            form: Form::Extended,
            ..self
        }
    }

    /// Reads a command (ISO 7816-4 §5.2).
    ///
    /// # Errors
    /// [`ApduError::Header`] and [`ApduError::Length`]: the bytes are not a command.
    pub fn parse(apdu: &'a [u8]) -> Result<Self, ApduError> {
        let Some((&[cla, ins, p1, p2], body)) = apdu.split_first_chunk() else {
            return Err(ApduError::Header(apdu.len()));
        };
        let (form, data, ne) = parse_body(body).ok_or(ApduError::Length(apdu.len()))?;
        Ok(Self {
            cla,
            ins,
            p1,
            p2,
            data,
            ne,
            form,
        })
    }

    /// The bytes of the command. A short command that does not fit the short form becomes an extended one.
    ///
    /// # Errors
    /// [`ApduError::TooMuchData`] and [`ApduError::Ne`]: no form can hold it.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, ApduError> {
        let long_lc =
            u16::try_from(self.data.len()).map_err(|_| ApduError::TooMuchData(self.data.len()))?;
        let long_le = self
            .ne
            .map(|ne| match ne {
                0 => Err(ApduError::Ne(ne)),
                MAX_NE_EXTENDED => Ok(0),
                _ => u16::try_from(ne).map_err(|_| ApduError::Ne(ne)),
            })
            .transpose()?;
        let short_lc = u8::try_from(self.data.len()).ok();
        let short_le = match self.ne {
            None => Some(None),
            Some(MAX_NE_SHORT) => Some(Some(0)),
            Some(ne) => u8::try_from(ne).ok().map(Some),
        };

        // Header, longest Lc, data, longest Le.
        let mut out = Zeroizing::new(Vec::with_capacity(4 + 3 + self.data.len() + 3));
        out.extend_from_slice(&[self.cla, self.ins, self.p1, self.p2]);
        match (self.form, short_lc, short_le) {
            (Form::Short, Some(lc), Some(le)) => {
                if lc != 0 {
                    out.push(lc);
                    out.extend_from_slice(self.data);
                }
                out.extend(le);
            }
            _ => {
                if long_lc != 0 {
                    out.push(0);
                    out.extend_from_slice(&long_lc.to_be_bytes());
                    out.extend_from_slice(self.data);
                }
                if let Some(le) = long_le {
                    if long_lc == 0 {
                        out.push(0);
                    }
                    out.extend_from_slice(&le.to_be_bytes());
                }
            }
        }
        Ok(out)
    }
}

impl fmt::Debug for CommandApdu<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CommandApdu({:02X} {:02X} {:02X} {:02X}, {} bytes of data, ne {:?}, {:?})",
            self.cla,
            self.ins,
            self.p1,
            self.p2,
            self.data.len(),
            self.ne,
            self.form
        )
    }
}

/// What follows the header, or `None` if the lengths do not fit.
fn parse_body(body: &[u8]) -> Option<(Form, &[u8], Option<usize>)> {
    match *body {
        [] => Some((Form::Short, &[], None)),
        [le] => Some((Form::Short, &[], Some(short_ne(le)))),
        [0, high, low] => Some((Form::Extended, &[], Some(extended_ne([high, low])))),
        [0, high, low, ref rest @ ..] => {
            let lc = u16::from_be_bytes([high, low]);
            let (data, le) = rest.split_at_checked(usize::from(lc))?;
            let ne = match *le {
                [] => None,
                [high, low] => Some(extended_ne([high, low])),
                _ => return None,
            };
            (lc != 0).then_some((Form::Extended, data, ne))
        }
        [lc, ref rest @ ..] => {
            let (data, le) = rest.split_at_checked(usize::from(lc))?;
            let ne = match *le {
                [] => None,
                [le] => Some(short_ne(le)),
                _ => return None,
            };
            (lc != 0).then_some((Form::Short, data, ne))
        }
    }
}

fn short_ne(le: u8) -> usize {
    match le {
        0 => MAX_NE_SHORT,
        _ => usize::from(le),
    }
}

fn extended_ne(le: [u8; 2]) -> usize {
    match u16::from_be_bytes(le) {
        0 => MAX_NE_EXTENDED,
        le => usize::from(le),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(apdu: &[u8]) -> (Form, Vec<u8>, Option<usize>) {
        let apdu = CommandApdu::parse(apdu).unwrap();
        assert_eq!((apdu.cla, apdu.ins, apdu.p1, apdu.p2), (0, 0xA4, 4, 0x0C));
        (apdu.form, apdu.data.to_vec(), apdu.ne)
    }

    #[test]
    fn four_short_cases_are_told_apart() {
        assert_eq!(parse(&[0, 0xA4, 4, 0x0C]), (Form::Short, vec![], None));
        assert_eq!(
            parse(&[0, 0xA4, 4, 0x0C, 0x10]),
            (Form::Short, vec![], Some(16))
        );
        assert_eq!(
            parse(&[0, 0xA4, 4, 0x0C, 2, 0x3F, 0xFF]),
            (Form::Short, vec![0x3F, 0xFF], None)
        );
        assert_eq!(
            parse(&[0, 0xA4, 4, 0x0C, 2, 0x3F, 0xFF, 0]),
            (Form::Short, vec![0x3F, 0xFF], Some(256))
        );
    }

    #[test]
    fn three_extended_cases_are_told_apart() {
        assert_eq!(
            parse(&[0, 0xA4, 4, 0x0C, 0, 0, 0]),
            (Form::Extended, vec![], Some(65_536))
        );
        assert_eq!(
            parse(&[0, 0xA4, 4, 0x0C, 0, 1, 2]),
            (Form::Extended, vec![], Some(258))
        );
        assert_eq!(
            parse(&[0, 0xA4, 4, 0x0C, 0, 0, 1, 0x3F]),
            (Form::Extended, vec![0x3F], None)
        );
        assert_eq!(
            parse(&[0, 0xA4, 4, 0x0C, 0, 0, 1, 0x3F, 0, 5]),
            (Form::Extended, vec![0x3F], Some(5))
        );
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for body in [
            &[2, 1][..],
            &[1, 1, 2, 3],
            &[0, 1],
            &[0, 0, 0, 1],
            &[0, 0, 2, 1],
            &[0, 0, 1, 1, 1],
            &[0, 0, 1, 1, 1, 1, 1],
        ] {
            let apdu = [&[0, 0xA4, 4, 0x0C], body].concat();
            assert_eq!(
                CommandApdu::parse(&apdu),
                Err(ApduError::Length(apdu.len())),
                "{body:02X?}"
            );
        }
        assert_eq!(CommandApdu::parse(&[0, 0xA4, 4]), Err(ApduError::Header(3)));
    }

    #[test]
    fn short_command_that_outgrows_its_form_becomes_extended() {
        let data = [7; 256];
        let bytes = CommandApdu::new(0, 0xDB, 0x3F, 0xFF)
            .with_data(&data)
            .to_bytes()
            .unwrap();
        assert_eq!(bytes[4..7], [0, 1, 0]);
        let bytes = CommandApdu::new(0, 0xCB, 0x3F, 0xFF)
            .with_ne(257)
            .to_bytes()
            .unwrap();
        assert_eq!(bytes[4..], [0, 1, 1]);
    }

    #[test]
    fn what_no_form_can_hold_is_refused() {
        let data = vec![0; 65_536];
        let command = CommandApdu::new(0, 0xDB, 0x3F, 0xFF);
        assert_eq!(
            command.with_data(&data).to_bytes().unwrap_err(),
            ApduError::TooMuchData(65_536)
        );
        assert_eq!(command.with_ne(0).to_bytes().unwrap_err(), ApduError::Ne(0));
        assert_eq!(
            command.with_ne(65_537).to_bytes().unwrap_err(),
            ApduError::Ne(65_537)
        );
    }

    #[test]
    fn debug_form_hides_the_data() {
        let shown = format!(
            "{:?}",
            CommandApdu::new(0, 0x20, 0, 0x80).with_data(b"123456")
        );
        assert_eq!(
            shown,
            "CommandApdu(00 20 00 80, 6 bytes of data, ne None, Short)"
        );
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(
            header: [u8; 4],
            data in proptest::collection::vec(any::<u8>(), 0..600),
            ne in proptest::option::of(1..=65_536_usize),
            extended: bool,
        ) {
            let [cla, ins, p1, p2] = header;
            let mut command = CommandApdu::new(cla, ins, p1, p2).with_data(&data);
            if let Some(ne) = ne {
                command = command.with_ne(ne);
            }
            if extended {
                command = command.extended();
            }
            let bytes = command.to_bytes().unwrap();
            let read = CommandApdu::parse(&bytes).unwrap();
            let fits = data.len() < 256 && ne.is_none_or(|ne| ne <= 256);
            let lengthless = data.is_empty() && ne.is_none();
            let form = if lengthless || (fits && !extended) { Form::Short } else { Form::Extended };
            prop_assert_eq!(read, CommandApdu { form, ..command });
        }

        #[test]
        fn what_is_read_is_written_back(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(command) = CommandApdu::parse(&bytes) {
                prop_assert_eq!(command.to_bytes().unwrap().to_vec(), bytes);
            }
        }

        #[test]
        fn extended_command_is_written_back(
            data in proptest::collection::vec(any::<u8>(), 1..300),
            le in proptest::option::of(any::<[u8; 2]>()),
        ) {
            let mut bytes = vec![0, 0xDB, 0x3F, 0xFF, 0];
            bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(&data);
            bytes.extend(le.iter().flatten());
            let command = CommandApdu::parse(&bytes).unwrap();
            prop_assert_eq!(command.data, data.as_slice());
            prop_assert_eq!(command.to_bytes().unwrap().to_vec(), bytes);
        }
    }
}
