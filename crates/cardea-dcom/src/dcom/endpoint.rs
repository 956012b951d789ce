//! The endpoint mapper: by which port an interface is reached (C706 appendices I, L and O).
//!
//! Clients of DCOM ask the resolver instead; tools that look for interfaces ask here.

use std::net::Ipv4Addr;

use crate::Guid;
use crate::bytes::{Buffer, Cursor};
use crate::dcom::binding::TOWER_TCP;
use crate::ndr::{Decoder, Encoder, Message, NdrError};
use crate::pdu::SyntaxId;

/// The endpoint mapper.
pub const ENDPOINT_MAPPER: SyntaxId = SyntaxId {
    uuid: Guid::from_u128(0xE1AF_8308_5D1F_11C9_91A4_0800_2B14_A0FA),
    version: 3,
};

/// The method [`MapEndpoint`] of [`ENDPOINT_MAPPER`].
pub const EPT_MAP: u16 = 3;

/// Nobody serves the interface by the protocol.
pub const EPT_S_NOT_REGISTERED: u32 = 0x16C9_A0D6;

/// How many towers may be asked for.
const MAX_TOWERS: u32 = 500;

/// Asks where an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEndpoint {
    /// An object that must be there; whoever has none sends nothing or zeros.
    pub object: Option<Guid>,
    /// The interface and the protocols, see [`Tower`].
    pub tower: Option<Vec<u8>>,
    /// The continuation of an earlier answer.
    pub handle: Handle,
    /// How many towers the caller takes.
    pub max_towers: u32,
}

/// A position in a list, which only its server understands.
pub type Handle = [u8; 20];

impl Message for MapEndpoint {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let object = match from.pointer()? {
            true => Some(from.guid()?),
            false => None,
        };
        let tower = match from.pointer()? {
            true => Some(read_tower(from)?),
            false => None,
        };
        from.align(4)?;
        let handle = from.bytes(20)?;
        let max_towers = from.u32()?;
        if max_towers > MAX_TOWERS {
            return Err(NdrError::BadStubData);
        }
        Ok(Self {
            object,
            tower,
            handle: handle.try_into().map_err(|_| NdrError::BadStubData)?,
            max_towers,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.pointer(self.object.is_some());
        if let Some(object) = &self.object {
            to.guid(object);
        }
        to.pointer(self.tower.is_some());
        if let Some(tower) = &self.tower {
            write_tower(tower, to);
        }
        to.align(4);
        to.bytes(&self.handle);
        to.u32(self.max_towers);
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEndpointReply {
    /// Zeros: there is no more.
    pub handle: Handle,
    /// How many towers the caller takes.
    pub max_towers: u32,
    /// Where the interface is.
    pub towers: Vec<Vec<u8>>,
    /// 0, or [`EPT_S_NOT_REGISTERED`].
    pub status: u32,
}

impl Message for MapEndpointReply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        from.align(4)?;
        let handle = from.bytes(20)?;
        let handle = handle.try_into().map_err(|_| NdrError::BadStubData)?;
        let count = from.u32()?;
        let max_towers = from.u32()?;
        if from.u32()? != 0 || from.u32()? != count || count > max_towers {
            return Err(NdrError::BadStubData);
        }
        from.elements(count, 4, Decoder::reference)?;
        let towers = from.elements(count, 8, read_tower)?;
        Ok(Self {
            handle,
            max_towers,
            towers,
            status: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.align(4);
        to.bytes(&self.handle);
        to.count(self.towers.len());
        to.u32(self.max_towers);
        to.u32(0);
        to.count(self.towers.len());
        self.towers.iter().for_each(|_| to.pointer(true));
        self.towers.iter().for_each(|tower| write_tower(tower, to));
        to.u32(self.status);
    }
}

fn read_tower(from: &mut Decoder<'_>) -> Result<Vec<u8>, NdrError> {
    let length = from.u32()?;
    from.count(length)?;
    let length = usize::try_from(length).map_err(|_| NdrError::BadStubData)?;
    Ok(from.bytes(length)?.to_vec())
}

fn write_tower(tower: &[u8], to: &mut Encoder) {
    to.count(tower.len());
    to.byte_array(tower);
}

/// An interface, its encoding, and where it is by TCP/IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tower {
    /// The interface.
    pub interface: SyntaxId,
    /// The encoding.
    pub transfer: SyntaxId,
    /// The port; 0 in questions.
    pub port: u16,
    /// The address; zeros in questions, and where it has no address of version 4.
    pub address: Ipv4Addr,
}

impl Tower {
    /// Reads a tower of the protocols that are spoken here; `None`: of others, or not a tower.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut from = Cursor::new(bytes);
        if from.u16().ok()? != FLOORS {
            return None;
        }
        let mut floor = || {
            let mut part = || {
                let length = from.u16().ok()?;
                from.take(usize::from(length)).ok()
            };
            Some((part()?, part()?))
        };
        let (interface, transfer) = (syntax(floor()?)?, syntax(floor()?)?);
        let ([RPC], _) = floor()? else { return None };
        let ([TCP], port) = floor()? else {
            return None;
        };
        let ([IP], address) = floor()? else {
            return None;
        };
        let address: [u8; 4] = address.try_into().ok()?;
        let tower = Self {
            interface,
            transfer,
            port: u16::from_be_bytes(port.try_into().ok()?),
            address: Ipv4Addr::from(address),
        };
        from.rest().is_empty().then_some(tower)
    }

    /// The bytes of the tower.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Buffer::new();
        let mut floor = |name: &[u8], value: &[u8]| {
            for part in [name, value] {
                out.u16(u16::try_from(part.len()).unwrap_or(u16::MAX));
                out.bytes(part);
            }
        };
        let [interface, transfer] = [self.interface, self.transfer].map(|syntax| {
            let [major, more, minor @ ..] = syntax.version.to_le_bytes();
            let name = [&[UUID], &syntax.uuid.as_bytes()[..], &[major, more]].concat();
            (name, minor)
        });
        floor(&interface.0, &interface.1);
        floor(&transfer.0, &transfer.1);
        floor(&[RPC], &[0, 0]);
        floor(&[TCP], &self.port.to_be_bytes());
        floor(&[IP], &self.address.octets());
        let floors = out.finish();
        [&FLOORS.to_le_bytes()[..], &floors].concat()
    }
}

/// The interface or encoding of a floor.
fn syntax((name, minor): (&[u8], &[u8])) -> Option<SyntaxId> {
    let (&UUID, rest) = name.split_first()? else {
        return None;
    };
    let (uuid, major) = rest.split_first_chunk()?;
    let ([low, high], [minor_low, minor_high]) = (major, minor) else {
        return None;
    };
    Some(SyntaxId {
        uuid: Guid::from_bytes(*uuid),
        version: u32::from_le_bytes([*low, *high, *minor_low, *minor_high]),
    })
}

const FLOORS: u16 = 5;

/// What a floor is of.
const UUID: u8 = 0x0D;
const RPC: u8 = 0x0B;
const TCP: u8 = TOWER_TCP.to_le_bytes()[0];
const IP: u8 = 0x09;
