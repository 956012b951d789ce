//! The messages of Kerberos between a caller and a service (RFC 4120 §5).

use std::fmt;

use zeroize::Zeroizing;

use super::AuthError;
use super::der::{Element, Elements, OCTET_STRING, SEQUENCE, context, element, only};
use super::kerberos_crypto::{Etype, Key};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const GENERALIZED_TIME: u8 = 0x18;
const GENERAL_STRING: u8 = 0x1B;

/// The tags of whole messages.
const TICKET: u8 = application(1);
const AUTHENTICATOR: u8 = application(2);
const TICKET_PART: u8 = application(3);
const AP_REQ: u8 = application(14);
const AP_REP: u8 = application(15);
const REPLY_PART: u8 = application(27);

const VERSION: i64 = 5;

const fn application(number: u8) -> u8 {
    0x60 | number
}

fn malformed<T>(what: &'static str) -> Result<T, AuthError> {
    Err(AuthError::Malformed(what))
}

/// The fields of a sequence, in their order; what comes after the known ones is left alone.
struct Fields<'a> {
    elements: Elements<'a>,
    next: Option<Element<'a>>,
}

impl<'a> Fields<'a> {
    fn new(sequence: &'a [u8]) -> Result<Self, AuthError> {
        Ok(Self {
            elements: Elements::new(only(sequence, SEQUENCE)?),
            next: None,
        })
    }

    fn of_message(message: &'a [u8], tag: u8) -> Result<Self, AuthError> {
        Self::new(only(message, tag)?)
    }

    fn optional(&mut self, number: u8) -> Result<Option<&'a [u8]>, AuthError> {
        if self.next.is_none() {
            self.next = self.elements.next()?;
        }
        let found = self.next.take_if(|field| field.tag == context(number));
        Ok(found.map(|field| field.content))
    }

    fn required(&mut self, number: u8) -> Result<&'a [u8], AuthError> {
        self.optional(number)?
            .ok_or(AuthError::Malformed("a field of Kerberos is missing"))
    }

    fn integer(&mut self, number: u8) -> Result<i64, AuthError> {
        integer(self.required(number)?)
    }

    /// A version or a type, which has one value only.
    fn constant(&mut self, number: u8, expected: i64) -> Result<(), AuthError> {
        match self.integer(number)? == expected {
            true => Ok(()),
            false => malformed("another version or message of Kerberos"),
        }
    }
}

fn integer(field: &[u8]) -> Result<i64, AuthError> {
    let bytes = only(field, INTEGER)?;
    let negative = match bytes {
        [first, ..] if bytes.len() <= 8 => first & 0x80 != 0,
        _ => return malformed("an integer of no use"),
    };
    let filling = if negative { -1 } else { 0 };
    Ok(bytes
        .iter()
        .fold(filling, |value, byte| value << 8 | i64::from(*byte)))
}

/// The lower half: MIT has long written such as are larger than 2³¹ as negative ones.
fn sequence_number(field: &[u8]) -> Result<u32, AuthError> {
    let [.., a, b, c, d] = integer(field)?.to_be_bytes();
    Ok(u32::from_be_bytes([a, b, c, d]))
}

fn octets(field: &[u8]) -> Result<&[u8], AuthError> {
    only(field, OCTET_STRING)
}

/// The first 32 bits, as all sets of flags here have; the first flag is the highest.
fn flags(field: &[u8]) -> Result<u32, AuthError> {
    match only(field, BIT_STRING)? {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => malformed("flags of Kerberos"),
    }
}

/// A part of a name. What [`Principal`] does not accept as text is not accepted here.
fn text(element: &[u8]) -> Result<String, AuthError> {
    match std::str::from_utf8(element) {
        Ok(text) if !text.is_empty() && !text.chars().any(is_ambiguous) => Ok(text.to_owned()),
        _ => malformed("a name of Kerberos with signs that none has"),
    }
}

/// Those that mean something in the text of a whole name: with them, two principals might look the same.
fn is_ambiguous(letter: char) -> bool {
    letter.is_control() || letter.is_whitespace() || "/@\\".contains(letter)
}

/// A time on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seconds(pub(super) i64);

