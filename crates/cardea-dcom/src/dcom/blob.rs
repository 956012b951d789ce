//! The properties of an activation, in their frame (MS-DCOM §2.2.22).

use crate::Guid;
use crate::bytes::Cursor;
use crate::dcom::objref::{InterfacePointer, ObjRef, Reference};
use crate::ndr::{Decoder, Encoder, FRAME, Message, NdrError, count_u32, deserialize, serialize};

/// How many properties an activation may have (MS-DCOM §2.2.28.1).
pub const MAX_PROPERTIES: usize = 10;

/// Properties by their classes, each in a frame of its own.
pub(crate) struct Blob {
    pub(crate) context: u32,
    pub(crate) properties: Vec<(Guid, Vec<u8>)>,
}

impl Blob {
    pub(crate) fn new(context: u32) -> Self {
        Self {
            context,
            properties: Vec::new(),
        }
    }

    pub(crate) fn add<T: Message>(&mut self, class: Guid, value: &T) {
        self.properties.push((class, serialize(value).to_vec()));
    }

    /// Whether there is a property.
    pub(crate) fn has(&self, class: &Guid) -> bool {
        self.properties.iter().any(|(known, _)| known == class)
    }

    /// The first property of a class.
    pub(crate) fn find<T: Message>(&self, class: &Guid) -> Result<Option<T>, NdrError> {
        let found = self.properties.iter().find(|(known, _)| known == class);
        found.map(|(_, framed)| deserialize(framed)).transpose()
    }

    /// A property that must be there.
    pub(crate) fn require<T: Message>(&self, class: &Guid) -> Result<T, NdrError> {
        self.find(class)?.ok_or(NdrError::BadStubData)
    }

    /// Reads the properties from a custom reference of this interface and class.
    pub(crate) fn read(
        pointer: &InterfacePointer,
        iid: &Guid,
        class: &Guid,
    ) -> Result<Self, NdrError> {
        let ObjRef {
            iid: found_iid,
            reference:
                Reference::Custom {
                    class: found_class,
                    data,
                },
        } = pointer.objref()?
        else {
            return Err(NdrError::BadStubData);
        };
        if (&found_iid, &found_class) != (iid, class) {
            return Err(NdrError::BadStubData);
        }
        let mut from = Cursor::new(&data);
        let size = from.u32()?;
        let _reserved = from.u32()?;
        let mut rest = Cursor::new(from.take(length(size)?)?);
        // The length of the header's content is in its frame.
        let mut frame = Cursor::new(rest.rest());
        frame.take(8)?;
        let header_length = FRAME.saturating_add(length(frame.u32()?)?);
        let header: CustomHeader = deserialize(rest.take(header_length)?)?;
        // Some count the padding to eight bytes in the frame, some only in the header.
        let padding = length(header.header)?.checked_sub(header_length);
        match padding {
            Some(padding @ ..8) if header.total == size => rest.take(padding)?,
            _ => return Err(NdrError::BadStubData),
        };
        let cut = header.properties.into_iter().map(|(class, size)| {
            let framed = rest.take(length(size)?)?;
            Ok((class, framed.to_vec()))
        });
        let properties = cut.collect::<Result<_, NdrError>>()?;
        Ok(Self {
            context: header.context,
            properties,
        })
    }

    pub(crate) fn write(&self, iid: Guid, class: Guid) -> InterfacePointer {
        let sizes = self
            .properties
            .iter()
            .map(|(class, framed)| (*class, count_u32(framed.len())));
        let mut header = CustomHeader {
            total: 0,
            header: 0,
            context: self.context,
            properties: sizes.collect(),
        };
        let properties: usize = self.properties.iter().map(|(_, framed)| framed.len()).sum();
        let header_length = serialize(&header).len();
        header.header = count_u32(header_length);
        header.total = count_u32(header_length.saturating_add(properties));
        let mut out = Encoder::new();
        out.u32(header.total);
        out.u32(0);
        out.bytes(&serialize(&header));
        self.properties
            .iter()
            .for_each(|(_, framed)| out.bytes(framed));
        InterfacePointer::from(&ObjRef {
            iid,
            reference: Reference::Custom {
                class,
                data: out.finish().to_vec(),
            },
        })
    }
}

struct CustomHeader {
    total: u32,
    header: u32,
    context: u32,
    properties: Vec<(Guid, u32)>,
}

impl Message for CustomHeader {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let (total, header) = (from.u32()?, from.u32()?);
        let _reserved = from.u32()?;
        let (context, count) = (from.u32()?, from.u32()?);
        let _class = from.guid()?;
        if count == 0 || length(count)? > MAX_PROPERTIES {
            return Err(NdrError::BadStubData);
        }
        from.reference()?;
        from.reference()?;
        let has_reserved = from.pointer()?;
        let classes = from.array(count, 16, Decoder::guid)?;
        let sizes = from.array(count, 4, Decoder::u32)?;
        if has_reserved {
            from.u32()?;
        }
        Ok(Self {
            total,
            header,
            context,
            properties: classes.into_iter().zip(sizes).collect(),
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.u32(self.total);
        to.u32(self.header);
        to.u32(0);
        to.u32(self.context);
        to.count(self.properties.len());
        to.guid(&Guid::NIL);
        to.pointer(true);
        to.pointer(true);
        to.pointer(false);
        to.array(&self.properties, |to, (class, _)| to.guid(class));
        to.array(&self.properties, |to, (_, size)| to.u32(*size));
    }
}

fn length(number: u32) -> Result<usize, NdrError> {
    usize::try_from(number).map_err(|_| NdrError::BadStubData)
}
