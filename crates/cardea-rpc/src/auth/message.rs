//! The three messages of NTLM (MS-NLMP 2.2.1).

use super::AuthError;
use super::names::ServerNames;

/// Flags of MS-NLMP 2.2.2.5.
pub(super) mod flag {
    pub(crate) const UNICODE: u32 = 0x0000_0001;
    pub(crate) const REQUEST_TARGET: u32 = 0x0000_0004;
    pub(crate) const SIGN: u32 = 0x0000_0010;
    pub(crate) const SEAL: u32 = 0x0000_0020;
    pub(crate) const NTLM: u32 = 0x0000_0200;
    pub(crate) const ANONYMOUS: u32 = 0x0000_0800;
    pub(crate) const ALWAYS_SIGN: u32 = 0x0000_8000;
    pub(crate) const TARGET_TYPE_SERVER: u32 = 0x0002_0000;
    pub(crate) const EXTENDED_SESSION_SECURITY: u32 = 0x0008_0000;
    pub(crate) const TARGET_INFO: u32 = 0x0080_0000;
    pub(crate) const VERSION: u32 = 0x0200_0000;
    pub(crate) const BITS_128: u32 = 0x2000_0000;
    pub(crate) const KEY_EXCHANGE: u32 = 0x4000_0000;
}

/// What both ends must want; else the session's keys are weak or known.
pub(super) const REQUIRED: [(u32, &str); 6] = [
    (flag::UNICODE, "Unicode"),
    (flag::SIGN, "signing"),
    (flag::SEAL, "sealing"),
    (
        flag::EXTENDED_SESSION_SECURITY,
        "extended session security (NTLMv2 sessions)",
    ),
    (flag::BITS_128, "keys of 128 bits"),
    (flag::KEY_EXCHANGE, "a key exchange"),
];

/// Kinds of attributes in target information (MS-NLMP 2.2.2.1).
mod attribute {
    pub(super) const END: u16 = 0;
    pub(super) const COMPUTER_NAME: u16 = 1;
    pub(super) const DOMAIN_NAME: u16 = 2;
    pub(super) const DNS_COMPUTER_NAME: u16 = 3;
    pub(super) const DNS_DOMAIN_NAME: u16 = 4;
    pub(super) const FLAGS: u16 = 6;
    pub(super) const TIME: u16 = 7;
    pub(super) const TARGET_NAME: u16 = 9;
}

/// In the attribute of flags: the message has an integrity code.
const MIC_PROVIDED: u32 = 2;

/// Where the integrity code of AUTHENTICATE is.
pub(super) const MIC: std::ops::Range<usize> = 72..88;

/// Longest message that is looked at: a Windows client's are of some hundred bytes.
pub(super) const MAX_MESSAGE: usize = 8192;

/// The version that both ends write where one is asked for: 10.0, NTLM revision 15.
const VERSION: [u8; 8] = [10, 0, 0, 0, 0, 0, 0, 15];

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

/// The flags that both must want, checked.
pub(super) fn require(flags: u32) -> Result<(), AuthError> {
    match REQUIRED.iter().find(|(bit, _)| flags & bit == 0) {
        Some((_, what)) => Err(AuthError::NotOffered(what)),
        None => Ok(()),
    }
}

/// A message after its signature and type were checked.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(message: &'a [u8], kind: u32) -> Result<Self, AuthError> {
        let reader = Self(message);
        if message.len() > MAX_MESSAGE {
            return Err(AuthError::Malformed("too long"));
        }
        if !message.starts_with(SIGNATURE) {
            return Err(AuthError::Malformed("not NTLM"));
        }
        match reader.u32(8)? {
            found if found == kind => Ok(reader),
            _ => Err(AuthError::Malformed("NTLM message out of turn")),
        }
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], AuthError> {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().ok_or(AuthError::Malformed("cut short"))
    }

    fn u32(&self, at: usize) -> Result<u32, AuthError> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// What the length and the offset at a place point to, and the offset.
    fn field(&self, at: usize) -> Result<(&'a [u8], usize), AuthError> {
        let length = u16::from_le_bytes(self.array(at)?);
        let offset = usize::try_from(self.u32(at + 4)?).unwrap_or(usize::MAX);
        if length == 0 {
            // The offset of what is not there is arbitrary.
            return Ok((&[], usize::MAX));
        }
        let end = offset.checked_add(usize::from(length));
        let content = end.and_then(|end| self.0.get(offset..end));
        let content = content.ok_or(AuthError::Malformed("field outside of the message"))?;
        Ok((content, offset))
    }
}

