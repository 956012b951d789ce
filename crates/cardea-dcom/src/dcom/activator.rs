//! IRemoteSCMActivator: activation (MS-DCOM §3.1.2.5.2.3).

use crate::dcom::objref::InterfacePointer;
use crate::dcom::orpc::{OrpcThat, OrpcThis};
use crate::ndr::{Decoder, Encoder, Message, NdrError};

/// Asks for an object of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCreateInstance {
    /// The call.
    pub this: OrpcThis,
    /// An object that the new one is to be a part of: over a network always `None`.
    pub outer: Option<InterfacePointer>,
    /// See [`crate::dcom::ActivationRequest`].
    pub properties: Option<InterfacePointer>,
}

impl Message for RemoteCreateInstance {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            this: OrpcThis::read(from)?,
            outer: InterfacePointer::read_optional(from)?,
            properties: InterfacePointer::read_optional(from)?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.this.write(to);
        InterfacePointer::write_optional(self.outer.as_ref(), to);
        InterfacePointer::write_optional(self.properties.as_ref(), to);
    }
}

/// Asks for what makes objects of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteGetClassObject {
    /// The call.
    pub this: OrpcThis,
    /// See [`crate::dcom::ActivationRequest`].
    pub properties: Option<InterfacePointer>,
}

impl Message for RemoteGetClassObject {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            this: OrpcThis::read(from)?,
            properties: InterfacePointer::read_optional(from)?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.this.write(to);
        InterfacePointer::write_optional(self.properties.as_ref(), to);
    }
}

/// The answer to both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivationAnswer {
    /// The answer.
    pub that: OrpcThat,
    /// See [`crate::dcom::ActivationReply`]; `None` on failure.
    pub properties: Option<InterfacePointer>,
    /// The result.
    pub result: u32,
}

impl Message for ActivationAnswer {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            that: OrpcThat::read(from)?,
            properties: InterfacePointer::read_optional(from)?,
            result: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.that.write(to);
        InterfacePointer::write_optional(self.properties.as_ref(), to);
        to.u32(self.result);
    }
}
