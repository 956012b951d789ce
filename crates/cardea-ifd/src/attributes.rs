//! What pcscd and applications can ask about the reader, and nothing they can set.

use crate::codes::*;
use crate::output::Output;
use crate::slot::Slot;

/// Longest command APDU: 4 bytes of header, 3 of Lc, 65,535 of data, 2 of Le (ISO/IEC 7816-4 §5.2).
const MAX_INPUT: u32 = 65_544;

/// Bytes of the addresses of the functions that pcscd's polling thread uses.
pub(crate) struct Polling {
    pub(crate) wait: [u8; size_of::<usize>()],
    pub(crate) stop: [u8; size_of::<usize>()],
}

/// Gives the value of a tag (`ifdhandler.h`) or attribute (PC/SC part 3 §3.1).
pub(crate) fn get(
    slot: &Slot,
    tag: Dword,
    polling: &Polling,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    match tag {
        TAG_IFD_ATR | SCARD_ATTR_ATR_STRING => output.give(&slot.atr()),
        TAG_IFD_SLOTS_NUMBER => output.give(&[slot.count()]),
        TAG_IFD_THREAD_SAFE | TAG_IFD_SLOT_THREAD_SAFE => output.give(&[1]),
        TAG_IFD_SIMULTANEOUS_ACCESS => {
            output.give(&[u8::try_from(PCSCLITE_MAX_READERS_CONTEXTS).unwrap_or(u8::MAX)])
        }
        TAG_IFD_POLLING_THREAD_WITH_TIMEOUT => output.give(&polling.wait),
        TAG_IFD_STOP_POLLING_THREAD => output.give(&polling.stop),
        SCARD_ATTR_VENDOR_NAME => output.give(b"Cardea\0"),
        SCARD_ATTR_VENDOR_IFD_TYPE => output.give(b"Virtual Smart Card\0"),
        SCARD_ATTR_VENDOR_IFD_VERSION => output.give(&version().to_ne_bytes()),
        SCARD_ATTR_MAXINPUT => output.give(&MAX_INPUT.to_ne_bytes()),
        // 2: a card that is not swallowed.
        SCARD_ATTR_ICC_PRESENCE => output.give(&[if slot.is_present() { 2 } else { 0 }]),
        SCARD_ATTR_ICC_INTERFACE_STATUS => output.give(&[u8::from(!slot.atr().is_empty())]),
        _ => Err(Error::UnknownTag),
    }
}

/// Nothing can be set; says so of what can be asked.
pub(crate) fn set(tag: Dword) -> Result<(), Error> {
    match tag {
        TAG_IFD_ATR
        | TAG_IFD_SLOTS_NUMBER
        | TAG_IFD_THREAD_SAFE
        | TAG_IFD_SLOT_THREAD_SAFE
        | TAG_IFD_SIMULTANEOUS_ACCESS
        | TAG_IFD_POLLING_THREAD_WITH_TIMEOUT
        | TAG_IFD_STOP_POLLING_THREAD
        | SCARD_ATTR_ATR_STRING
        | SCARD_ATTR_VENDOR_NAME
        | SCARD_ATTR_VENDOR_IFD_TYPE
        | SCARD_ATTR_VENDOR_IFD_VERSION
        | SCARD_ATTR_MAXINPUT
        | SCARD_ATTR_ICC_PRESENCE
        | SCARD_ATTR_ICC_INTERFACE_STATUS => Err(Error::ReadOnly),
        _ => Err(Error::UnknownTag),
    }
}

/// Major, minor and build number as 0xMMmmbbbb.
fn version() -> u32 {
    let number = |text: &str| text.parse::<u32>().unwrap_or_default();
    (number(env!("CARGO_PKG_VERSION_MAJOR")) & 0xFF) << 24
        | (number(env!("CARGO_PKG_VERSION_MINOR")) & 0xFF) << 16
        | number(env!("CARGO_PKG_VERSION_PATCH")) & 0xFFFF
}
