//! Reports to the callback (MS-TPMVSC).

use crate::dcom::OrpcThis;
use crate::ndr::{Decoder, Encoder, Message, NdrError};

/// A status or an error, by the method. The answer is a [`crate::dcom::OrpcResult`]: a failure asks to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The call: its [`OrpcThis::cid`] is that of the call that is reported about.
    pub this: OrpcThis,
    /// The number of a [`cardea_terms::tpmvsc::Status`], or of a [`crate::tpmvsc::ErrorReport`].
    pub number: u32,
}

impl Message for Report {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            this: OrpcThis::read(from)?,
            number: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.this.write(to);
        to.u32(self.number);
    }
}