impl Seconds {
    fn read(field: &[u8]) -> Result<Self, AuthError> {
        let text = only(field, GENERALIZED_TIME)?;
        let [digits @ .., b'Z'] = text else {
            return malformed("a time of Kerberos");
        };
        if digits.len() != 14 || !digits.iter().all(u8::is_ascii_digit) {
            return malformed("a time of Kerberos");
        }
        let number = |range: std::ops::Range<usize>| {
            let part = digits.get(range).unwrap_or_default();
            part.iter()
                .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
        };
        let (month, day) = (number(4..6), number(6..8));
        let (hour, minute, second) = (number(8..10), number(10..12), number(12..14));
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return malformed("a time of Kerberos");
        }
        if hour > 23 || minute > 59 || second > 60 {
            return malformed("a time of Kerberos");
        }
        let days = days_since_1970(number(0..4), month, day);
        Ok(Self(days * 86_400 + hour * 3600 + minute * 60 + second))
    }

    fn encode(self) -> Vec<u8> {
        let (days, rest) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = date(days);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        let text = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
        element(GENERALIZED_TIME, &[text.as_bytes()])
    }
}

/// Days of the Gregorian calendar; years begin in March here, so that a leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970: the way back, in years that begin in March too.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months = (5 * day_of_year + 2) / 153;
    let month = if months < 10 { months + 3 } else { months - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * months + 2) / 5 + 1)
}

/// Who somebody is: the parts of the name, and the realm that knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub(super) parts: Vec<String>,
    pub(super) realm: String,
}

impl Principal {
    /// The realm.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Of its parts and its realm.
    pub(super) fn of_parts(realm: &[u8], parts: &[&[u8]]) -> Result<Self, AuthError> {
        if parts.is_empty() {
            return malformed("a name of Kerberos without parts");
        }
        Ok(Self {
            parts: parts.iter().copied().map(text).collect::<Result<_, _>>()?,
            realm: text(realm)?,
        })
    }

    /// The name without its realm: of a person or a program, as most are.
    fn encode_name(&self) -> Vec<u8> {
        let strings = self
            .parts
            .iter()
            .flat_map(|part| element(GENERAL_STRING, &[part.as_bytes()]));
        let strings: Vec<u8> = strings.collect();
        let kind = field(0, &number(1));
        let strings = field(1, &element(SEQUENCE, &[&strings]));
        element(SEQUENCE, &[&kind, &strings])
    }

    /// Of the two fields that make one up. The type of a name says nothing (RFC 4120 §6.2).
    fn read(realm: &[u8], name: &[u8]) -> Result<Self, AuthError> {
        let mut fields = Fields::new(name)?;
        fields.integer(0)?;
        let mut strings = Elements::new(only(fields.required(1)?, SEQUENCE)?);
        let mut parts = Vec::new();
        while let Some(string) = strings.next()? {
            if string.tag != GENERAL_STRING || parts.len() >= MAX_PARTS {
                return malformed("a name of Kerberos");
            }
            parts.push(text(string.content)?);
        }
        if parts.is_empty() {
            return malformed("a name of Kerberos without parts");
        }
        Ok(Self {
            parts,
            realm: text(only(realm, GENERAL_STRING)?)?,
        })
    }
}

/// Names have one part or two; hosts in some realms three.
pub(super) const MAX_PARTS: usize = 8;

impl std::str::FromStr for Principal {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, realm) = text
            .rsplit_once('@')
            .ok_or("a principal needs its realm: ann@FIRM.EXAMPLE")?;
        let parts: Vec<String> = name.split('/').map(str::to_owned).collect();
        let is_name = |part: &String| !part.is_empty() && !part.chars().any(is_ambiguous);
        let realm = realm.to_owned();
        match is_name(&realm) && parts.iter().all(is_name) && parts.len() <= MAX_PARTS {
            true => Ok(Self { parts, realm }),
            false => Err("a principal is: name or name/instance, @, realm, without spaces"),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.parts.join("/"), self.realm)
    }
}

/// Something that is encrypted.
#[derive(Clone, Copy)]
pub(super) struct Encrypted<'a> {
    pub(super) etype: i64,
    pub(super) kvno: Option<u32>,
    pub(super) cipher: &'a [u8],
}

impl<'a> Encrypted<'a> {
    fn read(field: &'a [u8]) -> Result<Self, AuthError> {
        let mut fields = Fields::new(field)?;
        Ok(Self {
            etype: fields.integer(0)?,
            kvno: fields.optional(1)?.map(sequence_number).transpose()?,
            cipher: octets(fields.required(2)?)?,
        })
    }

    fn encode(etype: Etype, cipher: &[u8]) -> Vec<u8> {
        let etype = field(0, &number(etype.to_wire()));
        element(
            SEQUENCE,
            &[&etype, &field(2, &element(OCTET_STRING, &[cipher]))],
        )
    }
}

