//! Destruction of a card (MS-TPMVSC).

use crate::dcom::{InterfacePointer, OrpcThat, OrpcThis};
use crate::ndr::{Decoder, Encoder, Message, NdrError, WideString};

/// Destroys a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestroyCard {
    /// The call.
    pub this: OrpcThis,
    /// The card.
    pub instance_id: WideString,
    /// Where reports are sent to.
    pub callback: Option<InterfacePointer>,
}

impl Message for DestroyCard {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            this: OrpcThis::read(from)?,
            instance_id: from.string()?,
            callback: InterfacePointer::read_optional(from)?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.this.write(to);
        to.string(&self.instance_id);
        InterfacePointer::write_optional(self.callback.as_ref(), to);
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestroyCardReply {
    /// The answer.
    pub that: OrpcThat,
    /// Whether the machine must be started again.
    pub need_reboot: bool,
    /// The result.
    pub result: u32,
}

impl Message for DestroyCardReply {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            that: OrpcThat::read(from)?,
            need_reboot: from.u32()? != 0,
            result: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.that.write(to);
        to.u32(u32::from(self.need_reboot));
        to.u32(self.result);
    }
}
