//! What a client asks an activator for, and what it gets (MS-DCOM §2.2.22.2).

use crate::Guid;
use crate::dcom::activation::ActivatedInterface;
use crate::dcom::binding::DualStringArray;
use crate::dcom::blob::Blob;
use crate::dcom::ids::{
    CLSID_ACTIVATION_CONTEXT, CLSID_INSTANCE, CLSID_INSTANTIATION, CLSID_PROPERTIES_IN,
    CLSID_PROPERTIES_OUT, CLSID_SCM_REPLY, CLSID_SCM_REQUEST, CLSID_SERVER_LOCATION,
    IID_PROPERTIES_IN, IID_PROPERTIES_OUT,
};
use crate::dcom::objref::{InterfacePointer, pointers, write_pointers};
use crate::dcom::orpc::ComVersion;
use crate::dcom::unknown::MAX_INTERFACES;
use crate::ndr::{Decoder, Encoder, FRAME, Message, NdrError, WideString, count_u32};

/// The destination context of a caller on another machine.
pub const DIFFERENT_MACHINE: u32 = 2;

/// What a client asks an activator for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivationRequest {
    /// Where the caller is: see [`DIFFERENT_MACHINE`].
    pub destination: u32,
    /// The class.
    pub class: Guid,
    /// In which kinds of servers the class may be looked for.
    pub class_context: u32,
    /// Nothing of it means anything here.
    pub flags: u32,
    /// The interfaces.
    pub iids: Vec<Guid>,
    /// The client's version.
    pub version: ComVersion,
    /// The client's level of impersonation.
    pub impersonation: u32,
    /// The protocols that the client speaks.
    pub protocols: Vec<u16>,
    /// What the client thinks of where the object is.
    pub location: Location,
    /// The object is to be loaded from a file: refused by whoever has no such objects.
    pub is_persistent: bool,
}

/// Where a client thinks that an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The machine.
    pub machine: Option<WideString>,
    /// The process.
    pub process: u32,
    /// Its apartment.
    pub apartment: u32,
    /// Its context.
    pub context: u32,
}

impl ActivationRequest {
    /// Reads the properties of an activation. Unknown ones are ignored.
    ///
    /// # Errors
    /// They are damaged, or a required one is missing.
    pub fn read(pointer: &InterfacePointer) -> Result<Self, NdrError> {
        let blob = Blob::read(pointer, &IID_PROPERTIES_IN, &CLSID_PROPERTIES_IN)?;
        let instantiation: Instantiation = blob.require(&CLSID_INSTANTIATION)?;
        let request: ScmRequest = blob.require(&CLSID_SCM_REQUEST)?;
        let location: Location = blob.require(&CLSID_SERVER_LOCATION)?;
        Ok(Self {
            destination: blob.context,
            class: instantiation.class,
            class_context: instantiation.context,
            flags: instantiation.flags,
            iids: instantiation.iids,
            version: instantiation.version,
            impersonation: request.impersonation,
            protocols: request.protocols,
            location,
            is_persistent: blob.has(&CLSID_INSTANCE),
        })
    }

    /// The properties of an activation, as a client sends them. [`ActivationRequest::is_persistent`] is not sent.
    #[must_use]
    pub fn to_pointer(&self) -> InterfacePointer {
        let mut blob = Blob::new(self.destination);
        let instantiation = Instantiation {
            class: self.class,
            context: self.class_context,
            flags: self.flags,
            iids: self.iids.clone(),
            version: self.version,
        };
        blob.add(CLSID_INSTANTIATION, &instantiation);
        blob.add(CLSID_ACTIVATION_CONTEXT, &ActivationContext);
        blob.add(CLSID_SERVER_LOCATION, &self.location);
        let request = ScmRequest {
            impersonation: self.impersonation,
            protocols: self.protocols.clone(),
        };
        blob.add(CLSID_SCM_REQUEST, &request);
        blob.write(IID_PROPERTIES_IN, CLSID_PROPERTIES_IN)
    }
}

struct Instantiation {
    class: Guid,
    context: u32,
    flags: u32,
    iids: Vec<Guid>,
    version: ComVersion,
}

impl Message for Instantiation {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let (class, context, flags) = (from.guid()?, from.u32()?, from.u32()?);
        let _is_surrogate = from.u32()?;
        let count = limited(from.u32()?)?;
        let _instance_flags = from.u32()?;
        let has_iids = from.pointer()?;
        let _size = from.u32()?;
        let version = ComVersion::read(from)?;
        let iids = from.optional_array(has_iids, count, 16, Decoder::guid)?;
        Ok(Self {
            class,
            context,
            flags,
            iids,
            version,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.guid(&self.class);
        to.u32(self.context);
        to.u32(self.flags);
        to.u32(0);
        to.count(self.iids.len());
        to.u32(0);
        to.pointer(true);
        let size = to.position();
        to.u32(0);
        self.version.write(to);
        to.array(&self.iids, Encoder::guid);
        // The size of the whole property, its frame included.
        let whole = to.position().next_multiple_of(8).saturating_add(FRAME);
        to.set_u32(size, count_u32(whole));
    }
}

struct ScmRequest {
    impersonation: u32,
    protocols: Vec<u16>,
}

impl Message for ScmRequest {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let has_reserved = from.pointer()?;
        from.reference()?;
        if has_reserved {
            from.u32()?;
        }
        let impersonation = from.u32()?;
        let count = from.u16()?;
        let has_protocols = from.pointer()?;
        let protocols = from.optional_array(has_protocols, u32::from(count), 2, Decoder::u16)?;
        Ok(Self {
            impersonation,
            protocols,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.pointer(false);
        to.pointer(true);
        to.u32(self.impersonation);
        to.u16(u16::try_from(self.protocols.len()).unwrap_or(u16::MAX));
        to.pointer(true);
        to.array(&self.protocols, |to, protocol| to.u16(*protocol));
    }
}

impl Message for Location {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let has_machine = from.pointer()?;
        Ok(Self {
            process: from.u32()?,
            apartment: from.u32()?,
            context: from.u32()?,
            machine: match has_machine {
                true => Some(from.string()?),
                false => None,
            },
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.pointer(self.machine.is_some());
        to.u32(self.process);
        to.u32(self.apartment);
        to.u32(self.context);
        if let Some(machine) = &self.machine {
            to.string(machine);
        }
    }
}

/// The client's context: none.
struct ActivationContext;

impl Message for ActivationContext {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        from.bytes(24).map(|_| Self)
    }