/// What a caller begins with.
pub(super) struct ApReq<'a> {
    pub(super) options: u32,
    pub(super) service: Principal,
    pub(super) ticket: Encrypted<'a>,
    pub(super) authenticator: Encrypted<'a>,
}

impl<'a> ApReq<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, AuthError> {
        let mut fields = Fields::of_message(message, AP_REQ)?;
        fields.constant(0, VERSION)?;
        fields.constant(1, 14)?;
        let options = flags(fields.required(2)?)?;
        let mut ticket = Fields::of_message(fields.required(3)?, TICKET)?;
        ticket.constant(0, VERSION)?;
        let (realm, name) = (ticket.required(1)?, ticket.required(2)?);
        Ok(Self {
            options,
            service: Principal::read(realm, name)?,
            ticket: Encrypted::read(ticket.required(3)?)?,
            authenticator: Encrypted::read(fields.required(4)?)?,
        })
    }
}

impl ApReq<'_> {
    /// With a ticket as the KDC encoded it, and a sealed authenticator.
    pub(super) fn encode(
        options: u32,
        ticket: &[u8],
        etype: Etype,
        authenticator: &[u8],
    ) -> Vec<u8> {
        let options = element(BIT_STRING, &[&[0], &options.to_be_bytes()]);
        let fields = [
            field(0, &number(5)),
            field(1, &number(14)),
            field(2, &options),
            field(3, ticket),
            field(4, &Encrypted::encode(etype, authenticator)),
        ];
        message(AP_REQ, &fields)
    }
}

/// What the KDC says of a caller, for the service's eyes alone.
pub(super) struct TicketPart {
    pub(super) flags: u32,
    pub(super) key: Key,
    pub(super) client: Principal,
    /// Whether other realms than the client's and the service's lay between them.
    pub(super) is_transited: bool,
    pub(super) start: Seconds,
    pub(super) end: Seconds,
}

impl TicketPart {
    pub(super) fn parse(plain: &[u8]) -> Result<Self, AuthError> {
        let mut fields = Fields::of_message(plain, TICKET_PART)?;
        let flags = flags(fields.required(0)?)?;
        let key = read_key(fields.required(1)?)?;
        let (realm, name) = (fields.required(2)?, fields.required(3)?);
        let mut transited = Fields::new(fields.required(4)?)?;
        transited.integer(0)?;
        let is_transited = !octets(transited.required(1)?)?.is_empty();
        let authenticated = Seconds::read(fields.required(5)?)?;
        let start = fields.optional(6)?.map(Seconds::read).transpose()?;
        Ok(Self {
            flags,
            key,
            client: Principal::read(realm, name)?,
            is_transited,
            start: start.unwrap_or(authenticated),
            end: Seconds::read(fields.required(7)?)?,
        })
    }
}

fn read_key(field: &[u8]) -> Result<Key, AuthError> {
    let mut fields = Fields::new(field)?;
    let etype = Etype::from_wire(fields.integer(0)?).ok_or(AuthError::Kerberos(
        "a session key for another encryption than AES",
    ))?;
    let bytes = octets(fields.required(1)?)?;
    Key::new(etype, bytes).ok_or(AuthError::Malformed("a key of another length"))
}

/// What shows that the caller knows the key in its ticket, now.
pub(super) struct Authenticator {
    pub(super) client: Principal,
    pub(super) checksum_type: i64,
    pub(super) checksum: Vec<u8>,
    pub(super) moment: Moment,
    pub(super) sequence: u32,
}

impl Authenticator {
    pub(super) fn parse(plain: &[u8]) -> Result<Self, AuthError> {
        let mut fields = Fields::of_message(plain, AUTHENTICATOR)?;
        fields.constant(0, VERSION)?;
        let (realm, name) = (fields.required(1)?, fields.required(2)?);
        let mut checksum = Fields::new(fields.required(3)?)?;
        let microseconds = fields.required(4)?;
        let time = fields.required(5)?;
        // The caller's own key is of no use: the acceptor's, which the reply brings, is always used.
        fields.optional(6)?;
        let sequence = fields.optional(7)?.map(sequence_number).transpose()?;
        Ok(Self {
            client: Principal::read(realm, name)?,
            checksum_type: checksum.integer(0)?,
            checksum: octets(checksum.required(1)?)?.to_vec(),
            moment: Moment {
                time: Seconds::read(time)?,
                encoded_time: time.to_vec(),
                encoded_microseconds: microseconds.to_vec(),
            },
            sequence: sequence.unwrap_or_default(),
        })
    }
}

