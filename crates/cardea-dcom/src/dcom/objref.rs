//! References to objects (MS-DCOM §2.2.18).

use crate::Guid;
use crate::bytes::{Buffer, Cursor, Truncated};
use crate::dcom::binding::DualStringArray;
use crate::ndr::{Decoder, Encoder, Message, NdrError, count_u32};

/// A reference to an interface of an object, as its owner wrote it: the bytes of an [`ObjRef`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePointer(pub Vec<u8>);

impl InterfacePointer {
    /// The reference.
    ///
    /// # Errors
    /// It is damaged.
    pub fn objref(&self) -> Result<ObjRef, NdrError> {
        ObjRef::parse(&self.0)
    }

    /// A unique pointer to a reference that follows at once.
    pub(crate) fn read_optional(from: &mut Decoder<'_>) -> Result<Option<Self>, NdrError> {
        match from.pointer()? {
            true => Self::read(from).map(Some),
            false => Ok(None),
        }
    }

    /// A unique pointer to a reference that follows at once.
    pub(crate) fn write_optional(pointer: Option<&Self>, to: &mut Encoder) {
        to.pointer(pointer.is_some());
        if let Some(pointer) = pointer {
            pointer.write(to);
        }
    }
}

impl From<&ObjRef> for InterfacePointer {
    fn from(reference: &ObjRef) -> Self {
        Self(reference.to_bytes())
    }
}

impl Message for InterfacePointer {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let maximum = from.u32()?;
        from.count(maximum)?;
        let length = usize::try_from(maximum).map_err(|_| NdrError::BadStubData)?;
        Ok(Self(from.bytes(length)?.to_vec()))
    }

    fn write(&self, to: &mut Encoder) {
        to.count(self.0.len());
        to.count(self.0.len());
        to.bytes(&self.0);
    }
}

/// A conformant array of unique pointers, with what they point to behind it.
pub(crate) fn pointers(
    from: &mut Decoder<'_>,
    count: u32,
) -> Result<Vec<Option<InterfacePointer>>, NdrError> {
    let are_there = from.array(count, 4, Decoder::pointer)?;
    let read = are_there.into_iter().map(|is_there| match is_there {
        true => InterfacePointer::read(from).map(Some),
        false => Ok(None),
    });
    read.collect()
}

/// A conformant array of unique pointers, with what they point to behind it.
pub(crate) fn write_pointers<'a>(
    to: &mut Encoder,
    pointers: impl Iterator<Item = Option<&'a InterfacePointer>> + Clone,
) {
    to.count(pointers.clone().count());
    pointers
        .clone()
        .for_each(|pointer| to.pointer(pointer.is_some()));
    pointers.flatten().for_each(|pointer| pointer.write(to));
}

/// A reference to an interface of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjRef {
    /// The interface.
    pub iid: Guid,
    /// Where the object is.
    pub reference: Reference,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Whatever the class makes of the data.
    Custom {
        /// The class that reads the data.
        class: Guid,
        /// The data.
        data: Vec<u8>,
    },
    /// At an exporter; with more data.
    Extended {
        /// The interface pointer.
        std: StdObjRef,
        /// The resolver of the exporter.
        resolver: DualStringArray,
        /// What the data is.
        data_id: Guid,
        /// The data.
        data: Vec<u8>,
    },
    /// At an exporter; callers are meant to use a class of their own for it.
    Handler {
        /// The interface pointer.
        std: StdObjRef,
        /// The class.
        class: Guid,
        /// The resolver of the exporter.
        resolver: DualStringArray,
    },
    /// At an exporter.
    Standard {
        /// The interface pointer.
        std: StdObjRef,
        /// The resolver of the exporter.
        resolver: DualStringArray,
    },
}

/// An interface pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StdObjRef {
    /// See [`StdObjRef::NO_PING`].
    pub flags: u32,
    /// How many references come with it.
    pub public_refs: u32,
    /// The exporter.
    pub oxid: u64,
    /// The object.
    pub oid: u64,
    /// The interface of the object.
    pub ipid: Guid,
}

impl StdObjRef {
    /// In [`StdObjRef::flags`]: the object lives without pings.
    pub const NO_PING: u32 = 0x1000;

    fn read_packed(from: &mut Cursor<'_>) -> Result<Self, Truncated> {
        Ok(Self {
            flags: from.u32()?,
            public_refs: from.u32()?,
            oxid: from.u64()?,
            oid: from.u64()?,
            ipid: from.guid()?,
        })
    }

    fn write_packed(&self, out: &mut Buffer) {
        out.u32(self.flags);
        out.u32(self.public_refs);
        out.u64(self.oxid);
        out.u64(self.oid);
        out.guid(&self.ipid);
    }
}

