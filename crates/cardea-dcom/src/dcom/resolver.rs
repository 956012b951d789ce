//! IObjectExporter: where an exporter is, and pings (MS-DCOM §3.1.2.5.1).

use crate::Guid;
use crate::dcom::binding::DualStringArray;
use crate::dcom::orpc::ComVersion;
use crate::ndr::{Decoder, Encoder, Message, NdrError};

/// How many objects one ping may add or remove.
pub const MAX_OIDS: usize = 1024;

/// Asks where an exporter is: both methods have the same arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveOxid {
    /// The exporter.
    pub oxid: u64,
    /// The protocols that the client speaks.
    pub protocols: Vec<u16>,
}

impl Message for ResolveOxid {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let (oxid, count) = (from.u64()?, from.u16()?);
        Ok(Self {
            oxid,
            protocols: from.array(u32::from(count), 2, Decoder::u16)?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.u64(self.oxid);
        to.u16(u16::try_from(self.protocols.len()).unwrap_or(u16::MAX));
        to.array(&self.protocols, |to, protocol| to.u16(*protocol));
    }
}

/// Where an exporter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveOxidReply {
    /// Its addresses; `None` on failure.
    pub bindings: Option<DualStringArray>,
    /// Its object for reference counts.
    pub rem_unknown: Guid,
    /// The level that clients must authenticate with there.
    pub auth_hint: u32,
    /// The result: see [`crate::dcom::ids::resolver_status`].
    pub status: u32,
}

impl Message for ResolveOxidReply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            bindings: read_bindings(from)?,
            rem_unknown: from.guid()?,
            auth_hint: from.u32()?,
            status: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        write_bindings(self.bindings.as_ref(), to);
        to.guid(&self.rem_unknown);
        to.u32(self.auth_hint);
        to.u32(self.status);
    }
}

/// Where an exporter is, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveOxid2Reply {
    /// Its addresses; `None` on failure.
    pub bindings: Option<DualStringArray>,
    /// Its object for reference counts.
    pub rem_unknown: Guid,
    /// The level that clients must authenticate with there.
    pub auth_hint: u32,
    /// Its version.
    pub version: ComVersion,
    /// The result: see [`crate::dcom::ids::resolver_status`].
    pub status: u32,
}

impl Message for ResolveOxid2Reply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            bindings: read_bindings(from)?,
            rem_unknown: from.guid()?,
            auth_hint: from.u32()?,
            version: ComVersion::read(from)?,
            status: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        write_bindings(self.bindings.as_ref(), to);
        to.guid(&self.rem_unknown);
        to.u32(self.auth_hint);
        self.version.write(to);
        to.u32(self.status);
    }
}

/// A client is still there, and needs the objects of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimplePing {
    /// The set.
    pub set: u64,
}

impl Message for SimplePing {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self { set: from.u64()? })
    }

    fn write(&self, to: &mut Encoder) {
        to.u64(self.set);
    }
}

/// A client is still there, and needs other objects than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComplexPing {
    /// The set; 0: a new one.
    pub set: u64,
    /// The number of this ping in the set.
    pub sequence: u16,
    /// The objects that come into the set.
    pub add: Vec<u64>,
    /// The objects that leave it.
    pub remove: Vec<u64>,
}

impl Message for ComplexPing {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let (set, sequence) = (from.u64()?, from.u16()?);
        let (added, removed) = (from.u16()?, from.u16()?);
        let mut list = |count: u16| {
            if usize::from(count) > MAX_OIDS {
                return Err(NdrError::BadStubData);
            }
            let is_there = from.pointer()?;
            from.optional_array(is_there, u32::from(count), 8, Decoder::u64)
        };
        Ok(Self {
            set,
            sequence,
            add: list(added)?,
            remove: list(removed)?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        let count = |list: &[u64]| u16::try_from(list.len()).unwrap_or(u16::MAX);
        to.u64(self.set);
        to.u16(self.sequence);
        to.u16(count(&self.add));
        to.u16(count(&self.remove));
        for list in [&self.add, &self.remove] {
            to.pointer(!list.is_empty());
            if !list.is_empty() {
                to.array(list, |to, oid| to.u64(*oid));
            }
        }
    }
}

/// The answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComplexPingReply {
    /// The set.
    pub set: u64,
    /// How much less often the client may ping, as a power of two.
    pub backoff: u16,
    /// The result: see [`crate::dcom::ids::resolver_status`].
    pub status: u32,
}

impl Message for ComplexPingReply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            set: from.u64()?,
            backoff: from.u16()?,
            status: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.u64(self.set);
        to.u16(self.backoff);
        to.u32(self.status);
    }
}

/// A result and nothing else: of a ping, and of the question whether there is a resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The result: see [`crate::dcom::ids::resolver_status`].
    pub status: u32,
}

impl Message for Status {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            status: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.u32(self.status);
    }
}

/// There is a resolver, and this is where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAlive2Reply {
    /// Its version.
    pub version: ComVersion,
    /// Its addresses.
    pub bindings: Option<DualStringArray>,
    /// The result: see [`crate::dcom::ids::resolver_status`].
    pub status: u32,
}

impl Message for ServerAlive2Reply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let (version, bindings) = (ComVersion::read(from)?, read_bindings(from)?);
        let _reserved = from.u32()?;
        Ok(Self {
            version,
            bindings,
            status: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.version.write(to);
        write_bindings(self.bindings.as_ref(), to);
        to.u32(0);
        to.u32(self.status);
    }
}

fn read_bindings(from: &mut Decoder<'_>) -> Result<Option<DualStringArray>, NdrError> {
    match from.pointer()? {
        true => DualStringArray::read(from).map(Some),
        false => Ok(None),
    }
}

fn write_bindings(bindings: Option<&DualStringArray>, to: &mut Encoder) {
    to.pointer(bindings.is_some());
    if let Some(bindings) = bindings {
        bindings.write(to);
    }
}
