//! Control codes: the features of PC/SC part 10. One is ours; those of a PIN pad are the daemon's, for the card in
//! the slot.

use crate::codes::{
    CM_IOCTL_GET_FEATURE_REQUEST, Dword, Error, FEATURE_GET_TLV_PROPERTIES,
    PROPERTY_MAX_APDU_DATA_SIZE,
};
use crate::output::Output;
use crate::slot::Slot;

/// Control code of ours that gives the properties (PC/SC part 10 §2.6.14).
const GET_TLV_PROPERTIES: u32 = 0x4233_0012;

/// Control codes of the daemon: those of a PIN pad.
const PIN_PAD: std::ops::RangeInclusive<u32> = 0x4233_0006..=0x4233_0007;

/// Data bytes of the longest APDU.
const MAX_APDU_DATA: u32 = 65_536;

pub(crate) fn control(
    slot: &Slot,
    code: Dword,
    command: &[u8],
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let known = u32::try_from(code).map_err(|_| Error::NotSupported)?;
    if code == CM_IOCTL_GET_FEATURE_REQUEST {
        // Tag, length, control code in big-endian order (PC/SC part 10 §2.2).
        let [a, b, c, d] = GET_TLV_PROPERTIES.to_be_bytes();
        let own = [FEATURE_GET_TLV_PROPERTIES, 4, a, b, c, d];
        output.give(&[&own[..], &slot.features(known)].concat())
    } else if known == GET_TLV_PROPERTIES {
        // Tag, length, number in little-endian order.
        let [a, b, c, d] = MAX_APDU_DATA.to_le_bytes();
        output.give(&[PROPERTY_MAX_APDU_DATA_SIZE, 4, a, b, c, d])
    } else if PIN_PAD.contains(&known) {
        slot.control(known, command, output)
    } else {
        Err(Error::NotSupported)
    }
}
