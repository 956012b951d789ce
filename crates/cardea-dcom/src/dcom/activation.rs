//! IActivation: how clients before COM 5.6 activate (MS-DCOM §3.1.2.5.2.3.1).

use crate::Guid;
use crate::dcom::binding::DualStringArray;
use crate::dcom::objref::{InterfacePointer, pointers, write_pointers};
use crate::dcom::orpc::{ComVersion, OrpcThat, OrpcThis};
use crate::dcom::unknown::MAX_INTERFACES;
use crate::ndr::{Decoder, Encoder, Message, NdrError, WideString};

/// An interface that was asked for in an activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivatedInterface {
    /// The interface. Not part of [`RemoteActivationReply`]: nil there.
    pub iid: Guid,
    /// Whether the object has it.
    pub result: u32,
    /// The reference; `None` on failure.
    pub pointer: Option<InterfacePointer>,
}

/// Asks for an object of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteActivation {
    /// The call.
    pub this: OrpcThis,
    /// The class.
    pub class: Guid,
    /// A file to load the object from.
    pub object_name: Option<WideString>,
    /// A storage to load the object from.
    pub storage: Option<InterfacePointer>,
    /// The client's level of impersonation.
    pub impersonation: u32,
    /// 0xFFFFFFFF asks for what makes objects of the class.
    pub mode: u32,
    /// The interfaces.
    pub iids: Vec<Guid>,
    /// The protocols that the client speaks.
    pub protocols: Vec<u16>,
}

impl Message for RemoteActivation {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let this = OrpcThis::read(from)?;
        let class = from.guid()?;
        let object_name = from.optional_string()?;
        let storage = InterfacePointer::read_optional(from)?;
        let (impersonation, mode) = (from.u32()?, from.u32()?);
        let count = from.u32()?;
        let has_iids = from.pointer()?;
        if usize::try_from(count).map_or(true, |count| count > MAX_INTERFACES) {
            return Err(NdrError::BadStubData);
        }
        let iids = from.optional_array(has_iids, count, 16, Decoder::guid)?;
        let count = from.u16()?;
        let protocols = from.array(u32::from(count), 2, Decoder::u16)?;
        Ok(Self {
            this,
            class,
            object_name,
            storage,
            impersonation,
            mode,
            iids,
            protocols,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.this.write(to);
        to.guid(&self.class);
        to.optional_string(self.object_name.as_ref());
        InterfacePointer::write_optional(self.storage.as_ref(), to);
        to.u32(self.impersonation);
        to.u32(self.mode);
        to.count(self.iids.len());
        to.pointer(true);
        to.array(&self.iids, Encoder::guid);
        to.u16(u16::try_from(self.protocols.len()).unwrap_or(u16::MAX));
        to.array(&self.protocols, |to, protocol| to.u16(*protocol));
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteActivationReply {
    /// The answer.
    pub that: OrpcThat,
    /// The exporter.
    pub oxid: u64,
    /// Where the exporter is; `None` on failure.
    pub bindings: Option<DualStringArray>,
    /// The exporter's object for reference counts.
    pub rem_unknown: Guid,
    /// The level that clients must authenticate with there.
    pub auth_hint: u32,
    /// The server's version.
    pub version: ComVersion,
    /// The result.
    pub result: u32,
    /// One for each interface that was asked for.
    pub interfaces: Vec<ActivatedInterface>,
    /// The result of the transport: 0.
    pub status: u32,
}

impl Message for RemoteActivationReply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let that = OrpcThat::read(from)?;
        let oxid = from.u64()?;
        let bindings = match from.pointer()? {
            true => Some(DualStringArray::read(from)?),
            false => None,
        };
        let rem_unknown = from.guid()?;
        let auth_hint = from.u32()?;
        let (version, result) = (ComVersion::read(from)?, from.u32()?);
        // Only the client knows how many there are; it compares.
        let count = from.clone().u32()?;
        if usize::try_from(count).map_or(true, |count| count > MAX_INTERFACES) {
            return Err(NdrError::BadStubData);
        }
        let pointers = pointers(from, count)?;
        let results = from.array(count, 4, Decoder::u32)?;
        let joined = pointers.into_iter().zip(results);
        let joined = joined.map(|(pointer, result)| ActivatedInterface {
            iid: Guid::NIL,
            result,
            pointer,
        });
        Ok(Self {
            that,
            oxid,
            bindings,
            rem_unknown,
            auth_hint,
            version,
            result,
            interfaces: joined.collect(),
            status: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.that.write(to);
        to.u64(self.oxid);
        to.pointer(self.bindings.is_some());
        if let Some(bindings) = &self.bindings {
            bindings.write(to);
        }
        to.guid(&self.rem_unknown);
        to.u32(self.auth_hint);
        self.version.write(to);
        to.u32(self.result);
        write_pointers(to, self.interfaces.iter().map(|one| one.pointer.as_ref()));
        to.array(&self.interfaces, |to, one| to.u32(one.result));
        to.u32(self.status);
    }
}
