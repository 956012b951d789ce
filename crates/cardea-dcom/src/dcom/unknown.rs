//! IRemUnknown and IRemUnknown2: other interfaces of an object, and reference counts (MS-DCOM §3.1.1.5.6).

use crate::Guid;
use crate::dcom::objref::{InterfacePointer, StdObjRef, pointers, write_pointers};
use crate::dcom::orpc::{OrpcThat, OrpcThis};
use crate::ndr::{Decoder, Encoder, Message, NdrError};

/// How many interfaces one call may ask for, or count references of.
pub const MAX_INTERFACES: usize = 256;

/// Asks an object for other interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemQueryInterface {
    /// The call.
    pub this: OrpcThis,
    /// An interface pointer of the object.
    pub ipid: Guid,
    /// How many references are wanted of each.
    pub refs: u32,
    /// The interfaces.
    pub iids: Vec<Guid>,
}

impl Message for RemQueryInterface {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            this: OrpcThis::read(from)?,
            ipid: from.guid()?,
            refs: from.u32()?,
            iids: read_iids(from)?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.this.write(to);
        to.guid(&self.ipid);
        to.u32(self.refs);
        write_iids(&self.iids, to);
    }
}

/// Whether an object has an interface, and its pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryResult {
    /// Whether the object has it.
    pub result: u32,
    /// The pointer; zeros on failure.
    pub std: StdObjRef,
}

impl QueryResult {
    /// The object does not have it.
    #[must_use]
    pub const fn failure(result: u32) -> Self {
        Self {
            result,
            std: StdObjRef {
                flags: 0,
                public_refs: 0,
                oxid: 0,
                oid: 0,
                ipid: Guid::NIL,
            },
        }
    }
}

/// The answer to [`RemQueryInterface`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemQueryInterfaceReply {
    /// The answer.
    pub that: OrpcThat,
    /// One for each interface that was asked for; `None` on failure.
    pub results: Option<Vec<QueryResult>>,
    /// The result.
    pub result: u32,
}

impl Message for RemQueryInterfaceReply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let that = OrpcThat::read(from)?;
        let results = match from.pointer()? {
            false => None,
            true => {
                // Only the client knows how many there are; it compares.
                let count = limited(from.u32()?)?;
                Some(from.elements(count, 48, |from| {
                    from.align(8)?;
                    let result = from.u32()?;
                    Ok(QueryResult {
                        result,
                        std: StdObjRef::read(from)?,
                    })
                })?)
            }
        };
        Ok(Self {
            that,
            results,
            result: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.that.write(to);
        to.pointer(self.results.is_some());
        if let Some(results) = &self.results {
            to.array(results, |to, one| {
                to.align(8);
                to.u32(one.result);
                one.std.write(to);
            });
        }
        to.u32(self.result);
    }
}

/// References to be added to an interface pointer, or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceRef {
    /// The interface pointer.
    pub ipid: Guid,
    /// References.
    pub public: u32,
    /// References that belong to the caller alone.
    pub private: u32,
}

/// Adds or releases references: both methods have the same arguments. The answer to a release is a
/// [`crate::dcom::OrpcResult`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemRefs {
    /// The call.
    pub this: OrpcThis,
    /// What is to be changed.
    pub refs: Vec<InterfaceRef>,
}

impl Message for RemRefs {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let this = OrpcThis::read(from)?;
        let count = limited(u32::from(from.u16()?))?;
        let refs = from.array(count, 24, |from| {
            Ok(InterfaceRef {
                ipid: from.guid()?,
                public: from.u32()?,
                private: from.u32()?,
            })
        })?;
        Ok(Self { this, refs })
    }

    fn write(&self, to: &mut Encoder) {
        self.this.write(to);
        to.u16(u16::try_from(self.refs.len()).unwrap_or(u16::MAX));
        to.array(&self.refs, |to, one| {
            to.guid(&one.ipid);
            to.u32(one.public);
            to.u32(one.private);
        });
    }
}

/// The answer to [`RemRefs`] that adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefResults {
    /// The answer.
    pub that: OrpcThat,
    /// One for each interface pointer.
    pub results: Vec<u32>,
    /// The result.
    pub result: u32,
}

impl Message for RefResults {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let that = OrpcThat::read(from)?;
        let count = limited(from.u32()?)?;
        Ok(Self {
            that,
            results: from.elements(count, 4, Decoder::u32)?,
            result: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.that.write(to);
        to.array(&self.results, |to, result| to.u32(*result));
        to.u32(self.result);
    }
}

/// Asks an object for other interfaces, and for complete references to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemQueryInterface2 {
    /// The call.
    pub this: OrpcThis,
    /// An interface pointer of the object.
    pub ipid: Guid,
    /// The interfaces.
    pub iids: Vec<Guid>,
}

impl Message for RemQueryInterface2 {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            this: OrpcThis::read(from)?,
            ipid: from.guid()?,
            iids: read_iids(from)?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.this.write(to);
        to.guid(&self.ipid);
        write_iids(&self.iids, to);
    }
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemQueryInterface2Reply {
    /// The answer.
    pub that: OrpcThat,
    /// One for each interface that was asked for: whether the object has it, and the reference.
    pub interfaces: Vec<(u32, Option<InterfacePointer>)>,
    /// The result.
    pub result: u32,
}

impl Message for RemQueryInterface2Reply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let that = OrpcThat::read(from)?;
        let count = limited(from.u32()?)?;
        let results = from.elements(count, 4, Decoder::u32)?;
        let pointers = pointers(from, count)?;
        Ok(Self {
            that,
            interfaces: results.into_iter().zip(pointers).collect(),
            result: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.that.write(to);
        to.array(&self.interfaces, |to, (result, _)| to.u32(*result));
        write_pointers(
            to,
            self.interfaces.iter().map(|(_, pointer)| pointer.as_ref()),
        );
        to.u32(self.result);
    }
}

fn read_iids(from: &mut Decoder<'_>) -> Result<Vec<Guid>, NdrError> {
    let count = limited(u32::from(from.u16()?))?;
    from.array(count, 16, Decoder::guid)
}

fn write_iids(iids: &[Guid], to: &mut Encoder) {
    to.u16(u16::try_from(iids.len()).unwrap_or(u16::MAX));
    to.array(iids, Encoder::guid);
}

fn limited(count: u32) -> Result<u32, NdrError> {
    match usize::try_from(count) {
        Ok(number) if number <= MAX_INTERFACES => Ok(count),
        _ => Err(NdrError::BadStubData),
    }
}
