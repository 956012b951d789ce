//! What a creation is going to define.

/// First and last NV handle of cards.
pub const NV_RANGE: std::ops::RangeInclusive<u32> = 0x01C2_0000..=0x01C2_FFFF;

/// An index that is about to be defined: handle and policy tell it from anybody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntentIndex {
    /// NV handle.
    pub handle: u32,
    /// authPolicy, which names the card's birth key.
    pub policy: [u8; 32],
}
