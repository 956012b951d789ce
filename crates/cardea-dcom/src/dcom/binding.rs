//! Where a resolver or an exporter can be reached, and how callers authenticate there (MS-DCOM §2.2.19).

use crate::bytes::{Buffer, Cursor};
use crate::ndr::{Decoder, Encoder, Message, NdrError};

/// How many addresses, and how many mechanisms, there may be.
pub const MAX_BINDINGS: usize = 64;

/// The protocol number of TCP/IP.
pub const TOWER_TCP: u16 = 7;

/// An address: `host` or `host[port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringBinding {
    /// The protocol: see [`TOWER_TCP`].
    pub tower: u16,
    /// The address.
    pub address: String,
}

impl StringBinding {
    /// An address in TCP/IP; without a port, that of the resolver is meant.
    #[must_use]
    pub fn tcp(host: &str, port: Option<u16>) -> Self {
        Self {
            tower: TOWER_TCP,
            address: match port {
                Some(port) => format!("{host}[{port}]"),
                None => host.to_owned(),
            },
        }
    }

    /// Host and port, if this is an address in TCP/IP.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, Option<u16>)> {
        if self.tower != TOWER_TCP {
            return None;
        }
        let (host, port) = match self.address.strip_suffix(']') {
            // From the end: an address of IPv6 may be in brackets as well.
            Some(rest) => {
                let (host, port) = rest.rsplit_once('[')?;
                (host, Some(port.parse().ok()?))
            }
            None => (self.address.as_str(), None),
        };
        (!host.is_empty()).then_some((host, port))
    }
}

/// A mechanism, and the name of whoever is authenticated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityBinding {
    /// The mechanism: see [`crate::pdu::auth_type`].
    pub service: u16,
    /// The name; may be empty.
    pub principal: String,
}

/// Addresses and mechanisms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DualStringArray {
    /// The addresses, the preferred one first.
    pub addresses: Vec<StringBinding>,
    /// The mechanisms.
    pub security: Vec<SecurityBinding>,
}

impl DualStringArray {
    /// The form inside of an OBJREF.
    pub(crate) fn read_packed(from: &mut Cursor<'_>) -> Result<Self, NdrError> {
        let (entries, offset) = (from.u16()?, from.u16()?);
        let units = from.take(usize::from(entries).saturating_mul(2))?;
        let (addresses, security) = units
            .split_at_checked(usize::from(offset).saturating_mul(2))
            .ok_or(NdrError::BadStubData)?;
        let addresses = list(addresses, |tower, from| {
            Ok(StringBinding {
                tower,
                address: text(from)?,
            })
        })?;
        let security = list(security, |service, from| {
            let _authorization = from.u16()?;
            Ok(SecurityBinding {
                service,
                principal: text(from)?,
            })
        })?;
        Ok(Self {
            addresses,
            security,
        })
    }

    /// The form inside of an OBJREF.
    pub(crate) fn packed(&self) -> Vec<u8> {
        let mut out = Buffer::new();
        out.zeros(4);
        let put = |out: &mut Buffer, text: &str| {
            // A NUL would end it; there is none in an address or a name.
            let units = text.encode_utf16().take_while(|unit| *unit != 0);
            units.chain([0]).for_each(|unit| out.u16(unit));
        };
        for binding in &self.addresses {
            out.u16(binding.tower);
            put(&mut out, &binding.address);
        }
        // An empty list is ended twice, as if it had an entry of nothing.
        out.zeros(if self.addresses.is_empty() { 4 } else { 2 });
        let offset = units(&out);
        for binding in &self.security {
            out.u16(binding.service);
            out.u16(0xFFFF);
            put(&mut out, &binding.principal);
        }
        out.zeros(if self.security.is_empty() { 4 } else { 2 });
        let entries = units(&out);
        out.set(0, &entries.to_le_bytes());
        out.set(2, &offset.to_le_bytes());
        out.finish().to_vec()
    }
}

impl Message for DualStringArray {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let entries = from.u32()?;
        let length = entries
            .checked_mul(2)
            .and_then(|length| length.checked_add(4))
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(NdrError::BadStubData)?;
        let mut packed = Cursor::new(from.bytes(length)?);
        let array = Self::read_packed(&mut packed)?;
        // The count inside must be the same.
        match packed.rest() {
            [] => Ok(array),
            _ => Err(NdrError::BadStubData),
        }
    }

    fn write(&self, to: &mut Encoder) {
        let packed = self.packed();
        to.count(packed.len().saturating_sub(4) / 2);
        to.bytes(&packed);
    }
}

/// How many units there are behind the two counts.
fn units(out: &Buffer) -> u16 {
    u16::try_from(out.len().saturating_sub(4) / 2).unwrap_or(u16::MAX)
}

/// Entries that begin with a number that is not zero.
fn list<T>(
    units: &[u8],
    mut read: impl FnMut(u16, &mut Cursor<'_>) -> Result<T, NdrError>,
) -> Result<Vec<T>, NdrError> {
    let mut from = Cursor::new(units);
    let mut found = Vec::new();
    while !from.rest().is_empty() {
        let first = from.u16()?;
        if first == 0 {
            // The end; of an empty list, both ends.
            let rest = from.rest();
            return match rest.iter().all(|byte| *byte == 0) {
                true => Ok(found),
                false => Err(NdrError::BadStubData),
            };
        }
        if found.len() == MAX_BINDINGS {
            return Err(NdrError::BadStubData);
        }
        found.push(read(first, &mut from)?);
    }
    // Some leave the end of the second list out.
    Ok(found)
}

/// Text up to NUL.
fn text(from: &mut Cursor<'_>) -> Result<String, NdrError> {
    let mut units = Vec::new();
    loop {
        match from.u16()? {
            0 => break,
            unit => units.push(unit),
        }
    }
    String::from_utf16(&units).map_err(|_| NdrError::BadStubData)
}
