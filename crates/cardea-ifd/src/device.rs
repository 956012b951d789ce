//! The `DEVICENAME` of a reader configuration: where the daemon is and how many slots there are.

use std::path::PathBuf;

/// Slots of one reader at most. pcscd has room for 16 readers in all, and takes none of the slots when
/// one does not fit.
pub(crate) const MAX_SLOTS: u8 = 14;

/// A `DEVICENAME`: `[cardea:][PATH][:SLOTS]`.
///
/// In a configuration file a name without colon must be an existing file: with the number of slots, pcscd
/// starts without the daemon. Quotes around the name are part of what pcscd hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// The daemon's socket, absolute.
    pub(crate) socket: PathBuf,
    /// Slots, if the name tells them.
    pub(crate) slots: Option<u8>,
}

/// Not a `DEVICENAME` of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("the path of the socket is not absolute")]
    Relative,
    #[error("the number of slots is not 1 to {MAX_SLOTS}")]
    Slots,
    #[error("the name is not UTF-8")]
    Text,
}

impl Device {
    /// `default` is the socket for a name without path.
    pub(crate) fn parse(name: &[u8], default: PathBuf) -> Result<Self, DeviceError> {
        let name = std::str::from_utf8(name).map_err(|_| DeviceError::Text)?;
        let name = name.trim_matches(['"', '\'']);
        let name = name.strip_prefix("cardea:").unwrap_or(name);
        let (path, slots) = match name.rsplit_once(':') {
            Some((path, slots)) if slots.bytes().all(|byte| byte.is_ascii_digit()) => {
                let slots = slots.parse().map_err(|_| DeviceError::Slots)?;
                (path, Some(slots))
            }
            _ => match name.parse() {
                Ok(slots) => ("", Some(slots)),
                Err(_) => (name, None),
            },
        };
        if slots.is_some_and(|slots| !(1..=MAX_SLOTS).contains(&slots)) {
            return Err(DeviceError::Slots);
        }
        let socket = if path.is_empty() {
            default
        } else {
            PathBuf::from(path)
        };
        if socket.is_absolute() {
            Ok(Self { socket, slots })
        } else {
            Err(DeviceError::Relative)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<(String, Option<u8>), DeviceError> {
        Device::parse(name.as_bytes(), "/default".into())
            .map(|device| (device.socket.to_str().unwrap().to_owned(), device.slots))
    }

    #[test]
    fn all_forms_are_understood() {
        for (name, path, slots) in [
            ("/run/c.sock:4", "/run/c.sock", Some(4)),
            ("cardea:/run/c.sock:14", "/run/c.sock", Some(14)),
            ("\"/run/with space:2\"", "/run/with space", Some(2)),
            ("/run/c.sock", "/run/c.sock", None),
            ("cardea:/run/c.sock", "/run/c.sock", None),
            ("/run/a:b:1", "/run/a:b", Some(1)),
            ("/run/a:b", "/run/a:b", None),
            (":3", "/default", Some(3)),
            ("cardea:3", "/default", Some(3)),
            ("cardea:", "/default", None),
            ("", "/default", None),
        ] {
            assert_eq!(parse(name), Ok((path.to_owned(), slots)), "{name}");
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        for name in [
            "/run/c.sock:0",
            "/run/c.sock:15",
            "/run/c.sock:999",
            "/run/c.sock:",
            ":",
        ] {
            assert_eq!(parse(name), Err(DeviceError::Slots), "{name}");
        }
        assert_eq!(parse("c.sock:4"), Err(DeviceError::Relative));
        assert_eq!(
            Device::parse(b"/run/\xFF", "/default".into()),
            Err(DeviceError::Text)
        );
    }
}
