//! The class byte (ISO 7816-4 §5.4.1).

/// What a class byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A command of the standard (`000x xxxx`, `01xx xxxx`).
    Interindustry(Interindustry),
    /// A command of the card's maker (`1xxx xxxx`).
    Proprietary(u8),
    /// Reserved by the standard (`001x xxxx`), or `FF`, which no command may have.
    Reserved(u8),
}

/// The fields of an interindustry class byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interindustry {
    /// Whether more parts of the command follow.
    pub chaining: Chaining,
    /// How the command is protected.
    pub secure_messaging: SecureMessaging,
    /// The logical channel, 0 to 19.
    pub channel: u8,
}

/// Whether more parts of a command follow (ISO 7816-4 §5.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chaining {
    /// The last or only part.
    Last,
    /// More parts follow.
    More,
}

/// How a command is protected (ISO 7816-4 §5.4.1, tables 2 and 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureMessaging {
    /// Not at all, or no indication.
    None,
    /// In a form of the card's maker.
    Proprietary,
    /// By the standard, the header not processed.
    Standard,
    /// By the standard, the header authenticated.
    HeaderAuthenticated,
}

impl Class {
    /// Reads a class byte.
    #[must_use]
    pub const fn from_byte(cla: u8) -> Self {
        let chaining = if cla & 0x10 == 0 {
            Chaining::Last
        } else {
            Chaining::More
        };
        match cla {
            0x00..=0x1F => Self::Interindustry(Interindustry {
                chaining,
                secure_messaging: match cla & 0x0C {
                    0x00 => SecureMessaging::None,
                    0x04 => SecureMessaging::Proprietary,
                    0x08 => SecureMessaging::Standard,
                    _ => SecureMessaging::HeaderAuthenticated,
                },
                channel: cla & 0x03,
            }),
            0x40..=0x7F => Self::Interindustry(Interindustry {
                chaining,
                secure_messaging: if cla & 0x20 == 0 {
                    SecureMessaging::None
                } else {
                    SecureMessaging::Standard
                },
                channel: 4 + (cla & 0x0F),
            }),
            0x20..=0x3F | 0xFF => Self::Reserved(cla),
            _ => Self::Proprietary(cla),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(cla: u8) -> (Chaining, SecureMessaging, u8) {
        match Class::from_byte(cla) {
            Class::Interindustry(class) => (class.chaining, class.secure_messaging, class.channel),
            other => panic!("{cla:02X} is {other:?}"),
        }
    }

    #[test]
    fn first_interindustry_values_are_read() {
        assert_eq!(fields(0x00), (Chaining::Last, SecureMessaging::None, 0));
        assert_eq!(fields(0x10), (Chaining::More, SecureMessaging::None, 0));
        assert_eq!(fields(0x03), (Chaining::Last, SecureMessaging::None, 3));
        assert_eq!(
            fields(0x04),
            (Chaining::Last, SecureMessaging::Proprietary, 0)
        );
        assert_eq!(fields(0x08), (Chaining::Last, SecureMessaging::Standard, 0));
        assert_eq!(
            fields(0x1D),
            (Chaining::More, SecureMessaging::HeaderAuthenticated, 1)
        );
    }

    #[test]
    fn further_interindustry_values_are_read() {
        assert_eq!(fields(0x40), (Chaining::Last, SecureMessaging::None, 4));
        assert_eq!(fields(0x5F), (Chaining::More, SecureMessaging::None, 19));
        assert_eq!(fields(0x62), (Chaining::Last, SecureMessaging::Standard, 6));
    }

    #[test]
    fn other_values_are_not_interindustry() {
        assert_eq!(Class::from_byte(0x80), Class::Proprietary(0x80));
        assert_eq!(Class::from_byte(0xFE), Class::Proprietary(0xFE));
        assert_eq!(Class::from_byte(0xFF), Class::Reserved(0xFF));
        assert_eq!(Class::from_byte(0x20), Class::Reserved(0x20));
        assert_eq!(Class::from_byte(0x3F), Class::Reserved(0x3F));
    }
}