impl Authenticator {
    /// With a checksum of this type.
    pub(super) fn encode(
        client: &Principal,
        (checksum_type, checksum): (u32, &[u8]),
        moment: &Moment,
        key: &Key,
        sequence: u32,
    ) -> Zeroizing<Vec<u8>> {
        let checksum = [
            field(0, &number(checksum_type)),
            field(1, &element(OCTET_STRING, &[checksum])),
        ];
        let fields = Zeroizing::new([
            field(0, &number(5)),
            field(1, &element(GENERAL_STRING, &[client.realm.as_bytes()])),
            field(2, &client.encode_name()),
            field(3, &element(SEQUENCE, &[&checksum.concat()])),
            field(4, &moment.encoded_microseconds),
            field(5, &moment.encoded_time),
            field(6, &encode_key(key)),
            field(7, &number(sequence)),
        ]);
        Zeroizing::new(message(AUTHENTICATOR, &*fields))
    }
}

/// When the caller has made its message, as it wrote it: the reply repeats it.
pub(super) struct Moment {
    pub(super) time: Seconds,
    encoded_time: Vec<u8>,
    encoded_microseconds: Vec<u8>,
}

impl Moment {
    pub(super) fn new(time: i64, microseconds: u32) -> Self {
        Self {
            time: Seconds(time),
            encoded_time: Seconds(time).encode(),
            encoded_microseconds: number(microseconds),
        }
    }

    /// As both stand in a message, to be compared.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        [&*self.encoded_time, &self.encoded_microseconds].concat()
    }
}

/// The message that an acceptor answers with; in the style of DCE, also the one that the caller ends with.
pub(super) struct ApRep<'a>(pub(super) Encrypted<'a>);

impl<'a> ApRep<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, AuthError> {
        let mut fields = Fields::of_message(message, AP_REP)?;
        fields.constant(0, VERSION)?;
        fields.constant(1, 15)?;
        Ok(Self(Encrypted::read(fields.required(2)?)?))
    }

    pub(super) fn encode(etype: Etype, cipher: &[u8]) -> Vec<u8> {
        let fields = [
            field(0, &number(5)),
            field(1, &number(15)),
            field(2, &Encrypted::encode(etype, cipher)),
        ];
        message(AP_REP, &fields)
    }
}

/// The sequence number in a caller's last message. Its time is not looked at: impacket writes a new one, MIT the old.
pub(super) fn parse_reply_part(plain: &[u8]) -> Result<Option<u32>, AuthError> {
    let mut fields = Fields::of_message(plain, REPLY_PART)?;
    Seconds::read(fields.required(0)?)?;
    fields.integer(1)?;
    fields.optional(2)?;
    fields.optional(3)?.map(sequence_number).transpose()
}

/// What an acceptor's answer says.
pub(super) struct ReplyPart {
    /// As [`Moment::to_bytes`].
    pub(super) moment: Vec<u8>,
    pub(super) key: Option<Key>,
    pub(super) sequence: Option<u32>,
}

impl ReplyPart {
    pub(super) fn parse(plain: &[u8]) -> Result<Self, AuthError> {
        let mut fields = Fields::of_message(plain, REPLY_PART)?;
        let moment = [fields.required(0)?, fields.required(1)?].concat();
        Ok(Self {
            moment,
            key: fields.optional(2)?.map(read_key).transpose()?,
            sequence: fields.optional(3)?.map(sequence_number).transpose()?,
        })
    }
}

/// Whether the content of something that was enciphered is a ticket's, an authenticator's or a last message's: for fuzzing,
/// which does not get behind the encryption otherwise.
#[doc(hidden)]
#[must_use]
pub fn parse_opened_parts(plain: &[u8]) -> [bool; 3] {
    [
        TicketPart::parse(plain).is_ok(),
        Authenticator::parse(plain).is_ok(),
        parse_reply_part(plain).is_ok(),
    ]
}

/// What an acceptor answers, before its encryption.
pub(super) fn encode_reply_part(moment: &Moment, key: &Key, sequence: u32) -> Zeroizing<Vec<u8>> {
    let fields = Zeroizing::new([
        field(0, &moment.encoded_time),
        field(1, &moment.encoded_microseconds),
        field(2, &encode_key(key)),
        field(3, &number(sequence)),
    ]);
    Zeroizing::new(message(REPLY_PART, &*fields))
}