impl Message for StdObjRef {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        // Its widest member has eight bytes.
        from.align(8)?;
        Ok(Self {
            flags: from.u32()?,
            public_refs: from.u32()?,
            oxid: from.u64()?,
            oid: from.u64()?,
            ipid: from.guid()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.align(8);
        to.u32(self.flags);
        to.u32(self.public_refs);
        to.u64(self.oxid);
        to.u64(self.oid);
        to.guid(&self.ipid);
    }
}

impl ObjRef {
    /// Reads a reference.
    ///
    /// # Errors
    /// It is damaged, or of an unknown kind.
    pub fn parse(bytes: &[u8]) -> Result<Self, NdrError> {
        let mut from = Cursor::new(bytes);
        if from.array()? != MAGIC {
            return Err(NdrError::BadStubData);
        }
        let kind = from.u32()?;
        let iid = from.guid()?;
        let reference = match kind {
            STANDARD => Reference::Standard {
                std: StdObjRef::read_packed(&mut from)?,
                resolver: DualStringArray::read_packed(&mut from)?,
            },
            HANDLER => Reference::Handler {
                std: StdObjRef::read_packed(&mut from)?,
                class: from.guid()?,
                resolver: DualStringArray::read_packed(&mut from)?,
            },
            CUSTOM => {
                let (class, extension) = (from.guid()?, from.u32()?);
                let _reserved = from.u32()?;
                // Reserved for an extension that was never defined.
                if extension != 0 {
                    return Err(NdrError::BadStubData);
                }
                Reference::Custom {
                    class,
                    data: from.rest().to_vec(),
                }
            }
            EXTENDED => extended(&mut from)?,
            _ => return Err(NdrError::BadStubData),
        };
        match reference {
            Reference::Custom { .. } => {}
            // Some round the whole up.
            _ if from.rest().len() >= 8 => return Err(NdrError::BadStubData),
            _ => {}
        }
        Ok(Self { iid, reference })
    }

    /// The reference as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Buffer::new();
        out.bytes(&MAGIC);
        let kind = match &self.reference {
            Reference::Custom { .. } => CUSTOM,
            Reference::Extended { .. } => EXTENDED,
            Reference::Handler { .. } => HANDLER,
            Reference::Standard { .. } => STANDARD,
        };
        out.u32(kind);
        out.guid(&self.iid);
        match &self.reference {
            Reference::Custom { class, data } => {
                out.guid(class);
                out.u32(0);
                // Ignored on receipt, and eight more than the data for no reason that is documented.
                out.u32(count_u32(data.len().saturating_add(8)));
                out.bytes(data);
            }
            Reference::Extended {
                std,
                resolver,
                data_id,
                data,
            } => {
                std.write_packed(&mut out);
                out.u32(SIGNATURE);
                out.bytes(&resolver.packed());
                out.u32(1);
                out.u32(SIGNATURE);
                out.guid(data_id);
                let rounded = data.len().next_multiple_of(8);
                out.u32(count_u32(data.len()));
                out.u32(count_u32(rounded));
                out.bytes(data);
                out.zeros(rounded - data.len());
            }
            Reference::Handler {
                std,
                class,
                resolver,
            } => {
                std.write_packed(&mut out);
                out.guid(class);
                out.bytes(&resolver.packed());
            }
            Reference::Standard { std, resolver } => {
                std.write_packed(&mut out);
                out.bytes(&resolver.packed());
            }
        }
        out.finish().to_vec()
    }

    /// The interface pointer and its resolver, unless the reference is a custom one.
    #[must_use]
    pub fn standard(&self) -> Option<(&StdObjRef, &DualStringArray)> {
        match &self.reference {
            Reference::Custom { .. } => None,
            Reference::Extended { std, resolver, .. }
            | Reference::Handler { std, resolver, .. }
            | Reference::Standard { std, resolver } => Some((std, resolver)),
        }
    }
}

fn extended(from: &mut Cursor<'_>) -> Result<Reference, NdrError> {
    let std = StdObjRef::read_packed(from)?;
    let first = from.u32()?;
    let resolver = DualStringArray::read_packed(from)?;
    let (elements, second) = (from.u32()?, from.u32()?);
    let (data_id, size, rounded) = (from.guid()?, from.u32()?, from.u32()?);
    let is_sound = (first, elements, second) == (SIGNATURE, 1, SIGNATURE)
        && size.checked_next_multiple_of(8) == Some(rounded);
    if !is_sound {
        return Err(NdrError::BadStubData);
    }
    let length = |number| usize::try_from(number).map_err(|_| NdrError::BadStubData);
    let data = from.take(length(rounded)?)?;
    Ok(Reference::Extended {
        std,
        resolver,
        data_id,
        data: data.get(..length(size)?).unwrap_or_default().to_vec(),
    })
}

const MAGIC: [u8; 4] = *b"MEOW";
const STANDARD: u32 = 1;
const HANDLER: u32 = 2;
const CUSTOM: u32 = 4;
const EXTENDED: u32 = 8;
const SIGNATURE: u32 = 0x4E53_5956;