/// Text in UTF-16, little endian.
fn text(bytes: &[u8]) -> Result<String, AuthError> {
    let (units, []) = bytes.as_chunks::<2>() else {
        return Err(AuthError::Malformed("text of an odd length"));
    };
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit));
    char::decode_utf16(units)
        .collect::<Result<_, _>>()
        .map_err(|_| AuthError::Malformed("text that is not UTF-16"))
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The flags of NEGOTIATE; the names that may be in it prove nothing, and are not read.
pub(super) fn parse_negotiate(message: &[u8]) -> Result<u32, AuthError> {
    Reader::new(message, 1)?.u32(12)
}

/// NEGOTIATE with nothing but flags.
pub(super) fn negotiate(flags: u32) -> Vec<u8> {
    let mut message = SIGNATURE.to_vec();
    message.extend(1_u32.to_le_bytes());
    message.extend(flags.to_le_bytes());
    // Domain and workstation: none, at the end.
    for _ in 0..2 {
        message.extend([0; 4]);
        message.extend(40_u32.to_le_bytes());
    }
    message.extend(VERSION);
    message
}

/// CHALLENGE, with the names of this machine and the time.
pub(super) fn challenge(flags: u32, nonce: [u8; 8], names: &ServerNames, time: u64) -> Vec<u8> {
    const HEADER: usize = 56;
    let target = wide(&names.computer);
    let mut information = Vec::new();
    let mut attribute = |kind: u16, value: &[u8]| {
        // Names have bounds: see `ServerNames::new`.
        let length = u16::try_from(value.len()).unwrap_or(0);
        information.extend(kind.to_le_bytes());
        information.extend(length.to_le_bytes());
        information.extend(value);
    };
    attribute(attribute::DOMAIN_NAME, &target);
    attribute(attribute::COMPUTER_NAME, &target);
    attribute(attribute::DNS_DOMAIN_NAME, &wide(&names.domain));
    attribute(attribute::DNS_COMPUTER_NAME, &wide(&names.host));
    attribute(attribute::TIME, &time.to_le_bytes());
    attribute(attribute::END, &[]);

    let mut message = SIGNATURE.to_vec();
    message.extend(2_u32.to_le_bytes());
    message.extend(location(target.len(), HEADER));
    message.extend(flags.to_le_bytes());
    message.extend(nonce);
    message.extend([0; 8]);
    message.extend(location(information.len(), HEADER + target.len()));
    message.extend(match flags & flag::VERSION {
        0 => [0; 8],
        _ => VERSION,
    });
    message.extend(target);
    message.extend(information);
    message
}

/// Length twice, and offset.
fn location(length: usize, offset: usize) -> [u8; 8] {
    let length = u16::try_from(length).unwrap_or(0).to_le_bytes();
    let offset = u32::try_from(offset).unwrap_or(0).to_le_bytes();
    let mut field = [0; 8];
    let parts = length.into_iter().chain(length).chain(offset);
    for (place, byte) in field.iter_mut().zip(parts) {
        *place = byte;
    }
    field
}

/// What an initiator needs of CHALLENGE.
pub(super) struct Challenge<'a> {
    pub(super) flags: u32,
    pub(super) nonce: [u8; 8],
    pub(super) information: &'a [u8],
}

impl<'a> Challenge<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, AuthError> {
        let reader = Reader::new(message, 2)?;
        Ok(Self {
            flags: reader.u32(20)?,
            nonce: reader.array(24)?,
            information: reader.field(40)?.0,
        })
    }
}

/// AUTHENTICATE.
pub(super) struct Authenticate<'a> {
    pub(super) flags: u32,
    pub(super) response: &'a [u8],
    pub(super) domain: String,
    pub(super) user: String,
    pub(super) session_key: &'a [u8],
    /// Where the first of its fields begins: the fixed part ends before it.
    payload: usize,
}

impl<'a> Authenticate<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, AuthError> {
        let reader = Reader::new(message, 3)?;
        let flags = reader.u32(60)?;
        // What is not Unicode cannot be read any further.
        require(flags)?;
        let fields = [12, 20, 28, 36, 44, 52].map(|at| reader.field(at));
        let mut payload = usize::MAX;
        for field in &fields {
            let (_, offset) = (*field)?;
            payload = payload.min(offset);
        }
        let [_, response, domain, user, _, session_key] = fields;
        Ok(Self {
            flags,
            response: response?.0,
            domain: text(domain?.0)?,
            user: text(user?.0)?,
            session_key: session_key?.0,
            payload,
        })
    }

    /// Whether there is room for an integrity code.
    pub(super) fn has_mic(&self) -> bool {
        self.payload >= MIC.end
    }
}

