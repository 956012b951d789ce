//! Control codes: the features of PC/SC part 10, of which we have one.

use crate::codes::{
    CM_IOCTL_GET_FEATURE_REQUEST, Dword, Error, FEATURE_GET_TLV_PROPERTIES,
    PROPERTY_MAX_APDU_DATA_SIZE,
};
use crate::output::Output;

/// Control code of ours that gives the properties (PC/SC part 10 §2.6.14).
const GET_TLV_PROPERTIES: u32 = 0x4233_0012;

/// Data bytes of the longest APDU.
const MAX_APDU_DATA: u32 = 65_536;

pub(crate) fn control(code: Dword, output: &mut Output<'_>) -> Result<(), Error> {
    if code == CM_IOCTL_GET_FEATURE_REQUEST {
        // Tag, length, control code in big-endian order (PC/SC part 10 §2.2).
        let [a, b, c, d] = GET_TLV_PROPERTIES.to_be_bytes();
        output.give(&[FEATURE_GET_TLV_PROPERTIES, 4, a, b, c, d])
    } else if code == Dword::from(GET_TLV_PROPERTIES) {
        // Tag, length, number in little-endian order.
        let [a, b, c, d] = MAX_APDU_DATA.to_le_bytes();
        output.give(&[PROPERTY_MAX_APDU_DATA_SIZE, 4, a, b, c, d])
    } else {
        Err(Error::NotSupported)
    }
}