    fn write(&self, to: &mut Encoder) {
        // clientOK, three reserved numbers, two null pointers.
        (0..6).for_each(|_| to.u32(0));
    }
}

/// What an activator answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivationReply {
    /// Where the caller is: see [`DIFFERENT_MACHINE`].
    pub destination: u32,
    /// The exporter.
    pub oxid: u64,
    /// Where the exporter is.
    pub bindings: DualStringArray,
    /// The exporter's object for reference counts.
    pub rem_unknown: Guid,
    /// The level that clients must authenticate with there.
    pub auth_hint: u32,
    /// The server's version.
    pub version: ComVersion,
    /// One for each interface that was asked for.
    pub interfaces: Vec<ActivatedInterface>,
}

impl ActivationReply {
    /// Reads the properties of an answer.
    ///
    /// # Errors
    /// They are damaged, or a required one is missing.
    pub fn read(pointer: &InterfacePointer) -> Result<Self, NdrError> {
        let blob = Blob::read(pointer, &IID_PROPERTIES_OUT, &CLSID_PROPERTIES_OUT)?;
        let out: PropsOut = blob.require(&CLSID_PROPERTIES_OUT)?;
        let reply: ScmReply = blob.require(&CLSID_SCM_REPLY)?;
        Ok(Self {
            destination: blob.context,
            oxid: reply.oxid,
            bindings: reply.bindings,
            rem_unknown: reply.rem_unknown,
            auth_hint: reply.auth_hint,
            version: reply.version,
            interfaces: out.0,
        })
    }

    /// The properties of an answer. Their order is fixed: a widespread client reads them by position.
    #[must_use]
    pub fn to_pointer(&self) -> InterfacePointer {
        let mut blob = Blob::new(self.destination);
        blob.add(CLSID_PROPERTIES_OUT, &PropsOut(self.interfaces.clone()));
        let reply = ScmReply {
            oxid: self.oxid,
            bindings: self.bindings.clone(),
            rem_unknown: self.rem_unknown,
            auth_hint: self.auth_hint,
            version: self.version,
        };
        blob.add(CLSID_SCM_REPLY, &reply);
        blob.write(IID_PROPERTIES_OUT, CLSID_PROPERTIES_OUT)
    }
}

struct PropsOut(Vec<ActivatedInterface>);

impl Message for PropsOut {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let count = limited(from.u32()?)?;
        from.reference()?;
        from.reference()?;
        from.reference()?;
        let iids = from.array(count, 16, Decoder::guid)?;
        let results = from.array(count, 4, Decoder::u32)?;
        let pointers = pointers(from, count)?;
        let joined = iids.into_iter().zip(results).zip(pointers);
        let joined = joined.map(|((iid, result), pointer)| ActivatedInterface {
            iid,
            result,
            pointer,
        });
        Ok(Self(joined.collect()))
    }

    fn write(&self, to: &mut Encoder) {
        to.count(self.0.len());
        (0..3).for_each(|_| to.pointer(true));
        to.array(&self.0, |to, one| to.guid(&one.iid));
        to.array(&self.0, |to, one| to.u32(one.result));
        write_pointers(to, self.0.iter().map(|one| one.pointer.as_ref()));
    }
}

struct ScmReply {
    oxid: u64,
    bindings: DualStringArray,
    rem_unknown: Guid,
    auth_hint: u32,
    version: ComVersion,
}

impl Message for ScmReply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let has_reserved = from.pointer()?;
        from.reference()?;
        if has_reserved {
            from.u32()?;
        }
        let oxid = from.u64()?;
        from.reference()?;
        Ok(Self {
            oxid,
            rem_unknown: from.guid()?,
            auth_hint: from.u32()?,
            version: ComVersion::read(from)?,
            bindings: DualStringArray::read(from)?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.pointer(false);
        to.pointer(true);
        to.u64(self.oxid);
        to.pointer(true);
        to.guid(&self.rem_unknown);
        to.u32(self.auth_hint);
        self.version.write(to);
        self.bindings.write(to);
    }
}

/// A number of interfaces.
fn limited(count: u32) -> Result<u32, NdrError> {
    match usize::try_from(count) {
        Ok(number) if number <= MAX_INTERFACES => Ok(count),
        _ => Err(NdrError::BadStubData),
    }
}