/// The fields of an AUTHENTICATE to be sent; its integrity code is left zero.
pub(super) fn authenticate(
    flags: u32,
    response: &[u8],
    domain: &str,
    user: &str,
    session_key: &[u8],
) -> Vec<u8> {
    let lm_response = [0; 24];
    let (domain, user) = (wide(domain), wide(user));
    // In the order of the fields: the workstation is left out.
    let fields: [&[u8]; 6] = [&lm_response, response, &domain, &user, &[], session_key];
    let mut message = SIGNATURE.to_vec();
    message.extend(3_u32.to_le_bytes());
    let mut offset = MIC.end;
    for field in fields {
        message.extend(location(field.len(), offset));
        offset += field.len();
    }
    message.extend(flags.to_le_bytes());
    message.extend(VERSION);
    message.extend([0; 16]);
    for field in fields {
        message.extend(field);
    }
    message
}

/// The part of an NTLMv2 response after the proof (MS-NLMP 2.2.2.7).
pub(super) fn client_challenge(time: u64, nonce: [u8; 8], information: &[u8]) -> Vec<u8> {
    let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
    blob.extend(time.to_le_bytes());
    blob.extend(nonce);
    blob.extend([0; 4]);
    blob.extend(information);
    blob.extend([0; 4]);
    blob
}

/// The attributes of target information.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) has_mic: bool,
    pub(super) time: Option<u64>,
}

impl Attributes {
    /// Of the part of a response after the proof.
    pub(super) fn of_response(blob: &[u8]) -> Result<Self, AuthError> {
        if !blob.starts_with(&[1, 1]) {
            return Err(AuthError::Malformed("response of an unknown version"));
        }
        let attributes = blob.get(28..);
        Self::parse(attributes.ok_or(AuthError::Malformed("response cut short"))?)
    }

    pub(super) fn parse(information: &[u8]) -> Result<Self, AuthError> {
        let mut found = Self::default();
        for (kind, value) in attributes(information)? {
            match kind {
                attribute::FLAGS => found.has_mic = flags_in(value)? & MIC_PROVIDED != 0,
                attribute::TIME => {
                    let time = value.try_into().map_err(|_| CUT)?;
                    found.time = Some(u64::from_le_bytes(time));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

const CUT: AuthError = AuthError::Malformed("attributes cut short");

fn flags_in(value: &[u8]) -> Result<u32, AuthError> {
    let bytes = value.try_into().map_err(|_| CUT)?;
    Ok(u32::from_le_bytes(bytes))
}

/// All attributes before the end.
fn attributes(mut rest: &[u8]) -> Result<Vec<(u16, &[u8])>, AuthError> {
    let mut found = Vec::new();
    loop {
        let (kind, after) = rest.split_first_chunk().ok_or(CUT)?;
        let (length, after) = after.split_first_chunk().ok_or(CUT)?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (value, after) = after.split_at_checked(length).ok_or(CUT)?;
        rest = after;
        match u16::from_le_bytes(*kind) {
            attribute::END => return Ok(found),
            kind => found.push((kind, value)),
        }
    }
}

/// Target information as it came, with the flag that says that there will be an integrity code, and with whom it is for:
/// so a server that compares that does not accept it from somebody who passes it on.
pub(super) fn for_target(information: &[u8], target: &str) -> Result<Vec<u8>, AuthError> {
    let mut flags = MIC_PROVIDED;
    let mut written = Vec::new();
    let mut write = |kind: u16, value: &[u8]| {
        // A value that was read has its length in 16 bits.
        let length = u16::try_from(value.len()).unwrap_or(0);
        written.extend(kind.to_le_bytes());
        written.extend(length.to_le_bytes());
        written.extend(value);
    };
    for (kind, value) in attributes(information)? {
        match kind {
            attribute::FLAGS => flags |= flags_in(value)?,
            attribute::TARGET_NAME => {}
            _ => write(kind, value),
        }
    }
    write(attribute::TARGET_NAME, &wide(target));
    write(attribute::FLAGS, &flags.to_le_bytes());
    write(attribute::END, &[]);
    Ok(written)
}