/// What a caller ends with, before its encryption.
pub(super) fn encode_last_part(moment: &Moment, sequence: u32) -> Vec<u8> {
    let fields = [
        field(0, &moment.encoded_time),
        field(1, &moment.encoded_microseconds),
        field(3, &number(sequence)),
    ];
    message(REPLY_PART, &fields)
}

fn encode_key(key: &Key) -> Zeroizing<Vec<u8>> {
    let etype = field(0, &number(key.etype().to_wire()));
    let bytes = Zeroizing::new(element(OCTET_STRING, &[key.bytes()]));
    let bytes = Zeroizing::new(field(1, &bytes));
    Zeroizing::new(element(SEQUENCE, &[&etype, &bytes]))
}

pub(super) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    element(context(number), &[content])
}

pub(super) fn message(tag: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
    let sequence = Zeroizing::new(element(SEQUENCE, &parts));
    element(tag, &[&sequence])
}

pub(super) fn number(value: u32) -> Vec<u8> {
    let [a, b, c, d] = value.to_be_bytes();
    let bytes = [0, a, b, c, d];
    let skipped = bytes
        .windows(2)
        .take_while(|pair| matches!(pair, [0, next] if *next < 0x80))
        .count();
    element(INTEGER, &[bytes.get(skipped..).unwrap_or_default()])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::auth) fn time(text: &str) -> Vec<u8> {
        element(GENERALIZED_TIME, &[text.as_bytes()])
    }

    pub(in crate::auth) fn string(text: &str) -> Vec<u8> {
        element(GENERAL_STRING, &[text.as_bytes()])
    }

    pub(in crate::auth) fn bits(flags: u32) -> Vec<u8> {
        element(BIT_STRING, &[&[0], &flags.to_be_bytes()])
    }

    pub(in crate::auth) fn name(parts: &[&str]) -> Vec<u8> {
        let strings: Vec<u8> = parts.iter().flat_map(|part| string(part)).collect();
        sequence(&[
            field(0, &number(1)),
            field(1, &element(SEQUENCE, &[&strings])),
        ])
    }

    pub(in crate::auth) fn sequence(fields: &[Vec<u8>]) -> Vec<u8> {
        element(SEQUENCE, &[&fields.concat()])
    }

    pub(in crate::auth) fn octet_string(bytes: &[u8]) -> Vec<u8> {
        element(OCTET_STRING, &[bytes])
    }

    /// An encrypted part with the number of its key.
    pub(in crate::auth) fn encrypted(etype: u32, kvno: Option<u32>, cipher: &[u8]) -> Vec<u8> {
        let kvno = kvno.map_or_else(Vec::new, |kvno| field(1, &number(kvno)));
        sequence(&[
            field(0, &number(etype)),
            kvno,
            field(2, &octet_string(cipher)),
        ])
    }

    #[test]
    fn times_are_read_as_those_of_the_calendar() {
        for (text, expected) in [
            ("19700101000000Z", 0),
            ("20000229120000Z", 951_825_600),
            ("20261130235549Z", 1_796_082_949),
            ("20380119031408Z", 2_147_483_648),
        ] {
            assert_eq!(Seconds::read(&time(text)), Ok(Seconds(expected)), "{text}");
            assert_eq!(Seconds(expected).encode(), time(text));
        }
        for text in [
            "",
            "Z",
            "20261130235549",
            "20261130235549+",
            "202611302355499Z",
            "20261330235549Z",
            "20261100235549Z",
            "20261130245549Z",
            "2026113023554aZ",
            "-0261130235549Z",
        ] {
            assert!(Seconds::read(&time(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for value in [0, 1, 127, 128, 255, 256, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
            assert_eq!(sequence_number(&number(value)), Ok(value));
        }
        assert_eq!(number(128), [2, 2, 0, 128]);
        assert_eq!(sequence_number(&[2, 4, 0xFF, 0, 0, 1]), Ok(0xFF00_0001));
        assert_eq!(integer(&[2, 1, 0xFF]), Ok(-1));
        assert!(integer(&[2, 0]).is_err());
        assert!(integer(&[2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn names_that_look_like_others_are_refused() {
        let read = |parts: &[&str]| {
            Principal::read(&string("FIRM"), &name(parts)).map(|name| name.to_string())
        };
        assert_eq!(read(&["ann"]), Ok("ann@FIRM".to_owned()));
        assert_eq!(read(&["ann", "admin"]), Ok("ann/admin@FIRM".to_owned()));
        for parts in [&["ann/admin"][..], &["ann@FIRM"], &[""], &["a\nb"], &[]] {
            assert!(read(parts).is_err(), "{parts:?}");
        }
    }
}
