//! Requests about one slot of the reader.

use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::Reply;

use super::SecretBytes;

/// What the reader may ask about one of its slots.
#[derive(Debug, Encode, Decode)]
pub enum SlotRequest {
    /// Power of the card in the slot: binds this connection to it. [`Reply::Atr`], or `Done` for down.
    #[n(0)]
    Power {
        /// What to do.
        #[n(0)]
        action: PowerAction,
    },
    /// A command APDU to the card in the slot: [`Reply::Response`].
    #[n(1)]
    Transmit {
        /// Command APDU.
        #[n(0)]
        apdu: SecretBytes,
    },
    /// A control code of PC/SC part 10 to the reader with the card in the slot: [`Reply::Response`].
    #[n(2)]
    Control {
        /// Control code.
        #[n(0)]
        code: u32,
        /// Its data.
        #[cbor(n(1), with = "minicbor::bytes")]
        data: Vec<u8>,
    },
}

/// Power events of ISO/IEC 7816-3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum PowerAction {
    /// Power down.
    #[n(0)]
    Down,
    /// Cold or warm reset.
    #[n(1)]
    Reset,
    /// Power up.
    #[n(2)]
    Up,
}
